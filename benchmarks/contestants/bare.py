"""The limit: aiohttp and orjson, plain dicts, one page after another, and nothing checked."""

import asyncio
from collections.abc import AsyncGenerator

import aiohttp
import orjson

from benchmarks.contestants import KEY, METRICS


def walk(url: str, page_size: int) -> int:
    """Walk with the least there can be."""
    return asyncio.run(_count(url, page_size))


async def _count(url: str, page_size: int) -> int:
    count = 0
    async for _ in _items(url, page_size):
        count += 1
    return count


async def _items(url: str, page_size: int) -> AsyncGenerator[dict[str, str]]:
    query = "metricsType=TOUCHPOINT&touchpointId=tp-1&visitsType=TOTAL"
    offset, total = 0, 1
    async with aiohttp.ClientSession(headers=KEY) as http:
        while offset < total:
            page_query = f"{query}&offset={offset}&pageSize={page_size}"
            async with http.get(f"{url}{METRICS}?{page_query}") as response:
                touchpoint = orjson.loads(await response.read())["data"]["touchpoints"]
            items, total = touchpoint["totalVisitsDetails"]["items"], touchpoint["totalVisits"]
            offset += len(items)
            for item in items:
                yield item
