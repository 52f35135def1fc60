"""The place of a walk, page by page, without I/O. Each letter is an item."""

from collections.abc import Callable
from typing import Any

import pytest

from distinct_async import IncompleteListError, ResumePoint
from distinct_async._place import PATIENCE, Place
from tests.support.list_server import LetterPage, letters


def make_place(
    *,
    offset: int = 0,
    after: str = "",
    limit: int | None = None,
    key: Any = None,
    is_full: Callable[[LetterPage], bool] = lambda _: False,
    total: int | None = None,
) -> Place[LetterPage]:
    return Place(
        offset=offset,
        after=tuple(after),
        limit=limit,
        key=key,
        is_full=is_full,
        name="letters",
        total=total,
    )


def resume_point(offset: int, after: str, delivered: int, total: int | None = 26) -> ResumePoint:
    return ResumePoint(
        offset=offset, after=tuple(after), delivered=delivered, total=total, name="letters"
    )


def place_after(*pages: LetterPage, **options: Any) -> Place[LetterPage]:
    """Return a place that has accepted pages which share an item each."""
    place = make_place(**options)
    for page in pages:
        take(place, page)
    return place


def take(place: Place[LetterPage], page: LetterPage, *, doubt: bool = True) -> LetterPage | None:
    """Accept a page that fits, and return what is delivered of it."""
    cut = place.cut(page, located=False, doubt=doubt)
    assert cut is not None
    delivered = place.accept(page, cut)
    assert len(delivered) <= 1
    return delivered[0] if delivered else None


ABC = letters(0, "abc")


# --- Delivering


def test_the_first_page_is_delivered_as_it_is() -> None:
    place = make_place()

    assert (place.is_known, place.cut(ABC, located=False, doubt=True)) == (False, 0)
    assert place.accept(ABC, 0) == [ABC]
    assert (place.reached, place.delivered, place.total, place.idle) == (3, 3, 26, 0)
    assert place.is_known


def test_shared_items_are_delivered_once() -> None:
    place = place_after(ABC)

    assert take(place, letters(2, "cde")) == letters(3, "de")
    assert take(place, letters(2, "cdefg")) == letters(5, "fg")
    assert (place.reached, place.delivered, place.last_offset) == (7, 7, 2)


def test_only_the_first_of_the_pages_without_new_items_is_delivered() -> None:
    place, empty = make_place(), letters(0, "")

    assert take(place, empty) == empty
    assert (take(place, empty), place.idle) == (None, 2)
    assert take(place, ABC) == ABC
    assert (take(place, letters(2, "c")), place.idle, place.reached) == (None, 1, 3)


def test_no_more_than_the_limit_is_delivered() -> None:
    place = place_after(ABC, limit=4)

    assert take(place, letters(2, "cdef")) == letters(3, "d")
    assert (place.left, place.reached, place.delivered) == (0, 4, 4)
    assert place.is_over() is True


def test_the_resume_point_is_after_the_last_delivered_item() -> None:
    assert make_place(offset=7).resume_point == resume_point(7, "", 0, total=None)
    known = make_place(offset=7, after="fg", total=26)
    assert known.resume_point == resume_point(7, "fg", 0)
    assert take(known, letters(6, "ghi")) == letters(7, "hi")
    assert known.resume_point == resume_point(9, "ghi", 2)
    limited = place_after(ABC, limit=2)
    assert limited.resume_point == resume_point(2, "ab", 2)


def test_the_resume_point_has_the_last_items_that_prove_the_place() -> None:
    place = place_after(letters(0, "abcdefghijk"))
    assert place.resume_point == resume_point(11, "defghijk", 11)
    # An empty page proves nothing, so what proved the place before is kept.
    beyond = make_place(offset=7, after="fg")
    beyond.accept(letters(7, ""), 0)
    assert beyond.resume_point == resume_point(7, "fg", 0)


def test_items_are_compared_by_their_keys() -> None:
    place = place_after(ABC, key=str.lower)

    assert place.keys(("A", "b")) == ("a", "b")
    assert take(place, letters(2, "CDE")) == letters(3, "DE")
    assert place.resume_point.after == ("C", "D", "E")
    assert place_after(ABC).cut(letters(2, "CDE"), located=False, doubt=True) is None


# --- Cutting


@pytest.mark.parametrize(
    ("page", "located", "cut"),
    [
        (letters(2, "cde"), False, 1),
        (letters(2, "cde"), True, 1),
        (letters(1, "bcde"), False, 2),
        (letters(1, "bcde"), True, 2),
        (letters(2, ""), False, None),
        # Insertions move the place, but not once it has been located.
        (letters(2, "bcde", total=27), False, 2),
        (letters(2, "bcde", total=27), True, None),
        (letters(2, "bcde"), False, None),
        # A page that does not reach back to the place.
        (letters(9, "jkl"), False, None),
    ],
)
def test_a_page_is_cut_where_the_place_is(page: LetterPage, located: bool, cut: int | None) -> None:
    assert place_after(ABC).cut(page, located=located, doubt=True) == cut


@pytest.mark.parametrize("first", ["abxc", "abbc"])
def test_a_shrinking_total_is_doubted_a_few_times_though_the_page_fits(first: str) -> None:
    shorter = letters(3, "cdef", total=25)

    place = place_after(letters(0, first))
    assert place.cut(shorter, located=False, doubt=False) == 1
    doubts = [place.cut(shorter, located=False, doubt=True) for _ in range(20)]
    assert doubts == sorted(doubts, key=lambda cut: cut is not None)
    assert 0 < doubts.count(None) < 20
    assert doubts[-1] == 1


@pytest.mark.parametrize(
    ("page", "cut"),
    [
        (letters(0, "zabcd"), 4),
        (letters(0, "bcdef"), 2),
        # One item is proof enough only if the place has moved by as much as the total.
        (letters(0, "cdefg", total=23), 1),
        (letters(0, "cdefg", total=24), None),
        (letters(9, "jkl"), None),
    ],
)
def test_the_place_is_found_in_any_page_that_shows_it(page: LetterPage, cut: int | None) -> None:
    assert place_after(letters(0, "xabc"), offset=0).find_cut(page) == cut


def test_a_page_at_the_end_of_the_list_shows_that_the_last_items_are_missing() -> None:
    place = place_after(letters(0, "abcdefgh"))

    last = letters(0, "abcdef", total=6)
    assert place.find_cut(last) == 6
    assert place.find_cut(letters(0, "abcdef")) is None


@pytest.mark.parametrize(("total", "growth"), [(None, 0), (20, 6), (30, -4)])
def test_the_growth_of_the_first_page_is_that_since_a_known_total(
    total: int | None, growth: int
) -> None:
    place = make_place(offset=7, after="fg", total=total)

    assert place.growth(letters(6, "ghi")) == growth


def test_a_list_that_ends_before_the_place_has_shrunk_though_its_total_was_unknown() -> None:
    assert make_place(offset=7, after="g").growth(letters(6, "", total=5)) == -2


def test_of_several_cuts_the_expected_one_is_found_if_it_need_not_be_certain() -> None:
    place = place_after(letters(0, "abab"))
    again = letters(0, "ababab")

    assert place.find_cut(again) is None
    assert place.find_cut(again, certain=False) == 4


@pytest.mark.parametrize(
    ("page", "fits"),
    [
        (letters(2, "cde"), True),
        (letters(2, "cde", total=20), True),
        (letters(1, "bcd"), True),
        (letters(2, "dce"), False),
        (letters(3, "cde"), False),
    ],
)
def test_a_page_that_begins_as_expected_fits(page: LetterPage, fits: bool) -> None:
    assert place_after(ABC).fits(page) is fits


def test_no_page_is_known_to_fit_where_identical_items_were_seen() -> None:
    assert not place_after(letters(0, "abbc")).fits(letters(3, "cde"))


def test_the_last_delivered_item_is_recognized_by_its_key() -> None:
    assert [place_after(ABC).is_last(item) for item in "bcC"] == [False, True, False]
    assert place_after(ABC, key=str.lower).is_last("C")
    assert not make_place().is_last("c")


def test_a_page_before_the_place_hints_at_its_offset() -> None:
    place = place_after(letters(0, "abcdefgh"))

    assert place.guess(letters(5, "abcde")) == 13
    assert place.guess(letters(5, "vwxyz")) is None


def test_a_page_may_be_the_last_one_again() -> None:
    assert not make_place().is_last_page(ABC)
    place = place_after(ABC)

    assert place.is_last_page(letters(7, "abc"))
    # A smaller page was requested than the one before.
    assert place.is_last_page(letters(7, "ab"))
    assert not place.is_last_page(letters(7, "abd"))
    assert not place.is_last_page(letters(7, "a"))


# --- Sharing more than one item


def test_pages_share_one_item_unless_identical_ones_stand_side_by_side() -> None:
    assert make_place().next_overlap(50) == 0
    assert place_after(ABC).next_overlap(50) == 1
    repetitive = place_after(letters(0, "abbc"))
    assert [repetitive.next_overlap(7), repetitive.next_overlap(8)] == [1, 3]


@pytest.mark.parametrize(
    ("after", "size", "overlap"),
    [("c", 50, 1), ("bc", 50, 1), ("abc", 50, 3), ("abcdefgh", 8, 3), ("abc", 7, 1)],
)
def test_the_first_page_shares_three_of_the_items_before_it_if_so_many_are_known(
    after: str, size: int, overlap: int
) -> None:
    place = make_place(offset=9, after=after)

    assert place.next_overlap(size) == overlap
    take(place, letters(9 - overlap, after[-overlap:] + "xyz", total=30))
    assert place.next_overlap(size) == 1


def test_identical_items_among_those_before_the_first_page_are_noticed() -> None:
    place = make_place(offset=9, after="abbc")

    take(place, letters(6, "bbcxyz", total=30))

    assert place.next_overlap(50) == 3


def test_on_a_list_that_stands_still_the_extra_items_amount_to_one_page() -> None:
    place = place_after(letters(0, "abbc"))

    overlaps = [place.next_overlap(50) for _ in range(60)]

    assert overlaps == sorted(overlaps, reverse=True)
    assert 40 < sum(overlaps) - len(overlaps) <= 50


@pytest.mark.parametrize(
    "page",
    [letters(3, "cdef", total=27), letters(3, "bcde", total=27), letters(3, "cde", total=27)],
)
def test_on_a_list_that_changes_the_extra_items_are_not_limited(page: LetterPage) -> None:
    place = place_after(letters(0, "abbc"))

    take(place, page)

    assert {place.next_overlap(50) for _ in range(60)} == {3}


@pytest.mark.parametrize(
    ("items", "overlap"),
    [
        ("cdef", 1),
        ("cdedef", 1),
        ("ccde", 3),
        ("cddefg", 3),
        ("cdeff", 3),
        # Only the first items of a page are looked at.
        ("cdefghijklmnopqrstuvwxyzz", 1),
    ],
)
def test_identical_items_are_noticed_at_a_seam_or_soon_after_it(items: str, overlap: int) -> None:
    assert place_after(ABC, letters(2, items)).next_overlap(50) == overlap


# --- Shifts


@pytest.mark.parametrize(
    ("page", "cut", "delivered"),
    [
        (letters(2, "bcde", total=27), 2, letters(4, "de", total=27, shift=1)),
        (letters(0, "bcde", total=25), 2, letters(2, "de", total=25, shift=-1)),
        # No item is new, but the shift is delivered.
        (letters(2, "bc", total=27), 2, letters(4, "", total=27, shift=1)),
    ],
)
def test_the_page_after_a_shift_carries_it(
    page: LetterPage, cut: int, delivered: LetterPage
) -> None:
    place = place_after(ABC)

    assert place.accept(page, cut) == [delivered]
    assert place.reached == delivered.offset + len(delivered.items)


def test_a_shift_is_logged_with_the_name_of_the_list(caplog: pytest.LogCaptureFixture) -> None:
    take(place_after(ABC), letters(2, "bcde", total=27))
    place_after(ABC).accept(letters(0, "bcde", total=25), 2)

    assert [record.getMessage() for record in caplog.records] == [
        (
            "the list of letters has shifted by +1 before offset 3, where the walk was; "
            "what was inserted there is not delivered"
        ),
        "the list of letters has shifted by -1 before offset 3, where the walk was",
    ]


def test_the_tail_after_a_shift_is_what_now_stands_before_the_place() -> None:
    place = place_after(letters(0, "abcdef"))
    place.accept(letters(3, "xefgh", total=27), 3)

    # "d" was delivered, but stands elsewhere now.
    assert place.find_cut(letters(0, "dxefghijk")) == 6
    assert place.find_cut(letters(0, "efghdi")) == 4


def test_items_that_return_after_they_were_missing_are_not_delivered_again() -> None:
    """A replica that lags behind lists the last delivered items later than others do."""
    place = place_after(letters(0, "abcdef", total=6))

    fewer = letters(0, "abcd", total=4)

    assert place.accept(fewer, 4, searched=True) == [letters(4, "", total=4, shift=-2)]
    assert take(place, letters(3, "defgh", total=8)) == letters(6, "gh", total=8, shift=2)


def test_items_that_stay_missing_are_deleted() -> None:
    place = place_after(letters(0, "abcdef", total=6))
    place.accept(letters(0, "abcd", total=4), 4, searched=True)

    assert take(place, letters(3, "dgh", total=6)) == letters(4, "gh", total=6)
    assert take(place, letters(5, "hef", total=8)) == letters(6, "ef", total=8)


def test_a_deletion_that_insertions_make_up_for_is_reported_as_both() -> None:
    place = place_after(letters(0, "abcdef", total=20))

    pages = place.accept(letters(3, "cdexgh", total=20), 3, searched=True)

    assert pages == [
        letters(5, "", total=20, shift=-1),
        letters(6, "xgh", total=20, shift=1),
    ]


def test_the_total_of_a_page_that_did_not_fit_is_not_forgotten() -> None:
    place = place_after(letters(0, "abcd", total=5))
    seen, found = letters(3, "bcd", total=7), letters(3, "bcd", total=6)

    place.note_total(seen.total)
    place.accept(found, 3, searched=True)

    assert place.is_over() is False


# --- The end


@pytest.mark.parametrize(
    ("totals", "over"),
    [
        # The last count is what was read, and none was larger.
        ([3], True),
        ([2, 3], True),
        # Replicas disagree, so their counts must agree several times.
        ([4, 3], False),
        ([4, 3, 3, 3], False),
        ([4, 3, 3, 3, 3, 3], True),
        ([4, 3, 3, 3, 4, 3], False),
        # There should be more, or less.
        ([4], False),
        ([2], False),
        ([4, 4, 4, 4, 4, 4], False),
        ([2, 4] * PATIENCE, True),
    ],
)
def test_the_end_is_believed_once_the_counts_agree_with_it(totals: list[int], over: bool) -> None:
    place = place_after(letters(0, "abc", total=totals[0]))
    for total in totals[1:]:
        take(place, letters(2, "c", total=total), doubt=False)

    assert place.is_over() is over


@pytest.mark.parametrize("total", [2, 4])
def test_a_count_that_persistently_contradicts_the_pages_is_an_error(total: int) -> None:
    place = place_after(letters(0, "abc", total=total))
    over: bool | IncompleteListError = False
    for reread in range(1, PATIENCE + 1):
        assert over is False, reread
        take(place, letters(2, "c", total=total))
        over = place.is_over()

    assert isinstance(over, IncompleteListError)
    assert (over.expected, over.received) == (total, 3)


def test_a_walk_that_begins_beyond_the_end_is_over() -> None:
    assert place_after(letters(30, ""), offset=30).is_over() is True
    assert place_after(letters(26, ""), offset=26).is_over() is True
    assert place_after(letters(25, ""), offset=25).is_over() is False


def test_deletions_lower_the_count_that_the_end_must_reach() -> None:
    place = place_after(letters(0, "abcd", total=5))

    place.accept(letters(0, "acde", total=4), 3)

    assert (place.reached, place.is_over()) == (4, True)


def test_a_full_page_at_the_end_is_followed_by_another_look() -> None:
    place = make_place(is_full=lambda page: len(page.items) >= 3)

    take(place, letters(0, "abc", total=3))
    assert place.is_over() is False
    assert take(place, letters(2, "c", total=3)) is None
    assert place.is_over() is True


def test_a_walk_is_not_over_if_the_total_was_too_low() -> None:
    place = make_place(is_full=lambda page: len(page.items) >= 3)
    take(place, letters(0, "abc", total=3))

    assert take(place, letters(2, "cde", total=5)) == letters(3, "de", total=5)
    assert place.is_over() is False
    assert take(place, letters(4, "e", total=5)) is None
    assert place.is_over() is True


def test_pages_that_a_shift_keeps_from_bringing_anything_new_are_counted() -> None:
    place = place_after(ABC)

    for moves in (1, 2, 3):
        end = letters(moves + 1, "bc", total=26 + moves)
        assert take(place, end) == letters(moves + 3, "", total=26 + moves, shift=1)
        assert (place.moves, place.idle) == (moves, 0)
    take(place, letters(5, "cde", total=29))
    assert (place.moves, place.idle) == (0, 0)
