"""`DistinctClient.with_options`: views that differ in retries and timeouts, and share all else."""

import asyncio

import pytest

from distinct_async import (
    ClientClosedError,
    ConfigurationError,
    DistinctClient,
    Limits,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    Timeouts,
)
from distinct_async.testing import FakeClock, FakeDistinct
from tests.core.sessions import fetch_total
from tests.support.helpers import KEY, ONCE, eventually
from tests.support.raw_server import RawServer, hang

pytestmark = pytest.mark.usefixtures("three_visits")


async def test_a_view_retries_as_it_is_told_and_the_client_as_before(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    impatient = client.with_options(retry=ONCE)
    fake.fail_next(503)
    with pytest.raises(ServerError) as caught:
        await fetch_total(impatient)
    assert caught.value.attempts == 1

    fake.fail_next(503, times=3)
    assert await fetch_total(client) == 3
    assert len(fake.requests) == 5


async def test_a_view_has_timeouts_of_its_own(raw: RawServer) -> None:
    raw.play(hang)
    async with DistinctClient(KEY, base_url=raw.url, retry=ONCE) as client:
        impatient = client.with_options(timeouts=Timeouts(attempt=0.01))
        with pytest.raises(RequestTimeoutError, match=r"within 0\.01 s"):
            await fetch_total(impatient)
        waiting = asyncio.create_task(fetch_total(client))
        await eventually(lambda: len(raw.heads) == 2)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_a_view_of_a_view_keeps_what_is_not_given(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    async with fake.client(runtime=clock.runtime) as client:
        view = client.with_options(retry=RetryPolicy(attempts=2)).with_options(timeouts=Timeouts())
        fake.fail_next(503, times=9)
        with pytest.raises(ServerError) as caught:
            await view.total_visits("tp-1").collect()
        assert caught.value.attempts == 2


async def test_slots_budget_and_statistics_are_shared(raw: RawServer) -> None:
    raw.play(hang)
    async with DistinctClient(KEY, base_url=raw.url, limits=Limits(concurrency=2)) as client:
        view = client.with_options(retry=ONCE)
        calls = [asyncio.create_task(fetch_total(each)) for each in (client, view, view)]
        await eventually(lambda: client.stats.waiting == 1)
        assert client.stats == view.stats
        assert client.stats.in_flight == 2
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_closing_either_closes_both(fake: FakeDistinct) -> None:
    client = fake.client()
    async with client.with_options(retry=ONCE) as view:
        assert await fetch_total(view) == await fetch_total(client) == 3

    assert client.closed
    with pytest.raises(ClientClosedError):
        await fetch_total(client)


def test_options_are_checked() -> None:
    client = DistinctClient(KEY)
    with pytest.raises(ConfigurationError, match=r"^retry must be RetryPolicy"):
        client.with_options(retry=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"^timeouts must be Timeouts"):
        client.with_options(timeouts=3)  # type: ignore[arg-type]


async def test_a_view_that_waits_less_does_not_keep_the_others_from_waiting(
    fake: FakeDistinct, clock: FakeClock
) -> None:
    async with fake.client(runtime=clock.runtime) as client:
        impatient = client.with_options(retry=RetryPolicy(max_retry_after=5))
        fake.fail_next(429, retry_after=60)
        with pytest.raises(RateLimitError) as caught:
            await fetch_total(impatient)
        assert (caught.value.retry_after, caught.value.attempts, caught.value.fatal) == (
            60,
            1,
            False,
        )

        start = clock.time
        assert await fetch_total(client) == 3
        assert clock.time - start >= 60
