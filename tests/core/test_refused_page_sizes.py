"""Servers that refuse large pages: the document names no largest page, and may not be asked."""

import logging
from typing import Any

import pytest

from distinct_async import BadRequestError, DistinctClient, ServerError
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.support.fan_out import drain
from tests.support.list_server import ids_of, make_visits

REFUSED = {"statusCode": 400, "message": "pageSize must be at most 100"}


def refuse_above(fake: FakeDistinct, largest: int) -> None:
    """Answer 400 to requests for more than `largest` items."""

    async def refuse(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        return REFUSED if int(request.parameters.get("pageSize", 0)) > largest else payload

    fake.intercept = refuse


@pytest.fixture
def limited(fake: FakeDistinct) -> FakeDistinct:
    for touchpoint_id in ids_of(12):
        fake.add_touchpoint(touchpoint_id, visits=make_visits(120))
    refuse_above(fake, 100)
    return fake


def sizes(fake: FakeDistinct) -> list[str | None]:
    return [request.parameters.get("pageSize") for request in fake.requests]


async def test_a_refused_page_size_is_left_to_the_server_with_one_warning(
    limited: FakeDistinct, client: DistinctClient, caplog: pytest.LogCaptureFixture
) -> None:
    visits = await client.total_visits("tp-1", page_size=1_000).collect()

    assert visits == make_visits(120)
    assert sizes(limited)[:2] == ["1000", None]
    assert sizes(limited).count("1000") == 1
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "pages of 1000 items" in record.getMessage()


async def test_all_lists_of_a_client_learn_of_it(
    limited: FakeDistinct, client: DistinctClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.total_visits("tp-1", page_size=1_000).collect()
    learned = len(limited.requests)

    delivered, error = await drain(client.pages_across(ids_of(12), page_size=1_000))
    listed = await client.touchpoints("exp-1", page_size=5_000).collect()
    view = client.with_options()
    await view.unique_visits("tp-2", page_size=1_000).collect()

    assert (len(delivered), error, len(listed)) == (12, None, 12)
    assert set(sizes(limited)[learned:]) == {None}
    assert len(caplog.records) == 1


async def test_smaller_pages_than_the_refused_one_are_still_asked_for(
    limited: FakeDistinct, client: DistinctClient
) -> None:
    await client.total_visits("tp-1", page_size=1_000).collect()
    learned = len(limited.requests)

    await client.total_visits("tp-1", page_size=100).collect()

    assert sizes(limited)[learned:] == ["100", "100"]


async def test_a_fan_out_whose_first_pages_are_refused_together_warns_once(
    limited: FakeDistinct, client: DistinctClient, caplog: pytest.LogCaptureFixture
) -> None:
    delivered, error = await drain(client.pages_across(ids_of(12), page_size=1_000, concurrency=12))

    assert (len(delivered), error) == (12, None)
    assert len(caplog.records) == 1


async def test_a_400_that_no_page_size_cures_names_the_parameter(
    limited: FakeDistinct, client: DistinctClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Here the assumption is wrong: the server refuses something else."""
    refuse_above(limited, -1)

    with pytest.raises(
        BadRequestError, match="with pageSize=1000, and without it as well"
    ) as caught:
        await client.total_visits("tp-1", page_size=1_000).collect()
    assert caught.value.attempts == 2

    assert (sizes(limited), caplog.records) == (["1000", None], [])
    # Nothing was learned from it.
    refuse_above(limited, 1_000)
    await client.total_visits("tp-1", page_size=1_000).collect()
    assert sizes(limited)[2:] == ["1000"]


async def test_another_failure_of_the_second_request_is_the_error(
    limited: FakeDistinct, client: DistinctClient
) -> None:
    async def fail(request: FakeRequest, _: dict[str, Any]) -> dict[str, Any]:
        return REFUSED if "pageSize" in request.parameters else {"statusCode": 501, "message": "no"}

    limited.intercept = fail

    with pytest.raises(ServerError):
        await client.total_visits("tp-1", page_size=1_000).collect()


@pytest.mark.parametrize("page_size", [50, 20])
async def test_a_400_for_a_default_page_is_not_asked_again(
    limited: FakeDistinct, client: DistinctClient, page_size: int
) -> None:
    refuse_above(limited, -1)

    with pytest.raises(BadRequestError):
        await client.total_visits("tp-1", page_size=page_size).collect()

    assert len(limited.requests) == 1


async def test_a_single_call_raises_what_it_asked_for(
    limited: FakeDistinct, client: DistinctClient
) -> None:
    with pytest.raises(BadRequestError, match="pageSize must be at most 100"):
        await client.touchpoint_metrics("tp-1", page_size=1_000)

    assert sizes(limited) == ["1000"]


async def test_a_size_that_was_accepted_before_is_not_given_up_for_one_refusal(
    limited: FakeDistinct, client: DistinctClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A server may answer 400 for another reason, once."""
    await client.total_visits("tp-1", page_size=100).collect()
    limited.fail_next(400)
    visits = await client.total_visits("tp-1", page_size=100).collect()
    learned = len(limited.requests)
    await client.total_visits("tp-1", page_size=100).collect()

    assert visits == make_visits(120)
    assert (sizes(limited)[learned:], caplog.records) == (["100", "100"], [])


@pytest.mark.parametrize("status", [413, 414, 422])
async def test_other_statuses_that_refuse_what_is_too_large(
    limited: FakeDistinct, client: DistinctClient, status: int
) -> None:
    async def refuse(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        return {"statusCode": status} if "pageSize" in request.parameters else payload

    limited.intercept = refuse

    assert await client.total_visits("tp-1", page_size=1_000).collect() == make_visits(120)
