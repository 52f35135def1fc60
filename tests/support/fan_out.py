"""Helpers for tests of fan-outs."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from typing import TypeAlias

from distinct_async import FanOutError, Visit, VisitPage

Delivered: TypeAlias = dict[str, list[Visit]]


async def drain(
    pages: AsyncGenerator[VisitPage, None],
) -> tuple[Delivered, FanOutError | None]:
    """Return the visits that a fan-out delivers by touchpoint, and the error that ends it."""
    delivered: Delivered = defaultdict(list)
    try:
        async for page in pages:
            assert page.offset == len(delivered[page.touchpoint.id])
            delivered[page.touchpoint.id].extend(page.items)
    except FanOutError as error:
        return delivered, error
    return delivered, None


async def listed(ids: Iterable[str]) -> AsyncGenerator[str, None]:
    """Yield the ids one by one, as a listing in progress would."""
    for touchpoint_id in ids:
        await asyncio.sleep(0)
        yield touchpoint_id
