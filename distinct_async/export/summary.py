"""`summarize`: count the visits in an exported folder."""

from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Final

import attrs

from distinct_async import ExportError, VisitsType
from distinct_async._checks import require_folder, require_visits_type
from distinct_async.export.dataset import find_parts, touchpoint_id_of, visits_folder
from distinct_async.export.files import as_export_error
from distinct_async.export.formats import find_format, find_format_of
from distinct_async.export.models import ExportedTouchpoint, Tally
from distinct_async.models import AnyVisitsType

_WEEKDAYS: Final = 7
_HOURS: Final = 24


@attrs.frozen(kw_only=True)
class TouchpointCounts:
    """Counts over one touchpoint's exported visits.

    Attributes:
        touchpoint_id: The touchpoint's id.
        name: Its display name, or its id if no file of touchpoints has it.
        visits: Number of exported visits.
        users: Number of distinct users among them.
        expected: The server's count of visits when it was last asked; None if unknown.
    """

    touchpoint_id: str
    name: str
    visits: int
    users: int
    expected: int | None


@attrs.frozen(kw_only=True)
class DatasetSummary:
    """Counts over an exported folder.

    Attributes:
        visits_type: Which visits were counted.
        touchpoints: Counts per touchpoint, by descending number of visits.
        hours: Number of visits per weekday (Monday first) and hour, in UTC: 7 rows of 24.
        moments: The earliest and the latest timestamp; empty if there are no visits.
    """

    visits_type: VisitsType
    touchpoints: tuple[TouchpointCounts, ...]
    hours: tuple[tuple[int, ...], ...]
    moments: tuple[datetime, ...]


def summarize(
    directory: str | PathLike[str], *, visits_type: AnyVisitsType | None = None
) -> DatasetSummary:
    """Count the visits that `export_visits` has written.

    Reads every part, so do not call it from the event loop.

    Args:
        directory: The destination of the export.
        visits_type: Which visits to count; None means all scans, or unique visits if only those
            were exported.

    Raises:
        ExportError: There is no export, a file cannot be read, or parts do not add up.
        ConfigurationError: An argument is unusable, or the files need pyarrow, which is not
            installed.
    """
    root = require_folder("directory", directory)
    wanted = None if visits_type is None else require_visits_type(visits_type)
    known = _read_touchpoints(root)
    kind = _choose_visits_type(root, wanted)
    if kind is None and known is None:
        raise ExportError("there are no exported visits here", str(root))
    known = known or {}
    kind = wanted or kind or VisitsType.TOTAL
    counts = {key: _count(key, known, kind, Tally()) for key in known}
    whole = Tally()
    for folder in sorted(visits_folder(root, kind).glob("touchpoint_id=*")):
        tally, key = _tally(folder), touchpoint_id_of(folder)
        counts[key] = _count(key, known, kind, tally)
        # The summary has no count of users over all touchpoints, so do not keep their ids.
        whole.add(attrs.evolve(tally, users=set()))
    return DatasetSummary(
        visits_type=kind,
        touchpoints=tuple(sorted(counts.values(), key=lambda t: (-t.visits, t.name))),
        hours=_hours_by_weekday(whole),
        moments=whole.moments,
    )


def _choose_visits_type(root: Path, wanted: VisitsType | None) -> VisitsType | None:
    """Return the wanted type, or else the first one, if it was exported."""
    exported = (kind for kind in VisitsType if visits_folder(root, kind).is_dir())
    return next((kind for kind in exported if wanted in (None, kind)), None)


def _count(
    touchpoint_id: str, known: dict[str, ExportedTouchpoint], kind: VisitsType, tally: Tally
) -> TouchpointCounts:
    touchpoint = known.get(touchpoint_id)
    return TouchpointCounts(
        touchpoint_id=touchpoint_id,
        name=touchpoint.name if touchpoint else touchpoint_id,
        visits=tally.visits,
        users=len(tally.users),
        expected=touchpoint.count(kind) if touchpoint else None,
    )


def _hours_by_weekday(tally: Tally) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(tally.hours[weekday, hour] for hour in range(_HOURS)) for weekday in range(_WEEKDAYS)
    )


def _tally(folder: Path) -> Tally:
    """Count the visits in a touchpoint's parts."""
    whole = Tally()
    for part in find_parts(folder):
        file_format = find_format(part.suffix)
        with as_export_error(part.path):
            whole.add(file_format.tally(part.path))
    return whole


def _read_touchpoints(root: Path) -> dict[str, ExportedTouchpoint] | None:
    """Merge the touchpoints' files of all shards; newer files win. None if there is no file."""
    found: dict[str, ExportedTouchpoint] | None = None
    with as_export_error(root):
        paths = sorted(root.glob("touchpoints*.*"), key=lambda path: path.stat().st_mtime)
    for path in paths:
        file_format = find_format_of(path)
        if file_format is not None:
            with as_export_error(path):
                found = found or {}
                found |= {row.touchpoint_id: row for row in file_format.read_touchpoints(path)}
    return found
