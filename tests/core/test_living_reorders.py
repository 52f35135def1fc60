"""Walks over a list that is rearranged once: an error, and nothing repeated or misplaced.

What cannot be known: a rearrangement that leaves the visit in its place that two pages share, and
one that looks like deletions at the start and the same visits appended (a rotation).
"""

import asyncio

from hypothesis import assume, given
from hypothesis import strategies as st

from distinct_async import ListChangedError
from tests.support.living_judge import GOOD
from tests.support.living_list import LivingList, Reorder
from tests.support.living_walk import LivingWalk, walk_over

page_sizes = st.integers(2, 12)
prefetches = st.sampled_from([1, 4, 16])


def read_around(walk: LivingWalk, pages: int, how: Reorder, seed: int = 0) -> None:
    """Read pages, rearrange the list, and read the rest."""
    living = walk.progress.living

    async def run() -> None:
        await walk.advance(pages)
        read = {visit for answer in walk.progress.record.answers for visit in answer.items}
        ahead = len(living.visits) - len(read)
        # In the middle of a list that is reversed, the shared visit stays in its place.
        assume(ahead > 0 and (how != "reverse" or len(read) != ahead + 1))
        living.reorder(how, seed)
        await walk.finish()
        await walk.aclose()

    asyncio.run(run())


# In a short list, a few visits stay near each other by chance, and prove a place that is none.
@given(
    st.integers(200, 400), st.integers(8, 20), prefetches, st.integers(1, 6), st.integers(0, 999)
)
def test_a_shuffled_list_is_an_error(
    count: int, page_size: int, prefetch: int, pages: int, seed: int
) -> None:
    walk = walk_over(LivingList(count), page_size=page_size, prefetch=prefetch)
    before = walk.progress.living.visits
    read_around(walk, pages, "shuffle", seed)

    delivered = walk.progress.delivered
    assert isinstance(walk.error, ListChangedError)
    assert (walk.error.next_offset, walk.error.resume_point) == (None, None)
    assert delivered == before[: len(delivered)]


@given(st.integers(20, 120), page_sizes, prefetches, st.integers(1, 6))
def test_a_reversed_list_is_an_error(count: int, page_size: int, prefetch: int, pages: int) -> None:
    walk = walk_over(LivingList(count), page_size=page_size, prefetch=prefetch)
    before = walk.progress.living.visits
    read_around(walk, pages, "reverse")

    delivered = walk.progress.delivered
    assert isinstance(walk.error, ListChangedError)
    assert delivered == before[: len(delivered)]


@given(st.integers(20, 120), page_sizes, st.integers(1, 6), st.integers(0, 99))
def test_a_rotation_is_a_deletion_and_an_append(
    count: int, page_size: int, pages: int, seed: int
) -> None:
    living = LivingList(count)
    walk = walk_over(living, page_size=page_size)
    before = living.visits

    async def run() -> None:
        await walk.advance(pages)
        living.replace(0, 1 + seed % (page_size - 1), 1)
        await walk.finish()
        await walk.aclose()

    asyncio.run(run())
    assert walk.verdict() == GOOD
    delivered = walk.progress.delivered
    assert delivered[:count] == before[: len(delivered)]
