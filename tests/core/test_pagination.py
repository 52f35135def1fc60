"""The walk against a list in memory, so that every interleaving can be had."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import attrs
import pytest

from distinct_async import (
    ClientClosedError,
    DistinctError,
    IncompleteListError,
    ListChangedError,
    Page,
    Pager,
    RepeatedPageError,
    ServerError,
    TouchpointPage,
    TouchpointSummary,
    TransportError,
    Visit,
    VisitPage,
    VisitsType,
    pagination,
)
from distinct_async._walk import Source, watch_touchpoints
from tests.support.helpers import eventually
from tests.support.list_server import DEFAULT_PAGE_SIZE, START, ListServer, make_visits


async def drain(pager: Pager[Visit, VisitPage]) -> tuple[list[Visit], DistinctError | None]:
    """Return what a walk delivers, and how it fails."""
    items: list[Visit] = []
    try:
        async for item in pager:
            items.append(item)  # noqa: PERF401 - what came before an error counts
    except DistinctError as error:
        return items, error
    return items, None


# --- What is delivered


@pytest.mark.slow
@pytest.mark.parametrize("prefetch", [1, 4, 16])
@pytest.mark.parametrize("page_size", [None, 1, 7, 50, 1000])
async def test_every_item_once_and_in_order(page_size: int | None, prefetch: int) -> None:
    server = ListServer(make_visits(100_003))

    assert await server.pager(page_size=page_size, prefetch=prefetch).collect() == server.visits
    size = page_size or DEFAULT_PAGE_SIZE
    assert server.requests == [(at, page_size) for at in range(0, 100_003, size)]
    assert server.most_in_flight == prefetch


@pytest.mark.parametrize("total", [0, 1, 2, 49, 50, 51, 99, 100, 101, 350])
@pytest.mark.parametrize("offset", [0, 1, 49, 50, 51, 100, 400])
@pytest.mark.parametrize("limit", [None, 0, 1, 49, 50, 51, 1000])
async def test_offset_and_limit_are_a_slice(total: int, offset: int, limit: int | None) -> None:
    stop = None if limit is None else offset + limit
    for page_size in (None, 3, 50):
        for largest_page in (7, 1000):
            server = ListServer(make_visits(total), largest_page)
            pager = server.pager(offset=offset, limit=limit, page_size=page_size)

            assert await pager.collect() == server.visits[offset:stop]
            assert all(at < offset + (limit or total + 1) for at, _ in server.requests)


async def test_a_limit_asks_for_no_more_than_it_needs() -> None:
    server = ListServer(make_visits(500))

    assert await server.pager(limit=130, page_size=100).collect() == server.visits[:130]
    assert server.requests == [(0, 100), (100, 30)]


async def test_a_limit_of_nothing_asks_nothing() -> None:
    server = ListServer(make_visits(5))

    assert [page async for page in server.pager(limit=0).pages()] == []
    assert server.requests == []


async def test_pages_tell_their_place() -> None:
    server = ListServer(make_visits(120))

    pages = [page async for page in server.pager(limit=110).pages()]

    assert [(p.offset, len(p.items), p.total) for p in pages] == [
        *[(0, 50, 120), (50, 50, 120), (100, 10, 120)]
    ]


@pytest.mark.parametrize(("total", "offset"), [(0, 0), (10, 10), (10, 25)])
async def test_an_empty_list_has_one_empty_page(total: int, offset: int) -> None:
    server = ListServer(make_visits(total))

    (page,) = [page async for page in server.pager(offset=offset).pages()]

    assert (page.items, page.total, page.next_offset) == ((), total, None)


async def test_a_pager_is_a_value_and_every_iteration_a_walk() -> None:
    server = ListServer(make_visits(60))
    pager = server.pager(offset=5, page_size=20)
    assert server.requests == []
    assert repr(pager) == "<Pager visits: offset=5, limit=None, page_size=20, prefetch=4>"

    assert await pager.collect() == await pager.collect() == server.visits[5:]
    assert len(server.requests) == 6


async def test_the_order_holds_whatever_answers_first() -> None:
    server = ListServer(make_visits(2_000), turns=lambda number: 40 - (number * 7) % 40)

    assert await server.pager(page_size=13, prefetch=16).collect() == server.visits


# --- The window


async def test_the_window_starts_slowly_and_is_never_exceeded() -> None:
    server = ListServer(make_visits(2_000))
    async with aclosing(server.pager(page_size=10, prefetch=16).pages()) as pages:
        ahead: list[int] = []
        async for page in pages:
            # A slow consumer: all that may be fetched meanwhile is.
            for _ in range(50):
                await asyncio.sleep(0)
            ahead.append(len(server.requests) - page.offset // 10 - 1)
            if len(ahead) == 12:
                break

    assert ahead == [2, 4, 8, *[16] * 9]


async def test_the_first_page_comes_alone() -> None:
    server = ListServer(make_visits(500), turns=lambda _: 20)
    walk = aiter(server.pager(prefetch=16))
    first = asyncio.ensure_future(anext(walk))
    for _ in range(10):
        await asyncio.sleep(0)

    assert len(server.requests) == 1
    assert await first == server.visits[0]
    await walk.aclose()


# --- Servers that give other pages than those asked for


@pytest.mark.parametrize("page_size", [None, 100, 1000])
@pytest.mark.parametrize("echo", ["honest", "asked"])
async def test_a_clamping_server_is_followed(page_size: int | None, echo: str) -> None:
    def change(_: int, page: VisitPage) -> VisitPage:
        return page if echo == "honest" else attrs.evolve(page, page_size=page_size or 50)

    server = ListServer(make_visits(1_003), largest_page=30, change=change)

    assert await server.pager(page_size=page_size).collect() == server.visits
    assert [at for at, _ in server.requests] == list(range(0, 1_003, 30))


@pytest.mark.parametrize("kept", [1, 20, 49])
@pytest.mark.parametrize("page_size", [None, 50])
async def test_a_short_page_is_a_gap_that_is_filled(kept: int, page_size: int | None) -> None:
    short = {100, 250}

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset not in short:
            return page
        short.discard(offset)
        return attrs.evolve(page, items=page.items[:kept])

    server = ListServer(make_visits(420), change=change)

    assert await server.pager(page_size=page_size).collect() == server.visits
    assert len(server.requests) == 9 + 2


async def test_a_short_first_page_does_not_slow_the_walk_down_for_good() -> None:
    def change(offset: int, page: VisitPage) -> VisitPage:
        return attrs.evolve(page, items=page.items[:1]) if offset == 0 else page

    server = ListServer(make_visits(5_000), change=change)

    assert await server.pager(page_size=50).collect() == server.visits
    assert len(server.requests) <= 5_000 / 50 + 10


async def test_a_server_that_gives_more_than_before_repeats_nothing() -> None:
    server = ListServer(make_visits(1_000), largest_page=10)

    def change(offset: int, page: VisitPage) -> VisitPage:
        server.largest_page = 25 if offset >= 100 else 10
        return page

    server.change = change

    assert await server.pager(page_size=100, prefetch=8).collect() == server.visits


# --- Servers whose pages do not add up


async def test_an_empty_page_before_the_total() -> None:
    server = ListServer(
        make_visits(300),
        change=lambda offset, page: attrs.evolve(page, items=()) if offset == 150 else page,
    )

    items, error = await drain(server.pager())

    assert isinstance(error, IncompleteListError)
    assert (error.expected, error.received) == (300, 150)
    assert (error.next_offset, error.touchpoint_id) == (150, "tp-1")
    assert items == server.visits[:150]


async def test_an_empty_first_page_before_the_total() -> None:
    server = ListServer(make_visits(3), change=lambda _, page: attrs.evolve(page, items=()))

    items, error = await drain(server.pager())

    assert isinstance(error, IncompleteListError)
    assert (items, error.expected, error.received, error.next_offset) == ([], 3, 0, 0)


@pytest.mark.parametrize("prefetch", [1, 4, 16])
async def test_a_server_that_says_it_ignored_the_offset(prefetch: int) -> None:
    server = ListServer(make_visits(300))
    first = await server.fetch(0, None)
    server.change = lambda _, __: first

    items, error = await drain(server.pager(prefetch=prefetch))

    assert isinstance(error, RepeatedPageError)
    assert (error.requested, error.returned, error.next_offset) == (50, 0, 50)
    assert items == server.visits[:50]


@pytest.mark.parametrize("limit", [None, 60])
async def test_a_server_that_denies_having_ignored_the_offset(limit: int | None) -> None:
    server = ListServer(make_visits(300))
    server.change = lambda _, page: attrs.evolve(
        page, items=tuple(server.visits[: len(page.items)])
    )

    items, error = await drain(server.pager(limit=limit, page_size=50))

    assert isinstance(error, RepeatedPageError)
    assert (error.requested, error.returned, error.next_offset) == (50, 0, 50)
    assert items == server.visits[:50]


async def test_equal_pages_of_one_moment_are_let_pass_among_total_visits() -> None:
    server = ListServer([Visit("user-1", START)] * 10)

    assert await server.pager(page_size=2).collect() == server.visits


async def test_a_user_who_comes_twice_among_unique_visits_is_a_repeated_page() -> None:
    server = ListServer([Visit("user-1", START)] * 10, kind=VisitsType.UNIQUE)

    items, error = await drain(server.pager(page_size=1))

    assert isinstance(error, RepeatedPageError)
    assert (len(items), error.requested, error.returned) == (1, 1, 0)


async def test_a_total_that_shrinks() -> None:
    server = ListServer(make_visits(300))

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset >= 100:
            return attrs.evolve(page, total=299)
        return page

    server.change = change

    items, error = await drain(server.pager())

    assert isinstance(error, ListChangedError)
    assert (error.before, error.after, error.next_offset) == (300, 299, 100)
    assert items == server.visits[:100]


@pytest.mark.parametrize("late", [50, 100])
async def test_totals_of_answers_that_overlap_prove_no_shrinking(late: int) -> None:
    """Of two requests in flight, one counts a new visit and one not; either may come first."""
    server = ListServer(make_visits(200), turns=lambda number: 30 if number * 50 == late else 1)
    newest = Visit("late", START + timedelta(days=1))

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset == 50:
            server.visits.append(newest)
            return attrs.evolve(page, total=201)
        return attrs.evolve(page, total=200) if offset == 100 else page

    server.change = change

    assert await server.pager().collect() == server.visits
    assert server.visits[-1] == newest


@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("grow_at", [0, 50, 100, 150, 199])
async def test_a_total_that_grows_is_walked_to_its_newest_end(prefetch: int, grow_at: int) -> None:
    server = ListServer(make_visits(199))
    more = make_visits(120)

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset >= grow_at and more:
            server.visits += more
            more.clear()
            return attrs.evolve(page, total=len(server.visits))
        return page

    server.change = change
    items = await server.pager(prefetch=prefetch).collect()

    assert items == server.visits
    assert len(items) == (319 if grow_at < 199 else 199)


async def test_a_page_of_more_than_the_total_is_asked_about_again() -> None:
    """A visit came between the server's counting and its listing: the next count has it."""
    server = ListServer(make_visits(101))
    server.change = lambda offset, page: attrs.evolve(page, total=100) if offset < 101 else page

    assert await server.pager(page_size=60).collect() == server.visits
    assert server.requests[-1] == (101, 60)


async def test_a_page_of_more_than_the_total_that_is_never_explained() -> None:
    server = ListServer(make_visits(3), change=lambda _, page: attrs.evolve(page, total=2))

    items, error = await drain(server.pager())

    assert isinstance(error, IncompleteListError)
    assert (error.expected, error.received, error.next_offset) == (2, 3, 3)
    assert items == server.visits


async def test_a_limit_ends_the_walk_without_the_check_of_the_total() -> None:
    server = ListServer(make_visits(3), change=lambda _, page: attrs.evolve(page, total=2))

    assert await server.pager(limit=3).collect() == server.visits


# --- Failures


@pytest.mark.parametrize("prefetch", [1, 4, 16])
@pytest.mark.parametrize("failing", [0, 50, 150, 950])
async def test_a_failure_delivers_all_before_it_and_says_where_to_go_on(
    prefetch: int, failing: int
) -> None:
    broken = True

    def change(offset: int, page: VisitPage) -> VisitPage:
        if broken and offset == failing:
            raise TransportError("broken")
        return page

    server = ListServer(make_visits(1_000), change=change)
    items, error = await drain(server.pager(prefetch=prefetch))
    assert isinstance(error, TransportError)
    assert (error.next_offset, error.touchpoint_id) == (failing, "tp-1")
    assert items == server.visits[:failing]
    assert server.in_flight == 0

    broken = False
    rest = await server.pager(offset=failing, prefetch=prefetch).collect()
    assert items + rest == server.visits


async def test_a_failure_in_a_gap_delivers_the_part_before_it() -> None:
    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset == 70:
            raise ServerError(503)
        return attrs.evolve(page, items=page.items[:20]) if offset == 50 else page

    server = ListServer(make_visits(300), change=change)
    items, error = await drain(server.pager())

    assert isinstance(error, ServerError)
    assert error.next_offset == 70
    assert items == server.visits[:70]


async def test_two_failures_in_flight_raise_the_first() -> None:
    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset >= 100:
            raise ServerError(500 + offset // 50)
        return page

    server = ListServer(make_visits(500), change=change, turns=lambda n: 9 if n == 2 else 1)
    items, error = await drain(server.pager(prefetch=8))

    assert isinstance(error, ServerError)
    assert (error.status, error.next_offset, len(items)) == (502, 100, 100)


# --- Ends


async def test_break_cancellation_and_aclose_leave_no_task() -> None:
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


async def test_a_consumer_that_is_cancelled_as_its_page_arrives() -> None:
    arriving = asyncio.get_running_loop().create_future()
    page = asyncio.create_task(asyncio.wait_for(arriving, None))
    page.add_done_callback(lambda _: consumer.cancel())
    consumer = asyncio.create_task(pagination._until_done(page))
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    await asyncio.sleep(0)

    arriving.set_result(None)

    with pytest.raises(asyncio.CancelledError):
        await consumer
    await page
    assert problems == []


async def test_a_page_task_that_was_cancelled_by_others_means_closed() -> None:
    server = ListServer(make_visits(500), turns=lambda n: 1 if n == 0 else 1_000)
    before = asyncio.all_tasks()
    walk = aiter(server.pager())
    items = [await anext(walk) for _ in range(50)]

    for task in asyncio.all_tasks() - before:
        task.cancel()

    with pytest.raises(ClientClosedError) as caught:
        await anext(walk)
    assert (len(items), caught.value.next_offset) == (50, 50)


async def test_a_closed_client_ends_the_walk_after_what_was_fetched() -> None:
    server = ListServer(make_visits(500))
    pager = server.pager()
    closed = False

    def spawn(work: object) -> asyncio.Task[object]:
        if closed:
            work.close()  # type: ignore[attr-defined]
            raise ClientClosedError("closed")
        return asyncio.create_task(work)  # type: ignore[arg-type]

    walk = aiter(attrs.evolve(pager, source=attrs.evolve(pager.source, spawn=spawn)))
    items = [await anext(walk)]
    closed = True
    with pytest.raises(ClientClosedError) as caught:
        async for item in walk:
            items.append(item)  # noqa: PERF401 - what came before an error counts

    assert caught.value.next_offset == len(items) == 100
    assert items == server.visits[:100]


async def test_a_bug_in_a_fetch_is_not_hidden() -> None:
    def change(offset: int, _: VisitPage) -> VisitPage:
        raise KeyError(offset)

    with pytest.raises(KeyError):
        await ListServer([], change=change).pager().collect()


# --- Touchpoints


@attrs.define
class TouchpointServer:
    count: int
    serve: Callable[[list[TouchpointSummary], int, int | None], list[TouchpointSummary]]
    requests: int = 0

    async def fetch(self, offset: int, page_size: int | None) -> TouchpointPage:
        self.requests += 1
        # The counts are never the same twice: touchpoints are told apart by their ids.
        everything = [
            TouchpointSummary(f"tp-{i}", "", "", self.requests, 0) for i in range(self.count)
        ]
        return TouchpointPage(self.count, tuple(self.serve(everything, offset, page_size)), offset)

    async def walk(self, page_size: int | None = None) -> list[str]:
        source = Source(fetch=self.fetch, spawn=asyncio.create_task, make_watch=watch_touchpoints)
        pager: Pager[TouchpointSummary, TouchpointPage] = Pager(
            name="touchpoints", source=source, page_size=page_size
        )
        return [touchpoint.id async for touchpoint in pager]


@pytest.mark.parametrize("page_size", [None, 10, 1000])
@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 175])
async def test_every_touchpoint_once_whether_paged_or_not(
    count: int, page_size: int | None
) -> None:
    expected = [f"tp-{i}" for i in range(count)]

    paged = TouchpointServer(count, lambda all_, at, size: all_[at : at + (size or 50)])
    assert await paged.walk(page_size) == expected

    whole = TouchpointServer(count, lambda all_, _, __: all_)
    assert await whole.walk(page_size) == expected
    assert whole.requests == 1


async def test_a_list_of_touchpoints_that_is_cut_and_not_paged_is_stuck() -> None:
    server = TouchpointServer(175, lambda all_, _, __: all_[:50])

    with pytest.raises(RepeatedPageError) as caught:
        await server.walk()

    assert (caught.value.requested, caught.value.returned) == (50, 0)
    assert (caught.value.next_offset, caught.value.touchpoint_id) == (50, None)


async def test_a_touchpoint_that_is_listed_twice_is_not_delivered_twice() -> None:
    server = TouchpointServer(
        100, lambda all_, at, _: all_[max(0, at - 1) : at + 49] if at else all_[:50]
    )

    with pytest.raises(RepeatedPageError) as caught:
        await server.walk()

    assert (caught.value.requested, caught.value.returned) == (50, 49)


async def test_any_value_with_a_total_items_and_an_offset_is_a_page() -> None:
    async def fetch(offset: int, _: int | None) -> Page[str]:
        return Letters(offset, tuple("abc"[offset : offset + 1]))

    source = Source[Page[str]](
        fetch=fetch, spawn=asyncio.create_task, make_watch=lambda: lambda _: None
    )
    pager: Pager[str] = Pager(name="letters", source=source)

    assert await pager.collect() == ["a", "b", "c"]


@attrs.frozen
class Letters:
    offset: int
    items: tuple[str, ...]
    total: int = 3


async def test_interleaved_walks_do_not_disturb_each_other() -> None:
    server = ListServer(make_visits(500))
    first, second = aiter(server.pager(page_size=7)), aiter(server.pager(page_size=50, offset=100))
    got: Counter[str] = Counter()
    for index in range(400):
        assert await anext(first) == server.visits[index]
        assert await anext(second) == server.visits[index + 100]
        got["pairs"] += 1
    assert got["pairs"] == 400
    await first.aclose()
    await second.aclose()
