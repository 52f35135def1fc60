"""Choose the report for a record."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.records import Record
from benchmarks.reporting import costs, jobs, limiting, survival, walking
from benchmarks.reporting.values import Section

_SECTIONS: Mapping[str, Callable[[Any], Section]] = {
    "memory": costs.memory,
    "decode": costs.decode,
    "overhead": costs.overhead,
    "fanout": jobs.fanout,
    "export": jobs.export,
    "faults": survival.faults,
    "limits": limiting.limits,
}


def section_of(record: Record) -> Section:
    """Return the tables and goals of a record."""
    if record.name == "walk":
        return walking.walk(record.figures, record.minor)
    return _SECTIONS[record.name](record.figures)
