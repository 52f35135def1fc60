"""`kill -9` at any moment, and the next run makes good.

The children are forked from a server that has everything imported, so that hundreds of them take
no time.
"""

import asyncio
import multiprocessing
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from dying_export import export_in_child
from exported import Row, rows_of

from distinct_async.export import FileFormat
from distinct_async.export.formats import find_format
from distinct_async.testing import FakeDistinct

KILLS = 20
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["distinct_async.client", "distinct_async.export.arrow", "dying_export"]
)


async def run(arguments: tuple[Any, ...], until: Callable[[], bool] = lambda: False) -> int:
    """Run an export in a child, kill it when `until` says so, and return its exit code."""
    child: BaseProcess = CONTEXT.Process(target=export_in_child, args=arguments)
    child.start()
    while child.is_alive():
        if until():
            child.kill()
        await asyncio.sleep(0)
    child.join()
    return child.exitcode or 0


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
            code = await run((fake.url, to, form), moment if kills < KILLS else lambda: False)
            assert code in {0, -signal.SIGKILL}
            assert not asked_again(fake, reached(rows))
            before, rows = rows, rows_of(to)
            assert set(before) <= set(rows) <= possible
            assert code != 0 or rows == expected
            assert code != 0 or not list(to.rglob(".*"))
            kills += code != 0


class Moment:
    """True so many requests, and then so many turns of the loop, after it was made."""

    def __init__(self, fake: FakeDistinct, requests: int, turns: int) -> None:
        self._fake = fake
        self._request = fake.request_count + requests
        self._turns = turns

    def __call__(self) -> bool:
        self._turns -= self._fake.request_count > self._request
        return self._turns < 0


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace", "fsync after", "replace after"])
async def test_killed_at_each_call_to_the_system(
    tmp_path: Path, form: FileFormat, call: str
) -> None:
    async with FakeDistinct.synthetic(touchpoints=2, visits=2_400) as fake:
        assert await run((fake.url, tmp_path / "whole", form)) == 0
        expected = rows_of(tmp_path / "whole")
        for times in (1, 2, 5):
            to = tmp_path / str(times)
            code = await run((fake.url, to, form, (call, times)))
            assert code == -signal.SIGKILL or (call, times) == ("mkdir", 5)
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
