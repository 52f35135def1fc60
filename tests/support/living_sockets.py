"""Living lists over real sockets.

The server is the opposite of `FakeDistinct`, which appends only, counts exactly and answers any
offset. Each option breaks one assumption that a client may be tempted to make:

- `LivingTouchpoint.before` changes the list between two requests: that pages belong together.
- `LivingTouchpoint.lag` answers from an older version: that later answers are newer.
- `LivingTouchpoint.answer_for` answers for another touchpoint: that a response is the request's.
- `LivingTouchpoint.unchecked_key` lists visits under either key: that unique visits are unique.
- `LivingList.jitter` miscounts: that the total says where the list ends.
- `LivingList.past_end` refuses or moves offsets past the end: that every offset can be read.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs

from distinct_async import (
    DistinctClient,
    DistinctError,
    FanOutError,
    RetryPolicy,
    StatusError,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async.testing import FakeClock
from tests.support.helpers import KEY
from tests.support.living_judge import Record, Verdict
from tests.support.living_list import LivingList
from tests.support.raw_server import Exchange, RawServer, reply

_KEYS: Final = {
    VisitsType.TOTAL: ("totalVisits", "totalVisitsDetails"),
    VisitsType.UNIQUE: ("uniqueVisits", "uniqueVisitsDetails"),
}


@attrs.define(eq=False)
class LivingTouchpoint:
    """A touchpoint whose list changes at chosen requests.

    Attributes:
        living: Its list.
        record: What was answered.
        before: What to do before the nth answer, counted from 1.
        lag: How many versions the nth answer is behind.
        answer_for: The touchpoint that the nth answer is for.
        unchecked_key: The type whose keys the response has, if not that of the list.
        requests: Number of requests so far.
    """

    living: LivingList
    before: dict[int, Callable[[LivingList], None]] = attrs.field(
        factory=dict[int, Callable[[LivingList], None]]
    )
    lag: Callable[[int], int] = lambda _: 0
    answer_for: Callable[[int], str | None] = lambda _: None
    unchecked_key: VisitsType | None = None
    requests: int = 0
    record: Record = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.record = Record(self.living)

    def answer(self, offset: int, size: int) -> tuple[str, bytes]:
        """Return the status and the body of a response."""
        self.requests += 1
        number = self.requests
        self.before.get(number, _nothing)(self.living)
        version = max(0, self.living.version - self.lag(number))
        page = self.living.page(offset, size, version=version)
        if isinstance(page, DistinctError):
            status = page.status if isinstance(page, StatusError) else 500
            return f"{status} Refused", _encode(status, None)
        stranger = self.answer_for(number)
        if stranger is None:
            self.record.add(page, version)
        return "200 OK", _encode(200, self._data(page, stranger))

    def _data(self, page: VisitPage, stranger: str | None) -> dict[str, Any]:
        total, details = _KEYS[self.unchecked_key or page.visits_type]
        items = [
            {"userId": visit.user_id, "timestampUTC": visit.timestamp.isoformat()}
            for visit in page.items
        ]
        touchpoint = {
            "id": stranger or page.touchpoint.id,
            "name": page.touchpoint.name,
            "value": page.touchpoint.value,
            total: page.total,
            details: {
                "items": items,
                "pagination": {"offset": page.offset, "pageSize": page.page_size},
            },
        }
        return {"touchpoints": touchpoint}


def _nothing(_: LivingList) -> None:
    """Leave the list as it is."""


def _encode(status: int, data: dict[str, Any] | None) -> bytes:
    return json.dumps({"statusCode": status, "message": "planned", "data": data}).encode()


@attrs.define(eq=False)
class LivingServer:
    """Serves living touchpoints; a script for `RawServer`."""

    touchpoints: dict[str, LivingTouchpoint]

    async def __call__(self, exchange: Exchange) -> None:
        parameters = exchange.parameters
        touchpoint = self.touchpoints[parameters["touchpointId"]]
        status, body = touchpoint.answer(
            int(parameters.get("offset", 0)), int(parameters.get("pageSize", 50))
        )
        # Requests that arrive together are answered in turn.
        await asyncio.sleep(0)
        await reply(body, status=status)(exchange)


@asynccontextmanager
async def serving(*touchpoints: LivingTouchpoint) -> AsyncIterator[DistinctClient]:
    """Serve touchpoints, and open a client that never waits."""
    server = LivingServer({each.living.touchpoint.id: each for each in touchpoints})
    async with (
        RawServer() as raw,
        DistinctClient(
            KEY,
            base_url=raw.url,
            retry=RetryPolicy(attempts=3),
            runtime=FakeClock().runtime,
        ) as client,
    ):
        raw.play(server)
        yield client


@attrs.define(eq=False)
class Outcome:
    """What a walk delivered, and the error that ended it."""

    pages: list[VisitPage] = attrs.field(factory=list[VisitPage])
    error: DistinctError | None = None

    @property
    def visits(self) -> list[Visit]:
        """Every visit in the order of delivery."""
        return [visit for page in self.pages for visit in page.items]

    @property
    def shift(self) -> int:
        """By how much the list has shifted in all."""
        return sum(page.shift for page in self.pages)

    def judged_by(self, record: Record) -> Verdict:
        """Judge the walk by what it was given."""
        return record.judge(self.visits, complete=self.error is None)


async def walk_all(
    client: DistinctClient,
    *touchpoints: LivingTouchpoint,
    prefetch: int,
    taken: Callable[[VisitPage], None] = lambda _: None,
) -> list[Outcome]:
    """Walk touchpoints: a single one by its pager, several by a fan-out.

    Args:
        client: The client.
        touchpoints: What to walk.
        prefetch: Maximum number of pages in flight or buffered per walk.
        taken: Called with every page that is delivered.
    """
    outcomes = {each.living.touchpoint.id: Outcome() for each in touchpoints}
    first = touchpoints[0].living
    visits_type, page_size = touchpoints[0].unchecked_key or first.visits_type, 50
    if len(touchpoints) == 1:
        unique = visits_type is VisitsType.UNIQUE
        pager = (client.unique_visits if unique else client.total_visits)(
            first.touchpoint.id, page_size=page_size, prefetch=prefetch
        )
        pages = pager.pages()
    else:
        pages = client.pages_across(
            list(outcomes), visits_type=visits_type, page_size=page_size, prefetch=prefetch
        )
    try:
        async for page in pages:
            outcomes[page.touchpoint.id].pages.append(page)
            taken(page)
    except FanOutError as group:
        for touchpoint_id, error in group.failures.items():
            outcomes[touchpoint_id].error = error
    except DistinctError as error:
        outcomes[first.touchpoint.id].error = error
    return list(outcomes.values())
