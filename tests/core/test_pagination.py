"""The walk over a list in memory, so that tests control every interleaving."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from distinct_async import (
    ConfigurationError,
    Pager,
    Visit,
)
from tests.support.helpers import spin
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
    assert (
        repr(pager)
        == "<Pager total visits of 'tp-1': offset=5, limit=None, page_size=20, prefetch=4>"
    )

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
