"""A clock on which concurrent sleeps overlap as on a real one, although nobody waits."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from typing_extensions import override

from distinct_async.testing import FakeClock
from tests.support.helpers import spin


class OrderedClock(FakeClock):
    """Ends sleeps in the order in which they are due, one at a time, when nothing else can run."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @override
    async def sleep(self, seconds: float) -> None:
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._numbers), wake))
        await wake

    @asynccontextmanager
    async def running(self, is_busy: Callable[[], bool]) -> AsyncGenerator[None, None]:
        """Let time pass whenever `is_busy` does not hold."""
        passing = asyncio.create_task(self._pass(is_busy))
        try:
            yield
        finally:
            passing.cancel()
            await asyncio.wait([passing])

    async def _pass(self, is_busy: Callable[[], bool]) -> None:
        while True:
            await spin(10)
            if self._sleepers and not is_busy():
                until, _, wake = heapq.heappop(self._sleepers)
                if not wake.done():
                    self.time = max(self.time, until)
                    wake.set_result(None)
