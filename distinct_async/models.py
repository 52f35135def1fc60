"""The API's values: frozen, picklable and free of I/O."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol, Self, TypeAlias

import attrs
import msgspec
from typing_extensions import TypeVar

T_co = TypeVar("T_co", covariant=True)


class VisitsType(StrEnum):
    """Which visits of a touchpoint: every scan, or each user's first."""

    TOTAL = "TOTAL"
    UNIQUE = "UNIQUE"


AnyVisitsType: TypeAlias = VisitsType | Literal["TOTAL", "UNIQUE"]
"""What arguments named ``visits_type`` accept."""


# Walks create millions of these, so msgspec fills them straight from the document's names, and
# the garbage collector does not track them: they cannot be part of a reference cycle. The decorator
# only registers them with attrs, so that `fields`, `asdict` and `evolve` work as on other values.
@attrs.frozen(
    these={"user_id": attrs.field(), "timestamp": attrs.field()},
    init=False,
    repr=False,
    eq=False,
    slots=False,
    match_args=False,
)
class Visit(
    msgspec.Struct,
    frozen=True,
    gc=False,
    rename={"user_id": "userId", "timestamp": "timestampUTC"},
):
    """One counted scan; among unique visits, a user's first.

    msgspec encodes and decodes it under the API document's names, attrs under its own.

    Attributes:
        user_id: The user who scanned.
        timestamp: The time of the scan, in UTC (always aware).
    """

    user_id: str
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]


@attrs.frozen
class Touchpoint:
    """A scannable QR placement.

    Attributes:
        id: The touchpoint's id.
        name: Its display name.
        value: Its identifier value, such as ``entry_scan``.
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
        total_visits: All scans, including repeats by the same user.
        unique_visits: Distinct users who scanned.
    """

    id: str
    name: str
    value: str
    total_visits: int
    unique_visits: int


@attrs.frozen
class ExperienceMetrics:
    """The touchpoints of an experience, from one response.

    Attributes:
        total_touchpoints: Touchpoints in the experience; may exceed what this response lists.
        touchpoints: The touchpoints this response lists.
    """

    total_touchpoints: int
    touchpoints: tuple[TouchpointSummary, ...]


@attrs.frozen
class UserTouchpoint:
    """A touchpoint that a user scanned.

    Attributes:
        id: The touchpoint's id.
        name: Its display name.
        value: Its identifier value.
        total_visits: How many times this user scanned it.
        timestamps: The times of the scans, in UTC, in the server's order.
    """

    id: str
    name: str
    value: str
    total_visits: int
    timestamps: tuple[datetime, ...]


@attrs.frozen
class UserMetrics:
    """A user's scans within an experience.

    Attributes:
        total_touchpoints: Touchpoints the user scanned, by the server's count.
        touchpoints: The touchpoints the server lists.
    """

    total_touchpoints: int
    touchpoints: tuple[UserTouchpoint, ...]


class Page(Protocol[T_co]):
    """One page of a list."""

    @property
    def total(self) -> int:
        """The server's count of items across all pages."""
        ...

    @property
    def items(self) -> tuple[T_co, ...]:
        """The items on this page."""
        ...

    @property
    def offset(self) -> int:
        """Index of the first item."""
        ...

    @property
    def shift(self) -> int:
        """By how many items the list has shifted since the page before."""
        ...

    def part(self, start: int, end: int, *, shift: int = 0) -> Self:
        """Return the page without the items before `start` and from `end` on."""
        ...


P = TypeVar("P", bound=Page[Any], default=Page[Any])
P_co = TypeVar("P_co", bound=Page[Any], default=Page[Any], covariant=True)


def _following_offset(offset: int, received: int, total: int) -> int | None:
    end = offset + received
    # An empty page has no successor even before the total, or a hand-written loop would request
    # the same offset forever.
    return end if received and end < total else None


@attrs.frozen
class VisitPage:
    """One response of a touchpoint's visits.

    Attributes:
        touchpoint: The touchpoint.
        visits_type: Which visits these are.
        total: The server's count of visits across all pages.
        items: The visits on this page.
        offset: Index of the first item, in the list as it was when this page was read.
        page_size: Items per page, as the server reports it.
        shift: By how many visits the list has shifted since the page before. If positive, so many
            were inserted where the walk had already passed, and are not delivered; if negative,
            so many were deleted there.
    """

    touchpoint: Touchpoint
    visits_type: VisitsType
    total: int
    items: tuple[Visit, ...]
    offset: int
    page_size: int
    shift: int = 0

    @property
    def next_offset(self) -> int | None:
        """Offset of the following page; None after the last page or an empty one."""
        return _following_offset(self.offset, len(self.items), self.total)

    def part(self, start: int, end: int, *, shift: int = 0) -> "VisitPage":
        """Return the page without the items before `start` and from `end` on.

        Args:
            start: Index of the first item to keep, counted from the start of the page.
            end: Index after the last item to keep.
            shift: The new page's `shift`.
        """
        if not start and not shift and end >= len(self.items):
            return self
        return VisitPage(
            self.touchpoint,
            self.visits_type,
            self.total,
            self.items[start:end],
            self.offset + start,
            self.page_size,
            shift,
        )


@attrs.frozen
class TouchpointPage:
    """One response of an experience's touchpoints.

    Attributes:
        total: Touchpoints in the experience.
        items: The touchpoints on this page.
        offset: Index of the first item, in the list as it was when this page was read.
        shift: By how many touchpoints the list has shifted since the page before, as for visits.
    """

    total: int
    items: tuple[TouchpointSummary, ...]
    offset: int
    shift: int = 0

    @property
    def next_offset(self) -> int | None:
        """Offset of the following page; None after the last page or an empty one."""
        return _following_offset(self.offset, len(self.items), self.total)

    def part(self, start: int, end: int, *, shift: int = 0) -> "TouchpointPage":
        """Return the page without some of its items, as `VisitPage.part` does."""
        return TouchpointPage(self.total, self.items[start:end], self.offset + start, shift)


@attrs.frozen(kw_only=True)
class ClientStats:
    """A snapshot of a client's activity.

    Attributes:
        in_flight: HTTP attempts that hold one of the `Limits.concurrency` slots.
        waiting: Requests that have started but hold no slot: queued, paused or between attempts.
        tasks: Background tasks of walks and fan-outs.
        retries: Attempts made after the first of their request, since the client was made.
        retry_budget: Tokens left in the retry budget; a retry costs 5.
        pace: Attempts per second that are allowed at present, as learned from the server or set by
            `Limits.requests_per_second`; None for no limit.
        paused_for: Seconds until the next attempt may start, because the server asked for a pause.
    """

    in_flight: int
    waiting: int
    tasks: int
    retries: int
    retry_budget: int
    pace: float | None
    paused_for: float
