"""How walks fail and end, and walks over other lists than visits."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import attrs
import pytest

from distinct_async import (
    ClientClosedError,
    DistinctError,
    Page,
    RepeatedPageError,
    ServerError,
    TransportError,
    VisitPage,
)
from tests.support.helpers import drain_walk, eventually
from tests.support.list_server import (
    ListServer,
    TouchpointServer,
    make_visits,
    pager_of,
)

# --- Failures


@pytest.mark.parametrize("prefetch", [1, 4, 16])
@pytest.mark.parametrize("failing", [0, 50, 150, 950])
async def test_a_failure_delivers_all_items_before_it_and_says_where_to_resume(
    prefetch: int, failing: int
) -> None:
    broken = True

    def change(offset: int, page: VisitPage) -> VisitPage:
        if broken and offset == failing:
            raise TransportError("broken")
        return page

    server = ListServer(make_visits(1_000), change=change)
    items, error = await drain_walk(server.pager(prefetch=prefetch))
    assert isinstance(error, TransportError)
    assert (error.next_offset, error.touchpoint_id) == (failing, "tp-1")
    assert items == server.visits[:failing]
    assert server.in_flight == 0

    broken = False
    rest = await server.pager(offset=failing, prefetch=prefetch).collect()
    assert items + rest == server.visits


async def test_a_failure_while_filling_a_gap_delivers_the_items_before_it() -> None:
    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset == 70:
            raise ServerError(503)
        return attrs.evolve(page, items=page.items[:20]) if offset == 50 else page

    server = ListServer(make_visits(300), change=change)
    items, error = await drain_walk(server.pager())

    assert isinstance(error, ServerError)
    assert error.next_offset == 70
    assert items == server.visits[:70]


async def test_of_several_failures_in_flight_the_one_at_the_lowest_offset_is_raised() -> None:
    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset >= 100:
            raise ServerError(500 + offset // 50)
        return page

    server = ListServer(make_visits(500), change=change, turns=lambda n: 9 if n == 2 else 1)
    items, error = await drain_walk(server.pager(prefetch=8))

    assert isinstance(error, ServerError)
    assert (error.status, error.next_offset, len(items)) == (502, 100, 100)


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

    assert caught.value.next_offset == len(items) == 100
    assert items == server.visits[:100]


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

    assert (caught.value.requested, caught.value.returned) == (50, 0)
    assert (caught.value.next_offset, caught.value.touchpoint_id) == (50, None)


async def test_a_touchpoint_listed_twice_raises_repeated_page() -> None:
    server = TouchpointServer(
        100, lambda all_, at, _: all_[max(0, at - 1) : at + 49] if at else all_[:50]
    )

    with pytest.raises(RepeatedPageError) as caught:
        await server.walk()

    assert (caught.value.requested, caught.value.returned) == (50, 49)


async def test_any_value_with_total_items_and_offset_can_be_a_page() -> None:
    async def fetch(offset: int, _: int | None) -> Page[str]:
        return Letters(offset, tuple("abc"[offset : offset + 1]))

    assert await pager_of(fetch).collect() == ["a", "b", "c"]


@attrs.frozen
class Letters:
    offset: int
    items: tuple[str, ...]
    total: int = 3


async def test_interleaved_walks_are_independent() -> None:
    server = ListServer(make_visits(500))
    first, second = aiter(server.pager(page_size=7)), aiter(server.pager(page_size=50, offset=100))
    pairs = [(await anext(first), await anext(second)) for _ in range(400)]

    assert pairs == list(zip(server.visits[:400], server.visits[100:], strict=True))
    await first.aclose()
    await second.aclose()
