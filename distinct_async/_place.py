"""The place that a walk has reached in a list that may change: pure state, no I/O."""

import logging
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic

import attrs

from distinct_async._seam import Keys, cut_anywhere, cut_at_seam, is_shared
from distinct_async.errors import IncompleteListError, ResumePoint
from distinct_async.models import P

_LOGGER: Final = logging.getLogger("distinct_async")
# Items kept to prove the place; of longer pages, all are kept, because that copies nothing.
_TAIL: Final = 32
# Totals that must agree before the end of a list is believed, once they have disagreed.
_AGREEING: Final = 5
# Pages in a row that may bring nothing new.
_PATIENCE: Final = 8
# Times to take another look because the total shrank, although the pages fit.
_DOUBTS: Final = 8


class Place(Generic[P]):
    """Where a walk is, and what it has seen of the list.

    Args:
        offset: Index of the first item to deliver.
        after: The item before it; None if it is unknown.
        limit: Maximum number of items to deliver; None for no limit.
        key: Returns what identifies an item; None if items identify themselves.
        name: The list, for the log.

    Attributes:
        reached: The offset after the last delivered item, in the list as it was last seen.
        left: Number of items that may still be delivered.
        total: The server's last count.
        idle: Number of pages in a row that brought nothing new.
    """

    def __init__(
        self,
        *,
        offset: int,
        after: Any,
        limit: int | None,
        key: Callable[[Any], Any] | None,
        name: str | None,
    ) -> None:
        self.reached = offset
        self.left = sys.maxsize if limit is None else limit
        self.total = 0
        self.idle = 0
        self._key = key
        self._name = name
        self._after = after
        self._tail: Keys = () if after is None else self.keys((after,))
        self._last_page: Keys = ()
        self._last_offset = offset
        self._delivered = 0
        self._shift = 0
        self._started = False
        self._doubts = _DOUBTS
        self._peak = 0
        self._totals: deque[int] = deque(maxlen=_PATIENCE)

    @property
    def provable(self) -> bool:
        """Whether there is an item that proves the place."""
        return bool(self._tail)

    @property
    def resume_point(self) -> ResumePoint:
        """Where to resume."""
        return ResumePoint(offset=self.reached, after=self._after, delivered=self._delivered)

    def keys(self, items: tuple[Any, ...]) -> Keys:
        """Return what identifies each item."""
        return items if self._key is None else tuple(map(self._key, items))

    def growth(self, page: P) -> int:
        """Return by how much the total has grown since the last accepted page."""
        return page.total - self.total if self._started else 0

    def cut(self, page: P, *, located: bool) -> int | None:
        """Return how many of a page's first items stand before the place; None if unclear.

        Args:
            page: A page that was requested one item early.
            located: Whether the place has just been located, so that the page itself is in doubt.
        """
        if not self._tail:
            return 0
        keys, expected = self.keys(page.items), self.reached - page.offset
        if located:
            return expected if is_shared(self._tail, keys, expected) else None
        growth = self.growth(page)
        if growth < 0 and self._doubts:
            # The page may fit by chance, if one of several identical items stood at the seam.
            self._doubts -= 1
            return None
        return cut_at_seam(self._tail, keys, expected=expected, growth=growth)

    def find_cut(self, page: P) -> int | None:
        """Return how many of the first items of any page stand before the place, or None."""
        keys, expected = self.keys(page.items), self.reached - page.offset
        return cut_anywhere(self._tail, keys, expected=expected, growth=self.growth(page))

    def find_repeated(self, page: P) -> int | None:
        """Return the offset of the last accepted page if this one has the same items, or None."""
        return self._last_offset if self.keys(page.items) == self._last_page else None

    def accept(self, page: P, cut: int) -> P | None:
        """Go on to the end of a page; return what to deliver of it, or None."""
        shift = cut - (self.reached - page.offset)
        if shift:
            self._note_shift(shift)
        items = page.items[cut : cut + self.left]
        self._remember(page, cut, items)
        # The first page is delivered even if it is empty, because it carries the total.
        if not items and self._started and not self._shift:
            return None
        self._started = True
        shift, self._shift = self._shift, 0
        if not shift and len(items) == len(page.items):
            return page
        start = page.offset + cut
        return attrs.evolve(page, items=items, offset=start, shift=shift)  # type: ignore[misc]

    def is_over(self) -> bool | IncompleteListError:
        """Return whether the list ends here; False if its end must be read again.

        Replicas may disagree on the total, so the end is read until their totals agree, or often
        enough.
        """
        if not self.left or self.reached == self.total >= self._peak:
            return True
        if not self._tail and self.reached > self.total:
            # The walk began beyond the end.
            return True
        totals = [*self._totals]
        if len(totals) >= _AGREEING and {*totals[-_AGREEING:]} == {self.reached}:
            return True
        if self.idle < _PATIENCE:
            return False
        return IncompleteListError(self.total, self.reached) if len({*totals}) == 1 else True

    def _note_shift(self, shift: int) -> None:
        self._shift += shift
        # Totals from before a deletion say nothing about the list as it is now.
        self._peak += min(0, shift)
        what = "inserted" if shift > 0 else "deleted"
        passed = "; they are not delivered" if shift > 0 else ""
        _LOGGER.warning(
            "the list of %s changed: %d items were %s before offset %d, where the walk was%s",
            self._name,
            abs(shift),
            what,
            self.reached,
            passed,
        )

    def _remember(self, page: P, cut: int, items: tuple[Any, ...]) -> None:
        end = cut + len(items)
        keys = self.keys(page.items[:end])
        self._tail = keys if len(keys) >= _TAIL else (*self._tail, *keys[cut:])[-_TAIL:]
        self._last_page, self._last_offset = keys, page.offset
        if end:
            self._after = page.items[end - 1]
        self.reached = page.offset + end
        self.left -= len(items)
        self.idle = 0 if items else self.idle + 1
        self._delivered += len(items)
        self.total = page.total
        self._peak = max(self._peak, page.total)
        self._totals.append(page.total)
