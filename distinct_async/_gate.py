"""The gate to the server: slots, shared fairly, at the pace that the server allows.

Requests of one walk, fan-out or export form a flow, and each single call is a flow of its own. The
flows that wait take turns (round-robin), so that a bulk job cannot keep an interactive call waiting
for all of its requests.
"""

import asyncio
import math
from collections import OrderedDict, deque
from http import HTTPStatus
from typing import Final, TypeAlias, final

from distinct_async._pace import Pace, Ticket
from distinct_async.config import Limits, Runtime
from distinct_async.errors import DistinctError, RateLimitError

_Waiter: TypeAlias = "asyncio.Future[Ticket | DistinctError]"

# A shorter sleep is not worth replacing the one that is under way.
_WORTH_WAKING: Final = 0.005


@final
class Gate:
    """Lets attempts start.

    Args:
        limits: How many attempts may be in flight, and how many slots are for single calls only.
        runtime: Sleep and the clock.
        pace: When the next attempt may start.

    Attributes:
        in_flight: Number of attempts that hold a slot.
    """

    def __init__(self, limits: Limits, runtime: Runtime, pace: Pace) -> None:
        self._limits = limits
        self._runtime = runtime
        self._pace = pace
        self.in_flight = 0
        # The flows that wait, in the order of their turns. The key of a single call is its waiter.
        self._flows: OrderedDict[object, deque[_Waiter]] = OrderedDict()
        self._sleeper: asyncio.Task[None] | None = None
        self._wake_at = math.inf
        # The server has asked for a pause that is longer than `RetryPolicy.max_retry_after`.
        self._shut_until = 0.0

    @property
    def contended(self) -> bool:
        """Whether an attempt waits for a slot, or would have to."""
        return bool(self._flows) or self.in_flight >= self._limits.concurrency

    def try_enter(self, flow: object | None) -> Ticket | None:
        """Take a slot if that is possible at once; return the pace's ticket, or None."""
        if self._flows or (self._shut_until and self.is_shut):
            return None
        if not self._has_slot(is_call=flow is None):
            return None
        now = self._runtime.monotonic()
        if self._pace.delay(now) > 0:
            return None
        self.in_flight += 1
        return self._pace.start(now)

    async def enter(self, flow: object | None, *, first: bool = False) -> Ticket | DistinctError:
        """Wait for a slot and for the pace; return the pace's ticket, or why it was refused.

        Args:
            flow: What takes turns with others; None for a single call.
            first: Whether to go before the flow's other attempts.
        """
        if self.is_shut:
            return self._shut_error()
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._queue(waiter if flow is None else flow, waiter, first=first)
        self.admit()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._forget(waiter if flow is None else flow, waiter)
            raise

    def leave(self) -> None:
        """Give back a slot."""
        self.in_flight -= 1
        if self._flows:
            self.admit()

    def admit(self) -> None:
        """Let in every attempt that may start now, and schedule another look for the rest."""
        while (flow := self._next_flow()) is not None:
            now = self._runtime.monotonic()
            delay = self._pace.delay(now)
            if delay > 0:
                self._wake_in(delay, now)
                return
            waiter = self._take(flow)
            if not waiter.done():
                self.in_flight += 1
                waiter.set_result(self._pace.start(now))
        if not self._flows:
            self._stop_sleeping()

    def shut(self, until: float) -> None:
        """Let nothing in until then, and turn away what waits, because the server said so."""
        self._shut_until = max(self._shut_until, until)
        waiters = [waiter for flow in self._flows.values() for waiter in flow]
        self.stop()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(self._shut_error())

    @property
    def is_shut(self) -> bool:
        """Whether nothing is let in at present."""
        return self._shut_until > 0 and self._runtime.monotonic() < self._shut_until

    @property
    def closed_until(self) -> float:
        """When the last pause that the server asked for ends."""
        return max(self._shut_until, self._pace.paused_until)

    def _shut_error(self) -> RateLimitError:
        wait = self._shut_until - self._runtime.monotonic()
        problem = f"no requests for another {wait:,.0f} s, longer than max_retry_after"
        error = RateLimitError(HTTPStatus.TOO_MANY_REQUESTS, problem, retry_after=wait)
        error.retryable, error.fatal = False, True
        return error

    def forget(self) -> None:
        """Drop what belongs to an event loop that is closed."""
        self.in_flight = 0
        self.stop()

    def stop(self) -> None:
        """Let nothing in any more."""
        self._flows.clear()
        self._stop_sleeping()

    def _has_slot(self, *, is_call: bool) -> bool:
        free = self._limits.concurrency - self.in_flight
        return free > (0 if is_call else self._limits.reserved)

    def _queue(self, flow: object, waiter: _Waiter, *, first: bool) -> None:
        waiters = self._flows.setdefault(flow, deque())
        if first:
            waiters.appendleft(waiter)
        else:
            waiters.append(waiter)

    def _next_flow(self) -> object | None:
        """Return the flow whose turn it is; None if no flow that waits may have a slot."""
        if not self._flows or not self._has_slot(is_call=True):
            return None
        if self._has_slot(is_call=False):
            return next(iter(self._flows))
        return next((flow for flow, waiters in self._flows.items() if flow is waiters[0]), None)

    def _take(self, flow: object) -> _Waiter:
        """Take the next waiter of a flow, which then has its next turn after the others."""
        waiters = self._flows.pop(flow)
        waiter = waiters.popleft()
        if waiters:
            self._flows[flow] = waiters
        return waiter

    def _forget(self, flow: object, waiter: _Waiter) -> None:
        """Undo what was done for a waiter that was cancelled."""
        waiters: deque[_Waiter] | tuple[()] = self._flows.get(flow, ())
        if waiter in waiters:
            waiters.remove(waiter)  # type: ignore[union-attr]
            if not waiters:
                del self._flows[flow]
        elif not waiter.cancelled() and not isinstance(ticket := waiter.result(), DistinctError):
            # It had just been let in.
            self._pace.cancel(ticket, self._runtime.monotonic())
            self.leave()
        if not self._flows:
            self._stop_sleeping()

    def _wake_in(self, delay: float, now: float) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            if self._wake_at <= now + delay + _WORTH_WAKING:
                return
            self._sleeper.cancel()
        self._wake_at = now + delay
        self._sleeper = asyncio.create_task(self._sleep(delay))

    async def _sleep(self, delay: float) -> None:
        await self._runtime.sleep(delay)
        self._sleeper = None
        self.admit()

    def _stop_sleeping(self) -> None:
        if self._sleeper is not None and not self._sleeper.get_loop().is_closed():
            self._sleeper.cancel()
        self._sleeper = None
