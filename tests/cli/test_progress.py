"""The progress of an export: lines in a log, a bar on a terminal."""

import io
import re

import attrs
import pytest
from rich.cells import cell_len
from rich.console import Console

from distinct_async.cli.progress import ProgressView
from distinct_async.export import ExportProgress


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


def test_a_log_gets_a_line_every_few_seconds() -> None:
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
def test_the_least_important_details_are_dropped_first(width: int | None, shown: str) -> None:
    clock = Clock()
    view = ProgressView(Console(file=io.StringIO()), clock=clock)
    clock.now += 10
    view(STATE)

    assert view.describe(width) == shown


def test_an_export_that_has_not_begun_can_be_described() -> None:
    view = ProgressView(Console(file=io.StringIO()), clock=Clock())

    assert view.describe() == "0/0 touchpoints, 0/0 visits"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_gets_a_bar(width: int) -> None:
    clock, file = Clock(), io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    with ProgressView(console, clock=clock) as view:
        clock.now += 10
        view(STATE)

    *_, shown = (line for line in file.getvalue().splitlines() if "━━━━━━" in line)
    assert "30,000/50,000" in shown
    assert cell_len(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).strip()) <= width
    assert ("touchpoints" in shown) == (width == 120)


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    clock, file = Clock(), io.StringIO()
    with ProgressView(Console(file=file, force_terminal=True), clock=clock) as view:
        clock.now += 10
        view(STATE)

    assert file.getvalue().startswith("3/12 touchpoints, 30,000/50,000 visits")
