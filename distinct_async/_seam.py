"""Seams: where a page continues a list that may have changed since the page before.

Pure functions over items, or what identifies them. The tail is what stood in the list just before
the place that a walk has reached, the last delivered item at its end. To cut a page is to find how
many of its first items stand before that place.
"""

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any, Final, TypeAlias

Keys: TypeAlias = tuple[Any, ...]
"""What identifies consecutive items."""

# A shuffled list has two given items side by side now and then, but hardly ever three.
_ENOUGH: Final = 3
_PROBES: Final = 3


def cut_at_seam(tail: Keys, items: Keys, *, expected: int, growth: int) -> int | None:
    """Return where to cut a page that was requested at a seam; None if that takes another look.

    Args:
        tail: What the walk has just read.
        items: The page.
        expected: The cut on a list that stands still: how many items the request started early.
        growth: By how much the total has grown since the page before.
    """
    if is_shared(tail, items, expected):
        return None if growth and _is_repetitive(tail, items, expected) else expected
    cut = cut_anywhere(tail, items, expected=expected, growth=growth)
    # Insertions alone never shift the list by more than the total has grown.
    return cut if cut is not None and 0 < cut - expected <= growth else None


def is_shared(tail: Keys, items: Keys, expected: int) -> bool:
    """Return whether a page starts with the last `expected` items of the tail."""
    if expected == 1:
        return bool(items) and items[0] == tail[-1]
    shared = min(expected, len(tail))
    return shared > 0 and len(items) >= expected and _ends_with(tail, items[:expected], shared)


def _ends_with(tail: Keys, items: Keys, count: int) -> bool:
    return items[-count:] == tail[-count:]


def _is_repetitive(tail: Keys, items: Keys, expected: int) -> bool:
    """Whether identical items stand next to each other at the seam, so that a shift may hide."""
    return tail[-2:-1] == tail[-1:] or items[expected : expected + 1] == tail[-1:]


def cut_anywhere(tail: Keys, items: Keys, *, expected: int, growth: int) -> int | None:
    """Return where to cut a page, wherever the place is in it; None if that is unclear.

    Arguments are those of `cut_at_seam`; here `expected` may lie outside the page.
    """
    exact, partial = _runs(tail, items)
    if exact:
        return exact[0] if len(exact) == 1 else (expected if expected in exact else None)
    # If the place has moved by as much as the total, one item is proof enough.
    needed = {expected + growth: 1}
    enough = min(_ENOUGH, len(tail))
    for scores in (partial, _edited_runs(tail, items)):
        good = {cut: score for cut, score in scores.items() if score >= needed.get(cut, enough)}
        best = [cut for cut, score in good.items() if score == max(good.values())]
        if len(best) == 1:
            return best[0]
    return None


def _runs(tail: Keys, items: Keys) -> tuple[list[int], dict[int, int]]:
    """Find the last delivered item in a page, and how many items before it agree with the tail.

    Returns:
        The cuts before which all items agree, two at least unless the tail has only one; and the
        other cuts with the number of items that agree.
    """
    exact: list[int] = []
    partial: dict[int, int] = {}
    for cut, item in enumerate(items, 1):
        if item != tail[-1]:
            continue
        longest = min(cut, len(tail))
        length = 1
        while length < longest and items[cut - length - 1] == tail[-length - 1]:
            length += 1
        if length == longest and length >= min(2, len(tail)):
            exact.append(cut)
        else:
            partial[cut] = length
    return exact, partial


def _edited_runs(tail: Keys, items: Keys) -> dict[int, int]:
    """Score cuts of a page in which items of the tail were deleted, or others inserted.

    The score is the number of items that agree, less those on one side only.
    """
    matcher = SequenceMatcher(None, tail, items, autojunk=False)
    scores: dict[int, int] = {}
    score = tail_end = page_end = 0
    for start, cut, size in matcher.get_matching_blocks()[:-1]:
        score = size + max(0, score - (start - tail_end) - (cut - page_end))
        tail_end, page_end = start + size, cut + size
        scores[page_end] = score - (len(tail) - tail_end)
    return scores


def probe_offsets(reached: int, size: int, growth: int) -> Iterator[int]:
    """Yield the offsets at which to look for the place, the likeliest first.

    Args:
        reached: Where it was.
        size: Items per page.
        growth: By how much the total has grown since.
    """
    # Most of the page is context that proves the place.
    centre = reached - max(1, size * 3 // 4)
    step = max(1, size - 1)
    if abs(growth) > size // 4:
        yield centre + growth
    yield centre
    towards = 1 if growth > 0 else -1
    for distance in range(1, _PROBES + 1):
        yield centre + towards * distance * step
        yield centre - towards * distance * step
