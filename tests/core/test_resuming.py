"""Walks that are resumed after an error, at a place that may have moved meanwhile."""

import logging
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from distinct_async import (
    ConfigurationError,
    DistinctClient,
    DistinctError,
    ListChangedError,
    NotFoundError,
    Pager,
    ResumePoint,
    ServerError,
    TransportError,
    Visit,
    VisitPage,
)
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.support.helpers import ONCE, drain_walk, logged
from tests.support.list_server import START, ListServer, make_visits

Edit: TypeAlias = Callable[[list[Visit]], None]


def broken_from(server: ListServer, offset: int) -> None:
    """Have all requests from an offset on fail."""

    def change(at: int, page: VisitPage) -> VisitPage:
        if at >= offset:
            raise TransportError("broken")
        return page

    server.change = change


def mend(server: ListServer) -> None:
    server.change = lambda _, page: page


async def fail_at(
    server: ListServer, offset: int, pager: Pager[Visit, VisitPage]
) -> tuple[list[Visit], DistinctError]:
    """Return what a walk delivers before it fails at an offset, and its error."""
    broken_from(server, offset)
    items, error = await drain_walk(pager)
    mend(server)
    assert isinstance(error, TransportError)
    return items, error


# --- Resuming after an error


async def test_a_resumed_pager_delivers_what_its_limit_leaves() -> None:
    server = ListServer(make_visits(300))
    pager = server.pager(offset=10, limit=120, page_size=50, prefetch=3)
    items, error = await fail_at(server, 108, pager)
    assert items == server.visits[10:109]

    rest = pager.resume(error)

    assert (rest.offset, rest.after, rest.limit) == (109, tuple(server.visits[101:109]), 21)
    assert (rest.total, rest.name) == (300, "total visits of 'tp-1'")
    assert (rest.page_size, rest.prefetch) == (50, 3)
    assert (pager.offset, pager.after, pager.total, pager.limit) == (10, (), None, 120)
    assert await rest.collect() == server.visits[109:130]


async def test_a_pager_may_be_resumed_again_and_again() -> None:
    server = ListServer(make_visits(300))
    pager = server.pager(limit=250, page_size=20)
    items: list[Visit] = []
    for failing in (0, 0, 19, 76, 76, 190):
        delivered, error = await fail_at(server, failing, pager)
        items += delivered
        pager = pager.resume(error)
        assert (pager.offset, pager.limit) == (len(items), 250 - len(items))

    assert 190 < len(items) < 250
    assert items + await pager.collect() == server.visits[:250]


async def test_a_walk_that_failed_at_its_first_page_keeps_its_place() -> None:
    server = ListServer(make_visits(300))
    pager = server.pager(offset=100, after=server.visits[99])
    items, error = await fail_at(server, 0, pager)
    assert items == []
    assert error.resume_point == ResumePoint(
        offset=100, after=(server.visits[99],), delivered=0, total=None, name=pager.name
    )

    assert await pager.resume(error).collect() == server.visits[100:]


async def test_a_pager_whose_limit_was_reached_delivers_nothing_more() -> None:
    server = ListServer(make_visits(300))
    pager = server.pager(limit=99)
    _, error = await fail_at(server, 98, server.pager())

    assert await pager.resume(error).collect() == []


@pytest.mark.parametrize("failing", range(1, 20))
async def test_a_walk_over_single_items_resumes_after_a_failure_of_any_request(
    failing: int,
) -> None:
    def change(_: int, page: VisitPage) -> VisitPage:
        if len(server.requests) == failing:
            raise TransportError("broken")
        return page

    server = ListServer(make_visits(7), largest_page=1, change=change)
    pager = server.pager(prefetch=1)
    items, error = await drain_walk(pager)
    assert isinstance(error, TransportError)
    assert (error.next_offset, items) == (len(items), server.visits[: len(items)])

    assert items + await pager.resume(error).collect() == server.visits


async def test_a_resumed_walk_proves_its_place_at_no_extra_request() -> None:
    server = ListServer(make_visits(300))
    pager = server.pager(page_size=50)
    _, error = await fail_at(server, 147, pager)
    server.requests.clear()

    assert await pager.resume(error).collect() == server.visits[148:]
    # The first request shares three items, and the others one.
    assert server.requests == [(145, 50), (194, 50), (243, 50), (292, 50)]


def insert(count: int, at: int) -> Edit:
    def edit(visits: list[Visit]) -> None:
        visits[at:at] = [Visit(f"new-{number}", START) for number in range(count)]

    return edit


def delete(count: int, at: int) -> Edit:
    def edit(visits: list[Visit]) -> None:
        del visits[at : at + count]

    return edit


EDITS: dict[str, tuple[list[Edit], int]] = {
    "nothing": ([], 0),
    "insertion": ([insert(3, 0)], 3),
    "insertion of a page": ([insert(50, 20)], 50),
    "deletion": ([delete(1, 40)], -1),
    "deletion of a page": ([delete(50, 10)], -50),
    "insertion and deletion": ([insert(5, 30), delete(2, 90)], 3),
    "deletion and insertion": ([delete(9, 3), insert(4, 60)], -5),
    "insertion behind the place": ([insert(2, 200)], 0),
    "appended": ([insert(7, 300)], 0),
}


@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("name", EDITS)
async def test_a_resumed_walk_finds_its_place_after_the_list_has_changed(
    name: str, prefetch: int
) -> None:
    edits, shift = EDITS[name]
    server = ListServer(make_visits(300))
    pager = server.pager(page_size=50, prefetch=prefetch)
    items, error = await fail_at(server, 98, pager)
    last = items[-1]
    assert last == server.visits[98]

    for edit in edits:
        edit(server.visits)
    pages = [page async for page in pager.resume(error).pages()]

    place = server.visits.index(last) + 1
    assert place == 99 + shift
    assert [visit for page in pages for visit in page.items] == server.visits[place:]
    assert [page.shift for page in pages] == [shift, *[0] * (len(pages) - 1)]
    assert pages[0].offset == place


@pytest.mark.parametrize("deleted", [1, 2, 3])
async def test_a_resumed_walk_finds_its_place_though_the_last_visits_were_deleted(
    deleted: int,
) -> None:
    server = ListServer(make_visits(300))
    pager = server.pager(page_size=50)
    _, error = await fail_at(server, 98, pager)
    rest = server.visits[99:]
    del server.visits[99 - deleted : 99]

    pages = [page async for page in pager.resume(error).pages()]

    assert [visit for page in pages for visit in page.items] == rest
    assert (pages[0].shift, pages[0].offset) == (-deleted, 99 - deleted)


async def test_a_resumed_walk_after_three_hundred_insertions_finds_its_place() -> None:
    server = ListServer(make_visits(1_000))
    pager = server.pager(page_size=50)
    items, error = await fail_at(server, 490, pager)
    rest = server.visits[len(items) :]
    insert(300, 20)(server.visits)
    server.requests.clear()

    pages = [page async for page in pager.resume(error).pages()]

    assert [visit for page in pages for visit in page.items] == rest
    assert (pages[0].shift, pages[0].offset) == (300, len(items) + 300)
    # The total says where to look: one request that does not fit, and one that shows the place.
    assert server.requests[0] == (len(items) - 3, 50)
    assert server.requests[1] == (len(items) + 300 - 37, 50)
    assert len(server.requests) <= 2 + -(-len(rest) // 49) + 1


async def test_a_walk_over_all_visits_is_not_resumed_over_those_of_distinct_users(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    fake.add_touchpoint("tp-1", visits=make_visits(120))
    fake.fail_next(503, times=100)
    _, error = await drain_walk(client.total_visits("tp-1"))
    assert isinstance(error, ServerError)
    assert client.total_visits("tp-1").resume(error).offset == 0

    with pytest.raises(ConfigurationError, match="over the unique visits of 'tp-1', got one over"):
        client.unique_visits("tp-1").resume(error)


async def test_the_repr_of_a_resume_point_shows_no_user() -> None:
    server = ListServer(make_visits(300))
    _, error = await fail_at(server, 98, server.pager())

    assert error.resume_point is not None
    assert [visit.user_id for visit in error.resume_point.after[-2:]] == ["user-0", "user-1"]
    assert repr(error.resume_point) == (
        "ResumePoint(offset=99, delivered=99, total=300, name=\"total visits of 'tp-1'\")"
    )


async def test_a_resumed_walk_whose_place_cannot_be_proved_raises_list_changed() -> None:
    server = ListServer(make_visits(300))
    pager = server.pager(page_size=50)
    _, error = await fail_at(server, 98, pager)
    # All eight visits that prove the place.
    del server.visits[91:99]

    items, lost = await drain_walk(pager.resume(error))

    assert isinstance(lost, ListChangedError)
    assert (items, lost.next_offset, lost.resume_point) == ([], None, None)


async def test_an_error_without_a_resume_point_is_raised_itself() -> None:
    server = ListServer(make_visits(300))
    pager = server.pager(offset=10, after=Visit("stranger", START))
    _, error = await drain_walk(pager)
    assert isinstance(error, ListChangedError)

    with pytest.raises(ListChangedError) as caught:
        pager.resume(error)
    assert caught.value is error


async def test_an_error_of_a_single_call_is_raised_itself(
    fake: FakeDistinct, client: DistinctClient
) -> None:
    with pytest.raises(NotFoundError) as caught:
        await client.touchpoint_metrics("tp-1")
    with pytest.raises(NotFoundError) as again:
        client.total_visits("tp-1").resume(caught.value)

    assert again.value is caught.value


async def test_an_error_of_a_walk_over_another_list_is_refused(client: DistinctClient) -> None:
    server = ListServer(make_visits(300))
    _, error = await fail_at(server, 98, server.pager())
    assert error.touchpoint_id == "tp-1"

    with pytest.raises(ConfigurationError, match=r"error must .* over the .*tp-2"):
        client.total_visits("tp-2").resume(error)
    with pytest.raises(ConfigurationError, match=r"error must .* over the touchpoints"):
        client.touchpoints("exp-1").resume(error)


async def test_a_walk_over_touchpoints_is_resumed_though_their_counts_have_changed(
    fake: FakeDistinct,
) -> None:
    names = [f"tp-{number}" for number in range(60)]
    for name in names:
        fake.add_touchpoint(name, visits=make_visits(2))

    async def break_late(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        late = int(request.parameters["offset"]) >= 18
        return {"statusCode": 500, "message": "Broken"} if late else payload

    fake.intercept = break_late
    async with fake.client(retry=ONCE) as client:
        pager = client.touchpoints("exp-1", page_size=10)
        listed: list[str] = []
        with pytest.raises(ServerError) as caught:
            async for touchpoint in pager:
                listed.append(touchpoint.id)  # noqa: PERF401 - keep those before the error
        assert listed == names[:19]

        fake.intercept = None
        fake.scan("tp-18", "late", START)
        fake.scan("tp-19", "late", START)
        rest = await pager.resume(caught.value).collect()

    assert listed + [touchpoint.id for touchpoint in rest] == names


# --- The log


def change_once(server: ListServer, offset: int, edit: Edit) -> None:
    """Edit the list after the first answer to a request of this offset."""
    former, edited = server.change, list[int]()

    def change(at: int, page: VisitPage) -> VisitPage:
        if at == offset and not edited:
            edited.append(at)
            edit(server.visits)
        return former(at, page)

    server.change = change


async def test_each_shift_of_the_list_is_logged_once_without_naming_a_user(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = ListServer(make_visits(300))
    change_once(server, 0, insert(3, 10))
    # By the second page, 49 visits more have been delivered, three of them twice in the list.
    change_once(server, 49, delete(2, 20))

    pages = [page async for page in server.pager(prefetch=1).pages()]

    assert [page.shift for page in pages if page.shift] == [3, -2]
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("distinct_async", logging.WARNING)
    ] * 2
    inserted, deleted = (record.getMessage() for record in caplog.records)
    assert inserted == (
        "the list of total visits of 'tp-1' has shifted by +3 before offset 50, where the walk "
        "was; what was inserted there is not delivered"
    )
    assert re.fullmatch(
        r"the list of total visits of 'tp-1' has shifted by -2 before offset \d+, where the walk "
        "was",
        deleted,
    )
    assert not any(word in logged(caplog) for word in ("user-", "new-", "2024"))


async def test_a_list_that_stands_still_or_grows_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = ListServer(make_visits(300))
    change_once(server, 98, insert(40, 300))

    assert len(await server.pager(page_size=50).collect()) == 340
    assert not caplog.records


async def test_the_log_names_the_experience_whose_touchpoints_shifted(
    fake: FakeDistinct, client: DistinctClient, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        fake.add_touchpoint(f"tp-{number}")

    async def hide_first(request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        offset = int(request.parameters["offset"])
        if len(fake.requests) > 1:
            every = [{**payload["data"]["touchpoints"][0], "id": f"tp-{n}"} for n in range(4, 30)]
            payload["data"]["touchpoints"] = every[offset : offset + 10]
            payload["data"]["totalTouchpoints"] = 26
        return payload

    fake.intercept = hide_first
    listed = await client.touchpoints("exp-1", page_size=10).collect()

    assert [touchpoint.id for touchpoint in listed] == [f"tp-{number}" for number in range(30)]
    (record,) = caplog.records
    assert record.getMessage() == (
        "the list of touchpoints of 'exp-1' has shifted by -4 before offset 10, where the walk was"
    )
