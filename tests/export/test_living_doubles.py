"""Exports of lists that change and have identical visits, such as double scans.

An identical visit stands where the one before it stood, so it alone proves no place.
"""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from distinct_async import DistinctClient, DistinctError, FanOutError, ListChangedError, Visit
from distinct_async.export import export_visits
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.support.exported import files_of, rows_from, rows_of
from tests.support.helpers import ONCE
from tests.support.list_server import START
from tests.support.living_server import LivingServer

Change: TypeAlias = Callable[[list[Visit]], list[Visit]]

VISITS = [Visit(f"user-{i}", START + timedelta(minutes=i)) for i in range(40)]
NEW = Visit("new", START + timedelta(seconds=1))
# The walk's search for its place, the bisection, and one look per identical visit.
MOST_REQUESTS = 30


@pytest.fixture
def living(fake: FakeDistinct) -> LivingServer:
    server = LivingServer({"tp-1": list(VISITS)})
    server.serve_on(fake)
    return server


@pytest.fixture
async def client(fake: FakeDistinct) -> AsyncIterator[DistinctClient]:
    async with fake.client(retry=ONCE) as client:
        yield client


async def failure_of(client: DistinctClient, folder: Path, **options: Any) -> DistinctError | None:
    """Run an export and return why it failed."""
    small: dict[str, Any] = {"rows_per_part": 30, "page_size": 20, "format": "csv"}
    try:
        await export_visits(client, ["tp-1"], folder, **(small | options))
    except FanOutError as error:
        return error.failures["tp-1"]
    return None


def is_exported(living: LivingServer, folder: Path) -> bool:
    return rows_of(folder) == rows_from("tp-1", living.lists["tp-1"])


def first_difference(before: list[Visit], after: list[Visit]) -> int:
    return next((i for i, pair in enumerate(zip(before, after, strict=False)) if len({*pair}) == 2))


async def assert_refused(
    client: DistinctClient, living: LivingServer, folder: Path, change: Change, **options: Any
) -> None:
    """Export, change the list, and check that the next three runs say where it differs."""
    assert await failure_of(client, folder, **options) is None
    exported, before = living.lists["tp-1"], files_of(folder)
    living.lists["tp-1"] = change(exported)
    offset = first_difference(exported, living.lists["tp-1"])
    for _ in range(3):
        living.requests.clear()
        failure = await failure_of(client, folder, **options)

        assert isinstance(failure, ListChangedError)
        assert (failure.offset, failure.moment) == (offset, exported[offset].timestamp)
        assert len(living.requests) <= MOST_REQUESTS
        assert files_of(folder) == before


# --- Identical visits at the end of the stored ones

CHANGES: dict[str, Change] = {
    "inserted": lambda x: [NEW, *x],
    "deleted": lambda x: x[:5] + x[6:],
    "deleted and an identical one appended": lambda x: [*x[:5], *x[6:], x[-1]],
}
each_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@each_change
@pytest.mark.parametrize(("file_format", "identical"), [("csv", 1), ("csv", 5), ("parquet", 2)])
async def test_a_shift_before_identical_visits_is_found_by_every_later_run(
    client: DistinctClient,
    living: LivingServer,
    tmp_path: Path,
    change: Change,
    file_format: str,
    identical: int,
) -> None:
    living.lists["tp-1"] = VISITS + [VISITS[-1]] * (identical - 1)

    await assert_refused(client, living, tmp_path, change, format=file_format)


@each_change
async def test_a_shift_before_identical_visits_in_two_parts_is_found(
    client: DistinctClient, living: LivingServer, tmp_path: Path, change: Change
) -> None:
    living.lists["tp-1"] = [*VISITS, VISITS[-1]]

    await assert_refused(client, living, tmp_path, change, rows_per_part=20)


@pytest.mark.parametrize("identical", [1, 5])
async def test_an_identical_visit_that_is_appended_is_exported(
    client: DistinctClient, living: LivingServer, tmp_path: Path, identical: int
) -> None:
    living.lists["tp-1"] = VISITS + [VISITS[-1]] * (identical - 1)
    for _ in range(3):
        assert await failure_of(client, tmp_path) is None
        assert is_exported(living, tmp_path)
        living.lists["tp-1"].append(VISITS[-1])


# --- Identical visits where the bisection looks


# The bisection of 20 visits looks at offset 10 first.
@pytest.mark.parametrize("shift", ["insertion", "deletion"])
@pytest.mark.parametrize("first", [0, 9, 10, 16])
async def test_the_first_difference_is_found_beside_double_scans(
    client: DistinctClient, living: LivingServer, tmp_path: Path, shift: str, first: int
) -> None:
    visits = [*VISITS[: first + 1], *VISITS[first:19]]
    living.lists["tp-1"] = visits
    assert await failure_of(client, tmp_path) is None
    for place in {0, 1, first, 16}:
        rest = [NEW, *visits[place:]] if shift == "insertion" else visits[place + 1 :]
        living.lists["tp-1"] = visits[:place] + rest
        failure = await failure_of(client, tmp_path)

        assert isinstance(failure, ListChangedError)
        assert failure.offset == first_difference(visits, living.lists["tp-1"])


@pytest.mark.parametrize("count", [7, 39])
async def test_a_reversed_list_differs_from_its_first_visit(
    client: DistinctClient, living: LivingServer, tmp_path: Path, count: int
) -> None:
    living.lists["tp-1"] = VISITS[:count]

    await assert_refused(client, living, tmp_path, lambda x: x[::-1], rows_per_part=4)


# --- Changes during a run


@each_change
@pytest.mark.parametrize("first", [6, 7])
async def test_a_run_after_a_refused_one_does_not_heal_into_a_hole(
    client: DistinctClient, living: LivingServer, tmp_path: Path, change: Change, first: int
) -> None:
    # The first part, the only one that is written, ends with or within the double scan.
    original = [*VISITS[: first + 1], *VISITS[first:]]
    living.lists["tp-1"] = original

    def change_list(_: str, count: int) -> None:
        if count == 2:
            living.lists["tp-1"] = change(original)

    living.before = change_list
    for _ in range(3):
        failure = await failure_of(client, tmp_path, rows_per_part=8, page_size=10, prefetch=1)

        if failure is None:
            assert is_exported(living, tmp_path)
        else:
            assert isinstance(failure, ListChangedError)
            assert rows_of(tmp_path) == rows_from("tp-1", original[:8])


# --- Totals that are wrong


@pytest.mark.parametrize("count", [10, 14])
@pytest.mark.parametrize("prefetch", [1, 4])
async def test_a_full_last_page_is_read_on_if_the_total_is_too_low(
    client: DistinctClient,
    fake: FakeDistinct,
    living: LivingServer,
    tmp_path: Path,
    count: int,
    prefetch: int,
) -> None:
    living.lists["tp-1"] = VISITS[:count]
    answer: Any = fake.intercept

    async def understate(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        payload = await answer(request, payload)
        is_page_at_end = living.requests[-1] == ("tp-1", count - 6, 5)
        payload["data"]["touchpoints"]["totalVisits"] -= is_page_at_end
        return payload

    fake.intercept = understate

    assert await failure_of(client, tmp_path, page_size=5, prefetch=prefetch) is None
    assert is_exported(living, tmp_path)
    assert ("tp-1", count - 6, 5) in living.requests
