"""Walks over lists that change meanwhile, at a small size, and the judge of those walks."""

import attrs
import pytest

from distinct_async import Touchpoint, Visit, VisitPage, VisitsType
from tests.support import survival
from tests.support.list_server import START
from tests.support.raw_server import RawServer
from tests.support.survival import Judge, LivingFigures, LivingList, LivingServer, make_client

pytestmark = pytest.mark.slow

_FAILURES = ("lost", "repeated", "out_of_order", "missed_appends", "foreign", "lost_places")


def failures(figures: LivingFigures) -> dict[str, int]:
    """Return what a right walk has none of."""
    counts = {name: getattr(figures, name) for name in _FAILURES}
    counts["unaccounted"] = figures.unseen - figures.gone - figures.shift
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize(
    "turns",
    [pytest.param(0, id="answers in order"), pytest.param(30, id="answers overtake each other")],
)
async def test_a_walk_over_a_living_list_loses_and_repeats_nothing(turns: int) -> None:
    figures = await survival.walk_living_list(
        visits=2_500, page_size=20, seed=1, inserted=0.03, deleted=0.03, appended=0.1, turns=turns
    )

    assert failures(figures) == {}
    assert min(figures.inserted, figures.deleted, figures.unseen, figures.gone) > 20
    assert figures.appended > 100
    assert figures.gave_up > 1
    assert figures.leaks == 0


# --- The judge detects errors


async def test_the_judge_fails_a_walk_without_shared_items() -> None:
    living = LivingList(2_000, seed=1)
    # One change of each kind every two requests.
    changes = dict.fromkeys((living.insert, living.delete, living.append), 0.5)
    judge, offset, total = Judge(living), 0, 1
    async with RawServer() as raw, make_client(raw) as client:
        raw.play(LivingServer(living, changes))
        while offset < total:
            page = await client.touchpoint_metrics("tp", offset=offset, page_size=20)
            judge.add(page)
            offset, total = offset + len(page.items), page.total
    figures = judge.figures()

    assert failures(figures).keys() >= {"lost", "repeated", "unaccounted"}


def page_of(living: LivingList, *numbers: int, shift: int = 0) -> VisitPage:
    """Return a page that was read just now."""
    touchpoint = Touchpoint("tp", "Door", str(living.version))
    visits = tuple(Visit(f"visit-{number}", START) for number in numbers)
    return VisitPage(touchpoint, VisitsType.TOTAL, 10, visits, 0, 50, shift)


def judged(living: LivingList, *pages: VisitPage) -> dict[str, int]:
    """Return the failures of a walk that delivers these pages."""
    judge = Judge(living)
    for page in pages:
        judge.add(page)
    return failures(judge.figures())


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 1, 2, 3, 4], {}),
        ([0, 1, 3, 4], {"lost": 1}),
        ([0, 1, 2], {"lost": 2}),
        ([0, 1, 1, 2, 3, 4, 0], {"repeated": 2}),
        ([3, 4, 0, 1, 2], {"out_of_order": 3}),
        ([0, 1, 2, 3, 4, 5], {"foreign": 1}),
        ([], {"lost": 5}),
    ],
)
def test_the_judge_compares_what_was_delivered_with_the_list(
    numbers: list[int], expected: dict[str, int]
) -> None:
    living = LivingList(5, seed=1)

    assert judged(living, page_of(living, *numbers)) == expected


def test_the_judge_expects_appended_visits_that_the_last_page_could_show() -> None:
    living = LivingList(3, seed=1)
    living.append()
    page = page_of(living, 0, 1, 2)
    living.append()

    assert judged(living, page) == {"missed_appends": 1}
    assert judged(living, attrs.evolve(page, items=page_of(living, 0, 1, 2, 3).items)) == {}


def test_the_judge_expects_shifts_to_account_for_what_changed_behind_the_walk() -> None:
    living = LivingList(50, seed=1)
    first = page_of(living, *living.visits[:40])
    for _ in range(10):
        living.insert()
        living.insert()
        living.delete()
    seen = {*range(40)}
    # The walk goes on after the last delivered visit that is still there.
    place = max(index for index, visit in enumerate(living.visits) if visit in seen) + 1
    rest, shift = living.visits[place:], place - 40
    second = page_of(living, *rest, shift=shift)
    living.insert()

    assert shift > 0
    assert judged(living, first, second) == {}
    assert judged(living, first, attrs.evolve(second, shift=shift + 2)) == {"unaccounted": -2}


def test_a_living_list_remembers_how_it_was() -> None:
    living = LivingList(20, seed=1)
    versions = [[*living.visits]]
    for change in (living.insert, living.delete, living.append, living.delete, living.insert) * 4:
        change()
        versions.append([*living.visits])

    assert [[*living.as_of(version)] for version in range(len(versions))] == versions
