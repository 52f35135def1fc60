"""Spreads, goals and tables."""

import statistics
from collections.abc import Iterable, Sequence

import attrs


@attrs.frozen
class Spread:
    """The values of all rounds: the median, the 10th and the 90th percentile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of the values."""
        rounds = list(values)
        median = statistics.median(rounds)
        # Doubled, because `quantiles` refuses a single value.
        low, *_, high = statistics.quantiles(rounds * 2, n=10, method="inclusive")
        # Interpolating between equal values rounds away from the median.
        return cls(median, min(low, median), max(high, median))

    @classmethod
    def of_ratios(cls, values: Iterable[float], bases: Iterable[float]) -> "Spread":
        """Return the spread of ratios, each taken within a round."""
        return cls.of(value / base for value, base in zip(values, bases, strict=True))

    def shown(self, digits: int = 2) -> str:
        """Return the median and, in brackets, the percentiles, if they differ."""
        median, low, high = (f"{each:,.{digits}f}" for each in attrs.astuple(self))
        return median if low == high else f"{median} ({low}–{high})"


@attrs.frozen
class Goal:
    """A figure and its goal, as texts.

    Attributes:
        figure: The name of the figure.
        bound: The goal.
        measured: The measured value.
        reached: Whether the goal is reached.
    """

    figure: str
    bound: str
    measured: str
    reached: bool

    @classmethod
    def at_least(cls, figure: str, bound: float, measured: Spread) -> "Goal":
        """Return a goal that is reached if the median is large enough."""
        return cls(figure, f"≥ {bound:g}", measured.shown(), measured.median >= bound)

    @classmethod
    def at_most(cls, figure: str, bound: float, measured: Spread) -> "Goal":
        """Return a goal that is reached if the median is small enough."""
        return cls(figure, f"≤ {bound:g}", measured.shown(), measured.median <= bound)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@attrs.frozen
class Table:
    """A table and the line above it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def markdown(self) -> str:
        """The title and the table in Markdown."""
        return f"{self.title}\n\n{markdown_table(self.head, self.rows)}"


@attrs.frozen
class Section:
    """The report on one record."""

    tables: Sequence[Table]
    goals: Sequence[Goal]
