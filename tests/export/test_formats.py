"""Every file format can be read back, by us and by other programs."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distinct_async import ConfigurationError, DistinctClient, Visit
from distinct_async.export import to_arrow
from distinct_async.export.formats import FORMATS, find_format, find_format_of
from distinct_async.export.models import ExportedTouchpoint, StoredVisit
from distinct_async.testing import FakeDistinct
from tests.support.exported import read, rows_from

START = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
NASTY = [
    *("user-1", "user,2", 'user "3"', "user\n4", "user\r5", "user\r\n6", "jörg", "用户", "🙂"),
    *("007", "NaN", "null", "=1+1", " ", "a\tb", "\u2028", "\x00", "\x1b[31m", "1e5", "true"),
]
VISITS = [
    Visit(user_id, START + timedelta(days=100 * i, microseconds=i % 3))
    for i, user_id in enumerate(NASTY)
]
TOUCHPOINT = 'tp "1", ä/2'
ROWS = rows_from(TOUCHPOINT, VISITS)


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file_format = find_format(request.param)
    path = tmp_path / f"visits-000000000000-{len(VISITS)}.{file_format.name}"
    writer = file_format.open_writer(path)
    # In two buffers, like a long part.
    for start, stop in ((0, 7), (7, len(VISITS))):
        buffer = file_format.new_buffer(TOUCHPOINT, start)
        buffer.extend(VISITS[start:stop])
        writer.write(buffer)
    writer.close()
    return path


def read_with_duckdb(path: Path) -> Any:
    kind = path.name.split(".")[1].replace("jsonl", "json")
    return duckdb.connect().sql(f"select * from read_{kind}('{path}')").to_arrow_table().to_pandas()


def read_with_polars(path: Path) -> Any:
    if ".csv" in path.name:
        frame = pl.read_csv(path, try_parse_dates=True)
    elif path.suffix == ".parquet":
        frame = pl.read_parquet(path)
    else:
        moment = pl.col("timestamp").str.to_datetime(time_zone="UTC")
        frame = pl.read_ndjson(path).with_columns(moment)
    return frame.to_pandas()


def read_with_pandas(path: Path) -> Any:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    with pa.input_stream(path) as stream:
        if ".csv" in path.name:
            return pd.read_csv(stream, keep_default_na=False)
        keep_strings: Any = False
        return pd.read_json(stream, lines=True, dtype=keep_strings)


def as_rows(frame: Any) -> list[tuple[Any, ...]]:
    moments = pd.to_datetime(frame["timestamp"], utc=True).dt.to_pydatetime()
    columns = (frame["touchpoint_id"], frame["user_id"], moments, frame["offset"])
    return list(zip(*columns, strict=True))


def test_each_format_holds_the_exact_rows(path: Path) -> None:
    assert list(read(path)) == ROWS


def test_each_row_can_be_read_back_from_either_end(path: Path) -> None:
    file_format = find_format_of(path)
    assert file_format is not None
    rows = [StoredVisit(offset, visit) for offset, visit in enumerate(VISITS)]

    assert [file_format.read_visit(path, index) for index in range(len(VISITS))] == rows
    assert [file_format.read_visit(path, index) for index in range(-len(VISITS), 0)] == rows
    for index in (len(VISITS), -len(VISITS) - 1):
        assert file_format.read_visit(path, index) is None


@pytest.mark.parametrize("count", [1, 8, 13])
def test_the_last_rows_are_read_in_order(path: Path, count: int) -> None:
    file_format = find_format_of(path)
    assert file_format is not None
    rows = [StoredVisit(offset, visit) for offset, visit in enumerate(VISITS)]

    assert file_format.read_last(path, count) == rows[-count:]


def test_only_parquet_reads_the_last_rows_of_a_row_group_alone(path: Path) -> None:
    file_format = find_format_of(path)
    assert file_format is not None
    count = len(VISITS) - 7 if file_format.name == "parquet" else len(VISITS)

    for most in (len(VISITS), 1_000):
        offsets = [row.offset for row in file_format.read_last(path, most)]
        assert offsets == [*range(len(VISITS) - count, len(VISITS))]


def test_times_read_back_are_in_utc(path: Path) -> None:
    file_format = find_format_of(path)
    assert file_format is not None
    row = file_format.read_visit(path, -1)

    assert row is not None
    assert row.visit.timestamp.tzinfo is UTC


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_without_rows_has_no_visit_to_read(name: str, tmp_path: Path) -> None:
    file_format, path = find_format(name), tmp_path / f"visits.{name}"
    file_format.open_writer(path).close()

    assert file_format.read_visit(path, 0) is file_format.read_visit(path, -1) is None
    assert file_format.read_last(path, 8) == []


@pytest.mark.parametrize("reader", [read_with_duckdb, read_with_polars, read_with_pandas])
def test_other_programs_read_the_exact_rows(path: Path, reader: Callable[[Path], Any]) -> None:
    assert as_rows(reader(path)) == ROWS


def test_visits_are_counted_the_same_in_every_format(path: Path) -> None:
    file_format = find_format_of(path)
    assert file_format is not None
    tally = file_format.tally(path)

    moments = [visit.timestamp for visit in VISITS]
    assert (tally.visits, tally.users) == (len(VISITS), set(NASTY))
    assert tally.hours == Counter((moment.weekday(), moment.hour) for moment in moments)
    assert tally.moments == (moments[0], moments[-1])
    assert all(moment.tzinfo is UTC for moment in tally.moments)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [0, 3])
def test_touchpoints_survive_a_round_trip(name: str, count: int, tmp_path: Path) -> None:
    file_format, path = find_format(name), tmp_path / f"touchpoints.{name}"
    touchpoints = [
        ExportedTouchpoint(touchpoint_id="1", name="", value="é,\n", total_visits=7),
        ExportedTouchpoint(touchpoint_id="02", name='"', value="\r", unique_visits=0),
        ExportedTouchpoint(touchpoint_id="2024-01-01", name="null", value="x"),
    ][:count]
    file_format.write_touchpoints(path, touchpoints)

    assert file_format.read_touchpoints(path) == touchpoints


def test_parquet_takes_few_bytes_per_visit_and_one_row_group_per_buffer(tmp_path: Path) -> None:
    file_format, path = find_format("parquet"), tmp_path / "visits.parquet"
    visits = [Visit(f"user-{i % 997}", START + timedelta(seconds=61 * i)) for i in range(50_000)]
    buffer = file_format.new_buffer("tp-1", 0)
    buffer.extend(visits)
    bytes_in_memory = buffer.size / len(visits)
    writer = file_format.open_writer(path)
    writer.write(buffer)
    writer.close()

    assert pq.read_metadata(path).num_row_groups == 1
    assert bytes_in_memory < 25
    assert path.stat().st_size / len(visits) < 5


def test_gzip_files_contain_no_file_name_and_no_time(tmp_path: Path) -> None:
    file_format = find_format("csv.gz")
    for name in ("one", "two"):
        file_format.open_writer(tmp_path / name).close()

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("name", ["Parquet", "csv.bz2", "", None, "x" * 1_000])
def test_an_unknown_format_is_rejected(name: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"format must be one of parquet, csv, csv\.gz"
    ) as caught:
        find_format(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["parquet", "csv.zst", "jsonl.zst"])
def test_formats_that_need_pyarrow_say_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'distinct-async\[arrow\]'"):
        find_format(name)
    assert find_format("csv.gz").name == "csv.gz"


async def test_to_arrow_says_how_to_install_pyarrow(
    monkeypatch: pytest.MonkeyPatch, client: DistinctClient
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigurationError, match=r"to_arrow needs pyarrow: .*\[arrow\]"):
        await to_arrow(client.total_visits("tp-1"))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("touchpoints.parquet", "parquet"),
        ("touchpoints-1-of-2.csv.gz", "csv.gz"),
        ("touchpoints.gz", None),
        ("touchpoints", None),
        ("touchpoints.txt", None),
    ],
)
def test_a_files_name_determines_its_format(name: str, found: str | None) -> None:
    file_format = find_format_of(Path(name))

    assert (file_format and file_format.name) == found


# --- Tables in memory


@pytest.fixture
def some_visits(fake: FakeDistinct) -> None:
    fake.add_touchpoint(TOUCHPOINT, name="Door", value="door", visits=VISITS)
    fake.add_touchpoint("tp-2", name="Exit", value="exit")


@pytest.mark.usefixtures("some_visits")
async def test_a_pager_of_visits_becomes_a_table(client: DistinctClient) -> None:
    table = await to_arrow(client.total_visits(TOUCHPOINT, offset=2, page_size=5))

    assert table.schema.names == ["touchpoint_id", "user_id", "timestamp", "offset"]
    assert [tuple(row.values()) for row in table.to_pylist()] == ROWS[2:]
    assert table.schema.field("timestamp").type == pa.timestamp("us", "UTC")


@pytest.mark.usefixtures("some_visits")
async def test_dataframe_libraries_accept_the_table(client: DistinctClient) -> None:
    scans = await to_arrow(client.total_visits(TOUCHPOINT))
    # DuckDB finds the local variable `scans` by its name.
    found: Any = duckdb.sql("select count(*), max(user_id) from scans")
    assert found.fetchall() == [(len(VISITS), max(NASTY))]
    frame = pl.DataFrame(scans)
    assert frame["user_id"].to_list() == NASTY
    assert frame["timestamp"].to_list() == [visit.timestamp for visit in VISITS]
    assert as_rows(pd.DataFrame.from_arrow(scans)) == ROWS


@pytest.mark.usefixtures("some_visits")
async def test_touchpoints_and_pages_across_become_tables(client: DistinctClient) -> None:
    listed = await to_arrow(client.touchpoints("exp-1"))
    assert listed.to_pylist() == [
        {
            "touchpoint_id": TOUCHPOINT,
            "name": "Door",
            "value": "door",
            "total_visits": len(VISITS),
            "unique_visits": len(VISITS),
        },
        {
            "touchpoint_id": "tp-2",
            "name": "Exit",
            "value": "exit",
            "total_visits": 0,
            "unique_visits": 0,
        },
    ]
    across = await to_arrow(client.pages_across([TOUCHPOINT, TOUCHPOINT], page_size=4))
    assert across.num_rows == 2 * len(VISITS)


@pytest.mark.usefixtures("some_visits")
async def test_an_empty_list_becomes_a_table_with_columns(client: DistinctClient) -> None:
    for pager in (client.total_visits("tp-2"), client.total_visits("tp-2", limit=0)):
        table = await to_arrow(pager)
        assert (table.num_rows, table.num_columns) == (0, 4)


def test_writing_and_reading_parquet_does_not_import_pandas(tmp_path: Path) -> None:
    code = f"""
import sys
from datetime import UTC, datetime
from pathlib import Path
from distinct_async import Visit
from distinct_async.export.formats import find_format
from distinct_async.export.models import ExportedTouchpoint
file_format = find_format("parquet")
buffer = file_format.new_buffer("tp-1", 0)
buffer.extend([Visit("user-1", datetime(2024, 1, 1, tzinfo=UTC))])
path = Path({str(tmp_path)!r})
writer = file_format.open_writer(path / "visits.parquet")
writer.write(buffer)
writer.close()
touchpoint = ExportedTouchpoint(touchpoint_id="1", name="", value="")
file_format.write_touchpoints(path / "touchpoints.parquet", [touchpoint])
file_format.read_visit(path / "visits.parquet", -1)
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
