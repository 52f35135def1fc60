"""Reading ranges of a paged list, whatever page sizes the server allows."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, TypeAlias, TypeGuard

import attrs

from distinct_async._health import Admit, admit_all
from distinct_async._search import is_beyond_the_end
from distinct_async.errors import DistinctError, RepeatedPageError
from distinct_async.models import P, P_co

# API document, "Query Parameters".
DEFAULT_PAGE_SIZE: Final = 50
# A page has room for a shared item and a new one.
_SMALLEST_PAGE: Final = 2

Fetch: TypeAlias = Callable[[int, int | None], Awaitable[P_co | DistinctError]]


@attrs.frozen(eq=False, kw_only=True)
class Source(Generic[P_co]):
    """Where a walk's pages come from.

    Attributes:
        fetch: Returns the page at an offset, or an error. The second argument is the number of
            items to request; None leaves it to the server.
        spawn: Runs a coroutine in a task that is cancelled if the walk is abandoned, or returns
            why it cannot.
        for_flow: Returns `fetch` for the requests of one flow, which take turns with others; a flow
            of its own if None is passed. None if all requests are alike.
        key: Returns what identifies an item; None if items identify themselves.
        is_full: Returns whether a page has as many items as the server puts on one, so that more
            may follow whatever the total says.
        touchpoint_id: The touchpoint, for errors.
        experience_id: The experience, for errors.
        admit: Waits until a further list may be started beside others; a walk does not call it.
    """

    fetch: Fetch[P_co]
    spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any] | DistinctError]
    for_flow: Callable[[object], Fetch[P_co]] | None = None
    key: Callable[[Any], Any] | None = None
    is_full: Callable[[Any], bool] = lambda _: False
    touchpoint_id: str | None = None
    experience_id: str | None = None
    admit: Admit = admit_all


@attrs.frozen(eq=False, repr=False)
class Run(Generic[P_co]):
    """Consecutive pages, and the error that kept the next one from being fetched."""

    pages: list[Any]
    error: DistinctError | None = None


class Reader(Generic[P]):
    """Reads pages from a source.

    Args:
        source: The source.
        page_size: Items to request per page, or None for the server's default.

    Attributes:
        stride: Number of items on the largest page so far.
    """

    def __init__(self, source: Source[P], page_size: int | None) -> None:
        self.stride = 0
        # The page that ends a list may be shorter than the others.
        self._full_page = 0
        self._source = source
        self._page_size = page_size

    @property
    def likely_size(self) -> int:
        """Number of items on the next page, if the list is long enough; at least two."""
        return max(self._full_page or self._page_size or DEFAULT_PAGE_SIZE, _SMALLEST_PAGE)

    async def read(self, start: int, end: int, *, overlap: int, stop: int, again: bool) -> Run[P]:
        """Fetch the pages of a range, with more requests where pages are short.

        Args:
            start: The offset of the first item that is wanted.
            end: The offset after the last item to read at least.
            overlap: Number of items to read before those.
            stop: The offset after the last item that may be read.
            again: Whether the last page brought nothing new.
        """
        pages: list[P] = []
        offset = start - overlap
        while True:
            page = await self._fetch(offset, start, stop)
            if self._is_single(page, start) and (self.stride == 1 or again or pages):
                page = await self._add_next(page, start)
            if isinstance(page, DistinctError):
                return Run(pages, page)
            pages.append(page)
            reached = offset + len(page.items)
            if reached >= end or reached <= start:
                return Run(pages)
            start, offset = reached, reached - 1

    async def probe(self, offset: int) -> P | DistinctError:
        """Fetch one page of at least two items."""
        page = await self._fetch(offset, offset + 1, sys.maxsize)
        return await self._add_next(page, offset + 1) if self._is_single(page, offset + 1) else page

    def _is_single(self, page: P | DistinctError, start: int) -> TypeGuard[P]:
        """Return whether a page has only the item before `start`, although the list goes on."""
        if isinstance(page, DistinctError) or len(page.items) != 1:
            return False
        return page.offset < start < page.total

    async def _add_next(self, page: P, start: int) -> P | DistinctError:
        """Read the item at `start` after a page that left no room for it."""
        offset = page.offset
        # Read the next item first, since the list may shift before the shared item is read again.
        added = await self._fetch(start, start, start + 1)
        if isinstance(added, DistinctError):
            ended = is_beyond_the_end(added) or isinstance(added, RepeatedPageError)
            return page if ended else added
        page_again = await self._fetch(offset, offset, start)
        if isinstance(page_again, DistinctError):
            return page_again
        if not added.items or self._keys(page_again) != self._keys(page):
            return page_again
        self.stride = 1
        return attrs.evolve(page_again, items=page_again.items + added.items)  # type: ignore[misc]

    def _keys(self, page: P) -> list[Any]:
        key = self._source.key
        return [*page.items] if key is None else [*map(key, page.items)]

    async def _fetch(self, offset: int, start: int, stop: int) -> P | DistinctError:
        size = self._page_size
        if size is not None:
            # A page must have room for more than the shared items.
            size = min(max(size, start - offset + 1), stop - offset)
        page = await self._source.fetch(offset, size)
        if isinstance(page, DistinctError):
            return page
        if page.offset != offset:
            if page.total > offset:
                return RepeatedPageError(offset, page.offset)
            # The offset is beyond the end, and the server has returned another page instead.
            page = attrs.evolve(page, items=(), offset=offset)  # type: ignore[misc]
        self.stride = max(self.stride, len(page.items))
        if offset + len(page.items) < page.total:
            self._full_page = max(self._full_page, len(page.items))
        return page
