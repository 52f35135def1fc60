"""Run an export with visible progress and a closing report."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Unpack

from rich.console import Console

from distinct_async import DistinctClient, FanOutError
from distinct_async.cli import FAILURE, PARTLY_EXPORTED, SUCCESS
from distinct_async.cli.progress import ProgressView
from distinct_async.export import ExportOptions, ExportProgress, export_visits

_MAX_FAILURES_SHOWN: Final = 10


async def run_export(
    client: DistinctClient,
    touchpoints: str | Iterable[str],
    folder: Path,
    console: Console,
    **options: Unpack[ExportOptions],
) -> int:
    """Export visits, show the progress on `console`, and return the exit code.

    The code is 0 on success, 3 if some touchpoints failed, and 1 if nothing was exported.

    Raises:
        DistinctError: The export could not start, or could not save its list of touchpoints.
    """
    view, failure = ProgressView(console), None
    try:
        with view:
            await export_visits(client, touchpoints, folder, progress=view, **options)
    except asyncio.CancelledError:
        done = _describe(view.last)
        _print(console, f"interrupted: {done}; run the same command again to continue")
        raise
    except FanOutError as error:
        failure = error
    done = _describe(view.last)
    _print(console, f"exported {done}, to {str(folder)!a}, in {view.seconds:.1f} s")
    if failure is None:
        return SUCCESS
    _print_failures(console, failure)
    return PARTLY_EXPORTED if _has_exported(view.last) else FAILURE


def _has_exported(progress: ExportProgress) -> bool:
    return bool(progress.touchpoints_done or progress.visits_found or progress.visits_fetched)


def _print_failures(console: Console, error: FanOutError) -> None:
    shown = error.exceptions[:_MAX_FAILURES_SHOWN]
    for line in (error.args[0], *shown):
        _print(console, f"distinct-async: {line}")
    hidden = len(error.exceptions) - len(shown)
    if hidden:
        _print(console, f"distinct-async: and {hidden} more failures")


def _describe(progress: ExportProgress) -> str:
    new, found = progress.visits_fetched, progress.visits_found
    return f"{new:,} new visits ({new + found:,} in all) of {progress.touchpoints:,} touchpoints"


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
