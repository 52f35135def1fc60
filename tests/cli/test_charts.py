"""The charts of a summary: wide and narrow, with and without colour."""

import io
import re
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from distinct_async import VisitsType
from distinct_async.cli.charts import draw_summary
from distinct_async.export import DatasetSummary, TouchpointCounts


def counts(name: str, visits: int, users: int, expected: int | None = None) -> TouchpointCounts:
    return TouchpointCounts(
        touchpoint_id=name, name=name, visits=visits, users=users, expected=expected
    )


HOURS = [[0] * 24 for _ in range(7)]
HOURS[0][0], HOURS[2][12], HOURS[6][23] = 1, 100, 51
SUMMARY = DatasetSummary(
    visits_type=VisitsType.TOTAL,
    touchpoints=(
        counts("Front door", 1_000, 250),
        counts("入口" * 30, 500, 500, 600),
        counts("red [red]\x1b[31m", 1, 1, 1),
        counts("nobody", 0, 0, 0),
    ),
    hours=tuple(map(tuple, HOURS)),
    moments=(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 12, 31, tzinfo=UTC)),
)


def drawn(width: int, summary: DatasetSummary = SUMMARY, *, top: int = 20, **options: Any) -> str:
    encoding = options.pop("encoding", "utf-8")
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    draw_summary(summary, Console(file=file, width=width, highlight=False, **options), top=top)
    file.seek(0)
    return file.read()


def test_a_summary_is_a_title_bars_and_a_heatmap() -> None:
    empty = "·" * 48
    assert [line.rstrip() for line in drawn(60).splitlines()] == [
        "1,501 visits of 4 touchpoints, 2024-01-01 to 2024-12-31",
        "(UTC)",
        "",
        "touchpoint            visits  users",
        "Front door             1,000    250  ██████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒",
        "入口入口入口入口入…     500*    500  ████████████",
        r"red [red]\x1b[31m          1      1  ▒",
        "nobody                     0      0",
        "* incomplete: export again to fetch the remaining visits",
        "█ users' first visits, ▒ repeats",
        "",
        "    00  02  04  06  08  10  12  14  16  18  20  22",
        f"Mon ░░{empty[2:]}",
        f"Tue {empty}",
        f"Wed {empty[:24]}██{empty[26:]}",
        f"Thu {empty}",
        f"Fri {empty}",
        f"Sat {empty}",
        f"Sun {empty[2:]}▓▓",
        "hours in UTC: · 0  ░ to 25  ▒ to 50  ▓ to 75  █ to 100",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_charts_fill_the_terminal_and_are_no_wider(width: int) -> None:
    lines = drawn(width).splitlines()

    assert max(map(cell_len, lines)) <= width
    assert any(line.startswith("Front") and cell_len(line) >= width - 1 for line in lines)


@pytest.mark.parametrize("width", range(40, 60))
def test_the_longest_bar_fits_for_any_number_of_visits(width: int) -> None:
    for visits in range(1, 100):
        summary = attrs.evolve(SUMMARY, touchpoints=(counts("door", visits, visits),), moments=())
        assert max(map(cell_len, drawn(width, summary).splitlines())) <= width


@given(
    width=st.integers(20, 250),
    visits=st.lists(st.integers(0, 10**9) | st.integers(0, 200), min_size=1, max_size=8),
    name=st.sampled_from(["door", "入口入口入口", "cafe\u0301", "🇩🇪 flag", "a\u200dz"]),
    data=st.data(),
)
def test_no_bar_is_folded_and_the_longest_one_ends_at_the_edge(
    width: int, visits: list[int], name: str, data: st.DataObject
) -> None:
    touchpoints = tuple(
        counts(f"{name} {i}", count, data.draw(st.integers(min(count, 1), count)))
        for i, count in enumerate(sorted(visits, reverse=True))
    )
    summary = attrs.evolve(SUMMARY, touchpoints=touchpoints, moments=())

    _, _, chart = drawn(width, summary).partition("\n\n")
    lines = chart.splitlines()

    assert lines[len(visits) + 1].startswith("█ users'")
    rows = lines[1 : len(visits) + 1]
    assert max(map(cell_len, rows)) <= width
    assert not max(visits) or cell_len(rows[0]) >= width - 1
    bars = [len(re.sub("[^█▒]", "", row)) for row in rows]
    assert bars == sorted(bars, reverse=True)


def test_colours_add_no_information() -> None:
    plain = drawn(80)
    coloured = drawn(80, force_terminal=True, color_system="truecolor")

    assert "\x1b" not in plain
    assert "\x1b[36m█" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_charts_use_ascii_where_the_encoding_needs_it() -> None:
    summary = attrs.evolve(SUMMARY, touchpoints=SUMMARY.touchpoints[:1])

    chart = drawn(60, summary, encoding="ascii")

    assert re.search("  1,000    250  #{8}-{25}\n", chart)
    assert f"Wed {'.' * 24}##{'.' * 22}\n" in chart


def test_only_the_top_touchpoints_are_shown() -> None:
    lines = drawn(80, top=1).splitlines()

    assert lines[4:6] == [
        "and 3 more, with 501 visits (--top shows more)",
        "* incomplete: export again to fetch the remaining visits",
    ]


def test_unique_visits_have_no_repeats() -> None:
    lines = drawn(80, attrs.evolve(SUMMARY, visits_type=VisitsType.UNIQUE)).splitlines()

    assert lines[0].startswith("1,501 unique visits of 4 touchpoints")
    assert "█ users' first visits" in lines


def test_a_summary_without_visits_has_no_heatmap() -> None:
    nothing = attrs.evolve(SUMMARY, touchpoints=SUMMARY.touchpoints[3:], moments=())
    assert drawn(80, nothing).splitlines()[0] == "0 visits of 1 touchpoints"
    assert "Mon" not in drawn(80, nothing)
    assert drawn(80, attrs.evolve(nothing, touchpoints=()))
