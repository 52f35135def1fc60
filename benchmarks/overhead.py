"""Measure the client's overhead: processor time per request, and its import.

Run ``python -m benchmarks.overhead``. Requests are single calls, one after another, for pages of 50
visits. Imports are timed by ``python -X importtime`` in new processes. Exits with 1 if the goal is
missed with 10 rounds of imports or more.
"""

import subprocess
import sys
from collections.abc import Sequence

from benchmarks.command import conclude, make_parser
from benchmarks.contestants import BEFORE, CALLERS, Contestant, beside
from benchmarks.processes import take_turns
from benchmarks.records import OverheadFigures
from benchmarks.reporting.costs import CLIENT, DEPENDENCIES
from benchmarks.server import Service, running

LAUNCHES = 4
PAGE_SIZE = 50
JUDGED_FROM = 10

IMPORT_CLIENT = "from distinct_async import DistinctClient"
IMPORTS = {
    DEPENDENCIES: "import aiohttp, attrs, cattrs, tenacity",
    CLIENT: IMPORT_CLIENT,
    "the client, then cattrs": f"{IMPORT_CLIENT}; import cattrs",
    "the package alone": "import distinct_async",
}


def measure_requests(
    contestants: Sequence[Contestant], launches: int, rounds: int, batch: int
) -> dict[str, list[float]]:
    """Return the seconds of processor time per request, by contestant."""
    seconds: dict[str, list[float]] = {each.title: [] for each in contestants}
    with running(Service(PAGE_SIZE, page_sizes=(PAGE_SIZE,))) as url:
        for title, process in take_turns(contestants, launches, rounds):
            outcome = process.call(url=url, requests=batch, page_size=PAGE_SIZE)
            seconds[title].append(outcome.value)
    return seconds


def measure_imports(before: str | None, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each import, by title."""
    imports = {title: (sys.executable, statement) for title, statement in IMPORTS.items()}
    if before is not None:
        imports[BEFORE] = (before, IMPORT_CLIENT)
    seconds: dict[str, list[float]] = {title: [] for title in imports}
    # The first round compiles the modules.
    for number in range(rounds + 1):
        for title, (python, statement) in imports.items():
            took = _import_seconds(python, statement) - _import_seconds(python, "pass")
            if number:
                seconds[title].append(took)
    return seconds


def _import_seconds(python: str, statement: str) -> float:
    # Isolated, so that only installed packages count, and compiled modules are kept.
    command = (python, "-I", "-X", "importtime", "-c", statement)
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    lines = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines()]
    own = [columns[0].strip() for columns in lines if len(columns) == 3]
    return sum(int(microseconds) for microseconds in own if microseconds.isdigit()) / 1e6


def main() -> int:
    """Measure, and print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=48, help="of requests, over all launches")
    parser.add_argument("--batch", type=int, default=200, help="requests in a round")
    parser.add_argument("--imports", type=int, default=20, help="rounds of imports")
    parser.add_argument("--launches", type=int, default=LAUNCHES)
    options = parser.parse_args()
    contestants = beside(CALLERS, options.beside)
    requests = measure_requests(contestants, options.launches, options.rounds, options.batch)
    figures = OverheadFigures(requests, measure_imports(options.beside, options.imports))
    reached = conclude(parser, options, "overhead", figures)
    return 0 if reached or options.imports < JUDGED_FROM else 1


if __name__ == "__main__":
    sys.exit(main())
