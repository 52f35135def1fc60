"""The client against every fault, over real sockets: what it makes of each, and what it says."""

import asyncio
import json
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime

import aiohttp
import pytest
import trustme

from distinct_async import (
    DistinctClient,
    DistinctError,
    RedirectError,
    RequestTimeoutError,
    RetryPolicy,
    Timeouts,
    TransportError,
    Visit,
    VisitPage,
)
from distinct_async._transport import _Connector
from distinct_async.testing import FakeClock
from tests.support.faults import FAULTS, IMPATIENT, Fault, Outcome
from tests.support.helpers import KEY, ONCE, logged, shown_of
from tests.support.raw_server import RawServer, reply, response_of, send
from tests.support.survival import page_body

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


@pytest.fixture
def body(example: Callable[[str], bytes]) -> bytes:
    # Whatever shows the server's answer must not show a key that is in it.
    return example("touchpoint_total").replace(b"Entry Scan", KEY.encode())


def make_client(raw: RawServer, fault: Fault, attempts: int = 5) -> DistinctClient:
    return DistinctClient(
        KEY,
        base_url=raw.url,
        timeouts=IMPATIENT if fault.slow else Timeouts(),
        retry=RetryPolicy(attempts=attempts),
        runtime=FakeClock().runtime,
    )


async def ask(client: DistinctClient) -> VisitPage:
    return await client.touchpoint_metrics("tp-1")


@every_fault
async def test_what_becomes_of_it_and_of_the_next_request(
    raw: RawServer, body: bytes, fault: Fault
) -> None:
    after = body.replace(b"entry_scan", b"the next one")
    retries = [reply(body)] if fault.outcome is Outcome.RETRIED else []
    raw.play(fault.spoil(body), *retries, reply(after))
    async with make_client(raw, fault) as client:
        if fault.outcome is Outcome.REFUSED:
            with pytest.raises(DistinctError) as caught:
                await ask(client)
            assert caught.value.attempts == 1
            assert not caught.value.retryable
        else:
            page = await ask(client)
            assert (page.total, len(page.items), page.touchpoint.value) == (3, 3, "entry_scan")
        assert len(raw.heads) == 1 + len(retries)

        # Nothing that is left of the fault may be taken for another request's answer.
        assert (await ask(client)).touchpoint.value == "the next one"
        assert len(raw.heads) == 2 + len(retries)


@every_fault
async def test_what_it_raises_shows_no_key_and_hangs_on_nothing(
    raw: RawServer, body: bytes, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    raw.play(fault.spoil(body))
    async with make_client(raw, fault, attempts=1) as client:
        if fault.outcome is Outcome.READ:
            await ask(client)
        else:
            with pytest.raises(DistinctError) as caught:
                await ask(client)
            error = caught.value
            assert KEY not in shown_of(error)
            assert (error.__cause__, error.__context__) == (None, None)
            assert type(error).__module__ == "distinct_async.errors"
            assert str(error).isprintable()
            assert len(str(error)) < 600
            assert error.retryable == (fault.outcome is Outcome.RETRIED)
        await client.aclose()

    assert KEY not in logged(caplog)


@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS if fault.outcome is not Outcome.READ and not fault.slow],
    ids=lambda fault: fault.name,
)
async def test_what_a_walk_raises_shows_no_key_and_says_where_to_go_on(
    raw: RawServer, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    first = page_body("tp-1", 0, 50, total=100, page_size=50)
    raw.play(reply(first), fault.spoil(page_body(KEY, 50, 100, total=100, page_size=50)))
    async with make_client(raw, fault, attempts=1) as client:
        delivered: list[Visit] = []
        with pytest.raises(DistinctError) as caught:
            async for visit in client.total_visits("tp-1"):
                delivered.append(visit)  # noqa: PERF401 - what came before an error counts

    error = caught.value
    assert (error.touchpoint_id, error.next_offset, len(delivered)) == ("tp-1", 50, 50)
    assert (error.__cause__, error.__context__) == (None, None)
    assert KEY not in shown_of(error)
    assert KEY not in logged(caplog)


def test_the_canary_would_be_found(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="Expecting value") as caught:
        json.loads(KEY)
    logging.getLogger("any").error("failed", exc_info=caught.value)
    logging.getLogger("any").warning("%s", KEY)

    assert KEY in shown_of(caught.value)
    assert KEY in logged(caplog)


# --- TLS

AUTHORITY = trustme.CA()


def tls_server(certificate: trustme.LeafCert) -> RawServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return RawServer(tls=context)


async def trusting_session(
    connector: type[aiohttp.TCPConnector] = aiohttp.TCPConnector,
) -> aiohttp.ClientSession:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return aiohttp.ClientSession(connector=connector(ssl=context))


EXPIRED = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        pytest.param(
            trustme.CA().issue_cert("127.0.0.1"), "unable to get local issuer", id="bad CA"
        ),
        pytest.param(AUTHORITY.issue_cert("other.example"), "IP address mismatch", id="wrong host"),
        pytest.param(AUTHORITY.issue_cert("127.0.0.1", not_after=EXPIRED), "expired", id="expired"),
    ],
)
async def test_a_wrong_certificate_is_refused_before_anything_is_sent(
    clock: FakeClock, certificate: trustme.LeafCert, said: str
) -> None:
    async with tls_server(certificate) as raw, await trusting_session() as session:
        client = DistinctClient(KEY, base_url=raw.url, session=session, runtime=clock.runtime)
        with pytest.raises(TransportError, match=said) as caught:
            await ask(client)

    assert (caught.value.retryable, caught.value.attempts, clock.sleeps) == (False, 1, [])
    assert (raw.heads, raw.connections) == ([], 0)
    assert KEY not in shown_of(caught.value)


async def test_a_good_certificate_is_not(clock: FakeClock, body: bytes) -> None:
    async with (
        tls_server(AUTHORITY.issue_cert("127.0.0.1")) as raw,
        await trusting_session() as session,
    ):
        raw.play(send(response_of(body)[:200], end="reset"), reply(body))
        client = DistinctClient(KEY, base_url=raw.url, session=session, runtime=clock.runtime)
        assert (await ask(client)).total == 3
        assert len(clock.sleeps) == 1


@pytest.mark.parametrize("connector", [aiohttp.TCPConnector, _Connector])
async def test_tls_connections_are_used_again(
    body: bytes, connector: type[aiohttp.TCPConnector]
) -> None:
    async with (
        tls_server(AUTHORITY.issue_cert("127.0.0.1")) as raw,
        await trusting_session(connector) as http,
    ):
        raw.play(reply(body))
        client = DistinctClient(KEY, base_url=raw.url, session=http)
        for _ in range(5):
            await ask(client)
        await asyncio.gather(*(ask(client) for _ in range(5)))
        await asyncio.gather(*(ask(client) for _ in range(5)))

        # One at first, and four more when five are needed at once.
        assert (len(raw.heads), raw.connections) == (15, 5)


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0\r\n"])
async def test_plain_text_on_a_tls_port_is_a_connection_that_failed(
    clock: FakeClock, greeting: bytes
) -> None:
    async with RawServer(greeting=greeting) as raw:
        url = raw.url.replace("http:", "https:")
        async with DistinctClient(KEY, base_url=url, runtime=clock.runtime) as client:
            with pytest.raises(TransportError, match="ClientConnectorSSLError") as caught:
                await ask(client)

    assert (caught.value.attempts, raw.connections, raw.heads) == (5, 5, [])
    assert KEY not in shown_of(caught.value)


async def test_a_tls_port_that_says_nothing_times_out(raw: RawServer) -> None:
    url = raw.url.replace("http:", "https:")
    timeouts = Timeouts(connect=0.05)
    async with DistinctClient(KEY, base_url=url, timeouts=timeouts, retry=ONCE) as client:
        with pytest.raises(RequestTimeoutError, match=r"no connection within 0\.05 s"):
            await ask(client)


async def test_tls_on_a_plain_port_is_a_connection_that_failed(clock: FakeClock) -> None:
    async with tls_server(AUTHORITY.issue_cert("127.0.0.1")) as raw:
        url = raw.url.replace("https:", "http:")
        async with DistinctClient(KEY, base_url=url, runtime=clock.runtime) as client:
            with pytest.raises(TransportError) as caught:
                await ask(client)

    assert (caught.value.retryable, caught.value.attempts, raw.heads) == (True, 5, [])
    assert KEY not in shown_of(caught.value)


# --- Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("same_origin", [True, False])
@pytest.mark.parametrize("borrowed", [True, False])
async def test_a_redirect_takes_the_key_nowhere(
    raw: RawServer, clock: FakeClock, status: int, *, same_origin: bool, borrowed: bool
) -> None:
    async with RawServer() as elsewhere, aiohttp.ClientSession() as session:
        target = f"{(raw if same_origin else elsewhere).url}/elsewhere".encode()
        raw.play(reply(b"", b"Location: " + target, status=f"{status} Go There"))
        client = DistinctClient(
            KEY,
            base_url=raw.url,
            session=session if borrowed else None,
            runtime=clock.runtime,
        )
        async with client:
            with pytest.raises(RedirectError, match="redirects are refused") as caught:
                await ask(client)

    assert (caught.value.status, caught.value.attempts) == (status, 1)
    assert (len(raw.heads), elsewhere.connections) == (1, 0)
    assert KEY not in shown_of(caught.value)


async def test_a_redirect_from_https_to_http_takes_the_key_nowhere(body: bytes) -> None:
    async with (
        tls_server(AUTHORITY.issue_cert("127.0.0.1")) as raw,
        RawServer() as plain,
        await trusting_session() as session,
    ):
        raw.play(reply(body, b"Location: " + plain.url.encode(), status="308 Permanent Redirect"))
        client = DistinctClient(KEY, base_url=raw.url, session=session)
        with pytest.raises(RedirectError):
            await ask(client)
        assert (len(raw.heads), plain.connections) == (1, 0)
