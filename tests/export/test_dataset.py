"""The layout of an export, and its file of touchpoints."""

import errno
from pathlib import Path
from typing import Any

import pytest

from distinct_async import ExportError, VisitsType
from distinct_async.export.dataset import (
    find_parts,
    touchpoint_folder,
    touchpoint_id_of,
    update_touchpoints,
)
from distinct_async.export.files import FolderLock
from distinct_async.export.formats import find_format
from distinct_async.export.models import ExportedTouchpoint
from tests.support.exported import files_of, touch

CSV = find_format("csv")


def test_offsets_of_more_than_twelve_digits_sort_numerically(tmp_path: Path) -> None:
    touch(tmp_path, "visits-000000000000-1000000000000.csv", "visits-1000000000000-5.csv")

    assert [part.offset for part in find_parts(tmp_path)] == [0, 10**12]


def test_an_unreadable_folder_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    touch(tmp_path, "visits-000000000000-10.csv")
    monkeypatch.setattr("os.listdir", refuse)

    with pytest.raises(ExportError, match="Permission denied"):
        find_parts(tmp_path)


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
def test_every_id_maps_to_a_folder_and_back(tmp_path: Path, touchpoint_id: str, name: str) -> None:
    folder = touchpoint_folder(tmp_path, VisitsType.UNIQUE, touchpoint_id)

    assert folder == tmp_path / "visits_type=UNIQUE" / name
    assert touchpoint_id_of(folder) == touchpoint_id


def touchpoint(touchpoint_id: str, total: int | None, unique: int | None) -> ExportedTouchpoint:
    return ExportedTouchpoint(
        touchpoint_id=touchpoint_id, name="n", value="v", total_visits=total, unique_visits=unique
    )


def test_stored_rows_and_counts_of_touchpoints_are_kept(tmp_path: Path) -> None:
    first = {"b": touchpoint("b", 5, None), "a": touchpoint("a", 1, 1)}
    update_touchpoints(tmp_path, "touchpoints", CSV, first)
    update_touchpoints(tmp_path, "touchpoints", CSV, {"b": touchpoint("b", None, 3)})

    (path,) = tmp_path.iterdir()
    assert path.name == "touchpoints.csv"
    assert CSV.read_touchpoints(path) == [touchpoint("a", 1, 1), touchpoint("b", 5, 3)]


def test_a_folder_that_another_export_has_removed_is_created_again(tmp_path: Path) -> None:
    update_touchpoints(tmp_path / "a" / "b", "touchpoints", CSV, {"a": touchpoint("a", 1, 1)})

    assert [*files_of(tmp_path)] == ["a", "a/b", "a/b/touchpoints.csv"]


def test_unchanged_touchpoints_are_not_written(tmp_path: Path) -> None:
    rows = {"a": touchpoint("a", 1, 1)}
    update_touchpoints(tmp_path, "touchpoints", CSV, rows)
    before = files_of(tmp_path)
    update_touchpoints(tmp_path, "touchpoints", CSV, rows)
    update_touchpoints(tmp_path, "touchpoints", CSV, {})

    assert files_of(tmp_path) == before


def test_a_temporary_touchpoints_file_of_a_crashed_export_is_removed(tmp_path: Path) -> None:
    touch(tmp_path, ".touchpoints.csv.tmp")
    update_touchpoints(tmp_path, "touchpoints", CSV, {})

    assert [path.name for path in tmp_path.iterdir()] == ["touchpoints.csv"]
    assert CSV.read_touchpoints(tmp_path / "touchpoints.csv") == []


@pytest.mark.parametrize("file_format", ["csv", "csv.gz", "jsonl", "jsonl.zst", "parquet"])
def test_an_unreadable_touchpoints_file_is_an_export_error(
    tmp_path: Path, file_format: str
) -> None:
    path = tmp_path / f"touchpoints.{file_format}"
    path.write_bytes(b'nonsense\n"\n\xff')
    rows = {"a": touchpoint("a", 1, 1)}

    with pytest.raises(ExportError) as caught:
        update_touchpoints(tmp_path, "touchpoints", find_format(file_format), rows)
    assert caught.value.path == str(path)
    FolderLock(tmp_path).release()
