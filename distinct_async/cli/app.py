"""The commands, and what they come to."""

import asyncio
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack, aclosing
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number
from rich.console import Console

from distinct_async import ConfigurationError, DistinctError, Limits, VisitsType, __version__
from distinct_async.cli import FAILURE, INTERRUPTED, USAGE
from distinct_async.cli.connection import Connection
from distinct_async.cli.exporting import run_export
from distinct_async.cli.output import (
    SCAN_COLUMNS,
    Form,
    choose_form,
    scan_rows,
    touchpoint_rows,
    write_pages,
    write_rows,
)
from distinct_async.cli.picture import draw
from distinct_async.export import FileFormat, summarize
from distinct_async.export.rows import TOUCHPOINT_COLUMNS

_PAGE_SIZE: Final = 1_000

_HELP = """QR-scan visits from Distinct's API: look at them, or export them.

The API key is read from the environment's DISTINCT_API_KEY, or from a file; it is never an
argument.
"""
_EPILOGUE = (
    "Exit codes: 0 done, 1 failure, 2 usage, 3 partly exported, 130 interrupted. Data goes to"
    " stdout, everything else to stderr."
)

app = App(
    name="distinct-async",
    help=_HELP,
    help_epilogue=_EPILOGUE,
    help_format="markdown",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.meta.group_parameters = Group("Global options", sort_key=0)
app.register_install_completion_command()  # pyright: ignore[reportUnknownMemberType]

_Connected = Annotated[Connection, Parameter(parse=False)]
_Flag = Parameter(negative="", show_default=False)
_AtLeastOne = Parameter(validator=Number(gte=1))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return the exit code.

    Raises:
        SystemExit: When the command line is not usable.
    """
    for stream in (sys.stdout, sys.stderr):
        # What a terminal cannot show must not end the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return app.meta(arguments) or 0
    except DistinctError as error:
        print(f"distinct-async: {error}", file=sys.stderr)
        return USAGE if isinstance(error, ConfigurationError) else FAILURE
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must find something to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    api_key_file: Path | None = None,
    base_url: str | None = None,
    verbose: Annotated[bool, _Flag] = False,
) -> int | None:
    """Run a command with the global options.

    Args:
        api_key_file: A file with the API key and nothing else. [default: DISTINCT_API_KEY]
        base_url: Where the API is. [default: DISTINCT_BASE_URL, or https://api.distinct.so]
        verbose: Write a line for every HTTP attempt to stderr.
    """
    errors = Console(stderr=True, highlight=False)
    command, bound, injected = app.parse_args(tokens)
    extra = {"connection": Connection(api_key_file, base_url, verbose, errors)} if injected else {}
    outcome = command(*bound.args, **bound.kwargs, **extra)
    # Whatever needs no event loop is run without: one would keep an interrupt until it has ended.
    return asyncio.run(outcome) if asyncio.iscoroutine(outcome) else None


@app.command
async def touchpoints(
    experience: str, /, *, format: Form | None = None, connection: _Connected
) -> None:
    """List an experience's touchpoints with their counts.

    Example: `distinct-async touchpoints exp-1`

    Args:
        experience: The experience's id.
        format: How to write them; a table by default at a terminal, else JSON Lines.
    """
    async with connection.client() as client:
        listed = await client.touchpoints(experience).collect()
    write_rows(choose_form(format), TOUCHPOINT_COLUMNS, touchpoint_rows(listed))


@app.command
async def user(
    experience: str, user: str, /, *, format: Form | None = None, connection: _Connected
) -> None:
    """List every scan of a user within an experience.

    Example: `distinct-async user exp-1 user-7 --format csv > scans.csv`

    Args:
        experience: The experience's id.
        user: The user's id.
        format: How to write them; a table by default at a terminal, else JSON Lines.
    """
    async with connection.client() as client:
        metrics = await client.user_metrics(experience, user)
    write_rows(choose_form(format), SCAN_COLUMNS, scan_rows(metrics))


@app.command
async def visits(
    touchpoint: str,
    /,
    *,
    unique: Annotated[bool, _Flag] = False,
    limit: Annotated[int | None, _AtLeastOne] = None,
    offset: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    format: Form | None = None,
    connection: _Connected,
) -> None:
    """Stream a touchpoint's visits, oldest first.

    Example: `distinct-async visits tp-1 --unique --limit 1000 > visits.jsonl`

    Args:
        touchpoint: The touchpoint's id.
        unique: Each user's first visit only.
        limit: Most visits to write.
        offset: Visits to skip.
        format: How to write them; a table by default at a terminal, else JSON Lines.
    """
    async with connection.client() as client:
        walk = client.unique_visits if unique else client.total_visits
        pager = walk(touchpoint, offset=offset, limit=limit, page_size=_PAGE_SIZE)
        async with aclosing(pager.pages()) as pages:
            await write_pages(choose_form(format), pages)


@app.command
async def export(
    experience: str,
    /,
    *,
    to: Path,
    format: FileFormat = "parquet",
    unique: Annotated[bool, _Flag] = False,
    touchpoint: Annotated[
        list[str] | None, Parameter(consume_multiple=True, negative="", metavar="ID")
    ] = None,
    shard: Annotated[str | None, Parameter(metavar="N/COUNT")] = None,
    rate: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    concurrency: Annotated[int, _AtLeastOne] = 8,
    connection: _Connected,
) -> int:
    """Export an experience's visits to files, or what is new since the last time.

    The files are their own checkpoint: after an interruption, or a day later, run the same command
    again, and it goes on where they end.

    Example: `distinct-async export exp-1 --to visits`

    Example: `distinct-async export exp-1 --to visits --shard 3/8 --rate 40` runs the third of eight
    processes, which make 40 requests per second together.

    Args:
        experience: The experience's id.
        to: The folder to export to.
        format: The files' format. Parquet and .zst need the extra `arrow`.
        unique: Each user's first visit only.
        touchpoint: Only these touchpoints.
        shard: Only this share of the touchpoints, like 3/8 for the third of eight.
        rate: Most requests per second, of all shards together.
        concurrency: Most touchpoints, and most requests, at once.
    """
    index, count = _parse_shard(shard)
    limits = Limits(
        concurrency=concurrency, requests_per_second=None if rate is None else rate / count
    )
    async with connection.client(limits) as client:
        return await run_export(
            client,
            experience if touchpoint is None else touchpoint,
            to,
            connection.errors,
            experience_id=experience,
            format=format,
            visits_type=VisitsType.UNIQUE if unique else VisitsType.TOTAL,
            shard=(index, count),
            concurrency=concurrency,
        )


@app.command
def summary(
    directory: Path,
    /,
    *,
    unique: Annotated[bool, _Flag] = False,
    top: Annotated[int, _AtLeastOne] = 20,
) -> None:
    """Draw what was exported: bars per touchpoint, and a heatmap of the week.

    Example: `distinct-async summary visits`

    Args:
        directory: The folder that was exported to.
        unique: Of the export of unique visits, if there are both.
        top: Most touchpoints to show, those with the most visits first.
    """
    counted = summarize(directory, visits_type=VisitsType.UNIQUE if unique else None)
    draw(counted, Console(highlight=False), top=top)


@app.command
async def demo(
    *,
    touchpoints: Annotated[int, _AtLeastOne] = 12,
    visits: Annotated[int, _AtLeastOne] = 50_000,
    to: Path | None = None,
    format: FileFormat | None = None,
    connection: _Connected,
) -> int:
    """Export a synthetic experience from an embedded server, and draw it.

    Example: `distinct-async demo --visits 1_000_000 --to visits`

    Args:
        touchpoints: How many.
        visits: How many, over all touchpoints.
        to: The folder to export to. [default: a temporary one]
        format: The files' format. [default: parquet, or jsonl without the extra arrow]
    """
    # Not at the top: nothing else needs a server.
    from distinct_async.testing import FakeDistinct  # noqa: PLC0415

    form: FileFormat = format or ("parquet" if find_spec("pyarrow") else "jsonl")
    fake = FakeDistinct.synthetic(touchpoints=touchpoints, visits=visits)
    with ExitStack() as opened:
        folder = to or Path(opened.enter_context(TemporaryDirectory()))
        async with fake, fake.client() as client:
            connection.errors.print(f"streaming from the embedded server at {fake.url}")
            code = await run_export(client, "exp-1", folder, connection.errors, format=form)
        summary(folder)
    return code


def _parse_shard(text: str | None) -> tuple[int, int]:
    """Return the number of a share, from 1, and how many there are."""
    if text is None:
        return 1, 1
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigurationError(f"--shard must be like 3/8, for the third of eight, got {text!a}")
    return int(match[1]), int(match[2])
