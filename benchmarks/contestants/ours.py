"""This package."""

import asyncio
from collections.abc import Callable

from distinct_async import DistinctClient, Pager, Visit, VisitPage

WIDE = 16


def walk(url: str, page_size: int) -> int:
    """Walk with the defaults."""
    return _run(url, lambda client: client.total_visits("tp-1", page_size=page_size))


def walk_sequentially(url: str, page_size: int) -> int:
    """Walk one page after another."""
    return _run(url, lambda client: client.total_visits("tp-1", page_size=page_size, prefetch=1))


def walk_wide(url: str, page_size: int) -> int:
    """Walk with as many pages in flight as the client allows."""
    return _run(url, lambda client: client.total_visits("tp-1", page_size=page_size, prefetch=WIDE))


def _run(url: str, list_visits: Callable[[DistinctClient], Pager[Visit, VisitPage]]) -> int:
    async def count() -> int:
        number = 0
        async with DistinctClient("key", base_url=url) as client:
            async for _ in list_visits(client):
                number += 1
        return number

    return asyncio.run(count())
