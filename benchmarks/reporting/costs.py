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
    rows = [
        (f"{each.visits:,}", str(each.prefetch), each.consumer, Spread.of(each.peak_mib).shown(1))
        for each in figures
    ]
    head = ("visits", "prefetch", "consumer", "peak, MiB")
    return Section([Table("Peak memory of the process:", head, rows)], _memory_goals(figures))


def _memory_goals(figures: Sequence[MemoryFigures]) -> list[Goal]:
    goals: list[Goal] = []
    for prefetch, consumer in dict.fromkeys((each.prefetch, each.consumer) for each in figures):
        walks = [e for e in figures if (e.prefetch, e.consumer) == (prefetch, consumer)]
        short, long = min(walks, key=_visits), max(walks, key=_visits)
        # Rounds are not paired: each is another process.
        base = statistics.median(short.peak_mib)
        growth = Spread.of(peak - base for peak in long.peak_mib)
        lengths = f"peak of {long.visits:,} visits above that of {short.visits:,}, MiB"
        title = f"{lengths}: {consumer} consumer, prefetch={prefetch}"
        goals.append(Goal.at_most(title, 5, growth))
    return goals


def _visits(figures: MemoryFigures) -> int:
    return figures.visits


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
    return Table(f"Pages of {page.items:,}:", head, rows)


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
    return Table("Single calls, one after another:", head, rows)


def _import_table(imports: Rounds) -> Table:
    rows = [
        (
            title,
            Spread.of(each * 1e3 for each in seconds).shown(0),
            _ratio(imports, title, DEPENDENCIES).shown(),
        )
        for title, seconds in imports.items()
    ]
    return Table("Imports, in new processes:", ("", "ms", f"× {DEPENDENCIES}"), rows)
