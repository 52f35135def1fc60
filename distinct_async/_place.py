"""The place that a walk has reached in a list that may change: pure state, no I/O."""

import logging
import sys
from collections import deque
from collections.abc import Callable
from operator import eq
from typing import Any, Final, Generic

from distinct_async._seam import Keys, cut_anywhere, cut_at_seam, guess_cut, is_shared
from distinct_async.errors import IncompleteListError, ResumePoint
from distinct_async.models import P

_LOGGER: Final = logging.getLogger("distinct_async")
# Items kept at least to prove the place; of longer pages, two pages, because that copies nothing.
_TAIL: Final = 64
# Items that prove the place of a walk that is resumed.
_RESUME: Final = 8
# Items of each page that are compared with their neighbours.
_SAMPLE: Final = 16
# Shared items where identical ones stand next to each other, and the page size that allows it.
_WIDE: Final = 3
_WIDE_FROM: Final = 8
# Totals that must agree before the end of a list is believed, once they have disagreed.
_AGREEING: Final = 5
# Pages in a row that may bring nothing new.
PATIENCE: Final = 8
# Times to take another look because the total shrank, although the pages fit.
_DOUBTS: Final = 4


class Place(Generic[P]):
    """Where a walk is, and what it has seen of the list.

    Args:
        offset: Index of the first item to deliver.
        after: The items before it, as far as they are known.
        limit: Maximum number of items to deliver; None for no limit.
        key: Returns what identifies an item; None if items identify themselves.
        is_full: Returns whether a page has as many items as the server puts on one.
        name: The list, for the log.
        total: The server's count when a walk had come there, if known.

    Attributes:
        reached: The offset after the last delivered item, in the list as it was last seen.
        left: Number of items that may still be delivered.
        total: The server's last count.
        idle: Number of pages in a row that brought nothing new, on a list that stood still.
        moves: Number of pages in a row that brought nothing new, because the list had shifted.
        delivered: Number of items delivered.
    """

    def __init__(
        self,
        *,
        offset: int,
        after: tuple[Any, ...],
        limit: int | None,
        key: Callable[[Any], Any] | None,
        is_full: Callable[[Any], bool],
        name: str,
        total: int | None,
    ) -> None:
        self.reached = offset
        self.left = sys.maxsize if limit is None else limit
        self.total: int = total or 0
        self._total_known = total is not None
        self.idle = self.moves = 0
        self._key = key
        self._is_full = is_full
        self._name = name
        self._after = after
        self._before: Keys = ()
        self._latest: Keys = self.keys(after)
        self._last_page: P | None = None
        self.delivered = 0
        self._started = False
        self._doubts = _DOUBTS
        self._changed = False
        self._repetitive = any(map(eq, self._latest, self._latest[1:]))
        self._extra = 0
        self._missing: Keys = ()
        self._peak: int = 0
        # The largest total since the last accepted page; unlike the peak, a shift leaves it alone.
        self._noted: int = 0
        self._totals: deque[int] = deque(maxlen=PATIENCE)

    @property
    def is_known(self) -> bool:
        """Whether there is an item that proves the place."""
        return bool(self._latest)

    @property
    def resume_point(self) -> ResumePoint:
        """Where to resume."""
        page = self._last_page
        after = self._after if page is None else page.items[: max(0, self.reached - page.offset)]
        return ResumePoint(
            offset=self.reached,
            after=after[-_RESUME:] or self._after,
            delivered=self.delivered,
            total=self.total if self._total_known else None,
            name=self._name,
        )

    def keys(self, items: tuple[Any, ...]) -> Keys:
        """Return what identifies each item."""
        return items if self._key is None else tuple(map(self._key, items))

    def growth(self, page: P) -> int:
        """Return by how much the total has grown since the last accepted page."""
        if self._total_known:
            return page.total - self.total
        # A list that ends before the place must have become shorter.
        return min(0, page.total - self.reached)

    @property
    def _tail(self) -> Keys:
        return (*self._before, *self._latest)

    def next_overlap(self, size: int) -> int:
        """Return how many items the next page, of this size, should share with those before it.

        It is one, unless identical items stand next to each other: one of those does not show by
        how much the list has shifted. While the list stands still, this may take one more request
        in all.
        """
        if not self._latest:
            return 0
        if not self._started:
            # Several stored items prove more than one, at no cost.
            return _WIDE if size >= _WIDE_FROM and len(self._latest) >= _WIDE else 1
        spent = not self._changed and self._extra + _WIDE >= size
        # After a page without anything new, the server's pages may have become too small for more.
        if not self._repetitive or size < _WIDE_FROM or spent or self.idle:
            return 1
        self._extra += _WIDE - 1
        return _WIDE

    def cut(self, page: P, *, located: bool, doubt: bool) -> int | None:
        """Return how many of a page's first items stand before the place; None if unclear.

        Args:
            page: A page that was requested a little early.
            located: Whether the place has just been located, so that the page must fit there.
            doubt: Whether to take another look if the total shrank.
        """
        if not self._latest:
            return 0
        keys, expected = self.keys(page.items), self.reached - page.offset
        growth = self.growth(page)
        still = self._started and not growth
        if still and expected == 1 and keys and keys[0] == self._latest[-1]:
            return 1
        if located:
            return expected if is_shared(self._tail, keys, expected) else None
        if doubt and growth < 0 and expected == 1 and self._doubts:
            # The page may fit by chance, if one of several identical items stands at the seam.
            self._doubts -= 1
            return None
        return cut_at_seam(self._tail, keys, expected=expected, growth=growth, still=still)

    def fits(self, page: P) -> bool:
        """Return whether a page begins as expected, on a list without identical neighbours."""
        expected = self.reached - page.offset
        return not self._repetitive and is_shared(self._tail, self.keys(page.items), expected)

    def find_cut(self, page: P, *, certain: bool = True) -> int | None:
        """Return how many of the first items of any page stand before the place, or None.

        Args:
            page: The page, which may be joined from several.
            certain: Whether to return None if identical items allow several answers.
        """
        keys, expected = self.keys(page.items), self.reached - page.offset
        return cut_anywhere(
            self._tail,
            keys,
            expected=expected,
            growth=self.growth(page),
            begins=page.offset == 0,
            ends=page.offset + len(keys) >= page.total,
            certain=certain,
        )

    def note_total(self, total: int) -> None:
        """Remember a total, so that the list is not taken to end before it without another look."""
        self._noted = max(self._noted, total)
        self._totals.append(total)

    @property
    def may_skip(self) -> bool:
        """Whether the last item before the place may have been deleted.

        Not the last item that the caller expects before an offset: then nothing would show that the
        items before it are still those that the caller has.
        """
        return self._total_known

    def is_last(self, item: Any) -> bool:
        """Return whether an item is the last delivered one."""
        return self.keys((item,)) == self._latest[-1:]

    def guess(self, page: P) -> int | None:
        """Return the offset of the place if a page that does not show it gives a hint, or None."""
        cut = guess_cut(self._tail, self.keys(page.items))
        return None if cut is None else page.offset + cut

    def is_last_page(self, page: P) -> bool:
        """Return whether a page has the items of the last accepted one, as far as both go."""
        if self._last_page is None:
            return False
        keys, last = self.keys(page.items), self.keys(self._last_page.items)
        both = min(len(keys), len(last))
        return both > 1 and keys[:both] == last[:both]

    @property
    def last_offset(self) -> int:
        """The offset of the last accepted page."""
        return self.reached if self._last_page is None else self._last_page.offset

    def accept(self, page: P, cut: int, *, searched: bool = False) -> list[P]:
        """Go on to the end of a page; return what to deliver of it.

        Args:
            page: The page.
            cut: How many of its first items stand before the place.
            searched: Whether the place was found by a search.
        """
        pages: list[P] = []
        if searched or self._missing:
            cut = self._pass_missing(page, cut)
        shift = cut - (self.reached - page.offset)
        if searched and self._missing and not shift:
            # As many were inserted as deleted. Report both, because the list did change.
            shift = len(self._missing)
            self._note_shift(-shift)
            pages.append(page.part(cut - shift, cut - shift, shift=-shift))
        if shift:
            self._note_shift(shift)
        end = min(len(page.items), cut + self.left)
        delivered = page.part(cut, end, shift=shift)
        self._extend_tail(page, delivered, end, refresh=shift != 0)
        self._count(page, end, len(delivered.items), shifted=shift != 0)
        # The first page is delivered even if it is empty, because it carries the total.
        if delivered.items or shift or not self._started:
            pages.append(delivered)
        self._started = True
        return pages

    def is_over(self) -> bool | IncompleteListError:
        """Return whether the list ends here; False if its end must be read again.

        Replicas may disagree on the total, so the end is read until their totals agree, or often
        enough.
        """
        if not self.left:
            return True
        if self.reached == self.total >= self._peak:
            # A full page may only seem to be the last one, if the total is too low.
            page = self._last_page
            return page is None or self.idle > 0 or not self._is_full(page)
        if not self._latest and self.reached > self.total:
            # The walk began beyond the end.
            return True
        totals = [*self._totals]
        if len(totals) >= _AGREEING and {*totals[-_AGREEING:]} == {self.reached}:
            return True
        if self.idle < PATIENCE:
            return False
        return IncompleteListError(self.total, self.reached) if len({*totals}) == 1 else True

    def _note_shift(self, shift: int) -> None:
        self._changed = True
        # Totals from before a deletion say nothing about the list as it is now.
        self._peak += min(0, shift)
        _LOGGER.warning(
            "the list of %s has shifted by %+d before offset %d, where the walk was%s",
            self._name,
            shift,
            self.reached,
            "; what was inserted there is not delivered" if shift > 0 else "",
        )

    def _count(self, page: P, end: int, delivered: int, *, shifted: bool) -> None:
        self._changed |= self._started and page.total != self.total
        self.reached = page.offset + end
        self.left -= delivered
        self.delivered += delivered
        self.idle = 0 if delivered or shifted else self.idle + 1
        self.moves = 0 if delivered or not shifted else self.moves + 1
        self.total, self._total_known = page.total, True
        self.note_total(page.total)
        self._peak, self._noted = max(self._peak, self._noted), 0

    def _extend_tail(self, page: P, delivered: P, end: int, *, refresh: bool) -> None:
        self._last_page = page
        added = self.keys(delivered.items)
        self._repetitive = self._repetitive or self._has_neighbours_alike(added)
        if refresh and end:
            # The page shows what now precedes the place.
            self._before, self._latest = (), self.keys(page.items[:end])
        elif len(self._latest) < _TAIL:
            self._latest += added
        elif added:
            self._before, self._latest = self._latest, added

    def _has_neighbours_alike(self, added: Keys) -> bool:
        """Whether identical items stand next to each other at the seam, or soon after it."""
        sample = (*self._latest[-1:], *added[:_SAMPLE])
        return any(map(eq, sample, sample[1:]))

    def _pass_missing(self, page: P, cut: int) -> int:
        """Return the cut after items that were delivered, then missing, and are there again."""
        keys = self.keys(page.items)
        returned = 0
        while (
            self._missing[returned:]
            and keys[cut : cut + 1] == self._missing[returned : returned + 1]
        ):
            cut, returned = cut + 1, returned + 1
        if cut < len(keys) or returned:
            self._missing = ()
        last = keys[cut - 1] if cut else None
        if cut and self._latest and last != self._latest[-1] and last in self._tail:
            tail = self._tail
            self._missing = tail[len(tail) - tail[::-1].index(last) :]
        return cut
