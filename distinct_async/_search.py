"""The search for a walk's place in a list that has shifted."""

from collections import deque
from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import Final, Generic

import attrs

from distinct_async._place import Place
from distinct_async._seam import context_size, probe_offsets
from distinct_async.errors import DistinctError, ListChangedError, RepeatedPageError, StatusError
from distinct_async.models import P

# Requests of one search, and of those, answers that the offset is beyond the end.
_PROBES: Final = 9
_MISSES: Final = 3
# Items on the smallest page that can show a place.
_SMALLEST_PAGE: Final = 2
# Times to read again what says that the list has become shorter.
_CONFIRMATIONS: Final = 3
_BEYOND_THE_END: Final = frozenset({400, 404, 416})


@attrs.frozen(eq=False)
class Found(Generic[P]):
    """Where the place is now.

    Attributes:
        page: A page that shows it, joined from several if need be.
        cut: How many of the page's first items stand before the place.
    """

    page: P
    cut: int


def is_beyond_the_end(error: DistinctError) -> bool:
    """Return whether an error may mean that the offset is beyond the end of the list."""
    return isinstance(error, StatusError) and error.status in _BEYOND_THE_END


def place_lost() -> ListChangedError:
    """Return the error for a place that cannot be found."""
    return ListChangedError("the list changed so much that the walk cannot find its place again")


class Search(Generic[P]):
    """One search, by a few requests around the place where the walk was.

    Args:
        place: The place.
        fetch: Returns the page at an offset, or an error.
        size: Items per page.
        seen: The page that did not fit; None if there was an error in its stead.
    """

    def __init__(
        self,
        place: Place[P],
        fetch: Callable[[int], Awaitable[P | DistinctError]],
        *,
        size: int,
        seen: P | None,
    ) -> None:
        self._place = place
        self._fetch = fetch
        self._seen = seen
        self._size = size
        self._growth = place.growth(seen) if seen else 0
        # Without any total, the server may still have items at the offset before the place.
        self._last = max(place.total, seen.total if seen else place.reached) - 1
        self._probes = deque(probe_offsets(place.reached, size, self._growth))
        self._tried: set[int] = set()
        self._parts: list[P] = [seen] if seen else []
        self._shown = False
        self._confirmations = _CONFIRMATIONS
        if seen is not None:
            place.note_total(seen.total)

    async def run(self) -> Found[P] | DistinctError:
        """Return where the place is, or why it cannot be found."""
        misses: list[DistinctError] = []
        while self._probes and len(self._tried) < _PROBES and len(misses) < _MISSES:
            offset = max(0, min(self._probes.popleft(), self._last))
            if offset in self._tried:
                continue
            self._tried.add(offset)
            page = await self._fetch(offset)
            if not isinstance(page, DistinctError):
                outcome = self._look_at(page)
                if outcome is not None:
                    return outcome
            elif is_beyond_the_end(page):
                misses.append(page)
                self._last = offset - 1
            else:
                return page
        # Refusals may have hidden the place.
        return self._guess() or (misses[-1] if misses else place_lost())

    def _guess(self) -> Found[P] | None:
        """Return the place if it is only in doubt, and may be where it was."""
        place, seen = self._place, self._seen
        if seen is not None and place.fits(seen):
            return Found(seen, place.reached - seen.offset)
        for part in self._parts:
            cut = place.find_cut(part, certain=False)
            if cut is not None and place.find_cut(part) is None:
                return Found(part, cut)
        return None

    def _look_at(self, page: P) -> Found[P] | RepeatedPageError | None:
        place, seen = self._place, self._seen
        if seen is not None and self._is_repeated(seen, page):
            return RepeatedPageError(seen.offset, place.last_offset)
        if not page.items:
            self._last = page.offset - 1
        place.note_total(page.total)
        # Unlike the page that did not fit, this one is new enough to refute a deletion.
        self._shown = self._shown or any(map(place.is_last, page.items))
        part = self._join(page)
        cut = place.find_cut(part)
        if cut is None:
            self._plan(page)
            return None
        if not (cut and place.is_last(part.items[cut - 1])):
            # The last delivered item seems to be deleted.
            if self._shown or not place.may_skip:
                return None
            if self._confirmations and len(part.items) == cut >= part.total - part.offset:
                # The server may be a replica that has not caught up.
                self._read_again(page.offset)
                return None
        return Found(part, cut)

    def _plan(self, page: P) -> None:
        """Choose the next probes, after a page that does not show the place."""
        if len(page.items) < self._size and page.offset + len(page.items) < page.total:
            # The server returns less than before, and the place must still be on the page.
            self._size = max(_SMALLEST_PAGE, len(page.items))
            self._probes = deque(probe_offsets(self._place.reached, self._size, self._growth))
        guess = self._place.guess(page)
        if guess is not None:
            self._probes.appendleft(guess - context_size(self._size))

    def _read_again(self, offset: int) -> None:
        self._confirmations -= 1
        self._parts.clear()
        self._tried.discard(offset)
        self._probes.appendleft(offset)

    def _is_repeated(self, seen: P, page: P) -> bool:
        """Whether both pages are the last accepted one again, although nothing grew."""
        place = self._place
        return (
            page.offset not in (seen.offset, place.last_offset)
            and seen.offset != place.last_offset
            and place.total == seen.total == page.total
            and place.is_last_page(seen)
            and place.is_last_page(page)
        )

    def _join(self, page: P) -> P:
        """Return a page together with what is known of the list beside it."""
        for part in [*self._parts]:
            joined = self._joined(*sorted((part, page), key=attrgetter("offset")))
            if joined is not None:
                self._parts.remove(part)
                page = joined
        self._parts.append(page)
        return page

    def _joined(self, first: P, second: P) -> P | None:
        """Return two pages as one if they share items, and agree on them, else None."""
        start = second.offset - first.offset
        shared = min(len(first.items) - start, len(second.items))
        keys = self._place.keys(first.items)
        if shared < 1 or keys[start : start + shared] != self._place.keys(second.items[:shared]):
            return None
        # The walk will go on from the end of the second page, and so from its total.
        items = first.items + second.items[shared:]
        return attrs.evolve(second, items=items, offset=first.offset)  # type: ignore[misc]
