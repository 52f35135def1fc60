"""How far an export has come, on stderr: a bar for people, a line now and then for logs."""

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
_NARROWEST_BAR: Final = 10


class ProgressView:
    """Shows an export's progress while it is entered; call it with every state.

    Args:
        console: Where to.
        clock: Seconds.

    Attributes:
        last: The last state.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.last = ExportProgress()
        self._console = console
        self._clock = clock
        self._started = self._told = clock()
        self._bar = _make_bar(console)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        # Even one that is disabled leaves an empty line in logs, in some versions of rich.
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
        """Show a state."""
        self.last = progress
        if not self._bar.disable:
            self._bar.update(
                self._task,
                total=progress.visits or None,
                completed=progress.visits_found + progress.visits_fetched,
                description=self.describe(self._console.width - _NARROWEST_BAR - 1),
            )
        elif self._clock() - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = self._clock()
            self._console.print(self.describe(), soft_wrap=True)

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return max(self._clock() - self._started, 1e-9)

    def describe(self, width: int | None = None) -> str:
        """Say how far it has come, within so many characters: what matters least goes first."""
        now, rate = self.last, self.last.visits_fetched / self.seconds
        done = now.visits_found + now.visits_fetched
        left = now.visits - done
        pieces = [
            f"{now.touchpoints_done}/{now.touchpoints} touchpoints",
            f"{done:,}/{now.visits:,} visits",
            f"{rate:,.0f}/s" if rate else "",
            f"{now.touchpoints_failed} failed" if now.touchpoints_failed else "",
            f"{now.retries} retries" if now.retries else "",
            f"{timedelta(seconds=round(left / rate))} left" if rate and left > 0 else "",
        ]
        for least in (0, 2, 4, 5, 3):
            if width is None or len(_joined(pieces)) <= width:
                break
            pieces[least] = ""
        return _joined(pieces)


def _joined(pieces: list[str]) -> str:
    return ", ".join(piece for piece in pieces if piece)


def _make_bar(console: Console) -> Progress:
    """Make a bar that shows only where one can be redrawn."""
    return Progress(
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=_NARROWEST_BAR)),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        console=console,
        expand=True,
        disable=not console.is_terminal or console.is_dumb_terminal,
    )
