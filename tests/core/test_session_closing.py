"""The end of a session: what closing ends, what it leaves, and which event loop may do it."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from distinct_async import (
    ClientClosedError,
    ConfigurationError,
    DistinctClient,
    Limits,
    RequestTimeoutError,
    Timeouts,
)
from distinct_async._wire.protocol import Reply
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from tests.core.sessions import ScriptedTransport, fetch_text, fetch_total, make_session
from tests.support.helpers import KEY, eventually
from tests.support.list_server import make_visits
from tests.support.raw_server import RawServer, hang


@pytest.fixture
async def visited(fake: FakeDistinct, three_visits: None) -> FakeDistinct:
    return fake


# --- Clients


async def test_closing_twice_is_allowed_and_using_a_closed_client_is_not(
    visited: FakeDistinct,
) -> None:
    client = visited.client()
    assert await fetch_total(client) == 3
    pager = client.total_visits("tp-1")

    await client.aclose()
    await client.aclose()

    assert client.closed
    assert "closed" in repr(client)
    with pytest.raises(ClientClosedError):
        await fetch_total(client)
    with pytest.raises(ClientClosedError):
        await pager.collect()
    with pytest.raises(ClientClosedError):
        async with client:
            pass


async def test_a_client_that_was_never_used_can_be_closed(visited: FakeDistinct) -> None:
    async with visited.client() as client:
        assert not client.closed
    assert client.closed


async def test_closing_ends_requests_in_flight_asleep_and_waiting(visited: FakeDistinct) -> None:
    held, asleep, released = asyncio.Event(), asyncio.Event(), asyncio.Event()
    clock = FakeClock()

    async def hold(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        if payload["statusCode"] == 200:
            held.set()
            await released.wait()
        return payload

    async def sleep(_: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    visited.intercept = hold
    visited.fail_next(503)
    before = asyncio.all_tasks()
    client = visited.client(
        limits=Limits(concurrency=1), runtime=attrs.evolve(clock.runtime, sleep=sleep)
    )
    sleeping = asyncio.create_task(fetch_total(client))
    await asleep.wait()
    flying = asyncio.create_task(fetch_total(client))
    await held.wait()
    waiting = [asyncio.create_task(fetch_total(client)) for _ in range(100)]
    await asyncio.sleep(0)
    assert (client.stats.in_flight, client.stats.waiting) == (1, 101)

    await asyncio.gather(client.aclose(), client.aclose())

    outcomes = await asyncio.gather(sleeping, flying, *waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ClientClosedError}
    assert (client.stats.in_flight, client.stats.waiting) == (0, 0)
    # The fake server's own tasks end when it notices that their connections have ended.
    released.set()
    assert await eventually(lambda: asyncio.all_tasks() == before)


async def test_closing_that_is_cancelled_leaves_no_connection(raw: RawServer) -> None:
    raw.play(hang)
    client = DistinctClient(KEY, base_url=raw.url)
    request = asyncio.create_task(fetch_total(client))
    await eventually(lambda: raw.heads)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    closing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(ClientClosedError):
        await request
    await eventually(lambda: not raw.tasks)


async def test_closing_leaves_no_timer(raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    set_timer, timers = loop.call_at, list[asyncio.TimerHandle]()

    def call_at(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(set_timer(*arguments, **options))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", call_at)
    raw.play(hang)
    client = DistinctClient(KEY, base_url=raw.url)
    task = asyncio.create_task(fetch_total(client))
    await eventually(lambda: raw.heads)
    assert any(not timer.cancelled() for timer in timers)

    await client.aclose()

    with pytest.raises(ClientClosedError):
        await task
    assert all(timer.cancelled() for timer in timers)


# --- Sessions over a scripted transport


async def test_closing_aborts_and_closes_the_transport_of_a_used_session() -> None:
    transport = ScriptedTransport()
    session = make_session(transport)
    assert await fetch_text(session) == "value"

    await session.aclose()

    assert session.closed
    assert transport.events == ["send", "abort", "aclose"]


async def test_closing_an_unused_session_only_closes_its_transport() -> None:
    transport = ScriptedTransport()

    await make_session(transport).aclose()

    assert transport.events == ["aclose"]


async def test_a_closed_session_sends_and_spawns_nothing() -> None:
    transport = ScriptedTransport()
    session = make_session(transport)
    await session.aclose()

    error = await fetch_text(session)
    assert isinstance(error, ClientClosedError)
    assert (error.touchpoint_id, error.experience_id, error.attempts) == ("tp-1", "exp-1", 0)
    # A coroutine that was left open would fail this test with a warning.
    assert isinstance(session.spawn(asyncio.sleep(0)), ClientClosedError)
    assert isinstance(session.bind_to_running_loop(), ClientClosedError)
    assert transport.sent == []


async def test_closing_ends_background_tasks() -> None:
    session = make_session(ScriptedTransport())
    task = session.spawn(asyncio.Event().wait())
    assert isinstance(task, asyncio.Task)
    assert session.stats.tasks == 1

    await session.aclose()

    assert task.cancelled()
    assert session.stats.tasks == 0


async def test_closing_while_a_timeout_is_being_handled() -> None:
    ending, released = asyncio.Event(), asyncio.Event()

    async def end_slowly() -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await released.wait()
        raise AssertionError

    session = make_session(ScriptedTransport(end_slowly), timeouts=Timeouts(total=0.01))
    request = asyncio.create_task(fetch_text(session))
    await ending.wait()
    closing = asyncio.create_task(session.aclose())
    await asyncio.sleep(0)
    released.set()

    await closing

    error = await request
    assert isinstance(error, RequestTimeoutError | ClientClosedError)
    assert error.attempts == 1


# --- Event loops


async def test_another_event_loop_is_refused_by_name_while_the_first_is_open(
    visited: FakeDistinct,
) -> None:
    client = visited.client()
    assert await fetch_total(client) == 3

    async def misuse() -> None:
        with pytest.raises(ConfigurationError, match="belongs to another event loop"):
            await fetch_total(client)
        with pytest.raises(ConfigurationError, match="belongs to another event loop"):
            await client.total_visits("tp-1").collect()
        with pytest.raises(ConfigurationError, match="belongs to another event loop"):
            async with client:
                pass

    await asyncio.to_thread(asyncio.run, misuse())
    assert await fetch_total(client) == 3
    await client.aclose()


@contextmanager
def served_by_a_thread(fake: FakeDistinct) -> Iterator[None]:
    """Run a server on an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(fake.__aenter__(), loop).result()
        yield
        asyncio.run_coroutine_threadsafe(fake.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_goes_on_in_the_next_event_loop_once_the_first_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As in a Lambda or a Celery worker, where each call has an event loop of its own.

    asyncio warns of the sockets that the first leaves to garbage collection.
    """
    fake = FakeDistinct()
    fake.add_touchpoint("tp-1", visits=make_visits(3))

    async def hang(_: FakeRequest, __: dict[str, Any]) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    with served_by_a_thread(fake):
        client = fake.client(limits=Limits(concurrency=2))

        async def use() -> list[int]:
            return await asyncio.gather(*(fetch_total(client) for _ in range(8)))

        async def leave_behind() -> int:
            # Two requests hold the slots, and the others wait for them.
            fake.intercept = hang
            calls = [asyncio.create_task(fetch_total(client)) for _ in range(5)]
            await eventually(lambda: client.stats.in_flight == 2)
            fake.intercept = None
            return len(calls)

        assert asyncio.run(use()) == [3] * 8
        assert asyncio.run(leave_behind()) == 5
        assert asyncio.run(use()) == [3] * 8
        assert len(asyncio.run(client.total_visits("tp-1").collect())) == 3
        asyncio.run(client.aclose())
        assert client.closed
        gc.collect()

    assert caplog.records == []


async def test_closing_from_another_loop_is_refused_while_the_first_runs(
    visited: FakeDistinct,
) -> None:
    async with visited.client() as client:
        await fetch_total(client)
        with pytest.raises(ConfigurationError, match="close it there"):
            await asyncio.to_thread(asyncio.run, client.aclose())
        assert not client.closed
        assert await fetch_total(client) == 3


def test_a_client_can_be_created_before_the_loop_runs() -> None:
    fake = FakeDistinct()
    fake.add_touchpoint("tp-1")
    with asyncio.Runner() as runner:
        runner.run(fake.__aenter__())
        client = fake.client()

        async def use() -> int:
            async with client:
                return await fetch_total(client)

        assert runner.run(use()) == 0
        runner.run(fake.__aexit__())


# --- Grace


async def test_with_grace_requests_in_flight_end_and_new_ones_are_refused(
    visited: FakeDistinct,
) -> None:
    held, released = asyncio.Event(), asyncio.Event()

    async def hold(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        held.set()
        await released.wait()
        return payload

    visited.intercept = hold
    client = visited.client()
    call = asyncio.create_task(fetch_total(client))
    walk = asyncio.create_task(client.total_visits("tp-1", page_size=2).collect())
    await held.wait()
    closing = asyncio.create_task(client.aclose(grace=60))
    await eventually(lambda: client.closed)

    with pytest.raises(ClientClosedError):
        await fetch_total(client)
    with pytest.raises(ClientClosedError):
        await client.total_visits("tp-1").collect()
    released.set()

    assert await call == 3
    assert len(await walk) == 3
    await closing


async def test_what_outlasts_the_grace_is_ended(visited: FakeDistinct) -> None:
    held = asyncio.Event()

    async def hold(_: FakeRequest, __: dict[str, Any]) -> dict[str, Any]:
        held.set()
        await asyncio.Event().wait()
        raise AssertionError

    visited.intercept = hold
    client = visited.client()
    call = asyncio.create_task(fetch_total(client))
    await held.wait()

    await client.aclose(grace=0.01)

    with pytest.raises(ClientClosedError):
        await call


async def test_the_grace_is_checked(visited: FakeDistinct) -> None:
    async with visited.client() as client:
        with pytest.raises(ConfigurationError, match="grace"):
            await client.aclose(grace=-1)
        assert not client.closed
