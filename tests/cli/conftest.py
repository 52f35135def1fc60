"""A server with visits, and the command line in a thread of this process."""

import asyncio
import sys
from functools import partial
from pathlib import Path

import pytest

from distinct_async import DistinctClient
from distinct_async.cli import main
from distinct_async.testing import FakeClock, FakeDistinct
from tests.cli.command_line import VISITS, Run


@pytest.fixture(autouse=True)
def server_with_visits(fake: FakeDistinct, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add_touchpoint("tp-1", name="Front door", value="front", visits=VISITS)
    fake.add_touchpoint("tp-2", name="Back\x1b[31m [red]door", visits=VISITS[:5])
    monkeypatch.setenv("DISTINCT_API_KEY", fake.api_key)
    monkeypatch.setenv("DISTINCT_BASE_URL", fake.url)
    # Retry without waiting.
    impatient = partial(DistinctClient, runtime=FakeClock().runtime)
    monkeypatch.setattr("distinct_async.cli.connection.DistinctClient", impatient)
    # The variables that rich and cyclopts read.
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "to"


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run the command line in a thread of this process."""

    def call(arguments: tuple[object, ...]) -> int:
        try:
            return main([str(argument) for argument in arguments])
        except SystemExit as end:
            return int(end.code or 0)

    async def run(*arguments: object) -> tuple[int, str, str]:
        code = await asyncio.to_thread(call, arguments)
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run
