"""Lists that once made a walk lose or repeat a visit, end too soon, or say nothing."""

import asyncio
from collections.abc import Callable, Sequence

import attrs
import pytest

from distinct_async import DistinctError, ListChangedError, ServerError, Visit
from tests.core.living_exports import read
from tests.support.living_desk import Desk, Reader
from tests.support.living_judge import GOOD, Record
from tests.support.living_list import LivingList, PastEnd
from tests.support.living_walk import LivingWalk, walk_over


async def finish(walk: LivingWalk) -> None:
    await walk.finish()
    await walk.aclose()
    assert walk.error is None
    assert walk.verdict() == GOOD


# --- Totals


@attrs.frozen
class Jitter:
    """A list of `count` visits whose total jitters, and the deletions and appends in a walk."""

    count: int
    page_size: int
    prefetch: int
    pages: int
    deleted: int
    appended: int
    jitter: tuple[int, ...]


@pytest.mark.parametrize(
    "case",
    [
        Jitter(103, 50, 1, 1, 8, 5, (0, -1, 1, 0)),
        Jitter(22, 11, 2, 1, 4, 4, (0, -1, 1, 0)),
        Jitter(42, 20, 1, 1, 3, 1, (0, -1)),
        Jitter(34, 11, 1, 2, 3, 1, (0, 0, -1, 1)),
        Jitter(10, 4, 1, 2, 1, 2, (0, 0, -1)),
        Jitter(97, 20, 4, 3, 4, 1, (-1, 0)),
    ],
    ids=str,
)
async def test_a_jittering_total_beside_a_shift_does_not_hide_the_last_visit(case: Jitter) -> None:
    living = LivingList(case.count, jitter=case.jitter)
    walk = walk_over(living, page_size=case.page_size, prefetch=case.prefetch)

    await walk.advance(case.pages)
    living.replace(0, case.deleted, case.appended)

    await finish(walk)


@pytest.mark.parametrize("page_size", [5, 10, 50])
@pytest.mark.parametrize("jitter", [(0, -1), (0, 1), (1, 0, -1)], ids=str)
async def test_a_double_scan_at_the_end_is_delivered_beside_a_jittering_total(
    page_size: int, jitter: Sequence[int]
) -> None:
    living = LivingList(40, jitter=jitter)
    living.double(39)
    walk = walk_over(living, page_size=page_size, prefetch=4)

    await finish(walk)

    assert walk.progress.delivered == living.visits


@pytest.mark.parametrize(("count", "page_size"), [(37, 8), (12, 3), (16, 3)])
async def test_a_jittering_total_makes_no_walk_ask_for_offsets_past_the_end(
    count: int, page_size: int
) -> None:
    living = LivingList(count, jitter=(0, 1), past_end="clamped")
    walk = walk_over(living, page_size=page_size, prefetch=4)

    await finish(walk)


# --- Places


async def test_a_walk_resumed_in_the_middle_of_finding_its_place_repeats_nothing() -> None:
    for failing in range(1, 8):
        living = LivingList(40)
        walk = walk_over(living, page_size=9)
        await walk.advance(2)
        living.delete(0, 2)
        await walk.ask()
        for _ in range(failing):
            if walk.desk.waiting:
                walk.desk.answer()
                await walk.settle()
                await walk.ask()
        if walk.desk.waiting:
            walk.desk.fail(0, ServerError(503))
            await walk.settle()
        await finish(walk)


@pytest.mark.parametrize("page_size", [4, 10, 50])
@pytest.mark.parametrize("appended", [0, 3])
async def test_deleting_the_last_two_delivered_near_the_end_loses_nothing(
    page_size: int, appended: int
) -> None:
    for ahead in range(1, 2 * page_size, max(1, page_size // 5)):
        living = LivingList(2 * page_size - 1 + ahead)
        walk = walk_over(living, page_size=page_size)
        await walk.advance(2)
        living.replace(len(walk.progress.delivered) - 2, 2, appended)
        await finish(walk)


# --- Two runs


def run_after(
    living: LivingList, stored: Sequence[Visit], known: int, page_size: int = 10
) -> tuple[list[Visit], int, DistinctError | None]:
    """Walk on after what was stored; return the new visits, the shift and the error."""

    async def run() -> Reader:
        desk = Desk(Record(living))
        pager = desk.pager(offset=len(stored), after=stored[-known:], page_size=page_size)
        return await read(desk, Reader(pager.pages()))

    reader = asyncio.run(run())
    new = [visit for page in reader.read for visit in page.items]
    return new, sum(page.shift for page in reader.read), reader.error


SILENT: dict[str, Callable[[LivingList], None]] = {
    "1 inserted at the start, the last deleted": lambda living: swap(living, 1),
    "3 inserted at the start, the last 3 deleted": lambda living: swap(living, 3),
    "the last 3 moved to the start": lambda living: living.reorder("rotate", 96),
}


def swap(living: LivingList, count: int) -> None:
    living.insert(0, count)
    living.delete(len(living.visits) - count, count)


@pytest.mark.parametrize("known", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("change", SILENT)
def test_a_run_notices_that_what_it_stored_last_is_elsewhere(change: str, known: int) -> None:
    living = LivingList(100)
    stored = living.visits
    SILENT[change](living)
    assert len(living.visits) == len(stored)

    new, shift, error = run_after(living, stored, known)

    assert isinstance(error, ListChangedError) or shift
    assert not set(new) & set(stored)


@pytest.mark.parametrize("known", [1, 3, 5, 8])
@pytest.mark.parametrize("page_size", [3, 10, 50])
def test_a_run_does_not_repeat_what_is_stored_after_an_insertion(
    page_size: int, known: int
) -> None:
    for inserted in {1, page_size - 2, page_size - 1, page_size, 3 * page_size}:
        for before in (1, 2):
            living = LivingList(100)
            stored = living.visits
            living.insert(100 - before, inserted)

            new, shift, error = run_after(living, stored, known, page_size)

            assert isinstance(error, ListChangedError) or (new, shift) == ([], inserted)


@pytest.mark.parametrize("past_end", ["empty", "clamped"])
@pytest.mark.parametrize("left", [0, 5, 50, 90, 99])
def test_a_run_over_a_list_that_has_shrunk_says_so(past_end: PastEnd, left: int) -> None:
    living = LivingList(100, past_end=past_end)
    stored = living.visits
    living.delete(0, 100 - left)

    new, shift, error = run_after(living, stored, 3)

    assert new == []
    assert isinstance(error, ListChangedError) or shift == left - 100
