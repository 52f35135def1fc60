"""Walks over lists that change while they are read, over real sockets.

1,000 visits in pages of 50, as total and as unique visits; alone and side by side; one page at a
time and many.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import pytest
from typing_extensions import override

from distinct_async import (
    DecodeError,
    DistinctError,
    IncompleteListError,
    RepeatedPageError,
    Visit,
    VisitPage,
    VisitsType,
)
from tests.support.living_judge import GOOD
from tests.support.living_list import LivingList, PastEnd
from tests.support.living_sockets import LivingTouchpoint, Outcome, serving, walk_all

VISITS = 1_000
PAGES = 21  # of 50 visits, of which one is shared
SIDE_BY_SIDE = 3


@attrs.frozen
class Way:
    """A way to walk: what, how many pages ahead, and how many touchpoints."""

    visits_type: VisitsType
    prefetch: int
    touchpoints: int

    def lists(self, **options: Any) -> list[LivingList]:
        return [
            LivingList(VISITS, touchpoint_id=f"tp-{i}", visits_type=self.visits_type, **options)
            for i in range(self.touchpoints)
        ]


def ways() -> Iterator[Way]:
    for visits_type in VisitsType:
        for prefetch in (1, 4, 16):
            for touchpoints in (1, SIDE_BY_SIDE):
                yield Way(visits_type, prefetch, touchpoints)


def name_of(way: Way) -> str:
    return f"{way.visits_type}-{way.prefetch}-{way.touchpoints}"


every_way = pytest.mark.parametrize("way", list(ways()), ids=name_of)
# Enough where nothing is in flight that could make a difference.
some_ways = pytest.mark.parametrize(
    "way",
    [Way(VisitsType.TOTAL, 1, 1), Way(VisitsType.UNIQUE, 4, SIDE_BY_SIDE)],
    ids=name_of,
)


@attrs.frozen
class Row:
    """What happens to a list at a request, and by how much that shifts the walk."""

    name: str
    change: Callable[[LivingList], None]
    shift: int
    appended: int = 0
    extra_requests: int = 0


ROWS = (
    Row("3 inserted at the start", lambda living: living.insert(0, 3), 3),
    Row("a late scan", lambda living: living.insert(120, 1), 1),
    Row("1 deleted", lambda living: living.delete(120, 1), -1, 0, 4),
    Row("1 deleted and 1 appended at once", lambda living: living.replace(120, 1, 1), -1, 1, 4),
    Row("1 deleted and 5 appended at once", lambda living: living.replace(120, 1, 5), -1, 5, 4),
    Row("a page inserted at the start", lambda living: living.insert(0, 50), 50, 0, 4),
    Row("120 inserted at the start", lambda living: living.insert(0, 120), 120, 0, 6),
    Row("5 appended", lambda living: living.append(5), 0, 5),
)


@every_way
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_change_at_the_eleventh_page_loses_and_repeats_nothing(way: Way, row: Row) -> None:
    touchpoints = [LivingTouchpoint(living, {11: row.change}) for living in way.lists()]
    before = [living.visits for living in way.lists()]

    async with serving(*touchpoints) as client:
        outcomes = await walk_all(client, *touchpoints, prefetch=way.prefetch)

    for touchpoint, outcome, old in zip(touchpoints, outcomes, before, strict=True):
        assert outcome.error is None
        assert outcome.judged_by(touchpoint.record) == GOOD
        assert outcome.visits[:VISITS] == old
        assert len(outcome.visits) == VISITS + row.appended
        assert outcome.shift == row.shift
        assert touchpoint.requests <= PAGES + 1 + row.extra_requests


@every_way
async def test_several_shifts_in_one_walk_lose_and_repeat_nothing(way: Way) -> None:
    def changes() -> dict[int, Callable[[LivingList], None]]:
        return {
            4: lambda living: living.insert(0, 3),
            8: lambda living: living.delete(10, 2),
            11: lambda living: living.replace(20, 1, 2),
            15: lambda living: living.insert(5, 60),
            18: lambda living: living.delete(0, 30),
        }

    touchpoints = [LivingTouchpoint(living, changes()) for living in way.lists()]
    async with serving(*touchpoints) as client:
        outcomes = await walk_all(client, *touchpoints, prefetch=way.prefetch)

    for touchpoint, outcome in zip(touchpoints, outcomes, strict=True):
        assert outcome.error is None
        assert outcome.judged_by(touchpoint.record) == GOOD
        assert (len(outcome.visits), outcome.shift) == (VISITS + 2, 3 - 2 - 1 + 60 - 30)


@every_way
@pytest.mark.parametrize(("before", "appended"), [(0, 0), (1, 1)])
async def test_deleting_the_last_delivered_visits_loses_and_repeats_nothing(
    way: Way, before: int, appended: int
) -> None:
    touchpoints = [LivingTouchpoint(living) for living in way.lists()]
    by_id = {touchpoint.living.touchpoint.id: touchpoint for touchpoint in touchpoints}
    taken = dict.fromkeys(by_id, 0)

    def take(page: VisitPage) -> None:
        touchpoint_id = page.touchpoint.id
        taken[touchpoint_id] += 1
        if taken[touchpoint_id] == 10:
            living = by_id[touchpoint_id].living
            living.replace(living.visits.index(page.items[-1 - before]), 1 + before, appended)

    async with serving(*touchpoints) as client:
        outcomes = await walk_all(client, *touchpoints, prefetch=way.prefetch, taken=take)

    for touchpoint, outcome in zip(touchpoints, outcomes, strict=True):
        assert outcome.error is None
        assert outcome.judged_by(touchpoint.record) == GOOD
        # With 16 pages ahead, the rest may have been read before the change.
        if way.prefetch < 16:
            assert (len(outcome.visits), outcome.shift) == (VISITS + appended, -1 - before)


# --- Answers that are not the list's


@some_ways
async def test_a_page_of_another_touchpoint_is_requested_again(way: Way) -> None:
    touchpoints = [
        LivingTouchpoint(living, answer_for=lambda number: "stranger" if number == 11 else None)
        for living in way.lists()
    ]
    async with serving(*touchpoints) as client:
        outcomes = await walk_all(client, *touchpoints, prefetch=way.prefetch)

    for touchpoint, outcome in zip(touchpoints, outcomes, strict=True):
        assert (outcome.error, outcome.shift) == (None, 0)
        assert outcome.visits == touchpoint.living.visits
        assert touchpoint.requests == PAGES + 1


@some_ways
async def test_pages_of_another_touchpoint_are_never_delivered(way: Way) -> None:
    touchpoints = [
        LivingTouchpoint(living, answer_for=lambda number: "stranger" if number >= 11 else None)
        for living in way.lists()
    ]
    async with serving(*touchpoints) as client:
        outcomes = await walk_all(client, *touchpoints, prefetch=way.prefetch)

    for touchpoint, outcome in zip(touchpoints, outcomes, strict=True):
        assert isinstance(outcome.error, DecodeError)
        assert outcome.error.path == "data.touchpoints.id"
        assert outcome.error.touchpoint_id == touchpoint.living.touchpoint.id
        assert outcome.error.next_offset == len(outcome.visits) > 0
        assert outcome.visits == touchpoint.living.visits[: len(outcome.visits)]


@pytest.mark.parametrize("prefetch", [1, 4, 16])
@pytest.mark.parametrize("touchpoints", [1, SIDE_BY_SIDE])
async def test_total_visits_under_the_keys_of_unique_ones_are_never_delivered(
    prefetch: int, touchpoints: int
) -> None:
    lists = Way(VisitsType.TOTAL, prefetch, touchpoints).lists()
    for living in lists:
        living.double(7)
    repeating = [LivingTouchpoint(each, unchecked_key=VisitsType.UNIQUE) for each in lists]
    async with serving(*repeating) as client:
        outcomes = await walk_all(client, *repeating, prefetch=prefetch)

    for outcome in outcomes:
        assert isinstance(outcome.error, DecodeError)
        assert outcome.error.path == "data.touchpoints.uniqueVisitsDetails.items[8].userId"
        assert outcome.visits == []


# --- Totals


@some_ways
@pytest.mark.parametrize("jitter", [(0, 1), (0, -1), (1, 0, -1), (-1, 1)], ids=str)
async def test_a_jittering_total_loses_and_repeats_nothing(way: Way, jitter: Sequence[int]) -> None:
    touchpoints = [LivingTouchpoint(living) for living in way.lists(jitter=jitter)]
    async with serving(*touchpoints) as client:
        outcomes = await walk_all(client, *touchpoints, prefetch=way.prefetch)

    for touchpoint, outcome in zip(touchpoints, outcomes, strict=True):
        assert (outcome.error, outcome.shift) == (None, 0)
        assert outcome.visits == touchpoint.living.visits


@some_ways
async def test_a_total_that_is_always_too_large_is_an_error_at_the_end(way: Way) -> None:
    touchpoints = [LivingTouchpoint(living) for living in way.lists(jitter=(1,))]
    async with serving(*touchpoints) as client:
        outcomes = await walk_all(client, *touchpoints, prefetch=way.prefetch)

    for touchpoint, outcome in zip(touchpoints, outcomes, strict=True):
        assert isinstance(outcome.error, IncompleteListError)
        assert outcome.visits == touchpoint.living.visits


@every_way
@pytest.mark.parametrize("behind", [1, 2])
async def test_replicas_that_lag_behind_lose_and_repeat_nothing(way: Way, behind: int) -> None:
    touchpoints = [
        LivingTouchpoint(
            living,
            {number: lambda living: living.append(1) for number in (1, 2, 9, 14)},
            lag=lambda number: behind * (number % 2),
        )
        for living in way.lists()
    ]
    async with serving(*touchpoints) as client:
        outcomes = await walk_all(client, *touchpoints, prefetch=way.prefetch)

    for touchpoint, outcome in zip(touchpoints, outcomes, strict=True):
        assert (outcome.error, outcome.shift) == (None, 0)
        assert outcome.visits == touchpoint.living.visits


# --- Past the end

past_ends = pytest.mark.parametrize("past_end", ["empty", "400", "404", "416", "clamped"])
both_types = pytest.mark.parametrize("visits_type", VisitsType)


async def resumed(
    touchpoint: LivingTouchpoint, offset: int, after: Visit | Sequence[Visit]
) -> Outcome:
    """Walk on from an offset, as the next run after one that stored everything before it."""
    async with serving(touchpoint) as client:
        unique = touchpoint.living.visits_type is VisitsType.UNIQUE
        visits = client.unique_visits if unique else client.total_visits
        outcome = Outcome()
        try:
            async for page in visits("tp-0", offset=offset, after=after, page_size=50).pages():
                outcome.pages.append(page)
        except DistinctError as error:
            outcome.error = error
        return outcome


@past_ends
@both_types
@pytest.mark.parametrize("known", [1, 3])
async def test_a_walk_with_nothing_new_is_one_request(
    past_end: PastEnd, visits_type: VisitsType, known: int
) -> None:
    living = LivingList(100, touchpoint_id="tp-0", visits_type=visits_type, past_end=past_end)
    touchpoint = LivingTouchpoint(living)

    outcome = await resumed(touchpoint, 100, living.visits[-known:])

    assert outcome.error is None
    assert [(page.items, page.total, page.shift) for page in outcome.pages] == [((), 100, 0)]
    assert touchpoint.requests == 1


@past_ends
@both_types
async def test_a_walk_resumed_at_the_old_end_delivers_what_was_appended(
    past_end: PastEnd, visits_type: VisitsType
) -> None:
    living = LivingList(100, touchpoint_id="tp-0", visits_type=visits_type, past_end=past_end)
    last = living.visits[-1]
    living.append(60)
    touchpoint = LivingTouchpoint(living)

    outcome = await resumed(touchpoint, 100, last)

    assert (outcome.error, outcome.shift) == (None, 0)
    assert outcome.visits == living.visits[100:]
    assert touchpoint.requests == 2


@past_ends
@both_types
async def test_a_walk_resumed_beyond_a_list_that_has_shrunk_finds_its_place(
    past_end: PastEnd, visits_type: VisitsType
) -> None:
    living = LivingList(100, touchpoint_id="tp-0", visits_type=visits_type, past_end=past_end)
    last = living.visits[-3:]
    living.delete(20, 10)
    living.append(4)

    outcome = await resumed(LivingTouchpoint(living), 100, last)

    assert (outcome.error, outcome.shift) == (None, -10)
    assert outcome.visits == living.visits[90:]


@both_types
@pytest.mark.parametrize("prefetch", [1, 4, 16])
async def test_a_server_that_ignores_the_offset_is_an_error(
    visits_type: VisitsType, prefetch: int
) -> None:
    class Stuck(LivingTouchpoint):
        @override
        def answer(self, offset: int, size: int) -> tuple[str, bytes]:
            status, body = super().answer(0, size)
            return status, body.replace(b'"offset": 0', b'"offset": %d' % offset)

    living = LivingList(VISITS, touchpoint_id="tp-0", visits_type=visits_type)
    async with serving(stuck := Stuck(living)) as client:
        (outcome,) = await walk_all(client, stuck, prefetch=prefetch)

    assert isinstance(outcome.error, RepeatedPageError)
    assert outcome.visits == living.visits[:50]
