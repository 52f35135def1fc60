"""The interface of a file format."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from distinct_async import Visit
from distinct_async.export.models import ExportedTouchpoint, StoredVisit, Tally


class VisitBuffer(Protocol):
    """Consecutive visits of one touchpoint that wait in memory to be written."""

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        ...

    def extend(self, visits: Sequence[Visit]) -> None:
        """Append visits. Does no I/O."""
        ...


class VisitWriter(Protocol):
    """An open file of visits."""

    def write(self, buffer: Any) -> None:
        """Write a buffer of the same format."""
        ...

    def close(self) -> None:
        """Flush and close the file."""
        ...


class Format(Protocol):
    """A file format."""

    @property
    def name(self) -> str:
        """The suffix of its files."""
        ...

    @property
    def flush_threshold(self) -> int:
        """The size of a buffer, in bytes, from which it should be written."""
        ...

    def new_buffer(self, touchpoint_id: str, offset: int) -> VisitBuffer:
        """Create a buffer whose first visit will have this offset."""
        ...

    def open_writer(self, path: Path) -> VisitWriter:
        """Create a file of visits."""
        ...

    def read_visit(self, path: Path, index: int) -> StoredVisit | None:
        """Read one row of a file of visits; a negative index counts from the end.

        Returns None if the file has too few rows.
        """
        ...

    def read_last(self, path: Path, count: int) -> list[StoredVisit]:
        """Read the last rows of a file of visits, at least one and at most `count`.

        Returns an empty list if the file has no rows.
        """
        ...

    def tally(self, path: Path) -> Tally:
        """Count the visits in a file."""
        ...

    def write_touchpoints(self, path: Path, touchpoints: Iterable[ExportedTouchpoint]) -> None:
        """Write a file of touchpoints."""
        ...

    def read_touchpoints(self, path: Path) -> list[ExportedTouchpoint]:
        """Read a file of touchpoints."""
        ...
