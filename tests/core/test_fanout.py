"""Many walks side by side: in memory, so that every interleaving can be had, and over sockets."""

import asyncio
import gc
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing
from typing import Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from distinct_async import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DistinctClient,
    DistinctError,
    FanOutError,
    Limits,
    NotFoundError,
    Pager,
    PermissionDeniedError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    Touchpoint,
    TransportError,
    Visit,
    VisitPage,
)
from distinct_async._fanout import FanOut, Touchpoints
from distinct_async.testing import FakeClock, FakeDistinct
from tests.support.helpers import ONCE, eventually, free_slots
from tests.support.list_server import START, ListServer, make_visits

Delivered = dict[str, list[Visit]]


async def spin(turns: int = 50) -> None:
    """Do nothing for so long that all that others may do meanwhile is done."""
    for _ in range(turns):
        await asyncio.sleep(0)


@attrs.define
class Lists:
    """A server in memory of many touchpoints, made when they are first asked for.

    Attributes:
        count: Visits of each touchpoint.
        options: What else its `ListServer` is made with.
        servers: Those that were made, by touchpoint.
        opened: The touchpoints in the order in which their pagers were made.
    """

    count: Callable[[str], int] = lambda _: 120
    options: Callable[[str], dict[str, Any]] = lambda _: {}
    servers: dict[str, ListServer] = attrs.field(factory=dict[str, ListServer])
    opened: list[str] = attrs.field(factory=list[str])

    def server(self, touchpoint_id: str) -> ListServer:
        if touchpoint_id not in self.servers:
            self.servers[touchpoint_id] = ListServer(
                make_visits(self.count(touchpoint_id)),
                touchpoint=Touchpoint(touchpoint_id, touchpoint_id, touchpoint_id),
                **self.options(touchpoint_id),
            )
        return self.servers[touchpoint_id]

    @property
    def answered(self) -> int:
        return sum(server.answered for server in self.servers.values())

    def pages(
        self,
        touchpoint_ids: Touchpoints,
        *,
        concurrency: int = 8,
        prefetch: int = 4,
        page_size: int = 50,
    ) -> AsyncGenerator[VisitPage, None]:
        def make_pager(touchpoint_id: str) -> Pager[Visit, VisitPage]:
            self.opened.append(touchpoint_id)
            server = self.server(touchpoint_id)
            return server.pager(page_size=page_size, prefetch=prefetch)

        return FanOut(
            touchpoint_ids,
            make_pager=make_pager,
            spawn=asyncio.create_task,
            concurrency=concurrency,
        ).pages()


def ids_of(count: int) -> list[str]:
    return [f"tp-{i}" for i in range(1, count + 1)]


async def drain(
    pages: AsyncGenerator[VisitPage, None],
) -> tuple[Delivered, FanOutError | None]:
    """Return what a fan-out delivers of each touchpoint, and how it fails."""
    delivered: Delivered = defaultdict(list)
    try:
        async for page in pages:
            assert page.offset == len(delivered[page.touchpoint.id])
            delivered[page.touchpoint.id].extend(page.items)
    except FanOutError as error:
        return delivered, error
    return delivered, None


async def listed(ids: Iterable[str]) -> AsyncGenerator[str, None]:
    for touchpoint_id in ids:
        await asyncio.sleep(0)
        yield touchpoint_id


# --- What is delivered


@pytest.mark.parametrize("concurrency", [1, 2, 8, 500])
@pytest.mark.parametrize("prefetch", [1, 4])
async def test_every_page_of_every_touchpoint_in_order(concurrency: int, prefetch: int) -> None:
    lists = Lists(
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


GIVEN: dict[str, Callable[[], Touchpoints]] = {
    "list": lambda: ids_of(20),
    "keys": lambda: dict.fromkeys(ids_of(20)),
    "generator": lambda: (name for name in ids_of(20)),
    "async generator": lambda: listed(ids_of(20)),
}


@pytest.mark.parametrize("given_as", GIVEN)
async def test_ids_come_as_any_iterable(given_as: str) -> None:
    lists = Lists()

    delivered, error = await drain(lists.pages(GIVEN[given_as]()))

    assert error is None
    assert {name: len(visits) for name, visits in delivered.items()} == dict.fromkeys(
        ids_of(20), 120
    )


async def test_no_ids_no_pages() -> None:
    assert await drain(Lists().pages([])) == ({}, None)


async def test_a_touchpoint_without_visits_has_an_empty_page() -> None:
    pages = [page async for page in Lists(count=lambda _: 0).pages(["tp-1"])]

    assert [(page.total, page.items) for page in pages] == [(0, ())]


async def test_what_is_given_twice_is_walked_twice() -> None:
    lists = Lists()

    pages = [page async for page in lists.pages(["tp-1", "tp-2", "tp-1"])]

    offsets = Counter((page.touchpoint.id, page.offset) for page in pages)
    assert offsets == {("tp-1", at): 2 for at in (0, 50, 100)} | {
        ("tp-2", at): 1 for at in (0, 50, 100)
    }


@attrs.frozen
class Case:
    """Touchpoints, and how they are walked.

    Attributes:
        sizes: How many visits each has.
        broken: From which offset on the requests of some fail.
        concurrency: Most walks at once.
        prefetch: Most pages of a walk.
        turns: How long the answers take.
        pause: How long the consumer takes.
    """

    sizes: list[int]
    broken: dict[int, int]
    concurrency: int
    prefetch: int
    turns: list[int]
    pause: int

    def lists(self) -> Lists:
        def options(touchpoint_id: str) -> dict[str, Any]:
            def change(offset: int, page: VisitPage) -> VisitPage:
                if offset >= self.broken.get(int(touchpoint_id[3:]), 1_000):
                    raise ServerError(500)
                return page

            return {"change": change, "turns": lambda n: self.turns[n % len(self.turns)]}

        return Lists(count=lambda name: self.sizes[int(name[3:]) - 1], options=options)

    def failures(self, page_size: int) -> dict[str, int]:
        """Return where the walks must fail: at the first page that cannot be had."""
        first = {i: -(-at // page_size) * page_size for i, at in self.broken.items()}
        sizes = dict(enumerate(self.sizes, 1))
        return {f"tp-{i}": at for i, at in first.items() if i in sizes and at < (sizes[i] or 1)}


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
def test_whatever_fails_the_rest_is_delivered(case: Case) -> None:
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


# --- How much at once


async def test_ids_are_taken_only_when_their_walks_begin() -> None:
    lists = Lists(count=lambda _: 70)
    taken = itertools.count(1)
    seen: set[str] = set()
    async with aclosing(lists.pages((f"tp-{i}" for i in taken), concurrency=5)) as pages:
        async for page in pages:
            await spin()
            if page.next_offset is None:
                seen.add(page.touchpoint.id)
            assert len(lists.opened) <= len(seen) + 5
            if len(seen) == 40:
                break

    assert len(lists.opened) <= 45
    # Not one id was taken that was not walked.
    assert next(taken) == len(lists.opened) + 1


@pytest.mark.parametrize(("concurrency", "prefetch"), [(1, 1), (3, 4), (8, 2), (32, 16)])
async def test_a_slow_consumer_bounds_what_is_fetched(concurrency: int, prefetch: int) -> None:
    lists, most = Lists(count=lambda _: 1_000), 0
    fan_out = lists.pages(ids_of(60), concurrency=concurrency, prefetch=prefetch, page_size=10)
    async with aclosing(fan_out) as pages:
        for consumed in range(1, 2_000):
            await anext(pages)
            # Long enough that all that may be fetched meanwhile is.
            await spin(3 if consumed % 50 else 100)
            begun = sum(len(server.requests) for server in lists.servers.values())
            most = max(most, begun - consumed)
            assert begun - consumed <= concurrency * prefetch

    # The bound is used, too.
    assert most == concurrency * prefetch


async def test_a_page_is_delivered_as_soon_as_it_is_there() -> None:
    late = asyncio.Event()

    def options(touchpoint_id: str) -> dict[str, Any]:
        return {"turns": lambda _: 10**9 if touchpoint_id == "tp-2" and not late.is_set() else 1}

    lists = Lists(options=options)
    async with aclosing(lists.pages(ids_of(9), concurrency=2)) as pages:
        delivered = Counter([(await anext(pages)).touchpoint.id for _ in range(8 * 3)])

        assert delivered == {name: 3 for name in ids_of(9) if name != "tp-2"}


async def test_short_pages_are_filled_up_in_order() -> None:
    def options(touchpoint_id: str) -> dict[str, Any]:
        def change(offset: int, page: VisitPage) -> VisitPage:
            return attrs.evolve(page, items=page.items[:20]) if offset % 50 == 0 else page

        return {"change": change}

    lists = Lists(options=options)
    delivered, error = await drain(lists.pages(ids_of(9), concurrency=3))

    assert error is None
    assert delivered == {name: server.visits for name, server in lists.servers.items()}


async def test_a_page_is_delivered_though_the_one_after_it_is_late() -> None:
    def options(_: str) -> dict[str, Any]:
        def change(offset: int, page: VisitPage) -> VisitPage:
            return attrs.evolve(page, items=page.items[:20]) if offset == 50 else page

        # The third request is for offset 100; only then is the gap of the second filled.
        return {"change": change, "turns": lambda number: 10**9 if number == 2 else 1}

    async with aclosing(Lists(options=options).pages(["tp-1"])) as pages:
        assert [(await anext(pages)).offset for _ in range(3)] == [0, 50, 70]


async def test_no_touchpoint_starves() -> None:
    lists = Lists(count=lambda _: 50)
    # Of one moment, so that the repetition is none.
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


async def test_all_walks_go_on_while_the_pages_of_one_are_consumed() -> None:
    lists = Lists(count=lambda _: 1_000)
    async with aclosing(lists.pages(ids_of(4), concurrency=4)) as pages:
        first = await anext(pages)
        await spin()
        await anext(pages)
        await spin()

    # The first pages of all had come, and the next ones were asked for before they were taken.
    others = [server for name, server in lists.servers.items() if name != first.touchpoint.id]
    assert all(len(server.requests) > 1 for server in others)


# --- Failures


def failing(**errors: Callable[[], DistinctError]) -> Lists:
    """Make a server on which some touchpoints (with _ for -) fail from offset 50 on."""

    def options(touchpoint_id: str) -> dict[str, Any]:
        def change(offset: int, page: VisitPage) -> VisitPage:
            if offset >= 50 and (make := errors.get(touchpoint_id.replace("-", "_"))):
                raise make()
            return page

        return {"change": change}

    return Lists(options=options)


async def test_failures_come_at_the_end_all_at_once() -> None:
    lists = failing(tp_2=lambda: NotFoundError(404), tp_5=lambda: TransportError("broken"))

    delivered, error = await drain(lists.pages(ids_of(30)))

    assert error is not None
    assert str(error) == "2 of 30 touchpoints failed"
    assert {name: type(failure) for name, failure in error.failures.items()} == {
        "tp-2": NotFoundError,
        "tp-5": TransportError,
    }
    assert {failure.next_offset for failure in error.failures.values()} == {50}
    assert error.started == 30
    assert {name: len(visits) for name, visits in delivered.items()} == {
        name: 50 if name in error.failures else 120 for name in ids_of(30)
    }


async def test_failures_hold_no_frames_and_so_no_pages() -> None:
    _, error = await drain(failing(tp_1=lambda: ServerError(500)).pages(ids_of(2)))

    assert error is not None
    assert [failure.__traceback__ for failure in error.exceptions] == [None]


def failing_with_more_in_flight() -> Lists:
    """Make a server on which the second page of tp-1 fails while the third does not come."""

    def options(touchpoint_id: str) -> dict[str, Any]:
        failures = failing(tp_1=lambda: ServerError(500)).options(touchpoint_id)
        return {**failures, "turns": lambda number: 1 if number < 2 else 10**9}

    return Lists(options=options)


async def test_pages_past_a_failure_are_dropped_before_others_are_asked_for() -> None:
    lists = failing_with_more_in_flight()
    async with aclosing(lists.pages(["tp-1", "tp-2"], concurrency=1)) as pages:
        assert (await anext(pages)).touchpoint.id == "tp-1"
        assert (await anext(pages)).touchpoint.id == "tp-2"

        assert lists.servers["tp-1"].in_flight == 0
        assert len(lists.servers["tp-1"].requests) == 3


async def test_pages_past_the_last_failure_are_gone_when_it_is_raised() -> None:
    lists, before = failing_with_more_in_flight(), asyncio.all_tasks()

    _, error = await drain(lists.pages(["tp-1"]))

    assert error is not None
    assert len(lists.servers["tp-1"].requests) == 3
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("fatal", [AuthenticationError(401), PermissionDeniedError(403)])
async def test_a_fatal_failure_starts_no_more(fatal: DistinctError) -> None:
    lists = failing(tp_3=lambda: fatal)

    delivered, error = await drain(lists.pages(f"tp-{i}" for i in itertools.count(1)))

    assert error is not None
    assert list(error.failures.values()) == [fatal]
    # The ones that were open are walked to their end.
    assert {len(visits) for name, visits in delivered.items() if name != "tp-3"} == {120}
    assert list(delivered) == lists.opened == ids_of(error.started)
    assert error.started < 3 + 2 * 8
    assert "; no more were started" in str(error)


async def test_a_walk_that_cannot_even_begin_is_a_failure_like_others() -> None:
    def spawn(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        if len(lists.opened) == 3:
            work.close()
            raise ClientClosedError("closed")
        return asyncio.create_task(work)

    lists = Lists()

    def make_pager(touchpoint_id: str) -> Pager[Visit, VisitPage]:
        lists.opened.append(touchpoint_id)
        pager = lists.server(touchpoint_id).pager()
        return attrs.evolve(pager, source=attrs.evolve(pager.source, spawn=spawn))

    fan_out = FanOut(ids_of(9), make_pager=make_pager, spawn=asyncio.create_task, concurrency=3)
    delivered, error = await drain(fan_out.pages())

    assert error is not None
    assert set(error.failures) == set(ids_of(3))
    assert {type(failure) for failure in error.exceptions} == {ClientClosedError}
    assert list(delivered) == ids_of(2)
    assert error.started == 3


async def test_a_failure_that_is_not_fatal_stops_nothing() -> None:
    lists = failing(tp_3=lambda: RateLimitError(429, retry_after=1e6))

    delivered, error = await drain(lists.pages(ids_of(50)))

    assert error is not None
    assert error.started == len(delivered) == 50
    assert "started" not in str(error)


async def test_an_id_that_is_unusable_fails_alone(fake: FakeDistinct, client: Any) -> None:
    for name in ids_of(3):
        fake.add_touchpoint(name)

    delivered, error = await drain(
        client.pages_across(["tp-1", "", "tp-2", "\ud800", "tp-3"], concurrency=1)
    )

    assert list(delivered) == ids_of(3)
    assert error is not None
    assert {name: type(failure) for name, failure in error.failures.items()} == {
        "": ConfigurationError,
        "\ud800": ConfigurationError,
    }
    assert error.started == 5


# --- Ids that cannot be taken


class IdsError(Exception):
    """What the caller's own iterable raises."""


def raising(error: BaseException, after: int) -> Iterator[str]:
    yield from ids_of(after)
    raise error


async def raising_async(error: BaseException, after: int) -> AsyncGenerator[str, None]:
    for name in ids_of(after):
        yield name
    raise error


@pytest.mark.parametrize("ids", [raising, raising_async])
@pytest.mark.parametrize("after", [0, 3, 20])
async def test_what_the_ids_raise_comes_after_what_was_started(
    ids: Callable[..., Touchpoints], after: int
) -> None:
    lists, own = Lists(), IdsError()
    own.__cause__ = ValueError("why")
    with pytest.raises(IdsError) as caught:
        async for _ in lists.pages(ids(own, after)):
            pass

    assert caught.value is own
    assert repr(own.__cause__) == "ValueError('why')"
    assert lists.answered == after * 3


async def test_what_the_ids_raise_is_the_cause_if_touchpoints_failed() -> None:
    lists, own = failing(tp_1=lambda: ServerError(500)), IdsError()

    _, error = await drain(lists.pages(raising(own, 3)))

    assert error is not None
    assert error.__cause__ is own
    assert (list(error.failures), error.started) == (["tp-1"], 3)
    assert str(error).startswith("1 of 3 touchpoints failed; no more were started")


async def test_an_error_of_ours_in_the_ids_is_one_of_the_group() -> None:
    lists, own = failing(tp_1=lambda: ServerError(500)), NotFoundError(404)

    delivered, error = await drain(lists.pages(raising_async(own, 3)))

    assert error is not None
    assert list(error.failures) == ["tp-1"]
    assert error.exceptions[1:] == (own,)
    assert (error.started, error.__cause__, len(delivered)) == (3, None, 3)


async def test_a_listing_that_fails_later_than_a_fatal_failure_is_told_too() -> None:
    lists, own = failing(tp_1=lambda: AuthenticationError(401)), ServerError(500)

    _, error = await drain(lists.pages(raising(own, 1)))

    assert error is not None
    assert [type(failure) for failure in error.exceptions] == [AuthenticationError, ServerError]


async def test_ids_that_are_cancelled_cancel() -> None:
    lists = failing(tp_1=lambda: ServerError(500))
    with pytest.raises(asyncio.CancelledError):
        await drain(lists.pages(raising_async(asyncio.CancelledError(), 3)))

    assert lists.opened == ids_of(3)


@pytest.mark.parametrize("wrong", [7, None, b"tp-2", ("tp-2",)])
async def test_what_is_no_id_ends_the_ids(wrong: Any) -> None:
    delivered, error = await drain(Lists().pages(["tp-1", wrong, "tp-3"]))

    assert list(delivered) == ["tp-1"]
    assert error is not None
    (failure,) = error.exceptions
    assert isinstance(failure, ConfigurationError)
    kind = type(wrong).__name__
    assert failure.args == (f"touchpoint_ids must give strings or touchpoints, got {kind}",)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"touchpoint_ids": "tp-1"}, "touchpoint_ids must be an iterable"),
        ({"touchpoint_ids": b"tp-1"}, "touchpoint_ids must be an iterable"),
        ({"touchpoint_ids": 7}, "touchpoint_ids must be an iterable.*got int"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"concurrency": True}, "concurrency must be an integer"),
        ({"prefetch": 0}, "prefetch must be at least 1"),
        ({"page_size": 0}, "page_size must be at least 1"),
        ({"visits_type": "SOME"}, "visits_type"),
        ({"experience_id": " "}, "experience_id must not be empty"),
    ],
)
async def test_wrong_arguments_are_told_at_once(
    client: DistinctClient, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        client.pages_across(**{"touchpoint_ids": ["tp-1"], **arguments})


# --- Ends


async def test_an_iterator_can_be_gone_on_with() -> None:
    lists, ids = Lists(), iter(ids_of(9))
    async with aclosing(lists.pages(ids, concurrency=2)) as pages:
        await anext(pages)
        await spin()

    assert [*lists.opened, *ids] == ids_of(9)


class Listing(AsyncIterable[str]):
    """Makes a generator each time it is iterated, as a pager does."""

    def __init__(self, last_words: BaseException | None = None) -> None:
        self.ended = 0
        self.last_words = last_words

    @override
    async def __aiter__(self) -> AsyncGenerator[str, None]:
        try:
            for name in ids_of(9):
                yield name
        finally:
            self.ended += 1
            if self.last_words is not None:
                raise self.last_words


@pytest.mark.parametrize("made", [Listing.__aiter__, lambda listing: listing])
@pytest.mark.parametrize("taken", [1, 27])
async def test_an_async_generator_is_closed(
    made: Callable[[Listing], Touchpoints], taken: int
) -> None:
    listing = Listing()
    ids = made(listing)
    async with aclosing(Lists().pages(ids, concurrency=2)) as pages:
        for _ in range(taken):
            await anext(pages)

    assert listing.ended == 1


async def test_what_a_generator_raises_when_it_is_closed_is_not_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listing = Listing(IdsError("on closing"))
    async with aclosing(Lists().pages(listing, concurrency=2)) as pages:
        await anext(pages)
    del pages
    gc.collect()

    # There is nobody to raise it to.
    assert "on closing" in caplog.text


async def test_an_iterator_need_not_be_a_generator() -> None:
    class Ids:
        def __init__(self) -> None:
            self.left = ids_of(3)

        def __aiter__(self) -> "Ids":
            return self

        async def __anext__(self) -> str:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    delivered, error = await drain(Lists().pages(Ids()))

    assert (list(delivered), error) == (ids_of(3), None)


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_nothing_is_left_wherever_it_ends(turns: int, how: str) -> None:
    lists = Lists(options=lambda _: {"turns": lambda number: 1 + number * 3 % 5})
    before = asyncio.all_tasks()

    async def consume() -> None:
        async with aclosing(lists.pages(listed(ids_of(50)), concurrency=3)) as pages:
            for _ in range(turns if how == "close" else 10**6):
                await anext(pages)

    consumer = asyncio.create_task(consume())
    if how == "cancel":
        await spin(turns * 2)
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
    await consumer if how == "close" else None

    assert asyncio.all_tasks() == before
    assert all(server.in_flight == 0 for server in lists.servers.values())


# --- Over sockets


@pytest.fixture
async def crowd() -> Any:
    async with FakeDistinct.synthetic(touchpoints=30, visits=4_000) as fake:
        yield fake


@pytest.mark.parametrize("visits_type", ["TOTAL", "UNIQUE"])
async def test_an_experience_in_full(crowd: FakeDistinct, visits_type: str) -> None:
    crowd.fail_rate = 0.1
    async with crowd.client(runtime=FakeClock().runtime) as client:
        delivered, error = await drain(
            client.pages_across(
                client.touchpoints("exp-1", page_size=7), visits_type=visits_type, page_size=20
            )
        )
        one_by_one = client.unique_visits if visits_type == "UNIQUE" else client.total_visits
        expected = {name: await one_by_one(name).collect() for name in ids_of(30)}

    assert error is None
    assert delivered == expected
    counts = [touchpoint.visits for touchpoint in crowd._touchpoints.values()]
    unique = visits_type == "UNIQUE"
    assert sum(map(len, delivered.values())) == sum(v.count(unique=unique) for v in counts) > 1_000


async def test_walks_begin_while_the_experience_is_being_listed(crowd: FakeDistinct) -> None:
    async with crowd.client() as client:
        async for _ in client.pages_across(client.touchpoints("exp-1", page_size=1)):
            pass

    kinds = [request.parameters["metricsType"] for request in crowd.requests]
    assert kinds.index("TOUCHPOINT") < 10
    assert kinds[20:].count("EXPERIENCE") > 5


async def test_what_each_request_asks_for(crowd: FakeDistinct) -> None:
    async with crowd.client() as client:
        pages = client.pages_across(["tp-1"], experience_id="exp-1", page_size=30)
        async for _ in pages:
            pass
        with pytest.raises(FanOutError) as caught:
            await anext(client.pages_across(["tp-1"], experience_id="exp-2"))

    assert isinstance(caught.value.failures["tp-1"], NotFoundError)
    assert crowd.requests[0].parameters == {
        "metricsType": "TOUCHPOINT",
        "touchpointId": "tp-1",
        "visitsType": "TOTAL",
        "experienceId": "exp-1",
        "pageSize": "30",
    } | {k: v for k, v in crowd.requests[0].parameters.items() if k == "offset"}


async def test_a_failure_is_resumed_where_it_says(crowd: FakeDistinct) -> None:
    async def intercept(request: Any, payload: dict[str, Any]) -> dict[str, Any]:
        asked = request.parameters
        if asked.get("touchpointId") == "tp-4" and int(asked.get("offset", 0)) >= 40:
            return {"statusCode": 500, "message": "no"}
        return payload

    crowd.intercept = intercept
    async with crowd.client(retry=ONCE) as client:
        delivered, error = await drain(client.pages_across(ids_of(30), page_size=20))
        assert error is not None
        failure = error.failures["tp-4"]
        assert (failure.next_offset, failure.attempts, type(failure)) == (40, 1, ServerError)
        crowd.intercept = None
        assert failure.next_offset is not None
        rest = await client.total_visits("tp-4", offset=failure.next_offset).collect()

        assert delivered["tp-4"] + rest == await client.total_visits("tp-4").collect()
    assert sum(map(len, delivered.values())) + len(rest) == 4_000


async def test_except_star_sees_what_is_inside(crowd: FakeDistinct) -> None:
    seen: list[tuple[list[str], int]] = []
    async with crowd.client() as client:
        try:
            async for _ in client.pages_across(["tp-1", "nowhere", "tp-2", "not-there"]):
                pass
        except* NotFoundError as group:
            part = cast("FanOutError", group)
            seen.append((sorted(part.failures), part.started))

    assert seen == [(["not-there", "nowhere"], 4)]


@pytest.mark.parametrize("trouble", ["401", "403", "outage"])
async def test_an_endless_list_of_ids_ends_when_nothing_works(
    crowd: FakeDistinct, trouble: str
) -> None:
    crowd.allowed_ips = set() if trouble == "403" else None
    crowd.fail_rate = 1.0 if trouble == "outage" else 0.0
    key = "wrong" if trouble == "401" else crowd.api_key
    async with crowd.client(api_key=key, runtime=FakeClock().runtime) as client:
        delivered, error = await drain(
            client.pages_across((f"tp-{i % 30}" for i in itertools.count()), concurrency=4)
        )

    assert error is not None
    assert not delivered
    expected = {"401": AuthenticationError, "403": PermissionDeniedError, "outage": ServerError}
    assert {type(failure) for failure in error.exceptions} == {expected[trouble]}
    # An outage costs what the retry budget allows: 100 retries.
    assert error.started <= (8 if trouble != "outage" else 100 // 4 + 8)
    assert crowd.request_count == error.started + (100 if trouble == "outage" else 0)


async def test_without_retries_a_failure_is_no_outage(crowd: FakeDistinct) -> None:
    crowd.fail_next(503, times=3)
    async with crowd.client(retry=RetryPolicy(budget=0)) as client:
        delivered, error = await drain(client.pages_across(ids_of(30), concurrency=1))

    assert error is not None
    assert (len(error.failures), error.started, len(delivered)) == (3, 30, 27)


async def test_a_client_that_was_closed_starts_nothing(crowd: FakeDistinct) -> None:
    async with crowd.client() as client:
        pass
    ids = iter(ids_of(3))
    delivered, error = await drain(client.pages_across(ids))

    assert error is not None
    assert ([type(e) for e in error.exceptions], error.started) == ([ClientClosedError], 0)
    assert not delivered
    assert list(ids) == ids_of(3)


@pytest.mark.parametrize("ids", [lambda: iter(ids_of(30)), lambda: listed(ids_of(30))])
async def test_closing_the_client_ends_it(
    crowd: FakeDistinct, ids: Callable[[], Touchpoints]
) -> None:
    before = asyncio.all_tasks()
    client = crowd.client()
    pages = client.pages_across(ids(), page_size=5, concurrency=3)
    await anext(pages)
    await client.aclose()

    _, error = await drain_rest(pages)
    assert error is not None
    assert {type(failure) for failure in error.exceptions} == {ClientClosedError}
    assert error.started <= 6
    await eventually(lambda: not {t for t in asyncio.all_tasks() - before if "web" not in repr(t)})


async def drain_rest(
    pages: AsyncGenerator[VisitPage, None],
) -> tuple[int, FanOutError | None]:
    count = 0
    try:
        async for _ in pages:
            count += 1
    except FanOutError as error:
        return count, error
    return count, None


async def test_closing_the_client_while_no_walk_is_open(crowd: FakeDistinct) -> None:
    endless = asyncio.Event()

    async def ids() -> AsyncGenerator[str, None]:
        yield "tp-1"
        await endless.wait()

    client = crowd.client()
    pages = client.pages_across(ids())
    while (await anext(pages)).next_offset is not None:
        pass
    rest = asyncio.create_task(drain_rest(pages))
    await spin()
    await client.aclose()

    count, error = await rest
    assert error is not None
    assert count == 0
    (failure,) = error.exceptions
    assert isinstance(failure, ClientClosedError)
    assert "before all touchpoints were started" in str(failure)
    assert error.started == 1


async def test_an_abandoned_one_is_ended(crowd: FakeDistinct) -> None:
    async with crowd.client(limits=Limits(concurrency=5)) as client:
        for _ in range(10):
            async for page in client.pages_across(
                (touchpoint.id async for touchpoint in client.touchpoints("exp-1", page_size=3)),
                page_size=3,
            ):
                if page.offset >= 6:
                    break
        gc.collect()
        await eventually(lambda: not client._session._tasks)
        assert await free_slots(client) == 5


def test_one_that_is_held_when_its_loop_ends_ends_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held: list[AsyncGenerator[VisitPage, None]] = []

    async def use() -> None:
        async with (
            FakeDistinct.synthetic(touchpoints=30, visits=4_000) as fake,
            fake.client() as client,
        ):
            held.append(client.pages_across(client.touchpoints("exp-1", page_size=2), page_size=5))
            held.append(client.pages_across(ids_of(30), page_size=5))
            for pages in held:
                await anext(pages)

    asyncio.run(use())
    # asyncio logs what goes wrong while it closes the generators that are left.
    assert len(held) == 2
    assert not caplog.records
