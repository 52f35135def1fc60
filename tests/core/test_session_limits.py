"""The session's limits: slots, the rate, and what its statistics count."""

import asyncio
from typing import Any

import attrs
import pytest
from aiohttp import web

from distinct_async import DecodeError, DistinctError, Limits, TransportError
from distinct_async._wire.protocol import Reply
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from tests.core.sessions import (
    ScriptedTransport,
    answer_with,
    decode_text,
    fetch_text,
    fetch_total,
    make_reply,
    make_session,
    stats,
)
from tests.support.helpers import ONCE, eventually

pytestmark = pytest.mark.usefixtures("three_visits")


# --- Slots


async def test_no_more_requests_are_in_flight_than_there_are_slots(fake: FakeDistinct) -> None:
    now, most = 0, 0

    async def count(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _turn in range(20):
            await asyncio.sleep(0)
        now -= 1
        return payload

    fake.intercept = count
    async with fake.client(limits=Limits(concurrency=3)) as client:
        assert await asyncio.gather(*(fetch_total(client) for _ in range(20))) == [3] * 20

    assert most == 3


async def test_a_slot_is_free_while_its_request_sleeps(fake: FakeDistinct) -> None:
    asleep, wake = asyncio.Event(), asyncio.Event()
    clock = FakeClock()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        asleep.set()
        await wake.wait()

    runtime = clock.runtime
    fake.fail_next(503)
    async with fake.client(
        limits=Limits(concurrency=1), runtime=attrs.evolve(runtime, sleep=sleep)
    ) as client:
        sleeper = asyncio.create_task(fetch_total(client))
        await asleep.wait()
        assert await fetch_total(client) == 3
        wake.set()
        assert await sleeper == 3


@pytest.mark.parametrize("failure", [TransportError("broken", retryable=False), None])
async def test_every_outcome_frees_its_slot(failure: DistinctError | None) -> None:
    async def raise_a_bug() -> Reply:
        raise LookupError("a bug of the transport")

    transport = ScriptedTransport(raise_a_bug if failure is None else failure, make_reply())
    session = make_session(transport, limits=Limits(concurrency=1))
    if failure is None:
        with pytest.raises(LookupError, match="a bug"):
            await fetch_text(session)
    else:
        assert await fetch_text(session) is failure

    assert await fetch_text(session) == "value"
    assert session.stats == stats(in_flight=0, waiting=0, tasks=0, retries=0)


@pytest.mark.parametrize(
    ("status", "events"),
    [
        (200, ["send", "send", "decode", "decode"]),
        # A refusal is decoded first, as it may pause the request that waits.
        (429, ["send", "decode", "sleep"]),
        (501, ["send", "decode", "send", "decode"]),
    ],
)
async def test_the_next_request_is_sent_before_a_success_is_decoded(
    clock: FakeClock, status: int, events: list[str]
) -> None:
    transport = ScriptedTransport(make_reply(status=status), make_reply())

    def decode(reply: Reply) -> str | DistinctError:
        transport.events.append("decode")
        return decode_text(reply)

    async def sleep(seconds: float) -> None:
        transport.events.append("sleep")
        await clock.sleep(seconds)

    session = make_session(
        transport,
        limits=Limits(concurrency=1),
        runtime=attrs.evolve(clock.runtime, sleep=sleep),
    )
    await asyncio.gather(*(fetch_text(session, decode) for _ in range(2)))

    assert transport.events[: len(events)] == events


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_long_bodies_that_cannot_be_decoded_hold_up_no_other_request(
    fake: FakeDistinct, concurrency: int
) -> None:
    body = b"<html>" + b" " * 500_000
    fake.intercept = answer_with(lambda: web.Response(body=body))
    async with fake.client(limits=Limits(concurrency=concurrency), retry=ONCE) as client:
        calls = (fetch_total(client) for _ in range(8))
        failures = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(failure) for failure in failures} == {DecodeError}

        fake.intercept = None
        calls = (fetch_total(client) for _ in range(8))
        assert await asyncio.gather(*calls) == [3] * 8


# --- Statistics


async def test_the_statistics_separate_requests_in_flight_from_waiting_ones(
    clock: FakeClock,
) -> None:
    answer, wake = asyncio.Event(), asyncio.Event()

    async def hold() -> Reply:
        await answer.wait()
        return make_reply()

    async def sleep(seconds: float) -> None:
        await wake.wait()
        await clock.sleep(seconds)

    transport = ScriptedTransport(make_reply(status=503), hold)
    session = make_session(
        transport,
        limits=Limits(concurrency=2),
        runtime=attrs.evolve(clock.runtime, sleep=sleep),
    )
    requests = [asyncio.create_task(fetch_text(session)) for _ in range(5)]
    task = session.spawn(asyncio.Event().wait())
    # The first request sleeps before its retry, two hold the slots, and two wait for them.
    await eventually(lambda: len(transport.sent) == 3)
    await eventually(lambda: session.stats.waiting == 3)
    assert session.stats == stats(in_flight=2, waiting=3, tasks=1, retries=0)

    wake.set()
    answer.set()
    assert await asyncio.gather(*requests) == ["value"] * 5
    assert session.stats == stats(in_flight=0, waiting=0, tasks=1, retries=1)

    assert isinstance(task, asyncio.Task)
    await session.aclose()
    assert session.stats == stats(in_flight=0, waiting=0, tasks=0, retries=1)
