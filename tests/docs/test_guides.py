"""Every Python block of the README runs, and its commands are those that CI runs."""

import ast
import asyncio
import inspect
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from distinct_async import DistinctClient, Visit
from distinct_async.testing import FakeDistinct

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
Names = dict[str, Any]


def block_with(text: str) -> str:
    (block,) = (str(block) for block in BLOCKS if text in block)
    return block


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
    """Run a block in a loop: as `python -m asyncio` would, or in a thread if it starts its own."""
    code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if "asyncio.run" in source:
        await asyncio.to_thread(exec, code, names)
    elif inspect.CO_COROUTINE & code.co_flags:
        await eval(code, names)
    else:
        exec(code, names)
    return names


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0])
async def test_every_block_runs(block: str, client: DistinctClient, visits: list[Visit]) -> None:
    names = await execute(block, client=client)

    assert names.keys() > {"client"}


async def test_the_first_program_prints_every_visit(
    visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    block = block_with("asyncio.run(main())")
    await execute(block)

    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"Entry Scan {v.user_id} {v.timestamp}" for v in visits]
    assert len([line for line in block.splitlines() if line]) <= 10


async def test_going_on_after_an_error(
    fake: FakeDistinct, client: DistinctClient, visits: list[Visit]
) -> None:
    fake.fail_next(503, times=5)

    names = await execute(block_with("error.next_offset"), client=client)

    assert names["seen"] == visits


async def test_the_test_of_the_testing_section(
    fake: FakeDistinct, client: DistinctClient, visits: list[Visit]
) -> None:
    names = await execute(block_with("test_count_users"))

    await names["test_count_users"](fake, client)


async def test_the_service(visits: list[Visit]) -> None:
    answer = await ask_service(block_with("/latest"), "/touchpoints/tp-1/latest")

    assert answer == {"name": "Entry Scan", "total": 60}


async def ask_service(block: str, path: str) -> Any:
    app = (await execute(block))["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as service,
    ):
        return (await service.get(path)).json()


async def test_the_service_that_fans_out(visits: list[Visit]) -> None:
    path = "/experiences/exp-1/visits-per-day"

    assert await ask_service(block_with("visits-per-day"), path) == {"2024-01-01": 60}


async def test_the_dashboard(client: DistinctClient, visits: list[Visit]) -> None:
    names = await execute(block_with("defaultdict"), client=client)

    assert names["users"] == {"tp-1": visits[:7], "tp-2": visits[:7]}


async def test_every_visit_of_an_experience(
    client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    await execute(block_with('pages_across(client.touchpoints("exp-1")'), client=client)

    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"Entry Scan {v.user_id} {v.timestamp}" for v in visits]


async def test_what_failed_of_many(
    client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    await execute(block_with("FanOutError"), client=client)

    printed = capsys.readouterr().out.splitlines()
    assert "tp-gone goes on at 0 after the server answered 404" in printed[-2]
    assert printed[-1] == "not started: []"


async def test_the_export_and_its_query(
    client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    for found in (0, 60):
        await execute(block_with("export_visits"), client=client)
        assert capsys.readouterr().out == f"{60 - found} new visits, {found} were there\n"
    (query,) = re.findall(r"^```sql\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    counted: Any = duckdb.sql(query)

    assert counted.fetchall() == [("tp-1", 60, 7)]


async def test_the_table(
    client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    names = await execute(block_with("to_arrow"), client=client)

    assert names["table"].num_rows == 60


def test_the_two_commands_are_one_line_each() -> None:
    commands = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[:2]

    assert [command.count("\n") for command in commands] == [1, 1]
    assert commands[0].strip().endswith("-m distinct_async demo")
    assert commands[1].strip().endswith("pytest")
