"""Reading visits back from a touchpoint's parts. Blocks on the disk, so call it from a thread."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import final

import attrs

from distinct_async import ExportError, Visit
from distinct_async.export.dataset import Part
from distinct_async.export.files import as_export_error
from distinct_async.export.formats import Format
from distinct_async.export.models import StoredVisit


@final
@attrs.frozen
class StoredVisits:
    """The visits that earlier runs have stored.

    Attributes:
        parts: Their parts, by offset.
        file_format: The format of the parts.
    """

    parts: Sequence[Part]
    file_format: Format

    @property
    def count(self) -> int:
        """Number of visits, according to the names of the parts."""
        return sum(part.count for part in self.parts)

    def last(self, count: int) -> tuple[Visit, ...]:
        """Read the last visits, at most `count`.

        Raises:
            ExportError: A part cannot be read, or does not end as its name says.
        """
        visits: tuple[Visit, ...] = ()
        for part in reversed(self.parts):
            visits = (*self._last_of(part, count - len(visits)), *visits)
            if len(visits) == count:
                break
        return visits

    def _last_of(self, part: Part, count: int) -> list[Visit]:
        with as_export_error(part.path):
            rows = self.file_format.read_last(part.path, count)
        end = part.offset + part.count
        first = end - len(rows)
        if not rows or [row.offset for row in rows] != [*range(first, end)]:
            raise self._unexpected(part, end - 1, rows[-1] if rows else None)
        # The last row group of a Parquet file may have a single row.
        earlier = range(max(part.offset, end - count), first)
        before = [self._read(part, offset - part.offset, offset) for offset in earlier]
        return [*before, *(row.visit for row in rows)]

    def at(self, offset: int) -> Visit:
        """Read the visit at an offset, which must be less than `count`.

        Raises:
            ExportError: Its part cannot be read, or has another visit in its place.
        """
        part = self.parts[bisect_right(self.parts, offset, key=lambda part: part.offset) - 1]
        return self._read(part, offset - part.offset, offset)

    def _read(self, part: Part, index: int, offset: int) -> Visit:
        with as_export_error(part.path):
            row = self.file_format.read_visit(part.path, index)
        if row is None or row.offset != offset:
            raise self._unexpected(part, offset, row)
        return row.visit

    @staticmethod
    def _unexpected(part: Part, offset: int, row: StoredVisit | None) -> ExportError:
        found = "nothing" if row is None else f"that of offset {row.offset:,}"
        return ExportError(
            f"expected the visit of offset {offset:,}, found {found}; delete this part and all"
            " parts after it, then export again",
            str(part.path),
        )
