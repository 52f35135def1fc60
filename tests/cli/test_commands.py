"""The command line against servers of the tests: what it prints, writes, and exits with."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distinct_async import DistinctClient, Visit, __version__
from distinct_async.cli import main
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from tests.support.exported import rows_from, rows_of
from tests.support.helpers import KEY, eventually

START = datetime(2024, 1, 1, 10, tzinfo=UTC)
VISITS = [Visit(f"user-{i % 3}", START + timedelta(minutes=i)) for i in range(120)]
COMMAND = (sys.executable, "-W", "error", "-m", "distinct_async")


@pytest.fixture(autouse=True)
def some_visits(fake: FakeDistinct, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add_touchpoint("tp-1", name="Front door", value="front", visits=VISITS)
    fake.add_touchpoint("tp-2", name="Back\x1b[31m [red]door", visits=VISITS[:5])
    monkeypatch.setenv("DISTINCT_API_KEY", fake.api_key)
    monkeypatch.setenv("DISTINCT_BASE_URL", fake.url)
    # Without waiting between attempts.
    eager = partial(DistinctClient, runtime=FakeClock().runtime)
    monkeypatch.setattr("distinct_async.cli.connection.DistinctClient", eager)
    # What rich and cyclopts look at.
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "to"


class Run:
    """Runs the command line in a thread of this process."""

    def __init__(self, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self._captured = capfdbinary

    async def __call__(self, *arguments: object) -> tuple[int, str, str]:
        def call() -> int:
            try:
                return main([str(argument) for argument in arguments])
            except SystemExit as end:
                return int(end.code or 0)

        code = await asyncio.to_thread(call)
        sys.stdout.flush()
        out, err = self._captured.readouterr()
        return code, out.decode(), err.decode()


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    return Run(capfdbinary)


async def start(*arguments: object, **environment: str) -> Any:
    return await asyncio.create_subprocess_exec(
        *COMMAND, *map(str, arguments), env=os.environ | environment, stdout=PIPE, stderr=PIPE
    )


def no_progress(err: str) -> str:
    return "\n".join(line for line in err.splitlines() if "/s" not in line)


# --- Data


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


async def test_visits_as_csv_and_as_a_table(run: Run) -> None:
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


async def test_unique_visits_and_a_limit(run: Run, fake: FakeDistinct) -> None:
    _, out, _ = await run("visits", "tp-1", "--unique")
    assert [json.loads(line)["user_id"] for line in out.splitlines()] == [
        *("user-0", "user-1", "user-2")
    ]
    fake.requests.clear()
    _, out, _ = await run("visits", "tp-1", "--limit", "7", "--offset", "3")
    assert [json.loads(line)["offset"] for line in out.splitlines()] == [*range(3, 10)]
    assert [request.parameters["pageSize"] for request in fake.requests] == ["7"]


async def test_touchpoints(run: Run) -> None:
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


async def test_a_table_steers_no_terminal(run: Run) -> None:
    _, out, _ = await run("touchpoints", "exp-1", "--format", "table")

    assert "\x1b" not in out
    head, *rows = out.splitlines()
    assert head.split() == ["touchpoint_id", "name", "value", "total_visits", "unique_visits"]
    assert [row.split("  ")[0] for row in rows] == ["tp-1", "tp-2"]
    assert r"Back\x1b[31m [red]door" in rows[1]


async def test_a_users_scans(run: Run) -> None:
    _, out, _ = await run("user", "exp-1", "user-1", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 40 + 2
    assert rows[1]["timestamp"] == "2024-01-01T10:04:00.000000Z"

    _, out, _ = await run("user", "exp-1", "user-1", "--format", "table")
    assert len(out.splitlines()) == 1 + 42
    assert (await run("user", "exp-1", "nobody"))[0] == 1


# --- Global options


async def test_global_options_stand_anywhere(
    run: Run, fake: FakeDistinct, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DISTINCT_API_KEY")
    monkeypatch.delenv("DISTINCT_BASE_URL")
    (tmp_path / "key").write_text(f"\n{fake.api_key}\n")
    options = ("--api-key-file", tmp_path / "key", "--base-url", fake.url)

    for arguments in ((*options, "visits", "tp-1"), ("visits", *options, "tp-1")):
        code, out, err = await run(*arguments)
        assert (code, len(out.splitlines()), err) == (0, 120, "")


async def test_verbose_tells_every_attempt_and_not_the_key(
    run: Run, fake: FakeDistinct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTINCT_API_KEY", KEY)
    fake.api_key = KEY
    fake.fail_next(503)

    code, out, err = await run("visits", "tp-1", "--limit", "1", "--verbose")

    assert (code, len(out.splitlines())) == (0, 1)
    first, second = err.splitlines()
    assert first.startswith("GET /v3/touchpoint/metrics?metricsType=TOUCHPOINT&touchpointId=tp-1")
    assert " 503 " in first
    assert " 200 " in second
    assert KEY not in out + err


async def test_verbose_tells_what_did_not_connect(run: Run) -> None:
    code, _, err = await run(
        "visits", "tp-1", "--verbose", "--base-url", "http://127.0.0.1:1", "--limit", "1"
    )
    assert code == 1
    assert "ClientConnectorError" in err.splitlines()[0]


@pytest.mark.parametrize("content", [None, b"\xff\xfe" + KEY.encode(), b"", b"two words"])
async def test_a_key_file_that_is_no_use(run: Run, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)

    code, out, err = await run("visits", "tp-1", "--api-key-file", path)

    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("distinct-async: ")
    assert KEY not in err
    assert "words" not in err.replace(str(path), "")


# --- Failures and ends


async def test_an_error_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = await run("visits", "nothing")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("distinct-async: the server answered 404: Touchpoint not found")

    monkeypatch.delenv("DISTINCT_API_KEY")
    code, out, err = await run("visits", "tp-1")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "DISTINCT_API_KEY" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("visits",),
        ("nonsense",),
        ("--nonsense",),
        ("visits", "tp-1", "--limit", "0"),
        ("visits", "tp-1", "--offset", "-1"),
        ("visits", "tp-1", "--format", "xml"),
        ("visits", "tp-1", "--nonsense"),
        ("visits", "tp-1", "tp-2"),
        ("visits", ""),
        ("export", "exp-1"),
        ("export", "exp-1", "--to", "x", "--rate", "0"),
        ("export", "exp-1", "--to", "x", "--concurrency", "0"),
        ("export", "exp-1", "--to", "x", "--format", "xlsx"),
        *(
            ("export", "exp-1", "--to", "x", "--shard", shard)
            for shard in ("3", "0/2", "3/2", "a/b")
        ),
        ("summary", ".", "--top", "0"),
        ("demo", "--visits", "x"),
    ],
)
async def test_wrong_usage_exits_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = await run(*arguments)

    assert (code, out) == (2, "")
    assert err


async def test_help_has_examples_and_the_exit_codes(run: Run) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        code, out, err = await run(*arguments)
        assert (code, err) == (0, "")
        assert "3 partly exported" in " ".join(out.split())
        assert "--api-key-file" in out
    for command in ("touchpoints", "user", "visits", "export", "summary", "demo"):
        code, out, _ = await run(command, "--help")
        assert code == 0
        assert f"Example: distinct-async {command}" in " ".join(out.split())
        assert "connection" not in out.lower()


async def test_the_version(run: Run) -> None:
    assert await run("--version") == (0, f"{__version__}\n", "")


def test_shell_completion_knows_the_commands() -> None:
    from distinct_async.cli.app import app  # noqa: PLC0415

    for shell in ("bash", "zsh", "fish"):
        script = app.generate_completion(shell=shell)
        assert all(word in script for word in ("touchpoints", "export", "--shard", "parquet"))


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
async def test_without_the_extra_it_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    code, out, err = await run("demo")

    assert (code, out) == (2, "")
    assert err == (
        "distinct-async: the command line needs an extra: pip install 'distinct-async[cli]'\n"
    )


def test_the_core_and_the_export_need_no_extra() -> None:
    code = """
import sys
for name in ("cyclopts", "rich", "pyarrow", "pandas", "numpy"):
    sys.modules[name] = None
import distinct_async.client, distinct_async.export, distinct_async.testing, distinct_async.cli
from distinct_async.export.formats import find_format
find_format("csv.gz")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


async def test_parquet_without_its_extra(
    run: Run, monkeypatch: pytest.MonkeyPatch, to: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    code, out, err = await run("export", "exp-1", "--to", to)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "pip install 'distinct-async[arrow]'" in err

    code, _, _ = await run("demo", "--touchpoints", "1", "--visits", "10", "--to", to)
    assert code == 0
    assert (to / "touchpoints.jsonl").exists()


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
    process = await start("visits", "tp-1")
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
    process = await start("visits", "tp-1")
    await eventually(lambda: fake.requests)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    released.set()

    assert (process.returncode, out, err) == (130, b"", b"")


# --- Export


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl.zst"])
async def test_an_export_and_what_is_new_since(
    run: Run, fake: FakeDistinct, to: Path, form: str
) -> None:
    code, out, err = await run("export", "exp-1", "--to", to, "--format", form)
    assert (code, out) == (0, "")
    assert no_progress(err).startswith("exported 125 new visits (125 in all) of 2 touchpoints")

    fake.scan("tp-2", "late", START + timedelta(days=1))
    code, _, err = await run("export", "exp-1", "--to", to, "--format", form)
    assert code == 0
    assert "exported 1 new visits (126 in all)" in err
    late = Visit("late", START + timedelta(days=1))
    assert rows_of(to) == rows_from("tp-1", VISITS) + rows_from("tp-2", [*VISITS[:5], late])


async def test_an_export_of_some_touchpoints(run: Run, fake: FakeDistinct, to: Path) -> None:
    code, _, err = await run(
        *("export", "exp-1", "--to", to, "--unique", "--format", "csv"),
        *("--touchpoint", "tp-2", "tp-gone", "--touchpoint", "tp-1"),
    )

    assert code == 3
    assert "exported 6 new visits (6 in all) of 3 touchpoints" in err
    assert "distinct-async: 1 of 3 touchpoints failed\n" in err
    assert (
        "distinct-async: the server answered 404: Touchpoint not found [touchpoint_id='tp-gone'"
        in err
    )
    assert len(rows_of(to / "visits_type=UNIQUE")) == 6
    assert {request.parameters["experienceId"] for request in fake.requests} == {"exp-1"}


async def test_an_export_of_which_all_failed(run: Run, to: Path) -> None:
    ids = [f"gone-{i}" for i in range(20)]
    code, _, err = await run("export", "exp-1", "--to", to, "--touchpoint", *ids)
    assert code == 1
    assert err.count("Touchpoint not found") == 10
    assert err.endswith("distinct-async: and 10 more failures\n")

    code, _, err = await run("export", "exp-gone", "--to", to)
    assert (code, len(err.splitlines())) == (1, 1)
    assert "Experience not found" in err


async def test_shards_divide_the_rate(run: Run, monkeypatch: pytest.MonkeyPatch, to: Path) -> None:
    from distinct_async.cli.connection import Connection  # noqa: PLC0415

    seen: list[Any] = []
    real = Connection.client

    def client(self: Connection, limits: Any) -> Any:
        seen.append(limits)
        return real(self, limits)

    monkeypatch.setattr(Connection, "client", client)
    for index in (1, 2, 3, 4):
        code, _, _ = await run(
            *("export", "exp-1", "--to", to, "--format", "csv", "--shard", f"{index}/4"),
            *("--rate", "1000", "--concurrency", "3"),
        )
        assert code == 0

    assert {(limits.requests_per_second, limits.concurrency) for limits in seen} == {(250.0, 3)}
    assert rows_of(to) == rows_from("tp-1", VISITS) + rows_from("tp-2", VISITS[:5])


async def test_an_interrupted_export_keeps_what_it_has(fake: FakeDistinct, to: Path) -> None:
    released = asyncio.Event()

    async def hold(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        if int(request.parameters.get("offset", 0)) >= 40:
            await released.wait()
        return payload

    fake.intercept = hold
    fake.max_page_size = 20
    process = await start("export", "exp-1", "--to", to, "--format", "csv")
    await eventually(lambda: len(fake.requests) > 6)
    await eventually(lambda: list(to.rglob("visits-*-5.csv")))
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    released.set()

    assert (process.returncode, out) == (130, b"")
    told = err.decode().splitlines()[-1]
    assert told.startswith("interrupted: ")
    assert told.endswith("of 2 touchpoints; the same command goes on from there")
    assert not list(to.rglob(".*"))
    kept = rows_of(to)
    assert f"interrupted: {len(kept)} new visits ({len(kept)} in all)" in told
    fake.intercept = None
    again = await start("export", "exp-1", "--to", to, "--format", "csv")
    assert await again.wait() == 0
    assert len(rows_of(to)) == 125


# --- Demo and summary


async def test_the_demo_exports_and_draws(run: Run, to: Path) -> None:
    code, out, err = await run("demo", "--touchpoints", "3", "--visits", "1000", "--to", to)

    assert code == 0
    assert err.startswith("streaming from the embedded server at http://127.0.0.1:")
    assert "exported 1,000 new visits (1,000 in all) of 3 touchpoints" in err
    assert len(rows_of(to)) == 1000
    assert out.startswith("1,000 visits of 3 touchpoints, 2024-01-01 to 2024-")
    assert out.count("Placement ") == 3
    assert "\x1b" not in out + err


async def test_a_demo_of_touchpoints_that_nobody_scanned(run: Run) -> None:
    code, out, _ = await run("demo", "--touchpoints", "3", "--visits", "1")

    assert code == 0
    assert [line.split()[2] for line in out.splitlines() if line.startswith("Place")] == [
        *("1", "0", "0")
    ]


async def test_a_summary_of_nothing(run: Run, tmp_path: Path) -> None:
    code, out, err = await run("summary", tmp_path)

    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "there are no exported visits here" in err
