"""The client against the fake server over sockets."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from distinct_async import (
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    DecodeError,
    DistinctClient,
    ExperienceMetrics,
    IncompleteListError,
    Limits,
    ListChangedError,
    NotFoundError,
    Pager,
    RepeatedPageError,
    ResumePoint,
    RetryPolicy,
    ServerError,
    Timeouts,
    TouchpointSummary,
    UserMetrics,
    UserTouchpoint,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async.testing import FakeClock, FakeDistinct, FakeRequest
from tests.support.helpers import drain_walk, eventually, free_slots_on_fake, is_idle, spin
from tests.support.list_server import make_visits, page_offsets

START = datetime(2024, 1, 1, 10, tzinfo=UTC)
TOTAL = 100_003
Change = Callable[[int, dict[str, Any]], None]


@pytest.fixture
def small(fake: FakeDistinct) -> list[Visit]:
    """Add tp-1 with 400 visits by 40 users: eight pages of the default size."""
    visits = [Visit(f"user-{i % 40}", START + timedelta(minutes=i)) for i in range(400)]
    fake.add_touchpoint("tp-1", name="Entry Scan", value="entry_scan", visits=visits)
    return visits


def change_pages(fake: FakeDistinct, change: Change) -> None:
    """Have the server pass the offset and touchpoint of every page to `change`."""

    async def intercept(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        change(int(request.parameters["offset"]), payload["data"]["touchpoints"])
        return payload

    fake.intercept = intercept


# --- Single calls


async def test_the_example_of_the_api_document(fake: FakeDistinct, client: DistinctClient) -> None:
    fake.add_touchpoint("tp-1", name="Entry Scan", value="entry_scan")
    fake.add_touchpoint("tp-2", name="Exit Scan", value="exit_scan")
    for user, day, touchpoint in [(1, 1, 1), (2, 2, 1), (1, 3, 1), (1, 3, 2)]:
        fake.scan(f"tp-{touchpoint}", f"user-{user}", START.replace(day=day))

    assert await client.experience_metrics("exp-1", offset=0, page_size=50) == ExperienceMetrics(
        2,
        (
            TouchpointSummary("tp-1", "Entry Scan", "entry_scan", 3, 2),
            TouchpointSummary("tp-2", "Exit Scan", "exit_scan", 1, 1),
        ),
    )
    assert fake.requests[-1].parameters == {
        "metricsType": "EXPERIENCE",
        "experienceId": "exp-1",
        "offset": "0",
        "pageSize": "50",
    }
    assert await client.user_metrics("exp-1", "user-2") == UserMetrics(
        1, (UserTouchpoint("tp-1", "Entry Scan", "entry_scan", 1, (START.replace(day=2),)),)
    )
    page = await client.touchpoint_metrics("tp-1", visits_type="UNIQUE", experience_id="exp-1")
    assert page.visits_type is VisitsType.UNIQUE
    assert [(v.user_id, v.timestamp.day) for v in page.items] == [("user-1", 1), ("user-2", 2)]
    assert (page.total, page.offset, page.page_size, page.next_offset) == (2, 0, 50, None)


async def test_omitted_arguments_are_not_sent(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    await client.touchpoint_metrics("tp-1")
    await client.total_visits("tp-1", limit=1).collect()
    await client.experience_metrics("exp-1")

    assert [set(request.parameters) for request in fake.requests] == [
        {"metricsType", "touchpointId", "visitsType"},
        {"metricsType", "touchpointId", "visitsType", "offset"},
        {"metricsType", "experienceId"},
    ]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("experience_id", lambda c: c.experience_metrics("")),
        ("user_id", lambda c: c.user_metrics("e", "")),
        ("touchpoint_id", lambda c: c.touchpoint_metrics(" ")),
        ("visits_type", lambda c: c.touchpoint_metrics("t", visits_type="ALL")),
        ("offset", lambda c: c.touchpoint_metrics("t", offset=-1)),
        ("page_size", lambda c: c.experience_metrics("e", page_size=0)),
        ("experience_id", lambda c: c.touchpoints("")),
        ("page_size", lambda c: c.touchpoints("e", page_size=0)),
        ("touchpoint_id", lambda c: c.total_visits(None)),
        ("experience_id", lambda c: c.unique_visits("t", experience_id="")),
        ("offset", lambda c: c.total_visits("t", offset=-1)),
        ("offset", lambda c: c.total_visits("t", offset=None)),
        ("limit", lambda c: c.total_visits("t", limit=-1)),
        ("limit", lambda c: c.unique_visits("t", limit=1.0)),
        ("page_size", lambda c: c.unique_visits("t", page_size=True)),
        ("prefetch", lambda c: c.unique_visits("t", prefetch=0)),
        ("offset", lambda c: c.experience_metrics("e", offset=2**63)),
        ("page_size", lambda c: c.touchpoint_metrics("t", page_size=10**400)),
        ("page_size", lambda c: c.touchpoints("e", page_size=10**400)),
        ("offset", lambda c: c.total_visits("t", offset=2**63)),
        ("limit", lambda c: c.unique_visits("t", limit=10**5000)),
        ("prefetch", lambda c: c.total_visits("t", prefetch=2**63)),
        ("page_size", lambda c: c.pages_across(["t"], page_size=2**63)),
        ("concurrency", lambda c: c.pages_across(["t"], concurrency=10**400)),
    ],
)
async def test_invalid_arguments_are_refused_before_any_request(
    fake: FakeDistinct, client: DistinctClient, name: str, call: Callable[[Any], Any]
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must "):
        await call(client)

    assert not fake.requests


async def test_the_largest_arguments_work(fake: FakeDistinct, small: list[Visit]) -> None:
    most, longest = 2**63 - 1, int(threading.TIMEOUT_MAX)
    limits = Limits(concurrency=most, max_body_bytes=most, requests_per_second=1e300)
    timeouts = Timeouts(connect=longest, read=longest, attempt=longest, total=longest)
    retry = RetryPolicy(attempts=most, base_delay=longest, max_delay=longest, budget=most)
    large: dict[str, Any] = {"page_size": most, "prefetch": most}
    async with fake.client(limits=limits, timeouts=timeouts, retry=retry) as client:
        assert await client.total_visits("tp-1", limit=most, **large).collect() == small
        assert await client.total_visits("tp-1", offset=most, **large).collect() == []
        pages = client.pages_across(["tp-1"], concurrency=most, **large)
        assert [visit async for page in pages for visit in page.items] == small


async def test_documented_errors_raise_their_class(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    with pytest.raises(NotFoundError, match="Experience not found"):
        await client.experience_metrics("nowhere")
    with pytest.raises(NotFoundError, match="User not found"):
        await client.user_metrics("exp-1", "nobody")
    with pytest.raises(NotFoundError, match="Touchpoint not found") as caught:
        await client.touchpoint_metrics("nothing")
    assert caught.value.touchpoint_id == "nothing"
    with pytest.raises(NotFoundError) as caught:
        await client.total_visits("tp-1", experience_id="exp-2").collect()
    assert (caught.value.touchpoint_id, caught.value.next_offset) == ("tp-1", 0)
    fake.fail_next(400)
    with pytest.raises(BadRequestError):
        await client.touchpoint_metrics("tp-1")


# --- Complete walks


async def check_walk(
    pager: Pager[Visit, VisitPage], expected: list[Visit], fake: FakeDistinct, requests: int
) -> None:
    assert await pager.collect() == expected
    assert fake.request_count == requests


@pytest.mark.slow
@pytest.mark.parametrize("prefetch", [1, 4, 16])
@pytest.mark.parametrize("page_size", [None, 1, 7, 50, 1000])
async def test_a_walk_delivers_every_visit_once_and_in_order(
    page_size: int | None, prefetch: int, *, full_size: bool
) -> None:
    # Pages of 1 and 7 take 100,003 and 14,287 requests. Without --full-size, they cover only the
    # last 2,000 visits; test_pagination.py covers the whole list in memory.
    offset = TOTAL - 2_000 if page_size in (1, 7) and not full_size else 0
    async with FakeDistinct.synthetic(touchpoints=1, visits=TOTAL) as fake, fake.client() as client:
        expected = fake.visits("tp-1")
        assert len(expected) == TOTAL
        # Each page but the first starts one visit early; with pages of one, it asks for two. Of
        # those, the last one is full, so the end is read again.
        pages = page_offsets(TOTAL - offset, max(2, page_size or 50))
        requests = len(pages) + 2 * (page_size == 1)
        pager = client.total_visits("tp-1", offset=offset, page_size=page_size, prefetch=prefetch)
        await check_walk(pager, expected[offset:], fake, requests)


@pytest.mark.slow
@pytest.mark.parametrize("prefetch", [1, 4, 16])
async def test_a_clamping_server_delivers_every_visit(prefetch: int) -> None:
    async with FakeDistinct.synthetic(touchpoints=1, visits=TOTAL) as fake, fake.client() as client:
        fake.max_page_size = 100
        pager = client.total_visits("tp-1", page_size=1_000, prefetch=prefetch)
        await check_walk(pager, fake.visits("tp-1"), fake, len(page_offsets(TOTAL, 100)))
        assert {request.parameters["pageSize"] for request in fake.requests} == {"1000"}


@pytest.mark.parametrize(
    ("offset", "limit"), [(100_000, None), (0, 777), (99_950, 20), (99_990, 1_000), (5, 0)]
)
async def test_offset_and_limit_select_a_slice(offset: int, limit: int | None) -> None:
    async with FakeDistinct.synthetic(touchpoints=1, visits=TOTAL) as fake, fake.client() as client:
        stop = None if limit is None else offset + limit
        for walk, unique in ((client.total_visits, False), (client.unique_visits, True)):
            pager = walk("tp-1", offset=offset, limit=limit, page_size=100)
            assert await pager.collect() == fake.visits("tp-1", unique=unique)[offset:stop]


@pytest.mark.slow
async def test_a_walk_delivers_every_unique_visit_once() -> None:
    async with FakeDistinct.synthetic(touchpoints=1, visits=TOTAL) as fake, fake.client() as client:
        visits = await client.unique_visits("tp-1", page_size=1_000).collect()

        assert visits == fake.visits("tp-1", unique=True)
        assert len({visit.user_id for visit in visits}) == len(visits) == -(-TOTAL // 3)


@pytest.mark.parametrize("paged", [True, False])
async def test_touchpoints_lists_every_touchpoint_whether_paged_or_not(*, paged: bool) -> None:
    async with (
        FakeDistinct.synthetic(touchpoints=120, visits=5_000) as fake,
        fake.client() as client,
    ):
        fake.page_touchpoints = paged
        for page_size in (None, 7, 1_000):
            listed = await client.touchpoints("exp-1", page_size=page_size).collect()
            assert [t.id for t in listed] == [f"tp-{i}" for i in range(1, 121)]
            assert sum(t.total_visits for t in listed) == 5_000
        pages = [page async for page in client.touchpoints("exp-1").pages()]
        assert [page.offset for page in pages] == ([0, 50, 99] if paged else [0])
        assert pages[0].next_offset == (50 if paged else None)


# --- Servers whose pages contradict each other


async def test_a_server_that_ignores_the_offset_raises_repeated_page(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    fake.ignore_offset = True

    items, error = await drain_walk(client.total_visits("tp-1"))

    assert isinstance(error, RepeatedPageError)
    assert (error.requested, error.returned, error.next_offset) == (49, 0, 50)
    assert (items, error.touchpoint_id) == (small[:50], "tp-1")


async def test_an_ignored_offset_is_detected_though_the_page_claims_the_right_one(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    def claim_offset(offset: int, touchpoint: dict[str, Any]) -> None:
        touchpoint["totalVisitsDetails"]["pagination"]["offset"] = offset

    fake.ignore_offset = True
    change_pages(fake, claim_offset)

    items, error = await drain_walk(client.total_visits("tp-1"))

    assert isinstance(error, RepeatedPageError)
    assert (error.requested, error.returned, error.next_offset) == (49, 0, None)
    assert error.resume_point == ResumePoint(
        offset=50,
        after=tuple(small[42:50]),
        delivered=50,
        total=len(small),
        name="total visits of 'tp-1'",
    )
    assert items == small[:50]


@pytest.mark.parametrize(
    ("count", "offsets"), [(49, [0]), (50, [0, 49]), (51, [0, 49]), (99, [0, 49, 98])]
)
async def test_only_a_full_page_at_the_end_is_followed_by_one_more_request(
    fake: FakeDistinct, client: DistinctClient, count: int, offsets: list[int]
) -> None:
    fake.add_touchpoint("tp-2", visits=make_visits(count))

    assert await client.total_visits("tp-2").collect() == fake.visits("tp-2")
    assert [int(request.parameters["offset"]) for request in fake.requests] == offsets


async def test_a_total_that_is_one_too_low_after_full_pages_loses_no_visit(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    fake.add_touchpoint("tp-2", visits=make_visits(100))

    def count_late(offset: int, touchpoint: dict[str, Any]) -> None:
        touchpoint["totalVisits"] -= offset < 98

    change_pages(fake, count_late)

    pages = [page async for page in client.total_visits("tp-2").pages()]

    assert [page.total for page in pages] == [99, 99, 100]
    assert [visit for page in pages for visit in page.items] == fake.visits("tp-2")


async def test_the_log_of_a_shift_escapes_the_id_of_the_touchpoint(
    fake: FakeDistinct, client: DistinctClient, caplog: pytest.LogCaptureFixture
) -> None:
    name = "tp\r\nWARNING all is well"
    visits = make_visits(90)
    fake.add_touchpoint(name, visits=visits)

    pager = client.total_visits(name, offset=40, after=visits[38])

    assert await pager.collect() == visits[39:]
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    message = record.getMessage()
    assert message.startswith(f"the list of total visits of {name!a} has shifted by -1 before ")
    assert message.isprintable()


async def test_pages_that_end_before_the_total_raise_incomplete_list(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    def end_at_150(offset: int, touchpoint: dict[str, Any]) -> None:
        del touchpoint["totalVisitsDetails"]["items"][max(0, 150 - offset) :]

    change_pages(fake, end_at_150)

    items, error = await drain_walk(client.total_visits("tp-1"))

    assert isinstance(error, IncompleteListError)
    assert (error.expected, error.received, error.next_offset) == (400, 150, 150)
    assert items == small[:150]
    assert 4 <= fake.request_count - len(page_offsets(400, 50)) <= 40


async def test_the_gap_after_a_short_page_is_filled(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    def shorten(offset: int, touchpoint: dict[str, Any]) -> None:
        if offset in (98, 245):
            del touchpoint["totalVisitsDetails"]["items"][13:]

    change_pages(fake, shorten)

    assert await client.total_visits("tp-1").collect() == small
    offsets = sorted(int(request.parameters["offset"]) for request in fake.requests)
    assert offsets == [0, 49, 98, 110, 147, 196, 245, 257, 294, 343, 392]


async def test_a_growing_list_is_walked_to_its_latest_end(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    async def scan_more(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        if request.parameters["offset"] == "196":
            for minute in range(400, 475):
                fake.scan("tp-1", "late", START + timedelta(minutes=minute))
        return payload

    fake.intercept = scan_more

    items = await client.total_visits("tp-1").collect()

    assert items == fake.visits("tp-1")
    assert len(items) == 475


@pytest.mark.parametrize("claimed", [(399, 400, 401), (400, 401), (400, 300), (400, 1_000)])
async def test_a_total_that_contradicts_itself_costs_no_visit(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit], claimed: tuple[int, ...]
) -> None:
    def jitter(_: int, touchpoint: dict[str, Any]) -> None:
        touchpoint["totalVisits"] = claimed[fake.request_count % len(claimed)]

    change_pages(fake, jitter)

    assert await client.total_visits("tp-1").collect() == small


async def test_a_list_replaced_by_another_raises_list_changed(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    def replace(offset: int, touchpoint: dict[str, Any]) -> None:
        for item in touchpoint["totalVisitsDetails"]["items"] if fake.request_count > 1 else ():
            item["userId"] = "another"

    change_pages(fake, replace)

    items, error = await drain_walk(client.total_visits("tp-1"))

    assert isinstance(error, ListChangedError)
    assert (error.next_offset, error.resume_point, error.touchpoint_id) == (None, None, "tp-1")
    assert items == small[:50]


async def test_a_malformed_item_is_named_and_all_pages_before_it_are_delivered(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    def remove_user(offset: int, touchpoint: dict[str, Any]) -> None:
        if offset == 98:
            touchpoint["totalVisitsDetails"]["items"][3]["userId"] = None

    change_pages(fake, remove_user)

    items, error = await drain_walk(client.total_visits("tp-1"))

    assert isinstance(error, DecodeError)
    assert error.path == "data.touchpoints.totalVisitsDetails.items[3].userId"
    assert (items, error.next_offset, error.attempts) == (small[:99], 99, 1)


@pytest.mark.parametrize("times", [2, None])
async def test_a_page_of_another_touchpoint_is_retried_and_never_delivered(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit], times: int | None
) -> None:
    def mix_up(offset: int, touchpoint: dict[str, Any]) -> None:
        if offset == 98 and len(mixed_up) != times:
            mixed_up.append(offset)
            touchpoint["id"] = "tp-2"

    mixed_up: list[int] = []
    change_pages(fake, mix_up)

    items, error = await drain_walk(client.total_visits("tp-1"))

    if times is None:
        assert isinstance(error, DecodeError)
        assert (error.path, error.attempts) == ("data.touchpoints.id", 5)
        assert (error.next_offset, error.touchpoint_id, items) == (99, "tp-1", small[:99])
    else:
        assert (items, error) == (small, None)
        assert client.stats.retries == times


async def test_a_single_page_of_another_touchpoint_or_of_a_user_twice_is_refused(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    async def mix_up(_: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        touchpoint = payload["data"]["touchpoints"]
        if "uniqueVisitsDetails" in touchpoint:
            items = touchpoint["uniqueVisitsDetails"]["items"]
            items[7]["userId"] = items[3]["userId"]
        else:
            touchpoint["id"] = "tp-2"
        return payload

    fake.intercept = mix_up
    paths: list[tuple[str, int]] = []
    for visits_type in VisitsType:
        with pytest.raises(DecodeError) as caught:
            await client.touchpoint_metrics("tp-1", visits_type=visits_type)
        paths.append((caught.value.path, caught.value.attempts))

    assert paths == [
        ("data.touchpoints.id", 5),
        ("data.touchpoints.uniqueVisitsDetails.items[7].userId", 5),
    ]


# --- Failing and resuming


async def test_a_failed_page_is_retried_without_repeating_others(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    fake.fail_rate = 0.2

    assert await client.total_visits("tp-1", page_size=10).collect() == small
    assert len(page_offsets(400, 10)) < len(fake.requests) < 65


async def test_resuming_at_next_offset_delivers_exactly_the_rest(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    async def break_at_245(request: FakeRequest, payload: dict[str, Any]) -> Any:
        if request.parameters["offset"] == "245":
            return web.json_response({"statusCode": 500, "message": "Broken"}, status=500)
        return payload

    fake.intercept = break_at_245
    items, error = await drain_walk(client.total_visits("tp-1"))
    assert isinstance(error, ServerError)
    assert (error.attempts, error.next_offset, error.touchpoint_id) == (5, 246, "tp-1")

    fake.intercept = None
    assert error.next_offset is not None
    rest = await client.total_visits("tp-1", offset=error.next_offset).collect()
    assert items + rest == small


# --- Concurrent, abandoned and cancelled walks


async def test_two_walks_on_one_client_interleave(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    unique = fake.visits("tp-1", unique=True)
    total_walk = aiter(client.total_visits("tp-1", page_size=7))
    unique_walk = aiter(client.unique_visits("tp-1", page_size=3))
    pairs = [(await anext(total_walk), await anext(unique_walk)) for _ in unique]
    rest = [visit async for visit in total_walk]

    assert [first for first, _ in pairs] + rest == small
    assert [second for _, second in pairs] == unique
    assert [visit async for visit in unique_walk] == []


async def test_concurrent_walks_share_the_slots(fake: FakeDistinct, small: list[Visit]) -> None:
    async with fake.client(limits=Limits(concurrency=2)) as client:
        walks = [client.total_visits("tp-1", page_size=11, prefetch=8) for _ in range(12)]
        assert await asyncio.gather(*(walk.collect() for walk in walks)) == [small] * 12


async def test_an_abandoned_walk_leaves_no_task_after_aclose(
    fake: FakeDistinct, small: list[Visit]
) -> None:
    before = asyncio.all_tasks()
    client = fake.client()
    walk = aiter(client.total_visits("tp-1", page_size=1, prefetch=16))
    taken: list[Visit] = []
    async for visit in walk:
        taken.append(visit)
        if len(taken) == 20:
            break
    assert client.stats.tasks > 0

    await client.aclose()

    assert is_idle(client)
    assert await eventually(lambda: asyncio.all_tasks() == before)
    assert taken == small[:20]
    # The generator is still open, but only its buffered pages are left.
    with pytest.raises(ClientClosedError) as caught:
        async for visit in walk:
            taken.append(visit)  # noqa: PERF401 - keep the items delivered before the error
    assert caught.value.next_offset == len(taken)
    assert taken == small[: len(taken)]


async def test_an_abandoned_walk_ends_when_it_is_collected(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    async for _ in client.total_visits("tp-1", page_size=1, prefetch=8):
        break
    gc.collect()

    assert await eventually(lambda: client.stats.tasks == 0)


async def test_aclosing_ends_a_walk_immediately(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    async with aclosing(aiter(client.total_visits("tp-1", page_size=1, prefetch=8))) as walk:
        async for _ in walk:
            break

    assert client.stats.tasks == 0
    assert await client.total_visits("tp-1").collect() == small


@pytest.mark.slow
async def test_a_walk_can_be_cancelled_at_any_turn_without_harming_the_client(
    fake: FakeDistinct, client: DistinctClient, small: list[Visit]
) -> None:
    turns = 0
    while True:
        task = asyncio.create_task(client.total_visits("tp-1", page_size=10).collect())
        await spin(turns)
        if task.done():
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_idle(client)
        concurrency = Limits().concurrency
        assert await free_slots_on_fake(client, concurrency, fake) == concurrency
        turns += 1

    assert turns > 40
    assert task.result() == small


async def test_memory_is_bounded_by_the_window(clock: FakeClock) -> None:
    async with (
        FakeDistinct.synthetic(touchpoints=1, visits=10_000_000) as fake,
        fake.client(runtime=clock.runtime) as client,
        aclosing(client.total_visits("tp-1", page_size=10, prefetch=5).pages()) as pages,
    ):
        for number in range(1, 30):
            page = await anext(pages)
            await eventually(lambda: is_idle(client))
            assert page.offset == ((number - 1) * 9 + 1 if number > 1 else 0)
            assert len(fake.requests) - number <= 5
        (listed,) = await client.touchpoints("exp-1").collect()
        assert listed.total_visits == 10_000_000
