"""Cancelling, closing, and outages that end."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import attrs

from distinct_async import (
    ClientClosedError,
    DistinctError,
    Limits,
    RetryPolicy,
    Runtime,
    Timeouts,
)
from distinct_async.testing import FakeClock
from tests.support.helpers import eventually, free_slots
from tests.support.raw_server import (
    Exchange,
    RawServer,
    hang,
    reply,
    reset,
)
from tests.support.survival.server import TRANSIENT, VisitServer, make_client, page_body

_LONG_WALK: Final = 5_000


@attrs.frozen
class LeftoverFigures:
    """Resources that cancelled walks left behind.

    Attributes:
        finished: Number of walks that completed before they were cancelled.
        tasks: Number of tasks still alive.
        held_slots: Number of request slots still held.
        file_descriptors: Number of file descriptors opened and not closed.
    """

    finished: int
    tasks: int
    held_slots: int
    file_descriptors: int


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def cancelled_walks(
    *, walks: int, seed: int, settle: Callable[[], Awaitable[None]]
) -> LeftoverFigures:
    """Cancel walks at random moments amid faults, and count the resources left behind."""
    chance, finished = random.Random(seed), 0
    files, tasks, limits = open_files(), asyncio.all_tasks(), Limits()
    patient = RetryPolicy(attempts=10)
    async with RawServer() as raw, make_client(raw, patient, limits=limits) as client:
        raw.play(VisitServer(_LONG_WALK, seed=seed, rate=0.2, faults=TRANSIENT))

        async def walk() -> int:
            pager = client.total_visits("tp", page_size=chance.randint(10, 100), prefetch=8)
            return len(await pager.collect())

        for _ in range(-(-walks // 10)):
            running = [asyncio.create_task(walk()) for _ in range(10)]
            for task in running:
                for _turn in range(chance.randrange(60)):
                    await asyncio.sleep(0)
                task.cancel()
            outcomes = await asyncio.gather(*running, return_exceptions=True)
            finished += sum(outcome == _LONG_WALK for outcome in outcomes)
        await settle()
        left = asyncio.all_tasks() - tasks - raw.tasks
        held = limits.concurrency - await free_slots(client, raw, limits.concurrency)
    await settle()
    return LeftoverFigures(finished, len(left), held, open_files() - files)


@attrs.frozen
class EndFigures:
    """How requests ended.

    Attributes:
        ended: Number that ended as expected.
        seconds: The longest time that one took to end.
    """

    ended: int
    seconds: float


async def closing(*, requests: int) -> EndFigures:
    """Close a client while `requests` requests are in flight."""
    async with RawServer() as raw:
        raw.play(hang)
        client = make_client(raw, timeouts=Timeouts(), limits=Limits(concurrency=requests))
        calls = [asyncio.create_task(client.touchpoint_metrics("tp")) for _ in range(requests)]
        await eventually(lambda: len(raw.heads) == requests)
        started = time.perf_counter()
        await client.aclose()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        seconds = time.perf_counter() - started
    return EndFigures(sum(isinstance(o, ClientClosedError) for o in outcomes), seconds)


async def cancelling() -> EndFigures:
    """Cancel three walks: one in flight, one asleep, and one waiting for a slot."""
    slowest, ended = 0.0, 0
    async with RawServer() as raw:
        raw.play(reset, hang)
        client = make_client(
            raw, runtime=Runtime(), timeouts=Timeouts(), limits=Limits(concurrency=1)
        )
        async with client:
            walks = [asyncio.create_task(client.total_visits("t").collect()) for _ in range(3)]
            await eventually(lambda: len(raw.heads) > 1)
            for walk in walks:
                started = time.perf_counter()
                walk.cancel()
                await asyncio.wait([walk])
                slowest = max(slowest, time.perf_counter() - started)
                ended += walk.cancelled()
    return EndFigures(ended, slowest)


async def recovery(*, outages: int, seed: int) -> float:
    """Return the longest time, on a fake clock, from the end of an outage to the first success.

    The caller calls again one second after each failure.
    """
    chance, longest = random.Random(seed), 0.0
    # The default budget soon fails each call; without a bound, one call spans the outage.
    policies = RetryPolicy(), RetryPolicy(attempts=1_000, budget=100_000)
    for number in range(outages):
        clock = FakeClock(seed=seed + number)
        ends = clock.time + chance.uniform(0, 600)
        succeeded = await _time_of_success(clock, ends, policies[number % 2])
        longest = max(longest, succeeded - ends)
    return longest


async def _time_of_success(clock: FakeClock, ends: float, policy: RetryPolicy) -> float:
    good, down = reply(page_body("t", 0, 0, total=0, page_size=50)), reset

    async def serve(exchange: Exchange) -> None:
        await (good if clock.time >= ends else down)(exchange)

    async with RawServer() as raw, make_client(raw, policy, runtime=clock.runtime) as client:
        raw.play(serve)
        # Bounded: each call takes a second, and the outage lasts at most 600.
        for _ in range(700):
            try:
                await client.touchpoint_metrics("t")
            except DistinctError:
                clock.time += 1
            else:
                return clock.time
    raise AssertionError("still failing long after the outage")
