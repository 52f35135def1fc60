"""Small tools that several test modules share."""

import asyncio
import inspect
import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import aiohttp
import pytest
from aioresponses import aioresponses
from typing_extensions import override

from distinct_async import DistinctClient, DistinctError, Pager, RetryPolicy, Visit, VisitPage
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.support.raw_server import RawServer, hang

T = TypeVar("T")

# A recognizable API key: no error, log record or traceback may contain it.
KEY = "canary-0123456789"
ONCE = RetryPolicy(attempts=1)

# Far longer than any wait should take; without it, a failing test would hang.
_PATIENCE = 60.0

# A page size that marks the requests of `_free_slots`.
_PROBE = 997

_TESTS = str(Path(__file__).parents[1])


async def eventually(condition: Callable[[], T]) -> T:
    """Let other tasks run until `condition` returns a true value, and return that value."""
    async with asyncio.timeout(_PATIENCE):
        while not (value := condition()):  # noqa: ASYNC110 - no event marks the change
            await asyncio.sleep(0)
    return value


async def spin(turns: int = 50) -> None:
    """Yield to the event loop often enough for other tasks to finish all they can."""
    for _ in range(turns):
        await asyncio.sleep(0)


def is_idle(client: DistinctClient) -> bool:
    """Return whether the client has no request and no background task."""
    stats = client.stats
    return stats.in_flight == stats.waiting == stats.tasks == 0


async def free_slots_on_raw(client: DistinctClient, concurrency: int, raw: RawServer) -> int:
    """Count the free slots; afterwards the server has no script but `hang`."""
    raw.play_only(hang)
    # Scanning all heads can outlast the client's timeout, and its retries would be counted too.
    earlier = len(raw.heads)
    return await _free_slots(
        client,
        concurrency,
        lambda: sum(f"pageSize={_PROBE}".encode() in head for head in raw.heads[earlier:]),
    )


async def free_slots_on_fake(client: DistinctClient, concurrency: int, fake: FakeDistinct) -> int:
    """Count the free slots while the fake server holds every response back."""
    arrived, counted = 0, asyncio.Event()

    async def hold(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        nonlocal arrived
        arrived += request.parameters.get("pageSize") == str(_PROBE)
        await counted.wait()
        return payload

    fake.intercept = hold
    free = await _free_slots(client, concurrency, lambda: arrived)
    counted.set()
    fake.intercept = None
    return free


async def _free_slots(client: DistinctClient, concurrency: int, arrived: Callable[[], int]) -> int:
    """Send one request more than `concurrency`, and return how many reach the server."""
    before = arrived()
    calls = [
        asyncio.create_task(client.touchpoint_metrics("tp-1", page_size=_PROBE))
        for _ in range(concurrency + 1)
    ]
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while arrived() < before + concurrency:  # noqa: ASYNC110 - as in `eventually`
                await asyncio.sleep(0)
    await spin()
    free = arrived() - before
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    return free


async def drain_walk(pager: Pager[Visit, VisitPage]) -> tuple[list[Visit], DistinctError | None]:
    """Return the items that a walk delivers, and the error that ends it."""
    items: list[Visit] = []
    try:
        async for item in pager:
            items.append(item)  # noqa: PERF401 - keep the items delivered before the error
    except DistinctError as error:
        return items, error
    return items, None


class _ResponseWithWriter(aiohttp.ClientResponse):
    """Passes an argument that aiohttp 3.14 requires and aioresponses 0.7.9 does not know."""

    def __init__(self, *args: Any, **options: Any) -> None:
        signature = inspect.signature(aiohttp.ClientResponse.__init__)
        if "stream_writer" in signature.parameters:
            options.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **options)


class MockedHTTP(aioresponses):
    @override
    def add(self, url: Any, *arguments: Any, **options: Any) -> None:
        super().add(url, *arguments, **{"response_class": _ResponseWithWriter, **options})


def shown_by(error: BaseException | None) -> str:
    """Return everything that an error and its chain reveal: texts, attributes, frames' locals.

    Frames of the tests are excluded; at least one other frame must be left.
    """
    if error is None:
        return ""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in report.stack if not frame.filename.startswith(_TESTS)]
    assert frames
    texts = [str(error), repr(error), str(error.args), str(vars(error))]
    notes = str(getattr(error, "__notes__", ""))
    chain = [shown_by(error.__cause__), shown_by(error.__context__)]
    return "\n".join([*texts, notes, *chain, *(str(frame.locals) for frame in frames)])


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Return all log records as text, including tracebacks."""
    formatter = logging.Formatter("%(name)s %(message)s %(args)s")
    return "\n".join(formatter.format(record) for record in caplog.records)
