"""Measure decoding a page, from bytes to a `VisitPage`, beside parsers that do less.

Run ``python -m benchmarks.decode``. Exits with 1 if the goal is missed with 20 rounds or more.
"""

import sys
from collections.abc import Sequence

from benchmarks.command import conclude, make_parser
from benchmarks.contestants import DECODERS, Contestant, beside
from benchmarks.processes import take_turns
from benchmarks.records import DecodeFigures
from benchmarks.reporting.costs import JUDGED_PAGE

LAUNCHES = 4
JUDGED_FROM = 20
# Enough items per turn to make the clock's own cost negligible.
ITEMS_PER_TURN = 20_000


def measure(
    pages: Sequence[int], contestants: Sequence[Contestant], launches: int, rounds: int
) -> list[DecodeFigures]:
    """Decode every size of page with every contestant, in every launch."""
    figures = [DecodeFigures(items, {each.title: [] for each in contestants}) for items in pages]
    for title, process in take_turns(contestants, launches, rounds):
        for page in figures:
            calls = max(1, ITEMS_PER_TURN // page.items)
            page.seconds[title].append(process.call(items=page.items, calls=calls).value)
    return figures


def main() -> int:
    """Measure, and print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[50, JUDGED_PAGE], help="per page")
    parser.add_argument("--rounds", type=int, default=40, help="over all launches")
    parser.add_argument("--launches", type=int, default=LAUNCHES)
    options = parser.parse_args()
    contestants = beside(DECODERS, options.beside)
    figures = measure(options.items, contestants, options.launches, options.rounds)
    reached = conclude(parser, options, "decode", figures)
    return 0 if reached or options.rounds < JUDGED_FROM else 1


if __name__ == "__main__":
    sys.exit(main())
