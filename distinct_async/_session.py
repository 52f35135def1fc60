"""Policy: one logical request in, its value or one of our errors out.

A `Session` sends requests through the gate, retries them, and ends them in time. Its views share
all but the retries and timeouts. Knows no aiohttp: a `Transport` makes the attempts.
"""

import asyncio
from collections.abc import Coroutine
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Generic, Protocol, TypeVar, cast, final

import attrs

from distinct_async._crowding import BUSY, TOO_MANY, Crowding, is_throttle, status_of
from distinct_async._gate import Gate
from distinct_async._health import Admission, Admit, Health
from distinct_async._lifetime import Flow, Lifetime
from distinct_async._pace import Pace, Ticket
from distinct_async._retry import Retrier, RetryBudget
from distinct_async._wire.protocol import Reply, Request
from distinct_async.config import Policy, RetryPolicy, Timeouts
from distinct_async.errors import (
    ClientClosedError,
    DistinctError,
    RequestTimeoutError,
    ServerError,
    StatusError,
    in_context,
)
from distinct_async.models import ClientStats

T = TypeVar("T")
U = TypeVar("U")

# Seconds to wait if a server is crowded and does not say how long.
_CROWDED_PAUSE: Final = 0.05
# Seconds of waiting that a timeout mentions.
_WORTH_SAYING: Final = 0.1


class Transport(Protocol):
    """Makes HTTP attempts."""

    async def send(self, path: str, query: str, timeouts: Timeouts) -> Reply | DistinctError:
        """Make one attempt."""
        ...

    def abort(self) -> None:
        """End all attempts in flight."""
        ...

    def forget(self) -> None:
        """Drop the connections of an event loop that is closed."""
        ...

    async def aclose(self) -> None:
        """Release the connections."""
        ...


@attrs.define(eq=False, repr=False)
class _Call(Generic[T]):
    """One logical request.

    Attributes:
        request: What to send.
        flow: What takes turns with others; None for a single call.
        scope: What `Timeouts.total` ends.
        attempts: Number of attempts made.
        deadline: When `Timeouts.total` ends it; None before it has a slot, or without a timeout.
        queued: Seconds that it waited for slots and for the pace after its first slot.
    """

    request: Request[T]
    flow: Flow | None
    scope: asyncio.Timeout | None = None
    attempts: int = 0
    deadline: float | None = None
    queued: float = 0.0

    def opened(self, scope: asyncio.Timeout) -> None:
        self.scope = scope


class _Shared:
    """What all views of a session share."""

    def __init__(self, transport: Transport, policy: Policy) -> None:
        limits, runtime = policy.limits, policy.runtime
        self.transport = transport
        self.adaptive = limits.adaptive
        self.longest_pause = policy.retry.max_retry_after
        self.pace = Pace(
            ceiling=limits.requests_per_second, adaptive=limits.adaptive, random=runtime.random
        )
        self.gate = Gate(limits, runtime, self.pace)
        self.budget = RetryBudget(policy.retry.budget, runtime.monotonic)
        self.admission = Admission(Health(policy.retry, self.budget), runtime)
        self.lifetime = Lifetime(self.forget)
        self.retries = 0
        # Whether the last answer besides throttles was a failure, so that a 429 is one, too.
        self.failing = False
        self.crowding = Crowding()

    def forget(self) -> None:
        """Drop what belongs to an event loop that is closed."""
        self.gate.forget()
        self.admission.reset()
        self.transport.forget()


@final
class Session:
    """Issues requests within the limits, on one event loop.

    Args:
        transport: What makes the attempts.
        policy: The settings.
    """

    def __init__(self, transport: Transport, policy: Policy, shared: _Shared | None = None) -> None:
        self._policy = policy
        self._shared = _Shared(transport, policy) if shared is None else shared
        self._retrier = Retrier(policy.retry, policy.runtime, self._shared.budget)

    def view(self, *, retry: RetryPolicy | None, timeouts: Timeouts | None) -> "Session":
        """Return a session that differs in its retries or timeouts, and shares all else."""
        policy = attrs.evolve(
            self._policy,
            retry=self._policy.retry if retry is None else retry,
            timeouts=self._policy.timeouts if timeouts is None else timeouts,
        )
        return Session(self._shared.transport, policy, self._shared)

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._shared.lifetime.closed

    @property
    def admit(self) -> Admit:
        """Waits until a further touchpoint may be started."""
        return self._shared.admission.admit

    @property
    def stats(self) -> ClientStats:
        """A snapshot of the session's activity."""
        shared, runtime = self._shared, self._policy.runtime
        return ClientStats(
            in_flight=shared.gate.in_flight,
            waiting=len(shared.lifetime.requests) - shared.gate.in_flight,
            tasks=len(shared.lifetime.tasks),
            retries=shared.retries,
            retry_budget=shared.budget.tokens,
            pace=shared.pace.rate,
            paused_for=max(0.0, shared.gate.closed_until - runtime.monotonic()),
        )

    def bind_to_running_loop(self) -> DistinctError | None:
        """Bind to the running event loop; return an error if that is impossible."""
        return self._shared.lifetime.bind()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | DistinctError:
        """Run `work` in a task that `aclose` cancels; return an error if that is impossible."""
        return self._shared.lifetime.spawn(work)

    def new_flow(self) -> Flow:
        """Return a flow, whose requests take turns with those of others."""
        return Flow(late=self.closed)

    async def fetch(self, request: Request[T], flow: Flow | None = None) -> T | DistinctError:
        """Make one logical request: attempts, the delays between them, and decoding.

        Args:
            request: The request.
            flow: What takes turns with others; None for a single call.
        """
        call = _Call(request, flow)
        outcome: T | DistinctError | None = self._shared.lifetime.bind(flow)
        if outcome is None:
            outcome = await self._run(call)
        if isinstance(outcome, DistinctError):
            in_context(
                outcome,
                touchpoint_id=request.touchpoint_id,
                experience_id=request.experience_id,
                attempts=call.attempts,
            )
        self._shared.admission.observe(outcome)
        return outcome

    async def aclose(self, grace: float = 0.0) -> None:
        """End all requests and tasks, and close the transport. Closing again does nothing.

        Requests that are being awaited end with `ClientClosedError`, once `grace` seconds have
        passed.

        Raises:
            ConfigurationError: Another event loop, which is still open, uses the session.
        """
        shared = self._shared
        shared.lifetime.require_closable()
        try:
            await shared.lifetime.close(grace, shared.transport.abort)
        finally:
            shared.gate.stop()
            # Even if closing is cancelled, no socket may stay open.
            await shared.transport.aclose()

    async def _run(self, call: _Call[T]) -> T | DistinctError:
        attempts = self._retrier.run(partial(self._attempt, call), deadline=lambda: call.deadline)
        try:
            return await self._shared.lifetime.requests.run(None, attempts, opened=call.opened)
        except TimeoutError:
            if self.closed:
                return ClientClosedError("the client was closed during the request")
            return self._timeout_error(call)

    async def _attempt(self, call: _Call[T], _: int) -> T | DistinctError:
        """Make one attempt, and again as long as the server only asks to be asked less often."""
        gate = self._shared.gate
        while True:
            ticket = gate.try_enter(call.flow)
            if ticket is None:
                waited = await self._wait(call)
                if isinstance(waited, DistinctError):
                    return waited
                ticket = waited
            self._begin_attempt(call)
            outcome = await self._send(call, ticket)
            throttled = status_of(outcome) == TOO_MANY
            if not throttled or not self._should_send_again(call, cast("StatusError", outcome)):
                return outcome

    async def _wait(self, call: _Call[T]) -> Ticket | DistinctError:
        """Wait for a slot and for the pace."""
        asked = self._policy.runtime.monotonic()
        ticket = await self._shared.gate.enter(call.flow, first=call.attempts > 0)
        if call.attempts:
            call.queued += self._policy.runtime.monotonic() - asked
        return ticket

    def _begin_attempt(self, call: _Call[T]) -> None:
        """Count an attempt. The first starts `Timeouts.total`."""
        call.attempts += 1
        if call.attempts > 1:
            self._shared.retries += 1
            return
        total = self._policy.timeouts.total
        if total is not None:
            call.deadline = self._policy.runtime.monotonic() + total
            self._shared.lifetime.requests.start(cast("asyncio.Timeout", call.scope), total)

    async def _send(self, call: _Call[T], ticket: Ticket) -> T | DistinctError:
        """Make one HTTP attempt, and decode its reply."""
        shared, request, clock = self._shared, call.request, self._policy.runtime.monotonic
        try:
            reply = await shared.transport.send(request.path, request.query, self._policy.timeouts)
            if isinstance(reply, DistinctError):
                shared.failing = True
                shared.pace.cancel(ticket, clock())
                return reply
            if reply.status != HTTPStatus.OK:
                # Decode it before anything else starts, because a 429 must slow that down.
                return self._told(call, ticket, request.decode(reply))
            contended = shared.gate.contended
        except BaseException:
            shared.pace.cancel(ticket, clock())
            raise
        finally:
            shared.gate.leave()
        if contended:
            # Let the request that waits for this slot go out before decoding.
            await asyncio.sleep(0)
        outcome = request.decode(reply)
        if isinstance(outcome, DistinctError):
            # The envelope of a 200 may say 429 or 503.
            return self._told(call, ticket, outcome)
        now, shared.failing = clock(), False
        shared.crowding.succeeded(now)
        shared.pace.succeed(ticket)
        return outcome

    def _told(self, call: _Call[Any], ticket: Ticket, outcome: U) -> U:
        """Tell the pace of an answer that is no success, and return it."""
        shared, now = self._shared, self._policy.runtime.monotonic()
        shared.failing |= isinstance(outcome, ServerError)
        crowded = (
            shared.adaptive
            and call.attempts == 1
            and status_of(outcome) == BUSY
            and shared.crowding.explains(now, in_flight=shared.gate.in_flight)
        )
        if not crowded and not is_throttle(outcome):
            shared.pace.succeed(ticket)
            return outcome
        error = cast("StatusError", outcome)
        pause = error.retry_after
        if pause is not None and pause > shared.longest_pause:
            self._shut(error, now)
            return outcome
        if pause is None and crowded:
            # Slowing down is what helps, so its retry is paid for.
            shared.budget.refund(retried=True)
            pause = _CROWDED_PAUSE
        elif pause is None and shared.failing:
            # Going slower would only make an outage last longer.
            shared.pace.cancel(ticket, now)
            return outcome
        shared.pace.throttle(ticket, now, retry_after=pause)
        return outcome

    def _shut(self, error: StatusError, now: float) -> None:
        """Send nothing for as long as the server asks, which is longer than the policy waits."""
        wait, longest = error.retry_after or 0.0, self._shared.longest_pause
        problem = f"it asks to wait {wait:,.0f} s, longer than max_retry_after ({longest:g} s)"
        error.args = (f"{error.args[0]}; {problem}",)
        error.fatal = True
        self._shared.gate.shut(now + wait)

    def _should_send_again(self, call: _Call[T], error: StatusError) -> bool:
        """Whether the server only asked to be asked less often, which is no failure."""
        shared, retry = self._shared, self._policy.retry
        retries = retry.attempts > 1 and retry.budget and error.status in retry.statuses
        if not retries or (error.retry_after or 0.0) > retry.max_retry_after:
            return False
        if not shared.adaptive or shared.failing or shared.gate.is_shut:
            return False
        now = self._policy.runtime.monotonic()
        if call.deadline is None or now + shared.pace.delay(now) < call.deadline:
            return True
        # There is no time left for another attempt.
        call.deadline = now
        return False

    def _timeout_error(self, call: _Call[T]) -> RequestTimeoutError:
        total = self._policy.timeouts.total
        message = f"no answer within {total} s, all attempts included"
        if call.queued >= _WORTH_SAYING:
            message += f"; {call.queued:.1f} s of it waiting for the client's limits"
        return RequestTimeoutError(message)
