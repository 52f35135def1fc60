import asyncio
import gzip
import selectors
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
import trustme
from aiohttp import web
from aiolimiter import AsyncLimiter
from typing_extensions import override

from distinct_async import (
    ClientClosedError,
    ConfigurationError,
    DecodeError,
    DistinctClient,
    DistinctError,
    Limits,
    NotFoundError,
    RateLimitError,
    RedirectError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    StatusError,
    Timeouts,
    TransportError,
    wire,
)
from distinct_async import session as session_module
from distinct_async.config import ApiKey
from distinct_async.pagination import _until_done
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from tests.support.helpers import KEY, ONCE, MockedHTTP, eventually, shown_of
from tests.support.raw_server import Exchange, RawServer, hang, reply, reset, response_of, send

Example = Callable[[str], bytes]


@pytest.fixture(autouse=True)
async def some_visits(fake: FakeDistinct) -> None:
    fake.add_touchpoint("tp-1")
    for day in range(1, 4):
        fake.scan("tp-1", f"user-{day}", datetime(2024, 1, day, tzinfo=UTC))


@pytest.fixture
async def raw_client(raw: RawServer, clock: FakeClock) -> AsyncIterator[DistinctClient]:
    async with DistinctClient(KEY, base_url=raw.url, runtime=clock.runtime) as client:
        yield client


def answer(response: Callable[[], web.StreamResponse]) -> Any:
    async def intercept(_: FakeRequest, __: dict[str, Any]) -> web.StreamResponse:
        return response()

    return intercept


async def ask(client: DistinctClient) -> int:
    return (await client.touchpoint_metrics("tp-1")).total


# --- What is sent


async def test_a_request_carries_the_key_and_says_who_asks(fake: FakeDistinct) -> None:
    async with fake.client() as client:
        await ask(client)
    async with fake.client(user_agent="nightly/1") as client:
        await ask(client)

    first, second = fake.requests
    assert first.authorized
    assert first.headers["accept-encoding"] == "gzip, deflate"
    assert first.headers["user-agent"].startswith("distinct-async/")
    assert second.headers["user-agent"] == "nightly/1"


@pytest.mark.parametrize("odd", ["../x", "a?b&c=d#e", "ä ö+ü%2F", "\x00\n", "🎉", "x" * 10_000])
async def test_any_id_reaches_the_server_intact(
    fake: FakeDistinct, client: DistinctClient, odd: str
) -> None:
    fake.add_touchpoint(odd)

    page = await client.touchpoint_metrics(odd)

    assert page.touchpoint.id == odd
    assert fake.requests[-1].parameters["touchpointId"] == odd


async def test_a_base_url_may_have_a_path(raw: RawServer, example: Example) -> None:
    raw.play(reply(example("touchpoint_total")))
    async with DistinctClient(KEY, base_url=f"{raw.url}/proxy/") as client:
        assert await ask(client) == 3

    assert raw.heads[0].startswith(b"GET /proxy/v3/touchpoint/metrics?metricsType=TOUCHPOINT&")


async def test_the_environments_proxies_and_netrc_and_cookies_are_ignored(
    raw: RawServer, example: Example, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    raw.play(reply(example("touchpoint_total"), b"Set-Cookie: a=b; Path=/"))

    # By name, since cookies of a bare address are ignored by anybody.
    async with DistinctClient(KEY, base_url=by_name(raw)) as client:
        await ask(client)
        await ask(client)

    assert len(raw.heads) == 2
    assert not any(b"cookie" in head.lower() for head in raw.heads)
    assert not any(b"authorization" in head.lower() for head in raw.heads)


def by_name(raw: RawServer) -> str:
    return raw.url.replace("127.0.0.1", "localhost")


# --- Statuses


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_statuses_that_are_retried(
    fake: FakeDistinct, client: DistinctClient, clock: FakeClock, status: int
) -> None:
    fake.fail_next(status, times=2)

    assert await ask(client) == 3
    assert len(fake.requests) == 3
    assert clock.sleeps


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422, 501, 505])
async def test_statuses_that_are_not(
    fake: FakeDistinct, client: DistinctClient, clock: FakeClock, status: int
) -> None:
    fake.fail_next(status)

    with pytest.raises(StatusError) as caught:
        await ask(client)

    assert (caught.value.status, caught.value.attempts) == (status, 1)
    assert (caught.value.touchpoint_id, caught.value.next_offset) == ("tp-1", None)
    assert (len(fake.requests), clock.sleeps) == (1, [])


async def test_giving_up_says_how_often_it_was_tried(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    fake.fail_rate = 1.0

    with pytest.raises(ServerError, match="attempts=5") as caught:
        await ask(client)

    assert (caught.value.status, caught.value.attempts, len(fake.requests)) == (503, 5, 5)


async def test_an_error_inside_a_200_is_retried_like_that_error(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    fake.intercept = answer(lambda: web.json_response({"statusCode": 503, "message": "No"}))

    with pytest.raises(ServerError) as caught:
        await ask(client)

    assert len(fake.requests) == caught.value.attempts == 5


@pytest.mark.parametrize(("body", "requests"), [(b"", 5), (b"{", 5), (b"<html>", 5), (b"[]", 1)])
async def test_a_broken_200_is_retried_and_a_wrong_shape_is_not(
    fake: FakeDistinct, client: DistinctClient, body: bytes, requests: int
) -> None:
    fake.intercept = answer(lambda: web.Response(body=body))

    with pytest.raises(DecodeError):
        await ask(client)

    assert len(fake.requests) == requests


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_refused(
    fake: FakeDistinct, client: DistinctClient, raw: RawServer, status: int
) -> None:
    location = {"Location": f"{raw.url}/elsewhere"}
    fake.intercept = answer(lambda: web.Response(status=status, headers=location))

    with pytest.raises(RedirectError) as caught:
        await ask(client)

    assert (caught.value.status, len(fake.requests), raw.connections) == (status, 1, 0)


async def test_statuses_are_mapped_without_a_socket(
    mocked_http: MockedHTTP, clock: FakeClock, example: Example
) -> None:
    url = "https://api.distinct.so/v3/touchpoint/metrics?experienceId=e&metricsType=EXPERIENCE"
    mocked_http.add(url, status=503, headers={"Retry-After": "3"})
    mocked_http.add(url, exception=aiohttp.ClientPayloadError("cut"))
    mocked_http.add(url, body=example("experience"))
    mocked_http.add(url, status=404, body=example("error_404"))

    async with DistinctClient(KEY, runtime=clock.runtime) as client:
        assert (await client.experience_metrics("e")).total_touchpoints == 2
        with pytest.raises(NotFoundError, match="Experience not found"):
            await client.experience_metrics("e")

    assert 3 <= clock.sleeps[0] <= 3.5


# --- Retry-After and the shared pause


def note_times(fake: FakeDistinct, clock: FakeClock) -> list[float]:
    """Return a list that gets the time of every answer, in seconds from now."""
    start, served = clock.time, list[float]()

    async def intercept(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        served.append(clock.time - start)
        return payload

    fake.intercept = intercept
    return served


async def test_retry_after_is_waited_for(
    fake: FakeDistinct, client: DistinctClient, clock: FakeClock
) -> None:
    start = clock.time
    fake.fail_next(503, retry_after=30)

    assert await ask(client) == 3
    assert 30 <= clock.time - start <= 30.5


@pytest.mark.parametrize(
    ("value", "delays"),
    [
        ("7", (7, 7.5)),
        ("0.25", (0.25, 1)),
        ("120", (120, 120.5)),
        # Dates, so many seconds from now. The server's clock is years ahead of the client's.
        (90, (85, 90.5)),
        (-90, (0, 1)),
        *[
            (absurd, (0, 0.5))
            for absurd in ("nan", "inf", "-1", "1" + "0" * 35, "Fri, 31 Dec 100000 23:59:59 GMT")
        ],
    ],
)
async def test_what_is_made_of_each_retry_after(
    fake: FakeDistinct,
    client: DistinctClient,
    clock: FakeClock,
    value: str | int,
    delays: tuple[float, float],
) -> None:
    sent = value if isinstance(value, str) else formatdate(time.time() + value, usegmt=True)
    fake.fail_next(503, retry_after=sent)

    assert await ask(client) == 3
    assert delays[0] <= clock.sleeps[0] <= delays[1]
    assert len(clock.sleeps) == 1


async def test_a_retry_after_above_the_cap_is_raised(
    fake: FakeDistinct, client: DistinctClient, clock: FakeClock
) -> None:
    fake.fail_next(429, retry_after=121)

    with pytest.raises(RateLimitError) as caught:
        await ask(client)

    assert (caught.value.retry_after, caught.value.attempts, clock.sleeps) == (121, 1, [])
    # The pause would be as long: other requests go on, and are told the same if it still holds.
    assert await ask(client) == 3


async def test_a_429_pauses_the_whole_client(
    fake: FakeDistinct, client: DistinctClient, clock: FakeClock
) -> None:
    served = note_times(fake, clock)
    fake.fail_next(429, retry_after=60)
    fake.fail_next(404)

    # The first request is told to wait and fails for good later; the second has not begun.
    first = asyncio.create_task(ask(client))
    await eventually(lambda: clock.sleeps)
    with pytest.raises(NotFoundError):
        await first
    assert await ask(client) == 3

    assert served[0] == 0
    assert all(after >= 60 for after in served[1:])


async def test_requests_that_wait_for_a_slot_heed_the_pause(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    async def sleep(seconds: float) -> None:
        # Time enough for a request that heeds no pause to be made and answered.
        for _ in range(500):
            await asyncio.sleep(0)
        await clock.sleep(seconds)

    served = note_times(fake, clock)
    fake.fail_next(429, retry_after=60)
    async with fake.client(
        limits=Limits(concurrency=1), runtime=attrs.evolve(clock.runtime, sleep=sleep)
    ) as client:
        assert await asyncio.gather(*(ask(client) for _ in range(4))) == [3] * 4

    assert served[0] == 0
    assert len(served) == 5
    assert all(after >= 60 for after in served[1:])


async def test_a_429_without_retry_after_pauses_for_the_base_delay(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    start = clock.time
    fake.fail_next(429)
    async with fake.client(
        retry=RetryPolicy(attempts=1, base_delay=8), runtime=clock.runtime
    ) as client:
        with pytest.raises(RateLimitError):
            await ask(client)
        assert await ask(client) == 3

    assert clock.time - start >= 8


# --- Connections


async def test_a_refused_connection_is_retried_and_raised(
    clock: FakeClock, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with DistinctClient(KEY, base_url=url, runtime=clock.runtime) as client:
        with pytest.raises(TransportError, match="ClientConnectorError") as caught:
            await ask(client)

    assert (caught.value.attempts, caught.value.retryable, len(clock.sleeps)) == (5, True, 4)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(reset, id="reset"),
        pytest.param(send(end="close"), id="closed"),
        pytest.param(send(b"HTTP/1.1 200 OK\r\nConte", end="close"), id="cut head"),
        pytest.param(send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", end="close"), id="cut"),
        pytest.param(send(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), id="bad length"),
        pytest.param(send(b"garbage\r\n\r\n"), id="no HTTP"),
        pytest.param(reply(b"", b"X: %s" % (b"x" * 9_000)), id="long header"),
        pytest.param(
            send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), id="bad chunk"
        ),
        pytest.param(reply(b"not gzip", b"Content-Encoding: gzip"), id="bad encoding"),
    ],
)
async def test_a_broken_exchange_is_retried_once_each(
    raw: RawServer, raw_client: DistinctClient, example: Example, fault: Any
) -> None:
    raw.play(fault, fault, reply(example("touchpoint_total")))

    assert await ask(raw_client) == 3
    # Counted by the server: aiohttp's own silent second try would show here.
    assert len(raw.heads) == 3


async def test_a_dropped_keep_alive_connection_is_an_attempt_like_any_other(
    raw: RawServer, raw_client: DistinctClient, clock: FakeClock, example: Example
) -> None:
    body = example("touchpoint_total")
    raw.play(reply(body), reset, reply(body))

    assert await ask(raw_client) == 3
    assert await ask(raw_client) == 3
    assert (len(raw.heads), len(clock.sleeps)) == (3, 1)


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("can_poll", [True, False])
async def test_what_nobody_asked_for_is_not_the_next_answer(
    raw: RawServer,
    example: Example,
    monkeypatch: pytest.MonkeyPatch,
    connections: int,
    can_poll: bool,
) -> None:
    monkeypatch.setattr("distinct_async.session._CAN_POLL", can_poll)
    body = example("touchpoint_total")
    exchanges: list[Exchange] = []

    async def all_at_once(exchange: Exchange) -> None:
        exchanges.append(exchange)
        await eventually(lambda: len(exchanges) == connections)
        await reply(body)(exchange)

    raw.play(*[all_at_once] * connections, reply(body))
    async with DistinctClient(
        KEY, base_url=raw.url, limits=Limits(concurrency=connections), retry=ONCE
    ) as client:
        first = (ask(client) for _ in range(connections))
        assert await asyncio.gather(*first) == [3] * connections
        # Every connection in the pool gets another response, at the very last moment.
        for exchange in exchanges:
            exchange.writer.write(response_of(body.replace(b"entry_scan", b"stale")))

        page = await client.touchpoint_metrics("tp-1")

    assert page.touchpoint.value == "entry_scan"
    assert len(raw.heads) == raw.connections == connections + 1


async def test_a_certificate_that_is_not_trusted_is_not_retried(clock: FakeClock) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with (
        RawServer(tls=tls) as raw,
        DistinctClient(KEY, base_url=raw.url, runtime=clock.runtime) as client,
    ):
        with pytest.raises(TransportError, match="CertificateError") as caught:
            await ask(client)

        assert (caught.value.retryable, clock.sleeps, raw.heads) == (False, [], [])


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
async def test_a_body_that_is_too_long_is_refused(
    fake: FakeDistinct, clock: FakeClock, encoding: str
) -> None:
    body = b" " * 1_000_000
    encoded = {
        "identity": body,
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
    }[encoding]
    headers = {} if encoding == "identity" else {"Content-Encoding": encoding}
    fake.intercept = answer(lambda: web.Response(body=encoded, headers=headers))

    limits = Limits(max_body_bytes=999_999)
    async with fake.client(limits=limits, runtime=clock.runtime) as client:
        with pytest.raises(TransportError, match="longer than 999999 bytes") as caught:
            await ask(client)
        assert (caught.value.retryable, len(fake.requests)) == (False, 1)
    async with fake.client(limits=Limits(max_body_bytes=1_000_000), retry=ONCE) as client:
        with pytest.raises(DecodeError):
            await ask(client)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_bodies_are_read(
    fake: FakeDistinct, client: DistinctClient, example: Example, encoding: str
) -> None:
    plain = example("touchpoint_total")
    body = {"gzip": gzip.compress(plain), "deflate": zlib.compress(plain)}[encoding]
    fake.intercept = answer(lambda: web.Response(body=body, headers={"Content-Encoding": encoding}))

    assert await ask(client) == 3


# --- Timeouts


@pytest.mark.parametrize(
    ("timeouts", "message"),
    [
        (Timeouts(read=0.01), "no data for 0.01 s"),
        (Timeouts(attempt=0.01), "no answer within 0.01 s"),
    ],
)
async def test_a_stalled_attempt_times_out_and_is_retried(
    raw: RawServer, clock: FakeClock, timeouts: Timeouts, message: str
) -> None:
    raw.play(hang)
    async with DistinctClient(
        KEY, base_url=raw.url, timeouts=timeouts, runtime=clock.runtime
    ) as client:
        with pytest.raises(RequestTimeoutError, match=message) as caught:
            await ask(client)

    assert caught.value.attempts == len(raw.heads) == 5


async def test_a_stalled_body_times_out(raw: RawServer) -> None:
    raw.play(send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"))
    timeouts = Timeouts(read=0.01)
    async with DistinctClient(KEY, base_url=raw.url, timeouts=timeouts, retry=ONCE) as client:
        with pytest.raises(RequestTimeoutError, match="no data"):
            await ask(client)


@pytest.mark.parametrize("step", ["getaddrinfo", "sock_connect"])
async def test_a_connection_that_is_not_made_in_time(
    raw: RawServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), step, never)
    timeouts = Timeouts(connect=0.01, attempt=5)
    async with DistinctClient(KEY, base_url=by_name(raw), timeouts=timeouts, retry=ONCE) as client:
        with pytest.raises(RequestTimeoutError, match=r"no connection within 0\.01 s"):
            await ask(client)


async def test_the_total_bounds_a_request_with_all_its_attempts(raw: RawServer) -> None:
    raw.play(hang)
    async with DistinctClient(KEY, base_url=raw.url, timeouts=Timeouts(total=0.02)) as client:
        with pytest.raises(RequestTimeoutError, match="all attempts included") as caught:
            await ask(client)

    assert (caught.value.attempts, caught.value.touchpoint_id) == (1, "tp-1")


async def test_the_total_bounds_waiting_for_a_slot(raw: RawServer) -> None:
    raw.play(hang)
    async with DistinctClient(
        KEY, base_url=raw.url, timeouts=Timeouts(total=0.02), limits=Limits(concurrency=1)
    ) as client:
        await client._session._slots.acquire()
        with pytest.raises(RequestTimeoutError) as caught:
            await ask(client)

    assert (caught.value.attempts, raw.heads) == (0, [])


async def test_no_delay_is_begun_that_the_total_would_cut(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    fake.fail_next(503, times=9, retry_after=100)
    async with fake.client(timeouts=Timeouts(total=150), runtime=clock.runtime) as client:
        with pytest.raises(ServerError) as caught:
            await ask(client)

    assert caught.value.attempts == len(clock.sleeps) + 1 == 2


async def test_cancellation_passes(raw: RawServer, raw_client: DistinctClient) -> None:
    raw.play(hang)
    task = asyncio.create_task(ask(raw_client))
    await eventually(lambda: raw.heads)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


# --- Slots and rate


async def test_no_more_requests_in_flight_than_slots(fake: FakeDistinct) -> None:
    now, most = 0, 0

    async def count(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _turn in range(20):
            await asyncio.sleep(0)
        now -= 1
        return payload

    fake.intercept = count
    async with fake.client(limits=Limits(concurrency=3)) as client:
        assert await asyncio.gather(*(ask(client) for _ in range(20))) == [3] * 20

    assert most == 3


async def test_a_slot_is_free_while_its_request_sleeps(fake: FakeDistinct) -> None:
    asleep, wake = asyncio.Event(), asyncio.Event()
    clock = FakeClock()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        asleep.set()
        await wake.wait()

    runtime = clock.runtime
    fake.fail_next(503)
    async with fake.client(
        limits=Limits(concurrency=1), runtime=attrs.evolve(runtime, sleep=sleep)
    ) as client:
        sleeper = asyncio.create_task(ask(client))
        await asleep.wait()
        assert await ask(client) == 3
        wake.set()
        assert await sleeper == 3


class VirtualSelector(selectors.DefaultSelector):
    """Waits no time, and says how much it would have been."""

    now = 0.0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += max(timeout or 0, 1e-9)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on which timers are due at once, and time is what they asked for."""

    def __init__(self) -> None:
        self.clock = VirtualSelector()
        super().__init__(self.clock)

    @override
    def time(self) -> float:
        return self.clock.now


@pytest.mark.parametrize("rate", [0.5, 1, 7, 20, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_rate_holds_in_every_second(rate: float) -> None:
    limiter = session_module._make_limiter(rate)
    assert isinstance(limiter, AsyncLimiter)

    async def run(loop: VirtualLoop) -> list[float]:
        started: list[float] = []
        for _ in range(int(rate * 5) + 3):
            await limiter.acquire()
            started.append(loop.time())
        return started

    loop = VirtualLoop()
    try:
        started = loop.run_until_complete(run(loop))
    finally:
        loop.close()
    burst = max(1, rate / 10)
    most = max(sum(first <= t < first + 1 for t in started) for first in started)

    assert most <= rate + burst
    assert started[-1] == pytest.approx((len(started) - burst) / rate, abs=1e-3)


async def test_the_rate_limit_is_asked_for_every_attempt(
    fake: FakeDistinct, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired = 0

    async def acquire(_: AsyncLimiter, amount: float = 1) -> None:
        nonlocal acquired
        acquired += 1

    monkeypatch.setattr(AsyncLimiter, "acquire", acquire)
    fake.fail_next(503, times=2)
    async with fake.client(limits=Limits(requests_per_second=5), runtime=clock.runtime) as client:
        await ask(client)

    assert acquired == len(fake.requests) == 3


# --- Borrowed sessions and tracing


async def test_a_borrowed_session_is_used_and_left_open(fake: FakeDistinct) -> None:
    seen: list[str] = []

    async def note(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        seen.append(request.method)
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(note,)) as borrowed:
        async with fake.client(session=borrowed) as client:
            assert await ask(client) == 3
        assert not borrowed.closed

    assert seen == ["GET"]


async def test_a_borrowed_sessions_defaults_change_nothing(
    fake: FakeDistinct, clock: FakeClock, example: Example
) -> None:
    body = gzip.compress(example("touchpoint_total"))
    fake.intercept = answer(lambda: web.Response(body=body, headers={"Content-Encoding": "gzip"}))
    async with aiohttp.ClientSession(auto_decompress=False, raise_for_status=True) as borrowed:
        client = fake.client(session=borrowed, runtime=clock.runtime)
        assert await ask(client) == 3
        fake.intercept = None
        with pytest.raises(NotFoundError, match="attempts=1"):
            await client.touchpoint_metrics("nothing")
        await client.aclose()


async def test_a_borrowed_session_does_not_resend_either(
    raw: RawServer, clock: FakeClock, example: Example
) -> None:
    raw.play(reset, reset, reply(example("touchpoint_total")))
    async with aiohttp.ClientSession() as borrowed:
        client = DistinctClient(KEY, base_url=raw.url, session=borrowed, runtime=clock.runtime)
        assert await ask(client) == 3
        await client.aclose()

    assert len(raw.heads) == 3


async def test_a_borrowed_session_that_its_owner_closed(fake: FakeDistinct) -> None:
    borrowed = aiohttp.ClientSession()
    async with fake.client(session=borrowed) as client:
        await borrowed.close()
        with pytest.raises(ClientClosedError, match="session is closed"):
            await ask(client)


async def test_trace_configs_trace_the_own_session(fake: FakeDistinct) -> None:
    seen: list[str] = []

    async def on_start(_: Any, __: Any, parameters: aiohttp.TraceRequestStartParams) -> None:
        seen.append(parameters.method)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(on_start)
    async with fake.client(trace_configs=[trace]) as client:
        await ask(client)

    assert seen == ["GET"]


async def test_a_broken_trace_is_our_error(fake: FakeDistinct, clock: FakeClock) -> None:
    async def on_start(*_: Any) -> None:
        raise LookupError("in the callback")

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(on_start)
    async with fake.client(trace_configs=[trace], runtime=clock.runtime) as client:
        with pytest.raises(TransportError, match="LookupError: in the callback") as caught:
            await ask(client)

    assert (caught.value.retryable, clock.sleeps) == (False, [])


async def test_a_borrowed_session_brings_its_own_traces() -> None:
    async with aiohttp.ClientSession() as borrowed:
        with pytest.raises(ConfigurationError, match="trace_configs"):
            DistinctClient(KEY, session=borrowed, trace_configs=[aiohttp.TraceConfig()])


# --- Life and end


async def test_closing_twice_is_allowed_and_using_after_is_not(fake: FakeDistinct) -> None:
    client = fake.client()
    assert await ask(client) == 3
    pager = client.total_visits("tp-1")

    await client.aclose()
    await client.aclose()

    assert client.closed
    assert "closed" in repr(client)
    with pytest.raises(ClientClosedError):
        await ask(client)
    with pytest.raises(ClientClosedError):
        await pager.collect()
    with pytest.raises(ClientClosedError):
        async with client:
            pass


async def test_a_client_that_was_never_used_can_be_closed(fake: FakeDistinct) -> None:
    async with fake.client() as client:
        assert not client.closed
    assert client.closed


async def test_closing_ends_what_is_in_flight_asleep_and_waiting(fake: FakeDistinct) -> None:
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

    fake.intercept = hold
    fake.fail_next(503)
    before = asyncio.all_tasks()
    client = fake.client(
        limits=Limits(concurrency=1), runtime=attrs.evolve(clock.runtime, sleep=sleep)
    )
    sleeping = asyncio.create_task(ask(client))
    await asleep.wait()
    flying = asyncio.create_task(ask(client))
    await held.wait()
    waiting = [asyncio.create_task(ask(client)) for _ in range(100)]
    await asyncio.sleep(0)

    await asyncio.gather(client.aclose(), client.aclose())

    outcomes = await asyncio.gather(sleeping, flying, *waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ClientClosedError}
    # The fake server's own tasks end when it notices that their connections did.
    released.set()
    assert await eventually(lambda: asyncio.all_tasks() == before)


async def test_closing_ends_tasks_that_are_in_no_request(fake: FakeDistinct) -> None:
    client = fake.client()
    task = client._session.spawn(asyncio.Event().wait())
    await client.aclose()

    assert task.cancelled()


async def test_closing_that_is_cancelled_leaves_no_socket(raw: RawServer) -> None:
    raw.play(hang)
    client = DistinctClient(KEY, base_url=raw.url)
    request = asyncio.create_task(ask(client))
    await eventually(lambda: raw.heads)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    closing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(ClientClosedError):
        await request
    assert client._session._http is not None
    assert client._session._http.closed


async def test_closing_while_a_timeout_is_being_handled(raw: RawServer) -> None:
    raw.play(hang)
    client = DistinctClient(KEY, base_url=raw.url, timeouts=Timeouts(total=0.01))
    task = asyncio.create_task(ask(client))
    (scope,) = await eventually(lambda: client._session._requests._deadlines)
    await eventually(scope.expired)

    await client.aclose()

    with pytest.raises((RequestTimeoutError, ClientClosedError)):
        await task


def test_another_event_loop_is_refused_by_name() -> None:
    client = DistinctClient(KEY, base_url="http://127.0.0.1:9", retry=ONCE)

    async def use() -> None:
        with pytest.raises(TransportError):
            await ask(client)

    async def misuse() -> None:
        with pytest.raises(ConfigurationError, match="belongs to another event loop"):
            await ask(client)
        with pytest.raises(ConfigurationError, match="belongs to another event loop"):
            await client.total_visits("tp-1").collect()
        with pytest.raises(ConfigurationError, match="belongs to another event loop"):
            async with client:
                pass
        # The first loop is gone, so closing is all that is left to do.
        await client.aclose()

    asyncio.run(use())
    asyncio.run(misuse())
    assert client.closed


async def test_closing_from_another_loop_that_runs_is_refused(fake: FakeDistinct) -> None:
    async with fake.client() as client:
        await ask(client)
        with pytest.raises(ConfigurationError, match="close it there"):
            await asyncio.to_thread(asyncio.run, client.aclose())
        assert not client.closed
        assert await ask(client) == 3


def test_a_client_can_be_made_before_the_loop_runs() -> None:
    fake = FakeDistinct()
    fake.add_touchpoint("tp-1")
    with asyncio.Runner() as runner:
        runner.run(fake.__aenter__())
        client = fake.client()

        async def use() -> int:
            async with client:
                return await ask(client)

        assert runner.run(use()) == 0
        runner.run(fake.__aexit__())


# --- Secrets


async def test_what_a_broken_server_sends_is_escaped_and_cut(
    raw: RawServer, raw_client: DistinctClient
) -> None:
    raw.play(send(b"HTTP/1.1 200 OK\r\n\x1b[31m" + b"y" * 500 + b"\r\n\r\n"))
    with pytest.raises(TransportError) as caught:
        await ask(raw_client)

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


ECHO = b'{"statusCode": 400, "message": "bad key %s", "x": "%s"}' % (KEY.encode(), KEY.encode())


@pytest.mark.parametrize(
    "echo",
    [
        reply(ECHO, b"X-Request-Id: %s" % KEY.encode(), status="400 Bad"),
        reply(KEY.encode(), status="500 Oops"),
        reply(ECHO),
        reply(b'{"statusCode": 200, "data": {"touchpoints": "%s"}}' % KEY.encode()),
        reply(b'{"statusCode": "%s"}' % KEY.encode()),
        send(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % KEY.encode()),
        send(b"%s\r\n\r\n" % KEY.encode()),
        send(b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n" % KEY.encode()),
        send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n" % KEY.encode()),
    ],
)
async def test_an_echoed_key_reaches_no_error(
    raw: RawServer, raw_client: DistinctClient, echo: Any
) -> None:
    raw.play(echo)
    with pytest.raises(DistinctError) as caught:
        await ask(raw_client)

    assert KEY not in shown_of(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


# --- One timer for all


async def hang_until_cancelled() -> None:
    await asyncio.get_running_loop().create_future()


async def test_each_is_ended_at_its_own_deadline_and_the_last_by_ending_all() -> None:
    watchdog = session_module._Watchdog()
    ended: list[str] = []

    async def watch(name: str, seconds: float | None) -> None:
        with pytest.raises(TimeoutError):
            await watchdog.within(seconds, hang_until_cancelled())
        ended.append(name)

    async with asyncio.TaskGroup() as group:
        for name, seconds in {"never": None, "late": 60, "second": 0.02, "first": 0.01}.items():
            group.create_task(watch(name, seconds))
        await eventually(lambda: len(ended) == 2)
        assert ended == ["first", "second"]
        assert len(watchdog) == 2

        watchdog.end_all()
        await watchdog.drained()
        assert len(watchdog) == 0

    assert sorted(ended[2:]) == ["late", "never"]
    assert watchdog._timer is None


async def test_what_ends_in_time_leaves_the_timer_to_those_that_do_not() -> None:
    watchdog = session_module._Watchdog()

    assert await watchdog.within(0.01, asyncio.sleep(0, "done")) == "done"
    with pytest.raises(TimeoutError):
        await watchdog.within(0.02, hang_until_cancelled())
    assert await watchdog.within(60, asyncio.sleep(0, "done")) == "done"
    await watchdog.drained()


async def test_cancelling_passes_the_watchdog() -> None:
    watchdog = session_module._Watchdog()
    task = asyncio.create_task(watchdog.within(60, hang_until_cancelled()))
    await eventually(lambda: len(watchdog) == 1)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(watchdog) == 0


async def test_a_closed_client_leaves_no_timer(raw: RawServer) -> None:
    raw.play(hang)
    client = DistinctClient(KEY, base_url=raw.url)
    task = asyncio.create_task(ask(client))
    await eventually(lambda: raw.heads)
    session = client._session

    await client.aclose()

    with pytest.raises(ClientClosedError):
        await task
    assert (session._requests._timer, session._attempts._timer) == (None, None)


# --- One long body after another


@pytest.mark.parametrize("length", [session_module._LONG_BODY, session_module._LONG_BODY - 1])
async def test_of_long_bodies_each_is_used_before_the_next_is_decoded(
    raw: RawServer, length: int
) -> None:
    events: list[str] = []

    async def send_next(name: str) -> None:
        events.append(f"send after {name}")

    async with DistinctClient(KEY, base_url=raw.url) as client:

        def start(name: str) -> asyncio.Task[Any]:
            def decode(_: wire.Reply) -> None:
                events.append(f"decode {name}")

            request = session_module._Request("", decode)
            body = wire.Reply(200, {}, b" " * length, ApiKey(KEY), 0.0)
            return asyncio.create_task(client._session._decode(request, body))

        pages = {name: start(name) for name in "ab"}
        async with asyncio.TaskGroup() as group:
            for name, page in pages.items():
                await _until_done(page)
                group.create_task(send_next(name))

    long = ["decode a", "send after a", "decode b", "send after b"]
    assert events == (long if length >= session_module._LONG_BODY else sorted(long))


async def test_a_long_body_that_cannot_be_decoded_holds_up_no_other(raw: RawServer) -> None:
    raw.play(*[reply(b"<html>" + b" " * session_module._LONG_BODY)] * 3)
    async with DistinctClient(KEY, base_url=raw.url, retry=ONCE) as client:
        failures = await asyncio.gather(*(ask(client) for _ in range(3)), return_exceptions=True)
        waiting = asyncio.create_task(client._session._decoding.acquire())
        await eventually(waiting.done)

    assert {type(failure) for failure in failures} == {DecodeError}
