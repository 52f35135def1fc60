"""Data on stdout: tables for people, JSON Lines and CSV for programs."""

import json
import sys
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Final, Literal, TypeAlias

from rich.table import Table
from rich.text import Text

from distinct_async import UserMetrics, VisitPage
from distinct_async._rows import SYNTAXES, VISIT_COLUMNS, Row, encode_visits, format_times
from distinct_async.cli.process import StdoutConsole

OutputFormat: TypeAlias = Literal["table", "jsonl", "csv"]

SCAN_COLUMNS: Final = ("touchpoint_id", "name", "value", "timestamp")

# Wide enough that rich does not wrap the lines of a table in a file or a pipe.
_PIPE_WIDTH: Final = 10_000


def choose_format(requested: OutputFormat | None) -> OutputFormat:
    """Return the requested format; by default a table on a terminal and JSON Lines otherwise."""
    return requested or ("table" if sys.stdout.isatty() else "jsonl")


def escape_controls(text: str) -> str:
    """Escape the characters of foreign text that could control the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def write_rows(output_format: OutputFormat, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows, all at once."""
    if output_format == "table":
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        StdoutConsole(width=width, highlight=False).print(_table(columns, rows))
        return
    syntax = SYNTAXES[output_format]
    _write_lines(output_format, syntax.head(columns) + syntax.encode(columns, rows))


async def write_pages(output_format: OutputFormat, pages: AsyncIterable[VisitPage]) -> None:
    """Write each page of visits as it arrives."""
    if output_format == "table":
        print(f"{'offset':>12}  {'timestamp (UTC)':<26}  user_id")
        async for page in pages:
            _print_visits(page)
        return
    syntax = SYNTAXES[output_format]
    _write_lines(output_format, syntax.head(VISIT_COLUMNS))
    async for page in pages:
        lines = encode_visits(syntax, page.touchpoint.id, page.offset, page.items)
        _write_lines(output_format, lines)


def scan_rows(metrics: UserMetrics) -> list[Row]:
    """Return one row with the columns `SCAN_COLUMNS` per scan of a user."""
    return [
        (touchpoint.id, touchpoint.name, touchpoint.value, time)
        for touchpoint in metrics.touchpoints
        for time in format_times(touchpoint.timestamps)
    ]


def _write_lines(output_format: OutputFormat, lines: bytes) -> None:
    """Write lines as they are, or, to a terminal, with control characters escaped."""
    if sys.stdout.isatty():
        escape = _escape_json if output_format == "jsonl" else escape_controls
        lines = "\n".join(map(escape, lines.decode().split("\n"))).encode()
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()


def _escape_json(text: str) -> str:
    """Escape control characters as JSON does, so that the text still is JSON."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _print_visits(page: VisitPage) -> None:
    times = format_times([visit.timestamp for visit in page.items])
    for offset, (visit, time) in enumerate(zip(page.items, times, strict=True), page.offset):
        shown_time = time.removesuffix("Z").replace("T", " ")
        print(f"{offset:>12}  {shown_time}  {escape_controls(visit.user_id)}")
    sys.stdout.flush()


def _table(columns: Sequence[str], rows: Iterable[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_count = column.endswith("_visits")
        table.add_column(column, justify="right" if is_count else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> Text:
    return Text(f"{value:,}" if isinstance(value, int) else escape_controls(str(value)))
