"""The fake clock."""

import asyncio
import time

from distinct_async.testing import FakeClock


async def test_sleeping_moves_the_clock_and_takes_no_time() -> None:
    clock = FakeClock(100.0, seed=1)
    real = time.monotonic()
    await asyncio.gather(clock.runtime.sleep(3600), clock.runtime.sleep(60))

    assert (clock.time, clock.sleeps) == (3700, [3600, 60])
    assert (clock.runtime.monotonic(), clock.runtime.now()) == (3700, 3700)
    assert clock.runtime.random() == FakeClock(seed=1).runtime.random() < 1
    assert time.monotonic() - real < 3600
