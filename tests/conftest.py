"""What every test has: a clean environment, the document's examples, and servers."""

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

# The same examples every time, so that the commit alone decides. `--hypothesis-profile=explore`
# looks further, elsewhere each time, and for the smallest example, which can take minutes.
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
        "--full-size", action="store_true", help="walk 100,003 visits in pages of 1 and 7, too"
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
    """Get one of the document's own JSON examples."""
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
async def raw() -> AsyncIterator[RawServer]:
    async with RawServer() as server:
        yield server


@pytest.fixture
def mocked_http() -> Iterator[MockedHTTP]:
    mocked = MockedHTTP()
    with mocked:
        yield mocked
