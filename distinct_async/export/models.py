"""The values that exported files hold, independent of their format."""

from collections import Counter
from datetime import datetime
from typing import Self

import attrs

from distinct_async import TouchpointSummary, Visit, VisitPage, VisitsType


@attrs.frozen(kw_only=True)
class ExportedTouchpoint:
    """A row of ``touchpoints.<format>``.

    Attributes:
        touchpoint_id: The touchpoint's id.
        name: Its display name.
        value: Its identifier value.
        total_visits: The server's count of all scans; None if unknown.
        unique_visits: The server's count of distinct users; None if unknown.
    """

    touchpoint_id: str
    name: str
    value: str
    total_visits: int | None = None
    unique_visits: int | None = None

    @classmethod
    def from_summary(cls, summary: TouchpointSummary) -> Self:
        """Create the row of a listed touchpoint."""
        return cls(
            touchpoint_id=summary.id,
            name=summary.name,
            value=summary.value,
            total_visits=summary.total_visits,
            unique_visits=summary.unique_visits,
        )

    @classmethod
    def from_page(cls, touchpoint_id: str, page: VisitPage) -> Self:
        """Create the row from a page of visits, which has only one of the counts."""
        unique = page.visits_type is VisitsType.UNIQUE
        return cls(
            touchpoint_id=touchpoint_id,
            name=page.touchpoint.name,
            value=page.touchpoint.value,
            total_visits=None if unique else page.total,
            unique_visits=page.total if unique else None,
        )

    def count(self, visits_type: VisitsType) -> int | None:
        """Return the server's count of visits of this type."""
        return self.unique_visits if visits_type is VisitsType.UNIQUE else self.total_visits

    def with_counts_from(self, older: "ExportedTouchpoint | None") -> "ExportedTouchpoint":
        """Return a copy whose unknown counts are taken from an older row."""
        if older is None:
            return self
        total, unique = self.total_visits, self.unique_visits
        return attrs.evolve(
            self,
            total_visits=older.total_visits if total is None else total,
            unique_visits=older.unique_visits if unique is None else unique,
        )


@attrs.frozen
class StoredVisit:
    """A row of a part.

    Attributes:
        offset: The visit's index in the server's list when it was exported.
        visit: The visit.
    """

    offset: int
    visit: Visit


@attrs.define
class Tally:
    """Counts over some visits.

    Attributes:
        visits: Number of visits.
        users: Ids of the users.
        hours: Number of visits per weekday (0 is Monday) and hour, in UTC.
        moments: The earliest and the latest timestamp; empty if there are no visits.
    """

    visits: int = 0
    users: set[str] = attrs.field(factory=set[str])
    hours: Counter[tuple[int, int]] = attrs.field(factory=Counter[tuple[int, int]])
    moments: tuple[datetime, ...] = ()

    def add(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self.visits += other.visits
        self.users |= other.users
        self.hours.update(other.hours)
        moments = self.moments + other.moments
        self.moments = (min(moments), max(moments)) if moments else ()
