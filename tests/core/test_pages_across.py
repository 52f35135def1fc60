"""`pages_across` against the fake server over sockets."""

import asyncio
import gc
import itertools
from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal, cast

import pytest

from distinct_async import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DistinctClient,
    FanOutError,
    Limits,
    NotFoundError,
    PermissionDeniedError,
    RetryPolicy,
    ServerError,
    VisitPage,
)
from distinct_async._fanout import Touchpoints
from distinct_async.testing import FakeClock, FakeDistinct
from tests.support.fan_out import drain, listed
from tests.support.helpers import ONCE, eventually, free_slots_on_fake, is_idle, spin
from tests.support.list_server import ids_of

# --- Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"touchpoints": "tp-1"}, "touchpoints must be an iterable"),
        ({"touchpoints": b"tp-1"}, "touchpoints must be an iterable"),
        ({"touchpoints": 7}, "touchpoints must be an iterable.*got int"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"concurrency": True}, "concurrency must be an integer"),
        ({"prefetch": 0}, "prefetch must be at least 1"),
        ({"page_size": 0}, "page_size must be at least 1"),
        ({"visits_type": "SOME"}, "visits_type"),
        ({"experience_id": " "}, "experience_id must not be empty"),
    ],
)
async def test_invalid_arguments_are_refused_before_the_iteration(
    client: DistinctClient, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        client.pages_across(**{"touchpoints": ["tp-1"], **arguments})


async def test_an_invalid_id_fails_alone(fake: FakeDistinct, client: DistinctClient) -> None:
    for name in ids_of(3):
        fake.add_touchpoint(name)

    delivered, error = await drain(
        client.pages_across(["tp-1", "", "tp-2", "\ud800", "tp-3"], concurrency=1)
    )

    assert list(delivered) == ids_of(3)
    assert error is not None
    assert {name: type(failure) for name, failure in error.failures.items()} == {
        "": ConfigurationError,
        "\ud800": ConfigurationError,
    }
    assert error.started == 5


# --- Delivery and failures


@pytest.mark.parametrize("visits_type", ["TOTAL", "UNIQUE"])
async def test_a_whole_experience_is_delivered_through_faults(
    crowd: FakeDistinct, visits_type: Literal["TOTAL", "UNIQUE"]
) -> None:
    crowd.fail_rate = 0.1
    async with crowd.client(runtime=FakeClock().runtime) as client:
        delivered, error = await drain(
            client.pages_across(
                client.touchpoints("exp-1", page_size=7), visits_type=visits_type, page_size=20
            )
        )
        one_by_one = client.unique_visits if visits_type == "UNIQUE" else client.total_visits
        expected = {name: await one_by_one(name).collect() for name in ids_of(30)}
        touchpoints = await client.touchpoints("exp-1").collect()

    assert error is None
    assert delivered == expected
    unique = visits_type == "UNIQUE"
    counts = [t.unique_visits if unique else t.total_visits for t in touchpoints]
    assert sum(map(len, delivered.values())) == sum(counts) > 1_000


async def test_walks_begin_before_the_experience_is_fully_listed(crowd: FakeDistinct) -> None:
    async with crowd.client() as client:
        async for _ in client.pages_across(client.touchpoints("exp-1", page_size=1)):
            pass

    kinds = [request.parameters["metricsType"] for request in crowd.requests]
    assert kinds.index("TOUCHPOINT") < 10
    assert kinds[20:].count("EXPERIENCE") > 5


async def test_requests_carry_the_arguments_of_pages_across(crowd: FakeDistinct) -> None:
    async with crowd.client() as client:
        pages = client.pages_across(["tp-1"], experience_id="exp-1", page_size=30)
        async for _ in pages:
            pass
        with pytest.raises(FanOutError) as caught:
            await anext(client.pages_across(["tp-1"], experience_id="exp-2"))

    assert isinstance(caught.value.failures["tp-1"], NotFoundError)
    assert crowd.requests[0].parameters == {
        "metricsType": "TOUCHPOINT",
        "touchpointId": "tp-1",
        "visitsType": "TOTAL",
        "experienceId": "exp-1",
        "pageSize": "30",
    } | {k: v for k, v in crowd.requests[0].parameters.items() if k == "offset"}


async def test_a_failed_touchpoint_resumes_at_its_next_offset(crowd: FakeDistinct) -> None:
    async def intercept(request: Any, payload: dict[str, Any]) -> dict[str, Any]:
        asked = request.parameters
        if asked.get("touchpointId") == "tp-4" and int(asked.get("offset", 0)) >= 38:
            return {"statusCode": 500, "message": "no"}
        return payload

    crowd.intercept = intercept
    async with crowd.client(retry=ONCE) as client:
        delivered, error = await drain(client.pages_across(ids_of(30), page_size=20))
        assert error is not None
        failure = error.failures["tp-4"]
        assert (failure.next_offset, failure.attempts, type(failure)) == (39, 1, ServerError)
        crowd.intercept = None
        assert failure.next_offset is not None
        rest = await client.total_visits("tp-4", offset=failure.next_offset).collect()

        assert delivered["tp-4"] + rest == await client.total_visits("tp-4").collect()
    assert sum(map(len, delivered.values())) + len(rest) == 4_000


async def test_except_star_receives_the_failures_of_its_type(crowd: FakeDistinct) -> None:
    seen: list[tuple[list[str], int]] = []
    async with crowd.client() as client:
        try:
            async for _ in client.pages_across(["tp-1", "nowhere", "tp-2", "not-there"]):
                pass
        except* NotFoundError as group:
            part = cast("FanOutError", group)
            seen.append((sorted(part.failures), part.started))

    assert seen == [(["not-there", "nowhere"], 4)]


@pytest.mark.parametrize("trouble", ["401", "403", "outage"])
async def test_an_endless_iterable_of_ids_ends_when_every_request_fails(
    crowd: FakeDistinct, trouble: str
) -> None:
    crowd.allowed_ips = set() if trouble == "403" else None
    crowd.fail_rate = 1.0 if trouble == "outage" else 0.0
    key = "wrong" if trouble == "401" else crowd.api_key
    async with crowd.client(api_key=key, runtime=FakeClock().runtime) as client:
        delivered, error = await drain(
            client.pages_across((f"tp-{i % 30}" for i in itertools.count()), concurrency=4)
        )

    assert error is not None
    assert not delivered
    expected = {"401": AuthenticationError, "403": PermissionDeniedError, "outage": ServerError}
    assert {type(failure) for failure in error.exceptions} == {expected[trouble]}
    # The budget pays for 100 retries and a few more that time refills; then come the probes.
    assert error.started <= (8 if trouble != "outage" else 100)
    retries = crowd.request_count - error.started
    assert (100 <= retries <= 110) if trouble == "outage" else not retries


async def test_without_a_retry_budget_failures_are_no_outage(crowd: FakeDistinct) -> None:
    crowd.fail_next(503, times=3)
    async with crowd.client(retry=RetryPolicy(budget=0)) as client:
        delivered, error = await drain(client.pages_across(ids_of(30), concurrency=1))

    assert error is not None
    assert (len(error.failures), error.started, len(delivered)) == (3, 30, 27)


async def test_a_closed_client_starts_no_walk_and_takes_no_id(crowd: FakeDistinct) -> None:
    async with crowd.client() as client:
        pass
    ids = iter(ids_of(3))
    delivered, error = await drain(client.pages_across(ids))

    assert error is not None
    assert ([type(e) for e in error.exceptions], error.started) == ([ClientClosedError], 0)
    assert not delivered
    assert list(ids) == ids_of(3)


@pytest.mark.parametrize("ids", [lambda: iter(ids_of(30)), lambda: listed(ids_of(30))])
async def test_closing_the_client_ends_a_fan_out(
    crowd: FakeDistinct, ids: Callable[[], Touchpoints]
) -> None:
    before = asyncio.all_tasks()
    client = crowd.client()
    pages = client.pages_across(ids(), page_size=5, concurrency=3)
    await anext(pages)
    await client.aclose()

    _, error = await drain_rest(pages)
    assert error is not None
    assert {type(failure) for failure in error.exceptions} == {ClientClosedError}
    assert error.started <= 6
    await eventually(lambda: not {t for t in asyncio.all_tasks() - before if "web" not in repr(t)})


async def drain_rest(
    pages: AsyncGenerator[VisitPage, None],
) -> tuple[int, FanOutError | None]:
    count = 0
    try:
        async for _ in pages:
            count += 1
    except FanOutError as error:
        return count, error
    return count, None


async def test_closing_the_client_ends_a_fan_out_that_waits_for_an_id(crowd: FakeDistinct) -> None:
    endless = asyncio.Event()

    async def ids() -> AsyncGenerator[str, None]:
        yield "tp-1"
        await endless.wait()

    client = crowd.client()
    pages = client.pages_across(ids())
    while (await anext(pages)).next_offset is not None:
        pass
    rest = asyncio.create_task(drain_rest(pages))
    await spin()
    await client.aclose()

    count, error = await rest
    assert error is not None
    assert count == 0
    (failure,) = error.exceptions
    assert isinstance(failure, ClientClosedError)
    assert "before all touchpoints were started" in str(failure)
    assert error.started == 1


async def test_an_abandoned_fan_out_ends_when_it_is_collected(crowd: FakeDistinct) -> None:
    async with crowd.client(limits=Limits(concurrency=5)) as client:
        for _ in range(10):
            async for page in client.pages_across(
                (touchpoint.id async for touchpoint in client.touchpoints("exp-1", page_size=3)),
                page_size=3,
            ):
                if page.offset >= 6:
                    break
        gc.collect()
        await eventually(lambda: is_idle(client))
        assert await free_slots_on_fake(client, 5, crowd) == 5


def test_a_fan_out_still_open_when_its_loop_ends_ends_silently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held: list[AsyncGenerator[VisitPage, None]] = []

    async def use() -> None:
        async with (
            FakeDistinct.synthetic(touchpoints=30, visits=4_000) as fake,
            fake.client() as client,
        ):
            held.append(client.pages_across(client.touchpoints("exp-1", page_size=2), page_size=5))
            held.append(client.pages_across(ids_of(30), page_size=5))
            for pages in held:
                await anext(pages)

    asyncio.run(use())
    # asyncio logs any error that it meets while closing the remaining generators.
    assert len(held) == 2
    assert not caplog.records
