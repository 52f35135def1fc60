"""A server in memory, for the walks that know no HTTP."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs

from distinct_async import DistinctError, Pager, Touchpoint, Visit, VisitPage, VisitsType
from distinct_async._walk import Source, watch_visits

START = datetime(2024, 1, 1, tzinfo=UTC)
DOOR = Touchpoint("tp-1", "Door", "door")
DEFAULT_PAGE_SIZE = 50


def make_visits(count: int) -> list[Visit]:
    return [Visit(f"user-{i % 97}", START + timedelta(seconds=i)) for i in range(count)]


@attrs.define
class ListServer:
    """Serves a list of visits in pages, as a server would that is told to misbehave."""

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
        limit: int | None = None,
        page_size: int | None = None,
        prefetch: int = 4,
    ) -> Pager[Visit, VisitPage]:
        source = Source(
            fetch=self.fetch,
            spawn=asyncio.create_task,
            make_watch=watch_visits,
            touchpoint_id=self.touchpoint.id,
        )
        return Pager(
            name="visits",
            source=source,
            offset=offset,
            limit=limit,
            page_size=page_size,
            prefetch=prefetch,
        )
