"""Telling a broken few from an outage, and how to find out: one touchpoint at a time.

`Health` is pure; `Admission` makes those wait that want to start further touchpoints.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

import attrs

from distinct_async._retry import REFILL_SECONDS, RetryBudget, is_retryable
from distinct_async.config import RetryPolicy, Runtime
from distinct_async.errors import DecodeError, DistinctError, ServerError, StatusError

FEWEST_FAILURES: Final = 8
"""Failures in a row that make an exhausted budget look like an outage."""
MOST_FAILURES: Final = 100
"""Failures in a row after which it is one."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
# 0.5 * 2 ** 4 exceeds the longest pause.
_DOUBLINGS: Final = 4

Admit: TypeAlias = Callable[[], Awaitable[Callable[[], None]]]
"""Waits until a further touchpoint may be started.

Returns what to call once the touchpoint's first request has ended, or none will be made; calling it
again does nothing.
"""


async def admit_all() -> Callable[[], None]:
    """Admit a touchpoint at once."""
    return do_nothing


def do_nothing() -> None:
    """Do nothing."""


@attrs.define(eq=False)
class Health:
    """Whether the server's failures are those of a broken few, or of all.

    Doubtful: the budget is exhausted, and 8 different requests in a row have failed. An outage:
    doubtful for `RetryPolicy.outage_after` seconds, or 100 failures in a row. A success ends both;
    so does a time without requests in which an empty budget would refill.

    Args:
        policy: Says how long doubt may last.
        budget: The client's retry budget. Failures in a row stop time from refilling it, so that
            no probe is retried.
    """

    policy: RetryPolicy
    budget: RetryBudget
    _failures: int = attrs.field(default=0, init=False)
    _last_failure: float = attrs.field(default=0.0, init=False)
    _doubtful_since: float | None = attrs.field(default=None, init=False)
    _outage: bool = attrs.field(default=False, init=False)

    def succeeded(self) -> None:
        """Note that the server has answered a request."""
        if self._failures >= FEWEST_FAILURES:
            self.budget.resume_refill()
        self._failures = 0
        self._doubtful_since = None
        self._outage = False

    def failed(self, error: DistinctError, now: float) -> None:
        """Note that a request has failed for good, and make its error `fatal` in an outage.

        An answer that would be the same in good health, such as a 404, counts as a success. An
        error without an attempt, or of the client itself, says nothing about the server.

        Args:
            error: The error of its last attempt, with the number of its attempts.
            now: The time, seconds on the clock of `Runtime.monotonic`.
        """
        if not error.attempts:
            return
        if not self._is_failure(error):
            if isinstance(error, StatusError | DecodeError):
                self.succeeded()
            return
        if self._is_forgotten(now):
            self.succeeded()
        self._failures += 1
        self._last_failure = now
        if self._failures >= FEWEST_FAILURES:
            self.budget.suspend_refill(REFILL_SECONDS)
            if self._doubtful_since is None and self.budget.exhausted:
                self._doubtful_since = now
        if self._doubtful_since is not None:
            lasted = now - self._doubtful_since
            self._outage |= self._failures >= MOST_FAILURES or lasted >= self.policy.outage_after
        if self._outage:
            error.fatal = True

    def is_doubtful(self, now: float) -> bool:
        """Return whether further touchpoints should be probed one at a time."""
        return self._doubtful_since is not None and not self._is_forgotten(now)

    def probe(self, now: float) -> None:
        """Note that somebody wants to probe, which puts an earlier verdict in doubt again.

        Otherwise a broken few in front would keep an outage alive that has ended.
        """
        if self._outage or now - self._last_failure >= self.policy.outage_after:
            self._outage = False
            self._failures = min(self._failures, FEWEST_FAILURES)
            if self._doubtful_since is not None:
                self._doubtful_since = now

    def _is_failure(self, error: DistinctError) -> bool:
        added = isinstance(error, ServerError) and is_retryable(self.policy, error)
        return error.retryable or added

    def _is_forgotten(self, now: float) -> bool:
        return now - self._last_failure >= REFILL_SECONDS


class Admission:
    """Decides when further touchpoints may be started.

    In good health, at once. In doubt, one at a time, each after the one before has failed and a
    pause that doubles from 0.5 to 5 s, with jitter. A success wakes all who wait.

    Args:
        health: The server's health, as all requests of the client see it.
        runtime: Sleep, clock and randomness.
        patience: Longest wait for the touchpoint before, seconds of the event loop's clock. Its
            owner may itself be waiting for those who wait here.
    """

    def __init__(self, health: Health, runtime: Runtime, *, patience: float = 60.0) -> None:
        self._health = health
        self._runtime = runtime
        self._patience = patience
        self._probe: object | None = None
        self._probes = 0
        self._changed = asyncio.Event()

    def observe(self, outcome: object) -> None:
        """Note how a request ended.

        Args:
            outcome: Its value, or its error, which becomes `fatal` in an outage.
        """
        if isinstance(outcome, DistinctError):
            self._health.failed(outcome, self._runtime.monotonic())
        else:
            self._health.succeeded()
        if self._probes and not self._is_doubtful():
            self._probes = 0
            self._set_probe(None)

    async def admit(self) -> Callable[[], None]:
        """Wait until a further touchpoint may be started.

        Returns:
            What to call once the touchpoint's first request has ended, or none will be made.
        """
        self._health.probe(self._runtime.monotonic())
        while self._is_doubtful():
            if self._probe is None:
                return await self._next_probe()
            await self._wait_for_change()
        return do_nothing

    def reset(self) -> None:
        """Forget who waits, because their event loop is closed."""
        self._probe = None
        self._changed = asyncio.Event()

    async def _next_probe(self) -> Callable[[], None]:
        probe = self._probe = object()
        try:
            await self._pause()
        except BaseException:
            self._end(probe)
            raise
        return partial(self._end, probe)

    async def _pause(self) -> None:
        ceiling = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._probes, _DOUBLINGS))
        self._probes += 1
        seconds = ceiling * (1 + self._runtime.random()) / 2
        waits = (
            asyncio.ensure_future(self._runtime.sleep(seconds)),
            asyncio.ensure_future(self._changed.wait()),
        )
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in done:
                wait.result()
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)

    async def _wait_for_change(self) -> None:
        probe = self._probe
        try:
            async with asyncio.timeout(self._patience):
                await self._changed.wait()
        except TimeoutError:
            self._end(probe)

    def _end(self, probe: object) -> None:
        if self._probe is probe:
            self._set_probe(None)

    def _set_probe(self, probe: object | None) -> None:
        self._probe = probe
        # Wakes those who wait now; those who wait later wait for the next change.
        self._changed.set()
        self._changed.clear()

    def _is_doubtful(self) -> bool:
        return self._health.is_doubtful(self._runtime.monotonic())
