"""Where the fake server's visits come from: recorded one by one, or computed from their index."""

import random
from bisect import bisect, insort
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Protocol

import attrs

from distinct_async import Visit


class VisitSource(Protocol):
    """The visits of a touchpoint, in the order in which the server lists them."""

    def count(self, *, unique: bool) -> int:
        """Return how many there are."""
        ...

    def slice(self, start: int, stop: int, *, unique: bool) -> Sequence[Visit]:
        """Return those from index `start` to before `stop`."""
        ...

    def add(self, visit: Visit) -> None:
        """Record one more."""
        ...


class RecordedVisits:
    """Visits in a list, ordered by time."""

    def __init__(self, visits: Iterable[Visit] = ()) -> None:
        self._visits: list[Visit] = []
        self._firsts: list[Visit] = []
        self._first_of: dict[str, Visit] = {}
        for visit in visits:
            self.add(visit)

    def count(self, *, unique: bool) -> int:
        """Return how many there are."""
        return len(self._firsts if unique else self._visits)

    def slice(self, start: int, stop: int, *, unique: bool) -> Sequence[Visit]:
        """Return those from index `start` to before `stop`."""
        return (self._firsts if unique else self._visits)[start:stop]

    def add(self, visit: Visit) -> None:
        """Record one more, where its time puts it."""
        insort(self._visits, visit, key=_timestamp)
        earlier = self._first_of.get(visit.user_id)
        if earlier is not None:
            if earlier.timestamp <= visit.timestamp:
                return
            self._firsts.remove(earlier)
        self._first_of[visit.user_id] = visit
        insort(self._firsts, visit, key=_timestamp)


def _timestamp(visit: Visit) -> datetime:
    return visit.timestamp


# A Monday.
_START = datetime(2024, 1, 1, tzinfo=UTC)
_SECONDS_APART = 613
_VISITS_PER_USER = 3

# How busy the hours of a day are, and the days of a week: people come at noon and after work.
_HOURS = (1, 1, 0, 0, 0, 1, 2, 5, 8, 7, 8, 12, 16, 13, 9, 8, 10, 14, 17, 15, 11, 7, 4, 2)
_DAYS = (4, 4, 4, 5, 7, 9, 6)
_HOUR = 3600
_WEEK = 7 * 24 * _HOUR
_BUSY = [*accumulate((day * hour for day in _DAYS for hour in _HOURS), initial=0)]
# Where each hour of the week begins when the visits are as far apart as if all were as busy.
_BEGINS = [busy * _WEEK / _BUSY[-1] for busy in _BUSY]


@attrs.define
class SyntheticVisits:
    """Visits that are computed from their index, so that any number of them takes no memory.

    Every third visit is a user's first; the others are by users who came before. There are about
    a thousand a week, most of them at noon and after work. `scan` appends recorded ones.
    """

    total: int
    seed: int
    _extra: list[Visit] = attrs.field(factory=list[Visit], init=False)

    @property
    def _users(self) -> int:
        return -(-self.total // _VISITS_PER_USER)

    def count(self, *, unique: bool) -> int:
        """Return how many there are."""
        if not unique:
            return self.total + len(self._extra)
        return self._users + len(self._new_users())

    def slice(self, start: int, stop: int, *, unique: bool) -> Sequence[Visit]:
        """Return those from index `start` to before `stop`."""
        step = _VISITS_PER_USER if unique else 1
        computed = self._users if unique else self.total
        visits = [self._visit(i * step) for i in range(start, min(stop, computed))]
        extra = self._new_users() if unique else self._extra
        return visits + extra[max(0, start - computed) : max(0, stop - computed)]

    def add(self, visit: Visit) -> None:
        """Record one more, after all others."""
        self._extra.append(visit)

    def _new_users(self) -> list[Visit]:
        firsts: dict[str, Visit] = {}
        for visit in self._extra:
            number = visit.user_id.removeprefix("user-")
            if not number.isdecimal() or int(number) >= self._users:
                firsts.setdefault(visit.user_id, visit)
        return list(firsts.values())

    def _visit(self, index: int) -> Visit:
        newest, repeat = divmod(index, _VISITS_PER_USER)
        noise = _mix(index + self.seed * 0x9E3779B9)
        user = noise % (newest + 1) if repeat else newest
        seconds = _when_busy(index * _SECONDS_APART + noise % _SECONDS_APART)
        return Visit(f"user-{user}", _START + timedelta(seconds=seconds))


def _when_busy(seconds: int) -> int:
    """Move a moment to where in its week as many visits come before it, if hours differ."""
    week, within = divmod(seconds, _WEEK)
    hour = bisect(_BEGINS, within) - 1
    passed = (within - _BEGINS[hour]) / (_BEGINS[hour + 1] - _BEGINS[hour])
    return week * _WEEK + hour * _HOUR + int(passed * _HOUR)


def _mix(number: int) -> int:
    """Scatter an integer over 32 bits: a number that looks random and is always the same."""
    number = ((number >> 16) ^ number) * 0x45D9F3B & 0xFFFFFFFF
    number = ((number >> 16) ^ number) * 0x45D9F3B & 0xFFFFFFFF
    return (number >> 16) ^ number


def share_out(total: int, shares: int, *, seed: int) -> list[int]:
    """Divide `total` visits unevenly among touchpoints, as real placements get them."""
    weights = [random.Random(f"{seed}/{i}").uniform(0.2, 1.8) for i in range(shares)]  # noqa: S311
    *reached, whole = 0.0, *accumulate(weights)
    bounds = [int(total * weight / whole) for weight in reached] + [total]
    return [after - before for before, after in pairwise(bounds)]


def find_user(source: VisitSource, user_id: str) -> list[datetime]:
    """Return when a user scanned, by looking through all visits: slow where there are many."""
    visits = source.slice(0, source.count(unique=False), unique=False)
    return [visit.timestamp for visit in visits if visit.user_id == user_id]
