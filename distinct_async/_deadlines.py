"""Deadlines for many pieces of work on one event-loop timer.

Nearly all requests end long before their deadline, so a timer each, created and cancelled, is
wasted work. Sharing one halves the cost of `asyncio.timeout`: 6 µs instead of 10 µs on Python 3.11,
of the 250 µs of processor time that a request takes, and each request has two deadlines.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from operator import itemgetter
from typing import Any, TypeVar, final

T = TypeVar("T")


@final
class Deadlines:
    """Runs work under deadlines, knows what is running, and can end all of it."""

    def __init__(self) -> None:
        self._deadlines: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf
        self._idle = asyncio.Event()

    def __len__(self) -> int:
        """Return how many pieces of work are running."""
        return len(self._deadlines)

    @property
    def armed(self) -> bool:
        """Whether a timer of the event loop is set."""
        return self._timer is not None

    async def run(
        self,
        seconds: float | None,
        work: Coroutine[Any, Any, T],
        *,
        opened: Callable[[asyncio.Timeout], None] | None = None,
    ) -> T:
        """Return the result of `work`.

        Args:
            seconds: How long it may take; None for no limit.
            work: The work.
            opened: Takes the scope of the work, to `start` its time later.

        Raises:
            TimeoutError: It took longer than `seconds`, or `expire_all` was called.
        """
        async with asyncio.timeout(None) as scope:
            self._deadlines[scope] = math.inf
            if opened is not None:
                opened(scope)
            if seconds is not None:
                self.start(scope, seconds)
            try:
                return await work
            finally:
                del self._deadlines[scope]
                if not self._deadlines:
                    self._idle.set()

    def expire_all(self) -> None:
        """End all running work with a TimeoutError."""
        self._deadlines = dict.fromkeys(self._deadlines, -math.inf)
        self._check()

    async def wait_until_idle(self) -> None:
        """Wait until no work is running."""
        if self._deadlines:
            self._idle.clear()
            await self._idle.wait()

    def start(self, scope: asyncio.Timeout, seconds: float) -> None:
        """End the work of a scope `seconds` from now, unless all has expired already."""
        if self._deadlines[scope] < 0:
            return
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
        earliest = math.inf
        for scope, deadline in sorted(self._deadlines.items(), key=itemgetter(1)):
            if deadline > now:
                earliest = min(earliest, deadline)
            elif not scope.expired():
                # An expired scope is already unwinding and cannot be rescheduled.
                scope.reschedule(now)
        self._set_timer(loop, earliest)
