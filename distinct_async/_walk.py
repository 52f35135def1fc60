"""The walk: every item of a paged list, once and in order. Knows neither HTTP nor the `Pager`.

A walk fetches pages through a `Source` and trusts only what it receives. It advances by the items
it got rather than those it requested, since servers clamp page sizes; it fills the gaps that short
pages leave; and it ends with a `PaginationError` rather than lose or repeat an item.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeAlias

import attrs
from typing_extensions import TypeVar

from distinct_async.errors import (
    ClientClosedError,
    DistinctError,
    IncompleteListError,
    ListChangedError,
    RepeatedPageError,
    in_context,
)
from distinct_async.models import Page, TouchpointPage, VisitPage, VisitsType

P_co = TypeVar("P_co", bound=Page[Any], default=Page[Any], covariant=True)
P = TypeVar("P", bound=Page[Any], default=Page[Any])

Watch: TypeAlias = Callable[[Any], int | None]
"""Takes each page in order; returns the offset whose items the page repeats, or None."""


@attrs.frozen(eq=False, kw_only=True)
class Source(Generic[P_co]):
    """Where a walk's pages come from.

    Attributes:
        fetch: Returns the page at an offset, or an error. The second argument is the number of
            items to request; None leaves it to the server.
        spawn: Runs a coroutine in a task that is cancelled if the walk is abandoned, or returns
            why it cannot.
        make_watch: Returns a new watch for repeated pages.
        touchpoint_id: The touchpoint, for errors.
        experience_id: The experience, for errors.
    """

    fetch: Callable[[int, int | None], Awaitable[P_co | DistinctError]]
    spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any] | DistinctError]
    make_watch: Callable[[], Watch]
    touchpoint_id: str | None = None
    experience_id: str | None = None


@attrs.frozen(eq=False, repr=False)
class _Run(Generic[P_co]):
    """Consecutive pages, and the error that kept the next one from being fetched."""

    pages: list[Any]
    error: DistinctError | None = None


@attrs.frozen(eq=False, repr=False)
class _Pending(Generic[P_co]):
    offset: int
    task: asyncio.Task[_Run[P_co]]


class Walk(Generic[P]):
    """One pass over a list: an ordered window of page tasks.

    `next_page` waits for one walk; a caller that waits for many uses `settle`, `take` and `head`.

    The offsets are ordered: pages before `_reached` are accepted, those before `_planned` are
    being fetched, and the walk ends at the total or at `_stop`.

    Args:
        source: Where the pages come from.
        offset: Index of the first item to deliver.
        limit: Maximum number of items to deliver; None for no limit.
        page_size: Items to request per page, or None for the server's default.
        prefetch: Maximum number of pages in flight or buffered.
    """

    def __init__(
        self,
        source: Source[P],
        *,
        offset: int = 0,
        limit: int | None = None,
        page_size: int | None = None,
        prefetch: int = 4,
    ) -> None:
        self._source = source
        self._watch = source.make_watch()
        self._start = self._reached = self._planned = offset
        self._stop = offset + (sys.maxsize if limit is None else limit)
        self._page_size = page_size
        self._prefetch = prefetch
        self._total = 0
        self._stride = 0
        self._window = 1
        self._pending: deque[_Pending[P]] = deque()
        self._ready: deque[P] = deque()
        self._error: DistinctError | None = None
        if limit != 0:
            self._begin(self._fetch_range(offset, offset + 1))

    @property
    def ready(self) -> bool:
        """Whether `take` would return a page without waiting."""
        return bool(self._ready)

    @property
    def head(self) -> asyncio.Task[Any] | None:
        """The task that fetches the page after the ready ones; None if there will be none."""
        return self._pending[0].task if self._pending and self._error is None else None

    @property
    def error(self) -> DistinctError | None:
        """The error that ends the walk after the ready pages."""
        return self._error

    async def next_page(self) -> P | DistinctError | None:
        """Return the next page, None after the last, or the error that ends the walk."""
        while (page := self.take()) is None and (head := self.head) is not None:
            await _wait_until_done(head)
        return self._error if page is None else page

    def take(self) -> P | None:
        """Return the next page if it is ready."""
        self.settle()
        if not self._ready:
            return None
        page = self._ready.popleft()
        self._plan()
        return page

    def settle(self) -> None:
        """Accept the next page if it has arrived, and request what the window has room for."""
        while not self._ready and (head := self.head) is not None and head.done():
            self._pending.popleft()
            self._accept_run(head)

    async def aclose(self) -> None:
        """Cancel what is in flight, and wait until it has ended."""
        if tasks := self.cancel():
            await asyncio.wait(tasks)

    def cancel(self) -> list[asyncio.Task[Any]]:
        """Cancel what is in flight; return the cancelled tasks."""
        tasks: list[asyncio.Task[Any]] = [pending.task for pending in self._pending]
        for task in tasks:
            task.cancel()
        return tasks

    def _accept_run(self, task: asyncio.Task[_Run[P]]) -> None:
        if task.cancelled():
            self._fail(ClientClosedError("the client was closed during the walk"))
            return
        run = task.result()
        error = self._accept(run.pages) or run.error
        if error is not None:
            self._fail(error)
        self._window = min(self._window * 2, self._prefetch)
        self._plan()

    def _fail(self, error: DistinctError) -> None:
        self._error = in_context(
            error,
            touchpoint_id=self._source.touchpoint_id,
            experience_id=self._source.experience_id,
            next_offset=self._reached,
        )

    def _accept(self, pages: list[P]) -> DistinctError | None:
        """Append pages to the ready ones; return an error if one repeats earlier items."""
        boundary = self._pending[0].offset if self._pending else self._stop
        for page in pages:
            self._stride = max(self._stride, len(page.items))
            room = boundary - page.offset
            if len(page.items) > room:
                page = attrs.evolve(page, items=page.items[:room])  # type: ignore[misc] # noqa: PLW2901
            returned = self._watch(page)
            if returned is not None:
                return RepeatedPageError(page.offset, returned)
            # The first page is delivered even if it is empty, because it carries the total.
            if page.items or page.offset == self._start:
                self._ready.append(page)
            self._reached = page.offset + len(page.items)
        if not self._pending:
            self._planned = self._reached
        return None

    def _plan(self) -> None:
        """Fill the window with ranges that are known to exist."""
        while self._error is None and len(self._pending) + len(self._ready) < self._window:
            end = min(self._planned + self._stride, self._total, self._stop)
            if end > self._planned:
                work = self._fetch_range(self._planned, end)
            elif self._is_overrun():
                work = self._confirm_total()
            else:
                return
            self._begin(work)
            self._planned = max(self._planned, end)

    def _is_overrun(self) -> bool:
        """Whether the pages held more than the total, and no page was requested since."""
        some = self._reached > self._start
        return some and not self._pending and self._total < self._reached < self._stop

    def _begin(self, work: Coroutine[Any, Any, _Run[P]]) -> None:
        task = self._source.spawn(work)
        if isinstance(task, DistinctError):
            self._fail(task)
        else:
            self._pending.append(_Pending(self._planned, task))

    async def _fetch_range(self, offset: int, end: int) -> _Run[P]:
        """Fetch the pages from `offset` to `end`, with more requests where pages are short."""
        pages: list[P] = []
        room = self._stop - offset
        while room > 0:
            page = await self._fetch_page(offset, room)
            if isinstance(page, DistinctError):
                return _Run(pages, page)
            pages.append(page)
            offset += len(page.items)
            room = end - offset if page.items else 0
        return _Run(pages)

    async def _confirm_total(self) -> _Run[P]:
        """Check whether the total has grown to the number of items received."""
        reached = self._reached
        run = await self._fetch_range(reached, reached + 1)
        if run.error is None and self._total < reached:
            return _Run([], IncompleteListError(self._total, reached))
        return run

    async def _fetch_page(self, offset: int, room: int) -> P | DistinctError:
        size = self._page_size
        # Requests overlap, so only a total known before this request proves that it shrank.
        known = self._total
        page = await self._source.fetch(offset, None if size is None else min(size, room))
        if isinstance(page, DistinctError):
            return page
        if page.offset != offset:
            return RepeatedPageError(offset, page.offset)
        if page.total < known:
            return ListChangedError(known, page.total)
        if not page.items and offset < page.total:
            return IncompleteListError(page.total, offset)
        self._total = max(self._total, page.total)
        return page


async def _wait_until_done(task: asyncio.Task[Any]) -> None:
    """Wait for a task without taking its result or its cancellation; faster than asyncio.wait."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def set_done(_: asyncio.Task[Any]) -> None:
        if not done.done():
            done.set_result(None)

    task.add_done_callback(set_done)
    try:
        await done
    finally:
        task.remove_done_callback(set_done)


def watch_visits() -> Watch:
    """Return a watch for a server that ignores the offset but claims to honour it.

    Among total visits, a page may legitimately repeat the one before it if all its visits share
    one timestamp, so that passes. Among unique visits no user occurs twice.
    """
    previous: tuple[Any, ...] = ()
    previous_offset = 0

    def watch(page: VisitPage) -> int | None:
        nonlocal previous, previous_offset
        items, before, offset = page.items, previous, previous_offset
        previous, previous_offset = items, page.offset
        # The first items differ on most pages, which avoids copying the previous page.
        if not items or not before or items[0] != before[0] or items != before[: len(items)]:
            return None
        unique = page.visits_type is VisitsType.UNIQUE
        return offset if unique or items[0].timestamp != items[-1].timestamp else None

    return watch


def watch_touchpoints() -> Watch:
    """Return a watch for touchpoints listed before, because the server may ignore the offset."""
    first_seen: dict[str, int] = {}

    def watch(page: TouchpointPage) -> int | None:
        for index, touchpoint in enumerate(page.items, page.offset):
            first = first_seen.setdefault(touchpoint.id, index)
            if first != index:
                return first
        return None

    return watch
