"""Global options, help, usage errors and exit codes."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distinct_async import __version__
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.cli.command_line import Run, start
from tests.support.helpers import KEY, eventually

# --- Global options


async def test_global_options_are_accepted_before_and_after_the_command(
    run: Run, fake: FakeDistinct, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DISTINCT_API_KEY")
    monkeypatch.delenv("DISTINCT_BASE_URL")
    (tmp_path / "key").write_text(f"\n{fake.api_key}\n")
    options = ("--api-key-file", tmp_path / "key", "--base-url", fake.url)

    for arguments in ((*options, "visits", "tp-1"), ("visits", *options, "tp-1")):
        code, out, err = await run(*arguments)
        assert (code, len(out.splitlines()), err) == (0, 120, "")


async def test_verbose_prints_every_attempt_without_the_key(
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


async def test_verbose_prints_failed_connections(run: Run) -> None:
    code, _, err = await run(
        "visits", "tp-1", "--verbose", "--base-url", "http://127.0.0.1:1", "--limit", "1"
    )
    assert code == 1
    assert "ClientConnectorError" in err.splitlines()[0]


@pytest.mark.parametrize("content", [None, b"\xff\xfe" + KEY.encode(), b"", b"two words"])
async def test_an_unusable_key_file_is_reported_without_its_content(
    run: Run, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)

    code, out, err = await run("visits", "tp-1", "--api-key-file", path)

    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("distinct-async: ")
    assert KEY not in err
    assert "words" not in err.replace(str(path), "")


# --- Exit codes


async def test_an_error_is_reported_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("visits", "tp-1", "--limit", "9223372036854775808"),
        ("visits", "tp-1", "--offset", "9" * 400),
        ("visits", "tp-1", "--page-size", "0"),
        ("visits", "tp-1", "--page-size", "9" * 5_000),
        ("export", "exp-1", "--to", "x", "--page-size", "0"),
        ("export", "exp-1", "--to", "x", "--page-size", "x"),
        ("export", "exp-1", "--to", "x", "--concurrency", "9223372036854775808"),
        ("export", "exp-1", "--to", "x", "--rate", "1" + "0" * 400),
        ("export", "exp-1", "--to", "x", "--rate", "inf"),
        ("demo", "--visits", "9223372036854775808"),
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
async def test_a_usage_error_exits_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = await run(*arguments)

    assert (code, out) == (2, "")
    assert err


@pytest.mark.parametrize("path", ["", "a\0b"])
@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("export", "exp-1", "--to"), "--to"),
        (("demo", "--to"), "--to"),
        (("summary",), "DIRECTORY"),
        (("visits", "tp-1", "--api-key-file"), "--api-key-file"),
    ],
)
async def test_an_unusable_path_is_named_and_nothing_is_requested(
    run: Run, fake: FakeDistinct, command: tuple[str, ...], name: str, path: str
) -> None:
    code, out, err = await run(*command, path)

    assert (code, out) == (2, "")
    assert name in err
    assert "must be a path" in err
    assert not fake.requests


async def test_an_interrupt_exits_with_130_and_a_termination_with_143(fake: FakeDistinct) -> None:
    released = asyncio.Event()

    async def hold(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        await released.wait()
        return payload

    fake.intercept = hold
    for number, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        for command in (("visits", "tp-1"), ("touchpoints", "exp-1"), ("user", "exp-1", "user-1")):
            fake.requests.clear()
            process = await start(*command)
            await eventually(lambda: fake.requests)
            process.send_signal(number)
            out, err = await process.communicate()

            assert (process.returncode, out, err) == (expected, b"", b"")
    released.set()


# --- Help


async def test_help_shows_examples_and_exit_codes(run: Run) -> None:
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


async def test_version_prints_the_version(run: Run) -> None:
    assert await run("--version") == (0, f"{__version__}\n", "")


def test_shell_completion_includes_commands_and_options() -> None:
    from distinct_async.cli.app import app  # noqa: PLC0415

    for shell in ("bash", "zsh", "fish"):
        script = app.generate_completion(shell=shell)
        assert all(word in script for word in ("touchpoints", "export", "--shard", "parquet"))


# --- Extras


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
async def test_a_missing_extra_is_reported_with_the_command_to_install_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    code, out, err = await run("demo")

    assert (code, out) == (2, "")
    assert err == (
        "distinct-async: the command line needs an extra: pip install 'distinct-async[cli]'\n"
    )


def test_client_export_and_testing_need_no_extra() -> None:
    code = """
import sys
for name in ("cyclopts", "rich", "pyarrow", "pandas", "numpy"):
    sys.modules[name] = None
import distinct_async.client, distinct_async.export, distinct_async.testing, distinct_async.cli
from distinct_async.export.formats import find_format
find_format("csv.gz")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


async def test_without_pyarrow_parquet_fails_and_the_demo_writes_json_lines(
    run: Run, monkeypatch: pytest.MonkeyPatch, to: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    code, out, err = await run("export", "exp-1", "--to", to)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "pip install 'distinct-async[arrow]'" in err

    code, _, _ = await run("demo", "--touchpoints", "1", "--visits", "10", "--to", to)
    assert code == 0
    assert (to / "touchpoints.jsonl").exists()
