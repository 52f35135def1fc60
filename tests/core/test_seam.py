"""Seams as tables: where a page continues what was read before it. Each letter is an item."""

import pytest

from distinct_async._seam import cut_anywhere, cut_at_seam, guess_cut, is_shared, probe_offsets


@pytest.mark.parametrize(
    ("tail", "items", "expected", "shared"),
    [
        # The page starts with the last item of the tail.
        ("abc", "cde", 1, True),
        ("abc", "c", 1, True),
        ("abc", "dce", 1, False),
        ("abc", "", 1, False),
        # It overlaps the tail by more.
        ("abc", "bcde", 2, True),
        ("abc", "abcd", 3, True),
        ("abc", "abd", 2, False),
        ("abc", "bc", 2, True),
        # It is too short to reach the place.
        ("abc", "b", 2, False),
        # It starts before the tail, so only the tail can be compared.
        ("abc", "xyabcd", 5, True),
        ("abc", "xyabdd", 5, False),
        ("c", "xcd", 2, True),
        # It starts at or after the place, so it shares nothing.
        ("abc", "def", 0, False),
        ("abc", "def", -1, False),
        ("abc", "ccc", -2, False),
    ],
)
def test_a_page_that_starts_early_shares_its_first_items(
    tail: str, items: str, expected: int, shared: bool
) -> None:
    assert is_shared(tuple(tail), tuple(items), expected) is shared


@pytest.mark.parametrize(
    ("tail", "items", "growth", "cut"),
    [
        # The list stands still, or has grown elsewhere.
        ("abc", "cde", 0, 1),
        ("abc", "cde", 2, 1),
        ("abc", "c", 0, 1),
        # Insertions have moved the place to the right, by as much as the list has grown.
        ("abc", "bcde", 1, 2),
        ("abc", "abcde", 2, 3),
        # A growth that explains another shift asks for more agreement.
        ("abc", "bcde", 3, 2),
        ("abc", "bcde", 5, 2),
        ("abc", "xxbcd", 3, 4),
        ("abc", "xxbcd", 6, None),
        ("abc", "xabcd", 6, 4),
        ("abc", "abcde", 5, 3),
        ("abc", "zabcd", 3, 4),
        # A growth is no proof by itself, and neither is a shift without a growth.
        ("abc", "defg", 2, None),
        ("abc", "bcde", 0, None),
        ("abc", "abcde", 1, None),
        # A deletion has moved the place before the page.
        ("abc", "def", -1, None),
        ("abc", "", 0, None),
        ("abc", "bcde", -1, None),
        # Identical neighbours may hide a shift, unless the list is as long as before.
        ("acc", "cde", 0, 1),
        ("acc", "cde", 1, None),
        ("acc", "cde", -1, None),
        ("abc", "ccd", 0, 1),
        ("abc", "ccd", 1, None),
    ],
)
def test_a_page_is_cut_after_the_shared_item_or_after_what_was_inserted(
    tail: str, items: str, growth: int, cut: int | None
) -> None:
    found = cut_at_seam(tuple(tail), tuple(items), expected=1, growth=growth, still=growth == 0)

    assert found == cut


@pytest.mark.parametrize(
    ("tail", "items", "still", "cut"),
    [
        ("abc", "cde", False, 1),
        ("acc", "cde", True, 1),
        ("acc", "cde", False, None),
        ("abc", "ccd", False, None),
    ],
)
def test_identical_neighbours_are_no_proof_if_the_total_was_unknown(
    tail: str, items: str, still: bool, cut: int | None
) -> None:
    assert cut_at_seam(tuple(tail), tuple(items), expected=1, growth=0, still=still) == cut


@pytest.mark.parametrize(
    ("tail", "items", "expected", "cut"),
    [("abc", "bcde", 2, 2), ("abc", "abcde", 2, 3), ("abc", "bcde", 3, None)],
)
def test_a_page_that_starts_several_items_early_is_cut_at_the_place(
    tail: str, items: str, expected: int, cut: int | None
) -> None:
    found = cut_at_seam(tuple(tail), tuple(items), expected=expected, growth=1, still=False)

    assert found == cut


@pytest.mark.parametrize(
    ("tail", "items", "expected", "growth", "cut"),
    [
        # The whole tail stands in the page, wherever.
        ("abc", "abcde", 1, 0, 3),
        ("abc", "xabcde", 9, 0, 4),
        ("abc", "xyzabc", -4, 0, 6),
        # The page has the end of the tail only, as it starts within it.
        ("abcd", "bcdef", 9, 0, 3),
        ("abcd", "cdef", 9, 0, None),
        ("abcd", "cdef", 3, 0, None),
        # Far from where the place should be, half of what could agree must do so.
        ("abcdefghijkl", "012345ijklmn", 30, 0, None),
        ("abcdefghijkl", "012345ijklmn", 13, 0, None),
        ("abcdefghijkl", "012345ijklmn", 12, 0, 10),
        ("abcdefghijkl", "0123ghijklmn", 30, 0, 10),
        # One item is too little, unless the place has moved by as much as the total.
        ("abcd", "defg", 9, 0, None),
        ("abcd", "defg", 3, -2, 1),
        ("abcd", "xdef", 1, 1, 2),
        ("a", "xab", 9, 0, 2),
        # Part of the tail stands before its last item.
        ("abcd", "xbcde", 9, 0, 4),
        ("abcd", "xxcde", 9, 0, None),
        ("abcde", "xcdeybcdef", 9, 0, 9),
        ("abcde", "xcdeycdef", 9, 0, None),
        # Items of the tail were deleted, the last of them included, or others inserted.
        ("abcdef", "abcdgh", 9, 0, None),
        ("abcdefgh", "abcdefgij", 9, 0, None),
        ("abcdefgh", "abcdefgijk", 9, 0, 7),
        ("abcdefgh", "abcdefgijk", 9, 1, None),
        ("abcdefgh", "abcdefgijkl", 9, 1, 7),
        ("abcdefgh", "abcdefgijkh", 9, 0, 11),
        ("abcdefgh", "abcdghij", 9, 0, 6),
        ("abcdefgh", "abcdxefghij", 9, 0, 9),
        ("abcdefgh", "xabcdefgxh", 9, 0, 10),
        # Nothing agrees.
        ("abc", "xyz", 1, 0, None),
        ("abc", "", 1, 0, None),
        ("abc", "cba", 9, 0, None),
    ],
)
def test_the_place_is_found_anywhere_in_a_page_if_enough_items_prove_it(
    tail: str, items: str, expected: int, growth: int, cut: int | None
) -> None:
    found = cut_anywhere(tuple(tail), tuple(items), expected=expected, growth=growth)

    assert found == cut


@pytest.mark.parametrize(
    ("tail", "items", "expected", "cut"),
    [
        ("ab", "abab", 4, 4),
        ("ab", "ababab", 2, 2),
        ("ab", "abab", 3, None),
        ("aaa", "aaaa", 4, 4),
        ("aaa", "aaaa", 9, None),
    ],
)
def test_of_several_places_that_fit_only_the_expected_one_may_be_taken_and_is_not_certain(
    tail: str, items: str, expected: int, cut: int | None
) -> None:
    def find(*, certain: bool) -> int | None:
        return cut_anywhere(tuple(tail), tuple(items), expected=expected, growth=0, certain=certain)

    assert (find(certain=True), find(certain=False)) == (None, cut)


@pytest.mark.parametrize(
    ("items", "cut"), [("abcdefgij", 7), ("abcdefg", 7), ("abcdefgi", 7), ("abcxxxgi", None)]
)
def test_the_last_items_may_be_missing_from_the_end_of_a_list(items: str, cut: int | None) -> None:
    found = cut_anywhere(tuple("abcdefgh"), tuple(items), expected=9, growth=0, ends=True)

    assert found == cut


@pytest.mark.parametrize(
    ("tail", "items", "cut"),
    [
        # A page before the place shows how far it is to the end of the tail.
        ("abcdefgh", "abcde", 8),
        ("abcdefgh", "xxabc", 10),
        ("abcdefgh", "cdxef", 7),
        # Hardly anything agrees.
        ("abcdefgh", "abxxx", None),
        ("abcdefgh", "ab", 8),
        ("abcdefgh", "xyz", None),
        ("abcdefgh", "", None),
    ],
)
def test_a_page_before_the_place_hints_at_it(tail: str, items: str, cut: int | None) -> None:
    assert guess_cut(tuple(tail), tuple(items)) == cut


@pytest.mark.parametrize(
    ("reached", "size", "growth", "offsets"),
    [
        # Three quarters of the first page lie before the place, and later pages overlap by one.
        (1_000, 50, 0, [963, 914, 1_012, 865, 1_061, 816, 1_110]),
        (1_000, 50, -1, [963, 914, 1_012, 865, 1_061, 816, 1_110]),
        # After a growth, the place is sought to the right first.
        (1_000, 50, 1, [963, 1_012, 914, 1_061, 865, 1_110, 816]),
        # After a change of more than a quarter of a page, where that would have moved it.
        (1_000, 50, 12, [963, 1_012, 914, 1_061, 865, 1_110, 816]),
        (1_000, 50, 13, [976, 963, 1_012, 914, 1_061, 865, 1_110, 816]),
        (1_000, 50, -300, [663, 963, 914, 1_012, 865, 1_061, 816, 1_110]),
        # Tiny pages, and a place near the beginning; the caller keeps offsets within the list.
        (10, 1, 0, [9, 8, 10, 7, 11, 6, 12]),
        (10, 0, 0, [9, 8, 10, 7, 11, 6, 12]),
        (1, 2, 0, [0, -1, 1, -2, 2, -3, 3]),
    ],
)
def test_the_place_is_sought_where_it_is_likeliest_first(
    reached: int, size: int, growth: int, offsets: list[int]
) -> None:
    assert probe_offsets(reached, size, growth) == offsets
