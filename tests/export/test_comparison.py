"""The first stored visit that is not the server's is found with few requests."""

import math
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from distinct_async import (
    BadRequestError,
    DistinctClient,
    ListChangedError,
    NotFoundError,
    ServerError,
    StatusError,
    Visit,
    VisitsType,
)
from distinct_async.export.comparison import Comparison
from distinct_async.export.disk import DiskThread
from distinct_async.export.formats import find_format
from distinct_async.export.plan import ExportPlan
from distinct_async.testing import FakeDistinct
from tests.support.helpers import ONCE
from tests.support.list_server import START
from tests.support.living_server import Beyond, LivingServer

VISITS = [Visit(f"user-{i}", START + timedelta(hours=i)) for i in range(23)]
OTHERS = [Visit(f"other-{i}", START + timedelta(hours=i)) for i in range(23)]
# With one-visit requests: the first visit, then 23 places where the difference may begin.
MOST_REQUESTS = 1 + math.ceil(math.log2(23))
LOST = ListChangedError("the place is lost")


@pytest.fixture
def living(fake: FakeDistinct) -> LivingServer:
    server = LivingServer({"tp-1": list(VISITS)})
    server.serve_on(fake)
    return server


@pytest.fixture
async def client(fake: FakeDistinct) -> AsyncIterator[DistinctClient]:
    async with fake.client(retry=ONCE) as client:
        yield client


@pytest.fixture(params=["parquet", "csv", "jsonl.gz"])
def comparison(
    request: pytest.FixtureRequest, client: DistinctClient, tmp_path: Path
) -> Iterator[Comparison]:
    plan = ExportPlan(
        client=client,
        experience_id="exp-1",
        visits_type=VisitsType.UNIQUE,
        destination=tmp_path,
        file_format=find_format(request.param),
        shard=(1, 1),
        page_size=None,
        concurrency=1,
        prefetch=1,
        rows_per_part=10,
    )
    partition = plan.partition("tp-1")
    for start in (0, 10, 20):
        partition.add(VISITS[start : start + 10])
        partition.flush()
    partition.close()
    partition = plan.partition("tp-1")
    partition.open()
    with ThreadPoolExecutor(1) as executor:
        yield Comparison("tp-1", partition.stored, plan, DiskThread(executor))
    partition.close()


@pytest.mark.parametrize("same", [*range(23)])
async def test_the_first_difference_is_found_wherever_it_is(
    living: LivingServer, fake: FakeDistinct, comparison: Comparison, same: int
) -> None:
    living.lists["tp-1"][same:] = OTHERS[same:]

    assert await comparison.find_difference() == same
    assert 0 < len(living.requests) <= MOST_REQUESTS
    assert {size for _, _, size in living.requests} == {1}
    queries = [request.parameters for request in fake.requests]
    assert {(query["experienceId"], query["visitsType"]) for query in queries} == {
        ("exp-1", "UNIQUE")
    }


async def test_equal_visits_have_no_difference(
    living: LivingServer, comparison: Comparison
) -> None:
    living.lists["tp-1"] += OTHERS

    assert await comparison.find_difference() is None
    assert await comparison.explain(LOST) is LOST
    assert len(living.requests) <= 2 * MOST_REQUESTS


@pytest.mark.parametrize("beyond", ["empty", "clamped", 400, 404, 416])
@pytest.mark.parametrize("count", [0, 1, 12, 22])
async def test_a_shorter_list_differs_where_it_ends(
    living: LivingServer, comparison: Comparison, count: int, beyond: Beyond
) -> None:
    living.beyond = beyond
    del living.lists["tp-1"][count:]

    assert await comparison.find_difference() == count
    assert len(living.requests) <= MOST_REQUESTS


async def test_a_page_of_another_offset_proves_nothing(
    living: LivingServer, comparison: Comparison
) -> None:
    living.beyond = "clamped"
    # Asked for offset 12, the server answers with the last visit, which is the one stored there.
    living.lists["tp-1"] = [*VISITS[:5], VISITS[12]]

    assert await comparison.find_difference() == 5
    assert ("tp-1", 12, 1) in living.requests


async def test_the_explanation_says_from_where_on_the_list_differs(
    living: LivingServer, comparison: Comparison
) -> None:
    living.lists["tp-1"].insert(14, OTHERS[0])

    error = await comparison.explain(LOST)

    assert isinstance(error, ListChangedError)
    assert (error.offset, error.moment) == (14, VISITS[14].timestamp)
    assert str(error) == (
        "the server's list differs from the exported visits from offset 14 on"
        " (2024-01-01T14:00:00Z); no visits were written"
    )


@pytest.mark.parametrize("count", [0, 12])
@pytest.mark.parametrize("status", [400, 404, 416])
async def test_a_refused_offset_is_explained_by_a_shorter_list(
    living: LivingServer, comparison: Comparison, status: Beyond, count: int
) -> None:
    living.beyond = status
    del living.lists["tp-1"][count:]

    error = await comparison.explain(StatusError(int(status)))

    assert isinstance(error, ListChangedError)
    assert error.offset == count


@pytest.mark.parametrize("refusal", [BadRequestError(400), NotFoundError(404)])
async def test_a_refusal_of_every_offset_is_not_a_change(
    fake: FakeDistinct, comparison: Comparison, refusal: StatusError
) -> None:
    fake.fail_next(refusal.status, times=100)

    assert await comparison.explain(refusal) is refusal
    assert len(fake.requests) == 1


async def test_other_errors_need_no_request(living: LivingServer, comparison: Comparison) -> None:
    error = ServerError(503)

    assert await comparison.explain(error) is error
    assert not living.requests


async def test_a_failing_request_ends_the_comparison(
    fake: FakeDistinct, comparison: Comparison
) -> None:
    fake.fail_next(503)

    with pytest.raises(ServerError):
        await comparison.explain(LOST)
