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
from collections import deque
from collections.abc import Coroutine
from typing import Any, Final, Generic

import attrs

from distinct_async._place import Place
from distinct_async._reading import Reader, Run, Source
from distinct_async._search import Found, Search, is_beyond_the_end, place_lost
from distinct_async.errors import ClientClosedError, DistinctError, ListChangedError, in_context
from distinct_async.models import P

# Pages in a row without anything new, on a list that shifts faster than it can be read.
_MOVES: Final = 64
# Pages in a row without anything new after which the ranges ahead are taken to lie beyond the end.
_BARREN: Final = 2


@attrs.define(eq=False, repr=False)
class _Pending(Generic[P]):
    """A range that is being read, or a search for the place before one.

    Attributes:
        start: The offset of its first item.
        end: The offset after its last item.
        task: Returns the run of pages, or the result of the search.
        accepted: Number of pages already accepted.
        located: Whether the place was searched for because of the page after those.
    """

    start: int
    end: int
    task: asyncio.Task[Run[P] | Found[P] | DistinctError]
    accepted: int = 0
    located: bool = False


class Walk(Generic[P]):
    """One pass over a list: an ordered window of page tasks.

    `next_page` waits for one walk; a caller that waits for many uses `settle`, `take` and `head`.

    Args:
        source: Where the pages come from.
        offset: Index of the first item to deliver.
        after: The items expected before it; if they have moved, the walk starts after where they
            are now.
        total: The server's count when a walk had come there, if known.
        name: The list, for the log and for resuming.
        limit: Maximum number of items to deliver; None for no limit.
        page_size: Items to request per page, or None for the server's default.
        prefetch: Maximum number of pages in flight or buffered.
    """

    def __init__(
        self,
        source: Source[P],
        *,
        offset: int = 0,
        after: tuple[Any, ...] = (),
        total: int | None = None,
        name: str = "items",
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
            is_full=source.is_full,
            name=name,
            total=total,
        )
        # Pages up to here are being fetched.
        self._planned = offset
        self._reader: Reader[P] = Reader(source, page_size)
        self._prefetch = prefetch
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
            self._accept(self._pending.popleft())

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

    def _accept(self, pending: _Pending[P]) -> None:
        if pending.task.cancelled():
            self._fail(ClientClosedError("the client was closed during the walk"))
            return
        outcome = pending.task.result()
        if isinstance(outcome, DistinctError):
            # The list has shifted, so the offset that the walk had reached means nothing now.
            self._fail(outcome, placed=False)
        elif isinstance(outcome, Found):
            self._ready.extend(self._place.accept(outcome.page, outcome.cut, searched=True))
        elif not self._accept_run(pending, outcome):
            return
        if self._place.moves >= _MOVES:
            self._fail(place_lost(), placed=False)
        if self._place.reached != pending.end or self._place.idle:
            self._keep_useful_ranges()
        self._window = min(self._window * 2, self._prefetch)
        self._plan()

    def _accept_run(self, pending: _Pending[P], run: Run[P]) -> bool:
        """Accept pages until one does not fit; return whether all did."""
        for page in run.pages[pending.accepted :]:
            cut = self._place.cut(page, located=pending.located, doubt=not self._place.idle)
            if cut is None:
                self._find_place(pending, page)
                return False
            self._ready.extend(self._place.accept(page, cut))
            pending.accepted += 1
        if run.error is None:
            return True
        if self._place.is_known and is_beyond_the_end(run.error):
            # The list may have become shorter than the offset.
            self._find_place(pending, None)
            return False
        self._fail(run.error)
        return True

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
        else:
            pending.located = True
            self._pending.appendleft(pending)
            search = Search(
                self._place, self._reader.probe, size=self._reader.likely_size, seen=seen
            )
            self._spawn(search.run(), pending.start, pending.start, first=True)

    def _keep_useful_ranges(self) -> None:
        """Drop ranges behind the place or beyond the end, and fill the gap before the others."""
        place = self._place
        barren = place.idle >= _BARREN
        for pending in [*self._pending]:
            if barren or pending.end <= place.reached or pending.start >= place.total:
                self._pending.remove(pending)
                self._drop(pending.task)
        self._planned = self._pending[-1].end if self._pending else place.reached
        if self._error is None and self._pending and self._pending[0].start > place.reached:
            self._begin(place.reached, self._pending[0].start, first=True)

    def _drop(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
        self._dropped = [dropped for dropped in (*self._dropped, task) if not dropped.done()]

    def _plan(self) -> None:
        """Fill the window with ranges that are known to exist."""
        place = self._place
        # Look ahead only from a place that is known, and not while the end is read again.
        window = 1 if place.idle or not place.is_known else self._window
        while self._error is None and len(self._pending) + len(self._ready) < window:
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

    def _begin(self, start: int, end: int, *, first: bool = False) -> None:
        """Read one page's worth of a range, or all of it if it comes before the others."""
        place, stride = self._place, self._reader.stride
        overlap = place.next_overlap(stride or self._reader.likely_size)
        if not first:
            end = min(end, start + max(1, stride - overlap))
        stop = place.reached + place.left
        reading = self._reader.read(start, end, overlap=overlap, stop=stop, again=place.idle == 1)
        self._spawn(reading, start, end, first=first)

    def _spawn(
        self, work: Coroutine[Any, Any, Any], start: int, end: int, *, first: bool = False
    ) -> None:
        task = self._source.spawn(work)
        if isinstance(task, DistinctError):
            self._fail(task)
        elif first:
            self._pending.appendleft(_Pending(start, end, task))
        else:
            self._pending.append(_Pending(start, end, task))
            self._planned = end


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
