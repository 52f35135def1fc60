"""The values that the client returns."""

import copy
import gc
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import msgspec
import pytest

from distinct_async import (
    ExperienceMetrics,
    Touchpoint,
    TouchpointPage,
    TouchpointSummary,
    UserMetrics,
    UserTouchpoint,
    Visit,
    VisitPage,
    VisitsType,
)

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
SUMMARY = TouchpointSummary("tp-1", "Entry", "entry", 3, 2)
VISIT = Visit("user-1", NOON)
# Type checkers do not see that attrs knows the class as well.
ATTRS_VISIT: Any = VISIT
ATTRS_VISIT_CLASS: Any = Visit


def page(offset: int, items: int, total: int) -> VisitPage:
    touchpoint = Touchpoint("tp-1", "Entry", "entry")
    return VisitPage(touchpoint, VisitsType.TOTAL, total, (VISIT,) * items, offset, 50)


VALUES = [
    VISIT,
    Touchpoint("tp-1", "Entry", "entry"),
    SUMMARY,
    ExperienceMetrics(1, (SUMMARY,)),
    UserMetrics(1, (UserTouchpoint("tp-1", "Entry", "entry", 1, (NOON,)),)),
    page(0, 2, 5),
    TouchpointPage(3, (SUMMARY,), 1),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_hashable_copyable_and_without_dict(value: Any) -> None:
    assert copy.deepcopy(value) == value
    assert len({value, copy.copy(value)}) == 1
    assert not hasattr(value, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, attrs.fields(type(value))[0].name, None)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_values_survive_pickling(value: Any, protocol: int) -> None:
    twin = pickle.loads(pickle.dumps(value, protocol))

    assert type(twin) is type(value)
    assert twin == value
    assert hash(twin) == hash(value)


# --- Visits, which msgspec decodes and attrs describes


def test_a_visit_is_a_struct_that_the_garbage_collector_does_not_track() -> None:
    assert isinstance(VISIT, msgspec.Struct)
    assert not gc.is_tracked(VISIT)


def test_a_visit_takes_its_fields_by_position_or_by_name() -> None:
    assert Visit(user_id="user-1", timestamp=NOON) == VISIT
    assert repr(VISIT) == f"Visit(user_id='user-1', timestamp={NOON!r})"


def test_visits_are_equal_only_if_both_fields_are() -> None:
    assert Visit("user-2", NOON) != VISIT
    assert Visit("user-1", NOON + timedelta(seconds=1)) != VISIT
    assert ATTRS_VISIT != ("user-1", NOON)
    assert {VISIT: "found"}[Visit("user-1", NOON)] == "found"


def test_every_field_of_a_visit_is_frozen() -> None:
    for field in attrs.fields(ATTRS_VISIT_CLASS):
        with pytest.raises(AttributeError):
            setattr(VISIT, field.name, None)
        with pytest.raises(AttributeError):
            delattr(VISIT, field.name)
    with pytest.raises(AttributeError):
        VISIT.note = "new"  # type: ignore[attr-defined]


def test_a_visit_matches_patterns_by_position_and_by_name() -> None:
    match VISIT:
        case Visit(user_id, timestamp):
            assert (user_id, timestamp) == ("user-1", NOON)
        case _:
            pytest.fail("the positional pattern did not match")
    match VISIT:
        case Visit(user_id="user-2"):
            pytest.fail("a pattern for another user matched")
        case Visit(user_id="user-1", timestamp=timestamp):
            assert timestamp == NOON


def test_attrs_describes_a_visit() -> None:
    assert attrs.has(Visit)
    assert [field.name for field in attrs.fields(ATTRS_VISIT_CLASS)] == ["user_id", "timestamp"]
    assert attrs.asdict(ATTRS_VISIT) == {"user_id": "user-1", "timestamp": NOON}
    assert attrs.astuple(ATTRS_VISIT) == ("user-1", NOON)


def test_attrs_evolves_a_visit() -> None:
    later = NOON + timedelta(hours=1)

    assert attrs.evolve(ATTRS_VISIT, timestamp=later) == Visit("user-1", later)
    assert Visit("user-1", NOON) == VISIT
    with pytest.raises(TypeError):
        attrs.evolve(ATTRS_VISIT, nothing=None)


def test_attrs_descends_from_a_page_into_its_visits() -> None:
    described = attrs.asdict(page(0, 2, 5))

    assert described["items"] == ({"user_id": "user-1", "timestamp": NOON},) * 2


# --- Pages and visits types


@pytest.mark.parametrize(
    ("offset", "items", "total", "expected"),
    [
        (0, 2, 5, 2),
        (3, 2, 5, None),
        (2, 2, 5, 4),
        (0, 0, 0, None),
        (2, 0, 5, None),
        (9, 0, 5, None),
    ],
)
def test_next_offset_is_where_the_next_page_begins(
    offset: int, items: int, total: int, expected: int | None
) -> None:
    assert page(offset, items, total).next_offset == expected
    assert TouchpointPage(total, (SUMMARY,) * items, offset).next_offset == expected


def test_visits_types_equal_their_strings() -> None:
    assert VisitsType("UNIQUE") is VisitsType.UNIQUE
    assert VisitsType.TOTAL == "TOTAL"


@pytest.mark.parametrize(
    ("start", "end", "shift"), [(0, 3, 0), (1, 3, 0), (0, 2, 0), (1, 9, 2), (0, 3, -1), (3, 3, 4)]
)
def test_a_part_of_a_page_keeps_everything_but_the_items_left_out(
    start: int, end: int, shift: int
) -> None:
    visits = tuple(Visit(f"user-{number}", NOON) for number in range(3))
    whole = attrs.evolve(page(10, 0, 20), items=visits)
    part = attrs.evolve(whole, items=visits[start:end], offset=10 + start, shift=shift)
    assert whole.part(start, end, shift=shift) == part
    # Walks deliver most pages as they are.
    assert (whole.part(start, end, shift=shift) is whole) is (part == whole)

    summaries = tuple(attrs.evolve(SUMMARY, id=f"tp-{number}") for number in range(3))
    listed = TouchpointPage(20, summaries, 10)
    assert listed.part(start, end, shift=shift) == TouchpointPage(
        20, summaries[start:end], 10 + start, shift
    )
