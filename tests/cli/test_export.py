"""The commands `export`, `demo` and `summary`, against a real server and real files."""

import asyncio
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distinct_async import DistinctClient, Limits, Visit
from distinct_async.cli.connection import Connection
from distinct_async.cli.exporting import run_export
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.cli.command_line import START, VISITS, Run, start
from tests.support.exported import rows_from, rows_of
from tests.support.helpers import eventually


def without_progress(err: str) -> str:
    return "\n".join(line for line in err.splitlines() if "/s" not in line)


# --- Export


@pytest.mark.parametrize("file_format", ["parquet", "csv", "jsonl.zst"])
async def test_a_second_export_adds_the_new_visits(
    run: Run, fake: FakeDistinct, to: Path, file_format: str
) -> None:
    code, out, err = await run("export", "exp-1", "--to", to, "--format", file_format)
    assert (code, out) == (0, "")
    assert without_progress(err).startswith("exported 125 new visits (125 in all) of 2 touchpoints")

    fake.scan("tp-2", "late", START + timedelta(days=1))
    code, _, err = await run("export", "exp-1", "--to", to, "--format", file_format)
    assert code == 0
    assert "exported 1 new visits (126 in all)" in err
    late = Visit("late", START + timedelta(days=1))
    assert rows_of(to) == rows_from("tp-1", VISITS) + rows_from("tp-2", [*VISITS[:5], late])


async def test_a_partial_export_lists_the_touchpoints_that_failed(
    run: Run, fake: FakeDistinct, to: Path
) -> None:
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


async def test_an_export_of_a_changed_list_says_where_it_differs(
    run: Run, fake: FakeDistinct, to: Path
) -> None:
    await run("export", "exp-1", "--to", to, "--format", "csv")
    fake.add_touchpoint("tp-1", visits=VISITS[:60] + VISITS[61:])
    fake.scan("tp-2", "late", START + timedelta(days=1))
    for new in (1, 0):
        code, _, err = await run("export", "exp-1", "--to", to, "--format", "csv")

        assert code == 3
        assert f"exported {new} new visits" in err
        assert "from offset 60 on (2024-01-01T11:00:00Z); no visits were written [touch" in err
    late = Visit("late", START + timedelta(days=1))
    assert rows_of(to) == rows_from("tp-1", VISITS) + rows_from("tp-2", [*VISITS[:5], late])


async def test_an_export_without_success_exits_with_1(run: Run, to: Path) -> None:
    ids = [f"gone-{i}" for i in range(20)]
    code, _, err = await run("export", "exp-1", "--to", to, "--touchpoint", *ids)
    assert code == 1
    assert err.count("Touchpoint not found") == 10
    assert err.endswith("distinct-async: and 10 more failures\n")

    code, _, err = await run("export", "exp-gone", "--to", to)
    assert (code, len(err.splitlines())) == (1, 1)
    assert err.startswith("distinct-async: the server answered 404: Experience not found")
    assert not to.exists()


async def test_shards_share_the_rate(run: Run, monkeypatch: pytest.MonkeyPatch, to: Path) -> None:
    seen: list[Limits] = []
    original = Connection.client

    def client(self: Connection, limits: Limits) -> DistinctClient:
        seen.append(limits)
        return original(self, limits)

    monkeypatch.setattr(Connection, "client", client)
    for index in (1, 2, 3, 4):
        code, _, _ = await run(
            *("export", "exp-1", "--to", to, "--format", "csv", "--shard", f"{index}/4"),
            *("--rate", "1000", "--concurrency", "3"),
        )
        assert code == 0

    assert {(limits.requests_per_second, limits.concurrency) for limits in seen} == {(250.0, 3)}
    assert rows_of(to) == rows_from("tp-1", VISITS) + rows_from("tp-2", VISITS[:5])


@pytest.mark.parametrize(
    ("signals", "code"),
    [([signal.SIGINT], 130), ([signal.SIGTERM], 143), ([signal.SIGTERM] * 3, 143)],
    ids=["SIGINT", "SIGTERM", "three SIGTERMs"],
)
async def test_an_interrupted_export_keeps_its_visits_and_can_be_continued(
    fake: FakeDistinct, to: Path, signals: list[signal.Signals], code: int
) -> None:
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
    for number in signals:
        process.send_signal(number)
    out, err = await process.communicate()
    released.set()

    assert (process.returncode, out) == (code, b"")
    last_line = err.decode().splitlines()[-1]
    assert last_line.startswith("interrupted: ")
    assert last_line.endswith("of 2 touchpoints; run the same command again to continue")
    assert not list(to.rglob(".*"))
    kept = rows_of(to)
    assert f"interrupted: {len(kept)} new visits ({len(kept)} in all)" in last_line
    fake.intercept = None
    again = await start("export", "exp-1", "--to", to, "--format", "csv")
    await again.communicate()
    assert again.returncode == 0
    assert len(rows_of(to)) == 125


async def test_a_misspelt_export_option_is_rejected(client: DistinctClient, to: Path) -> None:
    # mypy reports an unused "type: ignore" if it stops rejecting the option.
    with pytest.raises(TypeError, match="formt"):
        await run_export(client, "exp-1", to, Console(), formt="csv")  # type: ignore[call-arg]


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


async def test_the_demo_draws_touchpoints_without_visits(run: Run) -> None:
    code, out, _ = await run("demo", "--touchpoints", "3", "--visits", "1")

    assert code == 0
    assert [line.split()[2] for line in out.splitlines() if line.startswith("Place")] == [
        *("1", "0", "0")
    ]


async def test_a_summary_of_an_empty_folder_fails(run: Run, tmp_path: Path) -> None:
    code, out, err = await run("summary", tmp_path)

    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "there are no exported visits here" in err


async def test_a_summary_of_an_export_without_touchpoints_says_0(run: Run, to: Path) -> None:
    # No id falls into the last of very many shards.
    shard = ("--shard", "1000000/1000000", "--format", "csv")
    code, _, err = await run("export", "exp-1", "--to", to, *shard)
    assert (code, err.splitlines()[-1][:50]) == (
        0,
        "exported 0 new visits (0 in all) of 0 touchpoints,",
    )

    code, out, err = await run("summary", to)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "0 visits of 0 touchpoints"
