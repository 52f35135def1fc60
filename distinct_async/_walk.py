"""The walk: every item of a paged list, once and in order. Knows neither HTTP nor the `Pager`.

A walk fetches pages through a `Source` and trusts only what it receives, as the list may change
meanwhile. Each page but the first is requested one item early, and accepted where that item proves
that it continues the page before. Where the list has shifted, the walk finds its place again, or
ends with a `PaginationError` rather than lose or repeat an item. It advances by the items it got
rather than those it requested, since servers clamp page sizes, and fills the gaps that short pages
leave. A total only says how far to look ahead; the end is where the pages end.

Offsets are the server's, as of the last accepted page.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic

import attrs

from distinct_async._place import PATIENCE, Place
from distinct_async._search import Found, Search, is_beyond_the_end, place_lost
from distinct_async.errors import (
    ClientClosedError,
    DistinctError,
    ListChangedError,
    RepeatedPageError,
    in_context,
)
from distinct_async.models import P, P_co

# Searches for the place without anything new in between.
_SEARCHES: Final = 4
# A page has room for a shared item and a new one.
_SMALLEST_PAGE: Final = 2


@attrs.frozen(eq=False, kw_only=True)
class Source(Generic[P_co]):
    """Where a walk's pages come from.

    Attributes:
        fetch: Returns the page at an offset, or an error. The second argument is the number of
            items to request; None leaves it to the server.
        spawn: Runs a coroutine in a task that is cancelled if the walk is abandoned, or returns
            why it cannot.
        key: Returns what identifies an item; None if items identify themselves.
        touchpoint_id: The touchpoint, for errors.
        experience_id: The experience, for errors.
    """

    fetch: Callable[[int, int | None], Awaitable[P_co | DistinctError]]
    spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any] | DistinctError]
    key: Callable[[Any], Any] | None = None
    touchpoint_id: str | None = None
    experience_id: str | None = None


@attrs.frozen(eq=False, repr=False)
class _Run(Generic[P_co]):
    """Consecutive pages, and the error that kept the next one from being fetched.

    Attributes:
        pages: The pages.
        error: The error.
        found: The result of a search, which has no other pages.
    """

    pages: list[Any]
    error: DistinctError | None = None
    found: Found[P_co] | None = None


@attrs.define(eq=False, repr=False)
class _Pending(Generic[P_co]):
    """A range whose pages are being fetched.

    Attributes:
        start: The offset of its first item.
        end: The offset after its last item.
        task: Fetches the pages.
        accepted: Number of pages already accepted.
        located: Whether the place was searched for because of the page after those.
        is_search: Whether the task searches for the place instead.
    """

    start: int
    end: int
    task: asyncio.Task[_Run[P_co]]
    accepted: int = 0
    located: bool = False
    is_search: bool = False


class Walk(Generic[P]):
    """One pass over a list: an ordered window of page tasks.

    `next_page` waits for one walk; a caller that waits for many uses `settle`, `take` and `head`.

    Args:
        source: Where the pages come from.
        offset: Index of the first item to deliver.
        after: The item expected before it; if it has moved, the walk starts after where it is now.
        limit: Maximum number of items to deliver; None for no limit.
        page_size: Items to request per page, or None for the server's default.
        prefetch: Maximum number of pages in flight or buffered.
    """

    def __init__(
        self,
        source: Source[P],
        *,
        offset: int = 0,
        after: Any = None,
        limit: int | None = None,
        page_size: int | None = None,
        prefetch: int = 4,
    ) -> None:
        self._source = source
        self._place: Place[P] = Place(
            offset=offset,
            after=after,
            limit=limit,
            key=source.key,
            name=source.touchpoint_id or source.experience_id,
        )
        # Pages up to here are being fetched.
        self._planned = offset
        self._page_size = page_size
        self._prefetch = prefetch
        self._stride = 0
        self._window = 1
        self._pending: deque[_Pending[P]] = deque()
        self._dropped: list[asyncio.Task[Any]] = []
        self._ready: deque[P] = deque()
        self._error: DistinctError | None = None
        if limit != 0:
            self._begin(offset, offset + 1)

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
            self._accept_run(self._pending.popleft())

    async def aclose(self) -> None:
        """Cancel what is in flight, and wait until it has ended."""
        if tasks := self.cancel():
            await asyncio.wait(tasks)

    def cancel(self) -> list[asyncio.Task[Any]]:
        """Cancel what is in flight; return the cancelled tasks."""
        tasks: list[asyncio.Task[Any]] = [pending.task for pending in self._pending]
        for task in tasks:
            task.cancel()
        return tasks + [task for task in self._dropped if not task.done()]

    def _accept_run(self, pending: _Pending[P]) -> None:
        if pending.task.cancelled():
            self._fail(ClientClosedError("the client was closed during the walk"))
            return
        run = pending.task.result()
        if run.found is not None:
            self._deliver(run.found.page, run.found.cut)
            self._keep_useful_ranges()
        for page in run.pages[pending.accepted :]:
            cut = self._place.cut(page, located=pending.located, doubt=not self._place.idle)
            if cut is None:
                self._find_place(pending, page)
                return
            self._deliver(page, cut)
            pending.accepted += 1
        if run.error is not None:
            self._accept_error(run.error, pending)
        self._window = min(self._window * 2, self._prefetch)
        self._plan()

    def _deliver(self, page: P, cut: int) -> None:
        delivered = self._place.accept(page, cut)
        if delivered is not None:
            self._ready.append(delivered)

    def _accept_error(self, error: DistinctError, pending: _Pending[P]) -> None:
        beyond = bool(self._place.delivered) and is_beyond_the_end(error)
        if beyond and not pending.is_search and self._place.idle < PATIENCE:
            # The list may have become shorter than the offset.
            self._find_place(pending, None)
        else:
            self._fail(error, placed=not pending.is_search)

    def _fail(self, error: DistinctError, *, placed: bool = True) -> None:
        if not isinstance(error, ListChangedError):
            error.resume_point = self._place.resume_point
        self._error = in_context(
            error,
            touchpoint_id=self._source.touchpoint_id,
            experience_id=self._source.experience_id,
            next_offset=self._place.reached if placed else None,
        )

    def _find_place(self, pending: _Pending[P], seen: P | None) -> None:
        """Search for the place before going on with a range, whose next page does not fit."""
        if pending.located:
            # The page is older than the place found, so fetch it again.
            self._begin(self._place.reached, pending.end, first=True)
        elif self._place.idle >= PATIENCE:
            self._fail(place_lost(), placed=False)
        else:
            pending.located = True
            self._pending.appendleft(pending)
            self._spawn(self._search(seen), pending.start, pending.start, first=True)
            self._pending[0].is_search = True

    def _keep_useful_ranges(self) -> None:
        """Drop the ranges that the place found lies behind, and fill the gap before the others."""
        reached, total = self._place.reached, self._place.total
        for pending in [*self._pending]:
            if pending.end <= reached or pending.start >= total:
                self._pending.remove(pending)
                self._drop(pending.task)
        self._planned = self._pending[-1].end if self._pending else reached
        if self._pending and self._pending[0].start > reached:
            self._begin(reached, self._pending[0].start, first=True)

    def _drop(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
        self._dropped = [dropped for dropped in (*self._dropped, task) if not dropped.done()]

    def _plan(self) -> None:
        """Fill the window with ranges that are known to exist."""
        place = self._place
        while self._error is None and len(self._pending) + len(self._ready) < self._window:
            start = self._planned if self._pending else place.reached
            stop = min(place.total, place.reached + place.left)
            if start >= stop or (place.idle and not self._pending):
                if self._pending or self._is_over():
                    return
                stop = start + 1
            self._begin(start, stop)

    def _is_over(self) -> bool:
        over = self._place.is_over()
        if isinstance(over, DistinctError):
            self._fail(over)
        return over is not False

    def _begin(self, start: int, stop: int, *, first: bool = False) -> None:
        """Fetch one page's worth of a range, or all of it if it is the first."""
        overlap = self._place.next_overlap(self._stride)
        end = stop if first else min(stop, start + max(1, self._stride - overlap))
        self._spawn(self._fetch_range(start - overlap, start, end), start, end, first=first)

    def _spawn(
        self, work: Coroutine[Any, Any, _Run[P]], start: int, end: int, *, first: bool = False
    ) -> None:
        task = self._source.spawn(work)
        if isinstance(task, DistinctError):
            self._fail(task)
        elif first:
            self._pending.appendleft(_Pending(start, end, task))
        else:
            self._pending.append(_Pending(start, end, task))
            self._planned = end

    async def _fetch_range(self, offset: int, start: int, end: int) -> _Run[P]:
        """Fetch the pages from `start` to `end`, with more requests where pages are short."""
        pages: list[P] = []
        stop = self._place.reached + self._place.left
        while True:
            page = await self._fetch_seam(offset, start, stop)
            if isinstance(page, DistinctError):
                return _Run(pages, page)
            pages.append(page)
            reached = offset + len(page.items)
            if reached >= end or reached <= start:
                return _Run(pages)
            start, offset = reached, reached - 1

    async def _fetch_seam(self, offset: int, start: int, stop: int) -> P | DistinctError:
        """Fetch a page that shares its first items, up to `start`, with the page before."""
        page = await self._fetch_page(offset, start, stop)
        if isinstance(page, DistinctError) or offset == start:
            return page
        if self._stride != 1 or len(page.items) != 1 or start >= page.total:
            return page
        # The server returns single items, which leave no room for a shared one. Read the next item
        # first, since the list may shift before the shared item is read again.
        added = await self._fetch_page(start, start, start + 1)
        if isinstance(added, DistinctError):
            return page if is_beyond_the_end(added) else added
        page_again = await self._fetch_page(offset, offset, start)
        if isinstance(page_again, DistinctError):
            return page_again
        return attrs.evolve(page_again, items=page_again.items + added.items)  # type: ignore[misc]

    async def _search(self, seen: P | None) -> _Run[P]:
        def fetch(offset: int) -> Awaitable[P | DistinctError]:
            return self._fetch_seam(offset, offset + 1, sys.maxsize)

        size = max(self._stride, _SMALLEST_PAGE)
        outcome = await Search(self._place, fetch, size=size, seen=seen).run()
        if isinstance(outcome, DistinctError):
            return _Run([], outcome)
        return _Run([], found=outcome)

    async def _fetch_page(self, offset: int, start: int, stop: int) -> P | DistinctError:
        size = self._page_size
        if size is not None:
            # A page must have room for more than the shared item.
            size = min(max(size, start - offset + 1), stop - offset)
        page = await self._source.fetch(offset, size)
        if isinstance(page, DistinctError):
            return page
        if page.offset != offset:
            if page.total > offset:
                return RepeatedPageError(offset, page.offset)
            # The offset is beyond the end, and the server has returned another page instead.
            page = attrs.evolve(page, items=(), offset=offset)  # type: ignore[misc]
        self._stride = max(self._stride, len(page.items))
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
