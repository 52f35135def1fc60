"""The report on `benchmarks.walk`."""

from collections.abc import Sequence

import attrs

from benchmarks.contestants import BARE, BEFORE, DLT, HTTPX, OPENAI, OURS, PEERS, SEQUENTIAL, WIDE
from benchmarks.records import WalkFigures
from benchmarks.reporting.values import Goal, Section, Spread, Table

IDEAL_FOLD = 16


def walk(scenarios: Sequence[WalkFigures], python: str) -> Section:
    """Report on all scenarios."""
    tables = [_speed_table(scenarios), _processor_table(scenarios)]
    if BEFORE in scenarios[0].rounds:
        tables.append(_before_table(scenarios))
    return Section(tables, [goal for each in scenarios for goal in _goals(each, python)])


def scenario_title(figures: WalkFigures) -> str:
    """Return a scenario's name."""
    return f"{figures.latency * 1e3:g} ms, pages of {figures.page_size:,}"


def items_per_second(figures: WalkFigures, title: str) -> Spread:
    """Return a contestant's speed."""
    return Spread.of(figures.visits / seconds for seconds in figures.rounds[title].wall)


def _speed_ratio(figures: WalkFigures, title: str, other: str) -> Spread:
    return Spread.of_ratios(figures.rounds[other].wall, figures.rounds[title].wall)


def _processor_ratio(figures: WalkFigures, title: str, other: str) -> Spread:
    rounds = figures.rounds
    return Spread.of_ratios(rounds[title].processor, rounds[other].processor)


# --- Tables


def _speed_table(scenarios: Sequence[WalkFigures]) -> Table:
    def cell(figures: WalkFigures, title: str) -> str:
        speed = float(f"{items_per_second(figures, title).median:.3g}")
        return f"{speed:,.0f} ({_speed_ratio(figures, title, BARE).median:.2f})"

    rows = [[title, *(cell(each, title) for each in scenarios)] for title in scenarios[0].rounds]
    rows.append(["visits × rounds", *(_size(each) for each in scenarios)])
    return Table("items per second (in brackets: × the bare loop)", _head(scenarios), rows)


def _processor_table(scenarios: Sequence[WalkFigures]) -> Table:
    def cell(figures: WalkFigures, title: str) -> str:
        seconds = Spread.of(figures.rounds[title].processor).median
        ratio = _processor_ratio(figures, title, BARE).median
        return f"{seconds / figures.visits * 1e6:.2f} ({ratio:.2f})"

    rows = [[title, *(cell(each, title) for each in scenarios)] for title in scenarios[0].rounds]
    title = "processor time, µs per item (in brackets: × the bare loop)"
    return Table(title, _head(scenarios), rows)


def _before_table(scenarios: Sequence[WalkFigures]) -> Table:
    rows = [
        (
            scenario_title(each),
            _speed_ratio(each, OURS, BEFORE).shown(),
            _processor_ratio(each, OURS, BEFORE).shown(),
        )
        for each in scenarios
    ]
    head = ("server", "speed", "processor time")
    return Table("default settings, × the version before", head, rows)


def _head(scenarios: Sequence[WalkFigures]) -> list[str]:
    return ["", *(scenario_title(each) for each in scenarios)]


def _size(figures: WalkFigures) -> str:
    return f"{figures.visits:,} × {len(figures.rounds[OURS].wall)}"


# --- Goals


def _goals(figures: WalkFigures, python: str) -> list[Goal]:
    return _latency_goals(figures) if figures.latency else _processor_goals(figures, python)


def _latency_goals(figures: WalkFigures) -> list[Goal]:
    where = scenario_title(figures)
    ratios = [_speed_ratio(figures, OURS, other) for other in (BARE, *PEERS)]
    fold = min(ratios, key=lambda ratio: ratio.median)
    goals = [Goal.at_least(f"{where}: speed, × the fastest sequential contestant", 3.5, fold)]
    if (figures.page_size, figures.latency) == (50, 0.05):
        fold = _speed_ratio(figures, WIDE, SEQUENTIAL)
        share = Spread(*(ratio / IDEAL_FOLD for ratio in attrs.astuple(fold)))
        goals.append(Goal.at_least(f"{where}, prefetch=16: speed, ÷ 16 × prefetch=1", 0.9, share))
    return goals


def _processor_goals(figures: WalkFigures, python: str) -> list[Goal]:
    where = scenario_title(figures)
    goals = [
        Goal.at_least(f"{where}: speed, × {peer}", 3, _speed_ratio(figures, OURS, peer))
        for peer in (HTTPX, OPENAI, DLT)
    ]
    processor = _processor_ratio(figures, OURS, BARE)
    bound = _processor_bound(figures, python)
    goals.append(Goal.at_most(f"{where}: processor time, × the bare loop", bound, processor))
    if figures.page_size == 50:
        speed = _speed_ratio(figures, OURS, BARE)
        goals.append(Goal.at_least(f"{where}: speed, × the bare loop", 1, speed))
    return goals


def _processor_bound(figures: WalkFigures, python: str) -> float:
    if figures.page_size == 50:
        return 1.15
    # Async generators and the garbage collector are slower before 3.13.
    return 1.2 if python in {"3.11", "3.12"} else 1.0
