"""The lifetime of a client: its event loop, its background tasks, and how it closes."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, final

from distinct_async._deadlines import Deadlines
from distinct_async.errors import ClientClosedError, ConfigurationError, DistinctError

T = TypeVar("T")


@final
class Flow:
    """Requests that take turns with others: a walk, a fan-out or an export.

    Attributes:
        late: Whether it began after the client was closed.
    """

    __slots__ = ("late",)

    def __init__(self, *, late: bool = False) -> None:
        self.late = late


@final
class Lifetime:
    """What ends with a client.

    Args:
        forget: Called if the client goes on in another event loop, because the first is closed.

    Attributes:
        closed: Whether closing has begun.
        requests: The requests that run.
        tasks: The background tasks of walks and fan-outs.
    """

    def __init__(self, forget: Callable[[], None]) -> None:
        self.closed = False
        self.requests = Deadlines()
        self.tasks: set[asyncio.Task[Any]] = set()
        self._ended = False
        self._forget = forget
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self, flow: Flow | None = None) -> DistinctError | None:
        """Bind to the running event loop; return an error if that is impossible.

        Args:
            flow: What wants to run. After closing has begun, only a flow that began before may.
        """
        if self.closed and (self._ended or flow is None or flow.late):
            return ClientClosedError("the client is closed")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            return self._bind_to(loop)
        return None

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | DistinctError:
        """Run `work` in a task that closing cancels; return an error if that is impossible."""
        error = self._bind_task()
        if error is not None:
            work.close()
            return error
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def require_closable(self) -> None:
        """Check that the running event loop may close the client.

        Raises:
            ConfigurationError: Another event loop, which is still open, uses the client.
        """
        if self._loop not in (None, asyncio.get_running_loop()) and not self._loop.is_closed():
            raise ConfigurationError("the client belongs to another event loop; close it there")

    async def close(self, grace: float, abort: Callable[[], None]) -> None:
        """Refuse what is new, let the rest end for `grace` seconds, then end it.

        Args:
            grace: Seconds.
            abort: Ends the attempts that outlive their requests.
        """
        self.closed = True
        if self._loop is not asyncio.get_running_loop():
            self._ended = True
            return
        try:
            if grace:
                with suppress(TimeoutError):
                    async with asyncio.timeout(grace):
                        await self._wait_until_idle()
        finally:
            self._ended = True
            await self._end()
            abort()

    def _bind_task(self) -> DistinctError | None:
        if self._ended:
            return ClientClosedError("the client is closed")
        return None if asyncio.get_running_loop() is self._loop else self.bind()

    def _bind_to(self, loop: asyncio.AbstractEventLoop) -> DistinctError | None:
        if self._loop is not None:
            if not self._loop.is_closed():
                return ConfigurationError(
                    "the client belongs to another event loop; make one client per event loop"
                )
            # Each asyncio.run, as in a Lambda or Celery worker, has an event loop of its own.
            self.requests = Deadlines()
            self.tasks.clear()
            self._forget()
        self._loop = loop
        return None

    async def _wait_until_idle(self) -> None:
        while self.tasks or len(self.requests):
            if self.tasks:
                await asyncio.wait(self.tasks)
            await self.requests.wait_until_idle()

    async def _end(self) -> None:
        self.requests.expire_all()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        await self.requests.wait_until_idle()
