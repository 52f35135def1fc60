"""The command line: a demo against the embedded fake server, and visits as JSON Lines.

Data goes to stdout, everything else to stderr. Exit codes: 0 done (or the reader went away),
1 failure, 2 usage, 130 interrupted.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import attrs

from distinct_async import DistinctClient, DistinctError, TouchpointSummary, Visit, __version__

_FAILURE, _INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    Args:
        arguments: The command line; that of the process if None.

    Raises:
        SystemExit: With 2, when the command line is not usable.
    """
    options = _make_parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], Coroutine[Any, Any, None]] = options.run
    try:
        asyncio.run(command(options))
    except DistinctError as error:
        print(f"distinct-async: {error}", file=sys.stderr)
        return _FAILURE
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must find something to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distinct-async", description="QR-scan visits from Distinct's API."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="stream a synthetic experience from a fake server")
    demo.add_argument("--touchpoints", type=_count, default=12, help="default: 12")
    demo.add_argument("--visits", type=_count, default=50_000, help="default: 50,000")
    demo.set_defaults(run=_demo)

    visits = commands.add_parser(
        "visits",
        help="write a touchpoint's visits as JSON Lines",
        epilog="The API key is read from DISTINCT_API_KEY, the base URL from DISTINCT_BASE_URL.",
    )
    visits.add_argument("touchpoint_id", metavar="TOUCHPOINT_ID")
    visits.add_argument("--unique", action="store_true", help="each user's first visit only")
    visits.add_argument("--limit", type=_count, help="most visits to write")
    visits.set_defaults(run=_visits)
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


async def _visits(options: argparse.Namespace) -> None:
    async with DistinctClient() as client:
        walk = client.unique_visits if options.unique else client.total_visits
        async with aclosing(walk(options.touchpoint_id, limit=options.limit).pages()) as pages:
            async for page in pages:
                sys.stdout.writelines(map(_json_line, page.items))
                sys.stdout.flush()


def _json_line(visit: Visit) -> str:
    row = {"user_id": visit.user_id, "timestamp": visit.timestamp.isoformat()}
    return json.dumps(row) + "\n"


@attrs.define
class _Row:
    touchpoint: TouchpointSummary
    total: int = 0
    unique: int = 0
    first: Visit | None = None
    last: Visit | None = None


async def _demo(options: argparse.Namespace) -> None:
    # Not at the top: `visits` needs no server.
    from distinct_async.testing import FakeDistinct  # noqa: PLC0415

    fake = FakeDistinct.synthetic(touchpoints=options.touchpoints, visits=options.visits)
    async with fake, fake.client() as client:
        print(f"streaming from the embedded server at {fake.url}", file=sys.stderr)
        started = time.perf_counter()
        rows = [await _stream(client, t) async for t in client.touchpoints("exp-1")]
        seconds = time.perf_counter() - started
    print(_table(rows))
    items = sum(row.total + row.unique for row in rows)
    print(
        f"\n{items:,} items in {fake.request_count:,} HTTP requests, {seconds:.2f} s:"
        f" {items / seconds:,.0f} items/s"
    )


async def _stream(client: DistinctClient, touchpoint: TouchpointSummary) -> _Row:
    row = _Row(touchpoint)
    async for visit in client.total_visits(touchpoint.id):
        row.total += 1
        row.first = row.first or visit
        row.last = visit
    async for _ in client.unique_visits(touchpoint.id):
        row.unique += 1
    return row


def _table(rows: Sequence[_Row]) -> str:
    lines: list[tuple[str, ...]] = [("touchpoint", "total", "unique", "first scan", "last scan")]
    lines += [
        (
            row.touchpoint.name,
            f"{row.total:,}",
            f"{row.unique:,}",
            *map(_when, (row.first, row.last)),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        f"{name:<{widths[0]}}  {total:>{widths[1]}}  {unique:>{widths[2]}}  {first:<{widths[3]}}"
        f"  {last:<{widths[4]}}".rstrip()
        for name, total, unique, first, last in lines
    )


def _when(visit: Visit | None) -> str:
    return "-" if visit is None else f"{visit.timestamp:%Y-%m-%d %H:%M:%S} UTC"
