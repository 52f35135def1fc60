"""What a process brings along: its standard streams, and the signal to end."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import suppress
from io import TextIOBase, TextIOWrapper
from signal import SIGTERM
from typing import Any, TypeVar

from rich.console import Console
from typing_extensions import override

T = TypeVar("T")


class Terminated(Exception):  # noqa: N818 - a signal is no error
    """SIGTERM ended the work, which has cleaned up."""


async def run_until_terminated(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, and cancel it on SIGTERM, as asyncio does on Ctrl-C.

    Raises:
        Terminated: SIGTERM ended it.
    """
    running = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    signals: list[int] = []

    def terminate() -> None:
        # `timeout` sends the signal twice, and the second one must not cut the cleanup short.
        if not signals:
            running.cancel()
        signals.append(SIGTERM)

    # Windows has no such signal, and only the main thread may handle one.
    with suppress(NotImplementedError, RuntimeError):
        loop.add_signal_handler(SIGTERM, terminate)
    try:
        return await running
    except asyncio.CancelledError:
        if signals:
            raise Terminated from None
        raise
    finally:
        with suppress(NotImplementedError, RuntimeError):
            loop.remove_signal_handler(SIGTERM)


class _ClosedOutput(TextIOBase):
    """Stands in for a stdout that was closed before the process began."""

    @property
    def buffer(self) -> "_ClosedOutput":
        return self

    @override
    def write(self, _: object, /) -> int:
        raise OSError("it is closed")


class StdoutConsole(Console):
    """A console on stdout that leaves a broken pipe to the caller; rich would exit with 1."""

    @override
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def prepare_streams() -> None:
    """Replace closed streams, and escape characters that a stream's encoding lacks."""
    # Python has None for a stream that was closed before it began.
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = _ClosedOutput()
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_stdout() -> None:
    """Let Python's last flush of stdout succeed after one has failed."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
