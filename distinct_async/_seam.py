"""Seams: where a page continues a list that may have changed since the page before.

Pure functions over items, or what identifies them. The tail is what stood in the list just before
the place that a walk has reached, the last delivered item at its end. To cut a page is to find how
many of its first items stand before that place.
"""

from difflib import Match, SequenceMatcher
from typing import Any, Final, TypeAlias

Keys: TypeAlias = tuple[Any, ...]
"""What identifies consecutive items."""

# A shuffled list has two given items side by side now and then, but hardly ever three.
_ENOUGH: Final = 3
_PROBES: Final = 3


def cut_at_seam(tail: Keys, items: Keys, *, expected: int, growth: int, still: bool) -> int | None:
    """Return where to cut a page that was requested at a seam; None if that takes another look.

    Args:
        tail: What the walk has just read.
        items: The page.
        expected: The cut on a list that stands still: how many items the request started early.
        growth: By how much the total has grown since the page before.
        still: Whether the total is known not to have changed.
    """
    if is_shared(tail, items, expected):
        return expected if still or not _is_repetitive(tail, items, expected) else None
    # That the page was requested here is evidence, too, so two items prove an insertion.
    cut = cut_anywhere(tail, items, expected=expected, growth=growth, begins=True)
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
    """Whether the shared items are identical to a neighbour, so that a shift may go unnoticed."""
    shared = {*items[:expected]}
    return len(shared) == 1 and not shared.isdisjoint(
        (*tail[-expected - 1 : -expected], *items[expected : expected + 1])
    )


def cut_anywhere(
    tail: Keys,
    items: Keys,
    *,
    expected: int,
    growth: int,
    begins: bool = False,
    ends: bool = False,
    certain: bool = True,
) -> int | None:
    """Return where to cut a page, wherever the place is in it; None if that is unclear.

    Args:
        tail: What the walk has just read.
        items: The page.
        expected: The cut on a list that stands still; it may lie outside the page.
        growth: By how much the total has grown since the page before.
        begins: Whether the list begins with the page.
        ends: Whether the list ends with the page.
        certain: Whether to return None if identical items allow several cuts, one of which is the
            expected one.
    """

    def needed(cut: int, few: int) -> int:
        # If the place has moved by as much as the total, one item is proof enough.
        moved = cut - expected
        if moved == growth:
            return 1
        if not moved or begins:
            return min(few, len(tail))
        explained = min(abs(moved), abs(moved - growth)) < _ENOUGH
        return min(_ENOUGH if explained else max(_ENOUGH, cut // 2), len(tail))

    runs = _runs(tail, items)
    exact = [cut for cut in runs if runs[cut] == min(cut, len(tail))]
    if any(needed(cut, 2) <= runs[cut] for cut in exact):
        likely = exact if certain or expected not in exact else [expected]
        return likely[0] if len(likely) == 1 else None
    for scores in (runs, _edited_runs(tail, items, growth=growth, ends=ends)):
        best = [cut for cut, score in scores.items() if score == max(scores.values())]
        if best and scores[best[0]] >= needed(best[0], _ENOUGH):
            return best[0] if len(best) == 1 else None
    return None


def _runs(tail: Keys, items: Keys) -> dict[int, int]:
    """Return the cuts after the last delivered item, and how many items before them agree."""
    runs: dict[int, int] = {}
    for cut, item in enumerate(items, 1):
        length = 0
        if item == tail[-1]:
            longest, length = min(cut, len(tail)), 1
            while length < longest and items[cut - length - 1] == tail[-length - 1]:
                length += 1
            runs[cut] = length
    return runs


def _edited_runs(tail: Keys, items: Keys, *, growth: int, ends: bool) -> dict[int, int]:
    """Score cuts of a page in which items of the tail were deleted, or others inserted.

    The score is the number of items that agree, less the edits that explain the others.
    """
    scores: dict[int, int] = {}
    score = tail_end = page_end = 0
    for block in _matching_blocks(tail, items):
        deleted, inserted = block.a - tail_end, block.b - page_end
        # The growth of the total explains as many insertions, all at once.
        edits = deleted + max(inserted - max(0, growth), min(inserted, 1))
        score = block.size + max(0, score - edits)
        tail_end, page_end = block.a + block.size, block.b + block.size
        missing = tail[tail_end:]
        if _seem_deleted(missing, items[page_end:], growth=growth, ends=ends):
            scores[page_end] = score - len(missing)
    return scores


def _seem_deleted(missing: Keys, following: Keys, *, growth: int, ends: bool) -> bool:
    """Whether the tail's last items were deleted, rather than moved on by insertions."""
    if not missing:
        return True
    enough = ends or len(following) >= _ENOUGH + max(0, growth)
    return enough and {*missing}.isdisjoint(following)


def _matching_blocks(tail: Keys, items: Keys) -> list[Match]:
    matcher = SequenceMatcher(None, tail, items, autojunk=False)
    return matcher.get_matching_blocks()[:-1]


def guess_cut(tail: Keys, items: Keys) -> int | None:
    """Return where the place should be, counted from a page that only shows what precedes it."""
    blocks = _matching_blocks(tail, items)
    if not blocks or sum(block.size for block in blocks) < min(_ENOUGH, len(items)):
        return None
    last = blocks[-1]
    return last.b + len(tail) - last.a


def context_size(size: int) -> int:
    """Return how many items of a page of this size should stand before the place.

    They prove the place; the others show whether it is the last one that could be meant.
    """
    return max(1, size * 3 // 4)


def probe_offsets(reached: int, size: int, growth: int) -> list[int]:
    """Return the offsets at which to look for the place, the likeliest first.

    Args:
        reached: Where it was.
        size: Items per page.
        growth: By how much the total has grown since.
    """
    centre = reached - context_size(size)
    steps = [distance * max(1, size - 1) for distance in range(1, _PROBES + 1)]
    towards = 1 if growth > 0 else -1
    around = [centre + sign * step for step in steps for sign in (towards, -towards)]
    jump = [centre + growth] if abs(growth) > size // 4 else []
    return [*jump, centre, *around]
