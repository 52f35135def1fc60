"""Measure decoding a page: bytes to a `VisitPage`, beside the JSON parsers alone.

Run with ``python -m benchmarks.decode``. Every contestant decodes the same bytes in interleaved
rounds, and each figure is the median of its rounds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import orjson

from distinct_async import VisitsType, wire
from distinct_async.config import ApiKey


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


def measure(contestants: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Return each contestant's median seconds per call, from interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, decode in contestants.items():
            started = time.perf_counter()
            decode()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000, help="visits of the page")
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    body = make_body(options.items)
    reply = wire.Reply(200, {}, body, ApiKey("key"), 0.0)
    medians = measure(
        {
            "orjson, parse alone": lambda: orjson.loads(body),
            "json, parse alone": lambda: json.loads(body),
            "bytes to VisitPage": lambda: wire.decode_visits(reply, VisitsType.TOTAL),
        },
        rounds=options.rounds,
    )
    fastest = medians["orjson, parse alone"]
    print(f"{'decoding':<22}{'items/s':>14}{'of orjson alone':>18}")
    for name, seconds in medians.items():
        print(f"{name:<22}{options.items / seconds:>14,.0f}{fastest / seconds:>18.2f}")


if __name__ == "__main__":
    main()
