"""A touchpoint's parts: complete or absent, written by one export at a time, never patched up."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from distinct_async import ExportError, Visit
from distinct_async.export import files
from distinct_async.export.dataset import find_parts
from distinct_async.export.formats import find_format
from distinct_async.export.partition import Partition
from tests.support.exported import files_of, rows_from, rows_of, touch
from tests.support.list_server import make_visits
from tests.support.survival import open_files

CSV = find_format("csv")
VISITS = make_visits(100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "touchpoint_id=tp-1"


def open_partition(folder: Path, *, rows_per_part: int = 10, file_format: str = "csv") -> Partition:
    partition = Partition(folder, "tp-1", find_format(file_format), rows_per_part)
    partition.open()
    return partition


def fill(partition: Partition, count: int) -> None:
    for visit in VISITS[partition.rows : partition.rows + count]:
        partition.add([visit])
        if partition.needs_flush:
            partition.flush()


@pytest.mark.parametrize("file_format", ["parquet", "csv", "jsonl.gz"])
def test_all_parts_but_the_last_of_a_run_are_full(folder: Path, file_format: str) -> None:
    partition = open_partition(folder, file_format=file_format)
    fill(partition, 25)
    partition.close()

    counts = [(part.offset, part.count) for part in find_parts(folder)]
    assert counts == [(0, 10), (10, 10), (20, 5)]
    assert (partition.rows, partition.parts_written) == (25, 3)
    assert rows_of(folder) == rows_from("tp-1", VISITS[:25])
    assert (folder / f"visits-000000000020-5.{file_format}").exists()


def test_the_next_run_continues_where_the_parts_end(folder: Path) -> None:
    for count in (25, 0, 30):
        partition = open_partition(folder)
        before = files_of(folder) if folder.exists() else {}
        fill(partition, count)
        partition.close()
        if not count:
            assert files_of(folder) == before

    assert [part.offset for part in find_parts(folder)] == [0, 10, 20, 25, 35, 45]
    assert rows_of(folder) == rows_from("tp-1", VISITS[:55])


def test_a_part_is_flushed_to_disk_before_it_gets_its_name(
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
        # The folder's name, the rows, and the part's name.
        ("sync", folder.parent.name),
        ("sync", ".visits-000000000000.csv.tmp"),
        ("rename", "visits-000000000000-3.csv"),
        ("sync", folder.name),
    ]


def test_no_visits_create_no_folder(folder: Path) -> None:
    open_partition(folder).close()

    assert not folder.exists()


def test_a_part_appears_only_when_it_is_complete(folder: Path) -> None:
    partition = open_partition(folder)
    fill(partition, 9)
    partition.flush()
    assert [path.name for path in folder.iterdir()] == [".visits-000000000000.csv.tmp"]

    fill(partition, 1)
    assert [path.name for path in folder.iterdir()] == ["visits-000000000000-10.csv"]
    partition.close()


def test_a_large_buffer_is_flushed_before_the_part_is_full(folder: Path) -> None:
    partition = open_partition(folder, rows_per_part=1_000_000)
    while not partition.needs_flush:
        partition.add(VISITS)
    assert partition.rows > 10_000
    partition.flush()
    assert not partition.needs_flush
    partition.close()

    assert len(rows_of(folder)) == partition.rows
    assert len(find_parts(folder)) == 1


@pytest.mark.parametrize("file_format", ["parquet", "csv", "jsonl.gz"])
def test_an_open_partition_knows_the_last_stored_visits(folder: Path, file_format: str) -> None:
    first = open_partition(folder, file_format=file_format)
    fill(first, 25)
    first.close()
    second = open_partition(folder, file_format=file_format)
    second.close()

    assert first.last == ()
    assert second.last == tuple(VISITS[17:25])
    assert second.stored.count == 25


@pytest.mark.parametrize("file_format", ["parquet", "csv", "jsonl.zst"])
@pytest.mark.parametrize("is_flushed", [False, True])
def test_rejected_visits_are_discarded_and_finished_parts_stay(
    folder: Path, file_format: str, is_flushed: bool
) -> None:
    partition = open_partition(folder, file_format=file_format)
    fill(partition, 25)
    if is_flushed:
        partition.flush()
    partition.reject()
    assert (partition.rows, partition.rows_added, partition.rows_rejected) == (20, 25, 5)
    partition.close()

    assert rows_of(folder) == rows_from("tp-1", VISITS[:20])
    assert not list(folder.glob(".*"))
    partition = open_partition(folder, file_format=file_format)
    fill(partition, 5)
    partition.close()
    assert rows_of(folder) == rows_from("tp-1", VISITS[:25])


@pytest.mark.parametrize("count", [0, 20])
def test_rejecting_changes_nothing_if_finished_parts_have_every_visit(
    folder: Path, count: int
) -> None:
    partition = open_partition(folder)
    fill(partition, count)
    partition.reject()
    partition.close()

    assert (partition.rows, partition.rows_added, partition.rows_rejected) == (count, count, 0)
    assert rows_of(folder) == rows_from("tp-1", VISITS[:count])
    assert partition.parts_written == count / 10


def test_temporary_files_of_a_crashed_export_are_removed(folder: Path) -> None:
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
        (["visits-000000000000-0.csv"], "this is not a part of an export"),
        (
            ["visits-000000000000-10 (1).csv", "visits-000000000000-10.csv"],
            "this is not a part of an export",
        ),
        (["visits-000000000000-10.parquet"], "this folder has parquet parts"),
        (["visits-000000000000-10.csv.gz"], r"this folder has csv\.gz parts"),
    ],
)
def test_parts_that_do_not_add_up_are_an_error_and_stay_untouched(
    folder: Path, names: list[str], problem: str
) -> None:
    touch(folder, *names)
    before = files_of(folder)
    partition = Partition(folder, "tp-1", CSV, 10)

    with pytest.raises(ExportError, match=problem) as caught:
        partition.open()
    partition.close()

    assert caught.value.path.startswith(str(folder))
    assert not caught.value.fatal
    assert files_of(folder) == before


@pytest.mark.parametrize("written", [0, 5])
def test_two_exports_cannot_write_the_same_touchpoint(folder: Path, written: int) -> None:
    first = open_partition(folder)
    fill(first, written)
    first.close()
    # The folder exists and is locked, or one of the two creates it while the other is open.
    first, second = open_partition(folder), Partition(folder, "tp-1", CSV, 10)
    if written:
        with pytest.raises(ExportError, match="another export is writing here"):
            second.open()
        second.close()
    else:
        second.open()
        fill(first, 3)
        first.flush()
        fill(second, 3)
        with pytest.raises(ExportError, match="another export is writing here"):
            second.close()
    fill(first, 3)
    first.close()

    assert rows_of(folder) == rows_from("tp-1", VISITS[: first.rows])
    assert not list(folder.glob(".*"))


def test_an_export_overtaken_by_another_fails(folder: Path) -> None:
    slow = open_partition(folder)
    quick = open_partition(folder)
    fill(quick, 5)
    quick.close()
    fill(slow, 5)

    with pytest.raises(ExportError, match="another export wrote here in the meantime"):
        slow.close()
    assert rows_of(folder) == rows_from("tp-1", VISITS[:5])
    open_partition(folder).close()


def test_a_filesystem_without_folder_locks_still_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    descriptors = open_files()
    partition = open_partition(folder)
    fill(partition, 12)
    partition.close()

    assert rows_of(folder) == rows_from("tp-1", VISITS[:12])
    assert open_files() == descriptors


def test_a_system_without_file_locks_still_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_fcntl", None)
    partition = open_partition(folder)
    fill(partition, 12)
    partition.close()

    assert rows_of(folder) == rows_from("tp-1", VISITS[:12])


FAILING_CALLS = {
    "fsync": "os.fsync",
    "rename": "pathlib.Path.replace",
    "mkdir": "pathlib.Path.mkdir",
}


@pytest.mark.parametrize("call", FAILING_CALLS.values(), ids=FAILING_CALLS)
@pytest.mark.parametrize(
    ("code", "fatal"), [(errno.ENOSPC, True), (errno.EIO, True), (errno.ENAMETOOLONG, False)]
)
@pytest.mark.parametrize("file_format", ["csv", "csv.gz", "parquet", "jsonl.zst"])
def test_a_failing_disk_discards_the_part(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
    fatal: bool,
    file_format: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    partition = open_partition(folder, file_format=file_format)
    fill(partition, 9)
    with monkeypatch.context() as broken:
        broken.setattr(call, fail)
        with pytest.raises(ExportError, match=os.strerror(code)) as caught:
            partition.close()

    assert caught.value.fatal == fatal
    assert not list(folder.parent.iterdir())
    # The next run succeeds.
    partition = open_partition(folder, file_format=file_format)
    fill(partition, 9)
    partition.close()
    assert rows_of(folder) == rows_from("tp-1", VISITS[:9])


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_visits_that_a_format_cannot_represent_discard_the_part(
    folder: Path, file_format: str
) -> None:
    partition = open_partition(folder, file_format=file_format)
    fill(partition, 13)
    invalid: Any = [*VISITS[13:15], Visit("user-1", None)]  # type: ignore[arg-type]

    with pytest.raises(ExportError, match=r"(Type|Value)Error"):
        partition.add(invalid)
    partition.close()

    assert rows_of(folder) == rows_from("tp-1", VISITS[:10])
    assert not list(folder.glob(".*"))
