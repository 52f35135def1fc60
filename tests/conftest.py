"""Fixtures for every test: a clean environment, the API document's examples, and servers."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from distinct_async import DistinctClient
from distinct_async.testing import FakeClock, FakeDistinct
from tests.support.helpers import MockedHTTP
from tests.support.raw_server import RawServer

# CI runs the same examples every time, so a failure is due to the commit. The "explore" profile
# (`--hypothesis-profile=explore`) draws new examples and shrinks failures, which can take minutes.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=50,
    stateful_step_count=40,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=(hypothesis.HealthCheck.too_slow,),
)
hypothesis.settings.register_profile(
    "explore",
    hypothesis.settings.get_profile("repeatable"),
    derandomize=False,
    phases=tuple(hypothesis.Phase),
    max_examples=1_000,
)
hypothesis.settings.load_profile("repeatable")

FIXTURES = Path(__file__).parent / "fixtures"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full-size", action="store_true", help="also walk 100,003 visits in pages of 1 and 7"
    )


@pytest.fixture
def full_size(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--full-size"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISTINCT_API_KEY", "DISTINCT_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def example() -> Callable[[str], bytes]:
    """Read one of the API document's JSON examples by name."""
    return lambda name: (FIXTURES / f"{name}.json").read_bytes()


@pytest.fixture
def example_json(example: Callable[[str], bytes]) -> Callable[[str], Any]:
    return lambda name: json.loads(example(name))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def fake(fake_distinct: FakeDistinct) -> FakeDistinct:
    return fake_distinct


@pytest.fixture
async def client(fake: FakeDistinct, clock: FakeClock) -> AsyncIterator[DistinctClient]:
    async with fake.client(runtime=clock.runtime) as client:
        yield client


@pytest.fixture
async def crowd() -> AsyncIterator[FakeDistinct]:
    """Serve 30 touchpoints with 4,000 visits, divided unevenly."""
    async with FakeDistinct.synthetic(touchpoints=30, visits=4_000) as fake:
        yield fake


@pytest.fixture
async def raw() -> AsyncIterator[RawServer]:
    async with RawServer() as server:
        yield server


@pytest.fixture
def mocked_http() -> Iterator[MockedHTTP]:
    mocked = MockedHTTP()
    with mocked:
        yield mocked
