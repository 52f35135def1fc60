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
    values = {name: _sections(records, name) for name in FIGURES}
    values["summary"] = _summary(records)
    values["missed"] = _missed(records, reasons)
    values["runs"] = _runs(records)
    return Template((TEMPLATES / "README.md").read_text()).substitute(values)


def _sections(records: Sequence[Record], name: str) -> str:
    parts = [
        f"### Python {record.minor}\n\n{section_of(record).markdown}"
        for record in records
        if record.name == name
    ]
    return "\n\n".join(parts) or "Not recorded."


def _pythons(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record.minor for record in records))


def _goals(records: Sequence[Record], name: str, python: str) -> Sequence[Goal]:
    chosen = (r for r in records if (r.name, r.minor) == (name, python))
    return [goal for record in chosen for goal in section_of(record).goals]


def _summary(records: Sequence[Record]) -> str:
    pythons = _pythons(records)

    def cell(name: str, python: str) -> str:
        goals = _goals(records, name, python)
        return f"{sum(goal.reached for goal in goals)} of {len(goals)}" if goals else ""

    rows = [(f"[{name}](#{name})", *(cell(name, python) for python in pythons)) for name in FIGURES]
    return markdown_table(("goals reached", *(f"Python {python}" for python in pythons)), rows)


def _missed(records: Sequence[Record], reasons: Mapping[str, str]) -> str:
    misses: dict[str, list[str]] = {}
    for name in FIGURES:
        for python in _pythons(records):
            for goal in _goals(records, name, python):
                if not goal.reached:
                    shown = f"{goal.measured} on {python}, goal {goal.bound}"
                    misses.setdefault(goal.figure, []).append(shown)
    lines = [
        f"- **{figure}** ({'; '.join(shown)}): {reasons.get(figure, 'no known reason.').strip()}"
        for figure, shown in misses.items()
    ]
    return "\n".join(lines) or "Every goal is reached."


def _runs(records: Sequence[Record]) -> str:
    rows = [(r.python, f"`{r.command}`", r.ended, r.machine) for r in records]
    table = markdown_table(("Python", "command", "ended, UTC", "machine"), rows)
    versions = {
        python: ", ".join(
            f"{package} {version}"
            for package, version in next(r for r in records if r.minor == python).versions.items()
        )
        for python in _pythons(records)
    }
    lines = [f"Packages on Python {python}: {shown}." for python, shown in versions.items()]
    return "\n\n".join([table, *lines])
