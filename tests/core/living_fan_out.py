"""The state machine of `test_living_lists` for walks side by side: several lists change at once."""

import asyncio
from collections import Counter
from typing import Any, ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from typing_extensions import override

from distinct_async import (
    DistinctError,
    FanOutError,
    NotFoundError,
    Pager,
    ServerError,
    Visit,
    VisitPage,
)
from distinct_async._fanout import FanOut
from tests.support.living_desk import Desk, Reader, settle
from tests.support.living_judge import GOOD, Record
from tests.support.living_list import LivingList, PastEnd
from tests.support.living_walk import Progress, most_requests

PAGE_SIZE = 5
FAILURES = (lambda: ServerError(503), lambda: NotFoundError(404))

lists = st.integers(0, 3)
places = st.sampled_from([0, 0, 1, 1000]) | st.integers(0, 1000)


class LivingFanOut(RuleBasedStateMachine):
    """A fan-out over four lists, whose errors all come at its end."""

    steps: ClassVar[Counter[str]] = Counter()
    outcomes: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.progress: dict[str, Progress] = {}
        self.must_go_on: dict[str, bool] = {}
        self.reader: Reader | None = None
        self.taken = 0

    @initialize(
        counts=st.lists(st.integers(0, 60), min_size=4, max_size=4),
        past_end=st.sampled_from(["empty", "400", "404", "416", "clamped"]),
        prefetch=st.sampled_from([1, 4, 16]),
        concurrency=st.integers(1, 4),
    )
    def begin(self, counts: list[int], past_end: PastEnd, prefetch: int, concurrency: int) -> None:
        for number, count in enumerate(counts):
            living = LivingList(count, touchpoint_id=f"tp-{number}", past_end=past_end)
            progress = Progress(Desk(Record(living)), None, PAGE_SIZE, prefetch)
            self.progress[living.touchpoint.id] = progress
            self.must_go_on[living.touchpoint.id] = True
        pages = FanOut(
            list(self.progress),
            make_pager=self._pager,
            spawn=asyncio.create_task,
            concurrency=concurrency,
        ).pages()
        self.reader = Reader(pages)

    def _pager(self, touchpoint_id: str) -> Pager[Visit, VisitPage]:
        progress = self.progress[touchpoint_id]
        return progress.desk.pager(page_size=PAGE_SIZE, prefetch=progress.prefetch)

    @override
    def teardown(self) -> None:
        try:
            if self.reader is not None:
                self.loop.run_until_complete(self._finish(self.reader))
                self._judge(self.reader)
        finally:
            for progress in self.progress.values():
                note(str(progress))
            if self.reader is not None:
                self.loop.run_until_complete(self.reader.aclose())
            self.loop.close()

    async def _finish(self, reader: Reader) -> None:
        desks = [progress.desk for progress in self.progress.values()]
        before = sum(len(desk.requests) for desk in desks)
        most = sum(most_requests(len(desk.living.entries), PAGE_SIZE) + 60 for desk in desks)
        while not reader.done:
            reader.ask()
            await self._settle(reader)
            while reader.reading:
                for desk in desks:
                    while desk.waiting:
                        desk.answer()
                await self._settle(reader)
            assert sum(len(desk.requests) for desk in desks) - before <= most

    def _judge(self, reader: Reader) -> None:
        errors: dict[str, DistinctError] = {}
        if reader.error is not None:
            assert isinstance(reader.error, FanOutError)
            errors.update(reader.error.failures)
            assert len(errors) == len(reader.error.exceptions)
        for touchpoint_id, progress in self.progress.items():
            error = errors.get(touchpoint_id)
            if error is not None:
                progress.check(error, must_go_on=self.must_go_on[touchpoint_id])
            type(self).outcomes["end" if error is None else type(error).__name__] += 1
            assert progress.verdict(complete=error is None) == GOOD

    # --- The lists

    @rule(
        number=lists,
        kind=st.sampled_from(["append", "insert", "insert", "delete", "delete", "replace"]),
        place=places,
        count=st.integers(1, 3),
        appended=st.integers(1, 8),
    )
    def change(self, number: int, kind: str, place: int, count: int, appended: int) -> None:
        self._count(kind)
        living = self._at(number).living
        index = place * len(living.entries) // 1000
        if kind == "append":
            living.append(appended)
        elif kind == "insert":
            living.insert(index, count)
        elif kind == "delete":
            living.delete(index, count)
        else:
            living.replace(index, count, appended)
        self._note()

    @rule(number=lists, count=st.integers(4, 20), deleted=st.booleans())
    def burst(self, number: int, count: int, *, deleted: bool) -> None:
        self._count("burst")
        living = self._at(number).living
        (living.delete if deleted else living.insert)(0, count)
        self._note()

    # --- The walks

    @rule(pages=st.integers(1, 6), order=st.permutations(range(4)))
    def advance(self, pages: int, order: list[int]) -> None:
        """Read pages, answering the lists in turn."""
        self._count("advance")
        assert self.reader is not None
        for _ in range(pages):
            self._ask()
            for number in order:
                if self.reader.reading and self._at(number).desk.waiting:
                    self._answer(number, 0)

    @rule()
    def read(self) -> None:
        self._count("read")
        self._ask()

    @rule(number=lists, which=st.integers(0, 15))
    def answer(self, number: int, which: int) -> None:
        if self._at(number).desk.waiting:
            self._count("answer")
            self._answer(number, which)

    @precondition(lambda self: self.reader is not None)
    @rule(number=lists, which=st.integers(0, 15), failure=st.sampled_from(FAILURES))
    def fail(self, number: int, which: int, failure: Any) -> None:
        waiting = self._at(number).desk.waiting
        if waiting:
            self._count("fail")
            self._at(number).desk.fail(which % len(waiting), failure())
            self._run()

    def _ask(self) -> None:
        assert self.reader is not None
        if not self.reader.done:
            self.loop.run_until_complete(self._ask_for_one(self.reader))
        self._run()

    async def _ask_for_one(self, reader: Reader) -> None:
        reader.ask()

    def _answer(self, number: int, which: int) -> None:
        desk = self._at(number).desk
        desk.answer(which % len(desk.waiting))
        self._run()

    def _run(self) -> None:
        assert self.reader is not None
        self.loop.run_until_complete(self._settle(self.reader))

    async def _settle(self, reader: Reader) -> None:
        await settle([progress.desk for progress in self.progress.values()], [reader])
        reader.collect()
        for page in reader.read[self.taken :]:
            self.progress[page.touchpoint.id].add(page)
        self.taken = len(reader.read)
        self._note()

    def _note(self) -> None:
        """Take note of walks that may give up, since their errors are seen only at the end."""
        for touchpoint_id, progress in self.progress.items():
            self.must_go_on[touchpoint_id] &= progress.must_go_on

    def _at(self, number: int) -> Progress:
        return self.progress[f"tp-{number}"]

    def _count(self, step: str) -> None:
        type(self).steps[step] += 1
