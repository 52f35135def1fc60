"""The state machine of `test_living_lists`: a list changes between any two answers of its walks."""

import asyncio
from collections import Counter
from typing import Any, ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule
from typing_extensions import override

from distinct_async import DistinctError, NotFoundError, ServerError, TransportError, Visit
from tests.support.living_judge import GOOD
from tests.support.living_list import LivingList, PastEnd, Reorder
from tests.support.living_walk import LivingWalk, walk_over

FAILURES = (lambda: ServerError(503), lambda: NotFoundError(404), lambda: TransportError("broken"))

# No walk is judged once the list was reordered, so that must not happen too soon.
_EARLIEST_REORDER = 25

# Where to change the list, as a share of its length: both ends matter most.
places = st.sampled_from([0, 0, 1, 1000]) | st.integers(0, 1000)
page_sizes = st.none() | st.integers(2, 12)
prefetches = st.sampled_from([1, 1, 4, 16])


class LivingWalks(RuleBasedStateMachine):
    """Walks over one list that appends, inserts, deletes, reorders, clamps, jitters and fails."""

    walks = Bundle("walks")
    steps: ClassVar[Counter[str]] = Counter()
    outcomes: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.living = LivingList()
        self.started: list[LivingWalk] = []
        self.doubles: list[Visit] = []
        self.replicas = False

    @override
    def teardown(self) -> None:
        try:
            for walk in self.started:
                self._finish(walk)
        finally:
            for walk in self.started:
                self.loop.run_until_complete(walk.aclose())
            self.loop.close()

    def _finish(self, walk: LivingWalk) -> None:
        try:
            self.loop.run_until_complete(walk.finish())
            assert walk.verdict(self.doubles) == GOOD
        finally:
            note(str(walk))
        ending = "end" if walk.error is None else type(walk.error).__name__
        type(self).outcomes[ending] += 1

    @initialize(
        count=st.integers(0, 60),
        default_page=st.integers(2, 9),
        past_end=st.sampled_from(["empty", "400", "404", "416", "clamped"]),
        # Totals that are never right are for lists that stand still.
        jitter=st.just([0]) | st.permutations([0, 0, 1, -1]) | st.sampled_from([[0, 1], [-1, 0]]),
        replicas=st.sampled_from([False, False, True]),
    )
    def begin(
        self,
        *,
        count: int,
        default_page: int,
        past_end: PastEnd,
        jitter: list[int],
        replicas: bool,
    ) -> None:
        self.living = LivingList(count, default_page=default_page, past_end=past_end, jitter=jitter)
        self.replicas = replicas

    # --- The list

    @rule(
        kind=st.sampled_from(["append", "insert", "insert", "delete", "delete", "replace"]),
        place=places,
        count=st.integers(1, 3),
        appended=st.integers(1, 8),
    )
    def change(self, kind: str, place: int, count: int, appended: int) -> None:
        self._count(kind)
        index = self._index(place)
        if kind == "append":
            self.living.append(appended)
        elif kind == "insert":
            self.living.insert(index, count)
        elif kind == "delete":
            self.living.delete(index, count)
        else:
            self.living.replace(index, count, appended)

    @rule(
        kind=st.sampled_from(["insert", "delete", "clamp", "double", "reorder"]),
        place=places,
        count=st.integers(4, 40),
        how=st.sampled_from(["reverse", "rotate", "shuffle"]),
    )
    def disturb(self, kind: str, place: int, count: int, how: Reorder) -> None:
        """Change more than a walk must bear: pages at once, the page size, identical visits."""
        self._count(f"{kind} much")
        index = self._index(place)
        if kind == "insert":
            self.living.insert(index, count)
        elif kind == "delete":
            self.living.delete(index, count)
        elif kind == "clamp":
            self.living.largest_page = (4, 5, 7, 1_000)[count % 4]
        elif kind == "double":
            self._double(index)
        elif len(self.living.changes) > _EARLIEST_REORDER:
            self.living.reorder(how, place)

    def _double(self, index: int) -> None:
        # Totals that contradict the pages hide which of several identical visits was read.
        if self.living.entries and not any(self.living.jitter):
            index = min(index, len(self.living.entries) - 1)
            self.doubles.append(self.living.entries[index].visit)
            self.living.double(index)

    @rule(walk=walks, before=st.integers(-1, 2), count=st.integers(1, 2), deleted=st.booleans())
    def strike(self, walk: LivingWalk, before: int, count: int, *, deleted: bool) -> None:
        """Change the list right where a walk stands."""
        delivered = walk.progress.record.entries_of(walk.progress.delivered)
        if delivered and delivered[-1] in self.living.entries:
            self._count("strike")
            index = max(0, self.living.entries.index(delivered[-1]) - before)
            change = self.living.delete if deleted else self.living.insert
            change(index, count)

    # --- Walks

    @precondition(lambda self: len(self.started) < 4)
    @rule(
        target=walks,
        place=st.just(0) | st.integers(0, 1000),
        known=st.sampled_from([0, 0, 1, 5]),
        limit=st.none() | st.none() | st.integers(0, 40),
        page_size=page_sizes,
        prefetch=prefetches,
    )
    def start(self, *, place: int, known: int, **options: Any) -> LivingWalk:
        self._count("start")
        walk = walk_over(self.living, offset=self._index(place), known=known, **options)
        self.started.append(walk)
        return walk

    @rule(walk=walks, pages=st.integers(1, 2))
    def advance(self, walk: LivingWalk, pages: int) -> None:
        self._count("advance")
        self.loop.run_until_complete(walk.advance(pages))

    @rule(walk=walks, count=st.integers(1, 3))
    def change_and_advance(self, walk: LivingWalk, count: int) -> None:
        """Shift the list by less than a page between two pages."""
        self._count("shift")
        size = min(walk.progress.page_size or self.living.default_page, self.living.largest_page)
        change = self.living.insert if count % 2 else self.living.delete
        change(0, min(count, size - 1))
        self.loop.run_until_complete(walk.advance(1))

    @rule(walk=walks)
    def read(self, walk: LivingWalk) -> None:
        self._count("read")
        self.loop.run_until_complete(walk.ask())

    @rule(walk=walks, which=st.integers(0, 15), lag=st.integers(0, 2))
    def answer(self, walk: LivingWalk, which: int, lag: int) -> None:
        """Answer any waiting request, perhaps as the list was a while ago."""
        self._answer(walk, which, lag)

    @rule(walk=walks, order=st.permutations(range(4)))
    def answer_all(self, walk: LivingWalk, order: list[int]) -> None:
        for which in order:
            self._answer(walk, which, 0)

    def _answer(self, walk: LivingWalk, which: int, lag: int) -> None:
        if not walk.desk.waiting:
            return
        self._count("answer")
        index = which % len(walk.desk.waiting)
        # Answers overtake each other; only replicas show what was so before the request.
        oldest = 0 if self.replicas else walk.desk.waiting[index].made
        walk.desk.answer(index, version=max(oldest, self.living.version - lag))
        self._settle(walk)

    @rule(walk=walks, which=st.integers(0, 15), failure=st.sampled_from(FAILURES))
    def fail(self, walk: LivingWalk, which: int, failure: Any) -> None:
        if walk.desk.waiting:
            self._count("fail")
            error: DistinctError = failure()
            walk.desk.fail(which % len(walk.desk.waiting), error)
            self._settle(walk)

    @rule(walk=walks)
    def resume(self, walk: LivingWalk) -> None:
        if walk.error is not None and not walk.ended:
            self._count("resume")
            walk.resume()

    def _settle(self, walk: LivingWalk) -> None:
        self.loop.run_until_complete(walk.settle())

    def _index(self, place: int) -> int:
        return place * len(self.living.entries) // 1000

    def _count(self, step: str) -> None:
        type(self).steps[step] += 1
