"""The contestants: each function runs in a process of its own, and each module needs one library.

All of them deliver every item, one by one, to a loop that counts them.
"""

import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs

METRICS = "/v3/touchpoint/metrics"
KEY = {"x-distinct-api-key": "key"}
WARM_UP_CALLS = 20


@attrs.frozen
class Contestant:
    """One way to do the job.

    Attributes:
        title: Its name in tables.
        function: "module:function" within this package.
        arguments: The function's arguments that belong to this contestant.
        python: The interpreter to run it with.
    """

    title: str
    function: str
    arguments: Mapping[str, object] = attrs.field(factory=dict[str, object])
    python: str = sys.executable


BEFORE = "distinct_async, before"

OURS = "distinct_async, default settings"
SEQUENTIAL = "distinct_async, prefetch=1"
WIDE = "distinct_async, prefetch=16"
BARE = "bare aiohttp and orjson"
HTTPX = "httpx, a loop by hand"
OPENAI = "openai's AsyncAPIClient"
DLT = "dlt's RESTClient"
SINGER = "singer-sdk's RESTStream"
PEERS = (HTTPX, OPENAI, DLT, SINGER)

WALKERS = (
    Contestant(OURS, "ours:walk"),
    Contestant(SEQUENTIAL, "ours:walk", {"prefetch": 1}),
    Contestant(WIDE, "ours:walk", {"prefetch": 16}),
    Contestant(BARE, "bare:walk"),
    Contestant(HTTPX, "httpx_loop:walk"),
    Contestant(OPENAI, "openai_pages:walk"),
    Contestant(DLT, "dlt_client:walk"),
    Contestant(SINGER, "singer_stream:walk"),
)

DECODE = "distinct_async, bytes to VisitPage"
ORJSON = "orjson, parse alone"

DECODERS = (
    Contestant(DECODE, "ours_decoding:decode"),
    Contestant(ORJSON, "parsers:orjson_alone"),
    Contestant("json, parse alone", "parsers:json_alone"),
    Contestant("msgspec, bytes to Structs", "parsers:msgspec_structs"),
)

CALL = "`client.touchpoint_metrics`"
UNPARSED = "bare aiohttp, not parsed"

CALLERS = (
    Contestant(CALL, "ours:call"),
    Contestant(BARE, "bare:call"),
    Contestant(UNPARSED, "bare:call", {"parse": False}),
)

VISITS_EACH = 200
ACROSS = "`pages_across`, one in flight each"
BARE_LOOP = "bare loop"

FETCHERS = (
    Contestant(ACROSS, "ours:fan_out"),
    Contestant("`pages_across`, prefetching", "ours:fan_out", {"in_flight": 4}),
    Contestant(BARE_LOOP, "bare:fan_out", {"visits": VISITS_EACH}),
)

EXPORT = "`export_visits`"

EXPORTERS = (
    Contestant(EXPORT, "ours_export:export"),
    Contestant(BARE_LOOP, "bare_export:export"),
)


def beside(contestants: Sequence[Contestant], python: str | None) -> list[Contestant]:
    """Add the version that another interpreter has installed, next to ours, which is first."""
    ours, *others = contestants
    if python is None:
        return [*contestants]
    return [ours, attrs.evolve(ours, title=BEFORE, python=python), *others]


def page_body(items: int) -> bytes:
    """Return a TOUCHPOINT response that holds this number of visits."""
    visits = [
        {"userId": f"user-{i}", "timestampUTC": f"2024-01-01T10:{i // 60 % 60:02}:{i % 60:02}Z"}
        for i in range(items)
    ]
    touchpoint = {
        "id": "tp-1",
        "name": "Entry Scan",
        "value": "entry_scan",
        "totalVisits": items,
        "totalVisitsDetails": {"items": visits, "pagination": {"offset": 0, "pageSize": items}},
    }
    envelope = {"statusCode": 200, "message": "ok", "data": {"touchpoints": touchpoint}}
    return json.dumps(envelope, separators=(",", ":")).encode()


def time_decoding(decode: Callable[[], object], calls: int) -> float:
    """Return the seconds of processor time per call."""
    # Refills the caches after the other contestants' turns.
    decode()
    started = time.process_time()
    for _ in range(calls):
        decode()
    return (time.process_time() - started) / calls


async def time_requests(request: Callable[[], Awaitable[object]], requests: int) -> float:
    """Return the seconds of processor time per request, on a connection that is warm."""
    for _ in range(WARM_UP_CALLS):
        await request()
    started = time.process_time()
    for _ in range(requests):
        await request()
    return (time.process_time() - started) / requests
