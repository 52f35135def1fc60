"""`export_visits` over real sockets: the rows are exact, and no visit is lost or fetched twice."""

import asyncio
import errno
import inspect
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import duckdb
import pandas as pd
import polars as pl
import pytest

from distinct_async import (
    AuthenticationError,
    ConfigurationError,
    DistinctClient,
    ExportError,
    FanOutError,
    NotFoundError,
    ServerError,
    Visit,
    VisitsType,
)
from distinct_async.export import (
    ExportOptions,
    ExportProgress,
    FileFormat,
    export_visits,
    summarize,
)
from distinct_async.export.files import FolderLock
from distinct_async.export.formats import find_format
from distinct_async.export.plan import is_in_shard
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from tests.support.exported import files_of, parts_of, rows_from, rows_of
from tests.support.helpers import ONCE, eventually
from tests.support.list_server import START, make_visits

VISITS = {"tp-1": make_visits(130), "tp-2": make_visits(0), "tp-3": make_visits(45)}
UNIQUE = {key: visits[:97] for key, visits in VISITS.items()}


@pytest.fixture(autouse=True)
def some_visits(fake: FakeDistinct) -> None:
    for touchpoint_id, visits in VISITS.items():
        fake.add_touchpoint(touchpoint_id, name=f"Door {touchpoint_id[-1]}", visits=visits)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "some" / "where"


async def export(
    client: DistinctClient, folder: Path, touchpoints: Any = "exp-1", **options: Any
) -> ExportProgress:
    small: dict[str, Any] = {"rows_per_part": 50, "page_size": 20, "format": "csv"}
    return await export_visits(client, touchpoints, folder, **(small | options))


def expected(visits: dict[str, list[Visit]] = VISITS) -> list[Any]:
    return [row for key in sorted(visits) for row in rows_from(key, visits[key])]


def offsets(fake: FakeDistinct, touchpoint_id: str) -> list[int]:
    """Return the offsets requested for a touchpoint."""
    return [
        int(request.parameters.get("offset", 0))
        for request in fake.requests
        if request.parameters.get("touchpointId") == touchpoint_id
    ]


def own_tasks() -> set[asyncio.Task[Any]]:
    """Return the running tasks that do not belong to the server."""
    return {task for task in asyncio.all_tasks() if "RequestHandler" not in repr(task)}


def failure_types(caught: pytest.ExceptionInfo[FanOutError]) -> dict[str, type]:
    return {key: type(failure) for key, failure in caught.value.failures.items()}


async def test_every_visit_is_exported_in_order(client: DistinctClient, folder: Path) -> None:
    done = await export(client, folder)

    assert rows_of(folder) == expected()
    assert parts_of(folder) == [
        "visits_type=TOTAL/touchpoint_id=tp-1/visits-000000000000-50.csv",
        "visits_type=TOTAL/touchpoint_id=tp-1/visits-000000000050-50.csv",
        "visits_type=TOTAL/touchpoint_id=tp-1/visits-000000000100-30.csv",
        "visits_type=TOTAL/touchpoint_id=tp-3/visits-000000000000-45.csv",
    ]
    assert done == ExportProgress(
        touchpoints=3,
        touchpoints_done=3,
        visits=175,
        visits_fetched=175,
        parts_written=4,
    )
    rows = find_format("csv").read_touchpoints(folder / "touchpoints.csv")
    assert [(row.touchpoint_id, row.name, row.total_visits, row.unique_visits) for row in rows] == [
        ("tp-1", "Door 1", 130, 97),
        ("tp-2", "Door 2", 0, 0),
        ("tp-3", "Door 3", 45, 45),
    ]


async def test_unique_visits_are_exported_beside_all_scans(
    client: DistinctClient, folder: Path
) -> None:
    await export(client, folder)
    done = await export(client, folder, visits_type="UNIQUE")

    assert rows_of(folder / "visits_type=UNIQUE") == expected(UNIQUE)
    assert rows_of(folder / "visits_type=TOTAL") == expected()
    assert done.visits == done.visits_fetched == 97 + 45


@pytest.mark.parametrize("file_format", ["parquet", "csv", "jsonl.gz"])
async def test_a_second_run_sends_one_request_per_touchpoint_and_writes_nothing(
    client: DistinctClient, fake: FakeDistinct, folder: Path, file_format: FileFormat
) -> None:
    await export(client, folder, format=file_format)
    before = files_of(folder)
    fake.requests.clear()

    done = await export(client, folder, format=file_format)

    assert [offsets(fake, key) for key in VISITS] == [[127], [0], [42]]
    assert files_of(folder) == before
    assert (done.visits_found, done.visits_fetched, done.parts_written) == (175, 0, 0)
    assert done.touchpoints_done == 3


async def test_a_later_run_fetches_only_new_visits(
    client: DistinctClient, fake: FakeDistinct, folder: Path
) -> None:
    await export(client, folder)
    fake.requests.clear()
    later = [Visit("late", START + timedelta(days=1, seconds=i)) for i in range(25)]
    for visit in later:
        fake.scan("tp-1", visit.user_id, visit.timestamp)
        fake.scan("tp-2", visit.user_id, visit.timestamp)

    done = await export(client, folder)

    new = {"tp-1": VISITS["tp-1"] + later, "tp-2": later, "tp-3": VISITS["tp-3"]}
    assert rows_of(folder) == expected(new)
    assert [offsets(fake, key) for key in VISITS] == [[127, 146], [0, 19], [42]]
    assert (done.visits, done.visits_found, done.visits_fetched) == (225, 175, 50)
    rows = find_format("csv").read_touchpoints(folder / "touchpoints.csv")
    assert [row.total_visits for row in rows] == [155, 25, 45]


async def test_a_failed_touchpoint_keeps_its_pages_and_continues_after_them(
    client: DistinctClient, fake: FakeDistinct, folder: Path
) -> None:
    broken = True

    async def fail(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        query = request.parameters
        matches = query.get("touchpointId") == "tp-1" and int(query["offset"]) >= 76
        return {"statusCode": 500, "message": "no"} if matches and broken else payload

    fake.intercept = fail
    with pytest.raises(FanOutError, match="1 of 3 touchpoints failed") as caught:
        await export(client, folder, prefetch=1)

    failure = caught.value.failures["tp-1"]
    assert isinstance(failure, ServerError)
    assert failure.next_offset == 77
    assert caught.value.started == 3
    assert rows_of(folder) == expected({**VISITS, "tp-1": VISITS["tp-1"][:77]})
    broken = False
    fake.requests.clear()
    await export(client, folder, prefetch=1)
    assert rows_of(folder) == expected()
    assert offsets(fake, "tp-1") == [74, 93, 112]


async def test_failing_touchpoints_do_not_stop_the_others(
    client: DistinctClient, folder: Path
) -> None:
    partition = folder / "visits_type=TOTAL" / "touchpoint_id=tp-3"
    partition.mkdir(parents=True)
    (partition / "visits-000000000003-4.csv").touch()

    with pytest.raises(FanOutError, match="3 of 5 touchpoints failed") as caught:
        await export(client, folder, ["tp-gone", "tp-3", "tp-2", "tp-1", ""], concurrency=2)

    assert failure_types(caught) == {
        "tp-gone": NotFoundError,
        "tp-3": ExportError,
        "": ConfigurationError,
    }
    assert all(error.__traceback__ is None for error in caught.value.exceptions)
    assert len(parts_of(folder)) == 4
    assert [row[3] for row in rows_of(folder / "visits_type=TOTAL" / "touchpoint_id=tp-1")] == [
        *range(130)
    ]


async def test_a_fatal_error_stops_the_export(
    client: DistinctClient, fake: FakeDistinct, folder: Path
) -> None:
    fake.api_key = "another"

    with pytest.raises(FanOutError, match="2 of 2 touchpoints failed; no more were") as caught:
        await export(client, folder, [f"tp-{i}" for i in range(100)], concurrency=2)

    assert set(failure_types(caught).values()) == {AuthenticationError}
    assert caught.value.started == 2
    with pytest.raises(AuthenticationError):
        await export(client, folder)


async def test_a_full_disk_stops_the_export(
    client: DistinctClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", fail)
        with pytest.raises(FanOutError, match="1 of 1 touchpoints failed; no more") as caught:
            await export(client, folder, ["tp-1", "tp-3"], concurrency=1)

    assert "No space left on device" in str(caught.value.failures["tp-1"])
    assert not folder.parent.exists()
    await export(client, folder)
    assert rows_of(folder) == expected()


async def test_a_destination_that_cannot_be_created_is_an_export_error(
    client: DistinctClient, folder: Path
) -> None:
    folder.parent.mkdir()
    folder.touch()

    with pytest.raises(ExportError, match="File exists"):
        await export(client, folder)


async def test_an_unknown_experience_raises_not_found(client: DistinctClient, folder: Path) -> None:
    with pytest.raises(NotFoundError):
        await export(client, folder, "exp-gone")
    assert not folder.parent.exists()


@pytest.mark.parametrize("ours", ["some", "some/where"])
async def test_a_failed_export_removes_only_the_folders_it_created(
    client: DistinctClient, folder: Path, tmp_path: Path, ours: str
) -> None:
    (tmp_path / ours).mkdir(parents=True)
    before = files_of(tmp_path).keys()

    for touchpoints in ("exp-gone", ["tp-gone", ""], [7]):
        with pytest.raises((NotFoundError, FanOutError, ConfigurationError)):
            await export(client, folder, touchpoints)
        assert files_of(tmp_path).keys() == before


async def test_an_export_cancelled_during_the_listing_leaves_no_folder(
    client: DistinctClient, fake: FakeDistinct, folder: Path
) -> None:
    released = asyncio.Event()

    async def hold(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        await released.wait()
        return payload

    fake.intercept = hold
    running = asyncio.create_task(export(client, folder))
    await eventually(lambda: fake.requests)
    assert folder.is_dir()
    running.cancel()
    await asyncio.wait([running])
    released.set()

    assert running.cancelled()
    assert not folder.parent.exists()


async def test_a_listing_that_fails_midway_is_raised_itself_and_leaves_no_folder(
    client: DistinctClient, fake: FakeDistinct, folder: Path
) -> None:
    async def fail(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        if int(request.parameters.get("offset", 0)):
            fake.api_key = "another"
            payload = {"statusCode": 401, "message": "revoked"}
        return payload

    for number in range(60):
        fake.add_touchpoint(f"more-{number}")
    fake.page_touchpoints = True
    fake.intercept = fail

    with pytest.raises(AuthenticationError, match="the server answered 401: revoked"):
        await export(client, folder)
    assert not folder.parent.exists()


@pytest.mark.parametrize("file_format", get_args(FileFormat))
async def test_an_export_without_touchpoints_has_a_summary(
    client: DistinctClient, folder: Path, file_format: FileFormat
) -> None:
    for _ in range(2):
        done = await export(client, folder, [], format=file_format)

        assert done == ExportProgress()
        assert [*files_of(folder)] == [f"touchpoints.{file_format}"]
    assert summarize(folder).touchpoints == ()
    assert summarize(folder, visits_type="UNIQUE").visits_type is VisitsType.UNIQUE


async def test_touchpoints_can_come_from_any_iterable_and_are_exported_once(
    client: DistinctClient, folder: Path
) -> None:
    async def ids() -> AsyncIterator[str]:
        for touchpoint_id in ("tp-1", "tp-1", "tp-2", "tp-3"):
            yield touchpoint_id

    def some() -> Iterator[str]:
        yield from ("tp-3", "tp-1")

    listed = await client.touchpoints("exp-1").collect()
    sources = [ids(), some(), {"tp-1": 0}, listed, client.touchpoints("exp-1"), iter([])]
    for number, source in enumerate(sources):
        await export(client, folder / str(number), source)

    assert [len(rows_of(folder / str(number))) for number in range(6)] == [
        175,
        175,
        130,
        175,
        175,
        0,
    ]
    rows = find_format("csv").read_touchpoints(folder / "0" / "touchpoints.csv")
    assert [(row.name, row.total_visits, row.unique_visits) for row in rows] == [
        ("Door 1", 130, None),
        ("Door 2", 0, None),
        ("Door 3", 45, None),
    ]


async def test_queries_are_scoped_to_the_experience_if_one_is_given(
    client: DistinctClient, fake: FakeDistinct, folder: Path
) -> None:
    await export(client, folder, "exp-1")
    await export(client, folder, ["tp-1"], experience_id="exp-1")
    assert {request.parameters["experienceId"] for request in fake.requests} == {"exp-1"}

    fake.requests.clear()
    await export(client, folder, ["tp-1"])
    assert "experienceId" not in fake.requests[0].parameters


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"format": "xlsx"}, "format must be one of"),
        ({"visits_type": "SOME"}, "visits_type must be TOTAL or UNIQUE, got 'SOME'"),
        ({"visits_type": None}, "visits_type must be"),
        ({"shard": (0, 2)}, "shard must be at least 1"),
        ({"shard": (3, 2)}, "index from 1 to the count, got 3 of 2"),
        ({"shard": (1,)}, "shard must be two integers"),
        ({"shard": "1/2"}, "shard must be two integers"),
        ({"shard": (1.0, 2)}, "shard must be an integer"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"concurrency": True}, "concurrency must be an integer"),
        ({"rows_per_part": 0}, "rows_per_part must be"),
        ({"page_size": 0}, "page_size must be at least 1"),
        ({"prefetch": 0}, "prefetch must be at least 1"),
        ({"concurrency": 10**400}, "concurrency must be at most"),
        ({"rows_per_part": 2**63}, "rows_per_part must be at most"),
        ({"page_size": 2**63}, "page_size must be at most"),
        ({"prefetch": 10**5000}, "prefetch must be at most"),
        ({"shard": (1, 2**63)}, "shard must be at most"),
        ({"progress": "x"}, "progress must be callable, got str"),
        ({"progress": 0}, "progress must be callable, got int"),
        ({"format": 10**5000}, "format must be one of .*, got a huge int"),
        ({"destination": "a\0b"}, "destination must be"),
        ({"destination": ""}, "destination must be"),
        ({"destination": b"x"}, "destination must be"),
        ({"destination": None}, "destination must be"),
        ({"touchpoints": 7}, "touchpoints must be an experience's id or .*, got int"),
        ({"touchpoints": b"tp-1"}, "touchpoints must be .* got bytes"),
        ({"touchpoints": [7]}, "touchpoints must yield ids or TouchpointSummary values, got int"),
        ({"touchpoints": ""}, "experience_id must not be empty"),
        ({"experience_id": "exp-2"}, "experience_id must be omitted or equal to touchpoints"),
    ],
)
async def test_unusable_arguments_are_rejected_before_any_request(
    client: DistinctClient, fake: FakeDistinct, folder: Path, options: dict[str, Any], problem: str
) -> None:
    arguments: dict[str, Any] = {"touchpoints": "exp-1", "destination": folder} | options

    with pytest.raises(ConfigurationError, match=problem):
        await export_visits(client, **arguments)
    assert not fake.requests
    assert not folder.parent.exists()


def test_export_options_are_all_options_of_export_visits_but_progress() -> None:
    parameters = inspect.signature(export_visits).parameters.values()
    options = {each.name: each.annotation for each in parameters if each.kind is each.KEYWORD_ONLY}
    del options["progress"]

    assert ExportOptions.__annotations__ == options


async def test_duckdb_polars_and_pandas_read_the_folder_as_one_dataset(
    client: DistinctClient, fake: FakeDistinct, folder: Path
) -> None:
    fake.add_touchpoint("a/b c%=é", visits=VISITS["tp-3"][:3])
    await export(client, folder, format="parquet")
    root, ids = folder / "visits_type=TOTAL", ["a/b c%=é"] * 3 + ["tp-1"] * 130 + ["tp-3"] * 45
    query = f"select touchpoint_id from read_parquet('{root}/**/*.parquet', hive_partitioning=true)"

    found: Any = duckdb.sql(query)
    frames: list[Any] = [
        pl.scan_parquet(root).collect(),
        pl.read_parquet(root / "**/*.parquet", hive_partitioning=True),
        pd.read_parquet(root),
        pd.read_parquet(root, partitioning=None),
    ]
    assert sorted(row[0] for row in found.fetchall()) == ids
    for frame in frames:
        assert sorted(frame["touchpoint_id"]) == ids
        assert {"user_id", "timestamp", "offset"} <= set(frame.columns)


# --- Shards


def test_the_shard_of_an_id_never_changes() -> None:
    shards = [
        [index for index in range(1, 9) if is_in_shard(touchpoint_id, (index, 8))]
        for touchpoint_id in ("tp-1", "tp-2", "tp-3", "é", "\ud800")
    ]
    assert shards == [[6], [4], [2], [4], [5]]


async def test_shards_are_disjoint_and_cover_all_touchpoints(
    client: DistinctClient, fake: FakeDistinct, folder: Path
) -> None:
    ids = [f"many-{i}" for i in range(40)]
    for touchpoint_id in ids:
        fake.add_touchpoint(touchpoint_id, experience_id="exp-2", visits=VISITS["tp-3"][:3])
    for index in (1, 2, 3):
        await export(client, folder / "apart" / str(index), "exp-2", shard=(index, 3))
    async with asyncio.TaskGroup() as group:
        for index in (1, 2, 3):
            group.create_task(export(client, folder / "together", "exp-2", shard=(index, 3)))

    apart = [rows_of(folder / "apart" / str(index)) for index in (1, 2, 3)]
    assert all(len(rows) > 15 for rows in apart)
    whole = expected(dict.fromkeys(ids, VISITS["tp-3"][:3]))
    assert sorted(row for rows in apart for row in rows) == sorted(whole)
    assert rows_of(folder / "together") == sorted(whole, key=lambda row: (row[0], row[3]))
    names = sorted(path.name for path in (folder / "together").glob("touchpoints*"))
    assert names == [f"touchpoints-{index}-of-3.csv" for index in (1, 2, 3)]


# --- Progress


async def test_progress_is_reported_after_every_page(client: DistinctClient, folder: Path) -> None:
    states: list[ExportProgress] = []

    last = await export(client, folder, progress=states.append)

    assert states[0] == ExportProgress(touchpoints=3, visits=175)
    assert states[-1] == last
    for before, after in pairwise(states):
        assert before.visits_fetched <= after.visits_fetched <= after.visits
        assert before.touchpoints_done <= after.touchpoints_done
    assert len({state.visits_fetched for state in states}) > 5


async def test_progress_counts_only_this_runs_retries_and_failures(
    fake: FakeDistinct, clock: FakeClock, folder: Path
) -> None:
    states: list[ExportProgress] = []
    fake.fail_next(503, times=3)
    async with fake.client(runtime=clock.runtime) as client:
        await client.experience_metrics("exp-1")
        assert client.stats.retries == 3
        fake.fail_next(503, times=2)
        with pytest.raises(FanOutError):
            await export(client, folder, ["tp-1", "tp-gone"], progress=states.append)

    assert (states[-1].retries, states[-1].touchpoints_failed) == (2, 1)
    assert states[-1].touchpoints_done == 1
    assert states[0].visits == 0
    assert states[-1].visits == 130


async def test_an_error_of_the_callback_stops_the_export_and_keeps_its_visits(
    client: DistinctClient, folder: Path
) -> None:
    def stop(progress: ExportProgress) -> None:
        if progress.visits_fetched >= 60:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        await export(client, folder, progress=stop)

    rows = rows_of(folder)
    assert len(rows) >= 60
    assert not list(folder.rglob(".*"))
    await export(client, folder)
    assert rows_of(folder) == expected()


# --- Interruptions


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
async def test_an_export_cancelled_at_any_point_keeps_its_visits(
    fake: FakeDistinct, folder: Path, file_format: FileFormat
) -> None:
    before = own_tasks()
    async with fake.client() as client:
        for turns in range(0, 120, 4):
            task = asyncio.create_task(export(client, folder, format=file_format))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(done[0], asyncio.CancelledError | ExportProgress)
            assert own_tasks() == before
            assert not list(folder.rglob(".visits*"))
            rows = rows_of(folder)
            assert set(rows) <= set(expected())
        await export(client, folder, format=file_format)

    assert rows_of(folder) == expected()


async def test_an_export_cancelled_twice_leaves_no_temporary_file(
    client: DistinctClient, fake: FakeDistinct, folder: Path
) -> None:
    before = own_tasks()
    task = asyncio.create_task(export(client, folder))
    await eventually(lambda: offsets(fake, "tp-1"))
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not list(folder.rglob(".visits*")))
    await eventually(lambda: own_tasks() == before)
    for partition in folder.glob("*/*"):
        FolderLock(partition).release()


async def test_cancellation_waits_for_the_part_being_written(
    fake: FakeDistinct, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, released, sync = threading.Event(), threading.Event(), os.fsync

    def hold(descriptor: int) -> None:
        reached.set()
        released.wait()
        sync(descriptor)

    monkeypatch.setattr("os.fsync", hold)
    async with fake.client() as client:
        task = asyncio.create_task(export(client, folder, ["tp-1"], rows_per_part=10))
        await asyncio.to_thread(reached.wait)
        for _ in range(20):
            task.cancel()
            await asyncio.sleep(0)
        waits = not task.done()
        released.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert waits
    assert not list(folder.rglob(".visits*"))
    assert rows_of(folder) == expected({"tp-1": VISITS["tp-1"][: len(rows_of(folder))]})
    assert rows_of(folder)


async def test_cancellation_takes_precedence_over_a_failing_disk(
    fake: FakeDistinct, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fail(_: int) -> None:
        loop.call_soon_threadsafe(reached.set)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    async with fake.client() as client:
        task = asyncio.create_task(export(client, folder, rows_per_part=10))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert not [path for path in folder.rglob("*") if path.is_file()]


async def test_closing_the_client_fails_the_export_but_keeps_its_visits(
    fake: FakeDistinct, folder: Path
) -> None:
    async with fake.client(retry=ONCE) as client:
        task = asyncio.create_task(export(client, folder))
        await eventually(lambda: len(offsets(fake, "tp-1")) > 2)
        await client.aclose()
        with pytest.raises(FanOutError, match="failed"):
            await task

    assert not list(folder.rglob(".visits*"))
    async with fake.client() as client:
        await export(client, folder)
    assert rows_of(folder) == expected()


async def test_visits_appended_during_the_export_are_exported(
    client: DistinctClient, fake: FakeDistinct, folder: Path
) -> None:
    grown = [Visit("late", START + timedelta(days=1, seconds=i)) for i in range(30)]

    async def grow(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        if request.parameters.get("offset") == "38" and grown:
            for visit in grown:
                fake.scan("tp-1", visit.user_id, visit.timestamp)
            fake.intercept = None
        return payload

    fake.intercept = grow
    done = await export(client, folder, ["tp-1"])

    assert rows_of(folder) == expected({"tp-1": VISITS["tp-1"] + grown})
    assert done.visits == done.visits_fetched == 160


async def test_pages_can_be_larger_than_parts(client: DistinctClient, folder: Path) -> None:
    done = await export(client, folder, rows_per_part=7, page_size=1_000)

    assert rows_of(folder) == expected()
    assert done.parts_written == len(parts_of(folder)) == 19 + 7


async def test_the_defaults_export_all_scans_as_parquet(
    client: DistinctClient, folder: Path
) -> None:
    async with aclosing(client.total_visits("tp-1").pages()) as pages:
        assert (await anext(pages)).visits_type is VisitsType.TOTAL
    await export_visits(client, "exp-1", str(folder))

    assert rows_of(folder) == expected()
    assert all(part.endswith(".parquet") for part in parts_of(folder))
