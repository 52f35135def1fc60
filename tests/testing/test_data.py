"""The visits of the fake server: recorded and synthetic."""

from datetime import UTC, datetime, timedelta

import pytest

from distinct_async import Visit
from distinct_async.testing.data import RecordedVisits, SyntheticVisits

START = datetime(2024, 1, 1, 10, tzinfo=UTC)


def test_recorded_visits_are_sorted_and_the_first_of_each_user_is_known() -> None:
    days = [Visit("a", START.replace(day=day)) for day in (3, 1, 2)]
    source = RecordedVisits(days)
    source.add(Visit("b", START.replace(day=2)))

    assert [v.timestamp.day for v in source.slice(0, 9, unique=False)] == [1, 2, 2, 3]
    firsts = [(v.user_id, v.timestamp.day) for v in source.slice(0, 9, unique=True)]
    assert firsts == [("a", 1), ("b", 2)]
    assert (source.count(unique=False), source.count(unique=True)) == (4, 2)


@pytest.mark.parametrize("total", [0, 1, 2, 3, 4, 100, 1_000])
def test_synthetic_slices_counts_and_first_visits_are_consistent(total: int) -> None:
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


def test_visits_added_to_synthetic_ones_follow_at_the_end() -> None:
    source = SyntheticVisits(10, seed=0)
    later = source.slice(9, 10, unique=False)[0].timestamp + timedelta(days=1)
    for user in ("user-0", "anna", "user-99", "anna"):
        source.add(Visit(user, later))

    assert [v.user_id for v in source.slice(9, 99, unique=False)][1:] == [
        *("user-0", "anna", "user-99", "anna")
    ]
    assert [v.user_id for v in source.slice(3, 99, unique=True)] == ["user-3", "anna", "user-99"]
    assert (source.count(unique=False), source.count(unique=True)) == (14, 6)


def test_the_same_seed_produces_the_same_visits() -> None:
    first, second = SyntheticVisits(50, seed=1), SyntheticVisits(50, seed=2)
    assert first.slice(0, 50, unique=False) == SyntheticVisits(50, seed=1).slice(
        0, 50, unique=False
    )
    assert first.slice(0, 50, unique=False) != second.slice(0, 50, unique=False)
