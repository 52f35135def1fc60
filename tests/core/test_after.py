"""Walks that start after a visit that was stored, wherever it stands now."""

from typing import Any

import attrs
import pytest

from distinct_async import (
    ConfigurationError,
    DistinctClient,
    ListChangedError,
    NotFoundError,
    Visit,
    VisitPage,
)
from distinct_async.testing import FakeDistinct
from tests.support.helpers import drain_walk
from tests.support.list_server import START, ListServer, make_visits


@pytest.mark.parametrize("kind", ["total_visits", "unique_visits"])
async def test_the_visit_before_the_first_one_cannot_be_given(
    client: DistinctClient, kind: str
) -> None:
    visits = getattr(client, kind)

    with pytest.raises(ConfigurationError, match=r"^offset must be at least 1 if after is given"):
        visits("tp-1", after=Visit("user-1", START))
    with pytest.raises(ConfigurationError, match=r"got 0$"):
        visits("tp-1", offset=0, after=Visit("user-1", START))


@pytest.mark.parametrize("kind", ["total_visits", "unique_visits"])
async def test_a_walk_starts_one_visit_early_to_prove_its_place(
    fake: FakeDistinct, client: DistinctClient, kind: str
) -> None:
    fake.add_touchpoint("tp-1", visits=make_visits(90))
    visits = fake.visits("tp-1")

    pager = getattr(client, kind)("tp-1", offset=40, after=visits[39], limit=30, page_size=20)

    assert await pager.collect() == visits[40:70]
    windows = [(r.parameters["offset"], r.parameters["pageSize"]) for r in fake.requests]
    assert windows == [("39", "20"), ("58", "12")]


@pytest.mark.parametrize("kind", ["total_visits", "unique_visits"])
async def test_a_walk_after_a_visit_that_is_not_there_raises_list_changed(
    fake: FakeDistinct, client: DistinctClient, kind: str
) -> None:
    fake.add_touchpoint("tp-1", visits=make_visits(90))

    pager = getattr(client, kind)("tp-1", offset=40, after=Visit("stranger", START))
    items, error = await drain_walk(pager)

    assert isinstance(error, ListChangedError)
    assert (error.next_offset, error.resume_point, error.touchpoint_id) == (None, None, "tp-1")
    assert items == []
    assert fake.request_count <= 10


async def test_a_walk_at_the_end_of_the_list_makes_one_request_and_yields_one_empty_page() -> None:
    server = ListServer(make_visits(90))

    (page,) = [page async for page in server.pager(offset=90, after=server.visits[-1]).pages()]

    assert (page.items, page.total, page.offset, page.shift) == ((), 90, 90, 0)
    assert server.requests == [(89, None)]


async def test_a_walk_after_the_last_visit_delivers_those_that_were_appended() -> None:
    server = ListServer(make_visits(95))

    pager = server.pager(offset=90, after=server.visits[89], page_size=50)

    assert await pager.collect() == server.visits[90:]
    assert server.requests == [(89, 50)]


@pytest.mark.parametrize("beyond", ["an empty page", "404", "the last page"])
@pytest.mark.parametrize(("was", "deleted"), [(90, 1), (90, 30), (60, 50), (90, 60)])
async def test_a_place_beyond_the_end_of_a_shorter_list_is_found_again(
    was: int, deleted: int, beyond: str
) -> None:
    def change(_: int, page: VisitPage) -> VisitPage:
        if page.items or beyond == "an empty page":
            return page
        if beyond == "404":
            raise NotFoundError(404)
        start = max(0, page.total - page.page_size)
        return attrs.evolve(page, items=tuple(server.visits[start:]), offset=start)

    server = ListServer(make_visits(97), change=change)
    after = server.visits[was - 1]
    del server.visits[5 : 5 + deleted]

    pages = [page async for page in server.pager(offset=was, after=after, page_size=40).pages()]

    rest = [visit for page in pages for visit in page.items]
    assert rest == server.visits[was - deleted :]
    assert (pages[0].shift, pages[0].offset) == (-deleted, was - deleted)


# --- Several visits


@pytest.mark.parametrize("kind", ["total_visits", "unique_visits"])
async def test_one_visit_or_a_list_of_them_or_none_may_be_given(
    client: DistinctClient, kind: str
) -> None:
    visits = make_visits(3)
    many = getattr(client, kind)

    assert many("tp-1", offset=9, after=visits[2]).after == (visits[2],)
    assert many("tp-1", offset=9, after=visits).after == tuple(visits)
    assert many("tp-1", offset=9, after=tuple(visits)).after == tuple(visits)
    assert many("tp-1", offset=9, after=None).after == many("tp-1", offset=9, after=[]).after == ()
    assert many("tp-1").after == many("tp-1", after=[]).after == ()


@pytest.mark.parametrize("kind", ["total_visits", "unique_visits"])
@pytest.mark.parametrize(
    ("after", "problem"),
    [
        ("user-1", "after must be a visit or a list of visits, got str"),
        (7, "after must be a visit or a list of visits, got int"),
        ([Visit("user-1", START), None], "after must be a visit .*, got NoneType"),
        ({Visit("user-1", START)}, "after must be a visit or a list of visits, got set"),
        (Visit("user-1", START.replace(tzinfo=None)), "after must have timestamps with a zone"),
        (
            [Visit("user-1", START), Visit("user-1", START.replace(tzinfo=None))],
            "after must have timestamps with a zone",
        ),
    ],
)
def test_anything_but_visits_with_a_zone_is_refused(kind: str, after: Any, problem: str) -> None:
    client = DistinctClient("key")

    with pytest.raises(ConfigurationError, match=f"^{problem}") as caught:
        getattr(client, kind)("tp-1", offset=9, after=after)

    assert "user-1" not in str(caught.value)


@pytest.mark.parametrize(("known", "page_size", "early"), [(2, 20, 1), (3, 20, 3), (9, 20, 3)])
async def test_a_walk_after_three_visits_or_more_starts_three_early(
    fake: FakeDistinct, client: DistinctClient, known: int, page_size: int, early: int
) -> None:
    fake.add_touchpoint("tp-1", visits=make_visits(90))
    visits = fake.visits("tp-1")

    pager = client.total_visits(
        "tp-1", offset=40, after=visits[40 - known : 40], page_size=page_size
    )

    assert await pager.collect() == visits[40:]
    starts = [int(request.parameters["offset"]) for request in fake.requests]
    assert starts == [*range(40 - early, 89, page_size - 1)]


async def test_small_pages_share_one_visit_though_more_are_known() -> None:
    server = ListServer(make_visits(60))

    pager = server.pager(offset=40, after=server.visits[32:40], page_size=7)

    assert await pager.collect() == server.visits[40:]
    assert [offset for offset, _ in server.requests] == [39, 45, 51, 57]


async def test_pages_of_a_list_with_identical_neighbours_share_three_visits() -> None:
    visits = make_visits(300)
    visits[11] = visits[10]
    server = ListServer(visits)

    assert await server.pager(page_size=50, prefetch=1).collect() == visits
    assert [offset for offset, _ in server.requests] == [0, 47, 94, 141, 188, 235, 282]


async def test_a_walk_that_is_resumed_passes_a_deleted_visit() -> None:
    server = ListServer(make_visits(90))
    known = server.visits[32:40]
    rest = server.visits[40:]
    del server.visits[39]

    pager = server.pager(offset=40, after=known, total=90, page_size=20)
    pages = [page async for page in pager.pages()]

    assert [visit for page in pages for visit in page.items] == rest
    assert (pages[0].offset, pages[0].shift) == (39, -1)


@pytest.mark.parametrize("inserted", [0, 1])
async def test_an_expected_visit_that_was_deleted_is_an_error(inserted: int) -> None:
    server = ListServer(make_visits(90))
    known = server.visits[32:40]
    del server.visits[39]
    # With a visit inserted, the others are where they were, but those before them are not.
    server.visits[:0] = [Visit("new", START)] * inserted

    pager = server.pager(offset=40, after=known, page_size=20)
    with pytest.raises(ListChangedError):
        await pager.collect()
