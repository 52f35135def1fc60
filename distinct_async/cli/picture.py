"""A summary for people: bars, and a heatmap, which can be read without colour."""

import math
from collections.abc import Sequence
from typing import Final

import attrs
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from distinct_async import VisitsType
from distinct_async.cli.output import printable
from distinct_async.export import DatasetSummary, TouchpointCounts

_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOURS: Final = 24
_SHORTEST_BAR: Final = 8
_WIDEST_CELL: Final = 4
_QUARTERS: Final = 4
_FIRST: Final = "cyan"
_REPEAT: Final = "blue"
_COLOURS: Final = ("bright_black", "blue", "cyan", "green", "yellow")


@attrs.frozen
class _Characters:
    """What is drawn with.

    Attributes:
        first: A bar's part for the users' first visits.
        repeat: Its part for further visits of the same users.
        shades: From no visits to the most.
        ellipsis: Stands for what is cut off.
    """

    first: str
    repeat: str
    shades: str
    ellipsis: str


_UNICODE: Final = _Characters("█", "▒", "·░▒▓█", "…")
_ASCII: Final = _Characters("#", "-", ".:+*#", "~")


def draw(summary: DatasetSummary, console: Console, *, top: int) -> None:
    """Draw a summary.

    Args:
        summary: What was counted.
        console: Where to; its width decides how wide.
        top: How many touchpoints to show.
    """
    characters = _UNICODE if console.encoding.startswith("utf") else _ASCII
    lines = [_title(summary), Text(), *_bars(summary, console.width, characters, top)]
    if summary.moments:
        lines += [Text(), *_heatmap(summary.hours, console.width, characters)]
    for line in lines:
        console.print(line)


def _title(summary: DatasetSummary) -> Text:
    visits = sum(touchpoint.visits for touchpoint in summary.touchpoints)
    kind = "unique visits" if summary.visits_type is VisitsType.UNIQUE else "visits"
    days = " to ".join(f"{moment:%Y-%m-%d}" for moment in summary.moments)
    when = f", {days} (UTC)" if days else ""
    return Text(f"{visits:,} {kind} of {len(summary.touchpoints):,} touchpoints{when}", "bold")


# --- Bars


def _bars(summary: DatasetSummary, width: int, characters: _Characters, top: int) -> list[Text]:
    shown, rest = summary.touchpoints[:top], summary.touchpoints[top:]
    visits = ["visits", *(_count(touchpoint) for touchpoint in shown)]
    users = ["users", *(f"{touchpoint.users:,}" for touchpoint in shown)]
    numbers = [_right(visits), _right(users)]
    # A third at most: the bars are what is looked at.
    names = _left([printable(touchpoint.name) for touchpoint in shown], width // 3, characters)
    used = sum(cell_len(column[0]) + 2 for column in (names, *numbers))
    longest = max((touchpoint.visits for touchpoint in shown), default=0)
    scale = max(width - used, _SHORTEST_BAR) / max(longest, 1)
    bars = [Text(), *(_bar(touchpoint, scale, characters) for touchpoint in shown)]
    lines = [
        Text("  ").join((Text(name), Text(visit), Text(user), bar))
        for name, visit, user, bar in zip(names, *numbers, bars, strict=True)
    ]
    lines[0].stylize("bold")
    for line in lines:
        line.rstrip()
    return [*lines, *_notes(summary, rest, characters)]


def _notes(
    summary: DatasetSummary, rest: Sequence[TouchpointCounts], characters: _Characters
) -> list[Text]:
    notes: list[Text] = []
    if rest:
        visits = sum(touchpoint.visits for touchpoint in rest)
        notes.append(Text(f"and {len(rest):,} more, with {visits:,} visits (--top shows more)"))
    if any(_is_incomplete(touchpoint) for touchpoint in summary.touchpoints):
        notes.append(Text("* incomplete: the server had more; export again to go on"))
    repeats = summary.visits_type is VisitsType.TOTAL
    further = Text.assemble(", ", (characters.repeat, _REPEAT), " repeats")
    first = Text.assemble((characters.first, _FIRST), " users' first visits")
    return [*notes, first + further if repeats else first]


def _count(touchpoint: TouchpointCounts) -> str:
    return f"{touchpoint.visits:,}" + "*" * _is_incomplete(touchpoint)


def _is_incomplete(touchpoint: TouchpointCounts) -> bool:
    return touchpoint.expected is not None and touchpoint.visits < touchpoint.expected


def _bar(touchpoint: TouchpointCounts, scale: float, characters: _Characters) -> Text:
    length = math.ceil(touchpoint.visits * scale) if touchpoint.visits else 0
    first = round(touchpoint.users * scale)
    return Text.assemble(
        (characters.first * first, _FIRST), (characters.repeat * (length - first), _REPEAT)
    )


def _right(texts: Sequence[str]) -> list[str]:
    width = max(map(len, texts))
    return [text.rjust(width) for text in texts]


def _left(names: Sequence[str], most: int, characters: _Characters) -> list[str]:
    """Return a column's lines, its head first, cut to so many cells (some names are wide)."""
    texts = ["touchpoint", *names]
    width = min(max(map(cell_len, texts)), most)
    return [
        set_cell_size(text, width)
        if cell_len(text) <= width
        # Half of a wide character is a space.
        else set_cell_size(set_cell_size(text, width - 1).rstrip() + characters.ellipsis, width)
        for text in texts
    ]


# --- Heatmap


def _heatmap(hours: Sequence[Sequence[int]], width: int, characters: _Characters) -> list[Text]:
    cell = max(1, min(_WIDEST_CELL, (width - len("Mon ")) // _HOURS))
    step = next(step for step in (1, 2, 3, 6) if step * cell >= len("00 "))
    head = "".join(f"{hour:02}".ljust(cell * step) for hour in range(0, _HOURS, step)).rstrip()
    most = max(map(max, hours))
    lines = [Text(f"    {head}", "bold")]
    for weekday, counts in zip(_WEEKDAYS, hours, strict=True):
        line = Text(f"{weekday} ")
        for count in counts:
            level = _level(count, most)
            line.append(characters.shades[level] * cell, _COLOURS[level])
        lines.append(line)
    return [*lines, _shade_legend(most, characters)]


def _level(count: int, most: int) -> int:
    """Return which quarter of the most a count is in, or 0 for none."""
    return -(-count * _QUARTERS // most)


def _shade_legend(most: int, characters: _Characters) -> Text:
    legend = Text("hours in UTC: ")
    legend.append(characters.shades[0], _COLOURS[0]).append(" 0")
    for level in range(1, _QUARTERS + 1):
        legend.append("  ").append(characters.shades[level], _COLOURS[level])
        legend.append(f" to {most * level // _QUARTERS:,}")
    return legend
