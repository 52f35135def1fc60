"""Running an export for people: its progress, and what it came to."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from distinct_async import DistinctClient, FanOutError
from distinct_async.cli import FAILURE, PARTLY
from distinct_async.cli.progress import ProgressView
from distinct_async.export import ExportProgress, export_visits

_SHOWN_FAILURES: Final = 10


async def run_export(
    client: DistinctClient,
    touchpoints: str | Iterable[str],
    folder: Path,
    console: Console,
    **options: Any,
) -> int:
    """Export with its progress on `console`, and return the exit code.

    The options are those of `export_visits`. The code is 0, 3 if some of it failed, or 1 if
    all of it did.

    Raises:
        DistinctError: Nothing could be exported.
    """
    view, failures, code = ProgressView(console), list[str](), 0
    try:
        with view:
            await export_visits(client, touchpoints, folder, progress=view, **options)
    except asyncio.CancelledError:
        _say(console, f"interrupted: {_describe(view.last)}; the same command goes on from there")
        raise
    except FanOutError as error:
        failures = [str(error.args[0]), *map(str, error.exceptions)]
        some = view.last.touchpoints_done or view.last.visits_found or view.last.visits_fetched
        code = PARTLY if some else FAILURE
    shown = f"exported {_describe(view.last)}, to {str(folder)!a}, in {view.seconds:.1f} s"
    _say(console, shown)
    for line in failures[: _SHOWN_FAILURES + 1]:
        _say(console, f"distinct-async: {line}")
    if len(failures) > _SHOWN_FAILURES + 1:
        _say(console, f"distinct-async: and {len(failures) - _SHOWN_FAILURES - 1} more failures")
    return code


def _describe(progress: ExportProgress) -> str:
    new, found = progress.visits_fetched, progress.visits_found
    return f"{new:,} new visits ({new + found:,} in all) of {progress.touchpoints:,} touchpoints"


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
