"""A clock that only sleeping moves."""

import asyncio
import random

from distinct_async import Runtime


class FakeClock:
    """A clock for tests: a sleep returns at once and moves the clock forward instead.

    Example:
        ``client = fake.client(runtime=FakeClock().runtime)`` retries without waiting.

    Args:
        start: Initial time in seconds, both monotonic and since the epoch.
        seed: Seed of the random numbers.

    Attributes:
        time: Current time in seconds.
        sleeps: Requested length of each sleep so far, in seconds.
    """

    def __init__(self, start: float = 1_700_000_000.0, *, seed: int = 0) -> None:
        self.time = start
        self.sleeps: list[float] = []
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    async def sleep(self, seconds: float) -> None:
        """Move the clock forward by `seconds` and let other tasks run."""
        self.sleeps.append(seconds)
        # Measured from the call: sleeps of concurrent tasks overlap, as on a real clock.
        wake_time = self.time + seconds
        await asyncio.sleep(0)
        self.time = max(self.time, wake_time)

    @property
    def runtime(self) -> Runtime:
        """This clock as the ``runtime`` argument of a client."""
        return Runtime(
            sleep=self.sleep,
            monotonic=lambda: self.time,
            now=lambda: self.time,
            random=self._random.random,
        )
