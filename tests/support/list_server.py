"""In-memory servers for walks and fan-outs: no HTTP, so tests control every interleaving.

Pagers, sources and fan-outs of the tests are constructed here alone.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, TypeAlias

import attrs

from distinct_async import (
    DistinctError,
    Page,
    Pager,
    Touchpoint,
    TouchpointPage,
    TouchpointSummary,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async._fanout import FanOut, Touchpoints
from distinct_async._reading import Source

START = datetime(2024, 1, 1, tzinfo=UTC)
DOOR = Touchpoint("tp-1", "Door", "door")
DEFAULT_PAGE_SIZE = 50

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any] | DistinctError]


def make_visits(count: int) -> list[Visit]:
    return [Visit(f"user-{i % 97}", START + timedelta(seconds=i)) for i in range(count)]


def page_offsets(total: int, page_size: int) -> list[int]:
    """Return the offsets of a walk's requests: each page but the first starts one item early."""
    return [*range(0, max(1, total - 1), page_size - 1)]


@attrs.define
class ListServer:
    """Serves a list of visits in pages.

    Attributes:
        visits: The list, which a test may change at any time.
        largest_page: Page sizes above this are clamped.
        kind: The type of visits.
        change: Alters a page, given its offset; may raise a `DistinctError`, which `fetch` returns.
        requests: The offset and page size of every request.
        turns: Event-loop turns that the nth response takes.
        in_flight: Number of requests now being answered.
        answered: Number of requests answered.
        most_in_flight: The largest number of simultaneous requests so far.
        touchpoint: The touchpoint of every page.
    """

    visits: list[Visit]
    largest_page: int = 1_000_000
    kind: VisitsType = VisitsType.TOTAL
    change: Callable[[int, VisitPage], VisitPage] = lambda _, page: page
    requests: list[tuple[int, int | None]] = attrs.field(factory=list[tuple[int, int | None]])
    turns: Callable[[int], int] = lambda _: 1
    in_flight: int = 0
    answered: int = 0
    most_in_flight: int = 0
    touchpoint: Touchpoint = DOOR

    async def fetch(self, offset: int, page_size: int | None) -> VisitPage | DistinctError:
        number = len(self.requests)
        self.requests.append((offset, page_size))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for _ in range(self.turns(number)):
                await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        self.answered += 1
        size = min(page_size or DEFAULT_PAGE_SIZE, self.largest_page)
        items = tuple(self.visits[offset : offset + size])
        page = VisitPage(self.touchpoint, self.kind, len(self.visits), items, offset, size)
        try:
            return self.change(offset, page)
        except DistinctError as error:
            return error

    def pager(
        self,
        *,
        offset: int = 0,
        after: Visit | Sequence[Visit] | None = None,
        total: int | None = None,
        limit: int | None = None,
        page_size: int | None = None,
        prefetch: int = 4,
        spawn: Spawn = asyncio.create_task,
    ) -> Pager[Visit, VisitPage]:
        source = Source(
            fetch=self.fetch,
            spawn=spawn,
            touchpoint_id=self.touchpoint.id,
        )
        return Pager(
            name=f"{self.kind.lower()} visits of {self.touchpoint.id!a}",
            source=source,
            offset=offset,
            after=after,
            total=total,
            limit=limit,
            page_size=page_size,
            prefetch=prefetch,
        )


@attrs.define
class ManyLists:
    """Serves the visits of many touchpoints, creating each touchpoint's server on first use.

    Attributes:
        count: The number of visits of a touchpoint.
        options: Further arguments of a touchpoint's `ListServer`.
        spawn: Starts the tasks of the walks.
        servers: The servers created so far, by touchpoint.
        opened: The touchpoints in the order in which their walks began.
    """

    count: Callable[[str], int] = lambda _: 120
    options: Callable[[str], dict[str, Any]] = lambda _: {}
    spawn: Spawn = asyncio.create_task
    servers: dict[str, ListServer] = attrs.field(factory=dict[str, ListServer])
    opened: list[str] = attrs.field(factory=list[str])

    def server(self, touchpoint_id: str) -> ListServer:
        if touchpoint_id not in self.servers:
            self.servers[touchpoint_id] = ListServer(
                make_visits(self.count(touchpoint_id)),
                touchpoint=Touchpoint(touchpoint_id, touchpoint_id, touchpoint_id),
                **self.options(touchpoint_id),
            )
        return self.servers[touchpoint_id]

    @property
    def answered(self) -> int:
        return sum(server.answered for server in self.servers.values())

    def pages(
        self,
        touchpoints: Touchpoints,
        *,
        concurrency: int = 8,
        prefetch: int = 4,
        page_size: int = 50,
    ) -> AsyncGenerator[VisitPage, None]:
        def make_pager(touchpoint_id: str) -> Pager[Visit, VisitPage]:
            self.opened.append(touchpoint_id)
            server = self.server(touchpoint_id)
            return server.pager(page_size=page_size, prefetch=prefetch, spawn=self.spawn)

        return FanOut(
            touchpoints,
            make_pager=make_pager,
            spawn=asyncio.create_task,
            concurrency=concurrency,
        ).pages()


def ids_of(count: int) -> list[str]:
    return [f"tp-{i}" for i in range(1, count + 1)]


Select: TypeAlias = Callable[[list[TouchpointSummary], int, int | None], list[TouchpointSummary]]


@attrs.define
class TouchpointServer:
    """Serves the touchpoints of an experience.

    Attributes:
        count: Number of touchpoints.
        select: Returns the touchpoints of a page, from all of them, the offset and the page size.
        first: The number of the first touchpoint; those before it are not in the list.
        requests: Number of requests received.
    """

    count: int
    select: Select
    first: int = 0
    requests: int = 0

    async def fetch(self, offset: int, page_size: int | None) -> TouchpointPage:
        self.requests += 1
        # The visit counts change with every request, so only the ids identify touchpoints.
        everything = [
            TouchpointSummary(f"tp-{i}", "", "", self.requests, 0)
            for i in range(self.first, self.count)
        ]
        items = tuple(self.select(everything, offset, page_size))
        return TouchpointPage(len(everything), items, offset)

    async def walk(self, page_size: int | None = None) -> list[str]:
        source = Source(fetch=self.fetch, spawn=asyncio.create_task, key=attrgetter("id"))
        pager: Pager[TouchpointSummary, TouchpointPage] = Pager(
            name="touchpoints", source=source, page_size=page_size
        )
        return [touchpoint.id async for touchpoint in pager]


@attrs.frozen
class LetterPage:
    """A page of letters."""

    offset: int
    items: tuple[str, ...]
    total: int
    shift: int = 0

    def part(self, start: int, end: int, *, shift: int = 0) -> "LetterPage":
        return LetterPage(self.offset + start, self.items[start:end], self.total, shift)


def letters(offset: int, items: str, total: int = 26, shift: int = 0) -> LetterPage:
    return LetterPage(offset, tuple(items), total, shift)


def pager_of(fetch: Callable[[int, int | None], Awaitable[Page[str]]]) -> Pager[str]:
    """Return a pager of strings."""
    source = Source[Page[str]](fetch=fetch, spawn=asyncio.create_task)
    return Pager(name="strings", source=source)
