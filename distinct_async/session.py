"""The session manager: one logical request in, a value or one of our errors out.

The only client module that touches aiohttp. It owns the HTTP session, the slots, the rate, the
timeouts and the tasks of walks, and it ends all of them in `aclose`.
"""

import asyncio
import math
import select
from collections.abc import Callable, Coroutine
from functools import cached_property, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, cast, final
from weakref import WeakSet

import aiohttp
import attrs
from aiohttp.tracing import Trace
from typing_extensions import override
from yarl import URL

from distinct_async import wire
from distinct_async._version import __version__
from distinct_async.config import (
    ApiKey,
    Limits,
    RetryPolicy,
    Runtime,
    Timeouts,
    instance_of,
)
from distinct_async.errors import (
    ClientClosedError,
    ConfigurationError,
    DistinctError,
    RateLimitError,
    RequestTimeoutError,
    TransportError,
)
from distinct_async.retry import Retrier, RetryBudget

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

T = TypeVar("T")

# The names by which the client module, which does not import aiohttp, speaks of these.
HTTPSession: TypeAlias = aiohttp.ClientSession
TraceConfig: TypeAlias = aiohttp.TraceConfig

DEFAULT_USER_AGENT: Final = f"distinct-async/{__version__} aiohttp/{aiohttp.__version__}"

# A tenth of a second's worth of requests may start at once: a bucket of a whole second's worth
# would let twice the rate through in its first second.
_BURST_SECONDS: Final = 0.1


# Bytes that take so long to decode that others should have their turn before and after.
_LONG_BODY: Final = 16 * 1024
# Of the event loop, until the task's result is told, taken, and what it makes room for is sent.
_TURNS_TO_GO_ON: Final = 3


@attrs.frozen(kw_only=True)
class Settings:
    """All that a session needs to know, checked before.

    Attributes:
        api_key: The key.
        base_url: Where the API is, without a trailing slash.
        user_agent: The User-Agent header.
        session: The caller's aiohttp session, which is never closed; or None to make one.
        trace_configs: aiohttp trace configurations of the session to be made.
        retry: When to try again.
        limits: How much to do at once.
        timeouts: How long to wait.
        runtime: Sleep, clocks and randomness.
    """

    api_key: ApiKey
    base_url: str
    user_agent: str = DEFAULT_USER_AGENT
    session: aiohttp.ClientSession | None = attrs.field(
        default=None, validator=attrs.validators.optional(instance_of(aiohttp.ClientSession))
    )
    trace_configs: tuple[aiohttp.TraceConfig, ...] = ()
    retry: RetryPolicy = attrs.field(default=RetryPolicy(), validator=instance_of(RetryPolicy))
    limits: Limits = attrs.field(default=Limits(), validator=instance_of(Limits))
    timeouts: Timeouts = attrs.field(default=Timeouts(), validator=instance_of(Timeouts))
    runtime: Runtime = attrs.field(default=Runtime(), validator=instance_of(Runtime))


@final
class Session:
    """Issues requests within the limits, one event loop long."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        retry, runtime = settings.retry, settings.runtime
        self._retrier = Retrier(retry, runtime, RetryBudget(retry.budget))
        self._slots = asyncio.Semaphore(settings.limits.concurrency)
        self._decoding = asyncio.Semaphore(1)
        self._limiter = _make_limiter(settings.limits.requests_per_second)
        self._headers = {
            wire.KEY_HEADER: settings.api_key,
            "Accept": "application/json",
            # A cut br or zstd body reads as an empty one; of these two a cut is noticed.
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": settings.user_agent,
        }
        self._make_url = _url_maker(settings.base_url)
        self._http_timeout = _make_http_timeout(settings)
        self._paused_until = 0.0
        self._retries = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http: aiohttp.ClientSession | None = None
        self._closed = False
        self._requests = _Watchdog()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._attempts = _Watchdog()

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    @property
    def retries(self) -> int:
        """How many attempts were made after the first of their request."""
        return self._retries

    def check_usable(self) -> None:
        """Bind to the running loop, if not yet bound.

        Raises:
            ClientClosedError: The session was closed.
            ConfigurationError: It belongs to another event loop.
        """
        if self._closed:
            raise ClientClosedError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise ConfigurationError(
                "the client belongs to another event loop; make one client per event loop"
            )
        self._loop = loop

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as a task that `aclose` ends.

        Raises:
            ClientClosedError: The session was closed.
            ConfigurationError: It belongs to another event loop.
        """
        try:
            self.check_usable()
        except DistinctError:
            work.close()
            raise
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def fetch(
        self, query: str, decode: Callable[[wire.Reply], T], *, touchpoint_id: str | None = None
    ) -> T:
        """Make one logical request: attempts, delays between them, and decoding.

        Args:
            query: The encoded query string.
            decode: Makes the value of a reply, or raises one of our errors.
            touchpoint_id: What to put into errors.

        Raises:
            DistinctError: Any but the walk's.
        """
        request = _Request(query, decode)
        outcome = await self._run(request)
        if isinstance(outcome, DistinctError):
            # Raised here, where no foreign exception is being handled that could be chained.
            outcome.touchpoint_id = touchpoint_id
            outcome.attempts = request.attempts
            raise outcome
        return outcome

    async def aclose(self) -> None:
        """End all requests and tasks, and close the HTTP session unless it was borrowed.

        Requests that others await raise `ClientClosedError`. Calling it again does nothing more.

        Raises:
            ConfigurationError: Another event loop, still open, is using the session.
        """
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop) and not self._loop.is_closed():
            raise ConfigurationError("the client belongs to another event loop; close it there")
        self._closed = True
        try:
            if self._loop is loop:
                await self._end_requests()
        finally:
            # Also when whoever closes is cancelled meanwhile: sockets must not be left.
            if self._http is not None and self._http is not self._settings.session:
                await self._http.close()

    async def _end_requests(self) -> None:
        self._requests.end_all()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._requests.drained()
        self._attempts.end_all()

    async def _run(self, request: "_Request[T]") -> T | DistinctError:
        self.check_usable()
        total = self._settings.timeouts.total
        deadline = None if total is None else self._settings.runtime.monotonic() + total
        run = self._retrier.run(partial(self._attempt, request), deadline=deadline)
        try:
            return await self._requests.within(total, run)
        except TimeoutError:
            if self._closed:
                return ClientClosedError("the client was closed during the request")
            return RequestTimeoutError(f"no answer within {total} s, all attempts included")

    async def _attempt(self, request: "_Request[T]", number: int) -> T | DistinctError:
        await self._acquire_slot()
        try:
            if self._limiter is not None:
                await self._limiter.acquire()
            request.attempts = number
            self._retries += number > 1
            reply = await self._exchange(request.query)
        finally:
            contended = self._slots.locked()
            self._slots.release()
        if isinstance(reply, DistinctError):
            return reply
        if reply.status == HTTPStatus.OK and contended:
            # The request that waits for the slot is sent before this reply is decoded; unless the
            # reply may be a refusal, which that request has to heed.
            await asyncio.sleep(0)
        outcome = await self._decode(request, reply)
        if isinstance(outcome, DistinctError):
            self._observe(outcome)
        return outcome

    async def _decode(self, request: "_Request[T]", reply: wire.Reply) -> T | DistinctError:
        """Decode, of long bodies one at a time.

        Whoever waits for one has it, and may ask for the next page, before another is decoded: so
        the server is at work meanwhile, and few visits are in memory at once.
        """
        long = len(reply.body) >= _LONG_BODY
        if long:
            await self._decoding.acquire()
        try:
            return request.decode(reply)
        except DistinctError as error:
            # Frames of the decoding hold what the server sent, which may be the key.
            return error.with_traceback(None)
        finally:
            if long:
                _in_turns(_TURNS_TO_GO_ON, self._decoding.release)

    async def _acquire_slot(self) -> None:
        runtime, jitter = self._settings.runtime, self._settings.retry.base_delay
        while True:
            while (pause := self._paused_until - runtime.monotonic()) > 0:
                await runtime.sleep(pause + runtime.random() * jitter)
            await self._slots.acquire()
            if self._paused_until <= runtime.monotonic():
                return
            # Another request was told to slow down while this one waited for its slot.
            self._slots.release()

    def _observe(self, failure: DistinctError) -> None:
        """Pause every request of the client when one was told that there are too many."""
        if not isinstance(failure, RateLimitError):
            return
        policy, now = self._settings.retry, self._settings.runtime.monotonic()
        pause = policy.base_delay if failure.retry_after is None else failure.retry_after
        if pause <= policy.max_retry_after:
            self._paused_until = max(self._paused_until, now + pause)

    async def _exchange(self, query: str) -> wire.Reply | DistinctError:
        """Make one HTTP exchange; every exception of the transport comes back as our error."""
        try:
            return await self._attempts.within(self._settings.timeouts.attempt, self._send(query))
        except _BodyTooLongError:
            limit = self._settings.limits.max_body_bytes
            return TransportError(f"the body is longer than {limit} bytes", retryable=False)
        except Exception as error:  # noqa: BLE001 - no exception of the transport may escape
            return self._transport_error(error)

    async def _send(self, query: str) -> wire.Reply:
        settings = self._settings
        http = self._open_http()
        async with http.get(
            self._make_url(query),
            headers=self._headers,
            # A redirect would carry the key to wherever it points.
            allow_redirects=False,
            timeout=self._http_timeout,
            # A borrowed session may have other defaults.
            auto_decompress=True,
            raise_for_status=False,
            middlewares=self._middlewares(http),
        ) as response:
            body = await _read(response, settings.limits.max_body_bytes)
            return wire.Reply(
                status=response.status,
                headers=response.headers,
                body=body,
                api_key=settings.api_key,
                received_at=settings.runtime.now(),
            )

    def _open_http(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = self._settings.session or aiohttp.ClientSession(
                connector=_Connector(limit=self._settings.limits.concurrency),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=list(self._settings.trace_configs),
                trust_env=False,
            )
        return self._http

    def _middlewares(self, http: aiohttp.ClientSession) -> tuple[aiohttp.ClientMiddlewareType, ...]:
        # Middlewares of a request replace those of its session, which a borrowed one may have
        # for a reason, and aiohttp has no public name for them.
        return (*getattr(http, "_middlewares", ()), _send_once)

    def _transport_error(self, error: Exception) -> DistinctError:
        http, timeouts = self._http, self._settings.timeouts
        if isinstance(error, TimeoutError):
            return _timeout_error(error, timeouts)
        if http is not None and http.closed:
            return ClientClosedError("the aiohttp session is closed")
        return TransportError(
            wire.printable(f"{type(error).__name__}: {error}", self._settings.api_key),
            retryable=isinstance(error, aiohttp.ClientError | OSError)
            and not isinstance(error, _HOPELESS),
        )


@final
class _Watchdog:
    """Ends what takes too long, with one timer for all that is under way.

    Nearly all requests end long before their time is over. A timer of the event loop for each, made
    and cancelled, would double what it takes to bound them.
    """

    def __init__(self) -> None:
        self._deadlines: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf
        self._idle = asyncio.Event()

    def __len__(self) -> int:
        return len(self._deadlines)

    async def within(self, seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`.

        Raises:
            TimeoutError: It took longer, or `end_all` was called.
        """
        async with asyncio.timeout(None) as scope:
            if seconds is None:
                self._deadlines[scope] = math.inf
            else:
                self._watch(scope, seconds)
            try:
                return await work
            finally:
                del self._deadlines[scope]
                if not self._deadlines:
                    self._idle.set()

    def end_all(self) -> None:
        """End all that is under way."""
        self._deadlines = dict.fromkeys(self._deadlines, -math.inf)
        self._check()

    async def drained(self) -> None:
        """Wait until nothing is under way."""
        if self._deadlines:
            self._idle.clear()
            await self._idle.wait()

    def _watch(self, scope: asyncio.Timeout, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = self._deadlines[scope] = loop.time() + seconds
        if deadline < self._next:
            self._set_timer(loop, deadline)

    def _set_timer(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = when
        self._timer = None if when == math.inf else loop.call_at(when, self._check)

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        coming = math.inf
        for scope, deadline in self._deadlines.items():
            if deadline > now:
                coming = min(coming, deadline)
            elif not scope.expired():
                # One that has expired is on its way out, and refuses to be moved.
                scope.reschedule(now)
        self._set_timer(loop, coming)


@final
class _Connector(aiohttp.TCPConnector):
    """Hands out no connection on which the server has sent what nobody asked for.

    aiohttp would take it for the answer to the request that gets the connection (aiohttp's issue
    13656). A borrowed session's connector is the caller's, and may do so.
    """

    @cached_property
    def _known(self) -> WeakSet[object]:
        """The connections that were handed out before."""
        return WeakSet()

    @override
    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        for _ in range(self.limit):
            connection = await super().connect(req, traces, timeout)
            if not await self._was_sent_to(connection):
                return connection
            connection.close()
        # As many as the pool can hold were no good, so this one is new.
        return await super().connect(req, traces, timeout)

    async def _was_sent_to(self, connection: aiohttp.connector.Connection) -> bool:
        if connection.protocol in self._known and _CAN_POLL:
            return _should_close(connection) or _is_readable(connection)
        self._known.add(connection.protocol)
        try:
            # Polling would not do: a new TLS connection has its session tickets to read. What has
            # arrived is read in the first turn of the loop, and handled before the second.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except BaseException:
            connection.close()
            raise
        return _should_close(connection)


# Windows cannot, and its event loop may have read what it has not told yet.
_CAN_POLL: Final = hasattr(select, "poll")


def _should_close(connection: aiohttp.connector.Connection) -> bool:
    return connection.protocol is None or connection.protocol.should_close


def _is_readable(connection: aiohttp.connector.Connection) -> bool:
    poller = select.poll()
    transport = cast("asyncio.Transport", connection.transport)
    poller.register(transport.get_extra_info("socket"), select.POLLIN)
    return bool(poller.poll(0))


# What another attempt cannot mend: the wrong certificate, an unusable URL.
_HOPELESS: Final = (
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
)


@attrs.define(eq=False, repr=False)
class _Request(Generic[T]):
    query: str
    decode: Callable[[wire.Reply], T]
    attempts: int = 0


class _BodyTooLongError(Exception):
    """The body is longer than allowed."""


def _in_turns(turns: int, callback: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    if turns == 1:
        loop.call_soon(callback)
    else:
        loop.call_soon(_in_turns, turns - 1, callback)


def _url_maker(base_url: str) -> Callable[[str], URL]:
    """Return what makes the URL of a query string, which is encoded already.

    A second quoting would change ids, and parsing the rest each time takes as long as making it.
    """
    endpoint = URL(f"{base_url}{wire.PATH}", encoded=True)
    scheme, authority, path = endpoint.scheme, endpoint.raw_authority, endpoint.raw_path

    def make(query: str) -> URL:
        return URL.build(
            scheme=scheme, authority=authority, path=path, query_string=query, encoded=True
        )

    return make


def _make_http_timeout(settings: Settings) -> aiohttp.ClientTimeout:
    timeouts = settings.timeouts
    # `connect` counts waiting for the pool, which a borrowed session shares with others.
    own = settings.session is None
    return aiohttp.ClientTimeout(
        total=None,
        connect=timeouts.connect if own else None,
        sock_connect=timeouts.connect,
        sock_read=timeouts.read,
    )


def _make_limiter(requests_per_second: float | None) -> "AsyncLimiter | None":
    if requests_per_second is None:
        return None
    # Few want it, and it takes as long to import as half of this package.
    from aiolimiter import AsyncLimiter  # noqa: PLC0415

    burst = max(1.0, requests_per_second * _BURST_SECONDS)
    return AsyncLimiter(burst, burst / requests_per_second)


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a body of at most `limit` decompressed bytes, piece by piece."""
    pieces: list[bytes] = []
    length = 0
    async for piece in response.content.iter_any():
        length += len(piece)
        if length > limit:
            raise _BodyTooLongError
        pieces.append(piece)
    return b"".join(pieces)


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from resending on its own when a connection drops: one place retries."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        dropped = f"{type(error).__name__}: {error}"
    raise aiohttp.ClientConnectionError(dropped)


def _timeout_error(error: TimeoutError, timeouts: Timeouts) -> RequestTimeoutError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return RequestTimeoutError(f"no connection within {timeouts.connect} s")
    if isinstance(error, aiohttp.ServerTimeoutError):
        return RequestTimeoutError(f"no data for {timeouts.read} s")
    return RequestTimeoutError(f"no answer within {timeouts.attempt} s")
