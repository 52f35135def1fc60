"""aiohttp sessions, borrowed or our own: their traces, their defaults, and the key's secrecy."""

import gzip
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from distinct_async import (
    ClientClosedError,
    ConfigurationError,
    DistinctClient,
    DistinctError,
    NotFoundError,
    TransportError,
)
from distinct_async.testing import FakeClock, FakeDistinct
from tests.core.sessions import answer_with, fetch_total
from tests.support.helpers import KEY, shown_by
from tests.support.raw_server import RawServer, reply, reset, send

Example = Callable[[str], bytes]

pytestmark = pytest.mark.usefixtures("three_visits")


# --- Borrowed sessions


async def test_a_borrowed_session_is_used_and_left_open(fake: FakeDistinct) -> None:
    seen: list[str] = []

    async def record(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        seen.append(request.method)
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(record,)) as borrowed:
        async with fake.client(session=borrowed) as client:
            assert await fetch_total(client) == 3
        assert not borrowed.closed

    assert seen == ["GET"]


async def test_the_defaults_of_a_borrowed_session_change_nothing(
    fake: FakeDistinct, clock: FakeClock, example: Example
) -> None:
    body = gzip.compress(example("touchpoint_total"))
    headers = {"Content-Encoding": "gzip"}
    fake.intercept = answer_with(lambda: web.Response(body=body, headers=headers))
    async with aiohttp.ClientSession(auto_decompress=False, raise_for_status=True) as borrowed:
        client = fake.client(session=borrowed, runtime=clock.runtime)
        assert await fetch_total(client) == 3
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
        assert await fetch_total(client) == 3
        await client.aclose()

    assert len(raw.heads) == 3


async def test_a_borrowed_session_that_its_owner_closed_is_reported(fake: FakeDistinct) -> None:
    borrowed = aiohttp.ClientSession()
    async with fake.client(session=borrowed) as client:
        await borrowed.close()
        with pytest.raises(ClientClosedError, match="session is closed"):
            await fetch_total(client)


# --- Traces


async def test_trace_configs_trace_the_clients_own_session(fake: FakeDistinct) -> None:
    seen: list[str] = []

    async def on_start(_: Any, __: Any, parameters: aiohttp.TraceRequestStartParams) -> None:
        seen.append(parameters.method)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(on_start)
    async with fake.client(trace_configs=[trace]) as client:
        await fetch_total(client)

    assert seen == ["GET"]


async def test_an_exception_in_a_trace_becomes_a_transport_error(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    async def on_start(*_: Any) -> None:
        raise LookupError("in the callback")

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(on_start)
    async with fake.client(trace_configs=[trace], runtime=clock.runtime) as client:
        with pytest.raises(TransportError, match="LookupError: in the callback") as caught:
            await fetch_total(client)

    assert (caught.value.retryable, clock.sleeps) == (False, [])


async def test_trace_configs_are_refused_beside_a_borrowed_session() -> None:
    async with aiohttp.ClientSession() as borrowed:
        with pytest.raises(ConfigurationError, match="trace_configs"):
            DistinctClient(KEY, session=borrowed, trace_configs=[aiohttp.TraceConfig()])


# --- Secrets


async def test_foreign_text_in_an_error_is_escaped_and_truncated(
    raw: RawServer, raw_client: DistinctClient
) -> None:
    raw.play(send(b"HTTP/1.1 200 OK\r\n\x1b[31m" + b"y" * 500 + b"\r\n\r\n"))
    with pytest.raises(TransportError) as caught:
        await fetch_total(raw_client)

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
async def test_no_error_shows_a_key_that_the_server_echoes(
    raw: RawServer, raw_client: DistinctClient, echo: Any
) -> None:
    raw.play(echo)
    with pytest.raises(DistinctError) as caught:
        await fetch_total(raw_client)

    assert KEY not in shown_by(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
