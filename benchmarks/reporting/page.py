"""The page: tables and goals of all records, in a Markdown template."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from benchmarks.records import FIGURES, Record
from benchmarks.reporting.sections import section_of
from benchmarks.reporting.values import Goal, markdown_table

TEMPLATES = Path(__file__).parents[1] / "templates"


def make_page(records: Sequence[Record]) -> str:
    """Fill in the template."""
    reasons = tomllib.loads((TEMPLATES / "reasons.toml").read_text())
    named = {name: [each for each in records if each.name == name] for name in FIGURES}
    values = {name: render(each) for name, each in named.items()}
    values["summary"] = _summary(named)
    values["missed"] = _missed(records, reasons)
    values["runs"] = _runs(records)
    return Template((TEMPLATES / "README.md").read_text()).substitute(values)


def render(records: Sequence[Record]) -> str:
    """Return the goals and tables of one measurement's records."""
    if not records:
        return "Not recorded."
    parts = [_goal_table(records)]
    for record in records:
        for table in section_of(record).tables:
            title = f"Python {record.minor}, {table.title}:"
            parts += [title, markdown_table(table.head, table.rows)]
    return "\n\n".join(part for part in parts if part)


def _goal_table(records: Sequence[Record]) -> str:
    goals: dict[str, dict[str, Goal]] = {}
    for record in records:
        for goal in section_of(record).goals:
            goals.setdefault(goal.figure, {})[record.minor] = goal
    rows = [(figure, _bounds(by), *_measured(by, records)) for figure, by in goals.items()]
    head = ("goal", "", *(f"Python {record.minor}" for record in records))
    return markdown_table(head, rows) if rows else ""


def _bounds(goals: Mapping[str, Goal]) -> str:
    bounds = {goal.bound for goal in goals.values()}
    if len(bounds) == 1:
        return bounds.pop()
    return ", ".join(f"{goal.bound} on {python}" for python, goal in goals.items())


def _measured(goals: Mapping[str, Goal], records: Sequence[Record]) -> list[str]:
    found = (goals.get(record.minor) for record in records)
    return [f"{goal.measured} {'✓' if goal.reached else '✗'}" if goal else "" for goal in found]


def _summary(named: Mapping[str, Sequence[Record]]) -> str:
    pythons = dict.fromkeys(record.minor for records in named.values() for record in records)
    rows: list[Sequence[str]] = []
    for name, records in named.items():
        goals = {record.minor: section_of(record).goals for record in records}
        counts = {
            python: f"{sum(goal.reached for goal in each)} of {len(each)}"
            for python, each in goals.items()
        }
        rows.append((f"[{name}](#{name})", *(counts.get(python, "") for python in pythons)))
    return markdown_table(("goals reached", *(f"Python {python}" for python in pythons)), rows)


def _missed(records: Sequence[Record], reasons: Mapping[str, str]) -> str:
    misses: dict[str, list[str]] = {}
    for record in records:
        for goal in section_of(record).goals:
            if not goal.reached:
                misses.setdefault(goal.figure, []).append(f"{goal.measured} on {record.minor}")
    lines = [
        f"- **{figure}** ({'; '.join(shown)}): {reasons.get(figure, 'not explained yet.').strip()}"
        for figure, shown in misses.items()
    ]
    return "\n".join(lines) or "Every goal is reached."


def _runs(records: Sequence[Record]) -> str:
    rows = [(each.minor, f"`{each.command}`", each.ended) for each in records]
    lines = {
        each.minor: f"Python {each.python} on {each.machine}, with "
        f"{', '.join(f'{package} {number}' for package, number in each.versions.items())}."
        for each in records
    }
    return "\n\n".join([markdown_table(("Python", "command", "ended, UTC"), rows), *lines.values()])
