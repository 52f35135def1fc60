"""Policy: one logical request in, its value or one of our errors out.

Owns the slots, the rate, pauses, retries, the total timeout and background tasks, and ends all of
them in `aclose`. Knows no aiohttp: a `Transport` makes the attempts.
"""

import asyncio
from collections.abc import Coroutine
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, final

import attrs

from distinct_async._checks import instance_of
from distinct_async._deadlines import Deadlines
from distinct_async._retry import Retrier, RetryBudget
from distinct_async._wire.protocol import Reply, Request
from distinct_async.config import Limits, RetryPolicy, Runtime, Timeouts
from distinct_async.errors import (
    ClientClosedError,
    ConfigurationError,
    DistinctError,
    RateLimitError,
    RequestTimeoutError,
    in_context,
)
from distinct_async.models import ClientStats

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

T = TypeVar("T")

# A bucket that holds a whole second's worth would let twice the rate through in its first second.
_BURST_SECONDS: Final = 0.1


class Transport(Protocol):
    """Makes HTTP attempts."""

    async def send(self, path: str, query: str) -> Reply | DistinctError:
        """Make one attempt."""
        ...

    def abort(self) -> None:
        """End all attempts in flight."""
        ...

    async def aclose(self) -> None:
        """Release the connections."""
        ...


@attrs.frozen(kw_only=True)
class Policy:
    """The settings a session follows.

    Attributes:
        retry: When to retry.
        limits: How much to do at once.
        timeouts: How long to wait.
        runtime: Sleep, clocks and randomness.
    """

    retry: RetryPolicy = attrs.field(default=RetryPolicy(), validator=instance_of(RetryPolicy))
    limits: Limits = attrs.field(default=Limits(), validator=instance_of(Limits))
    timeouts: Timeouts = attrs.field(default=Timeouts(), validator=instance_of(Timeouts))
    runtime: Runtime = attrs.field(default=Runtime(), validator=instance_of(Runtime))


@attrs.define(eq=False, repr=False)
class _Call(Generic[T]):
    request: Request[T]
    attempts: int = 0


@final
class Session:
    """Issues requests within the limits, on one event loop."""

    def __init__(self, transport: Transport, policy: Policy) -> None:
        self._transport = transport
        self._policy = policy
        self._retrier = Retrier(policy.retry, policy.runtime, RetryBudget(policy.retry.budget))
        self._slots = asyncio.Semaphore(policy.limits.concurrency)
        self._limiter = make_limiter(policy.limits.requests_per_second)
        self._paused_until = 0.0
        self._in_flight = 0
        self._retries = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._requests = Deadlines()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    @property
    def stats(self) -> ClientStats:
        """A snapshot of the session's activity."""
        return ClientStats(
            in_flight=self._in_flight,
            waiting=len(self._requests) - self._in_flight,
            tasks=len(self._tasks),
            retries=self._retries,
        )

    def bind_to_running_loop(self) -> DistinctError | None:
        """Bind to the running event loop on first use; return an error if that is impossible."""
        if self._closed:
            return ClientClosedError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            return ConfigurationError(
                "the client belongs to another event loop; make one client per event loop"
            )
        self._loop = loop
        return None

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | DistinctError:
        """Run `work` in a task that `aclose` cancels; return an error if that is impossible."""
        error = self.bind_to_running_loop()
        if error is not None:
            work.close()
            return error
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def fetch(self, request: Request[T]) -> T | DistinctError:
        """Make one logical request: attempts, the delays between them, and decoding."""
        call = _Call(request)
        outcome: T | DistinctError | None = self.bind_to_running_loop()
        if outcome is None:
            outcome = await self._run(call)
        if isinstance(outcome, DistinctError):
            return in_context(
                outcome,
                touchpoint_id=request.touchpoint_id,
                experience_id=request.experience_id,
                attempts=call.attempts,
            )
        return outcome

    async def aclose(self) -> None:
        """End all requests and tasks, and close the transport. Closing again does nothing.

        Requests that are being awaited end with `ClientClosedError`.

        Raises:
            ConfigurationError: Another event loop, which is still open, uses the session.
        """
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop) and not self._loop.is_closed():
            raise ConfigurationError("the client belongs to another event loop; close it there")
        self._closed = True
        try:
            if self._loop is loop:
                await self._end_requests()
        finally:
            # Even if closing is cancelled, no socket may stay open.
            await self._transport.aclose()

    async def _end_requests(self) -> None:
        self._requests.expire_all()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._requests.wait_until_idle()
        self._transport.abort()

    async def _run(self, call: _Call[T]) -> T | DistinctError:
        total = self._policy.timeouts.total
        deadline = None if total is None else self._policy.runtime.monotonic() + total
        attempts = self._retrier.run(partial(self._attempt, call), deadline=deadline)
        try:
            return await self._requests.run(total, attempts)
        except TimeoutError:
            if self._closed:
                return ClientClosedError("the client was closed during the request")
            return RequestTimeoutError(f"no answer within {total} s, all attempts included")

    async def _attempt(self, call: _Call[T], number: int) -> T | DistinctError:
        await self._acquire_slot()
        try:
            if self._limiter is not None:
                await self._limiter.acquire()
            call.attempts = number
            self._retries += number > 1
            reply = await self._transport.send(call.request.path, call.request.query)
        finally:
            contended = self._slots.locked()
            self._release_slot()
        if isinstance(reply, DistinctError):
            return reply
        if reply.status == HTTPStatus.OK and contended:
            # Let the request that waits for this slot go out before decoding. Other statuses are
            # decoded first, because a 429 must pause that request.
            await asyncio.sleep(0)
        outcome = call.request.decode(reply)
        if isinstance(outcome, RateLimitError):
            self._pause_on_rate_limit(outcome)
        return outcome

    async def _acquire_slot(self) -> None:
        runtime, jitter = self._policy.runtime, self._policy.retry.base_delay
        while True:
            while (pause := self._paused_until - runtime.monotonic()) > 0:
                await runtime.sleep(pause + runtime.random() * jitter)
            await self._slots.acquire()
            if self._paused_until <= runtime.monotonic():
                self._in_flight += 1
                return
            # A 429 paused the client while this request waited for its slot.
            self._slots.release()

    def _release_slot(self) -> None:
        self._in_flight -= 1
        self._slots.release()

    def _pause_on_rate_limit(self, error: RateLimitError) -> None:
        """Pause every request of the client, as one 429 applies to all of them."""
        policy, now = self._policy.retry, self._policy.runtime.monotonic()
        pause = policy.base_delay if error.retry_after is None else error.retry_after
        if pause <= policy.max_retry_after:
            self._paused_until = max(self._paused_until, now + pause)


def make_limiter(requests_per_second: float | None) -> "AsyncLimiter | None":
    """Return a leaky bucket for `Limits.requests_per_second`, or None for no limit."""
    if requests_per_second is None:
        return None
    # Imported here because few clients set a rate, and it takes half as long as this package.
    from aiolimiter import AsyncLimiter  # noqa: PLC0415

    burst = max(1.0, requests_per_second * _BURST_SECONDS)
    return AsyncLimiter(burst, burst / requests_per_second)
