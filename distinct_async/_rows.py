"""CSV and JSON Lines, as bytes.

Both are UTF-8 with one row per line. Times are RFC 3339 in UTC.
"""

import csv
import io
import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import IO, Any, Final, Protocol, TypeAlias, TypeVar, final

import msgspec

from distinct_async.models import TouchpointSummary, Visit

T = TypeVar("T")

VISIT_COLUMNS: Final = ("touchpoint_id", "user_id", "timestamp", "offset")
TOUCHPOINT_COLUMNS: Final = ("touchpoint_id", "name", "value", "total_visits", "unique_visits")

Row: TypeAlias = Sequence[str | int | None]
"""The cells of one row, in the order of its columns."""


class Syntax(Protocol):
    """Converts rows to lines and back."""

    def head(self, columns: Sequence[str]) -> bytes:
        """Return the bytes before the first row."""
        ...

    def encode(self, columns: Sequence[str], rows: Iterable[Row]) -> bytes:
        """Return one line per row."""
        ...

    def decode(self, lines: IO[str]) -> Iterable[Mapping[str, Any]]:
        """Yield each row of a file as a mapping from column to cell."""
        ...

    def find(self, lines: IO[str], index: int) -> Mapping[str, Any] | None:
        """Decode one row of a file; a negative index counts from the end. None if missing."""
        ...

    def last(self, lines: IO[str], count: int) -> list[Mapping[str, Any]]:
        """Decode the last rows of a file, at most `count`."""
        ...


@final
class Csv:
    """Comma-separated values with a header (RFC 4180, but lines end in LF).

    Strings are always quoted, which tells an empty one from null and protects carriage returns.
    """

    def head(self, columns: Sequence[str]) -> bytes:
        """Return the header line."""
        return self.encode(columns, [columns])

    def encode(self, columns: Sequence[str], rows: Iterable[Row]) -> bytes:  # noqa: ARG002
        """Return one line per row."""
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows(rows)
        return lines.getvalue().encode()

    def decode(self, lines: IO[str]) -> Iterable[Mapping[str, Any]]:
        """Yield each row of a file as a mapping from column to cell; every cell is a string."""
        return csv.DictReader(lines, strict=True)

    def find(self, lines: IO[str], index: int) -> Mapping[str, Any] | None:
        """Decode one row of a file; a negative index counts from the end. None if missing."""
        rows = csv.reader(lines, strict=True)
        columns = next(rows, list[str]())
        row = _pick(rows, index)
        return None if row is None else dict(zip(columns, row, strict=True))

    def last(self, lines: IO[str], count: int) -> list[Mapping[str, Any]]:
        """Decode the last rows of a file, at most `count`."""
        rows = csv.reader(lines, strict=True)
        columns = next(rows, list[str]())
        return [dict(zip(columns, row, strict=True)) for row in deque(rows, count)]


@final
class JsonLines:
    """One JSON object per line."""

    def head(self, columns: Sequence[str]) -> bytes:  # noqa: ARG002 - only CSV has a header
        """Return nothing."""
        return b""

    def encode(self, columns: Sequence[str], rows: Iterable[Row]) -> bytes:
        """Return one line per row."""
        objects = [dict(zip(columns, row, strict=True)) for row in rows]
        return msgspec.json.Encoder().encode_lines(objects)

    def decode(self, lines: IO[str]) -> Iterable[Mapping[str, Any]]:
        """Yield each row of a file as a mapping from column to cell."""
        return map(json.loads, lines)

    def find(self, lines: IO[str], index: int) -> Mapping[str, Any] | None:
        """Decode one row of a file; a negative index counts from the end. None if missing."""
        line = _pick(lines, index)
        return None if line is None else json.loads(line)

    def last(self, lines: IO[str], count: int) -> list[Mapping[str, Any]]:
        """Decode the last rows of a file, at most `count`."""
        return [*map(json.loads, deque(lines, count))]


def _pick(items: Iterable[T], index: int) -> T | None:
    if index >= 0:
        return next(islice(items, index, None), None)
    last = deque(items, -index)
    return last[0] if len(last) == -index else None


SYNTAXES: Final[Mapping[str, Syntax]] = {"csv": Csv(), "jsonl": JsonLines()}


def format_times(moments: Sequence[datetime]) -> list[str]:
    """Format UTC times as RFC 3339, always with microseconds so that they sort as strings."""
    # Several times as fast as `isoformat`, but msgspec omits a fraction of zero.
    texts = msgspec.json.encode(moments)[2:-2].decode().split('","')
    return [text if "." in text else text[:-1] + ".000000Z" for text in texts if text]


def encode_visits(
    syntax: Syntax, touchpoint_id: str, offset: int, visits: Sequence[Visit]
) -> bytes:
    """Return consecutive visits of a touchpoint as lines with the columns `VISIT_COLUMNS`.

    Args:
        syntax: One of `SYNTAXES`.
        touchpoint_id: The touchpoint's id.
        offset: The offset of the first visit.
        visits: The visits.
    """
    times = format_times([visit.timestamp for visit in visits])
    rows = [
        (touchpoint_id, visit.user_id, time, index)
        for index, (visit, time) in enumerate(zip(visits, times, strict=True), offset)
    ]
    return syntax.encode(VISIT_COLUMNS, rows)


def touchpoint_row(summary: TouchpointSummary) -> Row:
    """Return a listed touchpoint as a row with the columns `TOUCHPOINT_COLUMNS`."""
    return (
        summary.id,
        summary.name,
        summary.value,
        summary.total_visits,
        summary.unique_visits,
    )
