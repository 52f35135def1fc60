"""This package: walks, single calls and fan-outs."""

import asyncio
from collections.abc import Iterator

from benchmarks.contestants import time_requests
from distinct_async import DistinctClient, Limits

PREFETCH = 4


def walk(url: str, page_size: int, prefetch: int = PREFETCH) -> int:
    """Walk one touchpoint and return the number of its visits."""

    async def count() -> int:
        number = 0
        async with DistinctClient("key", base_url=url) as client:
            async for _ in client.total_visits("tp-1", page_size=page_size, prefetch=prefetch):
                number += 1
        return number

    return asyncio.run(count())


def walk_slowly(url: str, page_size: int, prefetch: int, pause: float) -> int:
    """Walk one touchpoint, with a pause after each page's worth of visits."""

    async def count() -> int:
        number = 0
        async with DistinctClient("key", base_url=url) as client:
            async for _ in client.total_visits("tp-1", page_size=page_size, prefetch=prefetch):
                number += 1
                if pause and number % page_size == 0:
                    await asyncio.sleep(pause)
        return number

    return asyncio.run(count())


def call(url: str, requests: int, page_size: int) -> float:
    """Request single pages, one after another."""

    async def measure() -> float:
        async with DistinctClient("key", base_url=url) as client:
            return await time_requests(
                lambda: client.touchpoint_metrics("tp-1", page_size=page_size), requests
            )

    return asyncio.run(measure())


def fan_out(
    url: str, touchpoints: int, page_size: int, *, concurrency: int, in_flight: int = 1
) -> int:
    """Walk with `pages_across`, and at most `in_flight` requests for each open touchpoint."""

    async def count() -> int:
        number = 0
        limits = Limits(concurrency=concurrency * in_flight)
        async with DistinctClient("key", base_url=url, limits=limits) as client:
            async for page in client.pages_across(
                _ids(touchpoints), page_size=page_size, concurrency=concurrency, prefetch=PREFETCH
            ):
                number += len(page.items)
        return number

    return asyncio.run(count())


def one_by_one(url: str, touchpoints: int, page_size: int) -> int:
    """Walk one touchpoint after another."""

    async def count() -> int:
        number = 0
        async with DistinctClient("key", base_url=url) as client:
            for touchpoint_id in _ids(touchpoints):
                walk = client.total_visits(touchpoint_id, page_size=page_size, prefetch=PREFETCH)
                async for page in walk.pages():
                    number += len(page.items)
        return number

    return asyncio.run(count())


def _ids(touchpoints: int) -> Iterator[str]:
    return (f"tp-{number}" for number in range(touchpoints))
