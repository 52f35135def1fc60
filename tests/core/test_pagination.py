"""The walk over a list in memory, so that tests control every interleaving."""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta

import attrs
import pytest

from distinct_async import (
    ConfigurationError,
    IncompleteListError,
    ListChangedError,
    NotFoundError,
    Pager,
    RepeatedPageError,
    ResumePoint,
    Visit,
    VisitPage,
)
from tests.support.helpers import drain_walk, spin
from tests.support.list_server import (
    DEFAULT_PAGE_SIZE,
    START,
    ListServer,
    make_visits,
    page_offsets,
)

# --- Delivery


@pytest.mark.slow
@pytest.mark.parametrize("prefetch", [1, 4, 16])
@pytest.mark.parametrize("page_size", [None, 1, 7, 50, 1000])
async def test_a_walk_delivers_every_item_once_and_in_order(
    page_size: int | None, prefetch: int
) -> None:
    server = ListServer(make_visits(100_003))

    assert await server.pager(page_size=page_size, prefetch=prefetch).collect() == server.visits
    if page_size == 1:
        # A page of one item has no room for more than the shared item.
        assert server.requests == [(0, 1), *((at, 2) for at in range(100_002))]
    else:
        offsets = page_offsets(100_003, page_size or DEFAULT_PAGE_SIZE)
        assert server.requests == [(at, page_size) for at in offsets]
    assert server.most_in_flight == prefetch


@pytest.mark.parametrize("total", [0, 1, 2, 49, 50, 51, 99, 100, 101, 350])
@pytest.mark.parametrize("offset", [0, 1, 49, 50, 51, 100, 400])
@pytest.mark.parametrize("limit", [None, 0, 1, 49, 50, 51, 1000])
async def test_offset_and_limit_select_a_slice(total: int, offset: int, limit: int | None) -> None:
    stop = None if limit is None else offset + limit
    for page_size in (None, 3, 50):
        for largest_page in (7, 1000):
            server = ListServer(make_visits(total), largest_page)
            pager = server.pager(offset=offset, limit=limit, page_size=page_size)

            assert await pager.collect() == server.visits[offset:stop]
            assert all(at < offset + (limit or total + 1) for at, _ in server.requests)


async def test_the_last_page_size_is_cut_to_the_limit() -> None:
    server = ListServer(make_visits(500))

    assert await server.pager(limit=130, page_size=100).collect() == server.visits[:130]
    assert server.requests == [(0, 100), (99, 31)]


LISTS: dict[str, Callable[[int], list[Visit]]] = {
    "all different": make_visits,
    "all identical": lambda count: [Visit("user", START)] * count,
    "runs of identical ones": lambda count: [Visit(f"user-{i // 5}", START) for i in range(count)],
    "a few identical ones": lambda count: [
        Visit(f"user-{i // 2 if i % 100 < 4 else i}", START) for i in range(count)
    ],
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("page_size", [2, 3, 7, 8, 9, 50])
async def test_a_list_that_stands_still_takes_few_requests(page_size: int, kind: str) -> None:
    for total in (0, 1, 2, page_size, page_size + 1, 10 * page_size, 10 * page_size + 1, 999):
        for prefetch in (1, 4):
            server = ListServer(LISTS[kind](total))

            walk = server.pager(page_size=page_size, prefetch=prefetch)

            assert await walk.collect() == server.visits
            assert len(server.requests) <= -(-total // (page_size - 1)) + 1


async def test_a_limit_of_zero_sends_no_request() -> None:
    server = ListServer(make_visits(5))

    assert [page async for page in server.pager(limit=0).pages()] == []
    assert server.requests == []


async def test_pages_carry_their_offset_and_the_total() -> None:
    server = ListServer(make_visits(120))

    pages = [page async for page in server.pager(limit=110).pages()]

    assert [(p.offset, len(p.items), p.total) for p in pages] == [
        *[(0, 50, 120), (50, 49, 120), (99, 11, 120)]
    ]


@pytest.mark.parametrize(("total", "offset"), [(0, 0), (10, 10), (10, 25)])
async def test_an_empty_list_yields_one_empty_page(total: int, offset: int) -> None:
    server = ListServer(make_visits(total))

    (page,) = [page async for page in server.pager(offset=offset).pages()]

    assert (page.items, page.total, page.next_offset) == ((), total, None)


async def test_each_iteration_of_a_pager_is_a_new_walk() -> None:
    server = ListServer(make_visits(60))
    pager = server.pager(offset=5, page_size=20)
    assert server.requests == []
    assert repr(pager) == "<Pager visits: offset=5, limit=None, page_size=20, prefetch=4>"

    assert await pager.collect() == await pager.collect() == server.visits[5:]
    assert len(server.requests) == 6


def test_a_pager_without_a_source_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="source must be Source, got int"):
        Pager(name="visits", source=5)  # type: ignore[arg-type]


async def test_items_stay_in_order_when_responses_arrive_out_of_order() -> None:
    server = ListServer(make_visits(2_000), turns=lambda number: 40 - (number * 7) % 40)

    assert await server.pager(page_size=13, prefetch=16).collect() == server.visits


# --- The window


async def test_the_window_doubles_up_to_prefetch() -> None:
    server = ListServer(make_visits(2_000))
    async with aclosing(server.pager(page_size=10, prefetch=16).pages()) as pages:
        ahead: list[int] = []
        async for page in pages:
            # A slow consumer lets the walk fetch all it may.
            await spin()
            ahead.append(len(server.requests) - page.offset // 9 - 1)
            if len(ahead) == 12:
                break

    assert ahead == [2, 4, 8, *[16] * 9]


async def test_nothing_is_prefetched_before_the_first_page() -> None:
    server = ListServer(make_visits(500), turns=lambda _: 20)
    walk = aiter(server.pager(prefetch=16))
    first = asyncio.ensure_future(anext(walk))
    await spin(10)

    assert len(server.requests) == 1
    assert await first == server.visits[0]
    await walk.aclose()


# --- Servers that return other page sizes than requested


@pytest.mark.parametrize("page_size", [None, 100, 1000])
@pytest.mark.parametrize("echo", ["honest", "asked"])
async def test_the_walk_adopts_a_clamped_page_size(page_size: int | None, echo: str) -> None:
    def change(_: int, page: VisitPage) -> VisitPage:
        return page if echo == "honest" else attrs.evolve(page, page_size=page_size or 50)

    server = ListServer(make_visits(1_003), largest_page=30, change=change)

    assert await server.pager(page_size=page_size).collect() == server.visits
    assert [at for at, _ in server.requests] == page_offsets(1_003, 30)


@pytest.mark.parametrize("kept", [1, 20, 49])
@pytest.mark.parametrize("page_size", [None, 50])
async def test_the_gap_after_a_short_page_is_filled(kept: int, page_size: int | None) -> None:
    short = {98, 245}

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset not in short:
            return page
        short.discard(offset)
        return attrs.evolve(page, items=page.items[:kept])

    server = ListServer(make_visits(420), change=change)

    pages = [page async for page in server.pager(page_size=page_size).pages()]

    assert [visit for page in pages for visit in page.items] == server.visits
    assert {page.shift for page in pages} == {0}
    assert len(server.requests) == 9 + 2


async def test_single_items_end_where_the_server_says_though_its_total_is_larger() -> None:
    server = ListServer(make_visits(7), largest_page=1)

    def change(_: int, page: VisitPage) -> VisitPage:
        if not page.items:
            raise NotFoundError(404)
        return attrs.evolve(page, total=9)

    server.change = change

    items, error = await drain_walk(server.pager())

    assert isinstance(error, IncompleteListError)
    assert (items, error.expected, error.received) == (server.visits, 9, 7)


@pytest.mark.parametrize("seed", range(100))
async def test_a_list_that_only_grows_is_walked_whatever_its_pages_hold(seed: int) -> None:
    drawn = random.Random(seed)
    visits = make_visits(drawn.randint(1, 60))
    known = len(visits)
    server = ListServer(visits, turns=lambda _: drawn.randint(1, 9))

    def change(_: int, page: VisitPage) -> VisitPage:
        if drawn.random() < 0.4:
            server.largest_page = drawn.choice([1, 2, 3, 6, 10, 20])
        if drawn.random() < 0.3:
            grown = len(visits) + drawn.randint(1, 10) if len(visits) < 200 else len(visits)
            visits.extend(make_visits(grown)[len(visits) :])
        return page

    server.change = change
    page_size, prefetch = drawn.choice([None, 5, 50]), drawn.choice([1, 3, 8])

    items = await server.pager(page_size=page_size, prefetch=prefetch).collect()

    assert items == visits[: len(items)]
    assert len(items) >= known


async def test_a_short_first_page_does_not_shorten_all_later_requests() -> None:
    def change(offset: int, page: VisitPage) -> VisitPage:
        return attrs.evolve(page, items=page.items[:1]) if offset == 0 else page

    server = ListServer(make_visits(5_000), change=change)

    assert await server.pager(page_size=50).collect() == server.visits
    assert len(server.requests) <= 5_000 / 50 + 10


@pytest.mark.parametrize("page_size", [None, 1, 50])
async def test_pages_that_shrink_to_single_items_lose_no_item(page_size: int | None) -> None:
    server = ListServer(make_visits(110))

    def change(offset: int, page: VisitPage) -> VisitPage:
        server.largest_page = 1 if offset >= 40 else 19
        return page

    server.change = change

    assert await server.pager(page_size=page_size).collect() == server.visits


@pytest.mark.parametrize("single", range(20, 26))
@pytest.mark.parametrize("page_size", [None, 1, 50])
async def test_single_items_that_grow_to_pages_repeat_no_item(
    page_size: int | None, single: int
) -> None:
    server = ListServer(make_visits(60), largest_page=1)

    def change(_: int, page: VisitPage) -> VisitPage:
        if len(server.requests) >= single:
            server.largest_page = 10
        return page

    server.change = change

    assert await server.pager(page_size=page_size, prefetch=1).collect() == server.visits


async def test_growing_pages_repeat_no_item() -> None:
    server = ListServer(make_visits(1_000), largest_page=10)

    def change(offset: int, page: VisitPage) -> VisitPage:
        server.largest_page = 25 if offset >= 100 else 10
        return page

    server.change = change

    assert await server.pager(page_size=100, prefetch=8).collect() == server.visits


# --- Servers whose pages contradict each other


@pytest.mark.parametrize("empty", [0, 49, 147, 294])
async def test_a_page_that_is_empty_once_is_read_again(empty: int) -> None:
    emptied: list[int] = []

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset != empty or emptied:
            return page
        emptied.append(offset)
        return attrs.evolve(page, items=())

    server = ListServer(make_visits(300), change=change)
    pages = [page async for page in server.pager().pages()]

    assert emptied == [empty]
    assert [visit for page in pages for visit in page.items] == server.visits
    assert {page.shift for page in pages} == {0}


async def test_a_first_page_that_is_empty_twice_loses_no_item() -> None:
    emptied: list[int] = []

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset or len(emptied) == 2:
            return page
        emptied.append(offset)
        return attrs.evolve(page, items=())

    server = ListServer(make_visits(3), change=change)

    assert await server.pager().collect() == server.visits


@pytest.mark.parametrize("prefetch", [1, 4, 16])
async def test_pages_that_end_before_the_total_are_read_again_before_the_walk_fails(
    prefetch: int,
) -> None:
    server = ListServer(
        make_visits(300),
        change=lambda at, page: attrs.evolve(page, items=page.items[: max(0, 150 - at)]),
    )

    items, error = await drain_walk(server.pager(prefetch=prefetch))

    assert isinstance(error, IncompleteListError)
    assert (error.expected, error.received) == (300, 150)
    assert (error.next_offset, error.touchpoint_id) == (150, "tp-1")
    assert items == server.visits[:150]
    # The end was read again several times, and no more.
    assert 8 <= len(server.requests) - len(page_offsets(150, 50)) <= 40


async def test_an_empty_first_page_before_the_total_raises_incomplete_list() -> None:
    server = ListServer(make_visits(3), change=lambda _, page: attrs.evolve(page, items=()))

    items, error = await drain_walk(server.pager())

    assert isinstance(error, IncompleteListError)
    assert (items, error.expected, error.received, error.next_offset) == ([], 3, 0, 0)
    assert 4 <= len(server.requests) <= 16


@pytest.mark.parametrize("prefetch", [1, 4, 16])
async def test_a_page_that_admits_another_offset_raises_repeated_page(prefetch: int) -> None:
    server = ListServer(make_visits(300))
    first = await anext(server.pager().pages())
    server.change = lambda _, __: first

    items, error = await drain_walk(server.pager(prefetch=prefetch))

    assert isinstance(error, RepeatedPageError)
    assert (error.requested, error.returned, error.next_offset) == (49, 0, 50)
    assert items == server.visits[:50]


@pytest.mark.parametrize("limit", [None, 60])
async def test_a_repeated_page_is_detected_though_it_claims_the_right_offset(
    limit: int | None,
) -> None:
    server = ListServer(make_visits(300))
    server.change = lambda _, page: attrs.evolve(
        page, items=tuple(server.visits[: len(page.items)])
    )

    items, error = await drain_walk(server.pager(limit=limit, page_size=50))

    assert isinstance(error, RepeatedPageError)
    assert (error.requested, error.returned) == (49, 0)
    # Only the resume point says what was delivered, since the server's offsets mean nothing.
    assert error.next_offset is None
    assert error.resume_point == ResumePoint(offset=50, after=server.visits[49], delivered=50)
    assert items == server.visits[:50]


async def test_equal_pages_of_one_moment_are_valid_among_total_visits() -> None:
    server = ListServer([Visit("user-1", START)] * 10)

    assert await server.pager(page_size=2).collect() == server.visits


async def test_a_list_that_loses_its_last_items_is_walked_to_its_new_end() -> None:
    server = ListServer(make_visits(300))

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset == 98:
            del server.visits[-60:]
        return page

    server.change = change

    assert await server.pager().collect() == server.visits
    assert len(server.visits) == 240


async def test_deletions_before_the_place_lose_no_other_item_and_are_counted() -> None:
    server = ListServer(make_visits(300))
    everything = [*server.visits]

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset == 0:
            del server.visits[10:13]
        return page

    server.change = change
    pages = [page async for page in server.pager().pages()]

    assert [visit for page in pages for visit in page.items] == everything
    assert [(page.offset, page.shift) for page in pages[:2]] == [(0, 0), (47, -3)]
    assert {page.shift for page in pages[2:]} == {0}


async def test_a_page_that_is_older_than_the_place_found_is_read_again() -> None:
    """Three visits are deleted before the second page is read, and two before the search."""
    server = ListServer(make_visits(300))
    everything = [*server.visits]
    deletions = {0: 3, 49: 2}

    def change(offset: int, page: VisitPage) -> VisitPage:
        del server.visits[5 : 5 + deletions.pop(offset, 0)]
        return page

    server.change = change
    pages = [page async for page in server.pager(prefetch=1).pages()]

    assert deletions == {}
    assert [visit for page in pages for visit in page.items] == everything
    assert sum(page.shift for page in pages) == -5


async def test_a_list_replaced_by_another_raises_list_changed() -> None:
    server = ListServer(make_visits(300))
    delivered = server.visits[:50]

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset == 0:
            server.visits = [Visit(f"other-{i}", START) for i in range(300)]
        return page

    server.change = change

    items, error = await drain_walk(server.pager())

    assert isinstance(error, ListChangedError)
    assert (error.next_offset, error.resume_point, error.touchpoint_id) == (None, None, "tp-1")
    assert (error.offset, error.moment) == (None, None)
    assert items == delivered
    assert len(server.requests) <= 12


async def test_a_total_that_jitters_changes_nothing() -> None:
    server = ListServer(make_visits(300))
    server.change = lambda _, page: attrs.evolve(page, total=299 + server.answered % 3)

    pages = [page async for page in server.pager().pages()]

    assert [visit for page in pages for visit in page.items] == server.visits
    assert {page.total for page in pages} == {299, 300, 301}


@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("largest_page", [1, 2, 3, 5, 10, 25, 49])
async def test_a_total_that_shrinks_once_is_no_change_though_pages_become_small(
    largest_page: int, prefetch: int
) -> None:
    server = ListServer(make_visits(200))

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset < 98:
            return page
        first = server.largest_page != largest_page
        server.largest_page = largest_page
        return attrs.evolve(page, total=200 - first)

    server.change = change

    assert await server.pager(prefetch=prefetch).collect() == server.visits


@pytest.mark.parametrize("late", [49, 98])
async def test_a_smaller_total_from_a_concurrent_request_is_no_change(late: int) -> None:
    """Of two concurrent requests, only one counts a new visit; either may be answered first."""
    server = ListServer(make_visits(200), turns=lambda number: 30 if number * 49 == late else 1)
    newest = Visit("late", START + timedelta(days=1))

    def change(offset: int, page: VisitPage) -> VisitPage:
        if offset == 49:
            server.visits.append(newest)
            return attrs.evolve(page, total=201)
        return attrs.evolve(page, total=200) if offset == 98 else page

    server.change = change

    assert await server.pager().collect() == server.visits
    assert server.visits[-1] == newest


@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("grow_at", [0, 50, 100, 150, 199])
async def test_a_growing_list_is_walked_to_its_latest_end(prefetch: int, grow_at: int) -> None:
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


async def test_a_page_beyond_the_total_makes_the_walk_check_the_total_again() -> None:
    """A visit arrived after the server counted and before it listed; the next count has it."""
    server = ListServer(make_visits(101))
    server.change = lambda offset, page: attrs.evolve(page, total=100) if offset < 100 else page

    assert await server.pager(page_size=60).collect() == server.visits
    assert server.requests[-1] == (100, 60)


async def test_a_page_beyond_a_total_that_never_grows_raises_incomplete_list() -> None:
    server = ListServer(make_visits(3), change=lambda _, page: attrs.evolve(page, total=2))

    items, error = await drain_walk(server.pager())

    assert isinstance(error, IncompleteListError)
    assert (error.expected, error.received, error.next_offset) == (2, 3, 3)
    assert items == server.visits


async def test_a_walk_that_reaches_its_limit_does_not_check_the_total() -> None:
    server = ListServer(make_visits(3), change=lambda _, page: attrs.evolve(page, total=2))

    assert await server.pager(limit=3).collect() == server.visits
