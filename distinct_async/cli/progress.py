"""The progress of an export on stderr: a bar on a terminal, an occasional line in a log."""

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from distinct_async.export import ExportProgress

_SECONDS_BETWEEN_LINES: Final = 5.0
_MIN_BAR_WIDTH: Final = 10


class ProgressView:
    """Shows an export's progress: enter it, then call it with each `ExportProgress`.

    Args:
        console: The console to show it on.
        clock: Returns monotonic seconds.

    Attributes:
        last: The latest progress.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.last = ExportProgress()
        self._console = console
        self._clock = clock
        self._started_at = self._last_line_at = clock()
        self._bar = _make_bar(console)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        # Some versions of rich write an empty line even for a disabled bar.
        if not self._bar.disable:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._bar.disable:
            self._bar.stop()

    def __call__(self, progress: ExportProgress) -> None:
        """Show the progress."""
        self.last = progress
        if not self._bar.disable:
            self._bar.update(
                self._task,
                total=progress.visits or None,
                completed=progress.visits_found + progress.visits_fetched,
                description=self.describe(self._console.width - _MIN_BAR_WIDTH - 1),
            )
        elif self._clock() - self._last_line_at >= _SECONDS_BETWEEN_LINES:
            self._last_line_at = self._clock()
            self._console.print(self.describe(), soft_wrap=True)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return max(self._clock() - self._started_at, 1e-9)

    def describe(self, max_width: int | None = None) -> str:
        """Describe the latest progress, dropping the least important details to fit."""
        now, rate = self.last, self.last.visits_fetched / self.seconds
        done = now.visits_found + now.visits_fetched
        left = now.visits - done
        details = [
            f"{now.touchpoints_done}/{now.touchpoints} touchpoints",
            f"{done:,}/{now.visits:,} visits",
            f"{rate:,.0f}/s" if rate else "",
            f"{now.touchpoints_failed} failed" if now.touchpoints_failed else "",
            f"{now.retries} retries" if now.retries else "",
            f"{timedelta(seconds=round(left / rate))} left" if rate and left > 0 else "",
        ]
        for least_important in (0, 2, 4, 5, 3):
            if max_width is None or len(_join(details)) <= max_width:
                break
            details[least_important] = ""
        return _join(details)


def _join(details: list[str]) -> str:
    return ", ".join(detail for detail in details if detail)


def _make_bar(console: Console) -> Progress:
    """Create a progress bar, disabled unless the console can redraw it."""
    return Progress(
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=_MIN_BAR_WIDTH)),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        console=console,
        expand=True,
        disable=not console.is_terminal or console.is_dumb_terminal,
    )
