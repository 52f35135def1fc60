"""Measure the peak memory of long walks, with a fast and with a slow consumer.

Run ``python -m benchmarks.memory``. Each walk has a process of its own. The slow consumer pauses
after each page, so that the window of pages is always full. Exits with 1 if a full-size run misses
a goal.
"""

import sys

from benchmarks.command import conclude, make_parser
from benchmarks.contestants import Contestant
from benchmarks.processes import Process
from benchmarks.records import MemoryFigures
from benchmarks.server import Service, running

FULL_SIZE = (10_000, 1_000_000, 10_000_000)
PAGE_SIZE = 1_000
PREFETCHES = (4, 16)
PAUSES = {"fast": 0.0, "slow": 0.002}
WALKER = Contestant("distinct_async", "ours:walk_slowly", {"page_size": PAGE_SIZE})


def measure(visits: int, consumer: str, prefetch: int, rounds: int) -> MemoryFigures:
    """Walk in a new process each round."""
    print(f"{visits:,} visits, {consumer} consumer, prefetch={prefetch} …", file=sys.stderr)
    peaks: list[float] = []
    with running(Service(visits, page_sizes=(PAGE_SIZE,))) as url:
        for _ in range(rounds):
            with Process(WALKER) as process:
                walked = process.fetch(visits, url=url, prefetch=prefetch, pause=PAUSES[consumer])
            peaks.append(walked.peak_mib)
    return MemoryFigures(visits, prefetch, consumer, peaks)


def main() -> int:
    """Measure, and print the table."""
    parser = make_parser(__doc__, beside=False)
    parser.add_argument("--share", type=float, default=1, help="of the full size")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    lengths = {max(PAGE_SIZE, round(visits * options.share)) for visits in FULL_SIZE}
    figures = [
        measure(visits, consumer, prefetch, options.rounds)
        for prefetch in PREFETCHES
        for consumer in PAUSES
        for visits in sorted(lengths)
    ]
    reached = conclude(parser, options, "memory", figures)
    return 0 if reached or options.share < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
