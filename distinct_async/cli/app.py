"""The commands and their options."""

import asyncio
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack, aclosing, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

from cyclopts import App, Group, Parameter, Token
from cyclopts.validators import Number
from rich.console import Console

from distinct_async import ConfigurationError, DistinctError, Limits, VisitsType, __version__
from distinct_async._checks import LARGEST_INTEGER, require_shard
from distinct_async._rows import TOUCHPOINT_COLUMNS, touchpoint_row
from distinct_async.cli import FAILURE, INTERRUPTED, SUCCESS, TERMINATED, USAGE_ERROR
from distinct_async.cli.charts import draw_summary
from distinct_async.cli.connection import Connection
from distinct_async.cli.exporting import run_export
from distinct_async.cli.output import (
    SCAN_COLUMNS,
    OutputFormat,
    choose_format,
    scan_rows,
    write_pages,
    write_rows,
)
from distinct_async.cli.process import (
    StdoutConsole,
    Terminated,
    discard_stdout,
    prepare_streams,
    run_until_terminated,
)
from distinct_async.export import FileFormat, summarize

_PAGE_SIZE: Final = 1_000

_HELP = """Explore and export QR-scan visits from Distinct's API.

Set the environment variable DISTINCT_API_KEY to the API key, or use --api-key-file. The key itself
is never an argument.
"""
_EPILOGUE = (
    "Exit codes: 0 success, 1 failure, 2 usage error, 3 partly exported, 130 interrupted, 143"
    " terminated. Data goes to stdout, everything else to stderr."
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

_Injected = Annotated[Connection, Parameter(parse=False)]
_Flag = Parameter(negative="", show_default=False)
_AtLeastOne = Parameter(validator=Number(gte=1, lte=LARGEST_INTEGER))


def _to_path(_: type, tokens: Sequence[Token]) -> Path:
    # pathlib takes an empty path for the current folder.
    (token,) = tokens
    if not token.value or "\0" in token.value:
        # cyclopts names options, but not positional arguments.
        raise ValueError(f"{'it' if token.keyword else 'DIRECTORY'} must be a path")
    return Path(token.value)


_Path = Annotated[Path, Parameter(converter=_to_path)]


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code.

    Raises:
        SystemExit: The arguments are unusable.
    """
    prepare_streams()
    app.console = app.meta.console = StdoutConsole()
    try:
        code: int = app.meta(arguments) or SUCCESS
        sys.stdout.flush()
    except DistinctError as error:
        print(f"distinct-async: {error}", file=sys.stderr)
        return USAGE_ERROR if isinstance(error, ConfigurationError) else FAILURE
    except OSError as error:
        # Commands convert errors of files and connections, so this is one of the streams.
        discard_stdout()
        if isinstance(error, BrokenPipeError):
            return SUCCESS
        print(f"distinct-async: cannot write to stdout: {error.strerror or error}", file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    return code


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    api_key_file: _Path | None = None,
    base_url: str | None = None,
    verbose: Annotated[bool, _Flag] = False,
) -> int | None:
    """Run a command with the global options.

    Args:
        api_key_file: File that contains only the API key. [default: DISTINCT_API_KEY]
        base_url: Base URL of the API. [default: DISTINCT_BASE_URL, or https://api.distinct.so]
        verbose: Print every HTTP attempt to stderr.
    """
    stderr = Console(stderr=True, highlight=False)
    command, bound, injected = app.parse_args(tokens)
    extra = {"connection": Connection(api_key_file, base_url, verbose, stderr)} if injected else {}
    outcome = command(*bound.args, **bound.kwargs, **extra)
    # Synchronous commands run outside an event loop, which would defer Ctrl-C to their end.
    return asyncio.run(run_until_terminated(outcome)) if asyncio.iscoroutine(outcome) else None


@app.command
async def touchpoints(
    experience: str, /, *, format: OutputFormat | None = None, connection: _Injected
) -> None:
    """List an experience's touchpoints with their visit counts.

    Example: `distinct-async touchpoints exp-1`

    Args:
        experience: Experience id.
        format: Output format. [default: table on a terminal, jsonl otherwise]
    """
    async with connection.client() as client:
        listed = await client.touchpoints(experience).collect()
    write_rows(choose_format(format), TOUCHPOINT_COLUMNS, map(touchpoint_row, listed))


@app.command
async def user(
    experience: str, user: str, /, *, format: OutputFormat | None = None, connection: _Injected
) -> None:
    """List a user's scans within an experience.

    Example: `distinct-async user exp-1 user-7 --format csv > scans.csv`

    Args:
        experience: Experience id.
        user: User id.
        format: Output format. [default: table on a terminal, jsonl otherwise]
    """
    async with connection.client() as client:
        metrics = await client.user_metrics(experience, user)
    write_rows(choose_format(format), SCAN_COLUMNS, scan_rows(metrics))


@app.command
async def visits(
    touchpoint: str,
    /,
    *,
    unique: Annotated[bool, _Flag] = False,
    limit: Annotated[int | None, _AtLeastOne] = None,
    offset: Annotated[int, Parameter(validator=Number(gte=0, lte=LARGEST_INTEGER))] = 0,
    page_size: Annotated[int, _AtLeastOne] = _PAGE_SIZE,
    format: OutputFormat | None = None,
    connection: _Injected,
) -> None:
    """Stream a touchpoint's visits in the order in which the server lists them.

    Example: `distinct-async visits tp-1 --unique --limit 1000 > visits.jsonl`

    Args:
        touchpoint: Touchpoint id.
        unique: Only each user's first visit.
        limit: Maximum number of visits.
        offset: Number of visits to skip.
        page_size: Visits per request.
        format: Output format. [default: table on a terminal, jsonl otherwise]
    """
    async with connection.client() as client:
        walk = client.unique_visits if unique else client.total_visits
        pager = walk(touchpoint, offset=offset, limit=limit, page_size=page_size)
        async with aclosing(pager.pages()) as pages:
            await write_pages(choose_format(format), pages)


@app.command
async def export(
    experience: str,
    /,
    *,
    to: _Path,
    format: FileFormat = "parquet",
    unique: Annotated[bool, _Flag] = False,
    touchpoint: Annotated[
        list[str] | None, Parameter(consume_multiple=True, negative="", metavar="ID")
    ] = None,
    shard: Annotated[str | None, Parameter(metavar="N/COUNT")] = None,
    rate: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    concurrency: Annotated[int, _AtLeastOne] = 8,
    page_size: Annotated[int, _AtLeastOne] = _PAGE_SIZE,
    connection: _Injected,
) -> int:
    """Export an experience's visits, or add new visits to an earlier export.

    Each run continues where the exported files end. To resume an interrupted export, or to fetch
    the visits since the last one, run the same command again.

    Example: `distinct-async export exp-1 --to visits`

    Example: `distinct-async export exp-1 --to visits --shard 3/8 --rate 40` exports the third of
    eight shards. All eight together make up to 40 requests per second.

    Args:
        experience: Experience id.
        to: Destination folder.
        format: File format. Parquet and .zst need the extra `arrow`.
        unique: Only each user's first visit.
        touchpoint: Only these touchpoints.
        shard: Only this share of the touchpoints, such as 3/8 for the third of eight.
        rate: Maximum requests per second, for all shards together.
        concurrency: Maximum number of touchpoints, and of requests, at once.
        page_size: Visits per request.
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
            connection.stderr,
            experience_id=experience,
            format=format,
            visits_type=VisitsType.UNIQUE if unique else VisitsType.TOTAL,
            shard=(index, count),
            concurrency=concurrency,
            page_size=page_size,
        )


@app.command
def summary(
    directory: _Path,
    /,
    *,
    unique: Annotated[bool, _Flag] = False,
    top: Annotated[int, _AtLeastOne] = 20,
) -> None:
    """Chart exported visits per touchpoint and per hour of the week.

    Example: `distinct-async summary visits`

    Args:
        directory: Folder that holds the export.
        unique: Chart unique visits even if all visits were exported.
        top: Maximum number of touchpoints, by descending visits.
    """
    counts = summarize(directory, visits_type=VisitsType.UNIQUE if unique else None)
    draw_summary(counts, StdoutConsole(highlight=False), top=top)


@app.command
async def demo(
    *,
    touchpoints: Annotated[int, _AtLeastOne] = 12,
    visits: Annotated[int, _AtLeastOne] = 50_000,
    to: _Path | None = None,
    format: FileFormat | None = None,
    connection: _Injected,
) -> int:
    """Export a synthetic experience from an embedded server and chart it.

    Example: `distinct-async demo --visits 1_000_000 --to visits`

    Args:
        touchpoints: Number of touchpoints.
        visits: Number of visits, over all touchpoints.
        to: Destination folder. [default: a temporary folder]
        format: File format. [default: parquet, or jsonl without the extra arrow]
    """
    # Imported here because no other command needs a server.
    from distinct_async.testing import FakeDistinct  # noqa: PLC0415

    file_format: FileFormat = format or ("parquet" if find_spec("pyarrow") else "jsonl")
    fake = FakeDistinct.synthetic(touchpoints=touchpoints, visits=visits)
    with ExitStack() as stack:
        folder = to or Path(stack.enter_context(TemporaryDirectory()))
        async with fake, fake.client() as client:
            connection.stderr.print(f"streaming from the embedded server at {fake.url}")
            code = await run_export(client, "exp-1", folder, connection.stderr, format=file_format)
        summary(folder)
    return code


def _parse_shard(text: str | None) -> tuple[int, int]:
    """Return the index, counted from 1, and the number of shards in text like ``3/8``."""
    if text is None:
        return require_shard(None)
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    with suppress(ConfigurationError):
        if match is not None:
            return require_shard((int(match[1]), int(match[2])))
    raise ConfigurationError(f"--shard must look like 3/8, for the third of eight, got {text!a}")
