"""Judges a walk over a living list by the list's history. Knows no client code.

What a walk owes is defined by the answers that it got, since it can know nothing else:

- A visit that every answer's version of the list held must be delivered. So must a visit that
  came later, if it came behind everything the walk had read by then: appended visits do.
- A visit that came to stand before what the walk had read may be missing.
- A visit that was deleted, or that some answer's version lacks, may be delivered or missing.
- No visit may be delivered more often than some version held it, or out of order.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import attrs
from typing_extensions import override

from distinct_async import Visit, VisitPage
from tests.support.living_list import Change, Entry, LivingList, visits_of

# A burst of up to this many pages must not end a walk if it spares the context.
_PLACEABLE_PAGES = 3
# Pages that a walk must remember to find its place again.
_CONTEXT_PAGES = 2


@attrs.frozen
class Answer:
    """A page that a walk was given.

    Attributes:
        version: The version of the list that it shows.
        given: The version of the list when it was given; later than `version` if it lags.
        offset: Index of its first item.
        items: Its items.
        total: The total that it claims.
    """

    version: int
    given: int
    offset: int
    items: tuple[Visit, ...]
    total: int

    @override
    def __str__(self) -> str:
        return f"v{self.version} {self.offset}+{len(self.items)} of {self.total}"

    def shows(self, index: int, visit: Visit) -> bool:
        """Return whether it has a visit at an index of the list."""
        return visit in self.items[index - self.offset :][:1] if index >= self.offset else False


@attrs.frozen
class Verdict:
    """What a walk did wrong: the visits it lost, repeated, or delivered out of order."""

    lost: tuple[Visit, ...] = ()
    repeated: tuple[Visit, ...] = ()
    disordered: tuple[Visit, ...] = ()

    def without(self, visits: Iterable[Visit]) -> "Verdict":
        """Return the verdict on all visits but these."""
        spared = set(visits)
        return Verdict(
            *(
                tuple(visit for visit in part if visit not in spared)
                for part in (self.lost, self.repeated, self.disordered)
            )
        )


GOOD = Verdict()


@attrs.define(eq=False)
class Record:
    """What a walk was given, including everything after it was resumed.

    Attributes:
        living: The list.
        offset: Index at which the walk starts.
        after: The entries expected just before `offset`; empty if the walk is not told any.
        since: The version of the list in which `after` stood there.
        answers: The pages that the walk was given.
    """

    living: LivingList
    offset: int = 0
    after: tuple[Entry, ...] = ()
    since: int = 0
    answers: list[Answer] = attrs.field(factory=list[Answer])

    def add(self, page: VisitPage, version: int) -> None:
        """Record a page given now that shows a version of the list."""
        self.answers.append(
            Answer(version, self.living.version, page.offset, page.items, page.total)
        )

    def judge(self, delivered: Sequence[Visit], *, complete: bool) -> Verdict:
        """Judge what the walk delivered; all of it if it came to the end, else up to there."""
        places, disordered = self._places_of(delivered)
        owed = self._owed(complete=complete, until=max(places, default=-1))
        lost = Counter(visits_of(owed)) - Counter(delivered)
        return Verdict(tuple(lost.elements()), self._repeated(delivered), disordered)

    def entries_of(self, delivered: Sequence[Visit]) -> list[Entry]:
        """Return the entries that were delivered, matched in the list's order."""
        return [self.living.order[place] for place in self._places_of(delivered)[0]]

    def _places_of(self, delivered: Sequence[Visit]) -> tuple[list[int], tuple[Visit, ...]]:
        """Return the place of each visit in the list's order, and those that go backwards."""
        places = defaultdict[Visit, list[int]](list)
        for place, entry in enumerate(self.living.order):
            places[entry.visit].append(place)
        found: list[int] = []
        disordered, last = list[Visit](), -1
        for visit in delivered:
            among = places[visit]
            next_place = bisect_right(among, last)
            if next_place < len(among):
                last = among[next_place]
                found.append(last)
            elif not among or self._were_together(among[-1], [p for p in found if p > among[-1]]):
                disordered.append(visit)
        return found, tuple(disordered)

    def _were_together(self, place: int, others: list[int]) -> bool:
        """Return whether an answer's version of the list held an entry and any of some others.

        The walk cannot know the order of visits that it never saw in one list.
        """
        order, history = self.living.order, self.living.history
        held = [history[version] for version in {answer.version for answer in self.answers}]
        return any(
            order[place] in entries and any(order[other] in entries for other in others)
            for entries in held
        )

    def _repeated(self, delivered: Sequence[Visit]) -> tuple[Visit, ...]:
        counts = [
            Counter(visits_of(self.living.history[version]))
            for version in {answer.version for answer in self.answers}
        ]
        extra = {
            visit: times - max((count[visit] for count in counts), default=0)
            for visit, times in Counter(delivered).items()
        }
        return tuple(Counter({v: n for v, n in extra.items() if n > 0}).elements())

    # --- What the walk owes

    def _owed(self, *, complete: bool, until: int) -> list[Entry]:
        """Return the entries that must have been delivered; up to a place unless complete."""
        if not self.answers:
            return []
        answers = self.answers[: self._end()] if complete else self.answers
        history, versions = self.living.history, {answer.version for answer in answers}
        held = {version: frozenset(history[version]) for version in versions}
        place_of = {entry: place for place, entry in enumerate(self.living.order)}
        start, frontiers = self._start(place_of), _frontiers(answers, history, place_of)
        owed: list[Entry] = []
        for entry in history[answers[-1].version]:
            place = place_of.get(entry, -1)
            first = next((i for i, a in enumerate(answers) if a.given >= entry.born), len(answers))
            ahead = start <= place and (first == 0 or place > frontiers[first - 1])
            stayed = all(entry in held[answer.version] for answer in answers[first:])
            if ahead and stayed and (complete or place < until):
                owed.append(entry)
        return owed[: len(owed) - self._unknown(owed)] if complete else owed

    def _start(self, place_of: dict[Entry, int]) -> int:
        """Return the place from which on the walk must deliver."""
        if self.after:
            return place_of.get(self.after[-1], -1) + 1
        first = self.answers[0]
        entries = self.living.history[first.version]
        if self.offset < len(entries):
            return place_of.get(entries[self.offset], 0)
        return place_of[entries[-1]] + 1 if entries and entries[-1] in place_of else 0

    def _end(self) -> int:
        """Return how many answers the walk got until it knew that it was at the end.

        An answer after the one that reads the end counts only if it says that the list has grown
        since: beside deletions, its total cannot say so.
        """
        changes = self.living.changes[self.answers[0].version :]
        if all(change.kind in {"append", "insert"} for change in changes) and not self.jitters:
            return len(self.answers)
        ends = [i for i, answer in enumerate(self.answers, 1) if self.reads_end(answer)]
        return max(ends, default=len(self.answers))

    @property
    def jitters(self) -> bool:
        """Whether totals may be wrong."""
        return any(self.living.jitter)

    def reads_end(self, answer: Answer) -> bool:
        """Return whether an answer contains the last visit of the list that it shows."""
        reached = answer.offset + len(answer.items)
        return reached >= len(self.living.history[answer.version])

    def _unknown(self, owed: list[Entry]) -> int:
        """Return how many visits at the end the walk cannot know of.

        If the totals jitter, all that the walk saw may lie: a full last page that ends where
        the totals say the list ends looks like the end.
        """
        if not self.jitters or not owed:
            return 0
        last = self.answers[-1].version
        seen = max(answer.total for answer in self.answers if answer.version == last)
        return max(0, len(self.living.history[last]) - seen)

    # --- When the walk may give up

    def must_go_on(self, known: Sequence[Visit], size: int, held: int) -> bool:
        """Return whether so little changed near the walk's place that it must find it again.

        Args:
            known: The visits by which the walk can find its place: those expected before its
                start, and those that it delivered.
            size: The smallest number of items that a page can have held.
            held: How many answers the walk may have got without having delivered them.
        """
        since = self._oldest_in_use(known, held)
        changes = self.living.changes[since:]
        if any(change.kind == "reorder" for change in changes):
            return False
        context = self.entries_of(known)[-_CONTEXT_PAGES * size :]
        if sum(change.count for change in changes if change.kind != "append") < size:
            return self._knows(context, changes, since)
        return self._spared(changes, context, size)

    def _oldest_in_use(self, known: Sequence[Visit], held: int) -> int:
        """Return the oldest version that the walk may have to compare with the present one."""
        last = [a.version for a in self.answers if known and known[-1] in a.items]
        read = [answer.version for answer in self.answers[-held:]]
        if not last or (self.after and known[-1] == self.after[-1].visit):
            last.append(self.since)
        return min([*last, *read])

    def _knows(self, context: list[Entry], changes: list[Change], since: int) -> bool:
        """Return whether enough of the context is left to be sure of the place.

        Visits may be identical, so what agrees must outweigh what does not. It takes more of it if
        the totals do not account for the shift.
        """
        places = {entry: place for place, entry in enumerate(self.living.entries)}
        left = [places[e] for e in context if e in places and e.born <= since]
        gone = len(context) - len(left)
        if not self.jitters and len({change.kind for change in changes}) <= 1:
            return len(left) > gone
        if self.jitters and left and context[-1] not in places and left[-1] == len(places) - 1:
            # No total shows that the list ends where it does.
            return False
        run = next((n for n in range(1, len(left)) if left[-n - 1] != left[-n] - 1), len(left))
        return run >= 2 * gone + 2

    def _spared(self, changes: list[Change], context: list[Entry], size: int) -> bool:
        """Return whether a single burst left the whole context in place."""
        if len(changes) != 1 or changes[0].count > _PLACEABLE_PAGES * size:
            return False
        if len(context) < _CONTEXT_PAGES * size or context[0] not in self.living.entries:
            return False
        start = self.living.entries.index(context[0])
        return list(self.living.entries[start : start + len(context)]) == context


def _frontiers(
    answers: Sequence[Answer], history: Sequence[tuple[Entry, ...]], place_of: dict[Entry, int]
) -> list[int]:
    """Return the furthest place that was read, after each answer."""
    frontiers: list[int] = []
    furthest = -1
    for answer in answers:
        read = history[answer.version][answer.offset : answer.offset + len(answer.items)]
        furthest = max([furthest, *(place_of.get(entry, -1) for entry in read)])
        frontiers.append(furthest)
    return frontiers
