"""A list that changes while it is read, in memory and without any client code.

The list remembers every state it was in, and the order of everything it ever held, so that
`tests.support.living_judge` can say what a walk lost, repeated or moved.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

import attrs

from distinct_async import (
    BadRequestError,
    DistinctError,
    NotFoundError,
    StatusError,
    Touchpoint,
    Visit,
    VisitPage,
    VisitsType,
)

START: Final = datetime(2024, 1, 1, tzinfo=UTC)

PastEnd: TypeAlias = Literal["empty", "400", "404", "416", "clamped"]
"""How a list answers at or beyond its end; "clamped" is its last page, at that page's offset."""

ChangeKind: TypeAlias = Literal["append", "insert", "delete", "reorder"]
Reorder: TypeAlias = Literal["reverse", "rotate", "shuffle"]

_REFUSALS: Final[dict[PastEnd, Callable[[], DistinctError]]] = {
    "400": lambda: BadRequestError(400, "offset out of range"),
    "404": lambda: NotFoundError(404, "no such page"),
    "416": lambda: StatusError(416, "range not satisfiable"),
}


@attrs.frozen(eq=False)
class Entry:
    """One scan, and the version of the list that first held it.

    Two entries with the same visit are a double scan.
    """

    visit: Visit
    born: int


@attrs.frozen
class Change:
    """What led from one version of a list to the next; `at` and `count` as of the older one."""

    kind: ChangeKind
    at: int
    count: int


class LivingList:
    """A list of visits that appends, inserts, deletes and reorders.

    Every visit is distinct, except those that `double` creates.

    Args:
        count: Number of visits at first.
        touchpoint_id: The touchpoint of every page.
        visits_type: The type of visits.
        default_page: Items per page if the request does not say.
        largest_page: Page sizes above this are clamped.
        past_end: How to answer at or beyond the end.
        jitter: What each answer adds to the total, in turn.

    Attributes:
        history: Every version of the list, the present one last.
        changes: What led from each version to the next.
        order: Everything the list ever held, in order. A deleted entry keeps its place, so order
            is defined for visits that the list never held at once. A reorder starts it anew.
    """

    def __init__(
        self,
        count: int = 0,
        *,
        touchpoint_id: str = "tp-1",
        visits_type: VisitsType = VisitsType.TOTAL,
        default_page: int = 50,
        largest_page: int = 1_000_000,
        past_end: PastEnd = "empty",
        jitter: Sequence[int] = (0,),
    ) -> None:
        self.touchpoint = Touchpoint(touchpoint_id, "Door", "door")
        self.visits_type = visits_type
        self.default_page = default_page
        self.largest_page = largest_page
        self.past_end = past_end
        self.jitter = jitter
        self._created = 0
        self._answered = 0
        self.history: list[tuple[Entry, ...]] = []
        entries = self._new(count)
        self.history.append(tuple(entries))
        self.changes: list[Change] = []
        self.order: list[Entry] = entries

    @property
    def version(self) -> int:
        """Index of the present state in `history`."""
        return len(self.history) - 1

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The present state."""
        return self.history[-1]

    @property
    def visits(self) -> list[Visit]:
        """The visits of the present state."""
        return [entry.visit for entry in self.entries]

    # --- Changes

    def append(self, count: int = 1) -> None:
        """Add new visits at the end."""
        self._splice("append", len(self.entries), self._new(count))

    def insert(self, index: int, count: int = 1) -> None:
        """Add new visits before an index."""
        self._splice("insert", index, self._new(count))

    def double(self, index: int) -> None:
        """Insert an identical visit beside the one at an index, as a scanner that fires twice."""
        self._splice("insert", index, [Entry(self.entries[index].visit, len(self.history))])

    def delete(self, index: int, count: int = 1) -> None:
        """Remove visits, as many as there are."""
        after = self.entries[:index] + self.entries[index + count :]
        self._record(Change("delete", index, len(self.entries) - len(after)), after)

    def replace(self, index: int, count: int, appended: int) -> None:
        """Remove visits and append others in one step, so that no answer falls in between."""
        kept = self.entries[:index] + self.entries[index + count :]
        added = self._new(appended)
        self.order.extend(added)
        removed = len(self.entries) - len(kept)
        self._record(Change("delete", index, removed), (*kept, *added))

    def reorder(self, how: Reorder, seed: int = 0) -> None:
        """Rearrange the list.

        A shuffle leaves no visit at its index, so the seam between a page read before it and one
        read after it cannot hold by coincidence.
        """
        entries, shuffler = list(self.entries), random.Random(seed)
        if how == "reverse":
            entries.reverse()
        elif how == "rotate" and entries:
            by = 1 + seed % len(entries)
            entries = entries[by:] + entries[:by]
        elif how == "shuffle" and len(entries) > 1:
            places = _derangement(len(entries), shuffler)
            entries = [entries[place] for place in places]
        self.order = list(entries)
        self._record(Change("reorder", 0, len(entries)), tuple(entries))

    def _splice(self, kind: ChangeKind, index: int, added: list[Entry]) -> None:
        before = self.entries
        place = len(self.order) if index >= len(before) else self.order.index(before[index])
        self.order[place:place] = added
        after = (*before[:index], *added, *before[index:])
        self._record(Change(kind, index, len(added)), after)

    def _record(self, change: Change, after: tuple[Entry, ...]) -> None:
        self.changes.append(change)
        self.history.append(after)

    def _new(self, count: int) -> list[Entry]:
        numbers = range(self._created, self._created + count)
        self._created += count
        visits = [Visit(f"visit-{i}", START + timedelta(seconds=i)) for i in numbers]
        return [Entry(visit, len(self.history)) for visit in visits]

    # --- Answers

    def page(
        self, offset: int, size: int | None = None, *, version: int = -1
    ) -> VisitPage | DistinctError:
        """Answer a request from the present state, or from another version of the list."""
        entries = self.history[version]
        asked = self.default_page if size is None else size
        size = min(asked, self.largest_page)
        if offset >= len(entries) and offset > 0:
            if self.past_end in _REFUSALS:
                return _REFUSALS[self.past_end]()
            if self.past_end == "clamped":
                offset = max(0, len(entries) - size)
        items = visits_of(entries[offset : offset + size])
        total = max(0, len(entries) + self.jitter[self._answered % len(self.jitter)])
        self._answered += 1
        return VisitPage(self.touchpoint, self.visits_type, total, items, offset, size)


def visits_of(entries: Iterable[Entry]) -> tuple[Visit, ...]:
    """Return the visits of some entries."""
    return tuple(entry.visit for entry in entries)


def _derangement(count: int, shuffler: random.Random) -> list[int]:
    """Return a random arrangement of ``range(count)`` with no number at its own index."""
    # Sattolo's algorithm: the result is one cycle, so nothing stays where it was.
    places = list(range(count))
    for last in range(count - 1, 0, -1):
        other = shuffler.randrange(last)
        places[last], places[other] = places[other], places[last]
    return places
