"""The command line of the measurements."""

import argparse
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.records import RESULTS, Record
from benchmarks.reporting.page import render
from benchmarks.reporting.sections import section_of

Option: TypeAlias = list[str | int] | str | int | float | Path | None


def make_parser(description: str | None, *, beside: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options that the measurements share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the record")
    if beside:
        help_text = "also measure the distinct_async that this interpreter has installed"
        parser.add_argument("--beside", metavar="PYTHON", help=help_text)
    return parser


def conclude(
    parser: argparse.ArgumentParser, options: argparse.Namespace, name: str, figures: Any
) -> bool:
    """Write the record, print its tables, and return whether every goal is reached."""
    record = Record.of(name, _command(parser, options, name), figures)
    record.write(options.results)
    print(f"\n{render([record])}")
    return all(goal.reached for goal in section_of(record).goals)


def _command(parser: argparse.ArgumentParser, options: argparse.Namespace, name: str) -> str:
    words, given = [f"python -m benchmarks.{name}"], dict[str, Option](vars(options))
    for option, value in given.items():
        if option != "results" and value != parser.get_default(option):
            values = value if isinstance(value, list) else [value]
            # A record names no path of the machine.
            shown = ["PYTHON"] if option == "beside" else map(str, values)
            words += [f"--{option}", *shown]
    return " ".join(words)
