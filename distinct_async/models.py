"""The values the API is about: frozen, picklable, free of I/O and of wire spellings."""

from datetime import datetime
from enum import StrEnum

import attrs


class VisitsType(StrEnum):
    """Which visits of a touchpoint: every scan, or each user's first."""

    TOTAL = "TOTAL"
    UNIQUE = "UNIQUE"


# Nobody has a use for weak references to it, and a walk makes millions.
@attrs.frozen(weakref_slot=False)
class Visit:
    """One counted scan; among unique visits, a user's first.

    Attributes:
        user_id: The user who scanned.
        timestamp: When, in UTC (always aware).
    """

    user_id: str
    timestamp: datetime


@attrs.frozen
class Touchpoint:
    """A scannable QR placement.

    Attributes:
        id: The touchpoint's id.
        name: Its display name.
        value: Its identifier value, like ``entry_scan``.
    """

    id: str
    name: str
    value: str


@attrs.frozen
class TouchpointSummary:
    """A touchpoint with its counts.

    Attributes:
        id: The touchpoint's id.
        name: Its display name.
        value: Its identifier value.
        total_visits: All scans, repeats by the same user included.
        unique_visits: Distinct users who scanned.
    """

    id: str
    name: str
    value: str
    total_visits: int
    unique_visits: int


@attrs.frozen
class ExperienceMetrics:
    """The touchpoints of an experience, as one response gives them.

    Attributes:
        total_touchpoints: Touchpoints in the experience, which may be more than this response has.
        touchpoints: Those of this response.
    """

    total_touchpoints: int
    touchpoints: tuple[TouchpointSummary, ...]


@attrs.frozen
class UserTouchpoint:
    """A touchpoint as one user scanned it.

    Attributes:
        id: The touchpoint's id.
        name: Its display name.
        value: Its identifier value.
        total_visits: How often this user scanned it.
        timestamps: When, in UTC, in the server's order.
    """

    id: str
    name: str
    value: str
    total_visits: int
    timestamps: tuple[datetime, ...]


@attrs.frozen
class UserMetrics:
    """What one user scanned within an experience.

    Attributes:
        total_touchpoints: Touchpoints the user scanned, by the server's count.
        touchpoints: Those it lists.
    """

    total_touchpoints: int
    touchpoints: tuple[UserTouchpoint, ...]


def _following_offset(offset: int, received: int, total: int) -> int | None:
    """Return the offset of the next page; None when there is none or the page was empty.

    An empty page has no successor even before the total: a hand-written loop would ask for it
    forever. A walk raises `IncompleteWalkError` there.
    """
    end = offset + received
    return end if received and end < total else None


@attrs.frozen
class VisitPage:
    """One response of a touchpoint's visits.

    Attributes:
        touchpoint: The touchpoint.
        visits_type: Which visits these are.
        total: The server's count of them over all pages.
        items: The visits of this page.
        offset: Index of the first of them.
        page_size: Items per page, as the server says.
    """

    touchpoint: Touchpoint
    visits_type: VisitsType
    total: int
    items: tuple[Visit, ...]
    offset: int
    page_size: int

    @property
    def next_offset(self) -> int | None:
        """Offset of the page after this one; None after the last or an empty page."""
        return _following_offset(self.offset, len(self.items), self.total)


@attrs.frozen
class TouchpointPage:
    """One response of an experience's touchpoints.

    Attributes:
        total: Touchpoints in the experience.
        items: The touchpoints of this page.
        offset: Index of the first of them.
    """

    total: int
    items: tuple[TouchpointSummary, ...]
    offset: int

    @property
    def next_offset(self) -> int | None:
        """Offset of the page after this one; None after the last or an empty page."""
        return _following_offset(self.offset, len(self.items), self.total)
