"""This package: the bulk export."""

import asyncio

from distinct_async import DistinctClient
from distinct_async.export import FileFormat, export_visits


def export(url: str, touchpoints: int, folder: str, file_format: FileFormat) -> int:
    """Export with the defaults and return the number of visits."""

    async def run() -> int:
        ids = [f"tp-{number}" for number in range(1, touchpoints + 1)]
        async with DistinctClient("fake-key", base_url=url) as client:
            done = await export_visits(client, ids, folder, format=file_format)
        return done.visits_fetched

    return asyncio.run(run())
