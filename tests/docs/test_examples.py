"""The documentation's examples do what the text around them says."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import duckdb
import httpx
import polars as pl
import pytest

from distinct_async import DistinctClient, NotFoundError, Visit
from distinct_async.cli import main
from distinct_async.export import export_visits
from distinct_async.testing import FakeDistinct
from tests.docs.pages import block_of, execute

# --- The README


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
    names = await execute(block_of("README", "users = {}"), client=client)

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
    per_day: Any = (await execute(block_of("export", "pandas")))["per_day"]

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
    names = await execute(block_of("testing", "pager.resume(error)"))
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

    last = Visit(answer.pop("user_id"), datetime.fromisoformat(answer.pop("timestamp")))
    assert answer == {"name": "Entry Scan", "total": 60}
    assert last == visits[-1]
    assert len(fake.requests) == 2


async def test_a_touchpoint_without_visits_has_no_latest_one(
    fake: FakeDistinct, visits: list[Visit]
) -> None:
    fake.add_touchpoint("tp-empty", name="Unused")

    assert await ask_service("/touchpoints/tp-empty/latest") == {"name": "Unused", "total": 0}


async def ask_service(path: str) -> Any:
    app = (await execute(block_of("testing", "# service.py")))["app"]
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
