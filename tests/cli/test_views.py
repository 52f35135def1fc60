"""What people look at: pictures and progress, wide and narrow, with and without colour."""

import io
import re
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from rich.cells import cell_len
from rich.console import Console

from distinct_async import VisitsType
from distinct_async.cli.picture import draw
from distinct_async.cli.progress import ProgressView
from distinct_async.export import DatasetSummary, ExportProgress, TouchpointCounts


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


def picture(width: int, summary: DatasetSummary = SUMMARY, *, top: int = 20, **options: Any) -> str:
    encoding = options.pop("encoding", "utf-8")
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    draw(summary, Console(file=file, width=width, highlight=False, **options), top=top)
    file.seek(0)
    return file.read()


def test_a_picture() -> None:
    empty = "·" * 48
    assert [line.rstrip() for line in picture(60).splitlines()] == [
        "1,501 visits of 4 touchpoints, 2024-01-01 to 2024-12-31",
        "(UTC)",
        "",
        "touchpoint            visits  users",
        "Front door             1,000    250  ██████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒",
        "入口入口入口入口入…     500*    500  ████████████",
        r"red [red]\x1b[31m          1      1  ▒",
        "nobody                     0      0",
        "* incomplete: the server had more; export again to go on",
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
def test_what_is_drawn_is_no_wider_than_the_terminal(width: int) -> None:
    lines = picture(width).splitlines()

    assert max(map(cell_len, lines)) <= width
    assert any(line.startswith("Front") and cell_len(line) >= width - 1 for line in lines)


def test_it_can_be_read_without_colour() -> None:
    plain = picture(80)
    coloured = picture(80, force_terminal=True, color_system="truecolor")

    assert "\x1b" not in plain
    assert "\x1b[36m█" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_it_can_be_read_in_ascii() -> None:
    summary = attrs.evolve(SUMMARY, touchpoints=SUMMARY.touchpoints[:1])

    drawn = picture(60, summary, encoding="ascii")

    assert re.search("  1,000    250  #{8}-{25}\n", drawn)
    assert f"Wed {'.' * 24}##{'.' * 22}\n" in drawn


def test_no_more_than_the_top_is_shown() -> None:
    lines = picture(80, top=1).splitlines()

    assert lines[4:6] == [
        "and 3 more, with 501 visits (--top shows more)",
        "* incomplete: the server had more; export again to go on",
    ]


def test_unique_visits_have_no_repeats() -> None:
    lines = picture(80, attrs.evolve(SUMMARY, visits_type=VisitsType.UNIQUE)).splitlines()

    assert lines[0].startswith("1,501 unique visits of 4 touchpoints")
    assert "█ users' first visits" in lines


def test_nothing_has_no_heatmap() -> None:
    nothing = attrs.evolve(SUMMARY, touchpoints=SUMMARY.touchpoints[3:], moments=())
    assert picture(80, nothing).splitlines()[0] == "0 visits of 1 touchpoints"
    assert "Mon" not in picture(80, nothing)
    assert picture(80, attrs.evolve(nothing, touchpoints=()))


# --- Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


STATE = ExportProgress(
    touchpoints=12,
    touchpoints_done=3,
    touchpoints_failed=1,
    visits=50_000,
    visits_found=10_000,
    visits_fetched=20_000,
    retries=7,
)


def test_progress_in_a_log_is_a_line_every_few_seconds() -> None:
    clock, file = Clock(), io.StringIO()
    with ProgressView(Console(file=file, width=20), clock=clock) as view:
        for tenths in range(100):
            clock.now = 100 + tenths / 10
            view(attrs.evolve(STATE, visits_fetched=tenths * 100))

    assert file.getvalue() == (
        "3/12 touchpoints, 15,000/50,000 visits, 1,000/s, 1 failed, 7 retries, 0:00:35 left\n"
    )
    assert view.last.visits_fetched == 9_900
    assert view.seconds == pytest.approx(9.9)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (
            None,
            "3/12 touchpoints, 30,000/50,000 visits, 2,000/s, 1 failed, 7 retries, 0:00:10 left",
        ),
        (70, "30,000/50,000 visits, 2,000/s, 1 failed, 7 retries, 0:00:10 left"),
        (60, "30,000/50,000 visits, 1 failed, 7 retries, 0:00:10 left"),
        (50, "30,000/50,000 visits, 1 failed, 0:00:10 left"),
        (35, "30,000/50,000 visits, 1 failed"),
        (29, "30,000/50,000 visits"),
    ],
)
def test_what_matters_least_goes_first(width: int | None, shown: str) -> None:
    clock = Clock()
    view = ProgressView(Console(file=io.StringIO()), clock=clock)
    clock.now += 10
    view(STATE)

    assert view.describe(width) == shown


def test_before_anything_is_known() -> None:
    view = ProgressView(Console(file=io.StringIO()), clock=Clock())

    assert view.describe() == "0/0 touchpoints, 0/0 visits"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_at_a_terminal_there_is_a_bar(width: int) -> None:
    clock, file = Clock(), io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    with ProgressView(console, clock=clock) as view:
        clock.now += 10
        view(STATE)

    *_, shown = (line for line in file.getvalue().splitlines() if "━━━━━━" in line)
    assert "30,000/50,000" in shown
    assert cell_len(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).strip()) <= width
    assert ("touchpoints" in shown) == (width == 120)


def test_a_terminal_that_cannot_redraw_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    clock, file = Clock(), io.StringIO()
    with ProgressView(Console(file=file, force_terminal=True), clock=clock) as view:
        clock.now += 10
        view(STATE)

    assert file.getvalue().startswith("3/12 touchpoints, 30,000/50,000 visits")
