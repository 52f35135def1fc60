"""Walks and single calls through faults."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import attrs

from distinct_async import DistinctError, RetryPolicy, VisitPage
from tests.support.faults import Fault, named
from tests.support.raw_server import RawServer
from tests.support.survival.server import TRANSIENT, VisitServer, make_client, shows_key


@attrs.define
class WalkFigures:
    """The results of a walk through faults.

    Attributes:
        delivered: Number of visits delivered.
        lost: Number of visits missed.
        repeated: Number of visits delivered again.
        gave_up: Number of errors after which the walk was resumed at `next_offset`.
        leaks: Number of those errors that show the key.
        wrong_offsets: Number of those errors whose `next_offset` is not the first missing visit.
        requests: Number of requests that the server received.
        spoilt: Number of responses that were faults.
    """

    delivered: int = 0
    lost: int = 0
    repeated: int = 0
    gave_up: int = 0
    leaks: int = 0
    wrong_offsets: int = 0
    requests: int = 0
    spoilt: int = 0

    def count(self, page: VisitPage, expected: int) -> int:
        """Count a page's visits, and return the index of the visit that must follow."""
        for visit in page.items:
            index = int(visit.user_id.removeprefix("visit-"))
            self.lost += max(0, index - expected)
            self.repeated += max(0, expected - index)
            expected = index + 1
        self.delivered += len(page.items)
        return expected


async def walk_through_faults(
    *, visits: int, page_size: int, seed: int, rate: float = 0.2, attempts: int = 10
) -> WalkFigures:
    """Walk a touchpoint whose server corrupts some responses, and resume after every error."""
    server, figures = VisitServer(visits, seed=seed, rate=rate), WalkFigures()
    offset = expected = 0
    async with RawServer() as raw, make_client(raw, RetryPolicy(attempts=attempts)) as client:
        raw.play(server)
        # Bounded: every error but a few must have been preceded by progress.
        for _ in range(visits // page_size + 10):
            walk = client.total_visits("tp", offset=offset, page_size=page_size, prefetch=16)
            try:
                async for page in walk.pages():
                    expected = figures.count(page, expected)
                break
            except DistinctError as error:
                if error.next_offset is None:
                    raise
                figures.gave_up += 1
                figures.leaks += shows_key(error)
                figures.wrong_offsets += error.next_offset != expected
                offset = error.next_offset
    figures.lost += visits - expected
    figures.requests, figures.spoilt = server.requests, server.spoilt.total()
    return figures


@attrs.frozen
class CallFigures:
    """The results of many single calls.

    Attributes:
        calls: Number of calls.
        succeeded: Number of calls that returned the right page.
        failures: Number of errors by type; "wrong" counts wrong pages.
        leaks: Number of errors that show the key.
        requests: Number of requests that the server received.
    """

    calls: int
    succeeded: int
    failures: Counter[str]
    leaks: int
    requests: int


async def single_calls(
    *, calls: int, seed: int, rate: float = 0.2, faults: Sequence[Fault] = TRANSIENT
) -> CallFigures:
    """Make single calls, 16 at a time, to a server that corrupts some responses."""
    server, outcomes = VisitServer(3, seed=seed, rate=rate, faults=faults), Counter[str]()
    numbers = iter(range(calls))

    async with RawServer() as raw, make_client(raw) as client:
        raw.play(server)

        async def work() -> None:
            for number in numbers:
                name = f"tp-{number}"
                try:
                    page = await client.touchpoint_metrics(name)
                except DistinctError as error:
                    outcomes[type(error).__name__] += 1
                    outcomes["leak"] += shows_key(error)
                else:
                    right = page.touchpoint.id == name and len(page.items) == page.total == 3
                    outcomes["right" if right else "wrong"] += 1

        await asyncio.gather(*(work() for _ in range(16)))
    succeeded, leaks = outcomes.pop("right", 0), outcomes.pop("leak", 0)
    return CallFigures(calls, succeeded, outcomes, leaks, server.requests)


async def outage(*, calls: int, seed: int = 0) -> CallFigures:
    """Make single calls to a server that never answers properly."""
    down = named("closed before the head", "reset before the head", "429", "502", "503")
    return await single_calls(calls=calls, seed=seed, rate=1.0, faults=down)
