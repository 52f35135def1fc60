"""After `kill -9` at any moment, the next run completes the export.

The children are forked from a server process that has imported everything, so that starting
hundreds of them is fast.
"""

import asyncio
import multiprocessing
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from distinct_async.export import FileFormat
from distinct_async.export.formats import find_format
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.support.dying_export import export_in_child
from tests.support.exported import Row, rows_of

KILLS = 20
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["distinct_async.client", "distinct_async.export.formats.parquet", "dying_export"]
)


async def never() -> None:
    await asyncio.Event().wait()


async def run(arguments: tuple[Any, ...], until: Callable[[], Awaitable[None]] = never) -> int:
    """Run an export in a child, kill it when `until` ends, and return its exit code."""
    child: BaseProcess = CONTEXT.Process(target=export_in_child, args=arguments)
    child.start()
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(child.sentinel, ended.set)
    killer = asyncio.create_task(kill_after(until, child))
    await ended.wait()
    loop.remove_reader(child.sentinel)
    killer.cancel()
    child.join()
    return child.exitcode or 0


async def kill_after(until: Callable[[], Awaitable[None]], child: BaseProcess) -> None:
    await until()
    child.kill()


def visits_per_touchpoint(rows: Iterable[Row]) -> Counter[str]:
    return Counter(row[0] for row in rows)


def repeated_requests(fake: FakeDistinct, stored: Counter[str]) -> list[Any]:
    """Return the requests for visits that the parts already had.

    The last three are always requested, because they prove the place.
    """
    queries = [request.parameters for request in fake.requests]
    return [
        query
        for query in queries
        if query.get("touchpointId") and int(query["offset"]) < stored[query["touchpointId"]] - 3
    ]


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["parquet", "csv", "jsonl"])
async def test_an_export_killed_at_twenty_moments_is_completed_exactly(
    tmp_path: Path, file_format: FileFormat
) -> None:
    draw, kills, folder, rows = random.Random(file_format), 0, tmp_path / "0", list[Row]()
    async with FakeDistinct.synthetic(touchpoints=12, visits=50_000) as fake:
        assert await run((fake.url, tmp_path / "whole", file_format)) == 0
        expected = rows_of(tmp_path / "whole")
        assert len(expected) == 50_000
        possible = set(expected)
        while kills < KILLS or rows != expected:
            if rows == expected:
                # The export completed before enough kills: start over in another folder.
                folder, rows = tmp_path / str(kills), []
            fake.requests.clear()
            until = Delay(fake, draw.randrange(40), draw.randrange(200))
            arguments = (fake.url, folder, file_format)
            code = await (run(arguments, until) if kills < KILLS else run(arguments))
            assert code in {0, -signal.SIGKILL}
            assert not repeated_requests(fake, visits_per_touchpoint(rows))
            before, rows = rows, rows_of(folder)
            assert set(before) <= set(rows) <= possible
            assert code != 0 or rows == expected
            assert code != 0 or not list(folder.rglob(".*"))
            kills += code != 0


class Delay:
    """Waits for a number of requests to the server, then for a number of turns of the loop."""

    def __init__(self, fake: FakeDistinct, requests: int, turns: int) -> None:
        self._requests = requests
        self._turns = turns
        self._reached = asyncio.Event()
        fake.intercept = self._count

    async def _count(self, _: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        self._requests -= 1
        if self._requests < 0:
            self._reached.set()
        return payload

    async def __call__(self) -> None:
        await self._reached.wait()
        for _ in range(self._turns):
            await asyncio.sleep(0)


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace", "fsync after", "replace after"])
async def test_an_export_killed_at_a_system_call_is_completed_exactly(
    tmp_path: Path, file_format: FileFormat, call: str
) -> None:
    async with asyncio.TaskGroup() as group:
        for times in (1, 2, 5):
            group.create_task(export_and_die(tmp_path / str(times), file_format, (call, times)))


async def export_and_die(folder: Path, file_format: FileFormat, dies_at: tuple[str, int]) -> None:
    async with FakeDistinct.synthetic(touchpoints=2, visits=2_400) as fake:
        async with fake.client() as client:
            expected = [
                (f"tp-{number}", visit.user_id, visit.timestamp, offset)
                for number in (1, 2)
                for offset, visit in enumerate(await client.total_visits(f"tp-{number}").collect())
            ]
        code = await run((fake.url, folder, file_format, dies_at))
        assert code == -signal.SIGKILL or dies_at == ("mkdir", 5)
        rows = rows_of(folder)
        assert set(rows) <= set(expected)
        fake.requests.clear()

        assert await run((fake.url, folder, file_format)) == 0

        assert rows_of(folder) == expected
        assert not repeated_requests(fake, visits_per_touchpoint(rows))
        assert not list(folder.rglob(".*"))
        touchpoints = find_format(file_format).read_touchpoints(
            folder / f"touchpoints.{file_format}"
        )
        assert [touchpoint.total_visits for touchpoint in touchpoints] == [
            *visits_per_touchpoint(expected).values()
        ]
