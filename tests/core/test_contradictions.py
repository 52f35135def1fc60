"""Walks over lists in memory that change, and over servers whose pages contradict each other."""

from datetime import timedelta

import attrs
import pytest

from distinct_async import (
    IncompleteListError,
    ListChangedError,
    RepeatedPageError,
    ResumePoint,
    Visit,
    VisitPage,
)
from tests.support.helpers import drain_walk
from tests.support.list_server import (
    START,
    ListServer,
    make_visits,
    page_offsets,
)


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
    assert error.resume_point == ResumePoint(
        offset=50,
        after=tuple(server.visits[42:50]),
        delivered=50,
        total=300,
        name="total visits of 'tp-1'",
    )
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
    # So long a list that the doubts about a shrinking total run out.
    server = ListServer(make_visits(1_000))
    server.change = lambda _, page: attrs.evolve(page, total=999 + server.answered % 3)

    pages = [page async for page in server.pager().pages()]

    assert [visit for page in pages for visit in page.items] == server.visits
    assert {page.total for page in pages} == {999, 1_000, 1_001}


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


# --- Insertions that outrun the walk


@pytest.mark.parametrize(("insertions", "lost"), [(63, False), (64, True), (1_000, True)])
async def test_a_walk_that_is_outrun_by_insertions_ends_after_64_pages_without_anything_new(
    insertions: int, lost: bool
) -> None:
    server = ListServer(make_visits(30))
    delivered = [*server.visits]

    def change(_: int, page: VisitPage) -> VisitPage:
        number = len(server.requests)
        if number <= insertions:
            # The last delivered visit is the last one of the next page.
            server.visits[:0] = [Visit(f"new-{number}-{i}", START) for i in range(9)]
        return page

    server.change = change

    items, error = await drain_walk(server.pager(page_size=10, prefetch=1))

    if lost:
        assert isinstance(error, ListChangedError)
        assert (error.next_offset, error.resume_point, error.touchpoint_id) == (None, None, "tp-1")
        assert (items, len(server.requests)) == (delivered[:10], 65)
    else:
        assert (items, error) == (delivered, None)
