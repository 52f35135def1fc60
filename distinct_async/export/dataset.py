"""The files of an export on disk, which are its own checkpoint.

A touchpoint's visits are in parts, each named by its first offset and its count::

    DESTINATION/visits_type=TOTAL/touchpoint_id=tp-1/visits-000000000000-100000.parquet

A part is written under a temporary name, flushed to disk and renamed, so that it exists whole or
not at all; what the parts' names say is all that a later run needs to know. Everything here waits
for the disk: it is for threads, not for the event loop.
"""

import errno
import os
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import quote, unquote

import attrs

from distinct_async import ExportError, Visit, VisitsType
from distinct_async.export.formats import Format, Sink
from distinct_async.export.rows import ExportedTouchpoint

# Windows has none; there, nothing keeps two exports from writing to the same folder.
_fcntl: Final[Any] = import_module("fcntl") if find_spec("fcntl") else None

_PART: Final = re.compile(r"visits-(\d{12,})-([1-9]\d*)\.(.+)")
# Errors that every other file would meet, too.
_FATAL: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}
)


def visits_folder(destination: Path, visits_type: VisitsType) -> Path:
    """Return where the visits of this type are."""
    return destination / f"visits_type={visits_type}"


def touchpoint_folder(destination: Path, visits_type: VisitsType, touchpoint_id: str) -> Path:
    """Return where a touchpoint's parts are."""
    name = quote(touchpoint_id, safe="", errors="surrogatepass")
    return visits_folder(destination, visits_type) / f"touchpoint_id={name}"


def touchpoint_id_of(folder: Path) -> str:
    """Return the touchpoint whose parts a folder has."""
    return unquote(folder.name.partition("=")[2])


@contextmanager
def reporting(path: Path) -> Generator[None]:
    """Turn what the system, or a library that reads files, raises into our error.

    Raises:
        ExportError: Something was raised within.
    """
    try:
        yield
    except ExportError:
        raise
    except OSError as error:
        fatal = error.errno in _FATAL
        raise ExportError(error.strerror or str(error), str(path), fatal=fatal) from error
    except Exception as error:
        raise ExportError(f"{type(error).__name__}: {error}", str(path)) from error


@attrs.frozen(order=True)
class PartName:
    """What a part's name says.

    Attributes:
        offset: Offset of its first visit.
        count: How many visits it has.
        suffix: Its format.
        path: Where it is.
    """

    offset: int
    count: int
    suffix: str
    path: Path


def find_parts(folder: Path) -> list[PartName]:
    """Return the parts of a folder in order.

    Raises:
        ExportError: Visits are missing between them, or are in two of them, or a file is named
            like a part but is none.
    """
    with reporting(folder):
        # Unlike `glob`, which takes a folder that cannot be read for an empty one.
        names = [name for name in os.listdir(folder) if name.startswith("visits-")]  # noqa: PTH208
    parts = sorted(_parse(folder / name) for name in names)
    reached = 0
    for part in parts:
        if part.offset != reached:
            problem = "missing: there is a gap" if part.offset > reached else "in two parts"
            between = sorted((reached, part.offset))
            raise ExportError(
                f"visits {between[0]:,} to {between[1]:,} are {problem} before {part.path.name};"
                " remove the parts from there on, and export again",
                str(folder),
            )
        reached += part.count
    return parts


def _parse(path: Path) -> PartName:
    match = _PART.fullmatch(path.name)
    if match is None:
        raise ExportError("this is no part, though it is named like one; remove it", str(path))
    return PartName(int(match[1]), int(match[2]), match[3], path)


@final
class FolderLock:
    """Keeps other exports out of a folder until it is released, or the process dies.

    Raises:
        ExportError: Another export holds it.
    """

    def __init__(self, folder: Path, *, wait: bool = False) -> None:
        self._descriptor: int | None = None
        if _fcntl is None:
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | (0 if wait else _fcntl.LOCK_NB))
        except BlockingIOError as error:
            os.close(descriptor)
            raise ExportError("another export is writing here", str(folder)) from error
        except OSError:
            # Some network filesystems lock no folders.
            os.close(descriptor)
        else:
            self._descriptor = descriptor

    def release(self) -> None:
        """Let others in."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


@final
class _Part:
    """A part that is being gathered and written."""

    def __init__(self, folder: Path, touchpoint_id: str, offset: int, form: Format) -> None:
        self.rows = 0
        self._folder = folder
        self._touchpoint_id = touchpoint_id
        self._offset = offset
        self._format = form
        self._temporary = folder / f".visits-{offset:012}.{form.name}.tmp"
        self._written = 0
        self._gathered = form.gather(touchpoint_id, offset)
        self._begun = False
        self._sink: Sink | None = None

    @property
    def is_due(self) -> bool:
        """Whether as much was gathered as should be written."""
        return self._gathered.size >= self._format.most_pending

    def add(self, visits: Sequence[Visit]) -> None:
        """Take visits. Does no I/O."""
        self._gathered.add(visits)
        self.rows += len(visits)

    def write(self) -> Sink:
        """Write what was gathered."""
        if self._sink is None:
            self._begun = True
            self._sink = self._format.open(self._temporary)
        if self.rows > self._written:
            self._sink.write(self._gathered)
            self._written = self.rows
            self._gathered = self._format.gather(self._touchpoint_id, self._offset + self.rows)
        return self._sink

    def finish(self) -> None:
        """Make the part exist, whole."""
        self.write().close()
        name = f"visits-{self._offset:012}-{self.rows}.{self._format.name}"
        _publish(self._temporary, self._folder / name)

    def discard(self) -> None:
        """Leave nothing behind."""
        with suppress(Exception):
            if self._sink is not None:
                self._sink.close()
        # Else it is another export's.
        if self._begun:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    """Give a whole file its name, in such a way that not even a power failure halves it."""
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Flush a file, or a folder's names, to disk."""
    if _fcntl is None and path.is_dir():
        # Windows opens no folders.
        return
    descriptor = os.open(path, os.O_RDONLY if _fcntl is not None else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@final
class Partition:
    """One touchpoint's parts: those that exist, and the one in hand.

    Args:
        folder: Where they are.
        touchpoint_id: The touchpoint.
        form: Their format.
        rows_per_part: Most visits of a part.

    Attributes:
        rows: Visits in all of them.
        parts_written: Parts that were made to exist.
    """

    def __init__(self, folder: Path, touchpoint_id: str, form: Format, rows_per_part: int) -> None:
        self.rows = 0
        self.parts_written = 0
        self._folder = folder
        self._touchpoint_id = touchpoint_id
        self._format = form
        self._rows_per_part = rows_per_part
        self._lock: FolderLock | None = None
        self._part: _Part | None = None

    def open(self) -> None:
        """Find what exists, and keep others from changing it.

        Raises:
            ExportError: The parts do not add up, are of another format, or another export is
                writing them.
        """
        with reporting(self._folder):
            if self._folder.is_dir():
                self._enter()

    def _enter(self) -> None:
        self._lock = FolderLock(self._folder)
        # Of an export that died: nobody else is here.
        for temporary in self._folder.glob(".visits-*.tmp"):
            temporary.unlink()
        parts = find_parts(self._folder)
        others = {part.suffix for part in parts} - {self._format.name}
        if others:
            raise ExportError(
                f"there are {' and '.join(sorted(others))} parts already; export to another"
                f" folder, or in the same format, got {self._format.name}",
                str(self._folder),
            )
        self.rows = sum(part.count for part in parts)

    @property
    def room(self) -> int:
        """How many visits `add` takes now."""
        return self._rows_per_part - (0 if self._part is None else self._part.rows)

    @property
    def is_due(self) -> bool:
        """Whether to call `write`."""
        return self._part is not None and (self._part.is_due or self.room == 0)

    def add(self, visits: Sequence[Visit]) -> None:
        """Take the visits that follow, no more than there is room for. Does no I/O.

        Raises:
            ExportError: They have no form in this format; the part is gone.
        """
        if self._part is None:
            self._part = _Part(self._folder, self._touchpoint_id, self.rows, self._format)
        with self._discarding(self._part), reporting(self._folder):
            self._part.add(visits)
        self.rows += len(visits)

    def write(self) -> None:
        """Write what was added, and finish the part if it is full.

        Raises:
            ExportError: It cannot be written; the part is gone.
        """
        self._write(finish=self.room == 0)

    def close(self) -> None:
        """Finish the part in hand, and let others in.

        Raises:
            ExportError: It cannot be written; the part is gone.
        """
        try:
            self._write(finish=True)
        finally:
            if self._lock is not None:
                self._lock.release()

    def _write(self, *, finish: bool) -> None:
        part = self._part
        if part is None:
            return
        with self._discarding(part), reporting(self._folder):
            self._make_folder()
            part.write()
            if finish:
                part.finish()
        if finish:
            self._part = None
            self.parts_written += 1

    @contextmanager
    def _discarding(self, part: _Part) -> Generator[None]:
        """See to it that nobody goes on with a part of which something could not be had."""
        try:
            yield
        except ExportError:
            self._part = None
            part.discard()
            raise

    def _make_folder(self) -> None:
        if self._lock is not None:
            return
        for parent in make_folders(self._folder):
            _sync(parent)
        self._lock = FolderLock(self._folder)
        if any(self._folder.iterdir()):
            raise ExportError("another export has written here meanwhile", str(self._folder))


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and those it is in; return the folders whose names changed.

    Raises:
        ExportError: It cannot be made.
    """
    with reporting(folder):
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        return [each.parent for each in missing]


def update_touchpoints(
    destination: Path, stem: str, form: Format, touchpoints: Mapping[str, ExportedTouchpoint]
) -> None:
    """Write ``touchpoints.<format>`` unless it says the same already.

    Touchpoints that are in the file only are kept, and so are counts that are not known anew.

    Raises:
        ExportError: The file cannot be read or written.
    """
    path = destination / f"{stem}.{form.name}"
    temporary = destination / f".{path.name}.tmp"
    with reporting(path):
        lock = FolderLock(destination, wait=True)
        try:
            known = {each.touchpoint_id: each for each in _read(path, form)}
            merged = known | {key: new.updating(known.get(key)) for key, new in touchpoints.items()}
            if merged != known:
                form.write_touchpoints(temporary, [merged[key] for key in sorted(merged)])
                _publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
            lock.release()


def _read(path: Path, form: Format) -> Iterable[ExportedTouchpoint]:
    return form.read_touchpoints(path) if path.exists() else ()
