"""The session's policy: what it retries, how long it waits, and what its errors say."""

import asyncio
import subprocess
import sys
import time
from email.utils import formatdate
from typing import Any

import attrs
import pytest
from aiohttp import web

from distinct_async import (
    ConfigurationError,
    DecodeError,
    DistinctClient,
    DistinctError,
    Limits,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    StatusError,
    Timeouts,
    TransportError,
)
from distinct_async._session import Session
from distinct_async._wire.protocol import Reply
from distinct_async.config import Policy
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from tests.core.sessions import (
    ScriptedTransport,
    answer_with,
    decode_text,
    fetch_text,
    fetch_total,
    make_reply,
    make_session,
)
from tests.support.helpers import ONCE, eventually
from tests.support.raw_server import RawServer, hang

pytestmark = pytest.mark.usefixtures("three_visits")


# --- Over a scripted transport


async def test_a_request_is_sent_and_its_reply_decoded() -> None:
    transport = ScriptedTransport(make_reply("hello"))

    assert await fetch_text(make_session(transport)) == "hello"
    assert transport.sent == [("/v9/things", "id=7")]


async def test_attempts_go_on_until_one_succeeds(clock: FakeClock) -> None:
    transport = ScriptedTransport(TransportError("broken"), make_reply(status=503), make_reply())
    session = make_session(transport, runtime=clock.runtime)

    assert await fetch_text(session) == "value"
    assert (len(transport.sent), len(clock.sleeps), session.stats.retries) == (3, 2, 2)


@pytest.mark.parametrize(
    ("outcome", "attempts"),
    [
        (TransportError("broken"), 5),
        (TransportError("broken", retryable=False), 1),
        (make_reply(status=503), 5),
        (make_reply(status=501), 1),
    ],
)
async def test_an_error_is_returned_with_its_context(
    clock: FakeClock, outcome: Reply | DistinctError, attempts: int
) -> None:
    session = make_session(ScriptedTransport(outcome), runtime=clock.runtime)

    error = await fetch_text(session)

    assert isinstance(error, DistinctError)
    assert (error.touchpoint_id, error.experience_id, error.next_offset) == ("tp-1", "exp-1", None)
    assert (error.attempts, session.stats.retries) == (attempts, attempts - 1)
    assert (error.__cause__, error.__context__, error.__traceback__) == (None, None, None)


async def test_the_session_needs_no_aiohttp() -> None:
    script = """
import asyncio
import sys

sys.modules["aiohttp"] = None
from distinct_async._secrets import ApiKey
from distinct_async._session import Session
from distinct_async.config import Policy
from distinct_async._wire.protocol import Reply, Request

class Transport:
    async def send(self, path, query, timeouts):
        return Reply(200, {}, b"value", ApiKey("key"), 0.0)

request = Request(path="/", query="", decode=lambda reply: reply.body.decode())
print(asyncio.run(Session(Transport(), Policy()).fetch(request)))
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout == "value\n"


def test_a_policy_checks_its_settings() -> None:
    for name in ("retry", "limits", "timeouts", "runtime"):
        with pytest.raises(ConfigurationError, match=rf"^{name} must be "):
            Policy(**{name: 1})  # type: ignore[arg-type]


# --- Statuses


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_temporary_status_is_retried(
    fake: FakeDistinct, client: DistinctClient, clock: FakeClock, status: int
) -> None:
    fake.fail_next(status, times=2)

    assert await fetch_total(client) == 3
    assert len(fake.requests) == 3
    assert client.stats.retries == 2
    assert clock.sleeps


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422, 501, 505])
async def test_a_permanent_status_is_not_retried(
    fake: FakeDistinct, client: DistinctClient, clock: FakeClock, status: int
) -> None:
    fake.fail_next(status)

    with pytest.raises(StatusError) as caught:
        await fetch_total(client)

    assert (caught.value.status, caught.value.attempts) == (status, 1)
    assert (caught.value.touchpoint_id, caught.value.next_offset) == ("tp-1", None)
    assert (len(fake.requests), clock.sleeps) == (1, [])


async def test_an_error_says_how_many_attempts_were_made(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    fake.fail_rate = 1.0

    with pytest.raises(ServerError, match="attempts=5") as caught:
        await fetch_total(client)

    assert (caught.value.status, caught.value.attempts, len(fake.requests)) == (503, 5, 5)


async def test_an_error_inside_a_200_is_retried_like_that_error(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    fake.intercept = answer_with(lambda: web.json_response({"statusCode": 503, "message": "No"}))

    with pytest.raises(ServerError) as caught:
        await fetch_total(client)

    assert len(fake.requests) == caught.value.attempts == 5


@pytest.mark.parametrize(("body", "requests"), [(b"", 5), (b"{", 5), (b"<html>", 5), (b"[]", 1)])
async def test_a_broken_200_is_retried_and_a_wrong_shape_is_not(
    fake: FakeDistinct, client: DistinctClient, body: bytes, requests: int
) -> None:
    fake.intercept = answer_with(lambda: web.Response(body=body))

    with pytest.raises(DecodeError):
        await fetch_total(client)

    assert len(fake.requests) == requests


# --- Retry-After and the shared pause


def record_times(fake: FakeDistinct, clock: FakeClock) -> list[float]:
    """Return a list that receives the time of every response, in seconds from now."""
    start, served = clock.time, list[float]()

    async def intercept(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        served.append(clock.time - start)
        return payload

    fake.intercept = intercept
    return served


async def test_retry_after_is_honoured(
    fake: FakeDistinct, client: DistinctClient, clock: FakeClock
) -> None:
    start = clock.time
    fake.fail_next(503, retry_after=30)

    assert await fetch_total(client) == 3
    assert 30 <= clock.time - start <= 30.5


@pytest.mark.parametrize(
    ("value", "delays"),
    [
        ("7", (7, 7.5)),
        ("0.25", (0.25, 1)),
        ("120", (120, 120.5)),
        # Dates this many seconds ahead. The server's clock is years ahead of the client's.
        (90, (85, 90.5)),
        (-90, (0, 1)),
        *[
            (absurd, (0, 0.5))
            for absurd in ("nan", "inf", "-1", "1" + "0" * 35, "Fri, 31 Dec 100000 23:59:59 GMT")
        ],
    ],
)
async def test_each_form_of_retry_after_sets_the_delay(
    fake: FakeDistinct,
    client: DistinctClient,
    clock: FakeClock,
    value: str | int,
    delays: tuple[float, float],
) -> None:
    header = value if isinstance(value, str) else formatdate(time.time() + value, usegmt=True)
    fake.fail_next(503, retry_after=header)

    assert await fetch_total(client) == 3
    assert delays[0] <= clock.sleeps[0] <= delays[1]
    assert len(clock.sleeps) == 1


async def test_a_retry_after_above_the_cap_ends_all_requests_until_then(
    fake: FakeDistinct, client: DistinctClient, clock: FakeClock
) -> None:
    fake.fail_next(429, retry_after=3600)

    with pytest.raises(RateLimitError, match=r"asks to wait 3,600 s, longer than") as caught:
        await fetch_total(client)
    assert (caught.value.retry_after, caught.value.attempts, clock.sleeps) == (3600, 1, [])
    assert caught.value.fatal
    assert client.stats.paused_for == 3600

    clock.time += 600
    with pytest.raises(RateLimitError, match=r"no requests for another 3,000 s") as caught:
        await fetch_total(client)
    assert (caught.value.attempts, caught.value.fatal, caught.value.retryable) == (0, True, False)
    assert len(fake.requests) == 1

    clock.time += 3000
    assert await fetch_total(client) == 3


async def test_a_long_retry_after_turns_away_what_waits_for_a_slot(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    fake.fail_next(503, retry_after=3600)
    async with fake.client(limits=Limits(concurrency=1), runtime=clock.runtime) as client:
        calls = [asyncio.create_task(fetch_total(client)) for _ in range(300)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert len(fake.requests) == 1
    assert [type(outcome) for outcome in outcomes] == [ServerError] + [RateLimitError] * 299
    assert {outcome.attempts for outcome in outcomes[1:] if isinstance(outcome, DistinctError)} == {
        0
    }


async def test_a_429_pauses_the_whole_client(
    fake: FakeDistinct, client: DistinctClient, clock: FakeClock
) -> None:
    served = record_times(fake, clock)
    fake.fail_next(429, retry_after=60)
    fake.fail_next(404)

    # The first request has to wait, and fails after it; the second starts during the pause.
    first = asyncio.create_task(fetch_total(client))
    await eventually(lambda: clock.sleeps)
    with pytest.raises(NotFoundError):
        await first
    assert await fetch_total(client) == 3

    assert served[0] == 0
    assert all(after >= 60 for after in served[1:])


async def test_requests_that_wait_for_a_slot_honour_the_pause(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    async def sleep(seconds: float) -> None:
        # Long enough for a request that ignores the pause to be sent and answered.
        for _ in range(500):
            await asyncio.sleep(0)
        await clock.sleep(seconds)

    served = record_times(fake, clock)
    fake.fail_next(429, retry_after=60)
    async with fake.client(
        limits=Limits(concurrency=1), runtime=attrs.evolve(clock.runtime, sleep=sleep)
    ) as client:
        assert await asyncio.gather(*(fetch_total(client) for _ in range(4))) == [3] * 4

    assert served[0] == 0
    assert len(served) == 5
    assert all(after >= 60 for after in served[1:])


async def test_a_429_without_retry_after_slows_the_client_down(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    fake.fail_next(429)
    async with fake.client(retry=RetryPolicy(attempts=1), runtime=clock.runtime) as client:
        with pytest.raises(RateLimitError):
            await fetch_total(client)
        assert client.stats.paused_for > 0
        assert await fetch_total(client) == 3
        assert client.stats.pace is not None

    assert clock.sleeps


async def test_throttled_attempts_use_up_neither_the_attempts_nor_the_budget(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    fake.fail_next(429, times=10, retry_after=0)
    retry = RetryPolicy(attempts=2, budget=5)
    async with fake.client(retry=retry, runtime=clock.runtime) as client:
        assert await fetch_total(client) == 3
        assert (client.stats.retries, client.stats.retry_budget) == (10, 5)

    assert len(fake.requests) == 11


async def test_a_server_that_says_503_to_what_is_too_much_at_once_loses_no_request() -> None:
    """Not every server that is crowded says 429, or when to come back."""
    in_flight = refused = 0

    async def serve() -> Reply:
        nonlocal in_flight, refused
        if in_flight >= 4:
            refused += 1
            return make_reply(status=503)
        in_flight += 1
        try:
            await asyncio.sleep(0.002)
        finally:
            in_flight -= 1
        return make_reply()

    session = make_session(ScriptedTransport(serve), retry=RetryPolicy(base_delay=0.02))
    outcomes = await asyncio.gather(*(fetch_text(session) for _ in range(300)))

    assert outcomes == ["value"] * 300
    assert refused > 0
    assert session.stats.pace is not None


async def test_requests_that_are_broken_for_good_slow_nothing_down(clock: FakeClock) -> None:
    """A 503 need not mean that the server is crowded: here, each tenth request is broken."""
    answers = [make_reply(status=503 if number % 10 == 5 else 200) for number in range(300)]
    session = make_session(ScriptedTransport(*answers), runtime=clock.runtime, retry=ONCE)

    outcomes = [await fetch_text(session) for _ in answers]

    assert sum(isinstance(outcome, ServerError) for outcome in outcomes) == 30
    assert session.stats.pace is None


@pytest.mark.parametrize(
    ("retry", "limits"),
    [
        (RetryPolicy(attempts=1), Limits()),
        (RetryPolicy(budget=0), Limits()),
        (RetryPolicy(statuses=[503]), Limits()),
        (RetryPolicy(attempts=1), Limits(adaptive=False)),
    ],
)
async def test_without_retries_a_429_is_raised(
    fake: FakeDistinct, clock: FakeClock, retry: RetryPolicy, limits: Limits
) -> None:
    fake.fail_next(429)
    async with fake.client(retry=retry, limits=limits, runtime=clock.runtime) as client:
        with pytest.raises(RateLimitError):
            await fetch_total(client)

    assert len(fake.requests) == 1


async def test_without_learning_a_429_is_retried_like_any_failure(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    fake.fail_next(429, times=9)
    async with fake.client(limits=Limits(adaptive=False), runtime=clock.runtime) as client:
        with pytest.raises(RateLimitError) as caught:
            await fetch_total(client)

    assert (caught.value.attempts, len(fake.requests)) == (5, 5)


async def test_in_an_outage_a_429_costs_an_attempt_like_any_failure(clock: FakeClock) -> None:
    answers = [make_reply(status=status) for status in (503, 429, 429, 429, 429, 429)]
    session = make_session(ScriptedTransport(*answers), runtime=clock.runtime)

    error = await fetch_text(session)

    assert isinstance(error, RateLimitError)
    assert error.attempts == 5
    # Four retries, less what time refills during them.
    assert 480 <= session.stats.retry_budget < 500
    # The outage is no reason to go slower once it is over.
    assert session.stats.pace is None


async def test_a_server_that_refuses_everything_ends_the_request_with_its_answer(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    fake.fail_next(429, times=10_000)
    start = clock.time
    async with fake.client(timeouts=Timeouts(total=300), runtime=clock.runtime) as client:
        with pytest.raises(RateLimitError):
            await fetch_total(client)

    assert clock.time - start < 301


async def test_a_later_429_never_shortens_the_pause(clock: FakeClock) -> None:
    start = clock.time
    pauses = {"long": 60.0, "short": 1.0}

    def decode(reply: Reply) -> str | DistinctError:
        pause = pauses.get(text := reply.body.decode())
        return text if pause is None else RateLimitError(429, retry_after=pause)

    transport = ScriptedTransport(make_reply("long"), make_reply("short"), make_reply())
    session = make_session(transport, retry=ONCE, runtime=clock.runtime)
    both = (fetch_text(session, decode) for _ in range(2))
    assert all(isinstance(error, RateLimitError) for error in await asyncio.gather(*both))

    assert await fetch_text(session, decode) == "value"
    assert clock.time - start >= 60


# --- The total timeout


async def test_the_total_timeout_bounds_a_request_with_all_its_attempts(raw: RawServer) -> None:
    raw.play(hang)
    async with DistinctClient("key", base_url=raw.url, timeouts=Timeouts(total=0.02)) as client:
        with pytest.raises(RequestTimeoutError, match="all attempts included") as caught:
            await fetch_total(client)

    assert (caught.value.attempts, caught.value.touchpoint_id) == (1, "tp-1")


async def test_the_total_timeout_starts_with_the_first_slot() -> None:
    released = asyncio.Event()

    async def hold_the_slot() -> Reply:
        await released.wait()
        return make_reply()

    transport = ScriptedTransport(hold_the_slot, make_reply())
    holder_session = make_session(transport, limits=Limits(concurrency=1))
    session = holder_session.view(retry=None, timeouts=Timeouts(total=0.02))
    holder = asyncio.create_task(fetch_text(holder_session))
    await eventually(lambda: transport.sent)

    waiting = asyncio.create_task(fetch_text(session))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    released.set()

    assert await waiting == await holder == "value"


async def test_a_timeout_says_how_long_the_request_waited_for_the_limits(clock: FakeClock) -> None:
    async def never() -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    transport = ScriptedTransport(make_reply(status=429), never)
    session = make_session(transport, timeouts=Timeouts(total=0.3), runtime=clock.runtime)

    error = await fetch_text(session)

    assert isinstance(error, RequestTimeoutError)
    assert "of it waiting for the client's limits" in str(error)


async def test_no_delay_starts_that_would_outlast_the_total_timeout(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    fake.fail_next(503, times=9, retry_after=100)
    async with fake.client(timeouts=Timeouts(total=150), runtime=clock.runtime) as client:
        with pytest.raises(ServerError) as caught:
            await fetch_total(client)

    assert caught.value.attempts == len(clock.sleeps) + 1 == 2


async def test_without_a_total_timeout_a_request_ends_with_its_attempts(clock: FakeClock) -> None:
    transport = ScriptedTransport(make_reply(status=503))
    session = Session(transport, Policy(timeouts=Timeouts(total=None), runtime=clock.runtime))

    error = await fetch_text(session, decode_text)

    assert isinstance(error, ServerError)
    assert error.attempts == len(transport.sent) == 5


# --- Cancellation


async def test_cancellation_passes_through(raw: RawServer, raw_client: DistinctClient) -> None:
    raw.play(hang)
    task = asyncio.create_task(fetch_total(raw_client))
    await eventually(lambda: raw.heads)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert (raw_client.stats.in_flight, raw_client.stats.waiting) == (0, 0)
