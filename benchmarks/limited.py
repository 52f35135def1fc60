"""The jobs of `benchmarks.limits`: what a default client does in front of a limiting server."""

import asyncio
import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import contextmanager, suppress
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import attrs
from typing_extensions import override

from benchmarks.limiting import EXPERIENCE, Limiting, fetch_counts
from benchmarks.records import LimitedRun
from distinct_async import (
    DistinctClient,
    DistinctError,
    FanOutError,
    Limits,
    RateLimitError,
    Runtime,
)
from distinct_async.export import ExportProgress, export_visits

KEY = "key"
# By job: the default page size, less the visit that proves where a page begins.
NEW_VISITS = {"walk": 49, "fan-out": 49, "export": 999}
SLOTS, HUNGRY = Limits().concurrency, 64
# Seconds, or times the ideal, after which a job is cancelled.
PATIENCE, PATIENT_FACTOR = 90.0, 4.0

Counts: TypeAlias = dict[str, Any]


@attrs.define
class Delivery:
    """What a job has delivered so far, with the names of the errors of what failed."""

    touchpoints: int = 0
    visits: int = 0
    failures: Counter[str] = attrs.field(factory=Counter[str])


Job: TypeAlias = Callable[[DistinctClient, Limiting, Delivery], Awaitable[None]]


def make_client(url: str, seed: int) -> DistinctClient:
    """Return a client with the default settings."""
    return DistinctClient(KEY, base_url=url, runtime=Runtime(random=random.Random(seed).random))


# --- Jobs


async def walk(client: DistinctClient, service: Limiting, done: Delivery) -> None:
    """Walk the first touchpoint."""
    async for page in client.total_visits("tp-0").pages():
        done.visits += len(page.items)
    done.touchpoints += 1


async def fan_out(
    client: DistinctClient, service: Limiting, done: Delivery, *, concurrency: int = 8
) -> None:
    """Walk all touchpoints at once."""
    left = Counter({f"tp-{number}": service.visits for number in range(service.touchpoints)})
    async for page in client.pages_across([*left], concurrency=concurrency):
        done.visits += len(page.items)
        left[page.touchpoint.id] -= len(page.items)
        done.touchpoints += left[page.touchpoint.id] == 0


async def export(client: DistinctClient, service: Limiting, done: Delivery) -> None:
    """Export all touchpoints of the experience."""

    def note(progress: ExportProgress) -> None:
        done.touchpoints, done.visits = progress.touchpoints_done, progress.visits_fetched

    with TemporaryDirectory() as folder:
        await export_visits(client, EXPERIENCE, folder, progress=note)


JOBS: dict[str, Job] = {"walk": walk, "fan-out": fan_out, "export": export}


@attrs.frozen(kw_only=True)
class Trial:
    """A job in front of a server.

    Attributes:
        title: The server, in words.
        job: The job.
        seed: The seed.
        service: The server's settings.
    """

    title: str
    job: str
    seed: int
    service: Limiting

    @property
    def healthy(self) -> int:
        """Touchpoints to deliver."""
        return self.service.touchpoints - len(self.service.broken)

    @property
    def needed(self) -> int:
        """Requests that deliver them."""
        pages = -(-self.service.visits // NEW_VISITS[self.job])
        return self.healthy * pages + (self.job == "export")

    @property
    def ideal(self) -> float:
        """Seconds that the server's limits, or its latency, allow."""
        service, needed = self.service, self.needed
        by_latency = needed * service.latency / (service.slots or SLOTS)
        return max(by_latency, (needed - service.burst) / service.rate if service.rate else 0.0)


async def run(trial: Trial, url: str) -> LimitedRun:
    """Run a job, and ask the server for its counts."""
    done, started = Delivery(), time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE + PATIENT_FACTOR * trial.ideal):
            await _attempt(trial, url, done)
    seconds = time.monotonic() - started
    counts = await asyncio.to_thread(fetch_counts, url)
    return LimitedRun(
        job=trial.job,
        seed=trial.seed,
        needed=trial.needed,
        ideal=trial.ideal,
        seconds=seconds,
        late_rate=late_rate(counts.admitted),
        touchpoints=trial.healthy,
        lost_touchpoints=trial.healthy - done.touchpoints,
        lost_visits=trial.healthy * trial.service.visits - done.visits,
        failures=dict(done.failures),
        requests=counts.requests,
        refused=counts.refused,
    )


async def _attempt(trial: Trial, url: str, done: Delivery) -> None:
    async with make_client(url, trial.seed) as client:
        try:
            await JOBS[trial.job](client, trial.service, done)
        except FanOutError as error:
            done.failures.update(_names(error.exceptions))
        except DistinctError as error:
            done.failures.update(_names([error]))


def late_rate(admitted: list[float]) -> float:
    """Return the requests per second that the server admitted in the second half."""
    middle = len(admitted) // 2
    late = admitted[middle:]
    return (len(late) - 1) / (late[-1] - late[0]) if len(late) > 1 else 0.0


def _names(errors: Iterable[BaseException]) -> list[str]:
    return [type(error).__name__ for error in errors]


# --- A long Retry-After


async def run_forbidden(service: Limiting, url: str, seed: int) -> Counts:
    """Fan out until the server asks for an hour's pause, and call once more."""
    errors: list[BaseException] = []
    async with make_client(url, seed) as client:
        try:
            await fan_out(client, service, Delivery())
        except FanOutError as error:
            errors += error.exceptions
        try:
            await client.touchpoint_metrics("tp-0")
        except DistinctError as error:
            errors.append(error)
    counts = await asyncio.to_thread(fetch_counts, url)
    last = errors[-1] if errors else None
    return {
        "after_refusal": counts.after_refusal,
        "errors": len(errors),
        "last_error": type(last).__name__,
        "named_wait": last.retry_after if isinstance(last, RateLimitError) else None,
        "message": str(last),
    }


# --- Small pages only


class _Warnings(logging.Handler):
    """Counts the package's warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.number = 0

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.number += 1


@contextmanager
def _warnings() -> Any:
    handler, logger = _Warnings(), logging.getLogger("distinct_async")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


async def run_small_pages(service: Limiting, url: str, seed: int) -> Counts:
    """Export with the library."""
    done, failures = Delivery(), Counter[str]()
    with _warnings() as warned:
        async with make_client(url, seed) as client:
            try:
                await export(client, service, done)
            except FanOutError as error:
                failures.update(_names(error.exceptions))
    wanted = service.touchpoints * service.visits
    shown = dict(failures)
    return {"visits": done.visits, "wanted": wanted, "warnings": warned.number, "failures": shown}


async def run_command(service: Limiting, url: str) -> Counts:
    """Export with the command line."""
    settings = {"DISTINCT_API_KEY": KEY, "DISTINCT_BASE_URL": url}
    with TemporaryDirectory() as folder:
        options = ("export", EXPERIENCE, "--to", folder)
        # Not isolated, so that it is the package of this process.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "distinct_async", *options),
            env=os.environ | settings,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    return {"exit": process.returncode, "warnings": output.decode().count("page size")}


# --- Interactive calls beside a bulk job

PAUSE = 0.01


async def call_for(client: DistinctClient, ended: Callable[[], bool]) -> list[float]:
    """Make single calls with pauses, and return the seconds of each."""
    seconds: list[float] = []
    while not ended():
        started = time.monotonic()
        await client.touchpoint_metrics("tp-0")
        seconds.append(time.monotonic() - started)
        await asyncio.sleep(PAUSE)
    return seconds


async def run_beside(service: Limiting, url: str, job: str, seed: int, calls: int) -> Counts:
    """Make single calls alone, run a bulk job alone, and then both at once on one client."""
    work = partial(fan_out, concurrency=HUNGRY) if job == "fan-out" else JOBS[job]
    async with make_client(url, seed) as client:
        turns = iter(range(calls))
        alone = await call_for(client, lambda: next(turns, None) is None)

        async def bulk() -> float:
            started = time.monotonic()
            await work(client, service, Delivery())
            return time.monotonic() - started

        before = await bulk()
        running = asyncio.create_task(bulk())
        beside = await call_for(client, running.done)
        during = await running
        after = await bulk()
    return {
        "job": job,
        "seed": seed,
        "alone": _median(alone),
        "beside": _median(beside),
        "calls": len(beside),
        "bulk_alone": (before + after) / 2,
        "bulk_beside": during,
    }


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


# --- An outage


async def run_outage(service: Limiting, url: str, seed: int, calls: int) -> Counts:
    """Make single calls to a server that is down."""
    turns, errors = iter(range(calls)), Counter[str]()

    async def work(client: DistinctClient) -> None:
        for number in turns:
            try:
                await client.touchpoint_metrics(f"tp-{number}")
            except DistinctError as error:
                errors.update(_names([error]))

    async with make_client(url, seed) as client, asyncio.TaskGroup() as group:
        for _ in range(HUNGRY):
            group.create_task(work(client))
    counts = await asyncio.to_thread(fetch_counts, url)
    return {"calls": calls, "requests": counts.requests, "errors": dict(errors)}
