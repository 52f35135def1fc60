"""CSV and JSON Lines, plain or compressed: UTF-8, a line per row, times as RFC 3339 in UTC."""

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final, Protocol, final

import attrs
import msgspec

from distinct_async import Visit
from distinct_async.export.rows import (
    TOUCHPOINT_COLUMNS,
    VISIT_COLUMNS,
    ExportedTouchpoint,
    Tally,
)

# Well over a filesystem's block, and little beside a page in memory.
_MOST_PENDING: Final = 1024 * 1024

_Row = Sequence[str | int | None]


class Syntax(Protocol):
    """How rows are written as lines."""

    def head(self, columns: Sequence[str]) -> bytes:
        """Return what stands before the first row."""
        ...

    def encode(self, columns: Sequence[str], rows: Iterable[_Row]) -> bytes:
        """Return the lines of rows."""
        ...

    def decode(self, lines: IO[str]) -> Iterable[Mapping[str, Any]]:
        """Return the rows of a file, by column."""
        ...


class Csv:
    """Comma-separated values with a header (RFC 4180, but for the line ends).

    All texts are quoted: an empty one is not null then, and a carriage return in one ends no row.
    """

    def head(self, columns: Sequence[str]) -> bytes:
        """Return the header."""
        return self.encode(columns, [columns])

    def encode(self, columns: Sequence[str], rows: Iterable[_Row]) -> bytes:  # noqa: ARG002
        """Return the lines of rows."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows(rows)
        return text.getvalue().encode()

    def decode(self, lines: IO[str]) -> Iterable[Mapping[str, Any]]:
        """Return the rows of a file, by column."""
        return csv.DictReader(lines, strict=True)


class JsonLines:
    """An object per line."""

    def head(self, columns: Sequence[str]) -> bytes:  # noqa: ARG002 - CSV needs them
        """Return nothing."""
        return b""

    def encode(self, columns: Sequence[str], rows: Iterable[_Row]) -> bytes:
        """Return the lines of rows."""
        objects = [dict(zip(columns, row, strict=True)) for row in rows]
        return msgspec.json.Encoder().encode_lines(objects)

    def decode(self, lines: IO[str]) -> Iterable[Mapping[str, Any]]:
        """Return the rows of a file, by column."""
        return map(json.loads, lines)


SYNTAXES: Final[Mapping[str, Syntax]] = {"csv": Csv(), "jsonl": JsonLines()}


@final
class VisitLines:
    """Visits of one touchpoint as lines, in the columns of `VISIT_COLUMNS`."""

    def __init__(self, syntax: Syntax, touchpoint_id: str, offset: int) -> None:
        self.lines = bytearray()
        self._syntax = syntax
        self._touchpoint_id = touchpoint_id
        self._offset = offset

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return len(self.lines)

    def add(self, visits: Sequence[Visit]) -> None:
        """Append visits."""
        offsets = range(self._offset, self._offset + len(visits))
        times = format_times([visit.timestamp for visit in visits])
        rows = [
            (self._touchpoint_id, visit.user_id, time, offset)
            for visit, time, offset in zip(visits, times, offsets, strict=True)
        ]
        self.lines += self._syntax.encode(VISIT_COLUMNS, rows)
        self._offset += len(visits)


def format_times(moments: Sequence[datetime]) -> list[str]:
    """Return moments in UTC as RFC 3339, all to the microsecond: such texts sort like times."""
    # Several times as fast as `isoformat`, but whole seconds come without a fraction.
    texts = msgspec.json.encode(moments)[2:-2].decode().split('","')
    return [text if "." in text else text[:-1] + ".000000Z" for text in texts if text]


@attrs.frozen
class Text:
    """A format of lines.

    Attributes:
        name: The suffix of its files.
        most_pending: How many bytes to gather before they are written.
    """

    name: str
    _syntax: Syntax
    _compression: str
    most_pending: int = _MOST_PENDING

    def gather(self, touchpoint_id: str, offset: int) -> VisitLines:
        """Begin to gather visits."""
        return VisitLines(self._syntax, touchpoint_id, offset)

    def open(self, path: Path) -> "TextSink":
        """Begin a file of visits."""
        return TextSink(path, self._compression, self._syntax.head(VISIT_COLUMNS))

    def tally(self, path: Path) -> Tally:
        """Count the visits of a file."""
        users: set[str] = set()
        moments: list[datetime] = []
        for row in self._rows(path):
            users.add(row["user_id"])
            moments.append(datetime.fromisoformat(row["timestamp"]))
        return Tally(
            visits=len(moments),
            users=users,
            hours=Counter((moment.weekday(), moment.hour) for moment in moments),
            moments=(min(moments), max(moments)) if moments else (),
        )

    def write_touchpoints(self, path: Path, touchpoints: Iterable[ExportedTouchpoint]) -> None:
        """Write a file of touchpoints."""
        rows = [attrs.astuple(touchpoint) for touchpoint in touchpoints]
        head = self._syntax.head(TOUCHPOINT_COLUMNS)
        lines = head + self._syntax.encode(TOUCHPOINT_COLUMNS, rows)
        TextSink(path, self._compression, lines).close()

    def read_touchpoints(self, path: Path) -> list[ExportedTouchpoint]:
        """Read a file of touchpoints."""
        return [
            ExportedTouchpoint(
                touchpoint_id=row["touchpoint_id"],
                name=row["name"],
                value=row["value"],
                total_visits=_integer(row["total_visits"]),
                unique_visits=_integer(row["unique_visits"]),
            )
            for row in self._rows(path)
        ]

    def _rows(self, path: Path) -> Iterator[Mapping[str, Any]]:
        with ExitStack() as opened:
            binary = _READERS[self._compression](path, opened)
            lines = opened.enter_context(io.TextIOWrapper(binary, "utf-8", newline=""))
            yield from self._syntax.decode(lines)


def make_format(name: str) -> Text:
    """Make the format of this name, one of lines."""
    kind, _, compression = name.partition(".")
    return Text(name, SYNTAXES[kind], compression)


def _integer(value: str | int | None) -> int | None:
    # CSV knows no null, but for an empty field.
    return None if value in {None, ""} else int(value or 0)


class TextSink:
    """A file of lines that is being written."""

    def __init__(self, path: Path, compression: str, head: bytes) -> None:
        self._opened = ExitStack()
        self._file = _WRITERS[compression](path, self._opened)
        self._file.write(head)

    def write(self, gathered: VisitLines) -> None:
        """Write lines."""
        self._file.write(gathered.lines)

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._opened.close()


_Opener = Callable[[Path, ExitStack], Any]


def _write_plain(path: Path, opened: ExitStack) -> IO[bytes]:
    return opened.enter_context(path.open("wb"))


def _write_gzip(path: Path, opened: ExitStack) -> gzip.GzipFile:
    # Without a name and a time, which would be those of the temporary file.
    file = opened.enter_context(path.open("wb"))
    compressed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
    return opened.enter_context(compressed)


def _write_zstd(path: Path, opened: ExitStack) -> Any:
    arrow: Any = import_module("pyarrow")
    file = opened.enter_context(arrow.OSFile(str(path), "wb"))
    return opened.enter_context(arrow.CompressedOutputStream(file, "zstd"))


def _read_plain(path: Path, opened: ExitStack) -> IO[bytes]:
    return opened.enter_context(path.open("rb"))


def _read_gzip(path: Path, opened: ExitStack) -> gzip.GzipFile:
    return opened.enter_context(gzip.open(path, "rb"))


def _read_zstd(path: Path, opened: ExitStack) -> Any:
    arrow: Any = import_module("pyarrow")
    file = opened.enter_context(arrow.OSFile(str(path), "rb"))
    return opened.enter_context(arrow.CompressedInputStream(file, "zstd"))


_WRITERS: Final[Mapping[str, _Opener]] = {"": _write_plain, "gz": _write_gzip, "zst": _write_zstd}
_READERS: Final[Mapping[str, _Opener]] = {"": _read_plain, "gz": _read_gzip, "zst": _read_zstd}
