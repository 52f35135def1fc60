"""A clock on which concurrent sleeps overlap as on a real one, although nobody waits."""

import asyncio
import heapq
import itertools
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from distinct_async import Runtime
from tests.support.helpers import spin


class OrderedClock:
    """Ends sleeps in the order of their ends, each once all else has come to rest.

    Attributes:
        time: The current time in seconds.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.time = 1_700_000_000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._random = random.Random(seed)

    async def sleep(self, seconds: float) -> None:
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._numbers), wake))
        await wake

    @property
    def runtime(self) -> Runtime:
        return Runtime(
            sleep=self.sleep,
            monotonic=lambda: self.time,
            now=lambda: self.time,
            random=self._random.random,
        )

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
