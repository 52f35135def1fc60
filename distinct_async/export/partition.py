"""Appending visits to one touchpoint's parts.

Everything here but `add` and `reject` blocks on the disk, so call it from a thread.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, final

from distinct_async import ExportError, Visit
from distinct_async.export.dataset import find_parts, part_name
from distinct_async.export.files import FolderLock, Folders, as_export_error, publish
from distinct_async.export.formats import Format, VisitWriter
from distinct_async.export.stored import StoredVisits

# Stored visits that prove where the next run continues. One is enough, unless visits are identical.
_PROOF: Final = 8


@final
class Partition:
    """One touchpoint's parts: the finished ones on disk, and the open one.

    Args:
        folder: The folder of the parts.
        touchpoint_id: The touchpoint's id.
        file_format: The format of the parts.
        rows_per_part: Largest number of visits in a part.

    Attributes:
        stored: The visits that earlier runs have stored.
        last: The last of them, at most eight.
        rows: Number of visits in all parts.
        rows_added: Number of visits added by this object, rejected ones included.
        rows_rejected: Number of visits discarded by `reject`.
        parts_written: Number of parts finished by this object.
    """

    def __init__(
        self, folder: Path, touchpoint_id: str, file_format: Format, rows_per_part: int
    ) -> None:
        self.stored = StoredVisits((), file_format)
        self.last: tuple[Visit, ...] = ()
        self.rows = 0
        self.rows_added = 0
        self.rows_rejected = 0
        self.parts_written = 0
        self._folder = folder
        self._folders = Folders(folder)
        self._touchpoint_id = touchpoint_id
        self._format = file_format
        self._rows_per_part = rows_per_part
        self._lock: FolderLock | None = None
        self._part: _OpenPart | None = None
        self._rejected: _OpenPart | None = None

    def open(self) -> None:
        """Lock the folder, if it exists, count the visits in it and read the last ones.

        Raises:
            ExportError: The parts do not add up or have another format, the last one cannot be
                read or does not end as its name says, or another export is writing them.
        """
        with as_export_error(self._folder):
            if self._folder.is_dir():
                self._lock_and_read()

    def _lock_and_read(self) -> None:
        self._lock = FolderLock(self._folder)
        # Left by a crashed export; we hold the lock, so deleting is safe.
        for temporary in self._folder.glob(".visits-*.tmp"):
            temporary.unlink()
        parts = find_parts(self._folder)
        others = {part.suffix for part in parts} - {self._format.name}
        if others:
            raise ExportError(
                f"this folder has {' and '.join(sorted(others))} parts; use that format, or export"
                f" {self._format.name} to another folder",
                str(self._folder),
            )
        self.stored = StoredVisits(parts, self._format)
        self.last, self.rows = self.stored.last(_PROOF), self.stored.count

    @property
    def room(self) -> int:
        """Largest number of visits that `add` accepts now."""
        return self._rows_per_part - (0 if self._part is None else self._part.rows)

    @property
    def needs_flush(self) -> bool:
        """Whether `flush` should be called now."""
        return self._part is not None and (self._part.needs_flush or self.room == 0)

    def add(self, visits: Sequence[Visit]) -> None:
        """Append at most `room` visits to the open part. Does no I/O.

        Raises:
            ExportError: The format cannot represent them; the open part is discarded.
        """
        if self._part is None:
            self._part = _OpenPart(self._folder, self._touchpoint_id, self.rows, self._format)
        with self._discard_on_error(self._part), as_export_error(self._folder):
            self._part.add(visits)
        self.rows += len(visits)
        self.rows_added += len(visits)

    def flush(self) -> None:
        """Write the buffered visits, and finish the open part if it is full.

        Raises:
            ExportError: Writing failed; the open part is discarded.
        """
        self._flush(finish=self.room == 0)

    def reject(self) -> None:
        """Discard the visits that no finished part has. Does no I/O.

        Add nothing afterwards. `close` deletes what was already written of them.
        """
        part, self._part = self._part, None
        if part is not None:
            self._rejected = part
            self.rows -= part.rows
            self.rows_rejected = part.rows

    def close(self) -> None:
        """Finish the open part and release the folder, or remove it if it is new and empty.

        Raises:
            ExportError: Writing failed; the open part is discarded.
        """
        try:
            self._flush(finish=True)
        finally:
            if self._rejected is not None:
                self._rejected.discard()
            self._folders.remove_empty()
            if self._lock is not None:
                self._lock.release()

    def _flush(self, *, finish: bool) -> None:
        part = self._part
        if part is None:
            return
        with self._discard_on_error(part), as_export_error(self._folder):
            self._ensure_locked()
            part.flush()
            if finish:
                part.finish()
        if finish:
            self._part = None
            self.parts_written += 1

    @contextmanager
    def _discard_on_error(self, part: "_OpenPart") -> Generator[None]:
        """Discard the open part if any step on it fails."""
        try:
            yield
        except ExportError:
            self._part = None
            part.discard()
            raise

    def _ensure_locked(self) -> None:
        if self._lock is not None:
            return
        self._folders.create()
        self._folders.sync()
        self._lock = FolderLock(self._folder)
        if any(self._folder.iterdir()):
            raise ExportError("another export wrote here in the meantime", str(self._folder))


@final
class _OpenPart:
    """A part that is being written under its temporary name."""

    def __init__(self, folder: Path, touchpoint_id: str, offset: int, file_format: Format) -> None:
        self.rows = 0
        self._folder = folder
        self._touchpoint_id = touchpoint_id
        self._offset = offset
        self._format = file_format
        self._temporary = folder / f".visits-{offset:012}.{file_format.name}.tmp"
        self._rows_written = 0
        self._buffer = file_format.new_buffer(touchpoint_id, offset)
        self._owns_temporary = False
        self._writer: VisitWriter | None = None

    @property
    def needs_flush(self) -> bool:
        return self._buffer.size >= self._format.flush_threshold

    def add(self, visits: Sequence[Visit]) -> None:
        """Buffer visits. Does no I/O."""
        self._buffer.extend(visits)
        self.rows += len(visits)

    def flush(self) -> VisitWriter:
        """Write the buffered visits, and return the open file."""
        if self._writer is None:
            self._owns_temporary = True
            self._writer = self._format.open_writer(self._temporary)
        if self.rows > self._rows_written:
            self._writer.write(self._buffer)
            self._rows_written = self.rows
            self._buffer = self._format.new_buffer(self._touchpoint_id, self._offset + self.rows)
        return self._writer

    def finish(self) -> None:
        """Write everything and publish the part under its final name."""
        self.flush().close()
        name = part_name(self._offset, self.rows, self._format.name)
        publish(self._temporary, self._folder / name)

    def discard(self) -> None:
        """Close and delete the temporary file."""
        with suppress(Exception):
            if self._writer is not None:
                self._writer.close()
        # Before we open it, a file of this name belongs to another export.
        if self._owns_temporary:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)
