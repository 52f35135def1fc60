"""The command line in processes of its own, against servers of the tests."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from helpers import eventually

from distinct_async import Visit, __version__
from distinct_async.testing import FakeDistinct, FakeRequest

START = datetime(2024, 1, 1, 10, tzinfo=UTC)
COMMAND = (sys.executable, "-W", "error", "-m", "distinct_async")


@pytest.fixture(autouse=True)
def some_visits(fake: FakeDistinct) -> None:
    visits = [Visit(f"user-{i % 3}", START + timedelta(minutes=i)) for i in range(120)]
    fake.add_touchpoint("tp-1", visits=visits)


async def start(fake: FakeDistinct, *arguments: str, **environment: str) -> Any:
    settings = {"DISTINCT_API_KEY": fake.api_key, "DISTINCT_BASE_URL": fake.url}
    return await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, env=os.environ | settings | environment, stdout=PIPE, stderr=PIPE
    )


async def run(fake: FakeDistinct, *arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await start(fake, *arguments, **environment)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_visits_are_json_lines(fake: FakeDistinct) -> None:
    code, out, err = await run(fake, "visits", "tp-1")

    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 120
    assert rows[61] == {"user_id": "user-1", "timestamp": "2024-01-01T11:01:00+00:00"}


async def test_unique_visits_and_a_limit(fake: FakeDistinct) -> None:
    _, out, _ = await run(fake, "visits", "tp-1", "--unique")
    assert [json.loads(line)["user_id"] for line in out.splitlines()] == [
        *("user-0", "user-1", "user-2")
    ]

    _, out, _ = await run(fake, "visits", "tp-1", "--limit", "7")
    assert len(out.splitlines()) == 7


async def test_an_error_is_one_line(fake: FakeDistinct) -> None:
    code, out, err = await run(fake, "visits", "nothing")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("distinct-async: the server answered 404: Touchpoint not found")

    code, out, err = await run(fake, "visits", "tp-1", DISTINCT_API_KEY="")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "DISTINCT_API_KEY" in err


@pytest.mark.parametrize(
    "arguments",
    [(), ("visits",), ("nonsense",), ("visits", "tp-1", "--limit", "0"), ("demo", "--visits", "x")],
)
async def test_wrong_usage_exits_with_2(fake: FakeDistinct, arguments: tuple[str, ...]) -> None:
    code, out, err = await run(fake, *arguments)

    assert (code, out) == (2, "")
    assert err.startswith("usage: distinct-async")


async def test_a_reader_that_goes_away_ends_it_quietly(fake: FakeDistinct) -> None:
    async def endless(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        touchpoint = payload["data"]["touchpoints"]
        touchpoint["totalVisits"] = 10**9
        offset = int(request.parameters["offset"])
        touchpoint["totalVisitsDetails"] = {
            "items": [
                {"userId": f"user-{offset + i}", "timestampUTC": START.isoformat()}
                for i in range(50)
            ],
            "pagination": {"offset": offset, "pageSize": 50},
        }
        return payload

    fake.intercept = endless
    process = await start(fake, "visits", "tp-1")
    first = await process.stdout.readline()
    process.stdout._transport.close()
    err = await process.stderr.read()

    assert json.loads(first)["user_id"] == "user-0"
    assert (await process.wait(), err) == (0, b"")


async def test_an_interrupt_exits_with_130(fake: FakeDistinct) -> None:
    released = asyncio.Event()

    async def hold(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        await released.wait()
        return payload

    fake.intercept = hold
    process = await start(fake, "visits", "tp-1")
    await eventually(lambda: fake.requests)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    released.set()

    assert (process.returncode, out, err) == (130, b"", b"")


async def test_the_demo_prints_what_it_streamed(fake: FakeDistinct) -> None:
    code, out, err = await run(fake, "demo", "--touchpoints", "3", "--visits", "1000")

    head, rule, *rows, blank, summary = out.splitlines()
    assert code == 0
    assert head.split() == ["touchpoint", "total", "unique", "first", "scan", "last", "scan"]
    assert set(rule) == {"-", " "}
    assert [row[:11] for row in rows] == ["Placement 1", "Placement 2", "Placement 3"]
    assert sum(int(row.split()[2]) for row in rows) == 1000
    assert all("2024-01-01" in row for row in rows)
    unique = sum(int(row.split()[3]) for row in rows)
    assert blank == ""
    assert summary.startswith(f"{1000 + unique:,} items in ")
    assert summary.endswith("items/s")
    assert err.startswith("streaming from the embedded server at http://127.0.0.1:")


async def test_the_demo_with_touchpoints_that_nobody_scanned(fake: FakeDistinct) -> None:
    code, out, _ = await run(fake, "demo", "--touchpoints", "3", "--visits", "1")

    assert code == 0
    assert [row.split()[2:] for row in out.splitlines()[2:4]] == [["0", "0", "-", "-"]] * 2


async def test_the_version(fake: FakeDistinct) -> None:
    assert await run(fake, "--version") == (0, f"{__version__}\n", "")
