"""The fake server's visits: recorded one by one, or computed from their index."""

import random
from bisect import bisect, insort
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Final, Protocol

import attrs

from distinct_async import Visit


class VisitSource(Protocol):
    """A touchpoint's visits, in the order in which the server lists them."""

    def count(self, *, unique: bool) -> int:
        """Return the number of visits, or of users if `unique`."""
        ...

    def slice(self, start: int, stop: int, *, unique: bool) -> Sequence[Visit]:
        """Return the visits from index `start` up to `stop`, first visits only if `unique`."""
        ...

    def add(self, visit: Visit) -> None:
        """Add a visit."""
        ...


class RecordedVisits:
    """Visits in a list, sorted by time."""

    def __init__(self, visits: Iterable[Visit] = ()) -> None:
        self._visits: list[Visit] = []
        self._first_visits: list[Visit] = []
        self._first_visit_by_user: dict[str, Visit] = {}
        for visit in visits:
            self.add(visit)

    def count(self, *, unique: bool) -> int:
        """Return the number of visits, or of users if `unique`."""
        return len(self._listed(unique=unique))

    def slice(self, start: int, stop: int, *, unique: bool) -> Sequence[Visit]:
        """Return the visits from index `start` up to `stop`, first visits only if `unique`."""
        return self._listed(unique=unique)[start:stop]

    def add(self, visit: Visit) -> None:
        """Add a visit at its place in time."""
        insort(self._visits, visit, key=_timestamp)
        earliest = self._first_visit_by_user.get(visit.user_id)
        if earliest is not None:
            if earliest.timestamp <= visit.timestamp:
                return
            self._first_visits.remove(earliest)
        self._first_visit_by_user[visit.user_id] = visit
        insort(self._first_visits, visit, key=_timestamp)

    def _listed(self, *, unique: bool) -> list[Visit]:
        return self._first_visits if unique else self._visits


def _timestamp(visit: Visit) -> datetime:
    return visit.timestamp


_VISITS_PER_USER: Final = 3
_SECONDS_BETWEEN_VISITS: Final = 613
_FIRST_MONDAY: Final = datetime(2024, 1, 1, tzinfo=UTC)
_SECONDS_PER_HOUR: Final = 3600
_SECONDS_PER_WEEK: Final = 7 * 24 * _SECONDS_PER_HOUR

# Relative traffic per hour and per weekday: people scan at noon, after work and on Saturdays.
_HOUR_WEIGHTS: Final = (
    *(1, 1, 0, 0, 0, 1, 2, 5, 8, 7, 8, 12),
    *(16, 13, 9, 8, 10, 14, 17, 15, 11, 7, 4, 2),
)
_DAY_WEIGHTS: Final = (4, 4, 4, 5, 7, 9, 6)
_TRAFFIC: Final = [
    *accumulate((day * hour for day in _DAY_WEIGHTS for hour in _HOUR_WEIGHTS), initial=0)
]
# Seconds of evenly spaced traffic before each hour of the week.
_HOUR_STARTS: Final = [traffic * _SECONDS_PER_WEEK / _TRAFFIC[-1] for traffic in _TRAFFIC]


@attrs.define
class SyntheticVisits:
    """Visits computed from their index, so that any number of them needs no memory.

    Every third visit is a user's first; the others are repeat visits of earlier users. There are
    about a thousand a week, most of them at noon and after work. Added visits follow at the end.

    Attributes:
        total: Number of computed visits.
        seed: The same seed produces the same visits.
    """

    total: int
    seed: int
    _added: list[Visit] = attrs.field(factory=list[Visit], init=False)

    def count(self, *, unique: bool) -> int:
        """Return the number of visits, or of users if `unique`."""
        return self._computed(unique=unique) + len(self._appended(unique=unique))

    def slice(self, start: int, stop: int, *, unique: bool) -> Sequence[Visit]:
        """Return the visits from index `start` up to `stop`, first visits only if `unique`."""
        step = _VISITS_PER_USER if unique else 1
        computed = self._computed(unique=unique)
        visits = [self._visit(index * step) for index in range(start, min(stop, computed))]
        appended = self._appended(unique=unique)
        return visits + appended[max(0, start - computed) : max(0, stop - computed)]

    def add(self, visit: Visit) -> None:
        """Append a visit, regardless of its time."""
        self._added.append(visit)

    def _computed(self, *, unique: bool) -> int:
        return -(-self.total // _VISITS_PER_USER) if unique else self.total

    def _appended(self, *, unique: bool) -> list[Visit]:
        return self._first_visits_of_new_users() if unique else self._added

    def _first_visits_of_new_users(self) -> list[Visit]:
        first_visits: dict[str, Visit] = {}
        for visit in self._added:
            number = visit.user_id.removeprefix("user-")
            if not number.isdecimal() or int(number) >= self._computed(unique=True):
                first_visits.setdefault(visit.user_id, visit)
        return list(first_visits.values())

    def _visit(self, index: int) -> Visit:
        newest_user, repeat = divmod(index, _VISITS_PER_USER)
        noise = _hash32(index + self.seed * 0x9E3779B9)
        user = noise % (newest_user + 1) if repeat else newest_user
        evenly_spaced = index * _SECONDS_BETWEEN_VISITS + noise % _SECONDS_BETWEEN_VISITS
        seconds = _follow_traffic(evenly_spaced)
        return Visit(f"user-{user}", _FIRST_MONDAY + timedelta(seconds=seconds))


def _follow_traffic(seconds: int) -> int:
    """Move an evenly spaced moment within its week so that busy hours get more visits."""
    week, second_of_week = divmod(seconds, _SECONDS_PER_WEEK)
    hour = bisect(_HOUR_STARTS, second_of_week) - 1
    start, end = _HOUR_STARTS[hour], _HOUR_STARTS[hour + 1]
    second_of_hour = int((second_of_week - start) / (end - start) * _SECONDS_PER_HOUR)
    return week * _SECONDS_PER_WEEK + hour * _SECONDS_PER_HOUR + second_of_hour


def _hash32(number: int) -> int:
    """Return a repeatable pseudo-random 32-bit integer."""
    number = ((number >> 16) ^ number) * 0x45D9F3B & 0xFFFFFFFF
    number = ((number >> 16) ^ number) * 0x45D9F3B & 0xFFFFFFFF
    return (number >> 16) ^ number


def split_unevenly(total: int, parts: int, *, seed: int) -> list[int]:
    """Split `total` visits among touchpoints of different popularity."""
    weights = [random.Random(f"{seed}/{part}").uniform(0.2, 1.8) for part in range(parts)]  # noqa: S311
    *cumulative, whole = 0.0, *accumulate(weights)
    bounds = [int(total * weight / whole) for weight in cumulative] + [total]
    return [stop - start for start, stop in pairwise(bounds)]


def scan_times(source: VisitSource, user_id: str) -> list[datetime]:
    """Return the times of a user's visits. Reads every visit of the source."""
    visits = source.slice(0, source.count(unique=False), unique=False)
    return [visit.timestamp for visit in visits if visit.user_id == user_id]
