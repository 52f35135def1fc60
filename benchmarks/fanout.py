"""Measure walking many touchpoints at once, beside one after another, and beside the ideal.

Run ``python -m benchmarks.fanout``. The ideal is the time that latency alone takes with one request
in flight for each open touchpoint. "One in flight each" keeps to that bound through
``Limits.concurrency``, and is judged; "prefetching" allows four for each touchpoint. The bare loop
requests the same pages with one in flight each. Exits with 1 if the goal is missed with 1,000
touchpoints or more.
"""

import sys
from collections.abc import Sequence

from benchmarks.command import conclude, make_parser
from benchmarks.contestants import FETCHERS, VISITS_EACH, Contestant, beside
from benchmarks.processes import Outcome, Process, take_turns
from benchmarks.records import FanOutFigures, Timings
from benchmarks.server import Service, running

JUDGED_FROM = 1_000
PAGE_SIZE = 50
LATENCY = 0.02
CONCURRENCIES = (8, 32, 128)
MEMORY_CONCURRENCY = 32


def measure_rounds(
    contestants: Sequence[Contestant], touchpoints: int, rounds: int
) -> dict[int, dict[str, Timings]]:
    """Return the timings by concurrency and contestant; each round is a launch."""
    timings = {
        concurrency: {each.title: Timings() for each in contestants}
        for concurrency in CONCURRENCIES
    }
    with running(Service(VISITS_EACH, LATENCY)) as url:
        for title, process in take_turns(contestants, rounds, rounds):
            for concurrency in CONCURRENCIES:
                timings[concurrency][title].add(_fan_out(process, url, touchpoints, concurrency))
    return timings


def _fan_out(process: Process, url: str, touchpoints: int, concurrency: int) -> Outcome:
    return process.fetch(
        touchpoints * VISITS_EACH,
        url=url,
        touchpoints=touchpoints,
        page_size=PAGE_SIZE,
        concurrency=concurrency,
    )


def measure_sequential(touchpoints: int) -> float:
    """Return the seconds per touchpoint, one after another."""
    contestant = Contestant("one walk after another", "ours:one_by_one")
    with running(Service(VISITS_EACH, LATENCY)) as url, Process(contestant) as process:
        outcome = process.fetch(
            touchpoints * VISITS_EACH, url=url, touchpoints=touchpoints, page_size=PAGE_SIZE
        )
    return outcome.wall / touchpoints


def measure_growth(touchpoints: int) -> float:
    """Return the growth of the peak memory, MiB."""
    with running(Service(VISITS_EACH)) as url, Process(FETCHERS[0]) as process:
        # Imports and first allocations are not growth.
        before = _fan_out(process, url, MEMORY_CONCURRENCY, MEMORY_CONCURRENCY)
        after = _fan_out(process, url, touchpoints, MEMORY_CONCURRENCY)
    return after.peak_mib - before.peak_mib


def main() -> int:
    """Measure, and print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--touchpoints", type=int, default=JUDGED_FROM)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    touchpoints = options.touchpoints
    contestants = beside(FETCHERS, options.beside)
    figures = FanOutFigures(
        touchpoints,
        VISITS_EACH,
        PAGE_SIZE,
        LATENCY,
        # Every touchpoint takes the same time.
        measure_sequential(max(1, touchpoints // 10)),
        measure_rounds(contestants, touchpoints, options.rounds),
        {count: measure_growth(count) for count in (touchpoints, touchpoints * 10)},
    )
    reached = conclude(parser, options, "fanout", figures)
    # Connecting takes a large part of fewer touchpoints' time.
    return 0 if reached or touchpoints < JUDGED_FROM else 1


if __name__ == "__main__":
    sys.exit(main())
