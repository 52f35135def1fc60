"""What the measurements share: spreads, goals, tables, and the files that keep their results."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import cattrs

RESULTS = Path(__file__).parent / "results"


@attrs.frozen
class Spread:
    """What the rounds gave.

    Attributes:
        median: The one in the middle.
        low: The 10th percentile.
        high: The 90th percentile.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of the values of all rounds."""
        rounds = list(values)
        median = statistics.median(rounds)
        # Doubled, as percentiles of a single value would be an error.
        low, *_, high = statistics.quantiles(rounds * 2, n=10, method="inclusive")
        # Between equal values, what is interpolated is off by a rounding error.
        return cls(median, min(low, median), max(high, median))

    @classmethod
    def of_ratios(cls, values: Iterable[float], bases: Iterable[float]) -> "Spread":
        """Return the spread of one thing's values over another's, each ratio within a round."""
        return cls.of(value / base for value, base in zip(values, bases, strict=True))

    def shown(self, digits: int = 2) -> str:
        """Return the median, and from where to where most rounds went."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


@attrs.frozen
class Goal:
    """A figure beside what it should be.

    Attributes:
        figure: What was measured.
        bound: What it should be at least, or at most.
        at_most: Which of the two.
        measured: What it is.
    """

    figure: str
    bound: float
    measured: Spread
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """Whether the median is as it should be."""
        median = self.measured.median
        return median <= self.bound if self.at_most else median >= self.bound

    @property
    def row(self) -> tuple[str, ...]:
        """Cells of a table."""
        sign, verdict = "≤" if self.at_most else "≥", "yes" if self.reached else "**no**"
        return (self.figure, f"{sign} {self.bound:g}", self.measured.shown(), verdict)


@attrs.frozen
class Table:
    """A table, as it is printed and as the report shows it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def markdown(self) -> str:
        """The table in Markdown, below its title."""
        return f"{self.title}\n\n{self.grid}"

    @property
    def grid(self) -> str:
        """The table in Markdown, without its title."""
        lines = [self.head, tuple("---" for _ in self.head), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def goal_table(goals: Sequence[Goal]) -> Table:
    """Return a table of goals."""
    head = ("figure", "goal", "measured: median (10th to 90th percentile)", "reached")
    return Table("Goals", head, tuple(goal.row for goal in goals))


@attrs.frozen(kw_only=True)
class Record:
    """All that a measurement leaves behind.

    Attributes:
        name: Of the measurement.
        command: What was run.
        ended: When it ended, UTC.
        machine: What it ran on.
        versions: Of what it ran.
        tables: What it found.
        goals: What that means.
        raw: Every figure of every round, for plots.
    """

    name: str
    command: str
    ended: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    tables: tuple[Table, ...]
    goals: tuple[Goal, ...]
    raw: Any

    @classmethod
    def read(cls, name: str, folder: Path = RESULTS) -> "Record":
        """Return what the last run of a measurement left."""
        return cattrs.structure(json.loads((folder / f"{name}.json").read_text()), cls)

    def write(self, folder: Path) -> None:
        """Keep it for the report."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(cattrs.unstructure(self), indent=1, ensure_ascii=False)
        (folder / f"{self.name}.json").write_text(f"{text}\n")


def conclude(
    name: str,
    *,
    tables: Sequence[Table],
    goals: Sequence[Goal],
    raw: Any,
    packages: Iterable[str],
    folder: Path,
) -> bool:
    """Print the tables and write the record; return whether every goal is reached."""
    tables = [*tables, goal_table(goals)] if goals else list(tables)
    for table in tables:
        print(f"\n{table.markdown}")
    Record(
        name=name,
        command=" ".join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        ended=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        machine=machine(),
        versions={package: version(package) for package in sorted({*packages, "distinct-async"})},
        tables=tuple(tables),
        goals=tuple(goals),
        raw=raw,
    ).write(folder)
    return all(goal.reached for goal in goals)


def machine() -> dict[str, str]:
    """Describe what this runs on."""
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processors": f"{os.cpu_count()} × {_processor_model()}",
    }


def _processor_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, "unknown")
