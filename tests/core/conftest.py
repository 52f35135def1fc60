"""Fixtures that several tests of the core share."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from distinct_async import DistinctClient
from distinct_async.testing import FakeClock, FakeDistinct
from tests.support.helpers import KEY
from tests.support.raw_server import RawServer


@pytest.fixture
async def three_visits(fake: FakeDistinct) -> None:
    """Give the fake server the touchpoint "tp-1" with three visits."""
    fake.add_touchpoint("tp-1")
    for day in range(1, 4):
        fake.scan("tp-1", f"user-{day}", datetime(2024, 1, day, tzinfo=UTC))


@pytest.fixture
async def raw_client(raw: RawServer, clock: FakeClock) -> AsyncIterator[DistinctClient]:
    """Open a client of the raw server that waits for no delay."""
    async with DistinctClient(KEY, base_url=raw.url, runtime=clock.runtime) as client:
        yield client
