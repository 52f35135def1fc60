"""Two runs and many: each goes on after what the runs before it stored, or says that it cannot."""

import asyncio
from collections import Counter
from typing import ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from typing_extensions import override

from distinct_async import ListChangedError, Visit
from tests.support.living_desk import Desk, Reader
from tests.support.living_judge import Record
from tests.support.living_list import LivingList, PastEnd, Reorder
from tests.support.living_walk import most_requests, names_of

places = st.sampled_from([0, 0, 1000]) | st.integers(0, 1000)


class LivingExports(RuleBasedStateMachine):
    """Runs that store visits, while the list changes between any two of them.

    Not known to a run: edits that leave the last stored visit in its place.
    """

    steps: ClassVar[Counter[str]] = Counter()
    outcomes: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.living = LivingList()
        self.stored: list[Visit] = []

    @initialize(
        count=st.integers(0, 60),
        past_end=st.sampled_from(["empty", "400", "404", "416", "clamped"]),
        largest=st.sampled_from([4, 7, 1_000]),
    )
    def begin(self, count: int, past_end: PastEnd, largest: int) -> None:
        self.living = LivingList(count, past_end=past_end, largest_page=largest, default_page=10)

    @rule(
        kind=st.sampled_from(["append", "append", "insert", "delete", "replace", "double"]),
        place=places,
        count=st.integers(1, 12),
        appended=st.integers(1, 12),
    )
    def change(self, kind: str, place: int, count: int, appended: int) -> None:
        self._count(kind)
        living = self.living
        index = place * len(living.entries) // 1000
        if kind == "append":
            living.append(appended)
        elif kind == "insert":
            living.insert(index, count)
        elif kind == "delete":
            living.delete(index, count)
        elif kind == "replace":
            living.replace(index, count, appended)
        elif living.entries:
            living.double(min(index, len(living.entries) - 1))

    @rule(how=st.sampled_from(["reverse", "rotate", "shuffle"]), seed=st.integers(0, 99))
    def reorder(self, how: Reorder, seed: int) -> None:
        self._count(how)
        self.living.reorder(how, seed)

    @rule(
        known=st.sampled_from([1, 3, 8]),
        page_size=st.none() | st.integers(3, 12),
        prefetch=st.sampled_from([1, 4]),
    )
    def run(self, known: int, page_size: int | None, prefetch: int) -> None:
        self._count("run")
        offset, told = len(self.stored), self.stored[-known:]
        desk = Desk(Record(self.living, offset=offset))
        pager = desk.pager(page_size=page_size, prefetch=prefetch, after=told)
        reader = asyncio.run(read(desk, Reader(pager.pages())))
        note(
            f"stored {names_of(self.stored)}\nlist {names_of(self.living.visits)}\n"
            f"requests {desk.requests} shifts {[page.shift for page in reader.read]} "
            f"new {[names_of(page.items) for page in reader.read]} error {reader.error!r}"
        )
        self._check(desk, reader, told)
        once = all(self.living.visits.count(visit) == 1 for visit in told)
        if once and self.stored == self.living.visits[:offset]:
            self._check_cost(desk, page_size or self.living.default_page, offset, len(told))
        # A run that found a difference is followed by one that stores everything anew.
        self.stored = self.living.visits

    def _check(self, desk: Desk, reader: Reader, told: list[Visit]) -> None:
        visits, offset = self.living.visits, len(self.stored)
        intact = visits[:offset] == self.stored
        if reader.error is not None:
            type(self).outcomes[type(reader.error).__name__] += 1
            assert not intact, "gave up where nothing stored has changed"
            # A refusal past the end does not say where the end is.
            assert isinstance(reader.error, ListChangedError) or desk.refused
            return
        new = [visit for page in reader.read for visit in page.items]
        shift = sum(page.shift for page in reader.read)
        type(self).outcomes["moved" if shift else "in place"] += 1
        # Whatever was edited before it, this visit is in its place. The others that a run is told
        # are for finding the place elsewhere: reading them, too, would cost a request.
        in_place = visits[max(0, offset - 1) : offset] == told[-1:]
        assert shift or in_place, "went on silently"
        assert not (shift and intact), "moved a place that was right"
        place = offset + shift
        assert visits[place:] == new
        assert visits[max(0, place - 1) : place] == told[-1:] or self._is_shortened(visits, place)

    def _is_shortened(self, visits: list[Visit], place: int) -> bool:
        """Return whether the last stored visits are gone, and the place is after the others."""
        left = set(visits)
        rest = [visit for visit in self.stored if visit in left]
        return place > 0 and visits[place - 1] == rest[-1]

    def _check_cost(self, desk: Desk, page_size: int, offset: int, told: int) -> None:
        size = min(page_size, self.living.largest_page)
        new = len(self.living.visits) - offset
        # Apart from the last, the visits that it is told are extra.
        most = most_requests(new, size) + told // size
        assert len(desk.requests) <= (most if new else 1)

    def _count(self, step: str) -> None:
        type(self).steps[step] += 1

    @override
    def teardown(self) -> None:
        self.run(1, None, 4)


async def read(desk: Desk, reader: Reader) -> Reader:
    """Read everything, answering each request as it comes."""
    while not reader.done:
        reader.ask()
        await asyncio.sleep(0)
        while desk.waiting:
            desk.answer()
        reader.collect()
        assert len(desk.requests) < 200, "the walk asks without end"
    await reader.aclose()
    return reader
