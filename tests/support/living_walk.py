"""Walks over living lists that check every page and every error against the list's history."""

import math
from collections.abc import Sequence

import attrs
from typing_extensions import override

from distinct_async import (
    DistinctError,
    IncompleteListError,
    ListChangedError,
    Pager,
    PaginationError,
    RepeatedPageError,
    ResumePoint,
    Visit,
    VisitPage,
)
from tests.support.living_desk import Desk, Reader, settle
from tests.support.living_judge import GOOD, Record, Verdict
from tests.support.living_list import LivingList, visits_of

# Requests that finding the place again, or reading the end again, may cost at most.
_PATIENCE = 60
_RESUMES = 3


def most_requests(count: int, page_size: int) -> int:
    """Return how many requests a walk may take over a list that stands still.

    Neighbouring pages share an item. Pages of one item share none, so each is read again beside
    its neighbours.
    """
    return math.ceil(count / (page_size - 1)) + 1 if page_size > 1 else 3 * count + 4


def names_of(visits: Sequence[Visit]) -> str:
    """Return the numbers of visits, in short."""
    return " ".join(visit.user_id.removeprefix("visit-") for visit in visits)


@attrs.define(eq=False, repr=False)
class Progress:
    """How far a walk has come.

    Attributes:
        desk: Where its requests wait.
        limit: Maximum number of visits to deliver, or None.
        page_size: Items to request per page, or None.
        prefetch: Maximum number of pages in flight or buffered.
        delivered: What it delivered, over all its walks.
        known: The visits by which it can find its place again, in order.
        shifts: The shift of every page.
        end: The offset after the last page.
        resumed_at: How many visits were delivered before it was last resumed.
        smallest: The smallest page that the server can have answered with.
    """

    desk: Desk
    limit: int | None
    page_size: int | None
    prefetch: int
    delivered: list[Visit] = attrs.field(factory=list[Visit])
    known: list[Visit] = attrs.field(init=False)
    shifts: list[int] = attrs.field(factory=list[int])
    end: int = attrs.field(init=False)
    resumed_at: int = 0
    smallest: int = 1_000_000

    def __attrs_post_init__(self) -> None:
        self.known = list(visits_of(self.record.after))
        self.end = self.record.offset
        self.note_size()

    @property
    def record(self) -> Record:
        return self.desk.record

    @property
    def living(self) -> LivingList:
        return self.desk.record.living

    def note_size(self) -> None:
        """Take note of the present page size."""
        size = self.page_size or self.living.default_page
        self.smallest = min(self.smallest, size, self.living.largest_page)

    def add(self, page: VisitPage) -> None:
        """Check that a page continues where its `shift` says, and take what it holds."""
        assert page.offset == self.end + page.shift
        if page.items:
            # The rest may be from other answers.
            assert any(answer.shows(page.offset, page.items[0]) for answer in self.record.answers)
        self.end = page.offset + len(page.items)
        self.delivered.extend(page.items)
        self.known.extend(page.items)
        self.shifts.append(page.shift)

    def resume(self, point: ResumePoint) -> None:
        """Go on at a point."""
        self.known, self.end = list(point.after), point.offset
        self.resumed_at = len(self.delivered)

    @override
    def __str__(self) -> str:
        """Show all that a failure needs to be repeated by hand."""
        record, living = self.record, self.living
        return "\n".join(
            [
                f"walk: offset={record.offset} limit={self.limit} page_size={self.page_size}",
                f"  prefetch={self.prefetch} past_end={living.past_end} jitter={living.jitter}",
                *(f"  v{version + 1} {change}" for version, change in enumerate(living.changes)),
                f"  requests {self.desk.requests}",
                *(f"  {answer}: {names_of(answer.items)}" for answer in record.answers),
                f"  delivered {names_of(self.delivered)} shifts {self.shifts}",
                f"  list {names_of(living.visits)}",
            ]
        )

    # --- Judgement

    def verdict(self, *, complete: bool, doubles: Sequence[Visit] = ()) -> Verdict:
        """Judge everything that was delivered.

        A reordered list is not judged here: whatever order it takes, it may as well have been
        edited into, and `test_living_reorders` judges the first walk over one.

        Args:
            complete: Whether the walk came to its end.
            doubles: The visits that the list held several times. Once it has changed, no walk can
                know which of several identical visits it has delivered.
        """
        full = self.limit is not None and len(self.delivered) >= self.limit
        assert self.limit is None or len(self.delivered) <= self.limit
        record = self.record
        first = record.answers[0].version if record.answers else self.living.version
        if any(change.kind == "reorder" for change in self.living.changes[first:]):
            return GOOD
        verdict = record.judge(self.delivered, complete=complete and not full)
        changed = len({answer.version for answer in record.answers}) > 1
        return verdict.without(doubles if changed else ())

    @property
    def must_go_on(self) -> bool:
        """Whether the walk has no reason to give up now."""
        return self.record.must_go_on(self.known, self.smallest, held=self.prefetch + 3)

    def check(self, error: DistinctError, *, must_go_on: bool) -> None:
        """Check that the walk was allowed to end with this error, and where it can go on."""
        if error.resume_point is None:
            assert isinstance(error, PaginationError), f"cannot be resumed: {error!r}"
            assert error.next_offset is None
        else:
            self._check_point(error.resume_point, error.next_offset)
        if isinstance(error, ListChangedError | RepeatedPageError):
            assert not must_go_on, f"gave up: {error}"
        assert not isinstance(error, IncompleteListError), f"ended early: {error}"

    def _check_point(self, point: ResumePoint, next_offset: int | None) -> None:
        new = len(self.delivered) - self.resumed_at
        assert (point.offset, point.delivered) == (self.end, new)
        assert next_offset in {None, point.offset}
        if point.after:
            versions = {self.record.since, *(answer.version for answer in self.record.answers)}
            assert any(self._stands_at(point, version) for version in versions)

    def _stands_at(self, point: ResumePoint, version: int) -> bool:
        """Return whether going on at a point is right for a version of the list.

        `after` does not end with what was delivered last if that was deleted.
        """
        visits = visits_of(self.living.history[version])
        before, rest = visits[: point.offset], visits[point.offset :]
        # Identical visits may stand on both sides.
        again = set(self.delivered) & set(rest) - set(before)
        return before[-1:] == point.after[-1:] and not again


@attrs.define(eq=False, repr=False)
class LivingWalk:
    """A walk by a pager, and the walks that resume it.

    Attributes:
        progress: What it has delivered.
        pager: The pager that is being read.
        reader: What reads it.
    """

    progress: Progress
    pager: Pager[Visit, VisitPage] = attrs.field(init=False)
    reader: Reader = attrs.field(init=False)
    _taken: int = 0
    _checked: bool = False

    def __attrs_post_init__(self) -> None:
        progress = self.progress
        self.pager = self.desk.pager(
            limit=progress.limit, page_size=progress.page_size, prefetch=progress.prefetch
        )
        self.reader = Reader(self.pager.pages())

    @property
    def desk(self) -> Desk:
        return self.progress.desk

    @property
    def error(self) -> DistinctError | None:
        return self.reader.error

    @property
    def ended(self) -> bool:
        """Whether nothing can be read any more, even by resuming."""
        error = self.error
        return self.reader.ended or (error is not None and error.resume_point is None)

    async def advance(self, pages: int) -> None:
        """Read pages, answering every request at once and in order."""
        for _ in range(pages):
            if self.reader.done:
                return
            await self.ask()
            while self.reader.reading:
                assert self.desk.waiting, "the walk waits for nothing"
                self.desk.answer()
                await self.settle()

    async def ask(self) -> None:
        """Ask for a page."""
        self.reader.ask()
        await self.settle()

    async def settle(self) -> None:
        """Let the walk do all that it can without another answer, and check what has arrived."""
        await settle([self.desk], [self.reader])
        self.progress.note_size()
        self.reader.collect()
        for page in self.reader.read[self._taken :]:
            self.progress.add(page)
        self._taken = len(self.reader.read)
        if self.error is not None and not self._checked:
            self._checked = True
            self.progress.check(self.error, must_go_on=self.progress.must_go_on)

    def resume(self) -> None:
        """Go on after an error that allows it."""
        error = self.error
        assert error is not None
        assert error.resume_point is not None
        self.pager = self.pager.resume(error)
        self.reader = Reader(self.pager.pages())
        self._taken, self._checked = 0, False
        self.progress.resume(error.resume_point)

    async def finish(self) -> None:
        """Read everything that is left of a list that stands still from now on."""
        progress, before, resumes = self.progress, len(self.desk.requests), 0
        progress.note_size()
        most = _PATIENCE + 3 * progress.prefetch
        most += most_requests(len(progress.living.entries), progress.smallest)
        while not self.ended:
            if self.error is not None:
                if resumes == _RESUMES:
                    return
                resumes += 1
                self.resume()
            await self.advance(1)
            assert len(self.desk.requests) - before <= most, "the walk asks without end"

    def verdict(self, doubles: Sequence[Visit] = ()) -> Verdict:
        """Judge everything that was delivered."""
        return self.progress.verdict(complete=self.reader.ended, doubles=doubles)

    async def aclose(self) -> None:
        await self.reader.aclose()

    @override
    def __str__(self) -> str:
        return f"{self.progress}\n  error {self.error!r}"


def walk_over(
    living: LivingList,
    *,
    offset: int = 0,
    known: int = 0,
    limit: int | None = None,
    page_size: int | None = None,
    prefetch: int = 1,
) -> LivingWalk:
    """Return a walk that is told the last `known` visits before its offset."""
    after = living.entries[max(0, offset - known) : offset]
    desk = Desk(Record(living, offset=offset, after=after, since=living.version))
    return LivingWalk(Progress(desk, limit, page_size, prefetch))
