"""What a folder of exported visits holds, counted."""

from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Final

import attrs

from distinct_async import ExportError, VisitsType
from distinct_async.export.dataset import find_parts, reporting, touchpoint_id_of, visits_folder
from distinct_async.export.formats import find_format, find_format_of
from distinct_async.export.rows import ExportedTouchpoint, Tally

_WEEKDAYS: Final = 7
_HOURS: Final = 24


@attrs.frozen(kw_only=True)
class TouchpointCounts:
    """What was exported of a touchpoint.

    Attributes:
        touchpoint_id: The touchpoint's id.
        name: Its display name; the id if no file of touchpoints tells it.
        visits: Visits that were exported.
        users: Distinct users among them.
        expected: Visits that the server counted when it was last asked; None if unknown.
    """

    touchpoint_id: str
    name: str
    visits: int
    users: int
    expected: int | None


@attrs.frozen(kw_only=True)
class DatasetSummary:
    """What a folder of exported visits holds.

    Attributes:
        visits_type: Which visits were counted.
        touchpoints: The touchpoints, those with the most visits first.
        hours: Visits per weekday (Monday first) and hour, in UTC: 7 rows of 24.
        moments: When the earliest and the latest were; empty without visits.
    """

    visits_type: VisitsType
    touchpoints: tuple[TouchpointCounts, ...]
    hours: tuple[tuple[int, ...], ...]
    moments: tuple[datetime, ...]


def summarize(
    directory: str | PathLike[str], *, visits_type: VisitsType | str | None = None
) -> DatasetSummary:
    """Count what `export_visits` has written. Reads every part; not for the event loop.

    Args:
        directory: The destination of the export.
        visits_type: Which visits; if None, all scans if they were exported, or else the unique.

    Raises:
        ExportError: There is no export, a file cannot be read, or parts do not add up.
        ConfigurationError: pyarrow, which these files need, is not installed.
    """
    root = Path(directory)
    known = _read_touchpoints(root)
    kind = _choose(root, visits_type)
    if kind is None and not known:
        raise ExportError("there are no exported visits here", str(root))
    kind = kind or VisitsType.TOTAL
    touchpoints: dict[str, TouchpointCounts] = {
        key: _counts(key, known, kind, Tally()) for key in known
    }
    whole = Tally()
    for folder in sorted(visits_folder(root, kind).glob("touchpoint_id=*")):
        tally, key = _tally(folder), touchpoint_id_of(folder)
        touchpoints[key] = _counts(key, known, kind, tally)
        # How many users there are over all touchpoints is not told, and their ids take memory.
        whole.add(attrs.evolve(tally, users=set()))
    return DatasetSummary(
        visits_type=kind,
        touchpoints=tuple(sorted(touchpoints.values(), key=lambda t: (-t.visits, t.name))),
        hours=tuple(
            tuple(whole.hours[weekday, hour] for hour in range(_HOURS))
            for weekday in range(_WEEKDAYS)
        ),
        moments=whole.moments,
    )


def _choose(root: Path, wanted: VisitsType | str | None) -> VisitsType | None:
    """Return the wanted type, or the first that there is."""
    kinds = (kind for kind in VisitsType if visits_folder(root, kind).is_dir())
    return next((kind for kind in kinds if wanted in (None, kind)), None)


def _counts(
    key: str, known: dict[str, ExportedTouchpoint], kind: VisitsType, tally: Tally
) -> TouchpointCounts:
    touchpoint = known.get(key) or ExportedTouchpoint(touchpoint_id=key, name=key, value="")
    return TouchpointCounts(
        touchpoint_id=key,
        name=touchpoint.name,
        visits=tally.visits,
        users=len(tally.users),
        expected=touchpoint.count(kind),
    )


def _tally(folder: Path) -> Tally:
    whole = Tally()
    for part in find_parts(folder):
        form = find_format(part.suffix)
        with reporting(part.path):
            whole.add(form.tally(part.path))
    return whole


def _read_touchpoints(root: Path) -> dict[str, ExportedTouchpoint]:
    """Read the files of all shards, the newest last."""
    found: dict[str, ExportedTouchpoint] = {}
    with reporting(root):
        paths = sorted(root.glob("touchpoints*.*"), key=lambda path: path.stat().st_mtime)
    for path in paths:
        form = find_format_of(path)
        if form is not None:
            with reporting(path):
                found |= {each.touchpoint_id: each for each in form.read_touchpoints(path)}
    return found
