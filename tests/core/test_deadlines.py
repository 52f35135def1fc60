"""Many deadlines on one timer of the event loop."""

import asyncio
from typing import Any

import pytest

from distinct_async._deadlines import Deadlines
from tests.support.helpers import eventually


async def hang_until_cancelled() -> None:
    await asyncio.get_running_loop().create_future()


async def test_each_work_ends_at_its_deadline_and_the_rest_when_all_expire() -> None:
    deadlines = Deadlines()
    ended: list[str] = []

    async def run(name: str, seconds: float | None) -> None:
        with pytest.raises(TimeoutError):
            await deadlines.run(seconds, hang_until_cancelled())
        ended.append(name)

    async with asyncio.TaskGroup() as group:
        for name, seconds in {"never": None, "late": 60, "second": 0.02, "first": 0.01}.items():
            group.create_task(run(name, seconds))
        await eventually(lambda: len(ended) == 2)
        # On a busy machine both may have passed at the same time; the order stays.
        assert ended == ["first", "second"]
        assert len(deadlines) == 2
        assert deadlines.armed

        deadlines.expire_all()
        await deadlines.wait_until_idle()
        assert len(deadlines) == 0

    assert sorted(ended[2:]) == ["late", "never"]
    assert not deadlines.armed


async def test_work_that_ends_in_time_leaves_the_timer_to_the_rest() -> None:
    deadlines = Deadlines()

    assert await deadlines.run(0.01, asyncio.sleep(0, "done")) == "done"
    with pytest.raises(TimeoutError):
        await deadlines.run(0.02, hang_until_cancelled())
    assert await deadlines.run(60, asyncio.sleep(0, "done")) == "done"
    await deadlines.wait_until_idle()


async def test_work_without_a_deadline_sets_no_timer() -> None:
    deadlines = Deadlines()

    assert await deadlines.run(None, asyncio.sleep(0, "done")) == "done"

    assert not deadlines.armed


async def test_many_deadlines_share_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    set_timer, timers = loop.call_at, 0

    def call_at(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
        nonlocal timers
        timers += 1
        return set_timer(*arguments, **options)

    monkeypatch.setattr(loop, "call_at", call_at)
    deadlines = Deadlines()
    for _ in range(100):
        work = (deadlines.run(60, asyncio.sleep(0, "done")) for _ in range(10))
        assert await asyncio.gather(*work) == ["done"] * 10

    assert timers == 1
    deadlines.expire_all()
    assert not deadlines.armed


async def test_an_error_of_the_work_passes_through() -> None:
    deadlines = Deadlines()

    async def fail() -> None:
        raise LookupError("own")

    with pytest.raises(LookupError, match="own"):
        await deadlines.run(60, fail())
    assert len(deadlines) == 0


async def test_cancellation_passes_through() -> None:
    deadlines = Deadlines()
    task = asyncio.create_task(deadlines.run(60, hang_until_cancelled()))
    await eventually(lambda: len(deadlines) == 1)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(deadlines) == 0


async def test_work_that_is_already_ending_may_expire_again() -> None:
    deadlines = Deadlines()
    ending, released = asyncio.Event(), asyncio.Event()

    async def end_slowly() -> None:
        try:
            await hang_until_cancelled()
        finally:
            ending.set()
            await released.wait()

    task = asyncio.create_task(deadlines.run(0.001, end_slowly()))
    await ending.wait()

    deadlines.expire_all()
    assert len(deadlines) == 1
    released.set()
    await deadlines.wait_until_idle()

    with pytest.raises(TimeoutError):
        await task
    assert not deadlines.armed


async def test_waiting_until_idle_waits_for_the_last_work() -> None:
    deadlines = Deadlines()
    first, second = asyncio.Event(), asyncio.Event()
    works = [asyncio.create_task(deadlines.run(60, e.wait())) for e in (first, second)]
    await eventually(lambda: len(deadlines) == 2)
    idle = asyncio.create_task(deadlines.wait_until_idle())

    first.set()
    await works[0]
    assert (len(deadlines), idle.done()) == (1, False)

    second.set()
    await idle
    assert len(deadlines) == 0
    assert await works[1]


async def test_time_that_is_started_after_all_has_expired_changes_nothing() -> None:
    deadlines = Deadlines()
    scopes: list[asyncio.Timeout] = []

    async def start_late() -> None:
        deadlines.expire_all()
        deadlines.start(scopes[0], 60)
        await hang_until_cancelled()

    with pytest.raises(TimeoutError):
        await deadlines.run(None, start_late(), opened=scopes.append)
    assert not deadlines.armed


async def test_time_can_be_started_later() -> None:
    deadlines = Deadlines()
    scopes: list[asyncio.Timeout] = []

    async def start_late() -> None:
        deadlines.start(scopes[0], 0.01)
        await hang_until_cancelled()

    with pytest.raises(TimeoutError):
        await deadlines.run(None, start_late(), opened=scopes.append)
