"""Fan-outs over lists in memory: what they deliver, and how far they read ahead."""

import asyncio
import itertools
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Callable,
)
from contextlib import aclosing
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distinct_async import (
    FanOutError,
    ServerError,
    Touchpoint,
    Visit,
    VisitPage,
)
from distinct_async._fanout import Touchpoints
from tests.support.fan_out import Delivered, drain, listed
from tests.support.helpers import spin
from tests.support.list_server import START, ListServer, ManyLists, ids_of, page_offsets

# --- Delivery


@pytest.mark.parametrize("concurrency", [1, 2, 8, 500])
@pytest.mark.parametrize("prefetch", [1, 4])
async def test_a_fan_out_delivers_every_page_of_every_touchpoint_in_order(
    concurrency: int, prefetch: int
) -> None:
    lists = ManyLists(
        count=lambda touchpoint_id: int(touchpoint_id[3:]) * 7 % 260,
        options=lambda _: {"turns": lambda number: 1 + number * 5 % 7},
    )

    delivered, error = await drain(
        lists.pages(ids_of(100), concurrency=concurrency, prefetch=prefetch)
    )

    assert error is None
    assert delivered == {name: server.visits for name, server in lists.servers.items()}
    assert lists.opened == ids_of(100)
    assert len(delivered) == 100


ITERABLES: dict[str, Callable[[], Touchpoints]] = {
    "list": lambda: ids_of(20),
    "keys": lambda: dict.fromkeys(ids_of(20)),
    "generator": lambda: (name for name in ids_of(20)),
    "async generator": lambda: listed(ids_of(20)),
}


@pytest.mark.parametrize("kind", ITERABLES)
async def test_ids_may_be_any_iterable(kind: str) -> None:
    lists = ManyLists()

    delivered, error = await drain(lists.pages(ITERABLES[kind]()))

    assert error is None
    assert {name: len(visits) for name, visits in delivered.items()} == dict.fromkeys(
        ids_of(20), 120
    )


async def test_no_ids_yield_no_pages() -> None:
    assert await drain(ManyLists().pages([])) == ({}, None)


async def test_a_touchpoint_without_visits_yields_one_empty_page() -> None:
    pages = [page async for page in ManyLists(count=lambda _: 0).pages(["tp-1"])]

    assert [(page.total, page.items) for page in pages] == [(0, ())]


async def test_an_id_listed_twice_is_walked_twice() -> None:
    lists = ManyLists()

    pages = [page async for page in lists.pages(["tp-1", "tp-2", "tp-1"])]

    offsets = Counter((page.touchpoint.id, page.offset) for page in pages)
    assert offsets == {("tp-1", at): 2 for at in (0, 50, 99)} | {
        ("tp-2", at): 1 for at in (0, 50, 99)
    }


@attrs.frozen
class Case:
    """Touchpoints, their failures, and the settings of a fan-out over them.

    Attributes:
        sizes: The number of visits of each touchpoint.
        broken: The offset from which the requests of a touchpoint fail, by number.
        concurrency: Most open walks.
        prefetch: Most pages per walk in flight or buffered.
        turns: Event-loop turns that each response takes.
        pause: Event-loop turns that the consumer takes per page.
    """

    sizes: list[int]
    broken: dict[int, int]
    concurrency: int
    prefetch: int
    turns: list[int]
    pause: int

    def lists(self) -> ManyLists:
        def options(touchpoint_id: str) -> dict[str, Any]:
            def change(offset: int, page: VisitPage) -> VisitPage:
                if offset >= self.broken.get(int(touchpoint_id[3:]), 1_000):
                    raise ServerError(500)
                return page

            return {"change": change, "turns": lambda n: self.turns[n % len(self.turns)]}

        return ManyLists(count=lambda name: self.sizes[int(name[3:]) - 1], options=options)

    def failures(self, page_size: int) -> dict[str, int]:
        """Return how many visits are delivered before the first page that fails, by touchpoint."""
        delivered: dict[str, int] = {}
        for number, size in enumerate(self.sizes, 1):
            offsets = page_offsets(size, page_size)
            failing = [at for at in offsets if at >= self.broken.get(number, 1_000)]
            if failing:
                # The first visit of each page but the first was delivered before.
                delivered[f"tp-{number}"] = failing[0] + 1 if failing[0] else 0
        return delivered


@given(
    st.builds(
        Case,
        sizes=st.lists(st.integers(0, 130), max_size=12),
        broken=st.dictionaries(st.integers(1, 12), st.integers(0, 130), max_size=4),
        concurrency=st.integers(1, 9),
        prefetch=st.integers(1, 5),
        turns=st.lists(st.integers(0, 9), min_size=1, max_size=7),
        pause=st.integers(0, 5),
    )
)
def test_failures_do_not_affect_the_delivery_of_the_rest(case: Case) -> None:
    lists, ids = case.lists(), ids_of(len(case.sizes))

    async def run() -> tuple[Delivered, FanOutError | None]:
        pages = lists.pages(ids, concurrency=case.concurrency, prefetch=case.prefetch, page_size=20)
        return await drain(slowly(pages, case.pause))

    delivered, error = asyncio.run(run())

    failed = {} if error is None else {k: e.next_offset for k, e in error.failures.items()}
    assert failed == case.failures(page_size=20)
    for name in ids:
        assert delivered.get(name, []) == lists.servers[name].visits[: failed.get(name)]


async def slowly(
    pages: AsyncGenerator[VisitPage, None], turns: int
) -> AsyncGenerator[VisitPage, None]:
    async with aclosing(pages):
        async for page in pages:
            await spin(turns)
            yield page


# --- Bounds and fairness


async def test_an_id_is_taken_only_when_its_walk_can_begin() -> None:
    lists = ManyLists(count=lambda _: 70)
    numbers = itertools.count(1)
    finished: set[str] = set()
    async with aclosing(lists.pages((f"tp-{i}" for i in numbers), concurrency=5)) as pages:
        async for page in pages:
            await spin()
            if page.next_offset is None:
                finished.add(page.touchpoint.id)
            assert len(lists.opened) <= len(finished) + 5
            if len(finished) == 40:
                break

    assert len(lists.opened) <= 45
    # Every id that was taken was walked.
    assert next(numbers) == len(lists.opened) + 1


@pytest.mark.parametrize(("concurrency", "prefetch"), [(1, 1), (3, 4), (8, 2), (32, 16)])
async def test_a_slow_consumer_bounds_the_pages_fetched_ahead(
    concurrency: int, prefetch: int
) -> None:
    lists, most = ManyLists(count=lambda _: 1_000), 0
    fan_out = lists.pages(ids_of(60), concurrency=concurrency, prefetch=prefetch, page_size=10)
    async with aclosing(fan_out) as pages:
        for consumed in range(1, 2_000):
            await anext(pages)
            # A slow consumer lets the walks fetch all they may.
            await spin(3 if consumed % 50 else 100)
            begun = sum(len(server.requests) for server in lists.servers.values())
            most = max(most, begun - consumed)
            assert begun - consumed <= concurrency * prefetch

    # The walks use the whole bound.
    assert most == concurrency * prefetch


async def test_a_slow_touchpoint_does_not_delay_the_pages_of_others() -> None:
    late = asyncio.Event()

    def options(touchpoint_id: str) -> dict[str, Any]:
        return {"turns": lambda _: 10**9 if touchpoint_id == "tp-2" and not late.is_set() else 1}

    lists = ManyLists(options=options)
    async with aclosing(lists.pages(ids_of(9), concurrency=2)) as pages:
        delivered = Counter([(await anext(pages)).touchpoint.id for _ in range(8 * 3)])

        assert delivered == {name: 3 for name in ids_of(9) if name != "tp-2"}


async def test_the_gaps_after_short_pages_are_filled_in_order() -> None:
    def options(touchpoint_id: str) -> dict[str, Any]:
        def change(offset: int, page: VisitPage) -> VisitPage:
            return attrs.evolve(page, items=page.items[:20]) if offset % 49 == 0 else page

        return {"change": change}

    lists = ManyLists(options=options)
    delivered, error = await drain(lists.pages(ids_of(9), concurrency=3))

    assert error is None
    assert delivered == {name: server.visits for name, server in lists.servers.items()}


async def test_a_page_is_delivered_while_the_next_one_is_late() -> None:
    def options(_: str) -> dict[str, Any]:
        def change(offset: int, page: VisitPage) -> VisitPage:
            return attrs.evolve(page, items=page.items[:20]) if offset == 49 else page

        # The third request, for offset 98, stalls; the fourth fills the gap at 69.
        return {"change": change, "turns": lambda number: 10**9 if number == 2 else 1}

    async with aclosing(ManyLists(options=options).pages(["tp-1"])) as pages:
        assert [(await anext(pages)).offset for _ in range(3)] == [0, 50, 69]


async def test_a_huge_touchpoint_does_not_starve_the_others() -> None:
    lists = ManyLists(count=lambda _: 50)
    # The same visit every time, as a million different ones would take long to make.
    lists.servers["tp-1"] = ListServer(
        [Visit("user", START)] * 1_000_000, touchpoint=Touchpoint("tp-1", "Door", "door")
    )
    delivered: Counter[str] = Counter()
    async with aclosing(lists.pages(ids_of(1_001), concurrency=8)) as pages:
        async for page in pages:
            delivered[page.touchpoint.id] += 1
            if len(delivered) == 1_001:
                break

    assert 100 < delivered["tp-1"] < 1_000
    assert delivered.total() - delivered["tp-1"] == 1_000


async def test_all_walks_advance_while_the_pages_of_one_are_consumed() -> None:
    lists = ManyLists(count=lambda _: 1_000)
    async with aclosing(lists.pages(ids_of(4), concurrency=4)) as pages:
        first = await anext(pages)
        await spin()
        await anext(pages)
        await spin()

    # Every walk requested its next pages before its first one was consumed.
    others = [server for name, server in lists.servers.items() if name != first.touchpoint.id]
    assert all(len(server.requests) > 1 for server in others)
