"""`pages_across` with pagers, each with settings of its own, among or instead of ids."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from distinct_async import (
    ConfigurationError,
    DistinctClient,
    FanOutError,
    NotFoundError,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async._fanout import AnyTouchpoint, Touchpoints, VisitPager
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.support.fan_out import Delivered, drain
from tests.support.helpers import ONCE, eventually
from tests.support.list_server import ids_of, make_visits


def offsets_of(pages: list[VisitPage]) -> dict[str, list[int]]:
    """Return the offsets of each touchpoint's pages, in the order of delivery."""
    offsets: dict[str, list[int]] = defaultdict(list)
    for page in pages:
        offsets[page.touchpoint.id].append(page.offset)
    return offsets


def visits_of(pages: list[VisitPage]) -> Delivered:
    """Return the visits of each touchpoint, in the order of delivery."""
    visits: Delivered = defaultdict(list)
    for page in pages:
        visits[page.touchpoint.id].extend(page.items)
    return visits


def add_visits(fake: FakeDistinct, *touchpoint_ids: str, count: int = 120) -> list[Visit]:
    visits = make_visits(count)
    for touchpoint_id in touchpoint_ids:
        fake.add_touchpoint(touchpoint_id, visits=visits)
    return visits


async def test_each_pager_keeps_its_own_offset_limit_and_page_size(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    visits = add_visits(fake, "tp-1", "tp-2", "tp-3")
    pagers = [
        client.total_visits("tp-1", offset=100, page_size=10),
        client.total_visits("tp-2", limit=30, page_size=20),
        client.total_visits("tp-3", offset=5, limit=50),
    ]
    pages = [page async for page in client.pages_across(pagers, page_size=7)]

    assert visits_of(pages) == {"tp-1": visits[100:], "tp-2": visits[:30], "tp-3": visits[5:55]}
    assert offsets_of(pages) == {"tp-1": [100, 110, 119], "tp-2": [0, 20], "tp-3": [5]}
    sizes: dict[str, set[str | None]] = defaultdict(set)
    for request in fake.requests:
        sizes[request.parameters["touchpointId"]].add(request.parameters.get("pageSize"))
    assert sizes == {"tp-1": {"10"}, "tp-2": {"20", "11"}, "tp-3": {None}}


async def test_each_pager_keeps_its_own_prefetch(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    add_visits(fake, "tp-1", count=1_000)
    pager = client.total_visits("tp-1", page_size=10, prefetch=2)
    async with aclosing(client.pages_across([pager], prefetch=50)) as pages:
        for consumed in range(1, 20):
            await anext(pages)
            await eventually(lambda: client.stats.in_flight == client.stats.waiting == 0)
            assert len(fake.requests) <= consumed + 2


async def test_ids_touchpoints_and_pagers_may_be_mixed(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    visits = add_visits(fake, "tp-1", "tp-2", "tp-3")
    (first, *_) = await client.touchpoints("exp-1").collect()
    mixed: list[AnyTouchpoint] = [first, client.total_visits("tp-2", offset=90), "tp-3"]
    pages = [page async for page in client.pages_across(mixed, page_size=60)]

    assert visits_of(pages) == {"tp-1": visits, "tp-2": visits[90:], "tp-3": visits}
    assert offsets_of(pages) == {"tp-1": [0, 60, 119], "tp-2": [90], "tp-3": [0, 60, 119]}


@pytest.mark.parametrize("kind", ["list", "generator", "async generator"])
async def test_pagers_may_come_from_any_iterable(
    fake: FakeDistinct, client: DistinctClient, kind: str
) -> None:
    visits = add_visits(fake, *ids_of(20))

    async def one_by_one() -> AsyncGenerator[VisitPager, None]:
        for name in ids_of(20):
            await asyncio.sleep(0)
            yield client.total_visits(name)

    iterables: dict[str, Touchpoints] = {
        "list": [client.total_visits(name) for name in ids_of(20)],
        "generator": (client.total_visits(name) for name in ids_of(20)),
        "async generator": one_by_one(),
    }
    delivered, error = await drain(client.pages_across(iterables[kind], concurrency=3))

    assert error is None
    assert delivered == dict.fromkeys(ids_of(20), visits)


async def test_a_pager_may_be_walked_twice_in_one_fan_out(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    add_visits(fake, "tp-1")
    pager = client.total_visits("tp-1")
    pages = [page async for page in client.pages_across([pager, pager])]

    assert Counter(page.offset for page in pages) == {0: 2, 50: 2, 99: 2}


async def test_a_pager_of_another_visits_type_keeps_its_type(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    visits = add_visits(fake, "tp-1", "tp-2")
    mixed: list[AnyTouchpoint] = [client.unique_visits("tp-1"), "tp-2"]
    pages = [page async for page in client.pages_across(mixed, visits_type="TOTAL")]

    # Of the 120 visits, the first 97 are by different users.
    assert visits_of(pages) == {"tp-1": visits[:97], "tp-2": visits}
    assert {page.touchpoint.id: page.visits_type for page in pages} == {
        "tp-1": VisitsType.UNIQUE,
        "tp-2": VisitsType.TOTAL,
    }


async def test_a_pager_keeps_its_own_experience(fake: FakeDistinct, client: DistinctClient) -> None:
    add_visits(fake, "tp-1")
    mixed: list[AnyTouchpoint] = [client.total_visits("tp-1"), "tp-1"]

    delivered, error = await drain(client.pages_across(mixed, experience_id="exp-2"))

    assert len(delivered["tp-1"]) == 120
    assert error is not None
    (failure,) = error.exceptions
    assert isinstance(failure, NotFoundError)
    assert (failure.touchpoint_id, failure.experience_id) == ("tp-1", "exp-2")


@pytest.mark.parametrize("by", ["next_offset", "resume"])
async def test_failures_fed_back_as_pagers_deliver_exactly_the_rest(
    crowd: FakeDistinct, by: str
) -> None:
    async def fail_some(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        number = int(request.parameters["touchpointId"][3:])
        if number % 3 == 0 and int(request.parameters.get("offset", 0)) >= number // 10 * 9:
            return {"statusCode": 500, "message": "Planned"}
        return payload

    crowd.intercept = fail_some
    async with crowd.client(retry=ONCE) as client:
        delivered, error = await drain(client.pages_across(ids_of(30), page_size=10))
        assert error is not None
        assert {name: failure.next_offset for name, failure in error.failures.items()} == {
            f"tp-{number}": (0, 10, 19, 28)[number // 10] for number in range(3, 31, 3)
        }

        crowd.intercept = None
        rest = [
            client.total_visits(name, page_size=10).resume(failure)
            if by == "resume"
            else client.total_visits(name, offset=failure.next_offset or 0, page_size=10)
            for name, failure in error.failures.items()
        ]
        async for page in client.pages_across(rest):
            assert page.offset == len(delivered[page.touchpoint.id])
            delivered[page.touchpoint.id].extend(page.items)
        expected = {name: await client.total_visits(name).collect() for name in ids_of(30)}

    assert delivered == expected


async def test_a_failing_pager_reports_an_offset_within_the_whole_list(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    visits = add_visits(fake, "tp-1", "tp-2")

    async def fail_late(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        late = int(request.parameters.get("offset", 0)) >= 98
        return {"statusCode": 500, "message": "Planned"} if late else payload

    fake.intercept = fail_late
    pagers = [client.total_visits("tp-1", offset=60, page_size=20), client.total_visits("tp-2")]
    pages, failures = [], dict[str, int | None]()
    try:
        async for page in client.pages_across(pagers):
            pages.append(page)  # noqa: PERF401 - keep the pages delivered before the error
    except FanOutError as error:
        failures = {name: failure.next_offset for name, failure in error.failures.items()}

    assert failures == {"tp-1": 99, "tp-2": 99}
    assert visits_of(pages) == {"tp-1": visits[60:99], "tp-2": visits[:99]}


async def test_a_pager_with_a_limit_of_zero_yields_no_page(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    visits = add_visits(fake, "tp-1", "tp-2")
    pagers = [client.total_visits("tp-1", limit=0), client.total_visits("tp-2")]

    assert await drain(client.pages_across(pagers)) == ({"tp-2": visits}, None)


async def test_a_pager_of_touchpoints_among_the_touchpoints_is_refused(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    visits = add_visits(fake, "tp-1", "tp-2")
    wrong: Any = ["tp-1", client.touchpoints("exp-1"), "tp-2"]

    delivered, error = await drain(client.pages_across(wrong))

    assert delivered == {"tp-1": visits}
    assert error is not None
    (failure,) = error.exceptions
    assert isinstance(failure, ConfigurationError)
    assert str(failure).startswith("touchpoints must yield ids, touchpoints or pagers of visits")
    assert (error.started, error.failures) == (1, {})


def test_a_pager_of_visits_instead_of_touchpoints_is_refused_at_once(
    client: DistinctClient,
) -> None:
    wrong: Any = client.total_visits("tp-1")

    with pytest.raises(ConfigurationError, match=r"touchpoints must be an iterable.*a single one"):
        client.pages_across(wrong)


async def test_items_instead_of_touchpoints_are_refused(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    add_visits(fake, "tp-1")
    wrong: Any = aiter(client.total_visits("tp-1"))

    delivered, error = await drain(client.pages_across(wrong))

    assert not delivered
    assert error is not None
    (failure,) = error.exceptions
    assert isinstance(failure, ConfigurationError)
    assert str(failure) == (
        "touchpoints must yield ids, touchpoints or pagers of visits, got Visit"
    )


async def test_every_failure_of_a_touchpoint_given_twice_is_in_the_group(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    add_visits(fake, "tp-1")
    fake.fail_rate = 1.0
    pagers = [client.total_visits("tp-1", offset=30), client.unique_visits("tp-1", offset=3)]

    _, error = await drain(client.pages_across(pagers))

    assert error is not None
    assert {failure.next_offset for failure in error.exceptions} == {30, 3}  # type: ignore[union-attr]
    assert error.failures["tp-1"].next_offset == 3
