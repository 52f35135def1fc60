"""Measure walking one touchpoint, side by side with other clients.

Run ``python -m benchmarks.walk``. Every contestant delivers every visit, one by one, to a loop that
counts them. Exits with 1 if a full-size run misses a goal.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import attrs

from benchmarks.command import conclude, make_parser
from benchmarks.contestants import WALKERS, Contestant, beside
from benchmarks.processes import Process, launched, turns
from benchmarks.records import Timings, WalkFigures
from benchmarks.reporting.walking import items_per_second, scenario_title
from benchmarks.server import CYCLE, Service, requests_per_second, running

LAUNCHES = 4
# The server must be able to answer this many times the fastest contestant's requests.
HEADROOM = 2
# The first walk of a process also loads modules and builds TLS contexts.
WARM_UP_VISITS = 100


@attrs.frozen
class Scenario:
    """One size of page and one latency.

    Attributes:
        page_size: Visits per page.
        latency: The server's, seconds.
        visits: Visits of the touchpoint, at full size.
        rounds: Walks of each contestant, over all launches.
    """

    page_size: int
    latency: float
    visits: int
    rounds: int

    def scaled(self, share: float, rounds: int | None) -> "Scenario":
        """Return a smaller scenario, of two pages or more."""
        pages = max(2, round(self.visits / self.page_size * share))
        return attrs.evolve(self, visits=pages * self.page_size, rounds=rounds or self.rounds)


FULL_SIZE = (
    # Rounds differ most where only the processor counts.
    Scenario(page_size=50, latency=0, visits=50_000, rounds=20),
    Scenario(page_size=1_000, latency=0, visits=300_000, rounds=20),
    Scenario(page_size=50, latency=0.005, visits=10_000, rounds=4),
    Scenario(page_size=1_000, latency=0.005, visits=200_000, rounds=4),
    # Rounds hardly differ where contestants wait. A window of 16 needs five round trips to open.
    Scenario(page_size=50, latency=0.05, visits=32_000, rounds=1),
    Scenario(page_size=1_000, latency=0.05, visits=100_000, rounds=1),
)


def measure(
    scenarios: Sequence[Scenario], contestants: Sequence[Contestant], launches: int
) -> list[WalkFigures]:
    """Walk every scenario with every contestant, in every launch."""
    limits = {size: _server_limit(size) for size in {each.page_size for each in scenarios}}
    figures = [_empty_figures(each, limits[each.page_size], contestants) for each in scenarios]
    with ExitStack() as stack:
        urls = [stack.enter_context(running(_service(each))) for each in scenarios]
        warm_up = stack.enter_context(running(Service(WARM_UP_VISITS)))
        for launch in range(launches):
            with launched(contestants) as processes:
                for process in processes.values():
                    process.fetch(WARM_UP_VISITS, url=warm_up, page_size=WARM_UP_VISITS // 2)
                for scenario, url, each in zip(scenarios, urls, figures, strict=True):
                    rounds = range(launch, scenario.rounds, launches)
                    print(f"launch {launch + 1}: {scenario_title(each)} …", file=sys.stderr)
                    _walk_in_turns(processes, url, each, rounds)
    return figures


def _server_limit(page_size: int) -> float:
    with running(Service(CYCLE, page_sizes=(page_size,))) as url:
        return requests_per_second(url, page_size)


def _empty_figures(
    scenario: Scenario, limit: float, contestants: Sequence[Contestant]
) -> WalkFigures:
    rounds = {contestant.title: Timings() for contestant in contestants}
    return WalkFigures(scenario.page_size, scenario.latency, scenario.visits, limit, rounds)


def _service(scenario: Scenario) -> Service:
    return Service(scenario.visits, scenario.latency, page_sizes=(scenario.page_size,))


def _walk_in_turns(
    processes: Mapping[str, Process], url: str, figures: WalkFigures, rounds: range
) -> None:
    for number in rounds:
        for title, process in turns(processes, number):
            outcome = process.fetch(figures.visits, url=url, page_size=figures.page_size)
            figures.rounds[title].add(outcome)


def check_server(figures: WalkFigures) -> None:
    """Make sure that the contestants, and not the server, were measured.

    Raises:
        ValueError: The server was close to its own limit.
    """
    fastest = max(items_per_second(figures, title).high for title in figures.rounds)
    if fastest / figures.page_size * HEADROOM > figures.requests_per_second:
        raise ValueError(f"{scenario_title(figures)}: the server is the bottleneck")


def main() -> int:
    """Measure, and print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--share", type=float, default=1, help="of the full size")
    parser.add_argument("--rounds", type=int, help="of every scenario, over all launches")
    parser.add_argument("--launches", type=int, default=LAUNCHES)
    parser.add_argument("--latency", type=float, help="only scenarios with this one, seconds")
    options = parser.parse_args()
    scenarios = [
        full.scaled(options.share, options.rounds)
        for full in FULL_SIZE
        if options.latency in {None, full.latency}
    ]
    figures = measure(scenarios, beside(WALKERS, options.beside), options.launches)
    for each in figures:
        check_server(each)
    reached = conclude(parser, options, "walk", figures)
    return 0 if reached or options.share < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
