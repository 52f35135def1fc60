"""Measure the bulk export beside a bare loop, and what it takes of memory.

Run with ``python -m benchmarks.export``. Both write Parquet parts of 100,000 visits, from pages of
1,000: the export, and a loop of aiohttp, orjson and pyarrow that asks for one page after another,
retries nothing, checks nothing and flushes nothing to disk. Servers run in processes of their
own: the fake server of `distinct_async.testing`, by which the goals are judged, and one that is
several times as fast, where the client's own work is all there is. Rounds are interleaved, each run
is in a new process, figures are medians. ``--format`` measures another format of the export.

Last, two shards run at once under one rate, and the server counts what comes. Exits with 1 if a
goal is missed with 1,000,000 visits or more.
"""
# pyarrow has no types.
# pyright: basic, reportAttributeAccessIssue=false

import argparse
import asyncio
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import aiohttp
import attrs
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.server import Service, running
from distinct_async import DistinctClient
from distinct_async.export import FileFormat, export_visits
from distinct_async.testing import FakeDistinct, FakeRequest

GOAL_SPEED = 0.8
GOAL_MEMORY_MIB = 150
# What two runs of the same size differ by here.
FLAT_MIB = 10
JUDGED_FROM = 1_000_000
PAGE_SIZE = 1_000
ROWS_PER_PART = 100_000
RATE_PAGE_SIZE = 100


@attrs.frozen
class Load:
    """What is exported.

    Attributes:
        touchpoints: How many.
        visits: Of all of them.
        format: The export's format.
    """

    touchpoints: int
    visits: int
    format: FileFormat = "parquet"

    @property
    def ids(self) -> list[str]:
        """The touchpoints' ids."""
        return [f"tp-{number}" for number in range(1, self.touchpoints + 1)]


@attrs.frozen
class Figures:
    """What one run took: seconds, seconds of processor, and MiB at the peak."""

    wall: float
    processor: float
    peak: float


# --- Contestants: each writes all visits into a folder, and returns how many there were

Contestant = Callable[[str, Load, Path], Awaitable[int]]


async def ours(url: str, load: Load, folder: Path) -> int:
    """Export with the defaults."""
    async with DistinctClient("fake-key", base_url=url) as client:
        done = await export_visits(client, load.ids, folder, format=load.format)
    return done.visits_fetched


async def bare(url: str, load: Load, folder: Path) -> int:
    """Fetch, parse and write, one page after another."""
    count = 0
    async with aiohttp.ClientSession(headers={"x-distinct-api-key": "fake-key"}) as http:
        for touchpoint_id in load.ids:
            count += await _bare_touchpoint(http, url, touchpoint_id, folder)
    return count


async def _bare_touchpoint(
    http: aiohttp.ClientSession, url: str, touchpoint_id: str, folder: Path
) -> int:
    offset, total, batches = 0, 1, list[Any]()
    where = f"{url}/v3/touchpoint/metrics?metricsType=TOUCHPOINT&touchpointId={touchpoint_id}"
    while offset < total:
        async with http.get(f"{where}&offset={offset}&pageSize={PAGE_SIZE}") as response:
            touchpoint = orjson.loads(await response.read())["data"]["touchpoints"]
        items, total = touchpoint["totalVisitsDetails"]["items"], touchpoint["totalVisits"]
        batches.append(_bare_batch(touchpoint_id, items, offset))
        offset += len(items)
        if offset % ROWS_PER_PART == 0 or offset >= total:
            path = folder / f"{touchpoint_id}-{offset}.parquet"
            pq.write_table(pa.Table.from_batches(batches), path, compression="zstd")
            batches = []
    return offset


def _bare_batch(touchpoint_id: str, items: list[dict[str, str]], offset: int) -> Any:
    times = pa.array([item["timestampUTC"] for item in items], pa.string())
    return pa.record_batch(
        {
            "touchpoint_id": pa.array([touchpoint_id] * len(items), pa.string()),
            "user_id": pa.array([item["userId"] for item in items], pa.string()),
            "timestamp": times.cast(pa.timestamp("us", "UTC")),
            "offset": pa.array(range(offset, offset + len(items)), pa.int64()),
        }
    )


CONTESTANTS: dict[str, Contestant] = {"export": ours, "bare loop": bare}


# --- Servers


@contextmanager
def fake_server(load: Load) -> Generator[str]:
    """Run the fake server in a process of its own; yields its URL."""
    context = multiprocessing.get_context("spawn")
    told, tell = context.Pipe()
    process = context.Process(target=_serve, args=(load, tell), daemon=True)
    process.start()
    try:
        yield told.recv()
    finally:
        process.terminate()
        process.join()


def _serve(load: Load, started: Connection) -> None:
    async def serve() -> None:
        fake = FakeDistinct.synthetic(touchpoints=load.touchpoints, visits=load.visits)
        async with fake:
            started.send(fake.url)
            await asyncio.Event().wait()

    asyncio.run(serve())


def fast_server(load: Load) -> Any:
    """Run a server whose pages are rendered only once."""
    return running(Service(visits=load.visits // load.touchpoints))


# --- Running them


def run(name: str, url: str, load: Load) -> Figures:
    """Run a contestant in a new process.

    Raises:
        ValueError: It did not get every visit.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        figures, count = pool.submit(_run, name, url, load).result()
    if count != load.visits:
        raise ValueError(f"got {count} visits")
    return figures


def _run(name: str, url: str, load: Load) -> tuple[Figures, int]:
    async def whole(folder: Path) -> int:
        return await CONTESTANTS[name](url, load, folder)

    if name != "export":
        # What is loaded once is no part of the speed: `pyarrow.array` imports pandas here.
        _bare_batch("tp-1", [{"userId": "user-1", "timestampUTC": "2024-01-01T00:00:00Z"}], 0)
    with TemporaryDirectory() as folder:
        wall, processor = time.perf_counter(), time.process_time()
        count = asyncio.run(whole(Path(folder)))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Figures(wall, processor, peak), count


def compare(load: Load, server: Callable[[Load], Any], rounds: int) -> dict[str, Figures]:
    """Return each contestant's medians, of interleaved rounds."""
    figures: dict[str, list[Figures]] = defaultdict(list)
    with server(load) as url:
        for _ in range(rounds):
            for name in CONTESTANTS:
                figures[name].append(run(name, url, load))
    return {name: medians_of(several) for name, several in figures.items()}


def medians_of(several: list[Figures]) -> Figures:
    """Return the median of each figure."""
    columns = zip(*(attrs.astuple(each) for each in several), strict=True)
    return Figures(*map(statistics.median, columns))


def measure(load: Load, rounds: int) -> bool:
    """Print a table; return whether the goals are reached."""
    print(f"{load.touchpoints} touchpoints, {load.format}\n")
    print("| server | visits | | rows/s | × bare loop | processor, s | peak memory, MiB |")
    print("|---|---|---|---|---|---|---|")
    half, ratio = attrs.evolve(load, visits=load.visits // 2), 0.0
    peaks: list[float] = []
    for title, server in (("fast", fast_server), ("fake", fake_server)):
        for part in (half, load):
            medians = compare(part, server, rounds)
            bare_wall = medians["bare loop"].wall
            for name, one in medians.items():
                print(
                    f"| {title} | {part.visits:,} | {name} | {part.visits / one.wall:,.0f} "
                    f"| {bare_wall / one.wall:.2f} | {one.processor:.1f} | {one.peak:.0f} |"
                )
            ratio = bare_wall / medians["export"].wall
            peaks.append(medians["export"].peak)
    growth = peaks[-1] - peaks[-2]
    print(
        f"\nthe export has {ratio:.2f} × the rows/s of the bare loop (goal: {GOAL_SPEED}), and its"
        f" peak is {peaks[-1]:.0f} MiB (goal: {GOAL_MEMORY_MIB}), {growth:+.0f} MiB with twice as"
        " many visits"
    )
    return ratio >= GOAL_SPEED and max(peaks) <= GOAL_MEMORY_MIB and growth <= FLAT_MIB


# --- Two shards under one rate


async def count_requests(rate: float, seconds: float) -> bool:
    """Run two shards at once, print what the server counted, and tell whether it is enough."""
    visits = int(rate * seconds * RATE_PAGE_SIZE)
    fake = FakeDistinct.synthetic(touchpoints=20, visits=visits)
    fake.max_page_size = RATE_PAGE_SIZE
    arrivals: list[float] = []

    async def note(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        arrivals.append(time.monotonic())
        return payload

    fake.intercept = note
    with TemporaryDirectory() as folder:
        async with fake, asyncio.TaskGroup() as group:
            for index in (1, 2):
                group.create_task(_export_shard(fake, f"{index}/2", rate, folder))
    most = max(
        bisect_left(arrivals, arrival + 1, lo=first) - first
        for first, arrival in enumerate(arrivals)
    )
    # A tenth of a second's worth may start at once, of each shard.
    burst = 2 * max(1.0, rate / 2 * 0.1)
    print(
        f"\ntwo shards at {rate:g} requests/s: {len(arrivals)} requests in"
        f" {arrivals[-1] - arrivals[0]:.1f} s, at most {most} in any second"
        f" (goal: {rate:g}, plus a burst of {burst:g})"
    )
    return most <= rate + burst


async def _export_shard(fake: FakeDistinct, shard: str, rate: float, folder: str) -> None:
    command = (sys.executable, "-m", "distinct_async", "export", "exp-1", "--to", folder)
    options = ("--shard", shard, "--rate", str(rate), "--format", "csv")
    settings = {"DISTINCT_API_KEY": fake.api_key, "DISTINCT_BASE_URL": fake.url}
    process = await asyncio.create_subprocess_exec(
        *command, *options, env=os.environ | settings, stderr=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise ValueError(f"shard {shard} exited with {process.returncode}")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visits", type=int, default=2_000_000)
    parser.add_argument("--touchpoints", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--format", choices=get_args(FileFormat), default="parquet")
    parser.add_argument("--rate", type=float, default=50, help="of two shards, requests/s")
    parser.add_argument("--seconds", type=float, default=8, help="for how long they run")
    options = parser.parse_args()
    load = Load(options.touchpoints, options.visits, options.format)
    reached = measure(load, options.rounds)
    reached &= asyncio.run(count_requests(options.rate, options.seconds))
    print(f"\nPython {platform.python_version()}, {os.cpu_count()} processors")
    return 0 if reached or options.visits < JUDGED_FROM else 1


if __name__ == "__main__":
    sys.exit(main())
