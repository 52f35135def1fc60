"""Small tools that several test modules share."""

import asyncio
import inspect
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import aiohttp
import pytest
from aioresponses import aioresponses
from typing_extensions import override

from distinct_async import DistinctClient, RetryPolicy

T = TypeVar("T")

# A key that is looked for in all that must not show it.
KEY = "canary-0123456789"
ONCE = RetryPolicy(attempts=1)

# Far longer than anything takes, so that a test that fails does not hang.
_PATIENCE = 60.0

_TESTS = str(Path(__file__).parents[1])


async def eventually(condition: Callable[[], T]) -> T:
    """Let other tasks run until `condition` gives something true, and return it."""
    async with asyncio.timeout(_PATIENCE):
        while not (value := condition()):  # noqa: ASYNC110 - whoever makes it true does not know
            await asyncio.sleep(0)
    return value


async def free_slots(client: DistinctClient) -> int:
    """Count the slots that can be had at this moment."""
    slots, free = client._session._slots, 0
    while not slots.locked():
        await slots.acquire()
        free += 1
    for _ in range(free):
        slots.release()
    return free


class _ResponseWithWriter(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not know an argument that aiohttp 3.14 made mandatory."""

    def __init__(self, *args: Any, **options: Any) -> None:
        signature = inspect.signature(aiohttp.ClientResponse.__init__)
        if "stream_writer" in signature.parameters:
            options.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **options)


class MockedHTTP(aioresponses):
    @override
    def add(self, url: Any, *arguments: Any, **options: Any) -> None:
        super().add(url, *arguments, **{"response_class": _ResponseWithWriter, **options})


def shown_of(error: BaseException | None) -> str:
    """Return all that an error and those it hangs on show: texts, attributes, frames' locals.

    Frames of tests are left out; there must be one at least that is not.
    """
    if error is None:
        return ""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in shown.stack if not frame.filename.startswith(_TESTS)]
    assert ours
    texts = [str(error), repr(error), str(error.args), str(vars(error))]
    notes = str(getattr(error, "__notes__", ""))
    chain = [shown_of(error.__cause__), shown_of(error.__context__)]
    return "\n".join([*texts, notes, *chain, *(str(frame.locals) for frame in ours)])


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Return all that was logged, tracebacks included."""
    formatter = logging.Formatter("%(name)s %(message)s %(args)s")
    return "\n".join(formatter.format(record) for record in caplog.records)
