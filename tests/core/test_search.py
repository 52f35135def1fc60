"""The search for a place, request by request. Each letter is an item."""

from collections.abc import Callable

import pytest

from distinct_async import (
    DistinctError,
    ListChangedError,
    NotFoundError,
    RepeatedPageError,
    ServerError,
)
from distinct_async._place import Place
from distinct_async._search import Found, Search, is_beyond_the_end
from tests.support.list_server import LetterPage, letters

Answer = Callable[[int], LetterPage | DistinctError]


def place_at(items: str, total: int = 26) -> Place[LetterPage]:
    """Return the place after a first page with these items."""
    place: Place[LetterPage] = Place(
        offset=0,
        after=(),
        limit=None,
        key=None,
        is_full=lambda _: False,
        name="letters",
        total=None,
    )
    place.accept(letters(0, items, total), 0)
    return place


async def search(
    place: Place[LetterPage], answer: Answer, *, seen: LetterPage | None, size: int = 4
) -> tuple[Found[LetterPage] | DistinctError, list[int]]:
    """Return the outcome of a search, and the offsets of its requests."""
    offsets: list[int] = []

    async def fetch(offset: int) -> LetterPage | DistinctError:
        offsets.append(offset)
        return answer(offset)

    looked_for: Search[LetterPage] = Search(place, fetch, size=size, seen=seen)
    return await looked_for.run(), offsets


def serve(items: str, size: int = 4) -> Callable[[int], LetterPage]:
    return lambda offset: letters(offset, items[offset : offset + size], len(items))


LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("now", "found", "offsets"),
    [
        # One item was deleted: one request shows the place.
        (LETTERS.replace("b", ""), (5, "ghijkl", 2), [5]),
        # A page's worth was deleted, as the total says: it is sought there at once.
        (LETTERS[4:], (1, "fghi", 3), [1]),
        # Three were inserted, and as many deleted at the end: the page that did not fit shows the
        # place together with the one before it.
        ("123" + LETTERS[:-3], (5, "cdefgh", 6), [5]),
        # Six were inserted: the first page only hints at the place.
        ("123456" + LETTERS[:-6], (11, "fghi", 3), [5, 11]),
    ],
)
async def test_the_place_is_found_near_where_it_was(
    now: str, found: tuple[int, str, int], offsets: list[int]
) -> None:
    seen = serve(now)(7)

    outcome, requested = await search(place_at("abcdefgh"), serve(now), seen=seen)

    assert isinstance(outcome, Found)
    assert (outcome.page.offset, "".join(outcome.page.items), outcome.cut) == found
    assert requested == offsets


async def test_a_place_that_cannot_be_found_is_lost_after_a_few_requests() -> None:
    outcome, offsets = await search(
        place_at("abcdefgh"), serve("0123456789" * 10), seen=letters(7, "7890", 100)
    )

    assert isinstance(outcome, ListChangedError)
    assert len(offsets) == len(set(offsets)) <= 9


async def test_an_error_ends_the_search() -> None:
    error = ServerError(503)

    outcome, offsets = await search(place_at("abcdefgh"), lambda _: error, seen=None)

    assert (outcome, len(offsets)) == (error, 1)


@pytest.mark.parametrize("status", [400, 404, 416])
def test_some_statuses_may_mean_that_an_offset_is_beyond_the_end(status: int) -> None:
    assert is_beyond_the_end(NotFoundError(status))
    assert not is_beyond_the_end(ServerError(500))
    assert not is_beyond_the_end(ListChangedError("lost"))


@pytest.mark.parametrize("beyond", [NotFoundError(404), letters(5, "", 5)])
async def test_the_search_goes_back_before_offsets_that_are_beyond_the_end(
    beyond: LetterPage | DistinctError,
) -> None:
    now = LETTERS[3:8]

    def answer(offset: int) -> LetterPage | DistinctError:
        return serve(now)(offset) if offset < len(now) else beyond

    outcome, offsets = await search(place_at("abcdefgh"), answer, seen=None)

    assert isinstance(outcome, Found)
    assert (outcome.page.items, outcome.page.offset, outcome.cut) == (("f", "g", "h"), 2, 3)
    assert offsets == [5, 2]


async def test_a_list_that_is_gone_ends_in_the_error_that_says_so() -> None:
    gone = NotFoundError(404)

    outcome, offsets = await search(place_at("abcdefgh"), lambda _: gone, seen=None)

    assert outcome is gone
    assert len(offsets) <= 3


async def test_a_list_that_seems_shorter_is_read_again_before_that_is_believed() -> None:
    outcome, offsets = await search(
        place_at("abcdefgh"), serve("abcdefg", 8), seen=letters(7, "", 7), size=8
    )

    assert isinstance(outcome, Found)
    assert (outcome.page.items[outcome.cut - 1], outcome.page.total) == ("g", 7)
    assert len(offsets) == 4
    assert len(set(offsets)) == 1


async def test_a_replica_that_lags_behind_is_not_believed() -> None:
    answers = [letters(2, "cdefg", 7), letters(2, "cdefg", 7), letters(2, "cdefghij", 10)]

    outcome, _ = await search(
        place_at("abcdefgh"), lambda _: answers.pop(0), seen=letters(7, "", 7), size=8
    )

    assert isinstance(outcome, Found)
    assert (outcome.page.total, outcome.cut) == (10, 6)


async def test_a_page_that_shows_only_what_precedes_the_place_hints_at_it() -> None:
    # Twenty were inserted, by a total that does not show it.
    now = "0123456789" + LETTERS[:4] + "0123456789" + LETTERS[4:]
    seen = letters(7, now[7:11])

    outcome, offsets = await search(place_at("abcdefghijkl"), serve(now, 16), seen=seen, size=16)

    assert isinstance(outcome, Found)
    assert outcome.page.items[outcome.cut - 1] == "l"
    assert len(offsets) <= 4


async def test_pages_that_share_an_item_are_looked_at_as_one() -> None:
    """No page of four shows three items of the tail next to each other before the place."""
    outcome, offsets = await search(
        place_at("abcdefgh"), serve("abcdefg0h1" + LETTERS[8:]), seen=letters(7, "0h1i", 28)
    )

    assert isinstance(outcome, Found)
    assert outcome.page.items[outcome.cut - 1] == "h"
    assert len(offsets) > 1
    assert len(outcome.page.items) > 4


async def test_the_last_page_again_from_any_offset_is_a_repeated_page() -> None:
    outcome, offsets = await search(
        place_at("abcd"), lambda offset: letters(offset, "abcd"), seen=letters(3, "abcd")
    )

    assert isinstance(outcome, RepeatedPageError)
    assert (outcome.requested, outcome.returned) == (3, 0)
    assert len(offsets) == 1


@pytest.mark.parametrize(
    ("delivered", "found"), [("abcdefgh", True), ("abcddfgh", False), ("abcdefgx", False)]
)
async def test_the_page_seen_is_believed_in_the_end_if_it_fits_and_no_items_were_alike(
    delivered: str, found: bool
) -> None:
    """The total has shrunk, so there was a doubt; nothing else shows the place."""
    seen = letters(7, "hijk", 25)

    outcome, offsets = await search(
        place_at(delivered), lambda offset: letters(offset, "0123", 25), seen=seen
    )

    assert len(offsets) > 1
    if found:
        assert isinstance(outcome, Found)
        assert (outcome.page, outcome.cut) == (seen, 1)
    else:
        assert isinstance(outcome, ListChangedError)


@pytest.mark.parametrize(
    ("delivered", "now", "found"),
    [
        # Every cut of a list of one item is as good as the next, so the expected one is taken.
        ("aaaa", "aaaaaa", 4),
        ("abab", "ababab", 4),
        # The expected one is not among those that fit.
        ("abab", "xababab", None),
    ],
)
async def test_of_several_places_the_expected_one_is_believed_in_the_end(
    delivered: str, now: str, found: int | None
) -> None:
    outcome, offsets = await search(place_at(delivered), serve(now, 16), seen=None, size=16)

    assert offsets[0] == 0
    if found is None:
        assert isinstance(outcome, ListChangedError)
    else:
        assert isinstance(outcome, Found)
        assert (outcome.page.offset, "".join(outcome.page.items)) == (0, now)
        assert outcome.cut == found


async def test_the_total_of_the_page_that_did_not_fit_keeps_the_list_from_ending_too_soon() -> None:
    """Another replica says that the list ends where the place was found."""
    place = place_at("abcd", total=5)

    found, _ = await search(
        place,
        lambda offset: letters(offset, "xabcd"[offset : offset + 4], total=5),
        seen=letters(3, "", total=6),
    )
    assert isinstance(found, Found)
    place.accept(found.page, found.cut, searched=True)

    assert place.reached == place.total == 5
    assert place.is_over() is False
