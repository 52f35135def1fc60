"""Walks over lists in memory whose servers return other page sizes than requested."""

import random

import attrs
import pytest

from distinct_async import (
    IncompleteListError,
    NotFoundError,
    VisitPage,
)
from tests.support.helpers import drain_walk
from tests.support.list_server import (
    ListServer,
    make_visits,
    page_offsets,
)


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
