"""The visits on the test server, and a way to start the command line in a process."""

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from distinct_async import Visit

START = datetime(2024, 1, 1, 10, tzinfo=UTC)
VISITS = [Visit(f"user-{i % 3}", START + timedelta(minutes=i)) for i in range(120)]

Run: TypeAlias = Callable[..., Awaitable[tuple[int, str, str]]]
"""The fixture `run`: takes arguments and returns the exit code, stdout and stderr."""


async def start(*arguments: object, stdout: int = subprocess.PIPE) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "distinct_async"),
        *map(str, arguments),
        env=os.environ,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )
