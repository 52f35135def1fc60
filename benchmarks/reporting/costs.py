"""The reports on `benchmarks.memory`, `benchmarks.decode` and `benchmarks.overhead`."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.contestants import BARE, BEFORE, DECODE, ORJSON, UNPARSED
from benchmarks.records import DecodeFigures, MemoryFigures, OverheadFigures
from benchmarks.reporting.values import Goal, Section, Spread, Table

JUDGED_PAGE = 1_000
CLIENT = "the client"
DEPENDENCIES = "its dependencies"

Rounds = Mapping[str, Sequence[float]]


def _ratio(rounds: Rounds, title: str, base: str) -> Spread:
    return Spread.of_ratios(rounds[title], rounds[base])


def _before_column(rounds: Rounds) -> Sequence[str]:
    return [BEFORE] if BEFORE in rounds else []


# --- Memory


def memory(figures: Sequence[MemoryFigures]) -> Section:
    """Report on peaks."""
    lines: dict[str, list[MemoryFigures]] = {}
    for each in figures:
        lines.setdefault(f"{each.consumer} consumer, prefetch={each.prefetch}", []).append(each)
    rows = [
        (title, *(Spread.of(each.peak_mib).shown(1) for each in walks))
        for title, walks in lines.items()
    ]
    lengths = dict.fromkeys(each.visits for each in figures)
    head = ("", *(f"{visits:,} visits" for visits in lengths))
    goals = [_growth_goal(title, walks[0], walks[-1]) for title, walks in lines.items()]
    return Section([Table("peak memory of the process, MiB", head, rows)], goals)


def _growth_goal(title: str, short: MemoryFigures, long: MemoryFigures) -> Goal:
    # Rounds are not paired: each is another process.
    base = statistics.median(short.peak_mib)
    growth = Spread.of(peak - base for peak in long.peak_mib)
    lengths = f"peak of {long.visits:,} visits above that of {short.visits:,}, MiB"
    return Goal.at_most(f"{lengths}: {title}", 5, growth)


# --- Decoding


def decode(pages: Sequence[DecodeFigures]) -> Section:
    """Report on parsers."""
    title = f"decoding, pages of {JUDGED_PAGE:,}: speed, × orjson alone"
    goals = [
        Goal.at_least(title, 1, _ratio(each.seconds, ORJSON, DECODE))
        for each in pages
        if each.items == JUDGED_PAGE
    ]
    return Section([_decode_table(each) for each in pages], goals)


def _decode_table(page: DecodeFigures) -> Table:
    bases = [ORJSON, *_before_column(page.seconds)]
    rows = [
        (
            title,
            Spread.of(page.items / each for each in seconds).shown(0),
            *(_ratio(page.seconds, base, title).shown() for base in bases),
        )
        for title, seconds in page.seconds.items()
    ]
    head = ("", "items/s", *(f"× {base}" for base in bases))
    return Table(f"pages of {page.items:,}", head, rows)


# --- Overhead


def overhead(figures: OverheadFigures) -> Section:
    """Report on single calls and imports."""
    imports = _ratio(figures.imports, CLIENT, DEPENDENCIES)
    goal = Goal.at_most(
        "import of the client, × aiohttp, attrs, cattrs and tenacity", 1.15, imports
    )
    return Section([_request_table(figures.requests), _import_table(figures.imports)], [goal])


def _request_table(requests: Rounds) -> Table:
    bases = [UNPARSED, BARE, *_before_column(requests)]
    rows = [
        (
            title,
            Spread.of(each * 1e6 for each in seconds).shown(0),
            *(_ratio(requests, title, base).shown() for base in bases),
        )
        for title, seconds in requests.items()
    ]
    head = ("", "processor, µs per request", *(f"× {base}" for base in bases))
    return Table("single calls, one after another", head, rows)


def _import_table(imports: Rounds) -> Table:
    rows = [
        (
            title,
            Spread.of(each * 1e3 for each in seconds).shown(0),
            _ratio(imports, title, DEPENDENCIES).shown(),
        )
        for title, seconds in imports.items()
    ]
    return Table("imports, in new processes", ("", "ms", f"× {DEPENDENCIES}"), rows)
