"""Measure walking many touchpoints at once, beside one after another, and beside the ideal.

Run with ``python -m benchmarks.fanout``. The ideal is what latency alone takes if as many requests
as there are touchpoints open are in flight all the time: requests · latency / concurrency. "One in
flight each" keeps to that bound (``Limits.concurrency`` is the fan-out's own), and the goal is
judged by it; "prefetching" lets each open touchpoint have its four pages in flight. The bare loop
makes the same requests with aiohttp, and parses them with orjson, one in flight each: what it takes
more than the ideal is what aiohttp costs on this machine. Rounds are interleaved; figures are
medians. Exits with 1 if the goal is missed with 1,000 touchpoints or more.
"""

import argparse
import asyncio
import os
import platform
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import aiohttp
import attrs
import orjson

from benchmarks.server import Service, running
from distinct_async import DistinctClient, Limits

GOAL = 0.9
JUDGED_FROM = 1_000
PREFETCH = 4


@attrs.frozen
class Load:
    """What is fetched.

    Attributes:
        touchpoints: How many.
        visits: Visits of each.
        page_size: Visits per page.
        latency: Seconds of the server.
    """

    touchpoints: int
    visits: int
    page_size: int
    latency: float

    @property
    def requests(self) -> int:
        """How many requests that takes."""
        return self.touchpoints * -(-self.visits // self.page_size)

    def ideal(self, concurrency: int) -> float:
        """Return the seconds that latency alone takes."""
        return self.requests * self.latency / concurrency

    def ids(self) -> Iterator[str]:
        """Give the touchpoints' ids, one by one."""
        return (f"tp-{number}" for number in range(self.touchpoints))


@attrs.frozen
class Figures:
    """What one run took, in seconds."""

    wall: float
    processor: float


# --- Contestants: each fetches all visits at some concurrency, and returns how many it got

Contestant = Callable[[str, Load, int], Awaitable[int]]


async def across(url: str, load: Load, concurrency: int, *, in_flight: int = 1) -> int:
    """Walk with `pages_across`, with so many requests in flight for each open touchpoint."""
    count = 0
    limits = Limits(concurrency=concurrency * in_flight)
    async with DistinctClient("key", base_url=url, limits=limits) as client:
        async for page in client.pages_across(
            load.ids(), page_size=load.page_size, concurrency=concurrency, prefetch=PREFETCH
        ):
            count += len(page.items)
    return count


async def one_by_one(url: str, load: Load, concurrency: int) -> int:
    """Walk one touchpoint after another, with so many pages of it in flight at most."""
    count = 0
    async with DistinctClient("key", base_url=url) as client:
        for touchpoint_id in load.ids():
            walk = client.total_visits(
                touchpoint_id, page_size=load.page_size, prefetch=concurrency
            )
            async for page in walk.pages():
                count += len(page.items)
    return count


async def bare(url: str, load: Load, concurrency: int) -> int:
    """Make the same requests with aiohttp, and parse them with orjson."""
    offsets = range(0, load.visits, load.page_size)
    queries = ((name, offset) for name in load.ids() for offset in offsets)

    async def work(http: aiohttp.ClientSession) -> int:
        count = 0
        for name, offset in queries:
            async with http.get(
                f"{url}/v3/touchpoint/metrics?metricsType=TOUCHPOINT&touchpointId={name}"
                f"&visitsType=TOTAL&offset={offset}&pageSize={load.page_size}",
                headers={"x-distinct-api-key": "key"},
            ) as response:
                page = orjson.loads(await response.read())
            count += len(page["data"]["touchpoints"]["totalVisitsDetails"]["items"])
        return count

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as http:
        return sum(await asyncio.gather(*(work(http) for _ in range(concurrency))))


SIDE_BY_SIDE: dict[str, Contestant] = {
    "`pages_across`, one in flight each": across,
    "`pages_across`, prefetching": partial(across, in_flight=PREFETCH),
    "bare loop": bare,
}
STRICT, *_ = SIDE_BY_SIDE

# --- Running them


def run(contestant: Contestant, url: str, load: Load, concurrency: int) -> Figures:
    """Run a contestant in a loop of its own.

    Raises:
        ValueError: It did not get every visit.
    """

    async def whole() -> int:
        return await contestant(url, load, concurrency)

    wall, processor = time.perf_counter(), time.process_time()
    count = asyncio.run(whole())
    figures = Figures(time.perf_counter() - wall, time.process_time() - processor)
    if count != load.touchpoints * load.visits:
        raise ValueError(f"got {count} visits")
    return figures


def measure(load: Load, concurrencies: list[int], rounds: int) -> bool:
    """Print a table; return whether the goal is reached at every concurrency."""
    figures: dict[tuple[str, int], list[Figures]] = defaultdict(list)
    with running(Service(visits=load.visits, latency=load.latency)) as url:
        for _ in range(rounds):
            for concurrency in concurrencies:
                for name, contestant in SIDE_BY_SIDE.items():
                    figures[name, concurrency].append(run(contestant, url, load, concurrency))
        sequential = run(one_by_one, url, load, PREFETCH)
    print(
        f"{load.touchpoints:,} touchpoints × {load.visits} visits in pages of {load.page_size}: "
        f"{load.requests:,} requests, {load.latency * 1e3:.0f} ms latency; one walk after another "
        f"takes {sequential.wall:.1f} s\n\n"
        "| concurrency | | s | ideal, s | of the ideal | × one after another | processor, µs a "
        "request |\n|---|---|---|---|---|---|---|"
    )
    reached = True
    for (name, concurrency), several in sorted(figures.items(), key=lambda item: item[0][1]):
        wall = statistics.median(each.wall for each in several)
        ideal = load.ideal(concurrency)
        reached &= name != STRICT or ideal / wall >= GOAL
        micros = statistics.median(each.processor for each in several) / load.requests * 1e6
        print(
            f"| {concurrency} | {name} | {wall:.2f} | {ideal:.2f} | {ideal / wall:.2f} "
            f"| {sequential.wall / wall:.1f} | {micros:.0f} |"
        )
    return reached


def peak_memory(load: Load, concurrency: int) -> float:
    """Return by how many MiB the peak memory of a new process grows while it walks."""
    with (
        running(Service(visits=load.visits)) as url,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        return pool.submit(_growth, url, load, concurrency).result()


def _growth(url: str, load: Load, concurrency: int) -> float:
    # What is imported and allocated once is not what grows.
    run(across, url, attrs.evolve(load, touchpoints=concurrency), concurrency)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(across, url, load, concurrency)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--touchpoints", type=int, default=1_000)
    parser.add_argument("--visits", type=int, default=200, help="visits of each touchpoint")
    parser.add_argument("--page-size", type=int, default=50)
    parser.add_argument("--latency", type=float, default=0.02, help="of the server, seconds")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load = Load(options.touchpoints, options.visits, options.page_size, options.latency)
    reached = measure(load, options.concurrency, options.rounds)
    print("\npeak memory above that of 32 touchpoints, at concurrency 32 and without latency:")
    for factor in (1, 10):
        more = attrs.evolve(load, touchpoints=load.touchpoints * factor)
        print(f"{more.touchpoints:,} touchpoints: {peak_memory(more, 32):.1f} MiB")
    print(f"\nPython {platform.python_version()}, {os.cpu_count()} processors")
    # Fewer are done before the first requests have made their connections.
    return 0 if reached or options.touchpoints < JUDGED_FROM else 1


if __name__ == "__main__":
    sys.exit(main())
