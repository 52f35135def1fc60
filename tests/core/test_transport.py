"""HTTP over real sockets: what is sent, which connections are used, and what cuts them short."""

import asyncio
import gzip
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from distinct_async import (
    ClientClosedError,
    ConfigurationError,
    DecodeError,
    DistinctClient,
    Limits,
    NotFoundError,
    RedirectError,
    RequestTimeoutError,
    Timeouts,
    TransportError,
)
from distinct_async._secrets import ApiKey
from distinct_async._transport import Transport, TransportSettings
from distinct_async._wire.protocol import Reply
from distinct_async.testing import FakeClock, FakeDistinct
from tests.core.sessions import answer_with, fetch_total
from tests.support.helpers import KEY, ONCE, MockedHTTP, eventually
from tests.support.raw_server import Exchange, RawServer, hang, reply, reset, response_of, send

Example = Callable[[str], bytes]

pytestmark = pytest.mark.usefixtures("three_visits")


@pytest.fixture
async def transport(raw: RawServer) -> AsyncIterator[Transport]:
    transport = Transport(make_settings(raw))
    yield transport
    await transport.aclose()


def make_settings(raw: RawServer, **settings: Any) -> TransportSettings:
    return TransportSettings(
        api_key=ApiKey(KEY), base_url=raw.url, now=lambda: 1_700_000_000.0, **settings
    )


def by_name(raw: RawServer) -> str:
    """Return the server's URL with a host name in place of its address."""
    return raw.url.replace("127.0.0.1", "localhost")


# --- One attempt


async def test_an_attempt_returns_the_reply(raw: RawServer, transport: Transport) -> None:
    raw.play(reply(b"nothing here", b"X-Thing: 7", status="404 Not Found"))

    outcome = await transport.send("/v9/things", "id=a%2Fb&to=%20", Timeouts())

    assert isinstance(outcome, Reply)
    assert (outcome.status, outcome.body) == (404, b"nothing here")
    assert outcome.headers["x-thing"] == "7"
    assert (outcome.api_key, outcome.received_at) == (KEY, 1_700_000_000.0)
    assert raw.heads[0].startswith(b"GET /v9/things?id=a%2Fb&to=%20 HTTP/1.1\r\n")


async def test_a_failed_attempt_returns_an_error_without_a_chain(
    raw: RawServer, transport: Transport
) -> None:
    raw.play(reset)

    outcome = await transport.send("/v9/things", "id=7", Timeouts())

    assert isinstance(outcome, TransportError)
    assert (outcome.retryable, outcome.attempts, len(raw.heads)) == (True, 0, 1)
    assert (outcome.__cause__, outcome.__context__, outcome.__traceback__) == (None, None, None)


async def test_aborting_ends_every_attempt_in_flight(raw: RawServer, transport: Transport) -> None:
    raw.play(hang)
    attempts = [
        asyncio.create_task(transport.send("/v9/things", f"id={n}", Timeouts())) for n in range(3)
    ]
    await eventually(lambda: len(raw.heads) == 3)

    transport.abort()

    outcomes = await asyncio.gather(*attempts)
    assert {type(outcome) for outcome in outcomes} == {RequestTimeoutError}


async def test_a_transport_without_connections_has_none_to_forget(raw: RawServer) -> None:
    transport = Transport(make_settings(raw))
    transport.forget()

    raw.play(reply(b"{}"))
    assert isinstance(await transport.send("/", "", Timeouts()), Reply)
    await transport.aclose()


async def test_a_closed_transport_has_no_connection_left(
    raw: RawServer, transport: Transport
) -> None:
    raw.play(reply(b"{}"))
    await transport.send("/v9/things", "id=7", Timeouts())
    assert len(raw.tasks) == 1

    await transport.aclose()

    await eventually(lambda: not raw.tasks)
    assert isinstance(await transport.send("/v9/things", "id=7", Timeouts()), ClientClosedError)


def test_the_settings_are_checked() -> None:
    for name in ("session", "limits"):
        with pytest.raises(ConfigurationError, match=rf"^{name} must be "):
            TransportSettings(
                api_key=ApiKey(KEY),
                base_url="https://api.test",
                now=lambda: 0.0,
                **{name: 1},  # type: ignore[arg-type]
            )


# --- What is sent


async def test_a_request_carries_the_key_and_the_user_agent(fake: FakeDistinct) -> None:
    async with fake.client() as client:
        await fetch_total(client)
    async with fake.client(user_agent="nightly/1") as client:
        await fetch_total(client)

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
        assert await fetch_total(client) == 3

    assert raw.heads[0].startswith(b"GET /proxy/v3/touchpoint/metrics?metricsType=TOUCHPOINT&")


async def test_proxies_and_netrc_of_the_environment_and_cookies_are_ignored(
    raw: RawServer, example: Example, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    raw.play(reply(example("touchpoint_total"), b"Set-Cookie: a=b; Path=/"))

    # By name, because every client ignores the cookies of a bare address.
    async with DistinctClient(KEY, base_url=by_name(raw)) as client:
        await fetch_total(client)
        await fetch_total(client)

    assert len(raw.heads) == 2
    assert not any(b"cookie" in head.lower() for head in raw.heads)
    assert not any(b"authorization" in head.lower() for head in raw.heads)


async def test_replies_and_failures_of_aiohttp_are_mapped_without_a_socket(
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


# --- Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_refused(
    fake: FakeDistinct, client: DistinctClient, raw: RawServer, status: int
) -> None:
    location = {"Location": f"{raw.url}/elsewhere"}
    fake.intercept = answer_with(lambda: web.Response(status=status, headers=location))

    with pytest.raises(RedirectError) as caught:
        await fetch_total(client)

    assert (caught.value.status, len(fake.requests), raw.connections) == (status, 1, 0)


# --- Connections


async def test_a_refused_connection_is_retried_and_raised(
    clock: FakeClock, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with DistinctClient(KEY, base_url=url, runtime=clock.runtime) as client:
        with pytest.raises(TransportError, match="ClientConnectorError") as caught:
            await fetch_total(client)

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
async def test_a_broken_exchange_is_one_attempt_and_is_retried(
    raw: RawServer, raw_client: DistinctClient, example: Example, fault: Any
) -> None:
    raw.play(fault, fault, reply(example("touchpoint_total")))

    assert await fetch_total(raw_client) == 3
    # The server counts, so it would see a request that aiohttp resends by itself.
    assert len(raw.heads) == 3


async def test_a_dropped_keep_alive_connection_is_an_attempt_like_any_other(
    raw: RawServer, raw_client: DistinctClient, clock: FakeClock, example: Example
) -> None:
    body = example("touchpoint_total")
    raw.play(reply(body), reset, reply(body))

    assert await fetch_total(raw_client) == 3
    assert await fetch_total(raw_client) == 3
    assert (len(raw.heads), len(clock.sleeps)) == (3, 1)


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("can_poll", [True, False])
async def test_unsolicited_data_is_not_taken_for_the_next_response(
    raw: RawServer,
    example: Example,
    monkeypatch: pytest.MonkeyPatch,
    connections: int,
    can_poll: bool,
) -> None:
    monkeypatch.setattr("distinct_async._transport.CAN_POLL", can_poll)
    body = example("touchpoint_total")
    exchanges: list[Exchange] = []

    async def reply_to_all_at_once(exchange: Exchange) -> None:
        exchanges.append(exchange)
        await eventually(lambda: len(exchanges) == connections)
        await reply(body)(exchange)

    raw.play(*[reply_to_all_at_once] * connections, reply(body))
    async with DistinctClient(
        KEY, base_url=raw.url, limits=Limits(concurrency=connections), retry=ONCE
    ) as client:
        first = (fetch_total(client) for _ in range(connections))
        assert await asyncio.gather(*first) == [3] * connections
        # Every pooled connection receives another response at the very last moment.
        for exchange in exchanges:
            exchange.writer.write(response_of(body.replace(b"entry_scan", b"stale")))

        page = await client.touchpoint_metrics("tp-1")

    assert page.touchpoint.value == "entry_scan"
    assert len(raw.heads) == raw.connections == connections + 1


async def test_an_untrusted_certificate_is_not_retried(clock: FakeClock) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with (
        RawServer(tls=tls) as raw,
        DistinctClient(KEY, base_url=raw.url, runtime=clock.runtime) as client,
    ):
        with pytest.raises(TransportError, match="CertificateError") as caught:
            await fetch_total(client)

        assert (caught.value.retryable, clock.sleeps, raw.heads) == (False, [], [])


# --- Bodies


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
    fake.intercept = answer_with(lambda: web.Response(body=encoded, headers=headers))

    limits = Limits(max_body_bytes=999_999)
    async with fake.client(limits=limits, runtime=clock.runtime) as client:
        with pytest.raises(TransportError, match="longer than 999999 bytes") as caught:
            await fetch_total(client)
        assert (caught.value.retryable, len(fake.requests)) == (False, 1)
    async with fake.client(limits=Limits(max_body_bytes=1_000_000), retry=ONCE) as client:
        with pytest.raises(DecodeError):
            await fetch_total(client)


async def test_a_short_body_that_arrives_with_its_head_is_refused_if_too_long(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    fake.intercept = answer_with(lambda: web.Response(body=b"1234567890"))

    async with fake.client(limits=Limits(max_body_bytes=9), runtime=clock.runtime) as client:
        with pytest.raises(TransportError, match="longer than 9 bytes"):
            await fetch_total(client)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_bodies_are_read(
    fake: FakeDistinct, client: DistinctClient, example: Example, encoding: str
) -> None:
    plain = example("touchpoint_total")
    body = {"gzip": gzip.compress(plain), "deflate": zlib.compress(plain)}[encoding]
    headers = {"Content-Encoding": encoding}
    fake.intercept = answer_with(lambda: web.Response(body=body, headers=headers))

    assert await fetch_total(client) == 3


# --- Timeouts


@pytest.mark.parametrize(
    ("timeouts", "message"),
    [
        (Timeouts(read=0.01), "no data for 0.01 s"),
        (Timeouts(attempt=0.1), "no answer within 0.1 s"),
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
            await fetch_total(client)

    assert caught.value.attempts == len(raw.heads) == 5


async def test_a_stalled_body_times_out(raw: RawServer) -> None:
    raw.play(send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"))
    timeouts = Timeouts(read=0.01)
    async with DistinctClient(KEY, base_url=raw.url, timeouts=timeouts, retry=ONCE) as client:
        with pytest.raises(RequestTimeoutError, match="no data"):
            await fetch_total(client)


@pytest.mark.parametrize("step", ["getaddrinfo", "sock_connect"])
async def test_a_connection_that_takes_too_long_times_out(
    raw: RawServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), step, never)
    timeouts = Timeouts(connect=0.01, attempt=5)
    async with DistinctClient(KEY, base_url=by_name(raw), timeouts=timeouts, retry=ONCE) as client:
        with pytest.raises(RequestTimeoutError, match=r"no connection within 0\.01 s"):
            await fetch_total(client)
