"""Fan-outs over lists in memory: failures, raising iterables and early ends."""

import asyncio
import gc
import itertools
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Coroutine,
    Iterator,
)
from contextlib import aclosing
from typing import Any

import pytest
from typing_extensions import override

from distinct_async import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DistinctError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
    VisitPage,
)
from distinct_async._fanout import Touchpoints
from tests.support.fan_out import drain, listed
from tests.support.helpers import spin
from tests.support.list_server import ManyLists, ids_of

# --- Failures


def failing(**errors: Callable[[], DistinctError]) -> ManyLists:
    """Create a server on which touchpoints (`tp_1` names tp-1) fail after 50 visits."""

    def options(touchpoint_id: str) -> dict[str, Any]:
        def change(offset: int, page: VisitPage) -> VisitPage:
            if offset >= 49 and (make := errors.get(touchpoint_id.replace("-", "_"))):
                raise make()
            return page

        return {"change": change}

    return ManyLists(options=options)


async def test_all_failures_are_raised_together_at_the_end() -> None:
    lists = failing(tp_2=lambda: ServerError(500), tp_5=lambda: TransportError("broken"))

    delivered, error = await drain(lists.pages(ids_of(30)))

    assert error is not None
    assert str(error) == "2 of 30 touchpoints failed"
    assert {name: type(failure) for name, failure in error.failures.items()} == {
        "tp-2": ServerError,
        "tp-5": TransportError,
    }
    assert {failure.next_offset for failure in error.failures.values()} == {50}
    assert error.started == 30
    assert {name: len(visits) for name, visits in delivered.items()} == {
        name: 50 if name in error.failures else 120 for name in ids_of(30)
    }


async def test_failures_keep_no_frames_and_therefore_no_pages_alive() -> None:
    _, error = await drain(failing(tp_1=lambda: ServerError(500)).pages(ids_of(2)))

    assert error is not None
    assert [failure.__traceback__ for failure in error.exceptions] == [None]


def failing_with_more_in_flight() -> ManyLists:
    """Create a server on which the second page of tp-1 fails while the third stalls."""

    def options(touchpoint_id: str) -> dict[str, Any]:
        failures = failing(tp_1=lambda: ServerError(500)).options(touchpoint_id)
        return {**failures, "turns": lambda number: 1 if number < 2 else 10**9}

    return ManyLists(options=options)


async def test_requests_past_a_failure_are_cancelled_before_the_next_walk_begins() -> None:
    lists = failing_with_more_in_flight()
    async with aclosing(lists.pages(["tp-1", "tp-2"], concurrency=1)) as pages:
        assert (await anext(pages)).touchpoint.id == "tp-1"
        assert (await anext(pages)).touchpoint.id == "tp-2"

        assert lists.servers["tp-1"].in_flight == 0
        assert len(lists.servers["tp-1"].requests) == 3


async def test_requests_past_the_last_failure_have_ended_when_it_is_raised() -> None:
    lists, before = failing_with_more_in_flight(), asyncio.all_tasks()

    _, error = await drain(lists.pages(["tp-1"]))

    assert error is not None
    assert len(lists.servers["tp-1"].requests) == 3
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("fatal", [AuthenticationError(401), PermissionDeniedError(403)])
async def test_after_a_fatal_failure_no_more_walks_begin(fatal: DistinctError) -> None:
    lists = failing(tp_3=lambda: fatal)

    delivered, error = await drain(lists.pages(f"tp-{i}" for i in itertools.count(1)))

    assert error is not None
    assert list(error.failures.values()) == [fatal]
    # Walks that were already open run to their end.
    assert {len(visits) for name, visits in delivered.items() if name != "tp-3"} == {120}
    assert list(delivered) == lists.opened == ids_of(error.started)
    assert error.started < 3 + 2 * 8
    assert "; no more were started" in str(error)


async def test_a_walk_that_cannot_begin_fails_like_any_other() -> None:
    def spawn(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | DistinctError:
        if len(lists.opened) == 3:
            work.close()
            return ClientClosedError("closed")
        return asyncio.create_task(work)

    lists = ManyLists(spawn=spawn)
    delivered, error = await drain(lists.pages(ids_of(9), concurrency=3))

    assert error is not None
    assert set(error.failures) == set(ids_of(3))
    assert {type(failure) for failure in error.exceptions} == {ClientClosedError}
    assert list(delivered) == ids_of(2)
    assert error.started == 3


async def test_an_ordinary_failure_does_not_stop_other_walks() -> None:
    lists = failing(tp_3=lambda: RateLimitError(429, retry_after=1e6))

    delivered, error = await drain(lists.pages(ids_of(50)))

    assert error is not None
    assert error.started == len(delivered) == 50
    assert "started" not in str(error)


# --- Iterables of ids that raise


class IdsError(Exception):
    """Raised by the caller's own iterable."""


def raising(error: BaseException, after: int) -> Iterator[str]:
    yield from ids_of(after)
    raise error


async def raising_async(error: BaseException, after: int) -> AsyncGenerator[str, None]:
    for name in ids_of(after):
        yield name
    raise error


@pytest.mark.parametrize("ids", [raising, raising_async])
@pytest.mark.parametrize("after", [0, 3, 20])
async def test_an_exception_of_the_ids_is_raised_after_the_open_walks_end(
    ids: Callable[..., Touchpoints], after: int
) -> None:
    lists, own = ManyLists(), IdsError()
    own.__cause__ = ValueError("why")
    with pytest.raises(IdsError) as caught:
        async for _ in lists.pages(ids(own, after)):
            pass

    assert caught.value is own
    assert repr(own.__cause__) == "ValueError('why')"
    assert lists.answered == after * 3


async def test_an_exception_of_the_ids_becomes_the_cause_if_touchpoints_failed() -> None:
    lists, own = failing(tp_1=lambda: ServerError(500)), IdsError()

    _, error = await drain(lists.pages(raising(own, 3)))

    assert error is not None
    assert error.__cause__ is own
    assert (list(error.failures), error.started) == (["tp-1"], 3)
    assert str(error).startswith("1 of 3 touchpoints failed; no more were started")


async def test_a_distinct_error_of_the_ids_joins_the_group() -> None:
    lists, own = failing(tp_1=lambda: ServerError(500)), NotFoundError(404)

    delivered, error = await drain(lists.pages(raising_async(own, 3)))

    assert error is not None
    assert list(error.failures) == ["tp-1"]
    assert error.exceptions[1:] == (own,)
    assert (error.started, error.__cause__, len(delivered)) == (3, None, 3)


async def test_an_error_of_the_ids_is_reported_beside_an_earlier_fatal_failure() -> None:
    lists, own = failing(tp_1=lambda: AuthenticationError(401)), ServerError(500)

    _, error = await drain(lists.pages(raising(own, 1)))

    assert error is not None
    assert [type(failure) for failure in error.exceptions] == [AuthenticationError, ServerError]


async def test_a_cancellation_of_the_ids_cancels_the_fan_out() -> None:
    lists = failing(tp_1=lambda: ServerError(500))
    with pytest.raises(asyncio.CancelledError):
        await drain(lists.pages(raising_async(asyncio.CancelledError(), 3)))

    assert lists.opened == ids_of(3)


@pytest.mark.parametrize("wrong", [7, None, b"tp-2", ("tp-2",)])
async def test_a_value_that_is_no_touchpoint_ends_the_fan_out(wrong: Any) -> None:
    delivered, error = await drain(ManyLists().pages(["tp-1", wrong, "tp-3"]))

    assert list(delivered) == ["tp-1"]
    assert error is not None
    (failure,) = error.exceptions
    assert isinstance(failure, ConfigurationError)
    kind = type(wrong).__name__
    expected = f"touchpoints must yield ids, touchpoints or pagers of visits, got {kind}"
    assert failure.args == (expected,)


# --- Ending a fan-out


async def test_the_callers_iterator_keeps_the_ids_that_were_not_started() -> None:
    lists, ids = ManyLists(), iter(ids_of(9))
    async with aclosing(lists.pages(ids, concurrency=2)) as pages:
        await anext(pages)
        await spin()

    assert [*lists.opened, *ids] == ids_of(9)


class Listing(AsyncIterable[str]):
    """An async iterable that, like a pager, starts a new generator for every iteration."""

    def __init__(self, error_on_close: BaseException | None = None) -> None:
        self.ended = 0
        self.error_on_close = error_on_close

    @override
    async def __aiter__(self) -> AsyncGenerator[str, None]:
        try:
            for name in ids_of(9):
                yield name
        finally:
            self.ended += 1
            if self.error_on_close is not None:
                raise self.error_on_close


@pytest.mark.parametrize("as_ids", [Listing.__aiter__, lambda listing: listing])
@pytest.mark.parametrize("consumed", [1, 27])
async def test_an_async_generator_of_ids_is_closed(
    as_ids: Callable[[Listing], Touchpoints], consumed: int
) -> None:
    listing = Listing()
    ids = as_ids(listing)
    async with aclosing(ManyLists().pages(ids, concurrency=2)) as pages:
        for _ in range(consumed):
            await anext(pages)

    assert listing.ended == 1


async def test_an_exception_raised_while_closing_the_ids_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listing = Listing(IdsError("on closing"))
    async with aclosing(ManyLists().pages(listing, concurrency=2)) as pages:
        await anext(pages)
    del pages
    gc.collect()

    # The consumer has left, so nothing can receive it.
    assert "on closing" in caplog.text


async def test_an_async_iterator_need_not_be_a_generator() -> None:
    class Ids:
        def __init__(self) -> None:
            self.left = ids_of(3)

        def __aiter__(self) -> "Ids":
            return self

        async def __anext__(self) -> str:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    delivered, error = await drain(ManyLists().pages(Ids()))

    assert (list(delivered), error) == (ids_of(3), None)


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_ending_a_fan_out_at_any_point_leaves_nothing(turns: int, how: str) -> None:
    lists = ManyLists(options=lambda _: {"turns": lambda number: 1 + number * 3 % 5})
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
