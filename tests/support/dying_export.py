"""An export in a child process, which may kill itself.

Children import this function by name, so it cannot be in a test module.
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from distinct_async import DistinctClient
from distinct_async.export import FileFormat, export_visits

ROWS_PER_PART = 500


def export_in_child(
    url: str, folder: Path, file_format: FileFormat, dies_at: tuple[str, int] | None = None
) -> None:
    """Export everything; `dies_at` is a system call and the number of the call to die at."""
    if dies_at is not None:
        die_at(*dies_at)

    async def export() -> None:
        async with DistinctClient("fake-key", base_url=url) as client:
            await export_visits(
                client,
                "exp-1",
                folder,
                format=file_format,
                page_size=200,
                rows_per_part=ROWS_PER_PART,
            )

    asyncio.run(export())


def die_at(call: str, times: int) -> None:
    """Kill this process before the n-th system call of a kind, or after it ("fsync after")."""
    name, _, after = call.partition(" ")
    real, left = getattr(os, name), times

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        value = real(*arguments, **options)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    setattr(os, name, deadly)
