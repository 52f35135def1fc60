"""A clock that moves only when somebody sleeps on it."""

import asyncio
import random

from distinct_async import Runtime


class FakeClock:
    """Time for tests: sleeping takes none, and moves the clock on by as much as was asked for.

    Example:
        ``client = fake.client(runtime=FakeClock().runtime)`` retries without waiting.

    Args:
        start: What the clock shows at first, seconds (both monotonic and since the epoch).
        seed: Seed of the randomness.

    Attributes:
        time: What the clock shows now, seconds.
        sleeps: How long each sleep was asked to take, seconds.
    """

    def __init__(self, start: float = 1_700_000_000.0, *, seed: int = 0) -> None:
        self.time = start
        self.sleeps: list[float] = []
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    async def sleep(self, seconds: float) -> None:
        """Move the clock on by `seconds`, letting other tasks run."""
        self.sleeps.append(seconds)
        # From when it was called, as with a real clock: sleeps of several tasks overlap.
        end = self.time + seconds
        await asyncio.sleep(0)
        self.time = max(self.time, end)

    @property
    def runtime(self) -> Runtime:
        """What a client takes as its ``runtime``."""
        return Runtime(
            sleep=self.sleep,
            monotonic=lambda: self.time,
            now=lambda: self.time,
            random=self._random.random,
        )
