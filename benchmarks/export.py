"""Measure the bulk export beside a bare loop.

Run ``python -m benchmarks.export``. Both write Parquet parts of 100,000 visits from pages of 1,000.
The bare loop requests one page after another, retries, checks and flushes nothing. `FakeDistinct`,
by which the goals are judged, renders each page on request. The other server sends rendered pages,
which leaves only the client's own work. Each run has a new process.

Last, two shards run under one rate, and the server counts their requests. Exits with 1 if a goal is
missed with 1,000,000 visits or more.
"""

import asyncio
import os
import sys
import time
from bisect import bisect_left
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any, get_args

from benchmarks.command import conclude, make_parser
from benchmarks.contestants import EXPORTERS, Contestant, beside
from benchmarks.processes import Process
from benchmarks.records import ExportFigures, ExportRun, ShardFigures, Timings
from benchmarks.reporting.jobs import FAKE_SERVER, FAST_SERVER
from benchmarks.server import Service, running, workers
from distinct_async.export import FileFormat
from distinct_async.testing import FakeDistinct, FakeRequest

JUDGED_FROM = 1_000_000
TOUCHPOINTS = 10
SHARD_PAGE_SIZE = 100

# --- Servers


def serving(server: str, visits: int) -> AbstractContextManager[str]:
    """Run a server in processes of its own, and yield its URL."""
    if server == FAST_SERVER:
        return running(Service(visits // TOUCHPOINTS))
    return _fake_server(visits)


@contextmanager
def _fake_server(visits: int) -> Generator[str]:
    with workers(_serve_fake, visits) as (url,):
        yield url


def _serve_fake(visits: int, started: Connection) -> None:
    async def serve() -> None:
        async with FakeDistinct.synthetic(touchpoints=TOUCHPOINTS, visits=visits) as fake:
            started.send(fake.url)
            await asyncio.Event().wait()

    asyncio.run(serve())


# --- Exports


def measure(
    server: str, visits: int, contestants: Sequence[Contestant], rounds: int, file_format: str
) -> ExportRun:
    """Export with every contestant in turn, in a new process each round."""
    print(f"{visits:,} visits from {server} …", file=sys.stderr)
    timings = {each.title: Timings() for each in contestants}
    peaks: dict[str, list[float]] = {each.title: [] for each in contestants}
    with serving(server, visits) as url:
        for _ in range(rounds):
            for contestant in contestants:
                with TemporaryDirectory() as folder, Process(contestant) as process:
                    outcome = process.fetch(
                        visits,
                        url=url,
                        touchpoints=TOUCHPOINTS,
                        folder=folder,
                        file_format=file_format,
                    )
                timings[contestant.title].add(outcome)
                peaks[contestant.title].append(outcome.peak_mib)
    return ExportRun(server, visits, timings, peaks)


# --- Two shards under one rate


async def measure_shards(rate: float, seconds: float) -> ShardFigures:
    """Run two shards at once and count their requests."""
    visits = int(rate * seconds * SHARD_PAGE_SIZE)
    fake = FakeDistinct.synthetic(touchpoints=20, visits=visits)
    fake.max_page_size = SHARD_PAGE_SIZE
    arrivals: list[float] = []

    async def note(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        arrivals.append(time.monotonic())
        return payload

    fake.intercept = note
    with TemporaryDirectory() as folder:
        async with fake, asyncio.TaskGroup() as group:
            for index in (1, 2):
                group.create_task(_export_shard(fake, f"{index}/2", rate, folder))
    busiest = max(
        bisect_left(arrivals, arrival + 1, lo=first) - first
        for first, arrival in enumerate(arrivals)
    )
    return ShardFigures(rate, len(arrivals), arrivals[-1] - arrivals[0], busiest)


async def _export_shard(fake: FakeDistinct, shard: str, rate: float, folder: str) -> None:
    command = (sys.executable, "-I", "-m", "distinct_async", "export", "exp-1", "--to", folder)
    options = ("--shard", shard, "--rate", str(rate), "--format", "csv")
    settings = {"DISTINCT_API_KEY": fake.api_key, "DISTINCT_BASE_URL": fake.url}
    process = await asyncio.create_subprocess_exec(
        *command, *options, env=os.environ | settings, stderr=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise ValueError(f"shard {shard} exited with {process.returncode}")


def main() -> int:
    """Measure, and print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--visits", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--format", choices=get_args(FileFormat), default="parquet")
    parser.add_argument("--rate", type=float, default=50, help="of two shards, requests/s")
    parser.add_argument("--seconds", type=float, default=8, help="duration of the two shards")
    options = parser.parse_args()
    contestants = beside(EXPORTERS, options.beside)
    whole, half = options.visits, options.visits // 2
    runs = [
        measure(server, visits, contestants, options.rounds, options.format)
        for server, visits in ((FAST_SERVER, whole), (FAKE_SERVER, half), (FAKE_SERVER, whole))
    ]
    shards = asyncio.run(measure_shards(options.rate, options.seconds))
    figures = ExportFigures(options.format, TOUCHPOINTS, runs, shards)
    reached = conclude(parser, options, "export", figures)
    return 0 if reached or options.visits < JUDGED_FROM else 1


if __name__ == "__main__":
    sys.exit(main())
