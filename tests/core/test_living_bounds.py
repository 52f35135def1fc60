"""What walks cost: requests and repeated items, on still lists and on those that change."""

import asyncio
from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.living_judge import GOOD
from tests.support.living_list import LivingList, PastEnd
from tests.support.living_walk import LivingWalk, most_requests, walk_over

# Extra requests that finding a place again may cost after visits were deleted.
DELETION_COST = 4

counts = st.integers(0, 150)
page_sizes = st.integers(1, 12)
prefetches = st.sampled_from([1, 2, 4, 16])
past_ends = st.sampled_from(["empty", "400", "404", "416", "clamped"])


def read(walk: LivingWalk, *, first: int = 0, then: Callable[[], None] = lambda: None) -> None:
    """Read `first` pages, do something, and read the rest."""

    async def run() -> None:
        await walk.advance(first)
        then()
        await walk.finish()
        await walk.aclose()

    asyncio.run(run())
    assert walk.error is None
    assert walk.verdict() == GOOD


@given(counts, page_sizes, prefetches, past_ends)
@example(150, 1, 16, "400")
@example(50, 5, 4, "clamped")
def test_a_walk_over_a_list_that_stands_still_shares_one_item_a_page(
    count: int, page_size: int, prefetch: int, past_end: PastEnd
) -> None:
    living = LivingList(count, past_end=past_end)
    walk = walk_over(living, page_size=page_size, prefetch=prefetch)
    read(walk)

    progress = walk.progress
    assert progress.delivered == living.visits
    assert not any(progress.shifts)
    assert len(walk.desk.requests) <= most_requests(count, max(2, page_size))
    received = sum(len(answer.items) for answer in progress.record.answers)
    assert received - count <= len(walk.desk.requests)
    assert all(size is not None and size <= max(2, page_size) for _, size in walk.desk.requests)


@given(counts, st.integers(1, 200), st.none() | page_sizes, prefetches)
@example(30, 1, 10, 4)
def test_a_clamped_page_size_costs_no_more_than_its_pages(
    count: int, largest: int, page_size: int | None, prefetch: int
) -> None:
    living = LivingList(count, default_page=7, largest_page=largest)
    walk = walk_over(living, page_size=page_size, prefetch=prefetch)
    read(walk)

    assert walk.progress.delivered == living.visits
    # A walk asks for two if it should ask for one, and learns what it gets from the first answer.
    size = min(largest, max(2, page_size or 7))
    assert len(walk.desk.requests) <= most_requests(count, size) + 1


@given(counts, st.integers(0, 160), st.integers(0, 60), page_sizes, prefetches, st.integers(0, 3))
def test_an_offset_and_a_limit_deliver_exactly_that_part(
    count: int, offset: int, limit: int, page_size: int, prefetch: int, known: int
) -> None:
    living = LivingList(count)
    offset = min(offset, count)
    walk = walk_over(
        living, offset=offset, known=known, limit=limit, page_size=page_size, prefetch=prefetch
    )
    read(walk)

    assert walk.progress.delivered == living.visits[offset : offset + limit]
    part = min(limit, count - offset)
    assert len(walk.desk.requests) <= most_requests(part + known, max(2, page_size)) + (known > 1)
    assert limit or not walk.desk.requests


@given(st.integers(20, 150), st.integers(2, 12), st.integers(1, 6), st.integers(1, 11), st.data())
def test_an_insertion_of_less_than_a_page_costs_no_request(
    count: int, page_size: int, pages: int, inserted: int, data: st.DataObject
) -> None:
    living = LivingList(count)
    old, inserted = living.visits, min(inserted, page_size - 1)
    walk = walk_over(living, page_size=page_size)

    def insert() -> None:
        read_so_far = max(1, len(walk.progress.delivered) - 2 * page_size)
        living.insert(data.draw(st.integers(0, read_so_far - 1)), inserted)

    read(walk, first=pages, then=insert)

    assert walk.progress.delivered == old
    unseen = len(walk.progress.record.answers) and sum(walk.progress.shifts)
    assert unseen in {0, inserted}
    assert len(walk.desk.requests) <= most_requests(count + inserted, page_size)


@given(st.integers(20, 150), st.integers(3, 12), st.integers(1, 6), st.integers(1, 11), st.data())
def test_a_deletion_of_less_than_a_page_costs_a_few_requests(
    count: int, page_size: int, pages: int, deleted: int, data: st.DataObject
) -> None:
    living = LivingList(count)
    old, deleted = living.visits, min(deleted, page_size - 1)
    walk = walk_over(living, page_size=page_size)

    def delete() -> None:
        read_so_far = max(1, len(walk.progress.delivered) - 2 * page_size)
        living.delete(data.draw(st.integers(0, read_so_far - 1)), deleted)

    read(walk, first=pages, then=delete)

    missing = set(old) - set(walk.progress.delivered)
    assert not missing or missing <= set(old) - set(living.visits)
    assert len(walk.desk.requests) <= most_requests(count, page_size) + DELETION_COST


jitters = st.sampled_from([(0, 1), (1, 0), (0, -1), (1, 0, -1), (-1, 1)])


@given(jitters, counts, st.integers(2, 12), prefetches, past_ends)
def test_a_jittering_total_changes_nothing_of_what_is_delivered(
    jitter: tuple[int, ...], count: int, page_size: int, prefetch: int, past_end: PastEnd
) -> None:
    living = LivingList(count, jitter=jitter, past_end=past_end)
    walk = walk_over(living, page_size=page_size, prefetch=prefetch)
    read(walk)

    assert not any(walk.progress.shifts)
