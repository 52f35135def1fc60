"""Measure walking one touchpoint, side by side with what else one would use.

Run with ``python -m benchmarks.walk``, with the package and its ``bench`` dependency group. Every
contestant delivers every visit, one by one, to a loop that counts them, and has a process of its
own; the server has others. Rounds are interleaved, and ratios are taken within a round. Exits with
1 if a goal is missed, unless it was told to run a share of the full size, which is too little to
judge by.
"""

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path

import attrs

from benchmarks.contestants import (
    BARE,
    CONTESTANTS,
    DLT,
    HTTPX,
    OPENAI,
    OURS,
    PEERS,
    SEQUENTIAL,
    WIDE,
)
from benchmarks.measuring import RESULTS, Goal, Spread, Table, conclude
from benchmarks.server import Ceiling, Service, measure_ceiling, running

IDEAL_FOLD = 16
# How much slower than the server's own ceiling the fastest contestant has to be.
HEADROOM = 2


@attrs.frozen
class Scenario:
    """What is walked.

    Attributes:
        page_size: Visits per page.
        latency: Seconds of the server.
        visits: How many there are, at full size.
        rounds: How often each contestant walks them.
    """

    page_size: int
    latency: float
    visits: int
    rounds: int

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"{self.latency * 1e3:g} ms, pages of {self.page_size:,}"


FULL_SIZE = (
    # Where only processors count, rounds differ most.
    Scenario(page_size=50, latency=0, visits=50_000, rounds=21),
    Scenario(page_size=1_000, latency=0, visits=500_000, rounds=21),
    Scenario(page_size=50, latency=0.005, visits=20_000, rounds=5),
    Scenario(page_size=1_000, latency=0.005, visits=400_000, rounds=5),
    # A window of 16 opens within 5 round trips: as many pages as make those a small part.
    Scenario(page_size=50, latency=0.05, visits=50_000, rounds=3),
    Scenario(page_size=1_000, latency=0.05, visits=100_000, rounds=3),
)


@attrs.frozen
class Figures:
    """What one walk took: seconds, and seconds of processor."""

    wall: float
    processor: float


@attrs.frozen
class Outcome:
    """What a scenario came to.

    Attributes:
        scenario: The scenario.
        ceiling: What the server could have done, without its latency.
        rounds: Of each contestant, a round's figures after another's.
    """

    scenario: Scenario
    ceiling: Ceiling
    rounds: Mapping[str, Sequence[Figures]]

    def wall(self, title: str) -> list[float]:
        """Return a contestant's seconds, round by round."""
        return [each.wall for each in self.rounds[title]]

    def processor(self, title: str) -> list[float]:
        """Return a contestant's seconds of processor, round by round."""
        return [each.processor for each in self.rounds[title]]

    def speed(self, title: str) -> Spread:
        """Return a contestant's items per second."""
        return Spread.of(self.scenario.visits / seconds for seconds in self.wall(title))

    def cost(self, title: str) -> Spread:
        """Return a contestant's milliseconds of processor per 1,000 items."""
        visits = self.scenario.visits
        return Spread.of(seconds / visits * 1e6 for seconds in self.processor(title))

    def speed_ratio(self, title: str, other: str) -> Spread:
        """Return how many times as fast as another a contestant is."""
        return Spread.of_ratios(self.wall(other), self.wall(title))

    def processor_ratio(self, title: str, other: str) -> Spread:
        """Return how many times another's processor time a contestant takes."""
        return Spread.of_ratios(self.processor(title), self.processor(other))

    def lowest_speed_ratio(self, title: str, others: Iterable[str]) -> Spread:
        """Return how many times as fast as the fastest of others a contestant is."""
        ratios = (self.speed_ratio(title, other) for other in others)
        return min(ratios, key=lambda ratio: ratio.median)


# --- Running them


@contextmanager
def contestants_waiting() -> Generator[Mapping[str, ProcessPoolExecutor]]:
    """Start a process for each contestant."""
    with ExitStack() as stack:
        yield {
            title: stack.enter_context(
                ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_warm_up)
            )
            for title in CONTESTANTS
        }


def measure(scenario: Scenario, pools: Mapping[str, ProcessPoolExecutor]) -> Outcome:
    """Let each contestant walk in turn, round after round."""
    rounds: dict[str, list[Figures]] = {title: [] for title in pools}
    served = Service(scenario.visits, page_sizes=(scenario.page_size,))
    with running(served) as url:
        ceiling = measure_ceiling(url, scenario.page_size)
    with running(attrs.evolve(served, latency=scenario.latency)) as url:
        for number in range(scenario.rounds):
            # Whoever comes first in one round comes later in the next.
            first = number % len(pools)
            for title in [*pools][first:] + [*pools][:first]:
                rounds[title].append(pools[title].submit(_run, title, url, scenario).result())
    return Outcome(scenario, ceiling, rounds)


def _warm_up() -> None:
    # What an event loop loads once is no part of anybody's speed.
    asyncio.run(asyncio.sleep(0))


def _run(title: str, url: str, scenario: Scenario) -> Figures:
    walk = CONTESTANTS[title].load()
    gc.collect()
    wall, processor = time.perf_counter(), time.process_time()
    count = walk(url, scenario.page_size)
    figures = Figures(time.perf_counter() - wall, time.process_time() - processor)
    if count != scenario.visits:
        raise ValueError(f"{title} got {count} visits")
    return figures


# --- What it means


def make_table(outcome: Outcome) -> Table:
    """Return a scenario's figures."""
    scenario, ceiling = outcome.scenario, outcome.ceiling
    title = (
        f"Latency {scenario.title}: {scenario.visits:,} visits, {scenario.rounds} rounds. The "
        f"server answers up to {ceiling.requests_per_second:,.0f} requests/s, or one after another "
        f"in {ceiling.round_trip * 1e6:.0f} µs and the latency."
    )
    head = ("", "items/s", "× bare", "processor, ms per 1,000 items", "× bare")
    rows = tuple(
        (
            name,
            outcome.speed(name).shown(0),
            f"{outcome.speed_ratio(name, BARE).median:.2f}",
            f"{outcome.cost(name).median:.2f}",
            f"{outcome.processor_ratio(name, BARE).median:.2f}",
        )
        for name in outcome.rounds
    )
    return Table(title, head, rows)


def make_goals(outcomes: Sequence[Outcome]) -> list[Goal]:
    """Return the goals of all scenarios."""
    return [goal for outcome in outcomes for goal in _goals(outcome)]


def _goals(outcome: Outcome) -> list[Goal]:
    scenario, where = outcome.scenario, outcome.scenario.title
    if scenario.latency:
        fold = outcome.lowest_speed_ratio(OURS, (BARE, *PEERS))
        goals = [Goal(f"{where}: speed, × the fastest sequential contestant's", 3.5, fold)]
        if (scenario.page_size, scenario.latency) == (50, 0.05):
            fold = outcome.speed_ratio(WIDE, SEQUENTIAL)
            ideal = Spread(*(ratio / IDEAL_FOLD for ratio in attrs.astuple(fold)))
            goals.append(Goal(f"{where}, prefetch=16: of the 16-fold of prefetch=1", 0.9, ideal))
        return goals
    goals = [
        Goal(f"{where}: speed, × that of {peer}", 3, outcome.speed_ratio(OURS, peer))
        for peer in (HTTPX, OPENAI, DLT)
    ]
    processor = outcome.processor_ratio(OURS, BARE)
    bound = 1.15 if scenario.page_size == 50 else 1.5
    goals.append(Goal(f"{where}: processor, × the bare loop's", bound, processor, at_most=True))
    if scenario.page_size == 50:
        speed = outcome.speed_ratio(OURS, BARE)
        goals.append(Goal(f"{where}: speed, × the bare loop's", 1, speed))
    return goals


def check_the_server(outcome: Outcome) -> None:
    """Make sure that it was not the server that was measured.

    Raises:
        ValueError: It could hardly do more than the fastest contestant had it do.
    """
    fastest = max(outcome.speed(title).high for title in outcome.rounds)
    if fastest / outcome.scenario.page_size * HEADROOM > outcome.ceiling.requests_per_second:
        raise ValueError(f"{outcome.scenario.title}: the server is the bottleneck")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1, help="of the full size")
    parser.add_argument("--rounds", type=int, help="instead of those of the full size")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write to")
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    with contestants_waiting() as pools:
        for full in FULL_SIZE:
            pages = max(2, round(full.visits / full.page_size * options.share))
            scenario = attrs.evolve(
                full, visits=pages * full.page_size, rounds=options.rounds or full.rounds
            )
            print(f"{scenario.title}: {scenario.visits:,} visits …", file=sys.stderr)
            outcomes.append(measure(scenario, pools))
            check_the_server(outcomes[-1])
    reached = conclude(
        "walk",
        tables=[make_table(outcome) for outcome in outcomes],
        goals=make_goals(outcomes),
        raw=[attrs.asdict(outcome) for outcome in outcomes],
        packages=[package for each in CONTESTANTS.values() for package in each.packages],
        folder=options.results,
    )
    return 0 if reached or options.share < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
