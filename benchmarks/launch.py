"""Run one contestant in this process, called over stdin and stdout.

Start it as ``python -I benchmarks/launch.py MODULE:FUNCTION``, with a module of
`benchmarks.contestants`. Each line on stdin is a call: its arguments, as a JSON object. Each line
on stdout is the outcome: the returned value, wall and processor time, and the peak memory.
"""

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

# Last, so that distinct_async is the version that this interpreter has installed.
sys.path.append(str(Path(__file__).parents[1]))


def run(contestant: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a contestant once and return its outcome."""
    gc.collect()
    wall, processor = time.perf_counter(), time.process_time()
    value = contestant(**arguments)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"value": value, "wall": wall, "processor": processor, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
    # `ru_maxrss` starts at the parent's peak, so it is only the fallback.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main(function: str) -> None:
    """Answer calls until stdin ends."""
    outcomes = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # Keep the libraries' own output off the pipe.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Raises glibc's mmap threshold, or some processes map asyncio's read buffer at every read.
    bytearray(1 << 20)
    # Loads the modules that an event loop imports on first use.
    asyncio.run(asyncio.sleep(0))
    module, name = function.split(":")
    contestant = getattr(import_module(f"benchmarks.contestants.{module}"), name)
    for line in sys.stdin:
        print(json.dumps(run(contestant, json.loads(line))), file=outcomes, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
