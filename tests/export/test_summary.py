"""`summarize` counts the visits in files of every format."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from distinct_async import (
    ConfigurationError,
    DistinctClient,
    ExportError,
    FanOutError,
    Visit,
    VisitsType,
)
from distinct_async.export import (
    DatasetSummary,
    FileFormat,
    TouchpointCounts,
    export_visits,
    summarize,
)
from distinct_async.testing import FakeDistinct

# Two on a Monday, one on the Sunday after.
VISITS = [
    Visit("anna", datetime(2024, 1, 1, 10, 30, tzinfo=UTC)),
    Visit("ben", datetime(2024, 1, 1, 10, 59, 59, 999_999, tzinfo=UTC)),
    Visit("anna", datetime(2024, 1, 7, 23, 0, tzinfo=UTC)),
]


@pytest.fixture(autouse=True)
def some_visits(fake: FakeDistinct) -> None:
    fake.add_touchpoint("tp-1", name="Door", visits=VISITS[:1])
    fake.add_touchpoint("tp/2", name="Hall", visits=VISITS)
    fake.add_touchpoint("tp-3", name="Attic")


def hours(counts: dict[tuple[int, int], int]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(counts.get((day, hour), 0) for hour in range(24)) for day in range(7))


def counts(touchpoint_id: str, name: str, visits: int, users: int, **others: Any) -> Any:
    return TouchpointCounts(
        touchpoint_id=touchpoint_id,
        name=name,
        visits=visits,
        users=users,
        **{"expected": visits, **others},
    )


@pytest.mark.parametrize("file_format", ["parquet", "csv", "csv.zst", "jsonl.gz"])
async def test_exported_visits_are_counted(
    client: DistinctClient, tmp_path: Path, file_format: FileFormat
) -> None:
    await export_visits(client, "exp-1", tmp_path, format=file_format, rows_per_part=2)

    assert summarize(tmp_path) == DatasetSummary(
        visits_type=VisitsType.TOTAL,
        touchpoints=(
            counts("tp/2", "Hall", 3, 2),
            counts("tp-1", "Door", 1, 1),
            counts("tp-3", "Attic", 0, 0),
        ),
        hours=hours({(0, 10): 3, (6, 23): 1}),
        moments=(VISITS[0].timestamp, VISITS[2].timestamp),
    )


async def test_unique_visits_are_counted_if_only_those_were_exported(
    client: DistinctClient, tmp_path: Path
) -> None:
    await export_visits(client, "exp-1", tmp_path, format="csv", visits_type="UNIQUE")
    summary = summarize(str(tmp_path))
    assert summary.visits_type is VisitsType.UNIQUE
    assert summary.touchpoints[0] == counts("tp/2", "Hall", 2, 2)

    await export_visits(client, "exp-1", tmp_path, format="csv")
    assert summarize(tmp_path).visits_type is VisitsType.TOTAL
    assert summarize(tmp_path, visits_type="UNIQUE") == summary


async def test_a_visits_type_that_was_not_exported_counts_nothing(
    client: DistinctClient, tmp_path: Path
) -> None:
    await export_visits(client, "exp-1", tmp_path, format="csv")

    summary = summarize(tmp_path, visits_type="UNIQUE")

    assert summary.visits_type is VisitsType.UNIQUE
    assert {touchpoint.visits for touchpoint in summary.touchpoints} == {0}


async def test_an_incomplete_export_shows_the_expected_visits(
    client: DistinctClient, fake: FakeDistinct, tmp_path: Path
) -> None:
    await export_visits(client, ["tp-1"], tmp_path, format="csv")
    fake.scan("tp-1", "ben", VISITS[2].timestamp)
    listed = await client.touchpoints("exp-1").collect()
    fake.api_key = "another"
    with pytest.raises(FanOutError):
        await export_visits(client, listed, tmp_path, format="csv")

    assert summarize(tmp_path).touchpoints == (
        counts("tp-1", "Door", 1, 1, expected=2),
        counts("tp-3", "Attic", 0, 0),
        counts("tp/2", "Hall", 0, 0, expected=3),
    )


async def test_all_shards_are_counted_together(client: DistinctClient, tmp_path: Path) -> None:
    for index in (1, 2):
        await export_visits(client, "exp-1", tmp_path, format="csv", shard=(index, 2))
    for name in ("touchpoints.txt", "touchpoints.csv.bak"):
        (tmp_path / name).touch()

    assert [touchpoint.name for touchpoint in summarize(tmp_path).touchpoints] == [
        *("Hall", "Door", "Attic")
    ]


async def test_the_id_stands_in_for_an_unknown_name(client: DistinctClient, tmp_path: Path) -> None:
    await export_visits(client, "exp-1", tmp_path, format="csv")
    (tmp_path / "touchpoints.csv").unlink()

    assert summarize(tmp_path).touchpoints == (
        counts("tp/2", "tp/2", 3, 2, expected=None),
        counts("tp-1", "tp-1", 1, 1, expected=None),
    )


async def test_touchpoints_without_visits_are_listed(
    client: DistinctClient, tmp_path: Path
) -> None:
    await export_visits(client, ["tp-3"], tmp_path, format="csv")
    summary = summarize(tmp_path)

    assert summary.touchpoints == (counts("tp-3", "Attic", 0, 0),)
    assert (summary.hours, summary.moments) == (hours({}), ())


def test_an_unknown_visits_type_is_rejected(tmp_path: Path) -> None:
    unknown: Any = "SOME"

    with pytest.raises(ConfigurationError, match="visits_type must be TOTAL or UNIQUE"):
        summarize(tmp_path, visits_type=unknown)


@pytest.mark.parametrize("directory", ["", "a\0b", None, 7])
def test_an_unusable_directory_is_named_in_the_error(directory: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^directory must be the path of a folder$"):
        summarize(directory)


def test_a_folder_without_an_export_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ExportError, match="there are no exported visits here"):
            summarize(path)


@pytest.mark.parametrize("file_format", ["parquet", "csv", "csv.gz", "jsonl", "jsonl.zst"])
async def test_a_corrupt_part_is_an_error_that_names_it(
    client: DistinctClient, tmp_path: Path, file_format: FileFormat
) -> None:
    await export_visits(client, ["tp-1"], tmp_path, format=file_format)
    (part,) = tmp_path.rglob("visits-*")
    part.write_bytes(part.read_bytes()[:-5] + b'"\xff{"}')

    with pytest.raises(ExportError) as caught:
        summarize(tmp_path)
    assert caught.value.path == str(part)


async def test_a_missing_part_is_an_error(client: DistinctClient, tmp_path: Path) -> None:
    await export_visits(client, "exp-1", tmp_path, format="csv", rows_per_part=1)
    next(tmp_path.rglob("visits-000000000001-1.csv")).unlink()

    with pytest.raises(ExportError, match="visits 1 to 2 are missing"):
        summarize(tmp_path)
