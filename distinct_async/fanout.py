"""Many walks side by side: the pages of many touchpoints, each as soon as it is there.

Knows no HTTP, and keeps no pages: they wait in their walks, whose windows bound them, until the
consumer takes them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from distinct_async.errors import ClientClosedError, ConfigurationError, DistinctError, FanOutError
from distinct_async.models import TouchpointSummary, Visit, VisitPage
from distinct_async.pagination import Pager, Walk

T = TypeVar("T")
_VisitWalk: TypeAlias = Walk[Visit, VisitPage]

TouchpointIds: TypeAlias = (
    Iterable[str | TouchpointSummary] | AsyncIterable[str | TouchpointSummary]
)
"""Ids of touchpoints, or the touchpoints of an experience as they are listed."""


class FanOut:
    """The state of one fan-out: which walks are open, and which have something to take.

    Args:
        touchpoint_ids: The touchpoints. An id is taken when its walk can be opened, not before. An
            async generator is closed in the end.
        make_pager: Makes the pager of a touchpoint.
        spawn: Runs a coroutine as a task that somebody ends if the fan-out is abandoned.
        concurrency: Most walks open at once.

    Raises:
        ConfigurationError: `touchpoint_ids` is nothing to take ids from.
    """

    def __init__(
        self,
        touchpoint_ids: TouchpointIds,
        *,
        make_pager: Callable[[str], Pager[Visit, VisitPage]],
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        concurrency: int,
    ) -> None:
        self._touchpoint_ids = _require_many(touchpoint_ids)
        self._make_pager = make_pager
        self._spawn = spawn
        self._room = asyncio.Semaphore(concurrency)
        self._open: set[_VisitWalk] = set()
        self._arrived: deque[_VisitWalk] = deque()
        self._ready: deque[_VisitWalk] = deque()
        self._wake = asyncio.Event()
        self._taken = 0
        self._errors: list[DistinctError] = []

    async def pages(self) -> AsyncGenerator[VisitPage, None]:
        """Walk every touchpoint and yield the pages of all.

        Raises:
            FanOutError: Some could not be walked to their end, or not all ids could be taken.
            Exception: What the iterable of ids raised, unless it is ours; if touchpoints failed,
                too, this is the FanOutError's cause.
        """
        opener = self._start()
        try:
            while (walk := await self._next_walk(opener)) is not None:
                page = walk.take()
                if walk.ready or walk.head is not None:
                    self._watch(walk)
                else:
                    await self._end(walk, opener)
                if page is not None:
                    yield page
        finally:
            await self._close(opener)
        self._conclude(opener)

    def _start(self) -> asyncio.Task[None]:
        try:
            opener = self._spawn(self._open_walks())
        except DistinctError as error:
            failure = error
        else:
            opener.add_done_callback(lambda _: self._wake.set())
            return opener
        raise FanOutError("no touchpoint was started", [failure])

    async def _open_walks(self) -> None:
        """Open a walk whenever there is room for one."""
        ids = aiter(_each(self._touchpoint_ids))
        try:
            await self._room.acquire()
            async for touchpoint in ids:
                self._begin(_id_of(touchpoint))
                await self._room.acquire()
        finally:
            # Else a listing's pages would be in flight until somebody collects the garbage.
            if isinstance(ids, AsyncGenerator):
                await ids.aclose()

    def _begin(self, touchpoint_id: str) -> None:
        self._taken += 1
        try:
            walk = Walk(self._make_pager(touchpoint_id))
        except DistinctError as error:
            error.touchpoint_id = touchpoint_id
            self._errors.append(error.with_traceback(None))
            self._room.release()
            return
        self._open.add(walk)
        self._watch(walk)

    def _watch(self, walk: _VisitWalk) -> None:
        """See to it that `_next_walk` returns the walk once there is something to take."""
        if walk.ready or walk.head is None:
            self._arrive(walk)
        else:
            walk.head.add_done_callback(partial(self._arrive, walk))

    def _arrive(self, walk: _VisitWalk, _: object = None) -> None:
        self._arrived.append(walk)
        self._wake.set()

    async def _next_walk(self, opener: asyncio.Task[None]) -> _VisitWalk | None:
        """Return the walk that has waited longest to be taken from; None when all have ended."""
        while True:
            while self._arrived:
                walk = self._arrived.popleft()
                # Now, so that its next pages are fetched while those of others are consumed.
                walk.settle()
                self._ready.append(walk)
            if self._ready:
                return self._ready.popleft()
            if opener.done() and not self._open:
                return None
            await self._wake.wait()
            self._wake.clear()

    async def _end(self, walk: _VisitWalk, opener: asyncio.Task[None]) -> None:
        if walk.failure is not None:
            await walk.aclose()
            # Frames hold pages, and there may be many failures.
            self._errors.append(walk.failure.with_traceback(None))
            if walk.failure.fatal:
                opener.cancel()
        self._open.discard(walk)
        self._room.release()

    async def _close(self, opener: asyncio.Task[None]) -> None:
        opener.cancel()
        tasks = [opener, *(task for walk in self._open for task in walk.cancel())]
        await asyncio.wait(tasks)

    def _conclude(self, opener: asyncio.Task[None]) -> None:
        """Raise what went wrong, if anything did."""
        error = self._error_of(opener)
        if isinstance(error, DistinctError):
            self._errors.append(error)
            error = None
        elif error is not None and not (self._errors and isinstance(error, Exception)):
            raise error
        if self._errors:
            stopped = opener.cancelled() or opener.exception() is not None
            raise self._group(stopped=stopped) from error

    def _error_of(self, opener: asyncio.Task[None]) -> BaseException | None:
        """Return why not all ids were taken, unless it was because of a touchpoint's failure."""
        if not opener.cancelled():
            return opener.exception()
        if any(error.fatal for error in self._errors):
            return None
        if not opener.cancelling():
            # Nobody cancelled it, so this is what the iterator of ids came to.
            return asyncio.CancelledError()
        return ClientClosedError("the client was closed before all touchpoints were started")

    def _group(self, *, stopped: bool) -> FanOutError:
        failed = sum(error.touchpoint_id is not None for error in self._errors)
        message = f"{failed} of {self._taken} touchpoints failed"
        group = FanOutError(message + "; no more were started" * stopped, self._errors)
        group.started = self._taken
        return group


def _require_many(touchpoint_ids: object) -> TouchpointIds:
    expected = "touchpoint_ids must be an iterable, or an async one, of ids"
    if isinstance(touchpoint_ids, str | bytes):
        # Which is an iterable of strings, too.
        raise ConfigurationError(f"{expected}, got a single one")
    if isinstance(touchpoint_ids, Iterable | AsyncIterable):
        return cast("TouchpointIds", touchpoint_ids)
    raise ConfigurationError(f"{expected}, got {type(touchpoint_ids).__name__}")


def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterable[T]:
    if isinstance(items, AsyncIterable):
        return items

    async def each() -> AsyncGenerator[T, None]:
        for item in items:
            yield item

    return each()


def _id_of(touchpoint: object) -> str:
    if isinstance(touchpoint, TouchpointSummary):
        return touchpoint.id
    if not isinstance(touchpoint, str):
        kind = type(touchpoint).__name__
        raise ConfigurationError(f"touchpoint_ids must give strings or touchpoints, got {kind}")
    return touchpoint
