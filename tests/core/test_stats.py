"""`DistinctClient.stats`: what the client is doing at the moment."""

import asyncio
from typing import Any

import attrs
import pytest

from distinct_async import ClientStats, DistinctClient, Limits, RetryPolicy, Runtime, ServerError
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.core.sessions import stats
from tests.support.helpers import KEY, eventually, is_idle
from tests.support.list_server import make_visits
from tests.support.raw_server import RawServer, hang, reset

IDLE = stats(in_flight=0, waiting=0, tasks=0, retries=0)


def test_a_new_client_is_idle() -> None:
    idle = DistinctClient(KEY).stats

    assert isinstance(idle, ClientStats)
    assert idle == IDLE
    assert idle.retry_budget == 500


async def test_requests_beyond_the_concurrency_are_waiting(raw: RawServer) -> None:
    raw.play(hang)
    async with DistinctClient(KEY, base_url=raw.url, limits=Limits(concurrency=2)) as client:
        calls = [asyncio.create_task(client.touchpoint_metrics("tp")) for _ in range(5)]
        await eventually(lambda: len(raw.heads) == 2)

        assert client.stats == stats(in_flight=2, waiting=3, tasks=0, retries=0)

        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert client.stats == IDLE


async def test_a_request_that_sleeps_before_a_retry_is_waiting(raw: RawServer) -> None:
    asleep, wake = asyncio.Event(), asyncio.Event()

    async def sleep(_: float) -> None:
        asleep.set()
        await wake.wait()

    raw.play(reset, hang)
    runtime = Runtime(sleep=sleep)
    async with DistinctClient(KEY, base_url=raw.url, runtime=runtime) as client:
        call = asyncio.create_task(client.touchpoint_metrics("tp"))
        await asleep.wait()
        assert client.stats == stats(in_flight=0, waiting=1, tasks=0, retries=0)

        wake.set()
        await eventually(lambda: len(raw.heads) == 2)
        assert client.stats == stats(in_flight=1, waiting=0, tasks=0, retries=1)
        call.cancel()
        await asyncio.wait([call])


async def test_every_attempt_after_the_first_counts_as_a_retry(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    fake.add_touchpoint("tp-1")
    fake.fail_next(503, times=2)
    await client.touchpoint_metrics("tp-1")
    fake.fail_next(500, times=1)
    await client.touchpoint_metrics("tp-1")

    assert client.stats == attrs.evolve(IDLE, retries=3)


async def test_a_retry_that_the_budget_refuses_is_not_counted(fake: FakeDistinct) -> None:
    fake.add_touchpoint("tp-1")
    fake.fail_next(503, times=1)
    async with fake.client(retry=RetryPolicy(budget=0)) as client:
        with pytest.raises(ServerError, match="503"):
            await client.touchpoint_metrics("tp-1")

        assert client.stats == IDLE


async def test_a_walk_has_a_task_per_page_in_flight(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    fake.add_touchpoint("tp-1", visits=make_visits(1_000))
    answer = asyncio.Event()

    async def hold(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        if request.parameters["offset"] != "0":
            await answer.wait()
        return payload

    fake.intercept = hold
    walk = client.total_visits("tp-1", page_size=10, prefetch=3).pages()
    await anext(walk)
    await eventually(lambda: client.stats.in_flight == 2)
    assert client.stats == stats(in_flight=2, waiting=0, tasks=2, retries=0)

    answer.set()
    await walk.aclose()
    assert is_idle(client)


def test_stats_are_a_frozen_snapshot() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        DistinctClient(KEY).stats.retries = 1  # type: ignore[misc]
