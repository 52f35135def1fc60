"""CSV and JSON Lines files, plain or compressed."""

import gzip
import io
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final, TypeAlias, final

import attrs

from distinct_async import Visit
from distinct_async._rows import (
    SYNTAXES,
    TOUCHPOINT_COLUMNS,
    VISIT_COLUMNS,
    Syntax,
    encode_visits,
)
from distinct_async.export.models import ExportedTouchpoint, StoredVisit, Tally

# Many filesystem blocks, yet small next to a page in memory.
_FLUSH_THRESHOLD: Final = 1024 * 1024


@final
class TextBuffer:
    """Encoded lines of consecutive visits of one touchpoint.

    Args:
        syntax: The syntax of the lines.
        touchpoint_id: The touchpoint's id.
        offset: The offset of the first visit.

    Attributes:
        lines: The lines.
    """

    def __init__(self, syntax: Syntax, touchpoint_id: str, offset: int) -> None:
        self.lines = bytearray()
        self._syntax = syntax
        self._touchpoint_id = touchpoint_id
        self._next_offset = offset

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        return len(self.lines)

    def extend(self, visits: Sequence[Visit]) -> None:
        """Append visits."""
        self.lines += encode_visits(self._syntax, self._touchpoint_id, self._next_offset, visits)
        self._next_offset += len(visits)


@final
class TextWriter:
    """An open file of lines.

    Args:
        path: The file to create.
        compression: A key of `_WRITERS`.
        head: The first bytes to write.
    """

    def __init__(self, path: Path, compression: str, head: bytes) -> None:
        self._resources = ExitStack()
        self._file = _WRITERS[compression](path, self._resources)
        self._file.write(head)

    def write(self, buffer: TextBuffer) -> None:
        """Write the lines of a buffer."""
        self._file.write(buffer.lines)

    def close(self) -> None:
        """Flush and close the file."""
        self._resources.close()


@final
@attrs.frozen
class TextFormat:
    """A format of lines.

    Attributes:
        name: The suffix of its files.
        flush_threshold: The size of a buffer, in bytes, from which it should be written.
    """

    name: str
    _syntax: Syntax
    _compression: str
    flush_threshold: int = _FLUSH_THRESHOLD

    def new_buffer(self, touchpoint_id: str, offset: int) -> TextBuffer:
        """Create a buffer whose first visit will have this offset."""
        return TextBuffer(self._syntax, touchpoint_id, offset)

    def open_writer(self, path: Path) -> TextWriter:
        """Create a file of visits."""
        return TextWriter(path, self._compression, self._syntax.head(VISIT_COLUMNS))

    def read_visit(self, path: Path, index: int) -> StoredVisit | None:
        """Read one row of a file of visits; a negative index counts from the end."""
        with self._open_lines(path) as lines:
            row = self._syntax.find(lines, index)
        return None if row is None else _stored_visit(row)

    def read_last(self, path: Path, count: int) -> list[StoredVisit]:
        """Read the last rows of a file of visits."""
        with self._open_lines(path) as lines:
            return [*map(_stored_visit, self._syntax.last(lines, count))]

    def tally(self, path: Path) -> Tally:
        """Count the visits in a file."""
        users: set[str] = set()
        moments: list[datetime] = []
        for row in self._read_rows(path):
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
        rows = [
            [getattr(touchpoint, column) for column in TOUCHPOINT_COLUMNS]
            for touchpoint in touchpoints
        ]
        head = self._syntax.head(TOUCHPOINT_COLUMNS)
        lines = head + self._syntax.encode(TOUCHPOINT_COLUMNS, rows)
        TextWriter(path, self._compression, lines).close()

    def read_touchpoints(self, path: Path) -> list[ExportedTouchpoint]:
        """Read a file of touchpoints."""
        return [
            ExportedTouchpoint(
                touchpoint_id=row["touchpoint_id"],
                name=row["name"],
                value=row["value"],
                total_visits=_parse_count(row["total_visits"]),
                unique_visits=_parse_count(row["unique_visits"]),
            )
            for row in self._read_rows(path)
        ]

    def _read_rows(self, path: Path) -> Iterator[Mapping[str, Any]]:
        with self._open_lines(path) as lines:
            yield from self._syntax.decode(lines)

    @contextmanager
    def _open_lines(self, path: Path) -> Generator[IO[str]]:
        with ExitStack() as resources:
            binary = _READERS[self._compression](path, resources)
            yield resources.enter_context(io.TextIOWrapper(binary, "utf-8", newline=""))


def create_format(name: str) -> TextFormat:
    """Create the text format with this name, such as ``csv`` or ``jsonl.gz``."""
    kind, _, compression = name.partition(".")
    return TextFormat(name, SYNTAXES[kind], compression)


def _stored_visit(row: Mapping[str, Any]) -> StoredVisit:
    moment = datetime.fromisoformat(row["timestamp"])
    return StoredVisit(int(row["offset"]), Visit(row["user_id"], moment))


def _parse_count(cell: str | int | None) -> int | None:
    # An empty CSV field stands for null.
    return None if cell is None or cell == "" else int(cell)


_Opener: TypeAlias = Callable[[Path, ExitStack], Any]


def _write_plain(path: Path, resources: ExitStack) -> IO[bytes]:
    return resources.enter_context(path.open("wb"))


def _write_gzip(path: Path, resources: ExitStack) -> gzip.GzipFile:
    # By default, gzip stores the temporary file's name and time, so equal data would differ.
    file = resources.enter_context(path.open("wb"))
    compressed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
    return resources.enter_context(compressed)


def _write_zstd(path: Path, resources: ExitStack) -> Any:
    arrow: Any = import_module("pyarrow")
    file = resources.enter_context(arrow.OSFile(str(path), "wb"))
    return resources.enter_context(arrow.CompressedOutputStream(file, "zstd"))


def _read_plain(path: Path, resources: ExitStack) -> IO[bytes]:
    return resources.enter_context(path.open("rb"))


def _read_gzip(path: Path, resources: ExitStack) -> gzip.GzipFile:
    return resources.enter_context(gzip.open(path, "rb"))


def _read_zstd(path: Path, resources: ExitStack) -> Any:
    arrow: Any = import_module("pyarrow")
    file = resources.enter_context(arrow.OSFile(str(path), "rb"))
    return resources.enter_context(arrow.CompressedInputStream(file, "zstd"))


_WRITERS: Final[Mapping[str, _Opener]] = {"": _write_plain, "gz": _write_gzip, "zst": _write_zstd}
_READERS: Final[Mapping[str, _Opener]] = {"": _read_plain, "gz": _read_gzip, "zst": _read_zstd}
