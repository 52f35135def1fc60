"""Pytest fixtures for code that uses this package.

pytest loads this plugin in every project that has the package installed, so it imports aiohttp
only when a fixture is used.
"""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import pytest

try:
    from pytest_asyncio import fixture
except ModuleNotFoundError:
    # Another plugin, such as anyio's, may run async fixtures.
    fixture = pytest.fixture  # type: ignore[assignment]

if TYPE_CHECKING:
    from distinct_async import DistinctClient
    from distinct_async.testing import FakeDistinct


@fixture
async def fake_distinct() -> "AsyncGenerator[FakeDistinct, None]":
    """A fake Distinct server on loopback, without touchpoints."""
    from distinct_async.testing import FakeDistinct  # noqa: PLC0415 - loads aiohttp

    async with FakeDistinct() as fake:
        yield fake


@fixture
async def distinct_client(
    fake_distinct: "FakeDistinct",
) -> "AsyncGenerator[DistinctClient, None]":
    """A client of `fake_distinct` whose fake clock makes retries immediate."""
    from distinct_async.testing import FakeClock  # noqa: PLC0415 - loads aiohttp

    async with fake_distinct.client(runtime=FakeClock().runtime) as client:
        yield client
