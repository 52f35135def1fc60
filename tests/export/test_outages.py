"""Exports from a server that is down, in part or as a whole."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from distinct_async import FanOutError
from distinct_async.export import export_visits
from distinct_async.testing import FakeRequest
from tests.support.exported import rows_of
from tests.support.helpers import eventually
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


async def test_thirty_dead_touchpoints_in_front_do_not_keep_the_others_from_being_exported(
    tmp_path: Path,
) -> None:
    dead, clock = ids_of(30), OrderedClock()
    started = clock.time
    async with many(200) as fake, timed_client(fake, clock) as client:
        break_touchpoints(fake, lambda touchpoint_id: touchpoint_id in dead)
        with pytest.raises(FanOutError, match=r"^30 of 200 touchpoints failed$") as caught:
            await export_visits(client, ids_of(200), tmp_path, format="csv")
        expected = sum(len(fake.visits(name)) for name in ids_of(200)[30:])

    assert sorted(caught.value.failures) == sorted(dead)
    assert len(rows_of(tmp_path)) == expected
    assert clock.time - started <= 60


async def test_a_total_outage_ends_an_export(tmp_path: Path) -> None:
    async with many(1_000) as fake, timed_client(fake, OrderedClock()) as client:
        break_touchpoints(fake, lambda _: True)
        with pytest.raises(FanOutError) as caught:
            await export_visits(client, ids_of(1_000), tmp_path, format="csv")

    error = require_outage(caught.value)
    assert error.started <= 100
    # The first fatal failure ends the wait of all others.
    assert sum(failure.fatal for failure in error.failures.values()) == 1
    assert rows_of(tmp_path) == []


async def test_cancelling_an_export_that_pauses_ends_it(tmp_path: Path) -> None:
    async with many(200) as fake:
        break_touchpoints(fake, lambda _: True)
        async with held_client(fake) as (client, held):
            export = asyncio.create_task(export_visits(client, ids_of(200), tmp_path, format="csv"))
            await eventually(lambda: held.held and not client.stats.tasks)
            export.cancel()
            with pytest.raises(asyncio.CancelledError):
                await export
            assert held.held == 0


async def test_no_worker_pauses_once_the_last_touchpoint_is_taken(tmp_path: Path) -> None:
    clock, moments = OrderedClock(), list[float]()

    async def fail(_: FakeRequest, __: dict[str, Any]) -> dict[str, Any]:
        moments.append(clock.time)
        return DOWN

    async with many(34) as fake, timed_client(fake, clock) as client:
        fake.intercept = fail
        with pytest.raises(FanOutError, match=r"^34 of 34 touchpoints failed$"):
            await export_visits(client, ids_of(34), tmp_path, format="csv")
        assert clock.time == moments[-1]
