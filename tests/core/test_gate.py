"""The gate: slots that flows share by turns, at the pace that the server allows."""

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

import attrs
import pytest

from distinct_async import DistinctClient, DistinctError, Limits, RateLimitError
from distinct_async._gate import Gate
from distinct_async._pace import Pace, Ticket
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from tests.core.sessions import fetch_total
from tests.support.helpers import eventually
from tests.support.list_server import make_visits


class Turns:
    """Enters a gate, and notes the order in which it lets in.

    Attributes:
        entered: The names, in that order.
    """

    def __init__(self, clock: FakeClock, **limits: Any) -> None:
        settings = Limits(**limits)
        self.pace = Pace(ceiling=settings.requests_per_second)
        self.gate = Gate(settings, clock.runtime, self.pace)
        self.entered: list[str] = []

    def enter(
        self, name: str, flow: object | None = None, *, first: bool = False
    ) -> "asyncio.Task[Ticket | DistinctError]":
        async def enter() -> Ticket | DistinctError:
            outcome: Ticket | DistinctError | None = self.gate.try_enter(flow)
            if outcome is None:
                outcome = await self.gate.enter(flow, first=first)
            self.entered.append(name)
            return outcome

        return asyncio.create_task(enter())

    async def leave(self) -> None:
        self.gate.leave()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_flows_take_turns_however_much_each_wants(clock: FakeClock) -> None:
    turns = Turns(clock, concurrency=1)
    bulk, walk = object(), object()
    for number in range(4):
        turns.enter(f"bulk {number}", bulk)
    await settle()
    for number in range(2):
        turns.enter(f"walk {number}", walk)
    turns.enter("call")
    await settle()
    for _ in range(6):
        await turns.leave()

    assert turns.entered == ["bulk 0", "bulk 1", "walk 0", "call", "bulk 2", "walk 1", "bulk 3"]
    assert (turns.gate.in_flight, turns.gate.contended) == (1, True)
    await turns.leave()
    assert (turns.gate.in_flight, turns.gate.contended) == (0, False)


async def test_another_attempt_goes_before_the_flows_other_requests(clock: FakeClock) -> None:
    turns = Turns(clock, concurrency=1)
    flow = object()
    turns.enter("holder")
    turns.enter("new", flow)
    turns.enter("again", flow, first=True)
    await settle()
    for _ in range(2):
        await turns.leave()

    assert turns.entered == ["holder", "again", "new"]


async def test_reserved_slots_are_for_single_calls(clock: FakeClock) -> None:
    turns = Turns(clock, concurrency=3, reserved=1)
    flow = object()
    for number in range(3):
        turns.enter(f"walk {number}", flow)
    turns.enter("call")
    await settle()

    assert turns.entered == ["walk 0", "walk 1", "call"]
    turns.enter("second call")
    await settle()
    await turns.leave()
    # Two slots are taken, and the third is reserved.
    assert turns.entered[3:] == ["second call"]
    await turns.leave()
    assert turns.entered[4:] == []
    await turns.leave()
    assert turns.entered[4:] == ["walk 2"]


async def test_the_ceiling_spaces_what_waits(clock: FakeClock) -> None:
    start = clock.time
    turns = Turns(clock, concurrency=100, requests_per_second=2)
    tickets = await asyncio.gather(*(turns.enter(str(number)) for number in range(9)))

    assert all(isinstance(ticket, float) for ticket in tickets)
    assert clock.time - start == pytest.approx(4)


async def test_a_cancelled_wait_takes_no_slot(clock: FakeClock) -> None:
    turns = Turns(clock, concurrency=1)
    flow = object()
    turns.enter("holder")
    waiting = [turns.enter("first", flow), turns.enter("second", flow), turns.enter("call")]
    await settle()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert turns.gate.contended

    await turns.leave()

    assert (turns.gate.in_flight, turns.gate.contended, turns.entered) == (0, False, ["holder"])


async def test_a_wait_that_is_cancelled_when_it_is_let_in_gives_its_slot_back(
    clock: FakeClock,
) -> None:
    turns = Turns(clock, concurrency=1)
    turns.enter("holder")
    let_in, after = turns.enter("let in"), turns.enter("after")
    await settle()
    turns.gate.leave()
    let_in.cancel()
    await settle()

    assert (turns.entered, after.done(), turns.gate.in_flight) == (["holder", "after"], True, 1)


async def test_a_gate_that_is_shut_turns_away_what_waits_and_what_comes(clock: FakeClock) -> None:
    turns = Turns(clock, concurrency=1)
    turns.enter("holder")
    flow = object()
    waiting = [turns.enter("walk", flow), turns.enter("walk", flow), turns.enter("call")]
    await settle()
    cancelled = waiting[1]
    cancelled.cancel()
    turns.gate.shut(clock.time + 3600)
    outcomes = await asyncio.gather(waiting[0], waiting[2], turns.enter("late"))

    for outcome in outcomes:
        assert isinstance(outcome, RateLimitError)
        assert (outcome.retry_after, outcome.fatal, outcome.retryable) == (3600, True, False)
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert turns.gate.is_shut
    turns.gate.shut(clock.time + 10)
    clock.time += 3599
    assert turns.gate.is_shut
    clock.time += 1
    assert not turns.gate.is_shut
    await turns.leave()
    await turns.enter("open again")
    assert turns.entered[-1] == "open again"


class Stepped:
    """A pace that the test sets."""

    wait = 0.0

    def delay(self, _: float) -> float:
        return self.wait

    def start(self, now: float) -> Ticket:
        return now

    def cancel(self, _: Ticket, __: float) -> None: ...


async def stepped(clock: FakeClock) -> tuple[Turns, Stepped, list[float]]:
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        await asyncio.sleep(0 if seconds < 1 else 1_000)

    turns, pace = Turns(clock, concurrency=2), Stepped()
    runtime = attrs.evolve(clock.runtime, sleep=sleep)
    turns.gate = Gate(Limits(concurrency=2), runtime, cast("Pace", pace))
    return turns, pace, sleeps


async def test_a_shorter_delay_replaces_a_longer_sleep(clock: FakeClock) -> None:
    turns, pace, sleeps = await stepped(clock)
    pace.wait = 60
    turns.enter("a")
    turns.enter("b")
    await settle()
    assert sleeps == [60]

    pace.wait = 0.5
    turns.enter("c")
    await settle()
    pace.wait = 0
    await settle()

    assert sleeps[:2] == [60, 0.5]
    assert turns.entered == ["a", "b"]


async def test_the_last_waiter_that_leaves_ends_the_sleep(clock: FakeClock) -> None:
    before = asyncio.all_tasks()
    turns, pace, _ = await stepped(clock)
    pace.wait = 60
    waiting = turns.enter("a")
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])
    await settle()

    assert asyncio.all_tasks() == before


# --- Over sockets


async def hold_slots(fake: FakeDistinct, seconds: float) -> None:
    async def delay(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(seconds)
        return payload

    fake.intercept = delay


@pytest.mark.parametrize("bulk", ["walk", "fan-out"])
async def test_a_call_beside_a_hungry_job_waits_for_one_request_at_most(bulk: str) -> None:
    fake = FakeDistinct()
    for number in range(40):
        fake.add_touchpoint(f"tp-{number}", visits=make_visits(400))
    async with fake, fake.client(limits=Limits(concurrency=1)) as client:
        job: Awaitable[Any] = (
            client.total_visits("tp-1", page_size=2, prefetch=64).collect()
            if bulk == "walk"
            else _read_all(client)
        )
        task = asyncio.ensure_future(job)
        await eventually(lambda: client.stats.waiting > 20)
        before = fake.request_count
        assert await fetch_total(client) == 400
        assert fake.request_count - before <= 3
        task.cancel()
        await asyncio.wait([task])


async def _read_all(client: DistinctClient) -> None:
    ids = [f"tp-{number}" for number in range(40)]
    async for _ in client.pages_across(ids, page_size=2, concurrency=40):
        pass
