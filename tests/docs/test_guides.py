"""The README and the guides: every Python block and every command runs, and every path exists."""

import ast
import asyncio
import inspect
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pandas as pd
import polars as pl
import pytest

import distinct_async
from distinct_async import DistinctClient, NotFoundError, Visit
from distinct_async.cli import main
from distinct_async.export import export_visits
from distinct_async.testing import FakeDistinct

ROOT = Path(__file__).parents[2]
PACKAGE = Path(distinct_async.__file__).parent
README = ROOT / "README.md"
GUIDES = sorted(PACKAGE.glob("*/README.md"))
PAGES = {"README": README, **{guide.parent.name: guide for guide in GUIDES}}
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
Names = dict[str, Any]


def blocks_of(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXTS[page], re.DOTALL | re.MULTILINE)


def block_of(page: str, text: str, language: str = "python") -> str:
    (block,) = (block for block in blocks_of(page, language) if text in block)
    return block


def commands_of(page: str) -> list[str]:
    lines = "".join(blocks_of(page, "console")).splitlines()
    return [line for line in lines if line.startswith("distinct-async ")]


PYTHON_BLOCKS = [
    pytest.param(block, id=f"{page}: {block.splitlines()[0]}")
    for page in PAGES
    for block in blocks_of(page, "python")
]
COMMANDS = sorted({command for page in PAGES for command in commands_of(page)})


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


async def execute(source: str, **names: Any) -> Names:
    """Run a block as `python -m asyncio` would, or in a thread if it starts its own loop."""
    code = compile(source, "<guide>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if "asyncio.run" in source:
        await asyncio.to_thread(exec, code, names)
    elif inspect.CO_COROUTINE & code.co_flags:
        await eval(code, names)
    else:
        exec(code, names)
    return names


# --- Everything in every page


@pytest.mark.parametrize("block", PYTHON_BLOCKS)
async def test_every_python_block_runs(
    block: str, client: DistinctClient, visits: list[Visit]
) -> None:
    await export_visits(client, "exp-1", "visits")

    names = await execute(block, client=client)

    assert names.keys() > {"client"}


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_runs(
    command: str, client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    await export_visits(client, "exp-1", "visits")
    arguments = shlex.split(command.partition(" > ")[0], comments=True)[1:]

    code = await asyncio.to_thread(main, arguments)

    assert code == 0
    assert "".join(capsys.readouterr())


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_code(page: str) -> None:
    assert blocks_of(page, "python") or commands_of(page)


# --- Links and paths


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.parent.name)
def test_relative_links_of_a_guide_stay_within_the_package(guide: Path) -> None:
    for target in links_of(guide):
        if "://" not in target:
            linked = (guide.parent / target).resolve()
            assert linked.is_file()
            assert linked.is_relative_to(PACKAGE)


def test_the_readme_has_no_relative_links() -> None:
    # A package index shows the README without the files beside it.
    assert all("://" in target for target in links_of(README))


def links_of(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_every_named_document_exists(page: str) -> None:
    for path in re.findall(r"`([\w/.]+\.md)`", TEXTS[page]):
        folder = PACKAGE.parent if path.startswith("distinct_async/") else ROOT
        assert (folder / path).is_file()


def test_the_readme_names_every_guide() -> None:
    for guide in GUIDES:
        assert f"`{guide.relative_to(PACKAGE.parent).as_posix()}`" in TEXTS["README"]


# --- The README's form


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README"].splitlines()) <= 170


TOPICS = [
    "Streaming",
    "Many touchpoints",
    "Export",
    "Errors and resuming",
    "In a service",
    "Command line",
    "Configuration",
    "Testing",
]


def test_the_readme_has_all_topics_in_order() -> None:
    headings = re.findall(r"^## (.*)$", TEXTS["README"], re.MULTILINE)

    assert headings == ["Try it from a clone", *TOPICS]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_has_at_most_twelve_lines_of_prose_and_code(topic: str) -> None:
    section = TEXTS["README"].partition(f"\n## {topic}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line and not line.startswith("```")]

    assert 0 < len(lines) <= 12


def test_the_two_commands_are_one_line_each() -> None:
    commands = blocks_of("README", "sh")[:2]

    assert [command.count("\n") for command in commands] == [1, 1]
    assert commands[0].strip().endswith("-m distinct_async demo")
    assert commands[1].strip().endswith("pytest")


# --- The README's examples


async def test_the_first_program_prints_every_visit(
    visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    block = block_of("README", "asyncio.run(main())")
    await execute(block)

    assert printed_by(capsys) == [f"Entry Scan {v.user_id} {v.timestamp}" for v in visits]
    assert len([line for line in block.splitlines() if line]) <= 10


def printed_by(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


async def test_streaming_yields_visits_pages_and_lists(
    client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    names = await execute(block_of("README", ".collect()  #"), client=client)

    assert printed_by(capsys) == [
        *(f"{v.user_id} {v.timestamp}" for v in visits),
        "Entry Scan 0 60 of 60",
    ]
    assert names["everyone"] == visits[:7]
    assert len(names["user"].touchpoints[0].timestamps) == 9


async def test_pages_across_collects_users_and_prints_an_experience(
    client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    names = await execute(block_of("README", "defaultdict"), client=client)

    assert names["users"] == {"tp-1": visits[:7], "tp-2": visits[:7]}
    assert printed_by(capsys) == [f"Entry Scan {v.user_id} {v.timestamp}" for v in visits]


@pytest.mark.parametrize("page", ["README", "export"])
async def test_an_export_adds_only_what_is_new(
    page: str, client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    for found in (0, 60):
        await execute(block_of(page, "done.visits_found, "), client=client)

        assert printed_by(capsys) == [f"{60 - found} new visits, {found} were there"]


async def test_failed_touchpoints_resume_where_they_ended(
    fake: FakeDistinct,
    client: DistinctClient,
    visits: list[Visit],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake.intercept = break_second_page(times=5)

    await execute(block_of("README", "FanOutError"), client=client)

    printed = printed_by(capsys)
    assert sorted(printed[:2]) == ["Entry Scan 0 50", "Exit Scan 0 7"]
    assert printed[2:] == ["Entry Scan 50 10"]


def break_second_page(*, times: int) -> Callable[..., Any]:
    left = times

    async def intercept(request: Any, payload: dict[str, Any]) -> dict[str, Any]:
        nonlocal left
        if request.parameters.get("offset") != "50" or not left:
            return payload
        left -= 1
        return {"statusCode": 503, "message": "Service Unavailable"}

    return intercept


async def test_the_service_owns_a_client_while_it_runs(visits: list[Visit]) -> None:
    app = (await execute(block_of("README", "lifespan")))["app"]

    async with app.router.lifespan_context(app):
        client = app.state.distinct
        assert not client.closed
    assert client.closed


async def test_the_test_in_the_readme_passes(
    fake: FakeDistinct, client: DistinctClient, visits: list[Visit]
) -> None:
    names = await execute(block_of("README", "test_one_visit"))

    await names["test_one_visit"](fake, client)
    assert len(fake.requests) == 3


# --- The export guide's examples


async def test_the_query_counts_the_exported_visits(
    client: DistinctClient, visits: list[Visit]
) -> None:
    await export_visits(client, "exp-1", "visits")
    counted: Any = duckdb.sql(block_of("export", "SELECT", "sql"))

    assert counted.fetchall() == [("tp-1", 60, 7)]


async def test_dataframes_read_the_export(client: DistinctClient, visits: list[Visit]) -> None:
    await export_visits(client, "exp-1", "visits")
    users: pl.DataFrame = (await execute(block_of("export", "polars")))["users"]
    per_day: pd.Series[int] = (await execute(block_of("export", "pandas")))["per_day"]

    assert users.rows() == [("tp-1", 7)]
    assert per_day.to_dict() == {datetime(2024, 1, 1, tzinfo=UTC).date(): 60}


async def test_the_summary_counts_visits_and_users(
    client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    await export_visits(client, "exp-1", "visits")
    await execute(block_of("export", "summarize"), client=client)

    assert printed_by(capsys) == ["Entry Scan 60 7 60"]


async def test_an_export_names_the_touchpoints_that_failed(
    client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    await execute(block_of("export", "tp-gone"), client=client)

    (line,) = printed_by(capsys)
    assert line.startswith("tp-gone failed: the server answered 404")


async def test_progress_ends_with_every_visit(
    client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    await execute(block_of("export", "def show"), client=client)

    assert printed_by(capsys)[-1] == "1/1 touchpoints, 60 visits"


async def test_the_table_has_every_visit(client: DistinctClient, visits: list[Visit]) -> None:
    names = await execute(block_of("export", "to_arrow"), client=client)

    assert names["table"].num_rows == 60


# --- The command-line guide's picture


async def test_the_summary_looks_as_shown(
    visits: list[Visit], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = block_of("cli", "$ distinct-async summary", "text").partition("\n")[2]

    await asyncio.to_thread(main, ["demo", "--touchpoints", "5", "--to", "demo"])

    assert capsys.readouterr().out == shown


# --- The testing guide's examples


async def test_the_tests_in_the_testing_guide_pass(
    client: DistinctClient, fake: FakeDistinct
) -> None:
    for name in ("test_count_users", "test_read_all_resumes"):
        names = await execute(block_of("testing", name))

        fake.requests.clear()
        await names[name](fake, client)


async def test_an_interrupted_walk_resumes_without_loss(
    fake: FakeDistinct, client: DistinctClient, visits: list[Visit]
) -> None:
    names = await execute(block_of("testing", "error.next_offset"))
    fake.fail_next(503, times=5)

    assert await names["read_all"](client, "tp-1") == visits

    fake.intercept = break_second_page(times=5)

    assert await names["read_all"](client, "tp-1") == visits
    with pytest.raises(NotFoundError):
        await names["read_all"](client, "tp-gone")


async def test_a_fan_out_error_says_what_failed_and_what_never_started(
    client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    await execute(block_of("testing", "FanOutError"), client=client)

    printed = printed_by(capsys)
    assert "tp-gone resumes at 0 after the server answered 404" in printed[-2]
    assert printed[-1] == "not started: []"


async def test_the_latest_visit_is_the_last_one_listed(
    fake: FakeDistinct, visits: list[Visit]
) -> None:
    answer = await ask_service("/touchpoints/tp-1/latest")

    assert answer == {
        "name": "Entry Scan",
        "total": 60,
        "user_id": visits[-1].user_id,
        "timestamp": "2024-01-01T10:59:00Z",
    }
    assert len(fake.requests) == 2


async def test_a_touchpoint_without_visits_has_no_latest_one(
    fake: FakeDistinct, visits: list[Visit]
) -> None:
    fake.add_touchpoint("tp-empty", name="Unused")

    assert await ask_service("/touchpoints/tp-empty/latest") == {"name": "Unused", "total": 0}


async def ask_service(path: str) -> Any:
    app = (await execute(block_of("testing", '# service.py')))["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as service,
    ):
        return (await service.get(path)).json()


async def test_the_service_counts_visits_per_day(visits: list[Visit]) -> None:
    assert await ask_service("/experiences/exp-1/visits-per-day") == {"2024-01-01": 60}


async def test_the_test_of_the_service_passes(
    fake: FakeDistinct, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await execute(block_of("testing", "# service.py"))
    names = await execute(block_of("testing", "# test_service.py"), app=service["app"])

    await names["test_latest"](fake, monkeypatch)
