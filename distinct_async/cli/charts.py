"""A summary as bars and a heatmap, legible without colour."""

from collections.abc import Sequence
from typing import Final

import attrs
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from distinct_async import VisitsType
from distinct_async.cli.output import escape_controls
from distinct_async.export import DatasetSummary, TouchpointCounts

_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOURS_PER_DAY: Final = 24
_MIN_BAR_WIDTH: Final = 8
_MAX_HOUR_WIDTH: Final = 4
_LEVELS: Final = 4
_FIRST_VISIT_COLOUR: Final = "cyan"
_REPEAT_COLOUR: Final = "blue"
_LEVEL_COLOURS: Final = ("bright_black", "blue", "cyan", "green", "yellow")


@attrs.frozen
class _Glyphs:
    """The characters to draw with.

    Attributes:
        first_visit: The part of a bar that stands for users' first visits.
        repeat: The part of a bar that stands for repeat visits.
        shades: From no visits to the most.
        ellipsis: Marks a truncated name.
    """

    first_visit: str
    repeat: str
    shades: str
    ellipsis: str


_UNICODE: Final = _Glyphs("█", "▒", "·░▒▓█", "…")
_ASCII: Final = _Glyphs("#", "-", ".:+*#", "~")


def draw_summary(summary: DatasetSummary, console: Console, *, top: int) -> None:
    """Draw a summary as wide as the console.

    Args:
        summary: The counts to draw.
        console: The console to draw on.
        top: Maximum number of touchpoints to show.
    """
    glyphs = _UNICODE if console.encoding.startswith("utf") else _ASCII
    lines = [_title(summary), Text(), *_bar_chart(summary, console.width, glyphs, top)]
    if summary.moments:
        lines += [Text(), *_heatmap(summary.hours, console.width, glyphs)]
    for line in lines:
        # `print` ignores a text's own settings.
        console.print(line, no_wrap=line.no_wrap, overflow=line.overflow)


def _title(summary: DatasetSummary) -> Text:
    visits = sum(touchpoint.visits for touchpoint in summary.touchpoints)
    kind = "unique visits" if summary.visits_type is VisitsType.UNIQUE else "visits"
    days = " to ".join(f"{moment:%Y-%m-%d}" for moment in summary.moments)
    period = f", {days} (UTC)" if days else ""
    return Text(f"{visits:,} {kind} of {len(summary.touchpoints):,} touchpoints{period}", "bold")


# --- Bars


def _bar_chart(summary: DatasetSummary, width: int, glyphs: _Glyphs, top: int) -> list[Text]:
    shown, hidden = summary.touchpoints[:top], summary.touchpoints[top:]
    columns = _label_columns(shown, width, glyphs)
    labels_width = sum(cell_len(column[0]) + 2 for column in columns)
    bar_width = max(width - labels_width, _MIN_BAR_WIDTH)
    most = max((touchpoint.visits for touchpoint in shown), default=0)
    bars = [Text(), *(_bar(touchpoint, bar_width, most, glyphs) for touchpoint in shown)]
    lines = [
        Text("  ").join((*map(Text, labels), bar))
        for *labels, bar in zip(*columns, bars, strict=True)
    ]
    lines[0].stylize("bold")
    for line in lines:
        line.rstrip()
        # Where the labels leave no room for a bar, a folded one would look like two.
        line.no_wrap, line.overflow = True, "crop"
    return [*lines, *_notes(summary, hidden), _bar_legend(summary, glyphs)]


def _label_columns(
    touchpoints: Sequence[TouchpointCounts], width: int, glyphs: _Glyphs
) -> tuple[list[str], list[str], list[str]]:
    """Return the columns left of the bars, each with its header first."""
    names = ["touchpoint", *(escape_controls(touchpoint.name) for touchpoint in touchpoints)]
    visits = ["visits", *(_visit_count(touchpoint) for touchpoint in touchpoints)]
    users = ["users", *(f"{touchpoint.users:,}" for touchpoint in touchpoints)]
    # Names get a third of the width at most, to leave room for the bars.
    return _align_left(names, width // 3, glyphs), _align_right(visits), _align_right(users)


def _notes(summary: DatasetSummary, hidden: Sequence[TouchpointCounts]) -> list[Text]:
    notes: list[Text] = []
    if hidden:
        visits = sum(touchpoint.visits for touchpoint in hidden)
        notes.append(Text(f"and {len(hidden):,} more, with {visits:,} visits (--top shows more)"))
    if any(_is_incomplete(touchpoint) for touchpoint in summary.touchpoints):
        notes.append(Text("* incomplete: export again to fetch the remaining visits"))
    return notes


def _bar_legend(summary: DatasetSummary, glyphs: _Glyphs) -> Text:
    legend = Text.assemble((glyphs.first_visit, _FIRST_VISIT_COLOUR), " users' first visits")
    if summary.visits_type is VisitsType.TOTAL:
        legend.append(", ").append(glyphs.repeat, _REPEAT_COLOUR).append(" repeats")
    return legend


def _visit_count(touchpoint: TouchpointCounts) -> str:
    return f"{touchpoint.visits:,}" + "*" * _is_incomplete(touchpoint)


def _is_incomplete(touchpoint: TouchpointCounts) -> bool:
    return touchpoint.expected is not None and touchpoint.visits < touchpoint.expected


def _bar(touchpoint: TouchpointCounts, width: int, most: int, glyphs: _Glyphs) -> Text:
    # Integers only: a length rounded up from a float may exceed the width by one cell.
    length = -(-touchpoint.visits * width // max(most, 1))
    first_visits = _divide_and_round(touchpoint.users * width, max(most, 1))
    return Text.assemble(
        (glyphs.first_visit * first_visits, _FIRST_VISIT_COLOUR),
        (glyphs.repeat * (length - first_visits), _REPEAT_COLOUR),
    )


def _divide_and_round(number: int, divisor: int) -> int:
    return (2 * number + divisor) // (2 * divisor)


def _align_right(texts: Sequence[str]) -> list[str]:
    width = max(map(len, texts))
    return [text.rjust(width) for text in texts]


def _align_left(texts: Sequence[str], max_width: int, glyphs: _Glyphs) -> list[str]:
    """Pad or truncate to a common width in cells; some characters are two cells wide."""
    width = min(max(map(cell_len, texts)), max_width)
    return [
        set_cell_size(text, width)
        if cell_len(text) <= width
        # Cutting a wide character in half leaves a space.
        else set_cell_size(set_cell_size(text, width - 1).rstrip() + glyphs.ellipsis, width)
        for text in texts
    ]


# --- Heatmap


def _heatmap(hours: Sequence[Sequence[int]], width: int, glyphs: _Glyphs) -> list[Text]:
    hour_width = max(1, min(_MAX_HOUR_WIDTH, (width - len("Mon ")) // _HOURS_PER_DAY))
    step = next(step for step in (1, 2, 3, 6) if step * hour_width >= len("00 "))
    labels = (f"{hour:02}".ljust(hour_width * step) for hour in range(0, _HOURS_PER_DAY, step))
    most = max(map(max, hours))
    lines = [Text(f"    {''.join(labels).rstrip()}", "bold")]
    for weekday, counts in zip(_WEEKDAYS, hours, strict=True):
        line = Text(f"{weekday} ")
        for count in counts:
            level = _level(count, most)
            line.append(glyphs.shades[level] * hour_width, _LEVEL_COLOURS[level])
        lines.append(line)
    return [*lines, _shade_legend(most, glyphs)]


def _level(count: int, most: int) -> int:
    """Return the quarter of `most` that a count falls in, from 1 to 4, or 0 for no visits."""
    return -(-count * _LEVELS // most)


def _shade_legend(most: int, glyphs: _Glyphs) -> Text:
    legend = Text("hours in UTC: ")
    legend.append(glyphs.shades[0], _LEVEL_COLOURS[0]).append(" 0")
    for level in range(1, _LEVELS + 1):
        legend.append("  ").append(glyphs.shades[level], _LEVEL_COLOURS[level])
        legend.append(f" to {most * level // _LEVELS:,}")
    return legend
