"""The fake server, checked with a bare HTTP client, and the other tools for tests."""

import asyncio
import importlib
import json
import sys
import time
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import aiohttp
import pytest

from distinct_async import AuthenticationError, PermissionDeniedError, ServerError, Visit
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from distinct_async.testing.data import RecordedVisits, SyntheticVisits

pytest_plugins = ["pytester"]
START = datetime(2024, 1, 1, 10, tzinfo=UTC)
KEY_HEADER = "x-distinct-api-key"


async def get(fake: FakeDistinct, *, key: str | None = None, **query: str) -> tuple[int, Any]:
    headers = {KEY_HEADER: fake.api_key if key is None else key}
    url = f"{fake.url}/v3/touchpoint/metrics"
    async with (
        aiohttp.ClientSession() as http,
        http.get(url, params=query, headers=headers) as response,
    ):
        return response.status, await response.json()


def add_the_documents_data(fake: FakeDistinct) -> None:
    fake.add_touchpoint("tp-1", name="Entry Scan")
    fake.add_touchpoint("tp-2", name="Exit Scan")
    for touchpoint, user, day in [(1, 1, 1), (1, 2, 2), (1, 1, 3), (2, 1, 3)]:
        fake.scan(f"tp-{touchpoint}", f"user-{user}", START.replace(day=day))


# --- The document


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("experience", {"metricsType": "EXPERIENCE", "experienceId": "exp-1"}),
        ("touchpoint_total", {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1"}),
        (
            "touchpoint_unique",
            {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "visitsType": "UNIQUE"},
        ),
        ("error_400", {}),
        ("error_404", {"metricsType": "EXPERIENCE", "experienceId": "no"}),
    ],
)
async def test_it_answers_with_the_documents_examples(
    fake: FakeDistinct, example_json: Any, name: str, query: dict[str, str]
) -> None:
    add_the_documents_data(fake)

    status, answer = await get(fake, **query)

    assert answer == example_json(name)
    assert status == answer["statusCode"]


async def test_a_users_history(fake: FakeDistinct, example_json: Any) -> None:
    add_the_documents_data(fake)

    _, answer = await get(fake, metricsType="USER", experienceId="exp-1", userId="user-1")

    first, second = answer["data"]["touchpoints"]
    assert first == example_json("user")["data"]["touchpoints"][0]
    assert (second["id"], answer["data"]["totalTouchpoints"]) == ("tp-2", 2)


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({}, 400, "Missing required parameter: metricsType"),
        ({"metricsType": ""}, 400, "Missing required parameter: metricsType"),
        ({"metricsType": "ALL"}, 400, "Invalid value for parameter: metricsType"),
        ({"metricsType": "EXPERIENCE"}, 400, "Missing required parameter: experienceId"),
        ({"metricsType": "USER", "userId": "u"}, 400, "Missing required parameter: experienceId"),
        (
            {"metricsType": "USER", "experienceId": "exp-1"},
            400,
            "Missing required parameter: userId",
        ),
        ({"metricsType": "TOUCHPOINT"}, 400, "Missing required parameter: touchpointId"),
        *[
            ({"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", name: value}, 400, message)
            for name, values in {
                "visitsType": ("ALL", "unique", ""),
                "offset": ("-1", "x", "1.5", "", "²"),
                "pageSize": ("0", "-1", "x", "1e3"),
            }.items()
            for value in values
            for message in [f"Invalid value for parameter: {name}"]
        ],
        ({"metricsType": "USER", "experienceId": "exp-1", "userId": "x"}, 404, "User not found"),
        ({"metricsType": "USER", "experienceId": "x", "userId": "x"}, 404, "Experience not found"),
        ({"metricsType": "TOUCHPOINT", "touchpointId": "x"}, 404, "Touchpoint not found"),
        (
            {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "experienceId": "exp-2"},
            404,
            "Touchpoint not found",
        ),
    ],
)
async def test_it_refuses_as_the_document_says(
    fake: FakeDistinct, query: dict[str, str], status: int, message: str
) -> None:
    add_the_documents_data(fake)

    assert await get(fake, **query) == (status, {"statusCode": status, "message": message})


async def test_it_pages(fake: FakeDistinct) -> None:
    add_the_documents_data(fake)
    query = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "offset": "1", "pageSize": "1"}

    _, answer = await get(fake, **query)

    details = answer["data"]["touchpoints"]["totalVisitsDetails"]
    assert [item["userId"] for item in details["items"]] == ["user-2"]
    assert details["pagination"] == {"offset": 1, "pageSize": 1}


# --- Keys, addresses, log


async def test_keys_and_addresses(fake: FakeDistinct) -> None:
    fake.add_touchpoint("tp-1")
    async with fake.client(api_key="another") as client:
        with pytest.raises(AuthenticationError):
            await client.touchpoint_metrics("tp-1")
    async with fake.client() as client:
        fake.allowed_ips = {"203.0.113.7"}
        with pytest.raises(PermissionDeniedError, match="allow-list"):
            await client.touchpoint_metrics("tp-1")
        fake.allowed_ips = {"127.0.0.1"}
        assert (await client.touchpoint_metrics("tp-1")).total == 0

    assert [request.authorized for request in fake.requests] == [False, True, True]
    assert fake.requests[0].remote == "127.0.0.1"
    assert KEY_HEADER not in fake.requests[0].headers
    assert "another" not in repr(fake.requests)


async def test_it_runs_inside_async_with_only() -> None:
    fake = FakeDistinct()
    with pytest.raises(RuntimeError, match="async with"):
        _ = fake.url
    async with fake:
        with pytest.raises(RuntimeError, match="running already"):
            await fake.__aenter__()
        url = fake.url
    async with fake:
        assert fake.url.startswith("http://127.0.0.1:")
    assert url.startswith("http://127.0.0.1:")
    await fake.__aexit__()


# --- Knobs


async def test_planned_failures_come_in_order(fake: FakeDistinct) -> None:
    fake.add_touchpoint("tp-1")
    fake.fail_next(503, times=2, retry_after=7)
    fake.fail_next(429, retry_after="Mon, 01 Jan 2024 10:00:00 GMT")
    headers = {KEY_HEADER: fake.api_key}
    url = f"{fake.url}/v3/touchpoint/metrics?metricsType=TOUCHPOINT&touchpointId=tp-1"
    seen: list[tuple[int, str | None]] = []
    async with aiohttp.ClientSession(headers=headers) as http:
        for _ in range(4):
            async with http.get(url) as response:
                seen.append((response.status, response.headers.get("Retry-After")))

    date = "Mon, 01 Jan 2024 10:00:00 GMT"
    assert seen == [(503, "7"), (503, "7"), (429, date), (200, None)]


async def test_the_log_of_requests_is_bounded(
    fake: FakeDistinct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distinct_async.testing.server._LOGGED_REQUESTS", 10)
    for number in range(25):
        await get(fake, number=str(number))

    kept = [int(request.parameters["number"]) for request in fake.requests]
    assert kept == list(range(kept[0], 25))
    assert (len(kept) <= 10, fake.request_count) == (True, 25)


async def test_a_rate_of_failures_is_repeatable() -> None:
    async def statuses(seed: int) -> list[int]:
        async with FakeDistinct(seed=seed) as fake:
            fake.add_touchpoint("tp-1")
            fake.fail_rate = 0.5
            query = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1"}
            return [(await get(fake, **query))[0] for _ in range(20)]

    first = await statuses(1)
    assert first == await statuses(1)
    assert first != await statuses(2)
    assert set(first) == {200, 503}


async def test_clamping_and_ignoring_are_told_in_the_answer(fake: FakeDistinct) -> None:
    add_the_documents_data(fake)
    fake.max_page_size = 2
    fake.ignore_offset = True
    query = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "offset": "1", "pageSize": "9"}

    _, answer = await get(fake, **query)

    details = answer["data"]["touchpoints"]["totalVisitsDetails"]
    assert [item["userId"] for item in details["items"]] == ["user-1", "user-2"]
    assert details["pagination"] == {"offset": 0, "pageSize": 2}


async def test_latency_delays_the_answer(fake: FakeDistinct, monkeypatch: Any) -> None:
    slept: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr("distinct_async.testing.server.asyncio.sleep", sleep)
    fake.latency = 30
    await get(fake)

    assert 30 in slept


async def test_an_intercept_may_change_or_replace_the_answer(fake: FakeDistinct) -> None:
    async def change(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        return payload | {"message": request.parameters["metricsType"]}

    fake.intercept = change
    assert await get(fake, metricsType="X") == (400, {"statusCode": 400, "message": "X"})

    async def untype(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        return {"statusCode": "odd"}

    fake.intercept = untype
    assert await get(fake) == (200, {"statusCode": "odd"})


# --- Visits


def test_recorded_visits_are_ordered_and_firsts_are_kept() -> None:
    days = [Visit("a", START.replace(day=day)) for day in (3, 1, 2)]
    source = RecordedVisits(days)
    source.add(Visit("b", START.replace(day=2)))

    assert [v.timestamp.day for v in source.slice(0, 9, unique=False)] == [1, 2, 2, 3]
    firsts = [(v.user_id, v.timestamp.day) for v in source.slice(0, 9, unique=True)]
    assert firsts == [("a", 1), ("b", 2)]
    assert (source.count(unique=False), source.count(unique=True)) == (4, 2)


async def test_times_are_taken_as_utc(fake: FakeDistinct) -> None:
    zone = timezone(timedelta(hours=2))
    fake.add_touchpoint("tp-1", visits=[Visit("a", datetime(2024, 1, 1, 12, tzinfo=zone))])
    fake.scan("tp-1", "b", datetime(2024, 1, 1, 11))  # noqa: DTZ001 - that is the point
    with pytest.raises(KeyError):
        fake.scan("tp-2", "b", START)

    async with fake.client() as client:
        times = [visit.timestamp async for visit in client.total_visits("tp-1")]
    assert times == [START, START + timedelta(hours=1)]


@pytest.mark.parametrize("total", [0, 1, 2, 3, 4, 100, 1_000])
def test_synthetic_visits_agree_with_themselves(total: int) -> None:
    source = SyntheticVisits(total, seed=3)
    visits = source.slice(0, total + 5, unique=False)
    firsts: dict[str, Visit] = {}
    for visit in visits:
        firsts.setdefault(visit.user_id, visit)

    assert len(visits) == source.count(unique=False) == total
    assert source.slice(0, total, unique=True) == list(firsts.values())
    assert source.count(unique=True) == len(firsts)
    assert sorted(visits, key=lambda visit: visit.timestamp) == visits
    assert source.slice(2, 4, unique=False) == visits[2:4]


def test_scans_after_synthetic_visits_are_appended() -> None:
    source = SyntheticVisits(10, seed=0)
    later = source.slice(9, 10, unique=False)[0].timestamp + timedelta(days=1)
    for user in ("user-0", "anna", "user-99", "anna"):
        source.add(Visit(user, later))

    assert [v.user_id for v in source.slice(9, 99, unique=False)][1:] == [
        *("user-0", "anna", "user-99", "anna")
    ]
    assert [v.user_id for v in source.slice(3, 99, unique=True)] == ["user-3", "anna", "user-99"]
    assert (source.count(unique=False), source.count(unique=True)) == (14, 6)


async def test_ten_million_visits_cost_no_memory() -> None:
    tracemalloc.start()
    try:
        fake = FakeDistinct.synthetic(touchpoints=3, visits=10_000_000, seed=5)
        async with fake, fake.client() as client:
            summaries = await client.touchpoints("exp-1").collect()
            last = summaries[-1]
            tail = await client.unique_visits(last.id, offset=last.unique_visits - 3).collect()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert sum(summary.total_visits for summary in summaries) == 10_000_000
    assert len(tail) == 3
    assert peak < 30 * 1024 * 1024


def test_the_same_seed_gives_the_same_visits() -> None:
    first, second = SyntheticVisits(50, seed=1), SyntheticVisits(50, seed=2)
    assert first.slice(0, 50, unique=False) == SyntheticVisits(50, seed=1).slice(
        0, 50, unique=False
    )
    assert first.slice(0, 50, unique=False) != second.slice(0, 50, unique=False)


# --- Clock and plugin


async def test_a_fake_clock_moves_by_sleeping() -> None:
    clock = FakeClock(100.0, seed=1)
    real = time.monotonic()
    await asyncio.gather(clock.runtime.sleep(3600), clock.runtime.sleep(60))

    assert (clock.time, clock.sleeps) == (3700, [3600, 60])
    assert (clock.runtime.monotonic(), clock.runtime.now()) == (3700, 3700)
    assert clock.runtime.random() == FakeClock(seed=1).runtime.random() < 1
    assert time.monotonic() - real < 3600


async def test_the_fixtures_fit_each_other(
    fake_distinct: FakeDistinct, distinct_client: Any
) -> None:
    fake_distinct.add_touchpoint("tp-1")
    fake_distinct.fail_next(503, times=4)
    assert (await distinct_client.touchpoint_metrics("tp-1")).total == 0
    fake_distinct.fail_next(503, times=5)
    with pytest.raises(ServerError):
        await distinct_client.touchpoint_metrics("tp-1")


def test_the_plugin_works_without_pytest_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = importlib.import_module("distinct_async.pytest_plugin")
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    try:
        assert importlib.reload(plugin).fixture is pytest.fixture
    finally:
        monkeypatch.undo()
        importlib.reload(plugin)


def test_another_project_gets_the_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded_yet():
            assert "aiohttp" not in sys.modules

        async def test_scan(fake_distinct, distinct_client):
            fake_distinct.add_touchpoint("door")
            assert await distinct_client.total_visits("door").collect() == []
        """
    )
    options = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    result = pytester.runpytest_subprocess("-p", "no:aioresponses", *options)
    result.assert_outcomes(passed=2)


def test_requests_are_values() -> None:
    request = FakeRequest({}, {}, authorized=True, remote="127.0.0.1")
    assert json.dumps(dict(request.parameters)) == "{}"
    assert request == FakeRequest({}, {}, authorized=True, remote="127.0.0.1")
