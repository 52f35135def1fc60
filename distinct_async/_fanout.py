"""Many walks side by side: the pages of many touchpoints, each as soon as it arrives.

Knows no HTTP and buffers no pages: they wait in their walks, whose windows bound them, until the
consumer takes them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from distinct_async._checks import require_integer
from distinct_async._health import Admit, admit_all, do_nothing
from distinct_async._walk import Walk
from distinct_async.errors import (
    ClientClosedError,
    ConfigurationError,
    DistinctError,
    FanOutError,
    in_context,
)
from distinct_async.models import TouchpointSummary, Visit, VisitPage
from distinct_async.pagination import Pager, open_walk

T = TypeVar("T")
VisitPager: TypeAlias = Pager[Visit, VisitPage]
_VisitWalk: TypeAlias = Walk[VisitPage]

AnyTouchpoint: TypeAlias = str | TouchpointSummary | VisitPager
Touchpoints: TypeAlias = Iterable[AnyTouchpoint] | AsyncIterable[AnyTouchpoint]
"""Touchpoints: their ids, an experience's touchpoints as they are listed, or pagers of visits."""


class FanOut:
    """One fan-out's state: which walks are open, and which have a page to take.

    Args:
        touchpoints: The touchpoints. Each is taken from the iterable when its walk can start, not
            before. An async generator is closed at the end.
        make_pager: Returns the pager for an id.
        spawn: Runs a coroutine in a task that is cancelled if the fan-out is abandoned, or returns
            why it cannot.
        concurrency: Maximum number of open walks.
        flow: What the requests of all walks belong to.
        admit: Awaited before each touchpoint is taken from the iterable, once there is room.

    Raises:
        ConfigurationError: An argument is unusable.
    """

    def __init__(
        self,
        touchpoints: Touchpoints,
        *,
        make_pager: Callable[[str], VisitPager],
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any] | DistinctError],
        concurrency: int,
        flow: object | None = None,
        admit: Admit = admit_all,
    ) -> None:
        self._touchpoints = _require_many(touchpoints)
        self._make_pager = make_pager
        self._spawn = spawn
        self._flow = flow
        self._admit = admit
        self._room = asyncio.Semaphore(require_integer("concurrency", concurrency, minimum=1))
        self._open: set[_VisitWalk] = set()
        self._arrived: deque[_VisitWalk] = deque()
        self._ready: deque[_VisitWalk] = deque()
        self._wake = asyncio.Event()
        self._started = 0
        self._errors: list[DistinctError] = []

    async def pages(self) -> AsyncGenerator[VisitPage, None]:
        """Walk every touchpoint and yield all pages.

        Raises:
            FanOutError: Some touchpoints failed, or the iterable ended early.
            Exception: The iterable itself raised it; if touchpoints failed too, it is the
                FanOutError's cause.
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
        self._raise_failures(opener)

    def _start(self) -> asyncio.Task[None]:
        opener = self._spawn(self._open_walks())
        if isinstance(opener, DistinctError):
            raise FanOutError(f"no touchpoint was started: {opener}", [opener])
        opener.add_done_callback(lambda _: self._wake.set())
        return opener

    async def _open_walks(self) -> None:
        """Open a walk whenever there is room for one, and the server seems fit for it."""
        touchpoints, end_probe = aiter(_as_async(self._touchpoints)), do_nothing
        try:
            await self._room.acquire()
            end_probe = await self._admit()
            async for touchpoint in touchpoints:
                if self._begin(touchpoint, end_probe):
                    await self._room.acquire()
                    end_probe = await self._admit()
        finally:
            # The iterable has ended or failed, and others may wait for the probe.
            end_probe()
            # Otherwise a listing's pages would stay in flight until garbage collection.
            if isinstance(touchpoints, AsyncGenerator):
                await touchpoints.aclose()

    def _begin(self, touchpoint: object, end_probe: Callable[[], None]) -> bool:
        """Open a touchpoint's walk; return whether that was possible."""
        pager = self._as_pager(touchpoint)
        self._started += 1
        if isinstance(pager, DistinctError):
            self._errors.append(pager)
            return False
        walk = open_walk(pager, self._flow)
        self._open.add(walk)
        if walk.head is None:
            end_probe()
        else:
            walk.head.add_done_callback(lambda _: end_probe())
        self._watch(walk)
        return True

    def _as_pager(self, touchpoint: object) -> VisitPager | ConfigurationError:
        """Return the touchpoint's pager, or why its id is unusable.

        Raises:
            ConfigurationError: It is no touchpoint at all, so the iterable is the wrong one.
        """
        if isinstance(touchpoint, Pager):
            return _require_visits(touchpoint)
        touchpoint_id = _require_id(touchpoint)
        try:
            return self._make_pager(touchpoint_id)
        except ConfigurationError as error:
            return in_context(error, touchpoint_id=touchpoint_id)

    def _watch(self, walk: _VisitWalk) -> None:
        """Have `_next_walk` return the walk once it has something to take."""
        if walk.ready or walk.head is None:
            self._arrive(walk)
        else:
            walk.head.add_done_callback(partial(self._arrive, walk))

    def _arrive(self, walk: _VisitWalk, _: object = None) -> None:
        self._arrived.append(walk)
        self._wake.set()

    async def _next_walk(self, opener: asyncio.Task[None]) -> _VisitWalk | None:
        """Return the walk that has been ready the longest; None after all have ended."""
        while True:
            while self._arrived:
                walk = self._arrived.popleft()
                # Settle it now: its next pages are fetched while those of others are consumed.
                walk.settle()
                self._ready.append(walk)
            if self._ready:
                return self._ready.popleft()
            if opener.done() and not self._open:
                return None
            await self._wake.wait()
            self._wake.clear()

    async def _end(self, walk: _VisitWalk, opener: asyncio.Task[None]) -> None:
        if walk.error is not None:
            await walk.aclose()
            self._errors.append(walk.error)
            if walk.error.fatal:
                opener.cancel()
        self._open.discard(walk)
        self._room.release()

    async def _close(self, opener: asyncio.Task[None]) -> None:
        opener.cancel()
        tasks = [opener, *(task for walk in self._open for task in walk.cancel())]
        await asyncio.wait(tasks)

    def _raise_failures(self, opener: asyncio.Task[None]) -> None:
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
        """Return why the iterable ended early, unless a touchpoint's failure stopped it."""
        if not opener.cancelled():
            return opener.exception()
        if any(error.fatal for error in self._errors):
            return None
        if not opener.cancelling():
            # Nobody cancelled the task, so the iterable itself raised CancelledError.
            return asyncio.CancelledError()
        return ClientClosedError("the client was closed before all touchpoints were started")

    def _group(self, *, stopped: bool) -> FanOutError:
        failed = sum(error.touchpoint_id is not None for error in self._errors)
        message = f"{failed} of {self._started} touchpoints failed"
        ended = next((error for error in self._errors if error.touchpoint_id is None), None)
        if ended is not None:
            message = f"the touchpoints ended early: {ended}" + f"; {message}" * bool(failed)
        group = FanOutError(message + "; no more were started" * stopped, self._errors)
        group.started = self._started
        return group


def _require_many(touchpoints: object) -> Touchpoints:
    expected = "touchpoints must be an iterable, sync or async, of ids, touchpoints or pagers"
    is_visit_pager = isinstance(touchpoints, Pager) and touchpoints.touchpoint_id is not None
    if is_visit_pager or isinstance(touchpoints, str | bytes):
        # Both are iterable, but not over touchpoints.
        raise ConfigurationError(f"{expected}, got a single one")
    if isinstance(touchpoints, Iterable | AsyncIterable):
        return cast("Touchpoints", touchpoints)
    raise ConfigurationError(f"{expected}, got {type(touchpoints).__name__}")


def _as_async(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterable[T]:
    if isinstance(items, AsyncIterable):
        return items

    async def iterate() -> AsyncGenerator[T, None]:
        for item in items:
            yield item

    return iterate()


def _require_visits(pager: Any) -> VisitPager:
    if pager.touchpoint_id is None:
        raise _not_a_touchpoint("a pager of touchpoints")
    return cast("VisitPager", pager)


def _require_id(touchpoint: object) -> str:
    if isinstance(touchpoint, TouchpointSummary):
        return touchpoint.id
    if isinstance(touchpoint, str):
        return touchpoint
    raise _not_a_touchpoint(type(touchpoint).__name__)


def _not_a_touchpoint(kind: str) -> ConfigurationError:
    return ConfigurationError(
        f"touchpoints must yield ids, touchpoints or pagers of visits, got {kind}"
    )
