"""The layout of an export on disk, which is its own checkpoint.

A touchpoint's visits are split into parts. The name of a part holds the offset of its first visit
and their number::

    DESTINATION/visits_type=TOTAL/touchpoint_id=tp-1/visits-000000000000-100000.parquet

A part is written under a temporary name, flushed to disk and renamed, so it exists completely or
not at all, and the names show where the next run continues. Everything here blocks on the
disk, so call it from a thread and never from the event loop.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import attrs

from distinct_async import ExportError, VisitsType
from distinct_async.export.files import FolderLock, as_export_error, publish
from distinct_async.export.formats import Format
from distinct_async.export.models import ExportedTouchpoint

_PART_NAME: Final = re.compile(r"visits-(\d{12,})-([1-9]\d*)\.(.+)")


def visits_folder(destination: Path, visits_type: VisitsType) -> Path:
    """Return the folder of all visits of this type."""
    return destination / f"visits_type={visits_type}"


def touchpoint_folder(destination: Path, visits_type: VisitsType, touchpoint_id: str) -> Path:
    """Return the folder of a touchpoint's parts."""
    name = quote(touchpoint_id, safe="", errors="surrogatepass")
    return visits_folder(destination, visits_type) / f"touchpoint_id={name}"


def touchpoint_id_of(folder: Path) -> str:
    """Return the id of the touchpoint whose parts are in this folder."""
    return unquote(folder.name.partition("=")[2])


def part_name(offset: int, count: int, suffix: str) -> str:
    """Return the file name of a part."""
    return f"visits-{offset:012}-{count}.{suffix}"


@attrs.frozen(order=True)
class Part:
    """A finished part, as described by its name.

    Attributes:
        offset: The offset of its first visit.
        count: Number of visits in it.
        suffix: The name of its format.
        path: The file.
    """

    offset: int
    count: int
    suffix: str
    path: Path


def find_parts(folder: Path) -> list[Part]:
    """Return the parts in a folder, by offset.

    Raises:
        ExportError: The parts leave a gap or overlap, or a file has the name of a part but is
            none.
    """
    with as_export_error(folder):
        # `glob` would report an unreadable folder as empty.
        names = [name for name in os.listdir(folder) if name.startswith("visits-")]  # noqa: PTH208
    parts = sorted(_parse(folder / name) for name in names)
    end = 0
    for part in parts:
        if part.offset != end:
            problem = "missing" if part.offset > end else "in two parts"
            first, last = sorted((end, part.offset))
            raise ExportError(
                f"visits {first:,} to {last:,} are {problem}; delete {part.path.name} and all parts"
                " after it, then export again",
                str(folder),
            )
        end += part.count
    return parts


def _parse(path: Path) -> Part:
    match = _PART_NAME.fullmatch(path.name)
    if match is None:
        raise ExportError("this is not a part of an export; move or delete it", str(path))
    return Part(int(match[1]), int(match[2]), match[3], path)


def update_touchpoints(
    destination: Path, stem: str, file_format: Format, touchpoints: Mapping[str, ExportedTouchpoint]
) -> None:
    """Merge rows into ``<stem>.<format>``; leave the file untouched if nothing changes.

    Rows and counts that only the file has are kept. A missing file is written even without rows,
    as it tells an export without touchpoints from none.

    Raises:
        ExportError: The file cannot be read or written.
    """
    path = destination / f"{stem}.{file_format.name}"
    temporary = destination / f".{path.name}.tmp"
    with as_export_error(path):
        # Another export that failed may have removed it while it was empty.
        destination.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(destination, wait=True)
        try:
            stored = {row.touchpoint_id: row for row in _read_touchpoints(path, file_format)}
            merged = stored | {
                key: row.with_counts_from(stored.get(key)) for key, row in touchpoints.items()
            }
            if merged != stored or not path.exists():
                file_format.write_touchpoints(temporary, [merged[key] for key in sorted(merged)])
                publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
            lock.release()


def _read_touchpoints(path: Path, file_format: Format) -> Iterable[ExportedTouchpoint]:
    return file_format.read_touchpoints(path) if path.exists() else ()
