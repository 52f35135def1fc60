"""Parts on disk: whole or not there, one writer each, and nothing papered over."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distinct_async import ExportError, Visit, VisitsType
from distinct_async.export import dataset
from distinct_async.export.dataset import (
    FolderLock,
    Partition,
    find_parts,
    make_folders,
    touchpoint_folder,
    touchpoint_id_of,
    update_touchpoints,
)
from distinct_async.export.formats import find_format
from distinct_async.export.rows import ExportedTouchpoint
from tests.support.exported import files_of, rows_from, rows_of
from tests.support.list_server import make_visits
from tests.support.survival import open_files

CSV = find_format("csv")
VISITS = make_visits(100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "touchpoint_id=tp-1"


def open_partition(folder: Path, *, rows_per_part: int = 10, form: str = "csv") -> Partition:
    partition = Partition(folder, "tp-1", find_format(form), rows_per_part)
    partition.open()
    return partition


def fill(partition: Partition, count: int) -> None:
    for visit in VISITS[partition.rows : partition.rows + count]:
        partition.add([visit])
        if partition.is_due:
            partition.write()


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl.gz"])
def test_parts_are_full_but_for_the_last_of_a_run(folder: Path, form: str) -> None:
    partition = open_partition(folder, form=form)
    fill(partition, 25)
    partition.close()

    counts = [(part.offset, part.count) for part in find_parts(folder)]
    assert counts == [(0, 10), (10, 10), (20, 5)]
    assert (partition.rows, partition.parts_written) == (25, 3)
    assert rows_of(folder) == rows_from("tp-1", VISITS[:25])
    assert (folder / f"visits-000000000020-5.{form}").exists()


def test_the_next_run_goes_on_where_the_parts_end(folder: Path) -> None:
    for count in (25, 0, 30):
        partition = open_partition(folder)
        before = files_of(folder) if folder.exists() else {}
        fill(partition, count)
        partition.close()
        if not count:
            assert files_of(folder) == before

    assert [part.offset for part in find_parts(folder)] == [0, 10, 20, 25, 35, 45]
    assert rows_of(folder) == rows_from("tp-1", VISITS[:55])


def test_a_part_is_on_disk_before_it_has_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    sync, replace = os.fsync, os.replace

    def log_sync(descriptor: int) -> None:
        calls.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        sync(descriptor)

    def log_replace(source: Path, target: Path) -> None:
        calls.append(("rename", target.name))
        replace(source, target)

    monkeypatch.setattr("os.fsync", log_sync)
    monkeypatch.setattr("os.replace", log_replace)
    partition = open_partition(folder)
    fill(partition, 3)
    partition.close()

    assert calls == [
        # The folder's own name, the rows, and the part's name.
        ("sync", folder.parent.name),
        ("sync", ".visits-000000000000.csv.tmp"),
        ("rename", "visits-000000000000-3.csv"),
        ("sync", folder.name),
    ]


def test_nothing_to_write_makes_no_folder(folder: Path) -> None:
    open_partition(folder).close()

    assert not folder.exists()


def test_a_part_is_not_there_before_it_is_whole(folder: Path) -> None:
    partition = open_partition(folder)
    fill(partition, 9)
    partition.write()
    assert [path.name for path in folder.iterdir()] == [".visits-000000000000.csv.tmp"]

    fill(partition, 1)
    assert [path.name for path in folder.iterdir()] == ["visits-000000000000-10.csv"]
    partition.close()


def test_much_that_was_gathered_is_due_before_the_part_is_full(folder: Path) -> None:
    partition = open_partition(folder, rows_per_part=1_000_000)
    while not partition.is_due:
        partition.add(VISITS)
    assert partition.rows > 10_000
    partition.write()
    assert not partition.is_due
    partition.close()

    assert len(rows_of(folder)) == partition.rows
    assert len(find_parts(folder)) == 1


def test_what_a_dead_export_left_is_removed(folder: Path) -> None:
    touch(folder, ".visits-000000000000.csv.tmp", ".visits-000000000010.parquet.tmp", "_SUCCESS")

    open_partition(folder).close()

    assert [path.name for path in folder.iterdir()] == ["_SUCCESS"]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["visits-000000000000-10.csv", "visits-000000000020-10.csv"], "visits 10 to 20 are miss"),
        (["visits-000000000005-10.csv"], "visits 0 to 5 are missing"),
        (["visits-000000000000-10.csv", "visits-000000000009-2.csv"], "9 to 10 are in two parts"),
        (["visits-000000000000-10.csv", "visits-000000000000-4.csv"], "0 to 4 are in two parts"),
        (["visits-000000000000-0.csv"], "this is no part"),
        (["visits-000000000000-10 (1).csv", "visits-000000000000-10.csv"], "this is no part"),
        (["visits-000000000000-10.parquet"], "there are parquet parts already"),
        (["visits-000000000000-10.csv.gz"], "there are csv.gz parts already"),
    ],
)
def test_parts_that_do_not_add_up(folder: Path, names: list[str], problem: str) -> None:
    touch(folder, *names)
    before = files_of(folder)
    partition = Partition(folder, "tp-1", CSV, 10)

    with pytest.raises(ExportError, match=problem) as caught:
        partition.open()
    partition.close()

    assert caught.value.path.startswith(str(folder))
    assert not caught.value.fatal
    assert files_of(folder) == before


def test_a_part_of_more_than_twelve_digits_is_in_order(folder: Path) -> None:
    touch(folder, "visits-000000000000-1000000000000.csv", "visits-1000000000000-5.csv")

    assert [part.offset for part in find_parts(folder)] == [0, 10**12]


@pytest.mark.parametrize("written", [0, 5])
def test_two_exports_do_not_write_the_same_touchpoint(folder: Path, written: int) -> None:
    first = open_partition(folder)
    fill(first, written)
    first.close()
    # The folder is there, and held; or it is made by one meanwhile.
    first, second = open_partition(folder), Partition(folder, "tp-1", CSV, 10)
    if written:
        with pytest.raises(ExportError, match="another export is writing here"):
            second.open()
        second.close()
    else:
        second.open()
        fill(first, 3)
        first.write()
        fill(second, 3)
        with pytest.raises(ExportError, match="another export is writing here"):
            second.close()
    fill(first, 3)
    first.close()

    assert rows_of(folder) == rows_from("tp-1", VISITS[: first.rows])
    assert not list(folder.glob(".*"))


def test_an_export_that_was_overtaken_says_so(folder: Path) -> None:
    slow = open_partition(folder)
    quick = open_partition(folder)
    fill(quick, 5)
    quick.close()
    fill(slow, 5)

    with pytest.raises(ExportError, match="another export has written here meanwhile"):
        slow.close()
    assert rows_of(folder) == rows_from("tp-1", VISITS[:5])
    open_partition(folder).close()


def test_a_lock_is_released_when_its_holder_is_gone(folder: Path) -> None:
    folder.mkdir()
    FolderLock(folder).release()
    lock = FolderLock(folder)
    lock.release()
    lock.release()

    FolderLock(folder).release()


def test_where_folders_cannot_be_locked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(dataset._fcntl, "flock", refuse)
    descriptors = open_files()
    partition = open_partition(folder)
    fill(partition, 12)
    partition.close()

    assert rows_of(folder) == rows_from("tp-1", VISITS[:12])
    assert open_files() == descriptors


def test_where_there_are_no_locks_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_fcntl", None)
    partition = open_partition(folder)
    fill(partition, 12)
    partition.close()

    assert rows_of(folder) == rows_from("tp-1", VISITS[:12])


FAULTS: dict[str, Callable[[int], Any]] = {
    # What is called, and what it raises the n-th time.
    "fsync": lambda code: ("os.fsync", OSError(code, os.strerror(code))),
    "rename": lambda code: ("pathlib.Path.replace", OSError(code, os.strerror(code))),
    "mkdir": lambda code: ("pathlib.Path.mkdir", OSError(code, os.strerror(code))),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("code", "fatal"), [(errno.ENOSPC, True), (errno.EIO, True), (errno.ENAMETOOLONG, False)]
)
@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet", "jsonl.zst"])
def test_a_disk_that_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str, code: int, fatal: bool, form: str
) -> None:
    where, error = FAULTS[fault](code)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    partition = open_partition(folder, form=form)
    fill(partition, 9)
    with monkeypatch.context() as broken:
        broken.setattr(where, fail)
        with pytest.raises(ExportError, match=os.strerror(code)) as caught:
            partition.close()

    assert caught.value.fatal == fatal
    assert not [path for path in folder.parent.rglob("*") if path.is_file()]
    # The next run finds all as it was.
    partition = open_partition(folder, form=form)
    fill(partition, 9)
    partition.close()
    assert rows_of(folder) == rows_from("tp-1", VISITS[:9])


def test_a_folder_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ExportError, match=r"File exists|Not a directory"):
        make_folders(tmp_path / "file")
    with pytest.raises(ExportError, match="Not a directory"):
        make_folders(tmp_path / "file" / "below")
    with pytest.raises(ExportError, match="embedded null"):
        make_folders(tmp_path / "\0")


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    touch(folder, "visits-000000000000-10.csv")
    monkeypatch.setattr("os.listdir", refuse)

    with pytest.raises(ExportError, match="Permission denied"):
        find_parts(folder)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_a_format_cannot_take(folder: Path, form: str) -> None:
    partition = open_partition(folder, form=form)
    fill(partition, 13)
    # One that has an id, and no time.
    odd: Any = [*VISITS[13:15], Visit("user-1", None)]  # type: ignore[arg-type]

    with pytest.raises(ExportError, match=r"(Type|Value)Error"):
        partition.add(odd)
    partition.close()

    assert rows_of(folder) == rows_from("tp-1", VISITS[:10])
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("touchpoint_id", "name"),
    [
        ("tp-1", "touchpoint_id=tp-1"),
        ("a/b c%=é", "touchpoint_id=a%2Fb%20c%25%3D%C3%A9"),
        ("..", "touchpoint_id=.."),
        ("\n\0", "touchpoint_id=%0A%00"),
        ("ключ", "touchpoint_id=%D0%BA%D0%BB%D1%8E%D1%87"),
    ],
)
def test_any_id_has_a_folder(tmp_path: Path, touchpoint_id: str, name: str) -> None:
    folder = touchpoint_folder(tmp_path, VisitsType.UNIQUE, touchpoint_id)

    assert folder == tmp_path / "visits_type=UNIQUE" / name
    assert touchpoint_id_of(folder) == touchpoint_id


# --- touchpoints.<format>


def touchpoint(touchpoint_id: str, total: int | None, unique: int | None) -> ExportedTouchpoint:
    return ExportedTouchpoint(
        touchpoint_id=touchpoint_id, name="n", value="v", total_visits=total, unique_visits=unique
    )


def test_what_is_known_of_touchpoints_is_kept(tmp_path: Path) -> None:
    first = {"b": touchpoint("b", 5, None), "a": touchpoint("a", 1, 1)}
    update_touchpoints(tmp_path, "touchpoints", CSV, first)
    update_touchpoints(tmp_path, "touchpoints", CSV, {"b": touchpoint("b", None, 3)})

    (path,) = tmp_path.iterdir()
    assert path.name == "touchpoints.csv"
    assert CSV.read_touchpoints(path) == [touchpoint("a", 1, 1), touchpoint("b", 5, 3)]


def test_what_is_known_already_is_not_written(tmp_path: Path) -> None:
    known = {"a": touchpoint("a", 1, 1)}
    update_touchpoints(tmp_path, "touchpoints", CSV, known)
    before = files_of(tmp_path)
    update_touchpoints(tmp_path, "touchpoints", CSV, known)
    update_touchpoints(tmp_path, "touchpoints", CSV, {})

    assert files_of(tmp_path) == before


def test_touchpoints_that_a_dead_export_left_are_removed(tmp_path: Path) -> None:
    touch(tmp_path, ".touchpoints.csv.tmp")
    update_touchpoints(tmp_path, "touchpoints", CSV, {})

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["csv", "csv.gz", "jsonl", "jsonl.zst", "parquet"])
def test_touchpoints_that_cannot_be_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"touchpoints.{form}"
    path.write_bytes(b'nonsense\n"\n\xff')

    with pytest.raises(ExportError) as caught:
        update_touchpoints(tmp_path, "touchpoints", find_format(form), {"a": touchpoint("a", 1, 1)})
    assert caught.value.path == str(path)
    FolderLock(tmp_path).release()
