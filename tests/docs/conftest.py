"""The server that the documentation's examples talk to."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from distinct_async import Visit
from distinct_async.testing import FakeDistinct


@pytest.fixture
def visits(fake: FakeDistinct, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Visit]:
    monkeypatch.chdir(tmp_path)
    moments = [datetime(2024, 1, 1, 10, minute, tzinfo=UTC) for minute in range(60)]
    visits = [Visit(f"user-{m.minute % 7}", m) for m in moments]
    fake.add_touchpoint("tp-1", name="Entry Scan", visits=visits)
    fake.add_touchpoint("tp-2", name="Exit Scan", experience_id="exp-2", visits=visits[:7])
    monkeypatch.setenv("DISTINCT_API_KEY", fake.api_key)
    monkeypatch.setenv("DISTINCT_BASE_URL", fake.url)
    return visits
