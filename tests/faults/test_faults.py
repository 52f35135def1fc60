"""The client against every fault over real sockets: the outcome, the error and its secrecy."""

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
from distinct_async._transport import Connector
from distinct_async.testing import FakeClock
from tests.support.faults import FAULTS, IMPATIENT, Fault, Outcome
from tests.support.helpers import KEY, ONCE, logged, shown_by
from tests.support.raw_server import RawServer, reply, response_of, send
from tests.support.survival import page_body

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


@pytest.fixture
def body(example: Callable[[str], bytes]) -> bytes:
    # The server echoes the key; an error that shows the response must redact it.
    return example("touchpoint_total").replace(b"Entry Scan", KEY.encode())


def make_client(raw: RawServer, fault: Fault, attempts: int = 5) -> DistinctClient:
    return DistinctClient(
        KEY,
        base_url=raw.url,
        timeouts=IMPATIENT if fault.slow else Timeouts(),
        retry=RetryPolicy(attempts=attempts),
        runtime=FakeClock().runtime,
    )


async def call(client: DistinctClient) -> VisitPage:
    return await client.touchpoint_metrics("tp-1")


@every_fault
async def test_a_fault_has_its_outcome_and_spares_the_next_request(
    raw: RawServer, body: bytes, fault: Fault
) -> None:
    next_body = body.replace(b"entry_scan", b"the next one")
    retries = [reply(body)] if fault.outcome is Outcome.RETRIED else []
    raw.play(fault.corrupt(body), *retries, reply(next_body))
    async with make_client(raw, fault) as client:
        if fault.outcome is Outcome.REFUSED:
            with pytest.raises(DistinctError) as caught:
                await call(client)
            assert caught.value.attempts == 1
            assert not caught.value.retryable
        else:
            page = await call(client)
            assert (page.total, len(page.items), page.touchpoint.value) == (3, 3, "entry_scan")
        assert len(raw.heads) == 1 + len(retries)

        # Leftovers of the fault must not be read as the response to another request.
        assert (await call(client)).touchpoint.value == "the next one"
        assert len(raw.heads) == 2 + len(retries)


@every_fault
async def test_the_error_of_a_fault_hides_the_key_and_has_no_chain(
    raw: RawServer, body: bytes, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    raw.play(fault.corrupt(body))
    async with make_client(raw, fault, attempts=1) as client:
        if fault.outcome is Outcome.READ:
            await call(client)
        else:
            with pytest.raises(DistinctError) as caught:
                await call(client)
            error = caught.value
            assert KEY not in shown_by(error)
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
async def test_the_error_of_a_walk_hides_the_key_and_says_where_to_resume(
    raw: RawServer, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    first = page_body("tp-1", 0, 50, total=100, page_size=50)
    raw.play(reply(first), fault.corrupt(page_body(KEY, 49, 99, total=100, page_size=50)))
    async with make_client(raw, fault, attempts=1) as client:
        delivered: list[Visit] = []
        with pytest.raises(DistinctError) as caught:
            async for visit in client.total_visits("tp-1"):
                delivered.append(visit)  # noqa: PERF401 - keep the visits delivered before the error

    error = caught.value
    assert (error.touchpoint_id, error.next_offset, len(delivered)) == ("tp-1", 50, 50)
    assert (error.__cause__, error.__context__) == (None, None)
    assert KEY not in shown_by(error)
    assert KEY not in logged(caplog)


def test_the_search_for_the_key_finds_it_in_tracebacks_and_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ValueError, match="Expecting value") as caught:
        json.loads(KEY)
    logging.getLogger("any").error("failed", exc_info=caught.value)
    logging.getLogger("any").warning("%s", KEY)

    assert KEY in shown_by(caught.value)
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
    ("certificate", "message"),
    [
        pytest.param(
            trustme.CA().issue_cert("127.0.0.1"), "unable to get local issuer", id="bad CA"
        ),
        pytest.param(AUTHORITY.issue_cert("other.example"), "IP address mismatch", id="wrong host"),
        pytest.param(AUTHORITY.issue_cert("127.0.0.1", not_after=EXPIRED), "expired", id="expired"),
    ],
)
async def test_an_invalid_certificate_is_refused_before_anything_is_sent(
    clock: FakeClock, certificate: trustme.LeafCert, message: str
) -> None:
    async with tls_server(certificate) as raw, await trusting_session() as session:
        client = DistinctClient(KEY, base_url=raw.url, session=session, runtime=clock.runtime)
        with pytest.raises(TransportError, match=message) as caught:
            await call(client)

    assert (caught.value.retryable, caught.value.attempts, clock.sleeps) == (False, 1, [])
    assert (raw.heads, raw.connections) == ([], 0)
    assert KEY not in shown_by(caught.value)


async def test_a_valid_certificate_is_accepted_and_a_reset_retried(
    clock: FakeClock, body: bytes
) -> None:
    async with (
        tls_server(AUTHORITY.issue_cert("127.0.0.1")) as raw,
        await trusting_session() as session,
    ):
        raw.play(send(response_of(body)[:200], end="reset"), reply(body))
        client = DistinctClient(KEY, base_url=raw.url, session=session, runtime=clock.runtime)
        assert (await call(client)).total == 3
        assert len(clock.sleeps) == 1


@pytest.mark.parametrize("connector", [aiohttp.TCPConnector, Connector])
async def test_tls_connections_are_reused(
    body: bytes, connector: type[aiohttp.TCPConnector]
) -> None:
    async with (
        tls_server(AUTHORITY.issue_cert("127.0.0.1")) as raw,
        await trusting_session(connector) as http,
    ):
        raw.play(reply(body))
        client = DistinctClient(KEY, base_url=raw.url, session=http)
        for _ in range(5):
            await call(client)
        await asyncio.gather(*(call(client) for _ in range(5)))
        await asyncio.gather(*(call(client) for _ in range(5)))

        # The first requests need one connection, the simultaneous ones four more.
        assert (len(raw.heads), raw.connections) == (15, 5)


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0\r\n"])
async def test_plain_text_on_a_tls_port_fails_the_connection(
    clock: FakeClock, greeting: bytes
) -> None:
    async with RawServer(greeting=greeting) as raw:
        url = raw.url.replace("http:", "https:")
        async with DistinctClient(KEY, base_url=url, runtime=clock.runtime) as client:
            with pytest.raises(TransportError, match="ClientConnectorSSLError") as caught:
                await call(client)

    assert (caught.value.attempts, raw.connections, raw.heads) == (5, 5, [])
    assert KEY not in shown_by(caught.value)


async def test_a_silent_tls_port_times_out(raw: RawServer) -> None:
    url = raw.url.replace("http:", "https:")
    timeouts = Timeouts(connect=0.05)
    async with DistinctClient(KEY, base_url=url, timeouts=timeouts, retry=ONCE) as client:
        with pytest.raises(RequestTimeoutError, match=r"no connection within 0\.05 s"):
            await call(client)


async def test_plain_http_to_a_tls_port_fails_the_connection(clock: FakeClock) -> None:
    async with tls_server(AUTHORITY.issue_cert("127.0.0.1")) as raw:
        url = raw.url.replace("https:", "http:")
        async with DistinctClient(KEY, base_url=url, runtime=clock.runtime) as client:
            with pytest.raises(TransportError) as caught:
                await call(client)

    assert (caught.value.retryable, caught.value.attempts, raw.heads) == (True, 5, [])
    assert KEY not in shown_by(caught.value)


# --- Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("same_origin", [True, False])
@pytest.mark.parametrize("borrowed", [True, False])
async def test_a_redirect_is_refused_and_the_key_goes_nowhere(
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
                await call(client)

    assert (caught.value.status, caught.value.attempts) == (status, 1)
    assert (len(raw.heads), elsewhere.connections) == (1, 0)
    assert KEY not in shown_by(caught.value)


async def test_a_redirect_from_https_to_http_is_refused_and_the_key_goes_nowhere(
    body: bytes,
) -> None:
    async with (
        tls_server(AUTHORITY.issue_cert("127.0.0.1")) as raw,
        RawServer() as plain,
        await trusting_session() as session,
    ):
        raw.play(reply(body, b"Location: " + plain.url.encode(), status="308 Permanent Redirect"))
        client = DistinctClient(KEY, base_url=raw.url, session=session)
        with pytest.raises(RedirectError):
            await call(client)
        assert (len(raw.heads), plain.connections) == (1, 0)
