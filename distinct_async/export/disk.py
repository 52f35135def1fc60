"""A thread for blocking file operations, one at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar, final

import attrs

from distinct_async import DistinctError

T = TypeVar("T")


@final
@attrs.frozen
class DiskThread:
    """Runs file operations in a single thread.

    More threads would encode several parts at once, which costs more memory than it saves time.

    Attributes:
        executor: An executor with one thread.
    """

    executor: ThreadPoolExecutor

    async def run(self, operation: Callable[[], T]) -> T:
        """Call `operation` in the thread; if cancelled, wait for it to end before raising."""
        running = asyncio.get_running_loop().run_in_executor(self.executor, operation)
        cancellation: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError as error:
                # The operation still uses its files, so the caller must not go on yet.
                cancellation = error
        if cancellation is not None:
            # Mark its error as retrieved; the cancellation takes precedence.
            running.exception()
            raise cancellation
        return running.result()

    async def run_after(self, work: Awaitable[T], cleanup: Callable[[], None]) -> T:
        """Return the result of `work` after calling `cleanup` in the thread, even if it failed."""
        try:
            result = await work
        except BaseException:
            # The error of `work`, a cancellation above all, matters more than that of `cleanup`.
            with suppress(DistinctError):
                await self.run(cleanup)
            raise
        await self.run(cleanup)
        return result
