"""The model itself: its judge fails walks that lose, repeat or misplace visits."""

from collections.abc import Callable

import attrs
import pytest

from distinct_async import DistinctError, StatusError, Visit, VisitPage
from tests.support.living_judge import GOOD, Record, Verdict
from tests.support.living_list import LivingList, PastEnd

SIZE = 5


def walk_naively(living: LivingList, at: dict[int, Callable[[], None]]) -> Verdict:
    """Judge a walk that advances by what it got and trusts that neighbouring pages fit.

    Args:
        living: The list.
        at: What to do before the nth request.
    """
    record, delivered = Record(living), list[Visit]()
    for number in range(100):
        at.get(number, lambda: None)()
        page = living.page(len(delivered), SIZE)
        if isinstance(page, DistinctError) or not page.items:
            break
        record.add(page, living.version)
        delivered.extend(page.items)
    return record.judge(delivered, complete=True)


def test_a_naive_walk_over_a_list_that_stands_still_or_grows_is_good() -> None:
    living = LivingList(23)
    assert walk_naively(living, {}) == GOOD
    assert walk_naively(LivingList(0), {}) == GOOD
    living = LivingList(23)
    assert walk_naively(living, {4: lambda: living.append(9)}) == GOOD
    assert len(living.visits) == 32


def test_a_naive_walk_repeats_what_an_insertion_moves() -> None:
    living = LivingList(23)
    old = living.visits
    verdict = walk_naively(living, {2: lambda: living.insert(0, 3)})
    assert verdict == Verdict(repeated=tuple(old[7:10]), disordered=tuple(old[7:9]))


def test_a_naive_walk_loses_what_a_deletion_moves() -> None:
    living = LivingList(23)
    old = living.visits
    assert walk_naively(living, {2: lambda: living.delete(0, 2)}).lost == tuple(old[10:12])

    living = LivingList(23)
    verdict = walk_naively(living, {2: lambda: living.replace(0, 1, 1)})
    assert verdict == Verdict(lost=(old[10],))


def test_a_walk_that_misses_what_was_appended_before_it_read_the_end_is_judged_so() -> None:
    living, record = LivingList(5), Record(LivingList(5))
    record.living = living
    living.append(2)
    add(record, 0, 5)
    add(record, 5, 5)
    # It came too late for the walk.
    living.append(1)

    assert record.judge(living.visits[:5], complete=True) == Verdict(lost=(*living.visits[5:7],))
    assert record.judge(living.visits[:7], complete=True) == GOOD
    assert record.judge(living.visits, complete=True).repeated == (living.visits[7],)


def test_a_visit_inserted_behind_a_walk_may_be_missing_and_one_ahead_must_not() -> None:
    living = LivingList(8)
    old, record = living.visits, Record(living)
    add(record, 0, 4)
    living.insert(1, 1)
    add(record, 4, 5)
    assert record.judge(old, complete=True) == GOOD

    living = LivingList(8)
    old, record = living.visits, Record(living)
    add(record, 0, 4)
    living.insert(6, 1)
    add(record, 3, 6)
    new = living.visits[6]
    assert record.judge(old, complete=True) == Verdict(lost=(new,))
    assert record.judge([*old[:6], new, *old[6:]], complete=True) == GOOD


def test_a_walk_in_the_wrong_order_is_judged_so() -> None:
    living = LivingList(6)
    record, visits = Record(living), living.visits
    add(record, 0, 6)

    swapped = [*visits[:2], visits[3], visits[2], *visits[4:]]
    assert record.judge(swapped, complete=True) == Verdict(disordered=(visits[2],))


def test_a_walk_that_ended_early_owes_only_what_comes_before_its_last_visit() -> None:
    living = LivingList(9)
    record, visits = Record(living), living.visits
    add(record, 0, 5)
    add(record, 4, 5)

    assert record.judge(visits[:5], complete=False) == GOOD
    assert record.judge([*visits[:4], visits[5]], complete=False) == Verdict(lost=(visits[4],))


def test_identical_visits_are_counted() -> None:
    living = LivingList(3)
    living.double(1)
    first, double, _, last = living.visits
    record = Record(living)
    add(record, 0, 4)

    assert record.judge([first, double, double, last], complete=True) == GOOD
    assert record.judge([first, double, last], complete=True).lost == (double,)
    assert record.judge([first, *[double] * 3, last], complete=True).repeated == (double,)


def add(record: Record, offset: int, size: int) -> None:
    page = record.living.page(offset, size)
    assert isinstance(page, VisitPage)
    record.add(page, record.living.version)


# --- When a walk may give up


@attrs.frozen
class Burst:
    """What happens to 60 visits of which 20 were delivered, in pages of 5."""

    name: str
    change: Callable[[LivingList], None]
    must_go_on: bool


BURSTS = (
    Burst("an insertion of less than a page", lambda living: living.insert(3, 4), True),
    Burst("a deletion of less than a page", lambda living: living.delete(17, 3), True),
    Burst("three pages inserted at the start", lambda living: living.insert(0, 15), True),
    Burst("two pages deleted at the start", lambda living: living.delete(0, 10), True),
    Burst("many pages inserted at the start", lambda living: living.insert(0, 40), False),
    Burst("two pages deleted where the walk is", lambda living: living.delete(12, 10), False),
    Burst("everything deleted", lambda living: living.delete(0, 60), False),
    Burst("a shuffle", lambda living: living.reorder("shuffle"), False),
)


@pytest.mark.parametrize("burst", BURSTS, ids=lambda burst: burst.name)
def test_a_walk_may_give_up_only_after_more_than_it_must_bear(burst: Burst) -> None:
    living = LivingList(60)
    record, delivered = Record(living), living.visits[:20]
    for offset in range(0, 20, SIZE):
        add(record, offset, SIZE)

    burst.change(living)

    assert record.must_go_on(delivered, SIZE, held=4) == burst.must_go_on


# --- The list


@pytest.mark.parametrize(
    ("past_end", "status"), [("400", 400), ("404", 404), ("416", 416)], ids=str
)
def test_a_list_may_refuse_offsets_past_its_end(past_end: PastEnd, status: int) -> None:
    living = LivingList(10, past_end=past_end)
    refused = living.page(10, 5)
    assert isinstance(refused, StatusError)
    assert refused.status == status
    assert isinstance(living.page(9, 5), VisitPage)
    # A list without visits is a page without items.
    assert isinstance(LivingList(0, past_end=past_end).page(0, 5), VisitPage)


def test_a_list_may_clamp_offsets_and_sizes_and_miscount() -> None:
    living = LivingList(10, past_end="clamped", largest_page=4, jitter=[0, 1, -1])
    pages = [living.page(30, 9) for _ in range(3)]
    assert all(isinstance(page, VisitPage) for page in pages)
    shown = [(p.offset, len(p.items), p.total) for p in pages if isinstance(p, VisitPage)]
    assert shown == [(6, 4, 10), (6, 4, 11), (6, 4, 9)]


def test_a_shuffle_leaves_nothing_in_its_place() -> None:
    for seed in range(20):
        living = LivingList(9)
        before = living.visits
        living.reorder("shuffle", seed)
        assert sorted(living.visits, key=str) == sorted(before, key=str)
        assert all(a != b for a, b in zip(before, living.visits, strict=True))
