"""httpx, in the loop that one writes by hand: one page after another, plain dicts."""

import asyncio
from collections.abc import AsyncGenerator

import httpx

from benchmarks.contestants import KEY, METRICS


def walk(url: str, page_size: int) -> int:
    """Request one page after another."""
    return asyncio.run(_count(url, page_size))


async def _count(url: str, page_size: int) -> int:
    count = 0
    async for _ in _items(url, page_size):
        count += 1
    return count


async def _items(url: str, page_size: int) -> AsyncGenerator[dict[str, str]]:
    query = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "visitsType": "TOTAL"}
    offset, total = 0, 1
    async with httpx.AsyncClient(base_url=url, headers=KEY) as http:
        while offset < total:
            params = query | {"offset": str(offset), "pageSize": str(page_size)}
            response = await http.get(METRICS, params=params)
            response.raise_for_status()
            touchpoint = response.json()["data"]["touchpoints"]
            items, total = touchpoint["totalVisitsDetails"]["items"], touchpoint["totalVisits"]
            offset += len(items)
            for item in items:
                yield item
