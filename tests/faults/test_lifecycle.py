"""Cancelling, closing and abandoning at any moment leaves nothing behind."""

import asyncio
import gc
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar

import pytest

from distinct_async import ClientClosedError, DistinctClient, Limits, Visit
from distinct_async.testing import FakeClock
from tests.support.faults import named
from tests.support.helpers import KEY, eventually, free_slots_on_raw, is_idle, shown_by, spin
from tests.support.raw_server import RawServer, hang, reply, reset
from tests.support.survival import VisitServer, page_body

T = TypeVar("T")

TRANSIENT_FAULTS = named("truncated gzip", "503", "429 with Retry-After")
ONE_VISIT = page_body("tp", 0, 1, total=1, page_size=50)


@types.coroutine
def cancelled_at(number: int, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run `work` in the current task, and cancel the task at its nth await.

    Raises:
        asyncio.CancelledError: The work has at least `number` awaits.
    """
    task = asyncio.current_task()
    assert task is not None
    thrown: BaseException | None = None
    while True:
        try:
            awaited = work.throw(thrown) if thrown else work.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        number -= 1
        if number == 0:
            task.cancel()
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001 - thrown into the work
            thrown = error
        else:
            thrown = None


async def was_cancelled(number: int, work: Coroutine[Any, Any, object]) -> bool:
    """Cancel `work` at its nth await, and return whether it has that many."""

    async def run() -> object:
        return await cancelled_at(number, work)

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if not task.cancelled():
        await task
        return False
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    # A cancellation inside the transport has the transport's frames in its traceback.
    assert KEY not in shown_by(caught.value)
    return True


async def count_awaits(trial: Callable[[int], Coroutine[Any, Any, bool]]) -> int:
    """Run the trial for the first await, the second and so on, and return their number."""
    for number in range(1, 500):
        if not await trial(number):
            return number - 1
    raise AssertionError("the work has no end")


def make_client(raw: RawServer, concurrency: int = 1) -> DistinctClient:
    runtime, limits = FakeClock().runtime, Limits(concurrency=concurrency)
    return DistinctClient(KEY, base_url=raw.url, limits=limits, runtime=runtime)


async def check_nothing_is_left(
    client: DistinctClient, raw: RawServer, before: set[asyncio.Task[Any]], concurrency: int
) -> None:
    """Check that all tasks are gone and that all slots of an open client are free."""
    assert is_idle(client)
    if not client.closed:
        assert await free_slots_on_raw(client, concurrency, raw) == concurrency
        assert is_idle(client)
    # The server's tasks end later, when they notice the closed connections.
    await eventually(lambda: asyncio.all_tasks() <= before | raw.tasks)


# --- Cancelling


async def test_a_call_cancelled_at_any_await_leaves_nothing(raw: RawServer) -> None:
    async def trial(number: int) -> bool:
        raw.play_only(reset)
        raw.play(*(fault.corrupt(ONE_VISIT) for fault in TRANSIENT_FAULTS), reply(ONE_VISIT))
        async with make_client(raw) as client:
            before = asyncio.all_tasks()
            cancelled = await was_cancelled(number, client.touchpoint_metrics("tp"))
            await check_nothing_is_left(client, raw, before, concurrency=1)
            raw.play_only(reply(ONE_VISIT))
            assert (await client.touchpoint_metrics("tp")).total == 1
            return cancelled

    # The call connects, awaits five responses and sleeps four times, in several awaits each.
    assert await count_awaits(trial) > 15


async def walk_one(client: DistinctClient) -> None:
    visits = await client.total_visits("tp", page_size=10, prefetch=4).collect()
    assert [visit.user_id for visit in visits] == [f"visit-{i}" for i in range(90)]


async def walk_across(client: DistinctClient) -> None:
    async def ids() -> AsyncGenerator[str, None]:
        for number in range(3):
            await asyncio.sleep(0)
            yield f"tp-{number}"

    visits: dict[str, list[str]] = {}
    async for page in client.pages_across(ids(), page_size=30, concurrency=2):
        users = visits.setdefault(page.touchpoint.id, [])
        users.extend(visit.user_id for visit in page.items)
    assert visits == {f"tp-{n}": [f"visit-{i}" for i in range(90)] for n in range(3)}


@pytest.mark.parametrize("walk", [walk_one, walk_across])
async def test_a_walk_cancelled_at_any_await_leaves_nothing(
    raw: RawServer, walk: Callable[[DistinctClient], Coroutine[Any, Any, None]]
) -> None:
    async def trial(number: int) -> bool:
        raw.play_only(VisitServer(90, seed=1, rate=0.2, faults=TRANSIENT_FAULTS))
        async with make_client(raw) as client:
            before = asyncio.all_tasks()
            cancelled = await was_cancelled(number, walk(client))
            await check_nothing_is_left(client, raw, before, concurrency=1)
            raw.play_only(VisitServer(90, seed=1, rate=0.2, faults=TRANSIENT_FAULTS))
            await walk(client)
            return cancelled

    # At most one await per page: a prefetched page needs none.
    assert 3 < await count_awaits(trial) < 20


@pytest.mark.parametrize("turns", range(0, 60, 3))
@pytest.mark.parametrize("walk", [walk_one, walk_across])
async def test_a_walk_cancelled_after_any_number_of_turns_leaves_nothing(
    raw: RawServer, turns: int, walk: Callable[[DistinctClient], Coroutine[Any, Any, None]]
) -> None:
    raw.play(VisitServer(900, seed=1, rate=0.2, faults=TRANSIENT_FAULTS))
    async with make_client(raw, concurrency=3) as client:
        before = asyncio.all_tasks()
        walking = asyncio.create_task(walk(client))
        await spin(turns)
        walking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await walking
        await check_nothing_is_left(client, raw, before, concurrency=3)


async def test_a_request_cancelled_while_waiting_for_the_rate_limit_frees_its_slot(
    raw: RawServer,
) -> None:
    raw.play(reply(ONE_VISIT))
    limits = Limits(concurrency=1, requests_per_second=0.001)
    async with DistinctClient(KEY, base_url=raw.url, limits=limits) as client:
        await client.touchpoint_metrics("tp")
        waiting = asyncio.create_task(client.touchpoint_metrics("tp"))
        await eventually(lambda: client.stats.waiting == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert is_idle(client)
        assert len(raw.heads) == 1


async def test_the_callers_own_timeout_passes_through(raw: RawServer) -> None:
    raw.play(hang)
    async with make_client(raw, concurrency=4) as client:
        before = asyncio.all_tasks()
        for use in (client.touchpoint_metrics("tp"), client.total_visits("tp").collect()):
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.05):
                    await use
            assert type(caught.value) is TimeoutError
            await check_nothing_is_left(client, raw, before, concurrency=4)


# --- Closing


async def test_closing_ends_a_hundred_requests_in_flight(raw: RawServer) -> None:
    raw.play(hang)
    client = make_client(raw, concurrency=100)
    before = asyncio.all_tasks()
    calls = [asyncio.create_task(client.touchpoint_metrics(f"tp-{i}")) for i in range(100)]
    await eventually(lambda: len(raw.heads) == 100)

    await client.aclose()

    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ClientClosedError}
    await check_nothing_is_left(client, raw, before, concurrency=100)
    # The server has seen every connection close.
    await eventually(lambda: not raw.tasks)
    assert raw.connections == 100


async def test_a_close_cancelled_at_any_await_still_closes_everything(raw: RawServer) -> None:
    raw.play(hang)

    async def trial(number: int) -> bool:
        raw.heads.clear()
        client = make_client(raw, concurrency=3)
        calls = [asyncio.create_task(client.touchpoint_metrics("tp")) for _ in range(3)]
        await eventually(lambda: len(raw.heads) == 3)
        cancelled = await was_cancelled(number, client.aclose())

        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ClientClosedError}
        await eventually(lambda: not raw.tasks)
        return cancelled

    assert await count_awaits(trial) >= 2


# --- Abandoning


async def test_an_abandoned_generator_ends_when_it_is_collected(raw: RawServer) -> None:
    raw.play(VisitServer(10_000))
    async with make_client(raw, concurrency=8) as client:
        before = asyncio.all_tasks()
        for _ in range(20):
            async for page in client.total_visits("tp", page_size=10, prefetch=8).pages():
                if page.offset == 46:
                    break
        gc.collect()
        await eventually(lambda: is_idle(client))
        await check_nothing_is_left(client, raw, before, concurrency=8)


def test_walks_still_open_when_their_loop_ends_end_silently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held: list[AsyncGenerator[Any, None]] = []

    async def use() -> None:
        async with RawServer() as raw, make_client(raw, concurrency=4) as client:
            raw.play(VisitServer(100))
            pager = client.total_visits("tp", page_size=10)
            held.extend([aiter(pager), pager.pages()])
            for generator in held:
                await anext(generator)

    asyncio.run(use())
    # asyncio logs any error that it meets while closing the remaining generators.
    assert len(held) == 2
    assert not caplog.records


def test_a_client_per_event_loop_works_after_a_loop_left_a_walk_open() -> None:
    async def use(*, leave: bool) -> list[Visit]:
        async with RawServer() as raw, make_client(raw, concurrency=4) as client:
            raw.play(VisitServer(100))
            visits: list[Visit] = []
            async for visit in client.total_visits("tp", page_size=10):
                visits.append(visit)
                if leave and len(visits) == 15:
                    break
            return visits

    # The first walk is abandoned with pages in flight, and its loop is gone afterwards.
    assert len(asyncio.run(use(leave=True))) == 15
    assert len(asyncio.run(use(leave=False))) == 100
