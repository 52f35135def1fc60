"""Visits are read back from parts, and parts that do not hold what they promise are errors."""

from pathlib import Path

import pytest

from distinct_async import ExportError
from distinct_async.export.dataset import find_parts
from distinct_async.export.formats import FORMATS, find_format
from distinct_async.export.partition import Partition
from distinct_async.export.stored import StoredVisits
from tests.support.exported import parts_of
from tests.support.list_server import make_visits

VISITS = make_visits(23)
each_format = pytest.mark.parametrize("name", FORMATS)
each_proof = pytest.mark.parametrize("proof", [1, 8])


def store(folder: Path, name: str) -> list[Path]:
    """Write parts of 10, 10 and 3 visits; return their paths."""
    partition = Partition(folder, "tp-1", find_format(name), 10)
    partition.open()
    for start in (0, 10, 20):
        partition.add(VISITS[start : start + 10])
        partition.flush()
    partition.close()
    return [folder / part for part in parts_of(folder)]


def stored(folder: Path, name: str) -> StoredVisits:
    return StoredVisits(find_parts(folder), find_format(name))


@each_format
def test_every_visit_is_found_in_its_part(tmp_path: Path, name: str) -> None:
    store(tmp_path, name)
    visits = stored(tmp_path, name)

    assert visits.count == 23
    assert [visits.at(offset) for offset in range(23)] == VISITS


@each_format
def test_the_last_visits_are_read_across_parts(tmp_path: Path, name: str) -> None:
    store(tmp_path, name)
    visits = stored(tmp_path, name)

    for count in range(1, 25):
        assert visits.last(count) == tuple(VISITS[-count:])


def test_no_part_is_read_that_is_not_needed(tmp_path: Path) -> None:
    paths = store(tmp_path, "csv")
    paths[0].write_bytes(b"")

    assert stored(tmp_path, "csv").last(13) == tuple(VISITS[10:])
    with pytest.raises(ExportError) as caught:
        stored(tmp_path, "csv").last(14)
    assert caught.value.path == str(paths[0])


def test_the_last_visits_are_read_across_the_row_groups_of_a_part(tmp_path: Path) -> None:
    for offset in (0, 10):
        partition = Partition(tmp_path, "tp-1", find_format("parquet"), 10)
        partition.open()
        for start, stop in ((0, 6), (6, 9), (9, 10)):
            partition.add(VISITS[offset + start : offset + stop])
            partition.flush()
        partition.close()

    for count in range(1, 21):
        assert stored(tmp_path, "parquet").last(count) == tuple(VISITS[20 - count : 20])


def test_no_parts_have_no_last_visits(tmp_path: Path) -> None:
    visits = stored(tmp_path, "csv")

    assert (visits.count, visits.last(8)) == (0, ())


@each_format
@each_proof
@pytest.mark.parametrize("count", [2, 4])
def test_a_part_that_does_not_end_as_its_name_says_is_an_error(
    tmp_path: Path, name: str, count: int, proof: int
) -> None:
    path = store(tmp_path, name)[-1]
    renamed = path.rename(tmp_path / f"visits-000000000020-{count}.{name}")

    with pytest.raises(ExportError, match=f"{19 + count}, found that of offset 22; del") as caught:
        stored(tmp_path, name).last(proof)
    assert caught.value.path == str(renamed)
    with pytest.raises(ExportError, match="expected the visit of offset"):
        Partition(tmp_path, "tp-1", find_format(name), 10).open()


@each_format
def test_a_part_of_other_offsets_is_an_error(tmp_path: Path, name: str) -> None:
    paths = store(tmp_path, name)
    paths[0].replace(paths[1])
    paths[1].with_name(paths[0].name).write_bytes(paths[1].read_bytes())

    with pytest.raises(ExportError, match="of offset 14, found that of offset 4;") as caught:
        stored(tmp_path, name).at(14)
    assert caught.value.path == str(paths[1])
    with pytest.raises(ExportError, match="of offset 19, found that of offset 9;") as caught:
        stored(tmp_path, name).last(8)
    assert caught.value.path == str(paths[1])


@each_format
def test_a_part_without_rows_is_an_error(tmp_path: Path, name: str) -> None:
    path = store(tmp_path, name)[-1]
    find_format(name).open_writer(path).close()

    visits = stored(tmp_path, name)
    for read in (visits.at, visits.last):
        with pytest.raises(ExportError, match="found nothing; delete this part and all") as caught:
            read(21)
        assert caught.value.path == str(path)


@each_format
@pytest.mark.parametrize("content", [b"", b"nonsense", b'"\xff{"'])
def test_an_unreadable_part_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = store(tmp_path, name)[-1]
    path.write_bytes(content)

    with pytest.raises(ExportError) as caught:
        stored(tmp_path, name).last(8)
    assert caught.value.path == str(path)


@each_format
def test_a_truncated_part_is_an_error(tmp_path: Path, name: str) -> None:
    path = store(tmp_path, name)[-1]
    path.write_bytes(path.read_bytes()[:-7])

    with pytest.raises(ExportError) as caught:
        stored(tmp_path, name).last(8)
    assert caught.value.path == str(path)


def test_a_missing_part_is_an_error(tmp_path: Path) -> None:
    path = store(tmp_path, "csv")[-1]
    visits = stored(tmp_path, "csv")
    path.unlink()

    with pytest.raises(ExportError, match="No such file"):
        visits.last(8)
