"""Safe file operations: atomic publication, folder locks, and errors of this package.

Everything here blocks on the disk, so call it from a thread and never from the event loop.
"""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, final

from distinct_async import ExportError

# Windows has no fcntl, so nothing there keeps two exports from writing to the same folder.
_fcntl: Final[Any] = import_module("fcntl") if find_spec("fcntl") else None

# These would hit every other file as well.
_FATAL: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}
)


@contextmanager
def as_export_error(path: Path) -> Generator[None]:
    """Convert any exception raised inside to an `ExportError` about `path`.

    Raises:
        ExportError: The converted exception; `fatal` if other files would fail the same way.
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


@final
class FolderLock:
    """Excludes other exports from a folder until it is released or the process dies.

    Args:
        folder: The folder, which must exist.
        wait: Whether to wait for another export to release the folder.

    Raises:
        ExportError: Another export holds the lock, and `wait` is false.
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
            # Some network filesystems cannot lock folders; export without a lock.
            os.close(descriptor)
        else:
            self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock; further calls do nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


@final
class Folders:
    """A folder and its parents: the missing ones are created, and removed again if left empty.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._created: list[Path] = []

    def create(self) -> None:
        """Create what is missing.

        Raises:
            ExportError: The folder cannot be created.
        """
        with as_export_error(self._folder):
            folders = (self._folder, *self._folder.parents)
            self._created = [path for path in folders if not path.exists()]
            self._folder.mkdir(parents=True, exist_ok=True)

    def sync(self) -> None:
        """Flush the names of the created folders to disk."""
        for path in self._created:
            sync(path.parent)

    def remove_empty(self) -> None:
        """Remove the created folders that are empty."""
        for path in self._created:
            with suppress(OSError):
                path.rmdir()


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished file so that even a power failure leaves it whole or absent."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file's content, or the names in a folder, to disk."""
    if _fcntl is None and path.is_dir():
        # Windows cannot open folders.
        return
    descriptor = os.open(path, os.O_RDONLY if _fcntl is not None else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
