import copy
import pickle
from datetime import UTC, datetime
from typing import Any

import attrs
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
def test_values_are_frozen_hashable_picklable_and_without_dict(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value
    assert len({value, copy.copy(value)}) == 1
    assert not hasattr(value, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, attrs.fields(type(value))[0].name, None)


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
def test_next_offset(offset: int, items: int, total: int, expected: int | None) -> None:
    assert page(offset, items, total).next_offset == expected
    assert TouchpointPage(total, (SUMMARY,) * items, offset).next_offset == expected


def test_plain_strings_are_visits_types() -> None:
    assert VisitsType("UNIQUE") is VisitsType.UNIQUE
    assert VisitsType.TOTAL == "TOTAL"
