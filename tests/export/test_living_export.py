"""Exports of lists that change: a run ends well only if the files equal the list.

After each change, two more runs follow: none of them may end well, or write, while they differ.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from distinct_async import (
    DistinctClient,
    DistinctError,
    ExportError,
    FanOutError,
    ListChangedError,
    ServerError,
    Visit,
)
from distinct_async.export import ExportProgress, export_visits
from distinct_async.testing import FakeDistinct
from tests.support.exported import files_of, parts_of, rows_from, rows_of
from tests.support.helpers import ONCE
from tests.support.list_server import START
from tests.support.living_server import Beyond, LivingServer

Change: TypeAlias = Callable[[list[Visit]], list[Visit]]


def visits(name: str, count: int) -> list[Visit]:
    return [Visit(f"{name}-{i}", START + timedelta(minutes=i)) for i in range(count)]


COUNT = 130
# The bisection takes eight requests; the walk searches for its place with a few.
MOST_REQUESTS = 30
NEW = visits("new", 5)
LATE = Visit("late", START + timedelta(minutes=60, seconds=1))

FORMATS = [
    ("parquet", "TOTAL"),
    ("csv", "TOTAL"),
    ("jsonl.gz", "UNIQUE"),
]
each_format = pytest.mark.parametrize(("file_format", "kind"), FORMATS)


@pytest.fixture
def living(fake: FakeDistinct) -> LivingServer:
    server = LivingServer({"tp-1": visits("user", COUNT), "tp-2": visits("user", 45)})
    server.serve_on(fake)
    return server


@pytest.fixture
async def client(fake: FakeDistinct) -> AsyncIterator[DistinctClient]:
    async with fake.client(retry=ONCE) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "visits"


async def export(client: DistinctClient, folder: Path, **options: Any) -> ExportProgress:
    small: dict[str, Any] = {"rows_per_part": 50, "page_size": 20, "format": "csv"}
    return await export_visits(client, ["tp-1", "tp-2"], folder, **(small | options))


async def failure_of(client: DistinctClient, folder: Path, **options: Any) -> DistinctError | None:
    """Run an export in which at most tp-1 fails; return why it did."""
    try:
        await export(client, folder, **options)
    except FanOutError as error:
        (failure,) = error.exceptions
        assert isinstance(failure, DistinctError)
        assert failure.touchpoint_id == "tp-1"
        return failure
    return None


def parts_folder(folder: Path, kind: str = "TOTAL") -> Path:
    return folder / f"visits_type={kind}" / "touchpoint_id=tp-1"


def is_exported(living: LivingServer, folder: Path, kind: str = "TOTAL") -> bool:
    return rows_of(parts_folder(folder, kind)) == rows_from("tp-1", living.lists["tp-1"])


def is_comparison(request: tuple[str, int, int]) -> bool:
    """Return whether a request asks for a single visit of tp-1."""
    touchpoint_id, _, size = request
    return (touchpoint_id, size) == ("tp-1", 1)


# --- Changes between two runs

# Each with the first offset whose visit it changes.
CHANGES: dict[str, tuple[Change, int]] = {
    "one inserted at the start": (lambda x: [LATE, *x], 0),
    "one inserted in the middle": (lambda x: [*x[:61], LATE, *x[61:]], 61),
    "one inserted before the last": (lambda x: [*x[:129], LATE, *x[129:]], 129),
    "a page inserted at the start": (lambda x: [*visits("new", 20), *x], 0),
    "one deleted": (lambda x: x[:10] + x[11:], 10),
    "the first deleted": (lambda x: x[1:], 0),
    "one deleted and one appended": (lambda x: x[:10] + x[11:] + NEW[:1], 10),
    "one deleted and five appended": (lambda x: x[:10] + x[11:] + NEW, 10),
    "the last deleted": (lambda x: x[:129], 129),
    "the last deleted and one appended": (lambda x: x[:129] + NEW[:1], 129),
    "truncated": (lambda x: x[:100], 100),
    "emptied": (lambda _: [], 0),
    "reversed": (lambda x: x[::-1], 0),
    "replaced": (lambda _: visits("new", 200), 0),
}
each_change = pytest.mark.parametrize(("change", "offset"), CHANGES.values(), ids=CHANGES)


@each_format
@each_change
async def test_a_change_between_two_runs_is_found_by_every_later_run(
    client: DistinctClient,
    living: LivingServer,
    folder: Path,
    change: Change,
    offset: int,
    file_format: str,
    kind: str,
) -> None:
    options = {"format": file_format, "visits_type": kind}
    exported = list(living.lists["tp-1"])
    assert await failure_of(client, folder, **options) is None
    before = files_of(parts_folder(folder, kind))
    living.lists["tp-1"] = change(living.lists["tp-1"])
    for _ in range(3):
        living.lists["tp-2"] += visits(f"more-{len(living.lists['tp-2'])}", 7)
        living.requests.clear()

        failure = await failure_of(client, folder, **options)

        assert isinstance(failure, ListChangedError)
        assert (failure.offset, failure.moment) == (offset, exported[offset].timestamp)
        assert f"from offset {offset} on (2024-01-01T" in str(failure)
        assert str(failure.args[0]).endswith("; no visits were written")
        assert (failure.next_offset, failure.resume_point) == (None, None)
        assert len(living.offsets("tp-1")) <= MOST_REQUESTS
        assert files_of(parts_folder(folder, kind)) == before
        others = rows_of(parts_folder(folder, kind).with_name("touchpoint_id=tp-2"))
        assert others == rows_from("tp-2", living.lists["tp-2"])


@pytest.mark.parametrize("beyond", ["empty", "clamped", 400, 404, 416])
@pytest.mark.parametrize("count", [129, 100, 50, 1, 0])
async def test_a_truncated_list_is_found_however_its_end_is_answered(
    client: DistinctClient, living: LivingServer, folder: Path, count: int, beyond: Beyond
) -> None:
    living.beyond = beyond
    await export(client, folder)
    before = files_of(parts_folder(folder))
    del living.lists["tp-1"][count:]
    for _ in range(3):
        living.requests.clear()
        failure = await failure_of(client, folder)

        assert isinstance(failure, ListChangedError)
        assert failure.offset == count
        assert len(living.offsets("tp-1")) <= MOST_REQUESTS
        assert files_of(parts_folder(folder)) == before


@each_format
@pytest.mark.parametrize("beyond", ["empty", "clamped", 400, 404, 416])
async def test_a_run_with_nothing_new_takes_one_request_however_the_end_is_answered(
    client: DistinctClient,
    living: LivingServer,
    folder: Path,
    beyond: Beyond,
    file_format: str,
    kind: str,
) -> None:
    options = {"format": file_format, "visits_type": kind}
    living.beyond = beyond
    await export(client, folder, **options)
    before = files_of(folder)
    for page_size in (1, 20, 1_000):
        living.requests.clear()
        done = await export(client, folder, **options, page_size=page_size)

        assert (len(living.offsets("tp-1")), len(living.offsets("tp-2"))) == (1, 1)
        assert (done.touchpoints_done, done.visits_found, done.visits_fetched) == (2, 175, 0)
        assert files_of(folder) == before


@pytest.mark.parametrize("beyond", ["empty", "clamped", 400, 404, 416])
async def test_appended_visits_are_exported_however_the_end_is_answered(
    client: DistinctClient, living: LivingServer, folder: Path, beyond: Beyond
) -> None:
    living.beyond = beyond
    for _ in range(4):
        done = await export(client, folder)

        assert is_exported(living, folder)
        living.lists["tp-1"] += visits(f"more-{done.visits_found}", 19)


async def test_an_export_is_mended_by_deleting_the_parts_that_differ(
    client: DistinctClient, living: LivingServer, folder: Path
) -> None:
    await export(client, folder)
    living.lists["tp-1"].insert(61, LATE)
    failure = await failure_of(client, folder)
    assert isinstance(failure, ListChangedError)
    assert failure.offset == 61
    for part in parts_of(parts_folder(folder))[1:]:
        (parts_folder(folder) / part).unlink()

    assert await failure_of(client, folder) is None
    assert is_exported(living, folder)


# --- Changes after a run that failed


@each_format
@each_change
async def test_a_run_after_a_failed_one_does_not_heal_into_a_hole(
    client: DistinctClient,
    living: LivingServer,
    folder: Path,
    change: Change,
    offset: int,
    file_format: str,
    kind: str,
) -> None:
    options = {"format": file_format, "visits_type": kind}
    living.fails_from = 76
    assert isinstance(await failure_of(client, folder, **options), ServerError)
    living.fails_from = None
    stored, before = len(rows_of(parts_folder(folder, kind))), files_of(parts_folder(folder, kind))
    assert 70 < stored < 80
    living.lists["tp-1"] = change(living.lists["tp-1"])
    for _ in range(3):
        failure = await failure_of(client, folder, **options)

        if offset >= stored:
            assert failure is None
            assert is_exported(living, folder, kind)
        else:
            assert isinstance(failure, ListChangedError)
            assert failure.offset == offset
            assert files_of(parts_folder(folder, kind)) == before


# --- Changes during a run


def change_at(living: LivingServer, number: int, change: Change) -> None:
    """Change the list of tp-1 just before the nth request for it from now on is answered."""
    number += len(living.offsets("tp-1"))

    def before(touchpoint_id: str, count: int) -> None:
        if touchpoint_id == "tp-1" and count == number:
            living.lists["tp-1"] = change(living.lists["tp-1"])

    living.before = before


@each_change
@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("number", [2, 4, 7])
@pytest.mark.parametrize("stored", [0, 45])
async def test_a_change_during_a_run_is_no_hole_in_it_or_later(
    client: DistinctClient,
    living: LivingServer,
    folder: Path,
    change: Change,
    offset: int,
    prefetch: int,
    number: int,
    stored: int,
) -> None:
    original = living.lists["tp-1"]
    living.lists["tp-1"] = original[:stored]
    await export(client, folder)
    living.lists["tp-1"] = list(original)
    change_at(living, number, change)
    failure = await failure_of(client, folder, prefetch=prefetch)
    for _ in range(2):
        assert not list(folder.rglob(".*"))
        if failure is None:
            assert is_exported(living, folder)
        else:
            # What is stored has the offsets that it had before the change.
            assert isinstance(failure, ListChangedError)
            rows = rows_of(parts_folder(folder))
            assert rows == rows_from("tp-1", original[: len(rows)])
        before = files_of(parts_folder(folder))

        failure = await failure_of(client, folder, prefetch=prefetch)

        if failure is not None:
            assert isinstance(failure, ListChangedError)
            assert failure.offset == offset
            assert files_of(parts_folder(folder)) == before


@each_format
@pytest.mark.parametrize("prefetch", [1, 4])
async def test_visits_that_no_part_has_are_discarded_if_the_list_shifts(
    client: DistinctClient,
    living: LivingServer,
    folder: Path,
    prefetch: int,
    file_format: str,
    kind: str,
) -> None:
    options = {"format": file_format, "visits_type": kind, "prefetch": prefetch}
    exported, states = list(living.lists["tp-1"]), list[ExportProgress]()
    change_at(living, 5, CHANGES["one inserted at the start"][0])

    failure = await failure_of(client, folder, **options, progress=states.append)

    # The first four pages have 77 visits, and the first part has 50 of them.
    assert isinstance(failure, ListChangedError)
    assert failure.args[0] == (
        "the list shifted by +1 during the export; discarded 27 visits that no part had yet"
    )
    assert (failure.offset, failure.moment) == (None, None)
    assert rows_of(parts_folder(folder, kind)) == rows_from("tp-1", exported[:50])
    assert (states[-1].visits_fetched, states[-1].parts_written) == (50 + 45, 2)
    before = files_of(parts_folder(folder, kind))
    for _ in range(2):
        failure = await failure_of(client, folder, **options)
        assert isinstance(failure, ListChangedError)
        assert failure.offset == 0
        assert files_of(parts_folder(folder, kind)) == before


async def test_a_run_that_has_proven_its_place_compares_nothing(
    client: DistinctClient, living: LivingServer, folder: Path
) -> None:
    whole = living.lists["tp-1"]
    living.lists["tp-1"] = whole[:45]
    await export(client, folder)
    living.lists["tp-1"] = whole
    change_at(living, 3, CHANGES["one inserted at the start"][0])

    failure = await failure_of(client, folder)

    assert isinstance(failure, ListChangedError)
    assert "the list shifted by +1 during the export; discarded 36" in str(failure)
    assert not any(map(is_comparison, living.requests))
    assert rows_of(parts_folder(folder)) == rows_from("tp-1", whole[:45])


@pytest.mark.parametrize("change", [CHANGES["reversed"][0], CHANGES["replaced"][0]])
async def test_visits_that_no_part_has_are_discarded_if_the_place_is_lost(
    client: DistinctClient, living: LivingServer, folder: Path, change: Change
) -> None:
    exported = list(living.lists["tp-1"])
    change_at(living, 5, change)

    failure = await failure_of(client, folder, prefetch=1)

    assert isinstance(failure, ListChangedError)
    assert str(failure.args[0]).endswith("; discarded 27 visits that no part had yet")
    assert rows_of(parts_folder(folder)) == rows_from("tp-1", exported[:50])


async def test_the_next_run_completes_an_export_that_shifted_after_its_parts(
    client: DistinctClient, living: LivingServer, folder: Path
) -> None:
    change_at(living, 5, CHANGES["one inserted in the middle"][0])
    assert isinstance(await failure_of(client, folder), ListChangedError)
    assert len(rows_of(parts_folder(folder))) == 50

    assert await failure_of(client, folder) is None
    assert is_exported(living, folder)


@pytest.mark.parametrize(
    "change", [CHANGES["truncated"][0], CHANGES["one inserted before the last"][0]]
)
async def test_a_change_ahead_of_a_run_is_exported(
    client: DistinctClient, living: LivingServer, folder: Path, change: Change
) -> None:
    change_at(living, 3, change)

    assert await failure_of(client, folder) is None
    assert is_exported(living, folder)


async def test_a_shift_with_every_visit_in_a_part_discards_nothing(
    client: DistinctClient, living: LivingServer, folder: Path
) -> None:
    change_at(living, 5, CHANGES["one inserted at the start"][0])

    failure = await failure_of(client, folder, rows_per_part=1)

    assert isinstance(failure, ListChangedError)
    assert failure.args[0] == "the list shifted by +1 during the export"
    assert len(rows_of(parts_folder(folder))) == 77


async def test_an_export_cancelled_at_a_shift_discards_the_visits_too(
    client: DistinctClient, living: LivingServer, folder: Path
) -> None:
    fetched = 0

    def cancel(progress: ExportProgress) -> None:
        nonlocal fetched
        if progress.visits_fetched < fetched:
            export_task.cancel()
        fetched = progress.visits_fetched

    change_at(living, 5, CHANGES["one inserted at the start"][0])
    export_task = asyncio.create_task(export(client, folder, progress=cancel))
    with pytest.raises(asyncio.CancelledError):
        await export_task

    assert len(rows_of(parts_folder(folder))) == 50
    assert not list(folder.rglob(".*"))


# --- Comparisons that find no difference, or fail


async def test_a_list_that_shifts_back_during_the_comparison_fails_the_run_alone(
    client: DistinctClient, living: LivingServer, folder: Path
) -> None:
    await export(client, folder)
    before, exported = files_of(parts_folder(folder)), list(living.lists["tp-1"])
    living.lists["tp-1"].insert(0, LATE)

    def shift_back(*_: object) -> None:
        if is_comparison(living.requests[-1]):
            living.lists["tp-1"] = exported

    living.before = shift_back
    failure = await failure_of(client, folder)

    assert isinstance(failure, ListChangedError)
    assert failure.args[0] == "the list shifted by +1 during the export"
    assert files_of(parts_folder(folder)) == before
    assert await failure_of(client, folder) is None
    assert rows_of(parts_folder(folder)) == rows_from("tp-1", exported)


async def test_a_comparison_that_fails_is_made_again_by_the_next_run(
    client: DistinctClient, living: LivingServer, folder: Path
) -> None:
    await export(client, folder)
    before = files_of(parts_folder(folder))
    living.lists["tp-1"].insert(100, LATE)

    def fail(*_: object) -> None:
        living.fails_from = 100 if is_comparison(living.requests[-1]) else None

    living.before = fail
    assert isinstance(await failure_of(client, folder), ServerError)
    assert files_of(parts_folder(folder)) == before
    living.fails_from, living.before = None, lambda *_: None

    failure = await failure_of(client, folder)
    assert isinstance(failure, ListChangedError)
    assert failure.offset == 100


@each_format
async def test_a_part_that_cannot_be_read_back_fails_its_touchpoint_alone(
    client: DistinctClient, living: LivingServer, folder: Path, file_format: str, kind: str
) -> None:
    options = {"format": file_format, "visits_type": kind}
    await export(client, folder, **options)
    (part,) = parts_folder(folder, kind).glob("visits-000000000100-*")
    part.write_bytes(part.read_bytes()[:-9])
    living.requests.clear()
    living.lists["tp-2"] += NEW

    failure = await failure_of(client, folder, **options)

    assert isinstance(failure, ExportError)
    assert failure.path == str(part)
    assert not living.offsets("tp-1")
    others = rows_of(parts_folder(folder, kind).with_name("touchpoint_id=tp-2"))
    assert others == rows_from("tp-2", living.lists["tp-2"])
