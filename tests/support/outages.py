"""Servers that are down, in part or as a whole, and clocks for clients of them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from distinct_async import DistinctClient, DistinctError, FanOutError, Runtime, ServerError
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from tests.support.ordered_clock import OrderedClock

DOWN: dict[str, Any] = {"statusCode": 500, "message": "down"}


def break_touchpoints(fake: FakeDistinct, is_down: Callable[[str], bool]) -> None:
    """Let the touchpoints for which `is_down` holds answer 503."""

    async def fail(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        return DOWN if is_down(request.parameters["touchpointId"]) else payload

    fake.intercept = fail


def many(touchpoints: int) -> FakeDistinct:
    """Return a server of so many touchpoints, with about a visit each."""
    return FakeDistinct.synthetic(touchpoints=touchpoints, visits=touchpoints)


@asynccontextmanager
async def timed_client(
    fake: FakeDistinct, clock: OrderedClock, **options: Any
) -> AsyncGenerator[DistinctClient, None]:
    """Open a client whose time passes only while it has no request in flight."""
    client = fake.client(runtime=clock.runtime, **options)
    async with client, clock.running(lambda: client.stats.in_flight > 0):
        yield client


def require_outage(error: DistinctError | None) -> FanOutError:
    """Return the error of a fan-out that an outage must have ended."""
    assert isinstance(error, FanOutError)
    assert {type(failure) for failure in error.exceptions} == {ServerError}
    assert any(isinstance(failure, DistinctError) and failure.fatal for failure in error.exceptions)
    assert "; no more were started" in str(error)
    return error


class Held:
    """A runtime whose delays pass at once while a call is to be retried, and otherwise never do.

    Attributes:
        held: The number of delays that were started and not cancelled.
    """

    def __init__(self, is_retrying: Callable[[], bool]) -> None:
        self.clock = FakeClock()
        self.held = 0
        self._is_retrying = is_retrying

    async def _sleep(self, seconds: float) -> None:
        if self._is_retrying():
            await self.clock.sleep(seconds)
            return
        self.held += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.held -= 1

    @property
    def runtime(self) -> Runtime:
        return Runtime(sleep=self._sleep, monotonic=lambda: self.clock.time, random=lambda: 0.5)


@asynccontextmanager
async def held_client(fake: FakeDistinct) -> AsyncGenerator[tuple[DistinctClient, Held], None]:
    """Open a client whose retries follow at once, and whose pauses in doubt never end."""
    # A call that is about to be retried counts as waiting; one that may not start does not.
    held = Held(lambda: client.stats.waiting > 0)
    client = fake.client(runtime=held.runtime)
    async with client:
        yield client, held
