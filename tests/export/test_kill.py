"""`kill -9` at any moment, and the next run makes good.

The children are forked from a server that has everything imported, so that hundreds of them take
no time.
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
    ["distinct_async.client", "distinct_async.export.arrow", "dying_export"]
)


async def never() -> None:
    await asyncio.Event().wait()


async def run(arguments: tuple[Any, ...], until: Callable[[], Awaitable[None]] = never) -> int:
    """Run an export in a child, kill it when `until` ends, and return its exit code."""
    child: BaseProcess = CONTEXT.Process(target=export_in_child, args=arguments)
    child.start()
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(child.sentinel, ended.set)
    moment = asyncio.create_task(end_at(until, child))
    await ended.wait()
    loop.remove_reader(child.sentinel)
    moment.cancel()
    child.join()
    return child.exitcode or 0


async def end_at(until: Callable[[], Awaitable[None]], child: BaseProcess) -> None:
    await until()
    child.kill()


def reached(rows: Iterable[Row]) -> Counter[str]:
    """Return how many visits of each touchpoint there are."""
    return Counter(row[0] for row in rows)


def asked_again(fake: FakeDistinct, known: Counter[str]) -> list[Any]:
    """Return the requests for what the parts had already."""
    asked = [r.parameters for r in fake.requests if r.parameters.get("touchpointId")]
    return [p for p in asked if int(p["offset"]) < known[p["touchpointId"]]]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
async def test_the_demo_killed_at_twenty_moments_is_the_same(
    tmp_path: Path, form: FileFormat
) -> None:
    draw, kills, to, rows = random.Random(form), 0, tmp_path / "0", list[Row]()
    async with FakeDistinct.synthetic(touchpoints=12, visits=50_000) as fake:
        assert await run((fake.url, tmp_path / "whole", form)) == 0
        expected = rows_of(tmp_path / "whole")
        assert len(expected) == 50_000
        possible = set(expected)
        while kills < KILLS or rows != expected:
            if rows == expected:
                # Complete before it was killed often enough.
                to, rows = tmp_path / str(kills), []
            fake.requests.clear()
            moment = Moment(fake, draw.randrange(40), draw.randrange(200))
            arguments = (fake.url, to, form)
            code = await (run(arguments, moment) if kills < KILLS else run(arguments))
            assert code in {0, -signal.SIGKILL}
            assert not asked_again(fake, reached(rows))
            before, rows = rows, rows_of(to)
            assert set(before) <= set(rows) <= possible
            assert code != 0 or rows == expected
            assert code != 0 or not list(to.rglob(".*"))
            kills += code != 0


class Moment:
    """So many requests, and then so many turns of the loop, from when it was made."""

    def __init__(self, fake: FakeDistinct, requests: int, turns: int) -> None:
        self._requests = requests
        self._turns = turns
        self._come = asyncio.Event()
        fake.intercept = self._count

    async def _count(self, _: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        self._requests -= 1
        if self._requests < 0:
            self._come.set()
        return payload

    async def __call__(self) -> None:
        await self._come.wait()
        for _ in range(self._turns):
            await asyncio.sleep(0)


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace", "fsync after", "replace after"])
async def test_killed_at_each_call_to_the_system(
    tmp_path: Path, form: FileFormat, call: str
) -> None:
    async with asyncio.TaskGroup() as group:
        for times in (1, 2, 5):
            group.create_task(export_and_die(tmp_path / str(times), form, (call, times)))


async def export_and_die(to: Path, form: FileFormat, dies_at: tuple[str, int]) -> None:
    async with FakeDistinct.synthetic(touchpoints=2, visits=2_400) as fake:
        async with fake.client() as client:
            expected = [
                (f"tp-{number}", visit.user_id, visit.timestamp, offset)
                for number in (1, 2)
                for offset, visit in enumerate(await client.total_visits(f"tp-{number}").collect())
            ]
        code = await run((fake.url, to, form, dies_at))
        assert code == -signal.SIGKILL or dies_at == ("mkdir", 5)
        rows = rows_of(to)
        assert set(rows) <= set(expected)
        fake.requests.clear()

        assert await run((fake.url, to, form)) == 0

        assert rows_of(to) == expected
        assert not asked_again(fake, reached(rows))
        assert not list(to.rglob(".*"))
        touchpoints = find_format(form).read_touchpoints(to / f"touchpoints.{form}")
        assert [touchpoint.total_visits for touchpoint in touchpoints] == [
            *reached(expected).values()
        ]
