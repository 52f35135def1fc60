"""Every page of the documentation: its blocks and commands run, and its paths exist."""

import asyncio
import re
import shlex
from pathlib import Path

import pytest

from distinct_async import DistinctClient, Visit
from distinct_async.cli import main
from distinct_async.export import export_visits
from tests.docs.pages import (
    GUIDES,
    PACKAGE,
    PAGES,
    README,
    ROOT,
    TEXTS,
    blocks_of,
    commands_of,
    execute,
)

PYTHON_BLOCKS = [
    pytest.param(block, id=f"{page}: {block.splitlines()[0]}")
    for page in PAGES
    for block in blocks_of(page, "python")
]
COMMANDS = sorted({command for page in PAGES for command in commands_of(page)})


@pytest.mark.parametrize("block", PYTHON_BLOCKS)
async def test_every_python_block_runs(
    block: str, client: DistinctClient, visits: list[Visit]
) -> None:
    await export_visits(client, "exp-1", "visits")

    names = await execute(block, client=client)

    assert names.keys() > {"client"}


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_runs(
    command: str, client: DistinctClient, visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    await export_visits(client, "exp-1", "visits")
    arguments = shlex.split(command.partition(" > ")[0], comments=True)[1:]

    code = await asyncio.to_thread(main, arguments)

    assert code == 0
    assert "".join(capsys.readouterr())


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_code(page: str) -> None:
    assert blocks_of(page, "python") or commands_of(page)


# --- Links and paths


@pytest.mark.parametrize("guide", GUIDES)
def test_relative_links_of_a_guide_stay_within_the_package(guide: str) -> None:
    for target in links_of(GUIDES[guide]):
        if "://" not in target:
            linked = (GUIDES[guide].parent / target).resolve()
            assert linked.is_file()
            assert linked.is_relative_to(PACKAGE)


def test_the_readme_has_no_relative_links() -> None:
    # A package index shows the README without the files beside it.
    assert all("://" in target for target in links_of(README))


def links_of(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_every_named_document_exists(page: str) -> None:
    for path in re.findall(r"`([\w/.]+\.md)`", TEXTS[page]):
        folder = PACKAGE.parent if path.startswith("distinct_async/") else ROOT
        assert (folder / path).is_file()


def test_the_readme_names_every_guide() -> None:
    for guide in GUIDES.values():
        assert f"`{guide.relative_to(PACKAGE.parent).as_posix()}`" in TEXTS["README"]


# --- The README's form


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README"].splitlines()) <= 170


TOPICS = [
    "Streaming",
    "Many touchpoints",
    "Export",
    "Living lists",
    "Errors and resuming",
    "In a service",
    "Command line",
    "Configuration",
    "Testing",
]


def test_the_readme_has_all_topics_in_order() -> None:
    headings = re.findall(r"^## (.*)$", TEXTS["README"], re.MULTILINE)

    assert headings == ["Try it from a clone", *TOPICS]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_has_at_most_twelve_lines_of_prose_and_code(topic: str) -> None:
    section = TEXTS["README"].partition(f"\n## {topic}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line and not line.startswith("```")]

    assert 0 < len(lines) <= 12


def test_the_two_commands_are_one_line_each() -> None:
    commands = blocks_of("README", "sh")[:2]

    assert [command.count("\n") for command in commands] == [1, 1]
    assert commands[0].strip().endswith("-m distinct_async demo")
    assert commands[1].strip().endswith("pytest")
