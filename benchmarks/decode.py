"""Measure decoding a page: bytes to a `VisitPage`, beside parsers that do less.

Run with ``python -m benchmarks.decode``. Every contestant decodes the same bytes in interleaved
rounds; ratios are taken within a round. msgspec to Struct is what is physically possible: types
and timestamps checked in C, into its own kind of object. Exits with 1 if the goal is missed with
pages of 1,000.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import attrs
import msgspec
import orjson

from benchmarks.measuring import RESULTS, Goal, Spread, Table, conclude
from distinct_async import VisitsType, wire
from distinct_async.config import ApiKey

OURS = "bytes to VisitPage"
ORJSON = "orjson, parse alone"
JSON = "json, parse alone"
STRUCT = "msgspec to Struct"

GOAL = 0.3
JUDGED = 1_000
# As many calls at a time as make a clock's own cost nothing.
BATCH_ITEMS = 5_000


class StructVisit(msgspec.Struct, gc=False):
    """A visit as msgspec likes it best."""

    user_id: str = msgspec.field(name="userId")
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] = msgspec.field(name="timestampUTC")


class StructPagination(msgspec.Struct, rename="camel"):
    """Where the page is."""

    offset: int
    page_size: int


class StructDetails(msgspec.Struct):
    """The page."""

    items: list[StructVisit]
    pagination: StructPagination


class StructTouchpoint(msgspec.Struct, rename="camel"):
    """The touchpoint."""

    id: str
    name: str
    value: str
    total_visits: int
    total_visits_details: StructDetails


class StructData(msgspec.Struct):
    """The envelope's data."""

    touchpoints: StructTouchpoint


class StructEnvelope(msgspec.Struct, rename="camel"):
    """The envelope."""

    status_code: int
    data: StructData


@attrs.frozen
class Outcome:
    """What one size of page came to.

    Attributes:
        items: Visits of the page.
        rounds: Of each contestant, seconds per call in each round.
    """

    items: int
    rounds: Mapping[str, Sequence[float]]

    def ratio(self, title: str) -> Spread:
        """Return how fast a contestant is, of orjson alone."""
        return Spread.of_ratios(self.rounds[ORJSON], self.rounds[title])


def make_body(items: int) -> bytes:
    """Return a TOUCHPOINT response of so many visits."""
    visits = [
        {"userId": f"user-{i}", "timestampUTC": f"2024-01-01T10:{i // 60 % 60:02}:{i % 60:02}Z"}
        for i in range(items)
    ]
    details = {"items": visits, "pagination": {"offset": 0, "pageSize": items}}
    touchpoint = {
        "id": "tp-1",
        "name": "Entry Scan",
        "value": "entry_scan",
        "totalVisits": items,
        "totalVisitsDetails": details,
    }
    envelope = {"statusCode": 200, "message": "ok", "data": {"touchpoints": touchpoint}}
    return orjson.dumps(envelope)


def make_contestants(body: bytes) -> Mapping[str, Callable[[], object]]:
    """Return what decodes a body."""
    reply = wire.Reply(200, {}, body, ApiKey("key"), 0.0)
    to_structs = msgspec.json.Decoder(StructEnvelope)
    return {
        ORJSON: lambda: orjson.loads(body),
        JSON: lambda: json.loads(body),
        STRUCT: lambda: to_structs.decode(body),
        OURS: lambda: wire.decode_visits(reply, VisitsType.TOTAL),
    }


def measure(items: int, rounds: int) -> Outcome:
    """Let each contestant decode in turn, round after round."""
    contestants = make_contestants(make_body(items))
    calls = max(1, BATCH_ITEMS // items)
    seconds: dict[str, list[float]] = {title: [] for title in contestants}
    for _ in range(rounds):
        for title, decode in contestants.items():
            started = time.perf_counter()
            for _ in range(calls):
                decode()
            seconds[title].append((time.perf_counter() - started) / calls)
    return Outcome(items, seconds)


def make_table(outcome: Outcome) -> Table:
    """Return a page's figures."""
    rows = tuple(
        (
            title,
            Spread.of(outcome.items / each for each in seconds).shown(0),
            outcome.ratio(title).shown(),
        )
        for title, seconds in outcome.rounds.items()
    )
    head = ("", "items/s", "of orjson alone")
    return Table(f"Pages of {outcome.items:,}", head, rows)


def make_goals(outcomes: Sequence[Outcome]) -> list[Goal]:
    """Return the goal, which is for pages of 1,000."""
    return [
        Goal(f"decoding, pages of {JUDGED:,}: of orjson alone", GOAL, outcome.ratio(OURS))
        for outcome in outcomes
        if outcome.items == JUDGED
    ]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[50, JUDGED], help="per page")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write to")
    options = parser.parse_args()
    outcomes = [measure(items, options.rounds) for items in options.items]
    reached = conclude(
        "decode",
        tables=[make_table(outcome) for outcome in outcomes],
        goals=make_goals(outcomes),
        raw=[attrs.asdict(outcome) for outcome in outcomes],
        packages=("orjson", "msgspec", "attrs"),
        folder=options.results,
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
