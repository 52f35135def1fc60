"""The part of the report on `benchmarks.faults` about lists that change while they are walked."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.records import FaultFigures
from benchmarks.reporting.values import Goal

Counts = Mapping[str, Any]

_FAILURES = "lost", "repeated", "out_of_order", "foreign", "lost_places"
_CHANGES = "while 1% are inserted, 1% deleted and 5% appended"
_KEPT = "0 lost of those that stayed, 0 repeated, 0 out of order, 0 foreign, 0 lost places"
_ACCOUNTED = "`page.shift` accounts for each"


def living(figures: FaultFigures) -> list[Goal]:
    """Report on living lists; older records have none."""
    if not figures.living:
        return []
    return [
        _kept(figures),
        _appended(figures.living),
        _shifted(figures.living),
        _overtaken(figures.experiments["overtaking"]),
    ]


def _kept(figures: FaultFigures) -> Goal:
    walks = figures.living
    changed = ", ".join(
        f"{_total(walks, name):,} {name}" for name in ("inserted", "deleted", "appended")
    )
    return Goal(
        f"{figures.visits:,} visits {_CHANGES}, {figures.rate:.0%} faults, `attempts=10`, "
        f"seeds: {len(walks)}",
        _KEPT,
        f"{_failures(walks)}, {_total(walks, 'delivered'):,} delivered; {changed}; gave up and "
        f"resumed {_total(walks, 'gave_up'):,} times",
        reached=all(map(_is_kept, walks)),
    )


def _appended(walks: Sequence[Counts]) -> Goal:
    missed, appended = _total(walks, "missed_appends"), _total(walks, "appended")
    return Goal(
        "visits appended before those walks read their last page",
        "0 missed",
        f"{missed} of {appended:,}",
        reached=missed == 0 < appended,
    )


def _shifted(walks: Sequence[Counts]) -> Goal:
    return Goal(
        "visits inserted and deleted where those walks had passed",
        _ACCOUNTED,
        _shifts(walks),
        reached=all(map(_is_accounted, walks)),
    )


def _overtaken(walk: Counts) -> Goal:
    kept = _is_kept(walk) and walk["missed_appends"] == 0
    return Goal(
        f"{walk['visits']:,} visits {_CHANGES}, and answers overtake each other",
        f"{_KEPT}; 0 missed; {_ACCOUNTED}",
        f"{_failures([walk])}, {walk['delivered']:,} delivered; {walk['missed_appends']} missed; "
        f"{_shifts([walk])}",
        reached=kept and _is_accounted(walk),
    )


def _total(walks: Sequence[Counts], name: str) -> int:
    return sum(walk[name] for walk in walks)


def _failures(walks: Sequence[Counts]) -> str:
    return ", ".join(f"{_total(walks, name)} {name.replace('_', ' ')}" for name in _FAILURES)


def _is_kept(walk: Counts) -> bool:
    return all(walk[name] == 0 for name in _FAILURES) and walk["delivered"] > 0


def _shifts(walks: Sequence[Counts]) -> str:
    unseen, gone, shift = (_total(walks, name) for name in ("unseen", "gone", "shift"))
    return f"{unseen:,} inserted, {gone:,} deleted, sum of shifts {shift:+,}"


def _is_accounted(walk: Counts) -> bool:
    unseen, gone, shift = (int(walk[name]) for name in ("unseen", "gone", "shift"))
    return shift == unseen - gone and unseen > 0 < gone
