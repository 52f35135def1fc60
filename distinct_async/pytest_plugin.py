"""Pytest fixtures for code that uses this package; pytest loads them on its own.

Nothing here imports aiohttp until a fixture is used: the plugin is loaded in every project that
has this package installed.
"""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import pytest

try:
    from pytest_asyncio import fixture
except ModuleNotFoundError:
    # Without pytest-asyncio another plugin, such as anyio's, runs async fixtures.
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
    """A client of `fake_distinct` that retries without waiting, on a fake clock."""
    from distinct_async.testing import FakeClock  # noqa: PLC0415 - loads aiohttp

    async with fake_distinct.client(runtime=FakeClock().runtime) as client:
        yield client
