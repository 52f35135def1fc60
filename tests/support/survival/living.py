"""Walks over a list that changes meanwhile, and the judge of what they deliver."""

import random
from array import array
from collections.abc import Callable, Iterable
from typing import Final

import attrs
from typing_extensions import override

from distinct_async import DistinctError, ListChangedError, Pager, RetryPolicy, Visit, VisitPage
from tests.support.faults import FAULTS
from tests.support.helpers import spin
from tests.support.raw_server import Exchange, RawServer
from tests.support.survival.server import VisitServer, make_client, render_page, shows_key

_PREFIX: Final = "visit-"
# With retries, searches for the place, and pages that were fetched ahead in vain.
_REQUESTS_PER_PAGE: Final = 3


class LivingList:
    """A list of numbered visits that changes at random places.

    At first, visit n is the nth. Every visit that is added later has the next number, wherever it
    is added. The version of the list is the number of changes so far.

    Args:
        visits: Number of visits at first.
        seed: The seed of the places.

    Attributes:
        visits: The list as it is now.
        first: Number of visits at first.
        appended: The visits that were added at the end.
        inserted: The visits that were added elsewhere.
        deleted: Number of visits deleted.
    """

    def __init__(self, visits: int, *, seed: int) -> None:
        self.visits = array("i", range(visits))
        self.first = visits
        self.appended: set[int] = set()
        self.inserted: set[int] = set()
        self.deleted = 0
        # The place and the visit of each change, and whether it was added.
        self._log: list[tuple[int, int, bool]] = []
        self._random = random.Random(seed)

    @property
    def version(self) -> int:
        return len(self._log)

    @property
    def issued(self) -> int:
        """Number of visits that the list ever held."""
        return self.first + len(self.appended) + len(self.inserted)

    def append(self) -> None:
        self.appended.add(self._add(len(self.visits)))

    def insert(self) -> None:
        self.inserted.add(self._add(self._random.randint(0, len(self.visits))))

    def delete(self) -> None:
        if not self.visits:
            return
        place = self._random.randrange(len(self.visits))
        self._log.append((place, self.visits.pop(place), False))
        self.deleted += 1

    def _add(self, place: int) -> int:
        visit = self.issued
        self.visits.insert(place, visit)
        self._log.append((place, visit, True))
        return visit

    def as_of(self, version: int) -> "array[int]":
        """Return the list as it was, by undoing all later changes."""
        visits = self.visits[:]
        for place, visit, added in reversed(self._log[version:]):
            if added:
                del visits[place]
            else:
                visits.insert(place, visit)
        return visits


class LivingServer(VisitServer):
    """Serves a list that changes before each request.

    Args:
        living: The list.
        changes: What may happen to it, with the number of times per request.
        seed: The seed of the faults and of the order of changes.
        rate: Share of the responses that are faulty.
        turns: Event-loop turns that a request waits at most before it is answered.
    """

    def __init__(
        self,
        living: LivingList,
        changes: dict[Callable[[], None], float],
        *,
        seed: int = 0,
        rate: float = 0.0,
        turns: int = 0,
    ) -> None:
        super().__init__(living.first, seed=seed, rate=rate, faults=FAULTS)
        self._living = living
        self._changes = changes
        self._turns = turns
        self._chance = random.Random(seed)

    @override
    async def __call__(self, exchange: Exchange) -> None:
        await spin(self._chance.randint(0, self._turns))
        await super().__call__(exchange)

    @override
    def page(self, touchpoint_id: str, offset: int, size: int) -> bytes:
        self._change()
        visits = self._living.visits
        return render_page(
            touchpoint_id,
            visits[offset : offset + size],
            offset=offset,
            total=len(visits),
            page_size=size,
            # Tells the judge when the page was read.
            value=str(self._living.version),
        )

    def _change(self) -> None:
        requests = self.requests
        due = [
            change
            for change, rate in self._changes.items()
            for _ in range(int(requests * rate) - int((requests - 1) * rate))
        ]
        self._chance.shuffle(due)
        for change in due:
            change()


@attrs.frozen(kw_only=True)
class LivingFigures:
    """The results of a walk over a living list.

    Attributes:
        inserted: Number of visits inserted during the walk.
        deleted: Number of visits deleted.
        appended: Number of visits appended.
        delivered: Number of visits delivered.
        lost: Number of visits that stayed in the list from the first request to the end of the
            walk, and were not delivered.
        repeated: Number of visits delivered again.
        out_of_order: Number of visits delivered after one that stands behind them in the list.
        missed_appends: Number of visits that were appended before the last page was read, have
            stayed since, and were not delivered.
        foreign: Number of visits delivered that the list never held.
        unseen: Number of visits that were not delivered because they were inserted where the walk
            had passed, or deleted before it did. Those count that the list had when the last page
            was read.
        gone: Number of visits that were delivered, and were not in the list at that moment.
        shift: The sum of all pages' shifts, which is the difference of these two.
        lost_places: Number of errors that say that the place cannot be found again. They end the
            walk, so all that follows is lost.
        gave_up: Number of other errors, after which the walk was resumed.
        leaks: Number of errors that show the key.
        requests: Number of requests that the server received.
        spoilt: Number of responses that were faults.
    """

    inserted: int
    deleted: int
    appended: int
    delivered: int
    lost: int
    repeated: int
    out_of_order: int
    missed_appends: int
    foreign: int
    unseen: int
    gone: int
    shift: int
    lost_places: int = 0
    gave_up: int = 0
    leaks: int = 0
    requests: int = 0
    spoilt: int = 0


class Judge:
    """Compares the pages that a walk delivers with the list.

    Args:
        living: The list that is walked.
    """

    def __init__(self, living: LivingList) -> None:
        self._living = living
        self._delivered = array("i")
        self._foreign = 0
        self._shift = 0
        self._version = 0

    def add(self, page: VisitPage) -> None:
        """Count a page."""
        numbers = [_number(visit) for visit in page.items]
        issued = self._living.issued
        known = [number for number in numbers if number is not None and number < issued]
        self._delivered.extend(known)
        self._foreign += len(numbers) - len(known)
        self._shift += page.shift
        self._version = int(page.touchpoint.value)

    def figures(self, **counts: int) -> LivingFigures:
        """Compare all pages with the list."""
        living = self._living
        earlier = living.as_of(self._version)
        seen, then, now = map(self._marks, (self._delivered, earlier, living.visits))
        passed = _until_last(earlier, seen)
        return LivingFigures(
            inserted=len(living.inserted),
            deleted=living.deleted,
            appended=len(living.appended),
            delivered=len(self._delivered),
            lost=sum(now[v] and not seen[v] for v in range(living.first)),
            repeated=len(self._delivered) - sum(seen),
            out_of_order=_out_of_order(self._delivered, living.visits, living.issued),
            missed_appends=sum(then[v] and now[v] and not seen[v] for v in living.appended),
            foreign=self._foreign,
            # A page may have been read earlier than the one before, and show what that one lacked.
            unseen=sum(not seen[v] and (v in living.inserted or not now[v]) for v in passed),
            gone=sum(seen[v] and not then[v] for v in range(living.issued)),
            shift=self._shift,
            **counts,
        )

    def _marks(self, visits: Iterable[int]) -> list[bool]:
        """Return whether a visit is among these, for all that the list ever held."""
        marks = [False] * self._living.issued
        for visit in visits:
            marks[visit] = True
        return marks


def _number(visit: Visit) -> int | None:
    """Return the number of a visit; None if it has none."""
    digits = visit.user_id.removeprefix(_PREFIX)
    return int(digits) if digits.isdecimal() and visit.user_id != digits else None


def _until_last(visits: "array[int]", seen: list[bool]) -> "array[int]":
    """Return a list up to the last visit that was seen."""
    end = next((end for end in range(len(visits), 0, -1) if seen[visits[end - 1]]), 0)
    return visits[:end]


def _out_of_order(delivered: Iterable[int], visits: Iterable[int], issued: int) -> int:
    """Count visits that were first delivered after one that stands behind them."""
    places = [-1] * issued
    for place, visit in enumerate(visits):
        places[visit] = place
    count, furthest = 0, -1
    for visit in delivered:
        # Each place counts once: another delivery is a repetition. A deleted visit has none.
        place, places[visit] = places[visit], -1
        count += 0 <= place < furthest
        furthest = max(furthest, place)
    return count


async def walk_living_list(
    *,
    visits: int,
    page_size: int,
    seed: int,
    rate: float = 0.2,
    inserted: float = 0.01,
    deleted: float = 0.01,
    appended: float = 0.05,
    attempts: int = 10,
    turns: int = 0,
) -> LivingFigures:
    """Walk a list that changes meanwhile, and resume after every error.

    Args:
        visits: Number of visits at first.
        page_size: Visits per page.
        seed: The seed of changes and faults.
        rate: Share of the responses that are faulty.
        inserted: Visits to insert at random places during the walk, as a share of `visits`.
        deleted: Visits to delete at random places, likewise.
        appended: Visits to append, likewise.
        attempts: Attempts per request.
        turns: Event-loop turns that a request waits at most, so that answers overtake each other.
    """
    living = LivingList(visits, seed=seed)
    requests = visits * (1 + appended) / (page_size - 1) * _REQUESTS_PER_PAGE
    shares = {living.insert: inserted, living.delete: deleted, living.append: appended}
    changes = {change: visits * share / requests for change, share in shares.items()}
    server = LivingServer(living, changes, seed=seed, rate=rate, turns=turns)
    judge = Judge(living)
    async with RawServer() as raw, make_client(raw, RetryPolicy(attempts=attempts)) as client:
        raw.play(server)
        pager = client.total_visits("tp", page_size=page_size, prefetch=16)
        # Bounded: every error but a few must have been preceded by progress.
        endings = await _walk_on(pager, judge, walks=int(requests) + 10)
    spoilt = server.spoilt.total()
    return judge.figures(**endings, requests=server.requests, spoilt=spoilt)


async def _walk_on(pager: Pager[Visit, VisitPage], judge: Judge, *, walks: int) -> dict[str, int]:
    """Walk, resuming after every error, and count the errors."""
    counts = {"lost_places": 0, "gave_up": 0, "leaks": 0}
    for _ in range(walks):
        try:
            async for page in pager.pages():
                judge.add(page)
        except DistinctError as error:
            counts["leaks"] += shows_key(error)
            if not isinstance(error, ListChangedError):
                counts["gave_up"] += 1
                pager = pager.resume(error)
                continue
            counts["lost_places"] += 1
        return counts
    raise AssertionError("errors end the walk before it gets on")
