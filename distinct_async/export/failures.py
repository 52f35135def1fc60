"""What has failed in an export, and when that stops it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast, final

from distinct_async import DistinctError, FanOutError
from distinct_async.errors import in_context

T = TypeVar("T")


@final
class Failures:
    """The failures of an export's touchpoints. A `fatal` one stops those that wait to be started.

    Args:
        experience_id: The experience that scopes the queries, or None.

    Attributes:
        stopped: Whether nothing more may be started.
    """

    def __init__(self, experience_id: str | None) -> None:
        self.stopped = False
        self._experience_id = experience_id
        self._errors: list[DistinctError] = []
        self._waiting: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return how many touchpoints have failed."""
        return len(self._errors)

    async def wait(self, admit: Callable[[], Awaitable[T]]) -> T:
        """Wait until a further touchpoint may be started; a `fatal` failure cancels this."""
        worker = cast("asyncio.Task[None]", asyncio.current_task())
        self._waiting.add(worker)
        try:
            return await admit()
        finally:
            self._waiting.discard(worker)

    def dismiss_waiting(self) -> None:
        """Cancel the workers that wait, because there is nothing left to start."""
        for worker in self._waiting:
            worker.cancel()

    def record(self, touchpoint_id: str, error: DistinctError) -> None:
        """Record a touchpoint's failure."""
        in_context(error, touchpoint_id=touchpoint_id, experience_id=self._experience_id)
        if error.__cause__ is not None:
            # Its frames keep pages alive, and many touchpoints may fail.
            error.__cause__.with_traceback(None)
        self._errors.append(error)
        if error.fatal:
            self.stopped = True
            self.dismiss_waiting()

    def as_error(self, *, done: int, left: int) -> FanOutError:
        """Return the failures as one error.

        Args:
            done: How many touchpoints were exported.
            left: How many were not started.
        """
        started = done + len(self)
        message = f"{len(self)} of {started} touchpoints failed"
        error = FanOutError(message + "; no more were started" * (left > 0), self._errors)
        error.started = started
        return error
