"""Measure what the client costs: processor per request over bare aiohttp, and its import.

Run with ``python -m benchmarks.overhead``. Requests are single calls, one after another, of pages
of 50 visits: `touchpoint_metrics`, the same with aiohttp and orjson, and aiohttp alone, which
leaves the bytes as they are. Batches are interleaved; ratios are taken within a round. Imports are
timed by ``python -X importtime`` in new processes. Exits with 1 if the goal is missed with 10
rounds of imports or more.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import aiohttp
import attrs
import orjson

from benchmarks.contestants import KEY, METRICS
from benchmarks.measuring import RESULTS, Goal, Spread, Table, conclude
from benchmarks.server import Service, running
from distinct_async import DistinctClient

PAGE_SIZE = 50
VISITS = 10_000
GOAL_IMPORT = 1.15
JUDGED_FROM = 10

OURS = "`client.touchpoint_metrics`"
PARSED = "bare aiohttp and orjson"
BARE = "bare aiohttp, not parsed"

IMPORTS = {
    "its dependencies": "import aiohttp, attrs, cattrs, tenacity",
    "the client": "from distinct_async import DistinctClient",
    "the package alone": "import distinct_async",
}
DEPENDENCIES, CLIENT, _ = IMPORTS

Call = Callable[[int], Awaitable[object]]


@attrs.frozen
class Outcome:
    """What was measured, round by round.

    Attributes:
        requests: Of each kind of call, seconds of processor per request.
        imports: Of each import, seconds.
    """

    requests: Mapping[str, Sequence[float]]
    imports: Mapping[str, Sequence[float]]


def ratio(rounds: Mapping[str, Sequence[float]], title: str, base: str) -> Spread:
    """Return how many times another's time something takes."""
    return Spread.of_ratios(rounds[title], rounds[base])


# --- Requests


async def measure_requests(url: str, rounds: int, batch: int) -> dict[str, list[float]]:
    """Return each kind's seconds of processor per request."""
    seconds: dict[str, list[float]] = {OURS: [], PARSED: [], BARE: []}
    async with (
        DistinctClient("key", base_url=url) as client,
        aiohttp.ClientSession(headers=KEY) as http,
    ):
        calls = _make_calls(url, client, http)
        for number in range(rounds + 1):
            for title, call in calls.items():
                took = await _take(call, batch)
                # The first round makes the connections.
                if number:
                    seconds[title].append(took)
    return seconds


def _make_calls(url: str, client: DistinctClient, http: aiohttp.ClientSession) -> dict[str, Call]:
    query = f"{url}{METRICS}?metricsType=TOUCHPOINT&touchpointId=tp-1&visitsType=TOTAL"

    async def ours(offset: int) -> object:
        return await client.touchpoint_metrics("tp-1", offset=offset, page_size=PAGE_SIZE)

    async def bare(offset: int) -> bytes:
        async with http.get(f"{query}&offset={offset}&pageSize={PAGE_SIZE}") as response:
            return await response.read()

    async def parsed(offset: int) -> object:
        return orjson.loads(await bare(offset))

    return {OURS: ours, PARSED: parsed, BARE: bare}


async def _take(call: Call, batch: int) -> float:
    started = time.process_time()
    for number in range(batch):
        await call(number * PAGE_SIZE % VISITS)
    return (time.process_time() - started) / batch


# --- Imports


def measure_imports(rounds: int) -> dict[str, list[float]]:
    """Return the seconds that each import takes in a new process."""
    seconds: dict[str, list[float]] = {title: [] for title in IMPORTS}
    for number in range(rounds + 1):
        idle = _import_seconds("pass")
        for title, statement in IMPORTS.items():
            took = _import_seconds(statement) - idle
            # The first round compiles what was not compiled yet.
            if number:
                seconds[title].append(took)
    return seconds


def _import_seconds(statement: str) -> float:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = (sys.executable, "-X", "importtime", "-c", statement)
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    lines = [line.removeprefix("import time:").split("|") for line in shown.stderr.splitlines()]
    own = [columns[0].strip() for columns in lines if len(columns) == 3]
    return sum(int(microseconds) for microseconds in own if microseconds.isdigit()) / 1e6


# --- What it means


def make_tables(outcome: Outcome) -> list[Table]:
    """Return the figures of requests and of imports."""
    requests = tuple(
        (
            title,
            Spread.of(each * 1e6 for each in seconds).shown(0),
            ratio(outcome.requests, title, BARE).shown(),
            ratio(outcome.requests, title, PARSED).shown(),
        )
        for title, seconds in outcome.requests.items()
    )
    imports = tuple(
        (
            f"{title}: `{IMPORTS[title]}`",
            Spread.of(each * 1e3 for each in seconds).shown(0),
            ratio(outcome.imports, title, DEPENDENCIES).shown(),
        )
        for title, seconds in outcome.imports.items()
    )
    head = ("", "processor, µs per request", "× bare aiohttp", "× with orjson")
    return [
        Table(f"Single calls, one after another, of {PAGE_SIZE} visits", head, requests),
        Table("Imports, in new processes", ("", "ms", "× its dependencies"), imports),
    ]


def make_goals(outcome: Outcome) -> list[Goal]:
    """Return the goal, which is for imports."""
    measured = ratio(outcome.imports, CLIENT, DEPENDENCIES)
    figure = "import of the client, × that of aiohttp, attrs, cattrs and tenacity"
    return [Goal(figure, GOAL_IMPORT, measured, at_most=True)]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="of requests")
    parser.add_argument("--batch", type=int, default=200, help="requests in a round")
    parser.add_argument("--imports", type=int, default=25, help="rounds of imports")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write to")
    options = parser.parse_args()
    with running(Service(VISITS, page_sizes=(PAGE_SIZE,))) as url:
        requests = asyncio.run(measure_requests(url, options.rounds, options.batch))
    outcome = Outcome(requests, measure_imports(options.imports))
    reached = conclude(
        "overhead",
        tables=make_tables(outcome),
        goals=make_goals(outcome),
        raw=attrs.asdict(outcome),
        packages=("aiohttp", "attrs", "cattrs", "tenacity", "orjson", "msgspec"),
        folder=options.results,
    )
    return 0 if reached or options.imports < JUDGED_FROM else 1


if __name__ == "__main__":
    sys.exit(main())
