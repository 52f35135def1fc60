"""What the files of an export hold, whatever their format."""

from collections import Counter
from datetime import datetime
from typing import Final, Self

import attrs

from distinct_async import TouchpointSummary, VisitsType

VISIT_COLUMNS: Final = ("touchpoint_id", "user_id", "timestamp", "offset")


@attrs.frozen(kw_only=True)
class ExportedTouchpoint:
    """A row of ``touchpoints.<format>``.

    Attributes:
        touchpoint_id: The touchpoint's id.
        name: Its display name.
        value: Its identifier value.
        total_visits: The server's count of all scans; None where it was not asked for.
        unique_visits: Its count of distinct users, likewise.
    """

    touchpoint_id: str
    name: str
    value: str
    total_visits: int | None = None
    unique_visits: int | None = None

    @classmethod
    def of(cls, summary: TouchpointSummary) -> Self:
        """Make the row of a touchpoint that was listed."""
        return cls(
            touchpoint_id=summary.id,
            name=summary.name,
            value=summary.value,
            total_visits=summary.total_visits,
            unique_visits=summary.unique_visits,
        )

    def count(self, visits_type: VisitsType) -> int | None:
        """Return how many visits of this type the server counted."""
        return self.unique_visits if visits_type is VisitsType.UNIQUE else self.total_visits

    def updating(self, known: "ExportedTouchpoint | None") -> "ExportedTouchpoint":
        """Return this, with the counts that it lacks taken from what was known before."""
        if known is None:
            return self
        total, unique = self.total_visits, self.unique_visits
        return attrs.evolve(
            self,
            total_visits=known.total_visits if total is None else total,
            unique_visits=known.unique_visits if unique is None else unique,
        )


TOUCHPOINT_COLUMNS: Final = tuple(field.name for field in attrs.fields(ExportedTouchpoint))


@attrs.define
class Tally:
    """What is counted of visits.

    Attributes:
        visits: How many there are.
        users: Who made them.
        hours: How many there are per weekday (0 is Monday) and hour, in UTC.
        moments: When the earliest and the latest were; empty without visits.
    """

    visits: int = 0
    users: set[str] = attrs.field(factory=set[str])
    hours: Counter[tuple[int, int]] = attrs.field(factory=Counter[tuple[int, int]])
    moments: tuple[datetime, ...] = ()

    def add(self, other: "Tally") -> None:
        """Count those of another tally, too."""
        self.visits += other.visits
        self.users |= other.users
        self.hours.update(other.hours)
        moments = self.moments + other.moments
        self.moments = (min(moments), max(moments)) if moments else ()
