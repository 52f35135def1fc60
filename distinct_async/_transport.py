"""HTTP through aiohttp, which no other client module imports.

`Transport.send` makes one attempt and returns a `Reply` or one of our errors: no exception of
aiohttp escapes, and none is chained to an error, since aiohttp's exceptions show request headers.
"""

import asyncio
import select
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Final, TypeAlias, cast, final
from weakref import WeakSet

import aiohttp
import attrs
from aiohttp.tracing import Trace
from typing_extensions import override
from yarl import URL

from distinct_async._checks import instance_of
from distinct_async._deadlines import Deadlines
from distinct_async._secrets import ApiKey
from distinct_async._version import __version__
from distinct_async._wire.protocol import KEY_HEADER, Reply
from distinct_async.config import Limits, Timeouts
from distinct_async.errors import (
    ClientClosedError,
    DistinctError,
    RequestTimeoutError,
    TransportError,
)

# The client module does not import aiohttp; it refers to these types by these names.
HTTPSession: TypeAlias = aiohttp.ClientSession
TraceConfig: TypeAlias = aiohttp.TraceConfig

DEFAULT_USER_AGENT: Final = f"distinct-async/{__version__} aiohttp/{aiohttp.__version__}"

# Another attempt cannot fix the wrong certificate or an unusable URL.
_PERMANENT: Final = (
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
)
# Windows cannot poll, and its event loop may have read data that it has not delivered yet.
CAN_POLL: Final = hasattr(select, "poll")


@attrs.frozen(kw_only=True)
class TransportSettings:
    """What the transport needs to know.

    Attributes:
        api_key: The key.
        base_url: Where the API is, without a trailing slash.
        now: Returns seconds since the epoch.
        user_agent: The User-Agent header.
        session: The caller's aiohttp session, which is never closed, or None to create one.
        trace_configs: aiohttp trace configurations for the created session.
        limits: The connection pool's size and the longest body.
    """

    api_key: ApiKey
    base_url: str
    now: Callable[[], float]
    user_agent: str = DEFAULT_USER_AGENT
    session: aiohttp.ClientSession | None = attrs.field(
        default=None, validator=attrs.validators.optional(instance_of(aiohttp.ClientSession))
    )
    trace_configs: tuple[aiohttp.TraceConfig, ...] = ()
    limits: Limits = attrs.field(default=Limits(), validator=instance_of(Limits))


@final
class Transport:
    """Sends requests over one aiohttp session."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._headers = {
            KEY_HEADER: settings.api_key,
            "Accept": "application/json",
            # aiohttp reads a truncated br or zstd body as an empty one, without an error.
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": settings.user_agent,
        }
        base_url = URL(settings.base_url, encoded=True)
        self._scheme, self._authority = base_url.scheme, base_url.raw_authority
        self._base_path = base_url.raw_path.rstrip("/")
        self._attempts = Deadlines()
        # The last used timeouts, and what aiohttp takes for them.
        self._http_timeout_of: tuple[Timeouts, aiohttp.ClientTimeout] | None = None
        self._http: aiohttp.ClientSession | None = None
        # The connections of an event loop that is closed.
        self._left_behind: aiohttp.BaseConnector | None = None

    async def send(self, path: str, query: str, timeouts: Timeouts) -> Reply | DistinctError:
        """Make one HTTP attempt within `Timeouts.attempt`."""
        try:
            return await self._attempts.run(timeouts.attempt, self._exchange(path, query, timeouts))
        except _BodyTooLongError:
            limit = self._settings.limits.max_body_bytes
            return TransportError(f"the body is longer than {limit} bytes", retryable=False)
        except Exception as error:  # noqa: BLE001 - no exception of aiohttp may escape
            return self._as_own_error(error, timeouts)

    def abort(self) -> None:
        """End all attempts in flight."""
        self._attempts.expire_all()

    def forget(self) -> None:
        """Drop the connections of an event loop that is closed."""
        self._attempts = Deadlines()
        if self._http is not None and self._http is not self._settings.session:
            self._left_behind = self._http.connector
            self._http.detach()
        self._http = None

    async def aclose(self) -> None:
        """Close the aiohttp session unless it was borrowed."""
        await self._close_left_behind()
        if self._http is not None and self._http is not self._settings.session:
            await self._http.close()

    async def _exchange(self, path: str, query: str, timeouts: Timeouts) -> Reply:
        if self._left_behind is not None:
            await self._close_left_behind()
        settings = self._settings
        response = await self._get(self._open_session(), self._url(path, query), timeouts)
        try:
            body = await _read(response.content, settings.limits.max_body_bytes)
        finally:
            # Closes the connection unless the body was read to its end.
            response.release()
        return Reply(
            status=response.status,
            headers=response.headers,
            body=body,
            api_key=settings.api_key,
            received_at=settings.now(),
        )

    def _get(
        self, http: aiohttp.ClientSession, url: URL, timeouts: Timeouts
    ) -> Awaitable[aiohttp.ClientResponse]:
        borrowed = http is self._settings.session
        return http.get(
            url,
            # The created session adds them to every request, which is faster.
            headers=self._headers if borrowed else None,
            # aiohttp would send the key along to the redirect's target.
            allow_redirects=False,
            timeout=self._http_timeout(timeouts, owns_pool=not borrowed),
            # A borrowed session may have other defaults.
            auto_decompress=True,
            raise_for_status=False,
            middlewares=_middlewares(http),
        )

    def _url(self, path: str, query: str) -> URL:
        # Both are percent-encoded already; quoting them again would change ids.
        return URL.build(
            scheme=self._scheme,
            authority=self._authority,
            path=self._base_path + path,
            query_string=query,
            encoded=True,
        )

    def _http_timeout(self, timeouts: Timeouts, *, owns_pool: bool) -> aiohttp.ClientTimeout:
        last = self._http_timeout_of
        if last is None or last[0] is not timeouts:
            last = timeouts, _make_http_timeout(timeouts, owns_pool=owns_pool)
            self._http_timeout_of = last
        return last[1]

    def _open_session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = self._settings.session or aiohttp.ClientSession(
                connector=Connector(limit=self._settings.limits.concurrency),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=list(self._settings.trace_configs),
                trust_env=False,
            )
        return self._http

    async def _close_left_behind(self) -> None:
        left_behind, self._left_behind = self._left_behind, None
        if left_behind is not None:
            await left_behind.close()

    def _as_own_error(self, error: Exception, timeouts: Timeouts) -> DistinctError:
        if isinstance(error, TimeoutError):
            return _timeout_error(error, timeouts)
        if self._http is not None and self._http.closed:
            return ClientClosedError("the aiohttp session is closed")
        return TransportError(
            self._settings.api_key.printable(f"{type(error).__name__}: {error}"),
            retryable=isinstance(error, aiohttp.ClientError | OSError)
            and not isinstance(error, _PERMANENT),
        )


class _BodyTooLongError(Exception):
    """The body is longer than allowed."""


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes:
    """Read a body of at most `limit` decompressed bytes, chunk by chunk."""
    if content.is_eof():
        # Most bodies arrive together with their head, and iterating takes 5 µs.
        body = content.read_nowait()
        if len(body) > limit:
            raise _BodyTooLongError
        return body
    chunks: list[bytes] = []
    length = 0
    async for chunk in content.iter_any():
        length += len(chunk)
        if length > limit:
            raise _BodyTooLongError
        chunks.append(chunk)
    return b"".join(chunks)


def _make_http_timeout(timeouts: Timeouts, *, owns_pool: bool) -> aiohttp.ClientTimeout:
    # `connect` includes the wait for the pool, which a borrowed session shares with others.
    return aiohttp.ClientTimeout(
        total=None,
        connect=timeouts.connect if owns_pool else None,
        sock_connect=timeouts.connect,
        sock_read=timeouts.read,
    )


def _timeout_error(error: TimeoutError, timeouts: Timeouts) -> RequestTimeoutError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return RequestTimeoutError(f"no connection within {timeouts.connect} s")
    if isinstance(error, aiohttp.ServerTimeoutError):
        return RequestTimeoutError(f"no data for {timeouts.read} s")
    return RequestTimeoutError(f"no answer within {timeouts.attempt} s")


def _middlewares(http: aiohttp.ClientSession) -> tuple[aiohttp.ClientMiddlewareType, ...]:
    # A request's middlewares replace its session's, which a borrowed session may rely on.
    # aiohttp has no public name for these, so this reads a private one, if it is there.
    return (*getattr(http, "_middlewares", ()), _send_once)


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from resending by itself when a connection drops: retries happen elsewhere."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        dropped = f"{type(error).__name__}: {error}"
    raise aiohttp.ClientConnectionError(dropped)


@final
class Connector(aiohttp.TCPConnector):
    """Discards pooled connections that hold unsolicited data.

    aiohttp would take it for the response to the next request (aiohttp issue 13656). A borrowed
    session has the caller's connector, without this check.
    """

    @cached_property
    def _reused(self) -> WeakSet[object]:
        """The connections that were used before."""
        return WeakSet()

    @override
    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        for _ in range(self.limit):
            connection = await super().connect(req, traces, timeout)
            if not await self._has_unsolicited_data(connection):
                return connection
            connection.close()
        # All the connections the pool can hold were discarded, so this one is new.
        return await super().connect(req, traces, timeout)

    async def _has_unsolicited_data(self, connection: aiohttp.connector.Connection) -> bool:
        if connection.protocol in self._reused and CAN_POLL:
            return _should_close(connection) or _is_readable(connection)
        self._reused.add(connection.protocol)
        try:
            # A new TLS connection has session tickets to read, so polling would misjudge it.
            # The loop reads what has arrived in its next turn, and handles it in the one after.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except BaseException:
            connection.close()
            raise
        return _should_close(connection)


def _should_close(connection: aiohttp.connector.Connection) -> bool:
    return connection.protocol is None or connection.protocol.should_close


def _is_readable(connection: aiohttp.connector.Connection) -> bool:
    poller = select.poll()
    transport = cast("asyncio.Transport", connection.transport)
    poller.register(transport.get_extra_info("socket"), select.POLLIN)
    return bool(poller.poll(0))
