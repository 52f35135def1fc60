"""Measure the peak memory of long walks, with a fast and with a slow consumer.

Run with ``python -m benchmarks.memory``. Each walk is in a process of its own, in pages of 1,000
visits; the slow consumer pauses after each 1,000 visits, so that the window is full all the time.
Exits with 1 if the goal is missed, unless it was told to run a share of the full size.
"""

import argparse
import asyncio
import resource
import statistics
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import attrs

from benchmarks.measuring import RESULTS, Goal, Spread, Table, conclude
from benchmarks.server import Service, running
from distinct_async import DistinctClient

FULL_SIZE = (10_000, 1_000_000, 10_000_000)
PAGE_SIZE = 1_000
PREFETCHES = (4, 16)
PAUSES = {"fast": 0.0, "slow": 0.002}
GOAL_MIB = 5


@attrs.frozen
class Peak:
    """What one length of walk came to.

    Attributes:
        visits: How many were walked.
        consumer: "fast" or "slow".
        prefetch: Most pages in flight or buffered.
        mib: The peak of the process in each round, MiB.
    """

    visits: int
    consumer: str
    prefetch: int
    mib: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        """The peak of all rounds."""
        return Spread.of(self.mib)


def measure(visits: int, consumer: str, prefetch: int, rounds: int) -> Peak:
    """Walk so many visits in a new process each round."""
    peaks: list[float] = []
    with running(Service(visits, page_sizes=(PAGE_SIZE,))) as url:
        for _ in range(rounds):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                walked = pool.submit(_walk, url, visits, PAUSES[consumer], prefetch)
                peaks.append(walked.result())
    return Peak(visits, consumer, prefetch, tuple(peaks))


def _walk(url: str, visits: int, pause: float, prefetch: int) -> float:
    count = asyncio.run(_count(url, pause, prefetch))
    if count != visits:
        raise ValueError(f"got {count} visits")
    return _peak_mib()


async def _count(url: str, pause: float, prefetch: int) -> int:
    count = 0
    async with DistinctClient("key", base_url=url) as client:
        walk = client.total_visits("tp-1", page_size=PAGE_SIZE, prefetch=prefetch)
        async for _ in walk:
            count += 1
            if pause and count % PAGE_SIZE == 0:
                await asyncio.sleep(pause)
    return count


def _peak_mib() -> float:
    # `ru_maxrss` would be the parent's, if that is more: it is handed down when a process starts.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def make_table(peaks: list[Peak]) -> Table:
    """Return all peaks."""
    title = (
        f"Peak memory of a process that walks, MiB: pages of {PAGE_SIZE:,}, "
        f"{len(peaks[0].mib)} rounds; slow: {PAUSES['slow'] * 1e3:g} ms after each page"
    )
    rows = tuple(
        (f"{peak.visits:,}", str(peak.prefetch), peak.consumer, peak.spread.shown(1))
        for peak in peaks
    )
    return Table(title, ("visits", "prefetch", "consumer", "peak, MiB"), rows)


def make_goals(peaks: list[Peak]) -> list[Goal]:
    """Return the goal for each consumer."""
    by: Mapping[tuple[str, int, int], Peak] = {
        (peak.consumer, peak.prefetch, peak.visits): peak for peak in peaks
    }
    shortest, longest = min(peak.visits for peak in peaks), max(peak.visits for peak in peaks)
    return [
        Goal(
            f"peak of {longest:,} visits above that of {shortest:,}, MiB: {consumer} consumer, "
            f"prefetch={prefetch}",
            GOAL_MIB,
            _growth(by[consumer, prefetch, longest], by[consumer, prefetch, shortest]),
            at_most=True,
        )
        for prefetch in PREFETCHES
        for consumer in PAUSES
    ]


def _growth(long: Peak, short: Peak) -> Spread:
    # Rounds are not paired: each is another process, whose peak differs by what Python allocates.
    base = statistics.median(short.mib)
    return Spread.of(mib - base for mib in long.mib)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1, help="of the full size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write to")
    options = parser.parse_args()
    peaks = [
        measure(max(PAGE_SIZE, round(visits * options.share)), consumer, prefetch, options.rounds)
        for prefetch in PREFETCHES
        for consumer in PAUSES
        for visits in FULL_SIZE
    ]
    reached = conclude(
        "memory",
        tables=[make_table(peaks)],
        goals=make_goals(peaks),
        raw=[attrs.asdict(peak) for peak in peaks],
        packages=("aiohttp", "msgspec"),
        folder=options.results,
    )
    return 0 if reached or options.share < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
