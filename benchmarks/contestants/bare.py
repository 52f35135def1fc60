"""The limit: aiohttp and orjson, plain dicts, nothing checked."""

import asyncio
from collections.abc import AsyncGenerator

import aiohttp
import orjson

from benchmarks.contestants import KEY, METRICS, time_requests


def walk(url: str, page_size: int) -> int:
    """Request one page after another."""

    async def count() -> int:
        number = 0
        async for _ in _items(url, page_size):
            number += 1
        return number

    return asyncio.run(count())


async def _items(url: str, page_size: int) -> AsyncGenerator[dict[str, str]]:
    offset, total = 0, 1
    async with aiohttp.ClientSession(headers=KEY) as http:
        while offset < total:
            async with http.get(_page_url(url, "tp-1", offset, page_size)) as response:
                touchpoint = orjson.loads(await response.read())["data"]["touchpoints"]
            items, total = touchpoint["totalVisitsDetails"]["items"], touchpoint["totalVisits"]
            offset += len(items)
            for item in items:
                yield item


def call(url: str, requests: int, page_size: int, *, parse: bool = True) -> float:
    """Request single pages, one after another."""
    page_url = _page_url(url, "tp-1", 0, page_size)

    async def measure() -> float:
        async with aiohttp.ClientSession(headers=KEY) as http:

            async def request() -> object:
                async with http.get(page_url) as response:
                    body = await response.read()
                return orjson.loads(body) if parse else body

            return await time_requests(request, requests)

    return asyncio.run(measure())


def fan_out(url: str, touchpoints: int, page_size: int, *, concurrency: int, visits: int) -> int:
    """Request all pages of all touchpoints, with one request in flight for each worker."""
    pages = (
        _page_url(url, f"tp-{number}", offset, page_size)
        for number in range(touchpoints)
        for offset in range(0, visits, page_size)
    )

    async def work(http: aiohttp.ClientSession) -> int:
        count = 0
        for page_url in pages:
            async with http.get(page_url) as response:
                page = orjson.loads(await response.read())
            count += len(page["data"]["touchpoints"]["totalVisitsDetails"]["items"])
        return count

    async def run() -> int:
        connector = aiohttp.TCPConnector(limit=concurrency)
        async with aiohttp.ClientSession(headers=KEY, connector=connector) as http:
            return sum(await asyncio.gather(*(work(http) for _ in range(concurrency))))

    return asyncio.run(run())


def _page_url(url: str, touchpoint_id: str, offset: int, page_size: int) -> str:
    query = f"metricsType=TOUCHPOINT&touchpointId={touchpoint_id}&visitsType=TOTAL"
    return f"{url}{METRICS}?{query}&offset={offset}&pageSize={page_size}"
