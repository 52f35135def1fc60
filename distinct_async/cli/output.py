"""Data on stdout: tables for people, JSON Lines and CSV for programs."""

import sys
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Any, Literal

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distinct_async import TouchpointSummary, UserMetrics, VisitPage
from distinct_async.export.rows import VISIT_COLUMNS, ExportedTouchpoint
from distinct_async.export.text import SYNTAXES, VisitLines, format_times

Form = Literal["table", "jsonl", "csv"]

SCAN_COLUMNS = ("touchpoint_id", "name", "value", "timestamp")

# Where nobody looks, no line is folded.
_PIPE_WIDTH = 10_000


def choose_form(form: Form | None) -> Form:
    """Return the form that was asked for; else what suits a terminal, or a pipe."""
    return form or ("table" if sys.stdout.isatty() else "jsonl")


def make_console() -> Console:
    """Make the console for data."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def printable(text: str) -> str:
    """Return a text that comes from elsewhere without what would steer the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def write_rows(form: Form, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows, all at once."""
    if form == "table":
        make_console().print(_table(columns, rows))
        return
    syntax = SYNTAXES[form]
    write_lines(syntax.head(columns) + syntax.encode(columns, rows))


def write_lines(lines: bytes | bytearray) -> None:
    """Write bytes, so that whoever reads has them at once."""
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()


async def write_pages(form: Form, pages: AsyncIterable[VisitPage]) -> None:
    """Write visits as they come."""
    if form == "table":
        print(f"{'offset':>12}  {'timestamp (UTC)':<26}  user_id")
    else:
        write_lines(SYNTAXES[form].head(VISIT_COLUMNS))
    async for page in pages:
        if form == "table":
            _print_visits(page)
            continue
        lines = VisitLines(SYNTAXES[form], page.touchpoint.id, page.offset)
        lines.add(page.items)
        write_lines(lines.lines)


def touchpoint_rows(touchpoints: Iterable[TouchpointSummary]) -> list[tuple[Any, ...]]:
    """Return the rows of an experience's touchpoints, in the columns of `TOUCHPOINT_COLUMNS`."""
    return [attrs.astuple(ExportedTouchpoint.of(touchpoint)) for touchpoint in touchpoints]


def scan_rows(metrics: UserMetrics) -> list[tuple[str, ...]]:
    """Return a row for every scan of a user."""
    return [
        (touchpoint.id, touchpoint.name, touchpoint.value, moment)
        for touchpoint in metrics.touchpoints
        for moment in format_times(touchpoint.timestamps)
    ]


def _print_visits(page: VisitPage) -> None:
    moments = format_times([visit.timestamp for visit in page.items])
    for offset, (visit, moment) in enumerate(zip(page.items, moments, strict=True), page.offset):
        print(f"{offset:>12}  {moment[:-1].replace('T', ' ')}  {printable(visit.user_id)}")
    sys.stdout.flush()


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numeric = column.endswith("_visits")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: object) -> Text:
    return Text(f"{value:,}" if isinstance(value, int) else printable(str(value)))
