"""How walks fail and end, and walks over other lists than visits."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import attrs
import pytest

from distinct_async import (
    ClientClosedError,
    DistinctError,
    NotFoundError,
    Page,
    RepeatedPageError,
    ResumePoint,
    ServerError,
    TouchpointSummary,
    TransportError,
    VisitPage,
)
from tests.support.helpers import drain_walk, eventually
from tests.support.list_server import (
    ListServer,
    TouchpointServer,
    letters,
    make_visits,
    pager_of,
)

# --- Failures


@pytest.mark.parametrize("prefetch", [1, 4, 16])
@pytest.mark.parametrize(("failing", "delivered"), [(0, 0), (49, 50), (147, 148), (931, 932)])
async def test_a_failure_delivers_all_items_before_it_and_says_where_to_resume(
    prefetch: int, failing: int, delivered: int
) -> None:
    broken = True

    def change(offset: int, page: VisitPage) -> VisitPage:
        if broken and offset == failing:
            raise TransportError("broken")
        return page

    server = ListServer(make_visits(1_000), change=change)
    items, error = await drain_walk(server.pager(prefetch=prefetch))
    assert isinstance(error, TransportError)
    assert (error.next_offset, error.touchpoint_id) == (delivered, "tp-1")
    assert error.resume_point == ResumePoint(
        offset=delivered,
        after=tuple(server.visits[max(0, delivered - 8) : delivered]),
        delivered=delivered,
        total=1_000 if delivered else None,
        name="total visits of 'tp-1'",
    )
    assert items == server.visits[:delivered]
    assert server.in_flight == 0

    broken = False
    rest = await server.pager(offset=delivered, prefetch=prefetch).collect()
    assert items + rest == server.visits


async def test_a_failure_while_filling_a_gap_delivers_the_items_before_it() -> None:
    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset == 68:
            raise ServerError(503)
        return attrs.evolve(page, items=page.items[:20]) if offset == 49 else page

    server = ListServer(make_visits(300), change=change)
    items, error = await drain_walk(server.pager())

    assert isinstance(error, ServerError)
    assert error.next_offset == 69
    assert items == server.visits[:69]


async def test_of_several_failures_in_flight_the_one_at_the_lowest_offset_is_raised() -> None:
    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset >= 98:
            raise ServerError(500 + offset // 49)
        return page

    server = ListServer(make_visits(500), change=change, turns=lambda n: 9 if n == 2 else 1)
    items, error = await drain_walk(server.pager(prefetch=8))

    assert isinstance(error, ServerError)
    assert (error.status, error.next_offset, len(items)) == (502, 99, 99)


async def test_a_touchpoint_deleted_during_a_walk_can_be_resumed_but_not_at_an_offset() -> None:
    """A 404 may also mean that the list has become shorter than the offset, so the walk looks."""
    gone = False

    def change(_: int, page: VisitPage) -> VisitPage:
        if gone:
            raise NotFoundError(404)
        return page

    server = ListServer(make_visits(300), change=change)
    walk = aiter(server.pager(prefetch=1))
    items = [await anext(walk) for _ in range(50)]
    gone = True

    with pytest.raises(NotFoundError) as caught:
        await anext(walk)
    assert (caught.value.next_offset, caught.value.touchpoint_id) == (None, "tp-1")
    assert caught.value.resume_point == ResumePoint(
        offset=50,
        after=tuple(items[-8:]),
        delivered=50,
        total=300,
        name="total visits of 'tp-1'",
    )
    assert len(server.requests) <= 4


# --- Ending a walk


async def test_leaving_closing_or_cancelling_a_walk_leaves_no_task() -> None:
    server = ListServer(make_visits(10_000), turns=lambda n: 1 if n == 0 else 100_000)
    before = asyncio.all_tasks()

    walk = aiter(server.pager(prefetch=8))
    async for _ in walk:
        break
    await eventually(lambda: server.in_flight == 2)
    await walk.aclose()
    assert asyncio.all_tasks() == before
    assert (server.in_flight, server.answered) == (0, 1)

    server.requests.clear()
    task = asyncio.create_task(server.pager(prefetch=8).collect())
    await eventually(lambda: server.in_flight == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    assert (server.in_flight, server.answered) == (0, 2)


async def test_a_consumer_cancelled_just_as_its_page_arrives_is_cancelled_cleanly() -> None:
    server = ListServer(make_visits(5))
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))

    def spawn(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        page = asyncio.create_task(work)
        # Added before the walk waits for the page, so the consumer is cancelled first.
        page.add_done_callback(lambda _: consumer.cancel())
        return page

    consumer = asyncio.create_task(server.pager(spawn=spawn).collect())

    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert server.answered == 1
    assert problems == []


async def test_a_page_task_cancelled_from_outside_raises_client_closed() -> None:
    server = ListServer(make_visits(500), turns=lambda n: 1 if n == 0 else 1_000)
    before = asyncio.all_tasks()
    walk = aiter(server.pager())
    items = [await anext(walk) for _ in range(50)]

    for task in asyncio.all_tasks() - before:
        task.cancel()

    with pytest.raises(ClientClosedError) as caught:
        await anext(walk)
    assert (len(items), caught.value.next_offset) == (50, 50)


async def test_after_the_client_closes_a_walk_delivers_only_the_fetched_pages() -> None:
    server = ListServer(make_visits(500))
    closed = False

    def spawn(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | DistinctError:
        if closed:
            work.close()
            return ClientClosedError("closed")
        return asyncio.create_task(work)

    walk = aiter(server.pager(spawn=spawn))
    items = [await anext(walk)]
    closed = True
    with pytest.raises(ClientClosedError) as caught:
        async for item in walk:
            items.append(item)  # noqa: PERF401 - keep the items delivered before the error

    assert caught.value.next_offset == len(items) == 99
    assert items == server.visits[:99]


async def test_an_unexpected_exception_in_a_fetch_propagates() -> None:
    def change(offset: int, _: VisitPage) -> VisitPage:
        raise KeyError(offset)

    with pytest.raises(KeyError):
        await ListServer([], change=change).pager().collect()


# --- Touchpoints


@pytest.mark.parametrize("page_size", [None, 10, 1000])
@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 175])
async def test_a_walk_delivers_every_touchpoint_once_whether_paged_or_not(
    count: int, page_size: int | None
) -> None:
    expected = [f"tp-{i}" for i in range(count)]

    paged = TouchpointServer(count, lambda all_, at, size: all_[at : at + (size or 50)])
    assert await paged.walk(page_size) == expected

    whole = TouchpointServer(count, lambda all_, _, __: all_)
    assert await whole.walk(page_size) == expected
    assert whole.requests == 1


async def test_a_server_that_repeats_its_first_touchpoints_raises_repeated_page() -> None:
    server = TouchpointServer(175, lambda all_, _, __: all_[:50])

    with pytest.raises(RepeatedPageError) as caught:
        await server.walk()

    assert (caught.value.requested, caught.value.returned) == (49, 0)
    assert (caught.value.next_offset, caught.value.touchpoint_id) == (None, None)


@pytest.mark.parametrize(("before", "later"), [(0, 10), (10, 0)])
async def test_touchpoints_are_recognized_by_their_ids_if_the_list_shifts(
    before: int, later: int
) -> None:
    """Ten touchpoints in front are deleted or added after the first page."""

    def select(every: list[TouchpointSummary], at: int, _: int | None) -> list[TouchpointSummary]:
        server.first = later
        return every[at : at + 50]

    server = TouchpointServer(175, select, first=before)

    assert await server.walk() == [f"tp-{i}" for i in range(before, 175)]


async def test_any_value_with_the_attributes_of_a_page_can_be_one() -> None:
    async def fetch(offset: int, _: int | None) -> Page[str]:
        return letters(offset, "abc"[offset : offset + 1], total=3)

    assert await pager_of(fetch).collect() == ["a", "b", "c"]


async def test_interleaved_walks_are_independent() -> None:
    server = ListServer(make_visits(500))
    first, second = aiter(server.pager(page_size=7)), aiter(server.pager(page_size=50, offset=100))
    pairs = [(await anext(first), await anext(second)) for _ in range(400)]

    assert pairs == list(zip(server.visits[:400], server.visits[100:], strict=True))
    await first.aclose()
    await second.aclose()
