"""The fake server, asked mostly by a bare HTTP client."""

import asyncio
import json
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from distinct_async import AuthenticationError, PermissionDeniedError, Visit
from distinct_async.testing import FakeDistinct, FakeRequest

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


def add_example_touchpoints(fake: FakeDistinct) -> None:
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
async def test_answers_match_the_documents_examples(
    fake: FakeDistinct, example_json: Any, name: str, query: dict[str, str]
) -> None:
    add_example_touchpoints(fake)

    status, answer = await get(fake, **query)

    assert answer == example_json(name)
    assert status == answer["statusCode"]


async def test_a_users_history_matches_the_documents_example(
    fake: FakeDistinct, example_json: Any
) -> None:
    add_example_touchpoints(fake)

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
async def test_invalid_requests_get_the_documents_errors(
    fake: FakeDistinct, query: dict[str, str], status: int, message: str
) -> None:
    add_example_touchpoints(fake)

    assert await get(fake, **query) == (status, {"statusCode": status, "message": message})


async def test_offset_and_page_size_select_a_page(fake: FakeDistinct) -> None:
    add_example_touchpoints(fake)
    query = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "offset": "1", "pageSize": "1"}

    _, answer = await get(fake, **query)

    details = answer["data"]["touchpoints"]["totalVisitsDetails"]
    assert [item["userId"] for item in details["items"]] == ["user-2"]
    assert details["pagination"] == {"offset": 1, "pageSize": 1}


# --- Access and the request log


async def test_wrong_keys_and_addresses_are_refused_and_logged(fake: FakeDistinct) -> None:
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


def test_logged_requests_are_values() -> None:
    request = FakeRequest({}, {}, authorized=True, remote="127.0.0.1")
    assert json.dumps(dict(request.parameters)) == "{}"
    assert request == FakeRequest({}, {}, authorized=True, remote="127.0.0.1")


async def test_the_server_only_runs_inside_async_with() -> None:
    fake = FakeDistinct()
    with pytest.raises(RuntimeError, match="async with"):
        _ = fake.url
    async with fake:
        with pytest.raises(RuntimeError, match="already running"):
            await fake.__aenter__()
        url = fake.url
    async with fake:
        assert fake.url.startswith("http://127.0.0.1:")
    assert url.startswith("http://127.0.0.1:")
    await fake.__aexit__()


# --- Knobs


async def test_planned_failures_are_served_in_order(fake: FakeDistinct) -> None:
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


async def test_the_request_log_is_bounded(
    fake: FakeDistinct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distinct_async.testing.server._LOGGED_REQUESTS", 10)
    for number in range(25):
        await get(fake, number=str(number))

    kept = [int(request.parameters["number"]) for request in fake.requests]
    assert kept == list(range(kept[0], 25))
    assert (len(kept) <= 10, fake.request_count) == (True, 25)


async def test_random_failures_are_repeatable() -> None:
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


async def test_the_answer_states_the_clamped_page_size_and_the_ignored_offset(
    fake: FakeDistinct,
) -> None:
    add_example_touchpoints(fake)
    fake.max_page_size = 2
    fake.ignore_offset = True
    query = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "offset": "1", "pageSize": "9"}

    _, answer = await get(fake, **query)

    details = answer["data"]["touchpoints"]["totalVisitsDetails"]
    assert [item["userId"] for item in details["items"]] == ["user-1", "user-2"]
    assert details["pagination"] == {"offset": 0, "pageSize": 2}


async def test_latency_delays_every_answer(fake: FakeDistinct, monkeypatch: Any) -> None:
    slept: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr("distinct_async.testing.server.asyncio.sleep", sleep)
    fake.latency = 30
    await get(fake)

    assert 30 in slept


async def test_an_intercept_can_change_or_replace_the_answer(fake: FakeDistinct) -> None:
    async def change(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        return payload | {"message": request.parameters["metricsType"]}

    fake.intercept = change
    assert await get(fake, metricsType="X") == (400, {"statusCode": 400, "message": "X"})

    async def replace(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        return {"statusCode": "odd"}

    fake.intercept = replace
    assert await get(fake) == (200, {"statusCode": "odd"})

    async def respond(_: FakeRequest, __: dict[str, Any]) -> web.Response:
        return web.json_response({"busy": True}, status=503)

    fake.intercept = respond
    assert await get(fake) == (503, {"busy": True})


async def test_a_misspelt_client_option_is_rejected(fake: FakeDistinct) -> None:
    # mypy reports an unused "type: ignore" if it stops rejecting the option.
    with pytest.raises(TypeError, match="timeout"):
        fake.client(timeout=1)  # type: ignore[call-arg]


# --- Visits


@pytest.mark.parametrize("synthetic", [False, True])
async def test_visits_returns_the_list_that_the_server_pages(synthetic: bool) -> None:
    fake = FakeDistinct.synthetic(touchpoints=1, visits=100) if synthetic else FakeDistinct()
    if not synthetic:
        add_example_touchpoints(fake)
    fake.scan("tp-1", "user-1", START.replace(year=2030))
    async with fake, fake.client() as client:
        total = await client.total_visits("tp-1", page_size=7).collect()
        unique = await client.unique_visits("tp-1", page_size=7).collect()

    assert fake.visits("tp-1") == total
    assert fake.visits("tp-1", unique=True) == unique != total
    with pytest.raises(KeyError):
        fake.visits("tp-9")


async def test_recorded_times_are_converted_to_utc(fake: FakeDistinct) -> None:
    zone = timezone(timedelta(hours=2))
    fake.add_touchpoint("tp-1", visits=[Visit("a", datetime(2024, 1, 1, 12, tzinfo=zone))])
    fake.scan("tp-1", "b", datetime(2024, 1, 1, 11))  # noqa: DTZ001 - naive on purpose
    with pytest.raises(KeyError):
        fake.scan("tp-2", "b", START)

    async with fake.client() as client:
        times = [visit.timestamp async for visit in client.total_visits("tp-1")]
    assert times == [START, START + timedelta(hours=1)]


async def test_ten_million_visits_need_no_memory() -> None:
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
