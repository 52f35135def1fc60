"""The data that commands write to stdout, in every format."""

import asyncio
import csv
import io
import json
import os
from datetime import datetime
from typing import Any

from distinct_async.testing import FakeDistinct, FakeRequest
from tests.cli.command_line import START, Run, start


async def test_visits_are_json_lines_in_a_pipe(run: Run) -> None:
    code, out, err = await run("visits", "tp-1")

    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 120
    assert rows[61] == {
        "touchpoint_id": "tp-1",
        "user_id": "user-1",
        "timestamp": "2024-01-01T11:01:00.000000Z",
        "offset": 61,
    }


async def test_visits_can_be_csv_or_a_table(run: Run) -> None:
    _, out, _ = await run("visits", "tp-1", "--format", "csv", "--limit", "2")
    assert out == (
        '"touchpoint_id","user_id","timestamp","offset"\n'
        '"tp-1","user-0","2024-01-01T10:00:00.000000Z",0\n'
        '"tp-1","user-1","2024-01-01T10:01:00.000000Z",1\n'
    )
    _, out, _ = await run("visits", "tp-1", "--format", "table", "--offset", "118")
    assert out == (
        "      offset  timestamp (UTC)             user_id\n"
        "         118  2024-01-01 11:58:00.000000  user-1\n"
        "         119  2024-01-01 11:59:00.000000  user-2\n"
    )


async def test_visits_can_be_unique_or_limited(run: Run, fake: FakeDistinct) -> None:
    _, out, _ = await run("visits", "tp-1", "--unique")
    assert [json.loads(line)["user_id"] for line in out.splitlines()] == [
        *("user-0", "user-1", "user-2")
    ]
    fake.requests.clear()
    _, out, _ = await run("visits", "tp-1", "--limit", "7", "--offset", "3")
    assert [json.loads(line)["offset"] for line in out.splitlines()] == [*range(3, 10)]
    assert [request.parameters["pageSize"] for request in fake.requests] == ["7"]


async def test_touchpoints_are_listed_with_their_counts(run: Run) -> None:
    code, out, err = await run("touchpoints", "exp-1")
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[0]) == {
        "touchpoint_id": "tp-1",
        "name": "Front door",
        "value": "front",
        "total_visits": 120,
        "unique_visits": 3,
    }
    _, out, _ = await run("touchpoints", "exp-1", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert rows[1]["name"] == "Back\x1b[31m [red]door"


async def test_a_table_escapes_terminal_control_sequences(run: Run) -> None:
    _, out, _ = await run("touchpoints", "exp-1", "--format", "table")

    assert "\x1b" not in out
    header, *rows = out.splitlines()
    assert header.split() == ["touchpoint_id", "name", "value", "total_visits", "unique_visits"]
    assert [row.split("  ")[0] for row in rows] == ["tp-1", "tp-2"]
    assert r"Back\x1b[31m [red]door" in rows[1]


async def test_a_users_scans_are_listed_one_per_row(run: Run) -> None:
    _, out, _ = await run("user", "exp-1", "user-1", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 40 + 2
    assert rows[1]["timestamp"] == "2024-01-01T10:04:00.000000Z"

    _, out, _ = await run("user", "exp-1", "user-1", "--format", "table")
    assert len(out.splitlines()) == 1 + 42
    assert (await run("user", "exp-1", "nobody"))[0] == 1


def page_of_an_endless_list(offset: int, timestamp: datetime) -> dict[str, Any]:
    items = [
        {"userId": f"user-{offset + i}", "timestampUTC": timestamp.isoformat()} for i in range(50)
    ]
    return {"items": items, "pagination": {"offset": offset, "pageSize": 50}}


async def test_the_command_ends_quietly_when_its_reader_goes_away(fake: FakeDistinct) -> None:
    async def endless(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        offset = int(request.parameters["offset"])
        touchpoint = payload["data"]["touchpoints"]
        touchpoint["totalVisits"] = 10**9
        touchpoint["totalVisitsDetails"] = page_of_an_endless_list(offset, START)
        return payload

    fake.intercept = endless
    read_end, write_end = os.pipe()
    process = await start("visits", "tp-1", stdout=write_end)
    os.close(write_end)
    with os.fdopen(read_end) as reader:
        first = await asyncio.to_thread(reader.readline)
    _, err = await process.communicate()

    assert json.loads(first)["user_id"] == "user-0"
    assert (process.returncode, err) == (0, b"")
