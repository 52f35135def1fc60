"""Outages and broken touchpoints over sockets: fan-outs, exports and single calls.

Nobody waits: the clock measures how long the client would have.
"""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

import pytest

from distinct_async import (
    ConfigurationError,
    DistinctClient,
    RetryPolicy,
    ServerError,
)
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from tests.core.sessions import ScriptedTransport, fetch_text, make_reply, make_session
from tests.support.fan_out import drain
from tests.support.helpers import KEY, eventually, is_idle, spin
from tests.support.list_server import ids_of
from tests.support.ordered_clock import OrderedClock
from tests.support.outages import (
    DOWN,
    break_touchpoints,
    held_client,
    many,
    require_outage,
    timed_client,
)
from tests.support.raw_server import RawServer, reply


def asked(fake: FakeDistinct) -> list[str]:
    """Return the touchpoint of every request so far."""
    return [request.parameters["touchpointId"] for request in fake.requests]


# --- A broken few


@pytest.mark.parametrize("concurrency", [1, 8, 40])
async def test_thirty_dead_touchpoints_in_front_do_not_keep_the_others_from_being_read(
    concurrency: int,
) -> None:
    dead, clock = ids_of(30), OrderedClock()
    started = clock.time
    async with many(200) as fake, timed_client(fake, clock) as client:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id in dead)
        delivered, error = await drain(client.pages_across(ids_of(200), concurrency=concurrency))

    assert error is not None
    assert sorted(delivered) == sorted(ids_of(200)[30:])
    assert sorted(error.failures) == sorted(dead)
    assert (len(error.exceptions), error.started) == (30, 200)
    assert not any(failure.fatal for failure in error.failures.values())
    # One after another, the 100 retries that the budget allows take longer than a minute.
    assert clock.time - started <= (60 if concurrency > 1 else 180)


async def test_a_tenth_that_is_dead_costs_nothing_of_the_rest(clock: FakeClock) -> None:
    async with many(1_000) as fake, fake.client(runtime=clock.runtime) as client:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id.endswith("7"))
        delivered, error = await drain(client.pages_across(ids_of(1_000)))

    assert error is not None
    assert (len(delivered), len(error.failures), error.started) == (900, 100, 1_000)


async def test_more_dead_touchpoints_in_a_row_than_a_minute_has_probes_are_an_outage() -> None:
    # An outage is assumed to look like this. Here that is wrong: the last 80 are in order, and are
    # not even started. With more time, the client gets there.
    dead = ids_of(120)
    async with many(200) as fake:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id in dead)
        async with timed_client(fake, OrderedClock()) as client:
            delivered, error = await drain(client.pages_across(ids_of(200)))
        assert not delivered
        assert 40 <= require_outage(error).started <= 60

        patient = RetryPolicy(outage_after=600)
        async with timed_client(fake, OrderedClock(), retry=patient) as client:
            delivered, error = await drain(client.pages_across(ids_of(200)[40:]))
        assert error is not None
        assert (len(delivered), error.started) == (80, 160)


async def test_an_outage_that_has_ended_does_not_condemn_the_next_fan_out(clock: FakeClock) -> None:
    # Without a new trial, one dead touchpoint in front would end every later run at once.
    dead = set(ids_of(1_000))
    async with many(1_000) as fake, fake.client(runtime=clock.runtime) as client:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id in dead)
        _, error = await drain(client.pages_across(ids_of(1_000)))
        assert error is not None
        assert any(failure.fatal for failure in error.failures.values())

        clock.time += 90
        dead = set(ids_of(10))
        delivered, error = await drain(client.pages_across(ids_of(1_000)))

    assert error is not None
    assert (len(delivered), sorted(error.failures)) == (990, sorted(dead))


# --- A total outage


async def test_a_total_outage_ends_a_fan_out() -> None:
    clock = OrderedClock()
    started = clock.time
    async with many(1_000) as fake, timed_client(fake, clock) as client:
        break_touchpoints(fake, lambda _: True)
        delivered, error = await drain(client.pages_across(ids_of(1_000)))

        assert not delivered
        assert require_outage(error).started <= 100
        # A minute of probing after the retries.
        assert 60 <= clock.time - started <= 90
        assert client.stats.retries <= 110
        assert is_idle(client)


async def test_a_hundred_failures_end_a_fan_out_sooner(clock: FakeClock) -> None:
    async with many(1_000) as fake, fake.client(runtime=clock.runtime) as client:
        break_touchpoints(fake, lambda _: True)
        _, error = await drain(client.pages_across(ids_of(1_000), concurrency=300))

    assert 300 <= require_outage(error).started <= 302


@pytest.mark.slow
@pytest.mark.parametrize("every", [0.0, 1.0])
async def test_single_calls_hardly_amplify_a_total_outage(clock: FakeClock, every: float) -> None:
    transport = ScriptedTransport(make_reply(status=503))
    session = make_session(transport, runtime=clock.runtime)
    for _ in range(10_000):
        # Even three hours of failures refill nothing.
        assert isinstance(await fetch_text(session), ServerError)
        clock.time += every

    assert 10_000 + 100 <= len(transport.sent) <= 10_200


@pytest.mark.slow
async def test_concurrent_calls_hardly_amplify_a_total_outage(
    raw: RawServer, clock: FakeClock
) -> None:
    raw.play(reply(b"{}", status="503 Service Unavailable"))
    client = DistinctClient(KEY, base_url=raw.url, runtime=clock.runtime)
    async with client:
        calls = (client.touchpoint_metrics("tp") for _ in range(3_000))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {ServerError}
    # 100 retries and a few that time refilled; 2 % of the calls that the figure is for.
    assert len(raw.heads) <= 3_000 + 200


# --- Doubt


async def test_an_outage_that_ends_in_doubt_costs_only_what_had_failed(clock: FakeClock) -> None:
    async with many(200) as fake, fake.client(runtime=clock.runtime) as client:
        break_touchpoints(fake, lambda _: len(fake.requests) <= 145)
        delivered, error = await drain(client.pages_across(ids_of(200)))

    assert error is not None
    assert 35 <= len(error.failures) <= 45
    assert len(delivered) == 200 - len(error.failures)
    assert sorted([*delivered, *error.failures]) == sorted(ids_of(200))
    # The first success opens up again at once.
    assert clock.sleeps[-1] <= 5
    assert client.stats.retries <= 110


async def test_probes_are_made_one_at_a_time_and_not_retried(clock: FakeClock) -> None:
    in_flight = most = 0

    async def fail(_: FakeRequest, __: dict[str, Any]) -> dict[str, Any]:
        nonlocal in_flight, most
        in_flight += 1
        await spin()
        most = max(most, in_flight * (len(set(asked(fake))) > 45))
        in_flight -= 1
        return DOWN

    async with many(200) as fake, fake.client(runtime=clock.runtime) as client:
        fake.intercept = fail
        # Two at once share the turns.
        outcomes = await asyncio.gather(
            drain(client.pages_across(ids_of(100))), drain(client.pages_across(ids_of(200)[100:]))
        )

    for delivered, error in outcomes:
        assert not delivered
        require_outage(error)
    assert most == 1
    last = asked(fake)[-5:]
    assert len(set(last)) == 5
    assert [asked(fake).count(name) for name in last] == [1] * 5


async def test_two_fan_outs_get_past_the_dead_touchpoints_together(clock: FakeClock) -> None:
    dead = {*ids_of(20), *ids_of(120)[100:]}
    async with many(200) as fake, fake.client(runtime=clock.runtime) as client:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id in dead)
        outcomes = await asyncio.gather(
            drain(client.pages_across(ids_of(100))), drain(client.pages_across(ids_of(200)[100:]))
        )

    assert [len(delivered) for delivered, _ in outcomes] == [80, 80]


async def test_a_service_that_was_idle_gets_its_retries_and_its_time(clock: FakeClock) -> None:
    async with many(40) as fake, fake.client(runtime=clock.runtime) as client:
        break_touchpoints(fake, lambda _: False)
        await client.touchpoint_metrics("tp-1")
        clock.time += 3_600
        woke = len(fake.requests) + 120
        break_touchpoints(fake, lambda _: len(fake.requests) <= woke)
        delivered, error = await drain(client.pages_across(ids_of(40)))

    # The server takes long to wake: more than the budget pays for, but less than an outage.
    assert error is not None
    assert not any(failure.fatal for failure in error.failures.values())
    assert sorted([*delivered, *error.failures]) == sorted(ids_of(40))
    assert len(delivered) >= 10


async def test_an_unusable_id_needs_no_probe(clock: FakeClock) -> None:
    ids = [*ids_of(40), *[""] * 50, *ids_of(60)[40:]]
    async with many(60) as fake, fake.client(runtime=clock.runtime) as client:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id in ids_of(40))
        delivered, error = await drain(client.pages_across(ids))

    assert error is not None
    assert sorted(delivered) == sorted(ids_of(60)[40:])
    kinds = [type(failure) for failure in error.exceptions]
    assert (kinds.count(ConfigurationError), len(kinds)) == (50, 90)


async def test_a_list_that_needs_no_request_is_no_probe(clock: FakeClock) -> None:
    async with many(60) as fake, fake.client(runtime=clock.runtime) as client:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id in ids_of(40))
        empty = [client.total_visits("tp-1", limit=0) for _ in range(3)]
        # Waiting for a probe that never ends would take longer.
        async with asyncio.timeout(30):
            pages = client.pages_across([*ids_of(40), *empty, *ids_of(60)[40:]])
            delivered, error = await drain(pages)

    assert error is not None
    assert (len(delivered), len(error.failures)) == (20, 40)


async def test_a_fan_out_that_ended_in_doubt_holds_up_nobody(clock: FakeClock) -> None:
    async with many(60) as fake, fake.client(runtime=clock.runtime) as client:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id in ids_of(40))
        async with asyncio.timeout(30):
            await drain(client.pages_across(ids_of(40)))
            delivered, error = await drain(client.pages_across(ids_of(60)[40:]))

    assert error is None
    assert len(delivered) == 20


# --- Ending in doubt


def of_client(tasks: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    return [task for task in tasks if "aiohttp/web" not in repr(task)]


@pytest.mark.parametrize("how", ["cancel", "close", "abandon"])
async def test_ending_a_fan_out_that_pauses_leaves_nothing(how: str) -> None:
    async with many(200) as fake:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id != "tp-1")
        before = of_client(asyncio.all_tasks())
        async with held_client(fake) as (client, held):
            pages = client.pages_across(ids_of(200))
            await anext(pages)
            rest = asyncio.create_task(drain(pages))
            await eventually(lambda: held.held)
            await spin()
            if how == "close":
                await client.aclose()
                _, error = await rest
                assert error is not None
                assert "closed" in str(error.exceptions[-1])
            else:
                rest.cancel()
                await asyncio.wait([rest])
            await eventually(lambda: is_idle(client))
            assert held.held == 0
            if how == "abandon":
                # What one fan-out left does not hinder the next.
                async with aclosing(client.pages_across(["tp-1"])) as others:
                    again = asyncio.ensure_future(anext(others))
                    await eventually(lambda: held.held)
                    await client.touchpoint_metrics("tp-1")
                    assert (await again).touchpoint.id == "tp-1"
        await eventually(lambda: of_client(asyncio.all_tasks()) == before)


async def test_a_success_elsewhere_ends_the_pause_of_a_fan_out() -> None:
    dead = set(ids_of(200))
    async with many(200) as fake:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id in dead)
        async with held_client(fake) as (client, held):
            rest = asyncio.create_task(drain(client.pages_across(ids_of(200))))
            await eventually(lambda: held.held and is_waiting(client))
            dead.clear()
            await client.touchpoint_metrics("tp-1")
            delivered, error = await rest

    assert error is not None
    assert len(delivered) + len(error.failures) == 200
    assert len(delivered) > 150


def is_waiting(client: DistinctClient) -> bool:
    """Return whether the fan-out's opener is the client's only task."""
    return client.stats.in_flight == client.stats.waiting == 0 and client.stats.tasks == 1
