"""The walk: every item of a paged list, once and in order. Knows no HTTP.

A walk reads pages through a `fetch(offset, page_size)` function and trusts nothing but what came:
it strides by the items it got, not by those it asked for, since servers clamp page sizes; it
fills gaps that short pages leave; and it raises a `PaginationError` rather than lose or repeat an item.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeAlias

import attrs
from typing_extensions import TypeVar, override

from distinct_async.errors import (
    ClientClosedError,
    DistinctError,
    IncompleteListError,
    ListChangedError,
    RepeatedPageError,
)
from distinct_async.models import TouchpointPage, VisitPage, VisitsType

T_co = TypeVar("T_co", covariant=True)


class Page(Protocol[T_co]):
    """What a walk reads of a page."""

    @property
    def total(self) -> int:
        """The server's count of the items of all pages."""
        ...

    @property
    def items(self) -> tuple[T_co, ...]:
        """The items of this page."""
        ...

    @property
    def offset(self) -> int:
        """Index of the first of them."""
        ...


P_co = TypeVar("P_co", bound=Page[Any], default=Page[Any], covariant=True)

Fetch: TypeAlias = Callable[[int, int | None], Awaitable[P_co]]
"""Gets the page at an offset, asking for so many items, or for the server's default."""

Watch: TypeAlias = Callable[[Any], int | None]
"""Told each page in order, returns the offset whose items the page repeats, or None."""


@attrs.frozen(eq=False, kw_only=True)
class Source(Generic[P_co]):
    """Where a walk's pages come from.

    Attributes:
        fetch: Gets one page.
        spawn: Runs a coroutine as a task that somebody ends if the walk is abandoned.
        make_watch: Makes a fresh watch for repeated pages.
    """

    fetch: Fetch[P_co]
    spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]
    make_watch: Callable[[], Watch]


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Pager(Generic[T_co, P_co]):
    """A list that the server gives in pages, to be read item by item or page by page.

    A value: it does nothing until it is iterated, and every iteration is a walk of its own.

    Example:
        ``async for visit in client.total_visits("tp-1"): ...``

    Attributes:
        name: What is listed, for the repr.
        source: Where the pages come from.
        offset: Index of the first item to deliver.
        limit: Most items to deliver, or None.
        page_size: Items to ask for per page, or None for the server's default.
        prefetch: Most pages in flight or buffered ahead of the consumer.
        touchpoint_id: The touchpoint, for errors.
    """

    name: str
    source: Source[P_co]
    offset: int = 0
    limit: int | None = None
    page_size: int | None = None
    prefetch: int = 4
    touchpoint_id: str | None = None

    @override
    def __repr__(self) -> str:
        shown = f"offset={self.offset}, limit={self.limit}, page_size={self.page_size}"
        return f"<Pager {self.name}: {shown}, prefetch={self.prefetch}>"

    def __aiter__(self) -> AsyncGenerator[T_co, None]:  # noqa: PYI058 - has aclose()
        """Walk the pages and yield every item once, in order.

        Raises:
            DistinctError: A page could not be had, or the pages do not add up. All items before
                it were yielded, and `next_offset` is where the rest begins.
        """
        return self._items()

    async def _items(self) -> AsyncGenerator[T_co, None]:
        # Not through `pages`: a loop that ends closes all generators at once, and one that is
        # inside another would be closed twice.
        async with aclosing(Walk(self)) as walk:
            while (page := await walk.next_page()) is not None:
                for item in page.items:
                    yield item

    async def pages(self) -> AsyncGenerator[P_co, None]:
        """Walk the pages and yield them, with no item missing, repeated or past the limit.

        There is at least one page, unless `limit` is 0: an empty list has an empty page, which
        tells the total.

        Raises:
            DistinctError: As for the items.
        """
        async with aclosing(Walk(self)) as walk:
            while (page := await walk.next_page()) is not None:
                yield page

    async def collect(self) -> list[T_co]:
        """Return every item in a list.

        Raises:
            DistinctError: As for the items, which are lost then: iterate to keep them.
        """
        return [item async for page in self.pages() for item in page.items]


@attrs.frozen(eq=False, repr=False)
class _Run:
    """Consecutive pages that were fetched, and what kept the rest from being fetched."""

    pages: list[Any]
    failure: DistinctError | None = None


@attrs.frozen(eq=False, repr=False)
class _Pending:
    offset: int
    task: asyncio.Task[_Run]


class Walk(Generic[T_co, P_co]):
    """One iteration's state: an ordered window of page tasks over what is known of the list.

    `next_page` waits; whoever waits for many walks at once has `settle`, `take` and `head`.

    Offsets are in this order: the first `_reached` items were accepted, those up to `_planned`
    are being fetched, and the walk ends at the total or at `_stop`.
    """

    def __init__(self, pager: Pager[T_co, P_co]) -> None:
        self._pager = pager
        self._watch = pager.source.make_watch()
        self._stop = pager.offset + (sys.maxsize if pager.limit is None else pager.limit)
        self._reached = self._planned = pager.offset
        self._total = 0
        self._stride = 0
        self._window = 1
        self._pending: deque[_Pending] = deque()
        self._ready: deque[P_co] = deque()
        self._failure: DistinctError | None = None
        if pager.limit != 0:
            self._begin(self._fill(pager.offset, pager.offset + 1))

    @property
    def ready(self) -> bool:
        """Whether `take` would return a page without anything more being fetched."""
        return bool(self._ready)

    @property
    def head(self) -> asyncio.Task[Any] | None:
        """What fetches the page after those that are ready; None if none will come."""
        return self._pending[0].task if self._pending and self._failure is None else None

    @property
    def failure(self) -> DistinctError | None:
        """What ends the walk, after the pages that are ready, before its end."""
        return self._failure

    async def next_page(self) -> P_co | None:
        """Return the next page, or None after the last."""
        while (page := self.take()) is None and (head := self.head) is not None:
            await _until_done(head)
        if page is None and self._failure is not None:
            raise self._failure
        return page

    def take(self) -> P_co | None:
        """Return the next page if it is there."""
        self.settle()
        if not self._ready:
            return None
        page = self._ready.popleft()
        self._plan()
        return page

    def settle(self) -> None:
        """Get the next page ready if it was fetched, and ask for what there is room for now."""
        while not self._ready and (head := self.head) is not None and head.done():
            self._pending.popleft()
            self._accept_run(head)

    async def aclose(self) -> None:
        """Cancel what is in flight and wait until it is gone."""
        if tasks := self.cancel():
            await asyncio.wait(tasks)

    def cancel(self) -> list[asyncio.Task[_Run]]:
        """Cancel what is in flight; return the tasks that will be gone soon."""
        tasks = [pending.task for pending in self._pending]
        for task in tasks:
            task.cancel()
        return tasks

    def _accept_run(self, task: asyncio.Task[_Run]) -> None:
        if task.cancelled():
            self._fail(ClientClosedError("the client was closed during the walk"))
            return
        run = task.result()
        try:
            self._accept(run.pages)
        except RepeatedPageError as error:
            self._fail(error)
            return
        if run.failure is not None:
            self._fail(run.failure)
        self._window = min(self._window * 2, self._pager.prefetch)
        self._plan()

    def _fail(self, error: DistinctError) -> None:
        error.touchpoint_id = self._pager.touchpoint_id
        error.next_offset = self._reached
        self._failure = error

    def _accept(self, pages: list[P_co]) -> None:
        boundary = self._pending[0].offset if self._pending else self._stop
        for page in pages:
            self._stride = max(self._stride, len(page.items))
            room = boundary - page.offset
            if len(page.items) > room:
                page = attrs.evolve(page, items=page.items[:room])  # type: ignore[misc] # noqa: PLW2901
            returned = self._watch(page)
            if returned is not None:
                raise RepeatedPageError(page.offset, returned)
            # An empty page is news only at the start, where it tells the total.
            if page.items or page.offset == self._pager.offset:
                self._ready.append(page)
            self._reached = page.offset + len(page.items)
        if not self._pending:
            self._planned = self._reached

    def _plan(self) -> None:
        """Fill the window with the ranges that are known to exist."""
        while self._failure is None and len(self._pending) + len(self._ready) < self._window:
            end = min(self._planned + self._stride, self._total, self._stop)
            if end > self._planned:
                work = self._fill(self._planned, end)
            elif self._is_overrun():
                work = self._confirm_total()
            else:
                return
            self._begin(work)
            self._planned = max(self._planned, end)

    def _is_overrun(self) -> bool:
        """Tell whether the pages held more than the total, and no page was asked for since."""
        some = self._reached > self._pager.offset
        return some and not self._pending and self._total < self._reached < self._stop

    def _begin(self, work: Coroutine[Any, Any, _Run]) -> None:
        try:
            task = self._pager.source.spawn(work)
        except DistinctError as error:
            self._fail(error)
        else:
            self._pending.append(_Pending(self._planned, task))

    async def _fill(self, offset: int, end: int) -> _Run:
        """Fetch the range up to `end`, again and again where the server gives short pages.

        Never raises a `DistinctError`: the pages before it would be lost, and so would the error
        if nobody comes to await the task.
        """
        pages: list[P_co] = []
        room = self._stop - offset
        try:
            while room > 0:
                page = await self._fetch_page(offset, room)
                pages.append(page)
                offset += len(page.items)
                room = end - offset if page.items else 0
        except DistinctError as error:
            return _Run(pages, error)
        return _Run(pages)

    async def _confirm_total(self) -> _Run:
        """Ask again whether the total has grown to what the pages held."""
        reached = self._reached
        run = await self._fill(reached, reached + 1)
        if run.failure is None and self._total < reached:
            return _Run([], IncompleteListError(self._total, reached))
        return run

    async def _fetch_page(self, offset: int, room: int) -> P_co:
        size = self._pager.page_size
        # Requests overlap, so only a total that was known before this one can have shrunk.
        known = self._total
        ask = None if size is None else min(size, room)
        page = await self._pager.source.fetch(offset, ask)
        if page.offset != offset:
            raise RepeatedPageError(offset, page.offset)
        if page.total < known:
            raise ListChangedError(known, page.total)
        if not page.items and offset < page.total:
            raise IncompleteListError(page.total, offset)
        self._total = max(self._total, page.total)
        return page


async def _until_done(task: asyncio.Task[Any]) -> None:
    """Wait for a task, whose result or cancellation is not ours. Faster than `asyncio.wait`."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(_: asyncio.Task[Any]) -> None:
        if not done.done():
            done.set_result(None)

    task.add_done_callback(tell)
    try:
        await done
    finally:
        task.remove_done_callback(tell)


def watch_visits() -> Watch:
    """Watch for a server that ignores the offset but claims not to: it repeats its page.

    A page may rightly repeat the one before it when all its visits are of one moment, so among
    total visits that is let pass; among unique visits no user comes twice.
    """
    previous: tuple[Any, ...] = ()
    previous_offset = 0

    def watch(page: VisitPage) -> int | None:
        nonlocal previous, previous_offset
        items, before, offset = page.items, previous, previous_offset
        previous, previous_offset = items, page.offset
        # The first ones alone tell most pages apart, without a copy of the page before.
        if not items or not before or items[0] != before[0] or items != before[: len(items)]:
            return None
        unique = page.visits_type is VisitsType.UNIQUE
        return offset if unique or items[0].timestamp != items[-1].timestamp else None

    return watch


def watch_touchpoints() -> Watch:
    """Watch for touchpoints that were listed before: the server may ignore the offset."""
    first_seen: dict[str, int] = {}

    def watch(page: TouchpointPage) -> int | None:
        for index, touchpoint in enumerate(page.items, page.offset):
            first = first_seen.setdefault(touchpoint.id, index)
            if first != index:
                return first
        return None

    return watch
