"""Walks over living lists in memory, whose answers a test holds back and releases in any order."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import attrs

from distinct_async import DistinctError, Pager, Visit, VisitPage
from distinct_async._reading import Source
from tests.support.living_judge import Record
from tests.support.living_list import LivingList, visits_of

# Event-loop turns without any progress after which nothing more can happen.
_QUIET_TURNS = 10


@attrs.define(eq=False)
class Waiting:
    """A request that was not answered yet.

    Attributes:
        offset: The requested offset.
        size: The requested number of items.
        made: The version of the list when the request was made.
        answer: What the walk is waiting for.
    """

    offset: int
    size: int | None
    made: int
    answer: asyncio.Future[VisitPage | DistinctError]


@attrs.define(eq=False)
class Desk:
    """Where the requests of one walk wait for their answers.

    Attributes:
        record: The list, and what the walk was given.
        waiting: Requests without an answer, in the order in which they were made.
        requests: The offset and size of every request so far.
        refused: Number of requests refused because they were at or beyond the end.
    """

    record: Record
    waiting: list[Waiting] = attrs.field(factory=list[Waiting])
    requests: list[tuple[int, int | None]] = attrs.field(factory=list[tuple[int, int | None]])
    refused: int = 0

    @property
    def living(self) -> LivingList:
        return self.record.living

    async def fetch(self, offset: int, size: int | None) -> VisitPage | DistinctError:
        waiting = Waiting(
            offset, size, self.living.version, asyncio.get_running_loop().create_future()
        )
        self.requests.append((offset, size))
        self.waiting.append(waiting)
        try:
            return await waiting.answer
        finally:
            if waiting in self.waiting:
                self.waiting.remove(waiting)

    def answer(self, index: int = 0, *, version: int | None = None) -> None:
        """Answer a waiting request, from the present version of the list or an older one."""
        waiting = self.waiting.pop(index)
        version = self.living.version if version is None else version
        outcome = self.living.page(waiting.offset, waiting.size, version=version)
        if isinstance(outcome, DistinctError):
            self.refused += 1
        else:
            self.record.add(outcome, version)
        waiting.answer.set_result(outcome)

    def fail(self, index: int, error: DistinctError) -> None:
        """Answer a waiting request with an error."""
        self.waiting.pop(index).answer.set_result(error)

    def pager(self, **options: Any) -> Pager[Visit, VisitPage]:
        """Return the pager of the walk, which knows what the record expects before `offset`."""
        source = Source(
            fetch=self.fetch, spawn=asyncio.create_task, touchpoint_id=self.living.touchpoint.id
        )
        return Pager(
            name="visits",
            source=source,
            **{
                "offset": self.record.offset,
                "after": visits_of(self.record.after),
                **options,
            },
        )


@attrs.define(eq=False)
class Reader:
    """Reads pages one at a time, without waiting for those that have not arrived.

    Attributes:
        pages: The generator to read.
        read: The pages so far.
        error: The error that ended it, or None.
        ended: Whether it came to its end.
    """

    pages: AsyncGenerator[VisitPage, None]
    read: list[VisitPage] = attrs.field(factory=list[VisitPage])
    error: DistinctError | None = None
    ended: bool = False
    _next: asyncio.Task[VisitPage] | None = None

    @property
    def done(self) -> bool:
        """Whether there is nothing more to read."""
        return self.ended or self.error is not None

    @property
    def reading(self) -> bool:
        """Whether a page was asked for and has not arrived."""
        return self._next is not None and not self._next.done()

    def ask(self) -> None:
        """Ask for the next page unless it is asked for already. Needs a running loop."""
        self.collect()
        if self._next is None and not self.done:
            self._next = asyncio.create_task(_next_of(self.pages))

    def collect(self) -> None:
        """Take the page that was asked for if it has arrived."""
        if self._next is None or not self._next.done():
            return
        task, self._next = self._next, None
        try:
            self.read.append(task.result())
        except StopAsyncIteration:
            self.ended = True
        except DistinctError as error:
            self.error = error

    async def aclose(self) -> None:
        """Stop reading."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait([self._next])
            self._next = None
        await self.pages.aclose()


async def _next_of(pages: AsyncGenerator[VisitPage, None]) -> VisitPage:
    return await anext(pages)


async def settle(desks: list[Desk], readers: list[Reader]) -> None:
    """Let every task run until nothing can happen without an answer or a reader."""
    before, quiet = (-1, -1), 0
    while quiet < _QUIET_TURNS:
        await asyncio.sleep(0)
        after = (sum(len(desk.requests) for desk in desks), sum(r.reading for r in readers))
        quiet = quiet + 1 if after == before else 0
        before = after
