"""The data that commands write to stdout, in every format."""

import asyncio
import csv
import io
import json
import os
import re
import shlex
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from distinct_async import Visit
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.cli.command_line import START, Run, start
from tests.support.exported import rows_of


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("--help",), ("--version",), (), ("visits", "--help"), ("touchpoints", "exp-1")]
)
async def test_a_reader_that_is_gone_already_is_no_failure(command: tuple[str, ...]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = await start(*command, stdout=write_end)
    os.close(write_end)
    _, err = await process.communicate()

    assert (process.returncode, err) == (0, b"")


# --- A stdout that cannot be written

WRITERS = [
    *((), ("--help",), ("--version",), ("export", "--help"), ("touchpoints", "exp-1")),
    *(("touchpoints", "exp-1", "--format", name) for name in ("csv", "jsonl", "table")),
    *(("visits", "tp-1"), ("visits", "tp-1", "--format", "table"), ("user", "exp-1", "user-1")),
]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", WRITERS, ids=" ".join)
async def test_a_full_disk_behind_stdout_is_one_line_and_exit_1(command: tuple[str, ...]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    process = await start(*command, stdout=full)
    os.close(full)
    _, err = await process.communicate()

    assert process.returncode == 1
    assert err == b"distinct-async: cannot write to stdout: No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITERS, ids=" ".join)
async def test_a_closed_stdout_is_one_line_and_exit_1(command: tuple[str, ...]) -> None:
    code, err = await in_a_shell(*command, streams=">&-")

    assert (code, err) == (1, b"distinct-async: cannot write to stdout: it is closed\n")


@pytest.mark.slow
@pytest.mark.parametrize("streams", [">&-", ">/dev/full"])
async def test_summaries_need_a_stdout_and_exports_need_none(to: Path, streams: str) -> None:
    code, err = await in_a_shell("export", "exp-1", "--to", str(to), streams=streams)
    assert (code, len(err.splitlines())) == (0, 1)
    assert len(rows_of(to)) == 125

    code, err = await in_a_shell("summary", str(to), streams=streams)
    assert (code, len(err.splitlines())) == (1, 1)
    assert err.startswith(b"distinct-async: cannot write to stdout: ")

    demo = ("demo", "--touchpoints", "1", "--visits", "9")
    code, err = await in_a_shell(*demo, streams=streams)
    assert (code, len(err.splitlines())) == (1, 3)


@pytest.mark.slow
async def test_a_closed_stderr_is_no_failure() -> None:
    for command in (("--version",), ("touchpoints", "exp-1")):
        assert await in_a_shell(*command, streams="2>&-") == (0, b"")
    assert await in_a_shell("touchpoints", "nothing", streams="2>&-") == (1, b"")
    assert await in_a_shell("touchpoints", "nothing", streams="2>&- >&-") == (1, b"")


async def in_a_shell(*command: str, streams: str) -> tuple[int | None, bytes]:
    """Return the exit code and stderr of a command whose streams the shell has redirected."""
    line = shlex.join([sys.executable, "-W", "error", "-m", "distinct_async", *command])
    process = await asyncio.create_subprocess_shell(
        f"{line} {streams}", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    return process.returncode, err


# --- A terminal

EVIL = "Back\x1b[31m\x9b2J\u202e\r\x7fdoor"


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "table"])
async def test_a_terminal_gets_no_control_characters(fake: FakeDistinct, file_format: str) -> None:
    fake.add_touchpoint("tp-2", name=EVIL, visits=[Visit(EVIL, START)])
    commands = (("touchpoints", "exp-1"), ("user", "exp-1", EVIL), ("visits", "tp-2"))
    for command in commands:
        shown = await at_a_terminal(*command, "--format", file_format)

        text = re.sub(r"\x1b\[[01]m", "", shown).replace("\r\n", "\n")
        assert all(c.isprintable() or c == "\n" for c in text)
        if file_format == "jsonl":
            *_, last = map(json.loads, text.splitlines())
            assert EVIL in last.values()
        elif file_format == "csv":
            assert r"Back\x1b[31m\x9b2J\u202e\r\x7fdoor" in text
        else:
            # A table folds long names.
            assert r"Back\x1b[31m" in text


async def at_a_terminal(*command: str) -> str:
    """Return what a command writes to a terminal."""
    ours, theirs = os.openpty()
    process = await start(*command, stdout=theirs)
    os.close(theirs)
    chunks: list[bytes] = []
    # Linux reports the end of a terminal as an error.
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while chunk := await asyncio.to_thread(terminal.read, 65_536):
            chunks.append(chunk)
    _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    return b"".join(chunks).decode()


# --- Pages


async def test_the_page_size_can_be_chosen(run: Run, fake: FakeDistinct, to: Path) -> None:
    for command in (("visits", "tp-1"), ("export", "exp-1", "--to", to)):
        for options, size in ((("--page-size", "50"), "50"), ((), "1000")):
            fake.requests.clear()
            code, *_ = await run(*command, *options)

            assert code == 0
            sizes = {request.parameters.get("pageSize", "none") for request in fake.requests}
            assert sizes & {"50", "1000"} == {size}
