"""Experiments that measure how the client survives faults, over real sockets.

`tests/faults/test_survival.py` runs them small, and `python -m benchmarks.faults` at full size.
"""

import asyncio
import json
import random
import re
import resource
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import attrs
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from distinct_async import (
    ClientClosedError,
    DistinctClient,
    DistinctError,
    Limits,
    RetryPolicy,
    Runtime,
    Timeouts,
    TransportError,
    VisitPage,
    VisitsType,
)
from distinct_async.testing import FakeClock
from tests.support.faults import (
    CHUNKED,
    DEFLATE,
    FAULTS,
    GZIP,
    IMPATIENT,
    Fault,
    Outcome,
    bomb,
    flipped,
    gzipped,
    named,
)
from tests.support.helpers import KEY, ONCE, eventually, free_slots, shown_by
from tests.support.raw_server import (
    Exchange,
    RawServer,
    Script,
    chunks_of,
    flood,
    hang,
    head_of,
    reply,
    reset,
    send,
)

_LONG_WALK: Final = 5_000
# Faults that a retry can overcome.
TRANSIENT: Final = tuple(fault for fault in FAULTS if fault.outcome is Outcome.RETRIED)


def page_body(touchpoint_id: str, offset: int, stop: int, *, total: int, page_size: int) -> bytes:
    """Return the page of a touchpoint whose nth visit is by the user ``visit-n``."""
    items = ",".join(
        f'{{"userId":"visit-{i}","timestampUTC":"2024-01-01T{i // 3600 % 24:02}:'
        f'{i // 60 % 60:02}:{i % 60:02}Z"}}'
        for i in range(offset, stop)
    )
    return (
        f'{{"statusCode":200,"message":"ok","data":{{"touchpoints":{{"id":"{touchpoint_id}",'
        f'"name":"N","value":"v","totalVisits":{total},"totalVisitsDetails":{{"items":[{items}],'
        f'"pagination":{{"offset":{offset},"pageSize":{page_size}}}}}}}}}}}'
    ).encode()


class VisitServer:
    """A script that serves pages of synthetic visits and corrupts some of them.

    Attributes:
        requests: Number of requests received.
        spoilt: Number of responses corrupted by each fault.
    """

    def __init__(
        self, visits: int, *, seed: int = 0, rate: float = 0.0, faults: Sequence[Fault] = FAULTS
    ) -> None:
        self.requests = 0
        self.spoilt = Counter[str]()
        self._visits = visits
        self._random = random.Random(seed)
        self._rate = rate
        self._faults = faults
        self._weights = [fault.weight for fault in faults]

    async def __call__(self, exchange: Exchange) -> None:
        self.requests += 1
        parameters = exchange.parameters
        offset, size = int(parameters.get("offset", 0)), int(parameters.get("pageSize", 50))
        stop = max(offset, min(offset + size, self._visits))
        body = page_body(
            parameters["touchpointId"], offset, stop, total=self._visits, page_size=size
        )
        await self._script(body)(exchange)

    def _script(self, body: bytes) -> Script:
        if self._random.random() >= self._rate:
            return reply(body)
        (fault,) = self._random.choices(self._faults, self._weights)
        self.spoilt[fault.name] += 1
        if fault.outcome is not Outcome.READ:
            # The server echoes the key; an error that shows the response must redact it.
            body = body.replace(b'"name":"N"', b'"name":"%s"' % KEY.encode())
        return fault.corrupt(body)


def make_client(raw: RawServer, retry: RetryPolicy | None = None, **options: Any) -> DistinctClient:
    """Create a client that never sleeps and soon gives up on a stalled response."""
    defaults = {"timeouts": IMPATIENT, "runtime": FakeClock().runtime}
    return DistinctClient(
        KEY, base_url=raw.url, retry=retry or RetryPolicy(), **{**defaults, **options}
    )


def shows_key(error: DistinctError) -> bool:
    """Return whether the error reveals the key: in its texts, its chain or its frames' locals."""
    return KEY in shown_by(error)


# --- A walk through every fault


@attrs.define
class WalkFigures:
    """The results of a walk through faults.

    Attributes:
        delivered: Number of visits delivered.
        lost: Number of visits missed.
        repeated: Number of visits delivered again.
        gave_up: Number of errors after which the walk was resumed at `next_offset`.
        leaks: Number of those errors that show the key.
        wrong_offsets: Number of those errors whose `next_offset` is not the first missing visit.
        requests: Number of requests that the server received.
        spoilt: Number of responses that were faults.
    """

    delivered: int = 0
    lost: int = 0
    repeated: int = 0
    gave_up: int = 0
    leaks: int = 0
    wrong_offsets: int = 0
    requests: int = 0
    spoilt: int = 0

    def count(self, page: VisitPage, expected: int) -> int:
        """Count a page's visits, and return the index of the visit that must follow."""
        for visit in page.items:
            index = int(visit.user_id.removeprefix("visit-"))
            self.lost += max(0, index - expected)
            self.repeated += max(0, expected - index)
            expected = index + 1
        self.delivered += len(page.items)
        return expected


async def walk_through_faults(
    *, visits: int, page_size: int, seed: int, rate: float = 0.2, attempts: int = 10
) -> WalkFigures:
    """Walk a touchpoint whose server corrupts some responses, and resume after every error."""
    server, figures = VisitServer(visits, seed=seed, rate=rate), WalkFigures()
    offset = expected = 0
    async with RawServer() as raw, make_client(raw, RetryPolicy(attempts=attempts)) as client:
        raw.play(server)
        # Bounded: every error but a few must have been preceded by progress.
        for _ in range(visits // page_size + 10):
            walk = client.total_visits("tp", offset=offset, page_size=page_size, prefetch=16)
            try:
                async for page in walk.pages():
                    expected = figures.count(page, expected)
                break
            except DistinctError as error:
                if error.next_offset is None:
                    raise
                figures.gave_up += 1
                figures.leaks += shows_key(error)
                figures.wrong_offsets += error.next_offset != expected
                offset = error.next_offset
    figures.lost += visits - expected
    figures.requests, figures.spoilt = server.requests, server.spoilt.total()
    return figures


# --- Single calls


@attrs.frozen
class CallFigures:
    """The results of many single calls.

    Attributes:
        calls: Number of calls.
        succeeded: Number of calls that returned the right page.
        failures: Number of errors by type; "wrong" counts wrong pages.
        leaks: Number of errors that show the key.
        requests: Number of requests that the server received.
    """

    calls: int
    succeeded: int
    failures: Counter[str]
    leaks: int
    requests: int


async def single_calls(
    *, calls: int, seed: int, rate: float = 0.2, faults: Sequence[Fault] = TRANSIENT
) -> CallFigures:
    """Make single calls, 16 at a time, to a server that corrupts some responses."""
    server, outcomes = VisitServer(3, seed=seed, rate=rate, faults=faults), Counter[str]()
    numbers = iter(range(calls))

    async with RawServer() as raw, make_client(raw) as client:
        raw.play(server)

        async def work() -> None:
            for number in numbers:
                name = f"tp-{number}"
                try:
                    page = await client.touchpoint_metrics(name)
                except DistinctError as error:
                    outcomes[type(error).__name__] += 1
                    outcomes["leak"] += shows_key(error)
                else:
                    right = page.touchpoint.id == name and len(page.items) == page.total == 3
                    outcomes["right" if right else "wrong"] += 1

        await asyncio.gather(*(work() for _ in range(16)))
    succeeded, leaks = outcomes.pop("right", 0), outcomes.pop("leak", 0)
    return CallFigures(calls, succeeded, outcomes, leaks, server.requests)


async def outage(*, calls: int, seed: int = 0) -> CallFigures:
    """Make single calls to a server that never answers properly."""
    down = named("closed before the head", "reset before the head", "429", "502", "503")
    return await single_calls(calls=calls, seed=seed, rate=1.0, faults=down)


# --- Truncated and corrupted bodies


@attrs.define
class BodyFigures:
    """The results of reading damaged bodies.

    Attributes:
        tried: Number of bodies.
        right: Number decoded to the right page, since the damage spared the data.
        refused: Number that raised one of our errors.
        leaks: Number of those errors that show the key.
        wrong: Number decoded to a wrong page.
    """

    tried: int = 0
    right: int = 0
    refused: int = 0
    leaks: int = 0
    wrong: int = 0

    def __add__(self, other: "BodyFigures") -> "BodyFigures":
        pairs = zip(attrs.astuple(self), attrs.astuple(other), strict=True)
        return BodyFigures(*map(sum, pairs))


_ENCODINGS: Final[dict[str, tuple[Callable[[bytes], bytes], tuple[bytes, ...]]]] = {
    "identity": (bytes, ()),
    "gzip": (gzipped, (GZIP,)),
    "deflate": (zlib.compress, (DEFLATE,)),
}


def cut_bodies(body: bytes, encoding: str) -> Iterator[Script]:
    """Truncate a body at every byte, and end it in every way that HTTP allows."""
    encode, fields = _ENCODINGS[encoding]
    encoded = encode(body)
    for length in range(len(encoded)):
        cut = encoded[:length]
        yield send(head_of(b"Content-Length: %d" % len(encoded), *fields) + cut, end="close")
        yield reply(cut, *fields)
        yield send(head_of(CHUNKED, *fields) + chunks_of(cut) + b"0\r\n\r\n")
        yield send(head_of(CHUNKED, *fields) + chunks_of(cut), end="close")
        yield send(head_of(b"Connection: close", *fields) + cut, end="close")


def spoilt_bodies(body: bytes, encoding: str) -> Iterator[Script]:
    """Invert every byte of a compressed body, one at a time."""
    encode, fields = _ENCODINGS[encoding]
    encoded = encode(body)
    for index in range(len(encoded)):
        yield reply(flipped(encoded, index), *fields)


async def damaged(scripts: Iterator[Script], right: VisitPage) -> BodyFigures:
    """Request each damaged body once, and compare the result with the right page."""
    figures = BodyFigures()
    async with RawServer() as raw, make_client(raw, ONCE) as client:
        for script in scripts:
            raw.play_only(script)
            figures.tried += 1
            try:
                page = await client.touchpoint_metrics(right.touchpoint.id)
            except DistinctError as error:
                figures.refused += 1
                figures.leaks += shows_key(error)
            else:
                figures.right += page == right
                figures.wrong += page != right
    return figures


async def whole_page(body: bytes) -> VisitPage:
    """Return the page that the client decodes from an intact body."""
    async with RawServer() as raw, make_client(raw) as client:
        raw.play(reply(body))
        return await client.touchpoint_metrics("tp")


# --- Cancellation and closing


@attrs.frozen
class LeftoverFigures:
    """Resources that cancelled walks left behind.

    Attributes:
        finished: Number of walks that completed before they were cancelled.
        tasks: Number of tasks still alive.
        held_slots: Number of request slots still held.
        file_descriptors: Number of file descriptors opened and not closed.
    """

    finished: int
    tasks: int
    held_slots: int
    file_descriptors: int


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def cancelled_walks(
    *, walks: int, seed: int, settle: Callable[[], Awaitable[None]]
) -> LeftoverFigures:
    """Cancel walks at random moments amid faults, and count the resources left behind."""
    chance, finished = random.Random(seed), 0
    files, tasks, limits = open_files(), asyncio.all_tasks(), Limits()
    patient = RetryPolicy(attempts=10)
    async with RawServer() as raw, make_client(raw, patient, limits=limits) as client:
        raw.play(VisitServer(_LONG_WALK, seed=seed, rate=0.2, faults=TRANSIENT))

        async def walk() -> int:
            pager = client.total_visits("tp", page_size=chance.randint(10, 100), prefetch=8)
            return len(await pager.collect())

        for _ in range(-(-walks // 10)):
            running = [asyncio.create_task(walk()) for _ in range(10)]
            for task in running:
                for _turn in range(chance.randrange(60)):
                    await asyncio.sleep(0)
                task.cancel()
            outcomes = await asyncio.gather(*running, return_exceptions=True)
            finished += sum(outcome == _LONG_WALK for outcome in outcomes)
        await settle()
        left = asyncio.all_tasks() - tasks - raw.tasks
        held = limits.concurrency - await free_slots(client, raw, limits.concurrency)
    await settle()
    return LeftoverFigures(finished, len(left), held, open_files() - files)


@attrs.frozen
class EndFigures:
    """How requests ended.

    Attributes:
        ended: Number that ended as expected.
        seconds: The longest time that one took to end.
    """

    ended: int
    seconds: float


async def closing(*, requests: int) -> EndFigures:
    """Close a client while `requests` requests are in flight."""
    async with RawServer() as raw:
        raw.play(hang)
        client = make_client(raw, timeouts=Timeouts(), limits=Limits(concurrency=requests))
        calls = [asyncio.create_task(client.touchpoint_metrics("tp")) for _ in range(requests)]
        await eventually(lambda: len(raw.heads) == requests)
        started = time.perf_counter()
        await client.aclose()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        seconds = time.perf_counter() - started
    return EndFigures(sum(isinstance(o, ClientClosedError) for o in outcomes), seconds)


async def cancelling() -> EndFigures:
    """Cancel three walks: one in flight, one asleep, and one waiting for a slot."""
    slowest, ended = 0.0, 0
    async with RawServer() as raw:
        raw.play(reset, hang)
        client = make_client(
            raw, runtime=Runtime(), timeouts=Timeouts(), limits=Limits(concurrency=1)
        )
        async with client:
            walks = [asyncio.create_task(client.total_visits("t").collect()) for _ in range(3)]
            await eventually(lambda: len(raw.heads) > 1)
            for walk in walks:
                started = time.perf_counter()
                walk.cancel()
                await asyncio.wait([walk])
                slowest = max(slowest, time.perf_counter() - started)
                ended += walk.cancelled()
    return EndFigures(ended, slowest)


# --- Outages that end


async def recovery(*, outages: int, seed: int) -> float:
    """Return the longest time, on a fake clock, from the end of an outage to the first success.

    The caller calls again one second after each failure.
    """
    chance, longest = random.Random(seed), 0.0
    # The default budget soon fails each call; without a bound, one call spans the outage.
    policies = RetryPolicy(), RetryPolicy(attempts=1_000, budget=100_000)
    for number in range(outages):
        clock = FakeClock(seed=seed + number)
        ends = clock.time + chance.uniform(0, 600)
        succeeded = await _time_of_success(clock, ends, policies[number % 2])
        longest = max(longest, succeeded - ends)
    return longest


async def _time_of_success(clock: FakeClock, ends: float, policy: RetryPolicy) -> float:
    good, down = reply(page_body("t", 0, 0, total=0, page_size=50)), reset

    async def serve(exchange: Exchange) -> None:
        await (good if clock.time >= ends else down)(exchange)

    async with RawServer() as raw, make_client(raw, policy, runtime=clock.runtime) as client:
        raw.play(serve)
        # Bounded: each call takes a second, and the outage lasts at most 600.
        for _ in range(700):
            try:
                await client.touchpoint_metrics("t")
            except DistinctError:
                clock.time += 1
            else:
                return clock.time
    raise AssertionError("still failing long after the outage")


# --- Arbitrary responses

_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)


_TEXT: Final = st.text(max_size=20)
_COUNT: Final = st.integers(min_value=0, max_value=2**63)
_TIME: Final = st.datetimes().map(lambda moment: moment.isoformat() + "Z")
_DETAILS: Final = st.fixed_dictionaries(
    {
        "items": st.lists(
            st.fixed_dictionaries({"userId": _TEXT, "timestampUTC": _TIME}), max_size=3
        ),
        "pagination": st.fixed_dictionaries({"offset": _COUNT, "pageSize": _COUNT}),
    }
)
# The fields of every kind of touchpoint; the decoder ignores those of other kinds.
_TOUCHPOINT: Final = st.fixed_dictionaries(
    {
        **dict.fromkeys(("id", "name", "value"), _TEXT),
        **dict.fromkeys(("totalVisits", "uniqueVisits"), _COUNT),
        **dict.fromkeys(("totalVisitsDetails", "uniqueVisitsDetails"), _DETAILS),
        "timestampsUTC": st.lists(_TIME, max_size=3),
    }
)
_DATA: Final = st.fixed_dictionaries(
    {
        "totalTouchpoints": _COUNT,
        "touchpoints": _TOUCHPOINT | st.lists(_TOUCHPOINT, max_size=2),
    }
)
_DOCUMENT: Final = st.fixed_dictionaries({"statusCode": st.just(200), "data": _DATA})


def _places(container: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and key of every nested value."""
    for key in container if isinstance(container, dict) else range(len(container)):
        yield container, key
        if isinstance(container[key], dict | list):
            yield from _places(container[key])


@st.composite
def _damaged_document(draw: st.DrawFn) -> Any:
    """Draw a document with up to two values, at any depth, replaced or removed."""
    document = draw(_DOCUMENT)
    for _ in range(draw(st.integers(0, 2))):
        container, key = draw(st.sampled_from(list(_places(document))))
        if draw(st.booleans()):
            del container[key]
        else:
            container[key] = draw(_JSON)
    return document


_BODY: Final = st.one_of(
    (_damaged_document() | _DOCUMENT | _JSON).map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=300),
)
_FIELD: Final = st.binary(max_size=40).map(lambda value: b"X-Field: " + value)

# An arbitrary body in a valid response, or arbitrary bytes instead of one.
ARBITRARY_RESPONSE: Final = st.one_of(
    _BODY.map(reply),
    st.builds(reply, _BODY, _FIELD | st.sampled_from([GZIP, DEFLATE])),
    st.binary(max_size=300).map(lambda data: send(data, end="close")),
    st.binary(max_size=300).map(lambda data: send(b"HTTP/1.1 200 OK\r\n" + data, end="close")),
)


def arbitrary_responses(*, examples: int, number: int) -> Counter[str]:
    """Send arbitrary responses, and count the outcomes: values, and errors by type.

    Args:
        examples: Number of responses.
        number: The seed.
    """
    outcomes = Counter[str]()

    async def ask(raw: RawServer, client: DistinctClient, script: Script, kind: int) -> None:
        raw.play_only(script)
        try:
            match kind:
                case 0:
                    await client.experience_metrics("e")
                case 1:
                    await client.user_metrics("e", "u")
                case _:
                    visits_type = VisitsType.TOTAL if kind == 2 else VisitsType.UNIQUE
                    await client.touchpoint_metrics("t", visits_type=visits_type)
        except DistinctError as error:
            outcomes[type(error).__name__] += 1
            outcomes["leak"] += shows_key(error)
        except Exception as error:  # noqa: BLE001 - any other type is a bug
            outcomes[f"foreign: {error!r}"] += 1
        else:
            outcomes["a value"] += 1

    with asyncio.Runner() as runner:
        raw = runner.run(RawServer().__aenter__())
        client = make_client(raw, ONCE)

        @seed(number)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        )
        @given(ARBITRARY_RESPONSE, st.integers(0, 3))
        def respond(script: Script, kind: int) -> None:
            runner.run(ask(raw, client, script, kind))

        respond()
        runner.run(client.aclose())
        runner.run(raw.__aexit__())
    return outcomes


# --- Memory


@attrs.frozen
class MemoryFigures:
    """The cost of refusing oversized bodies.

    Attributes:
        refused: Number of bodies refused as too long.
        bytes_above: Growth of peak memory since a normal request, in bytes.
    """

    refused: int
    bytes_above: int


def peak_memory() -> int:
    """Return this process's peak memory in bytes."""
    try:
        # getrusage's figure survives exec, so it may be the parent's peak.
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kibibytes) * 1024


def refuse(url: str, bodies: int) -> MemoryFigures:
    """Request one normal body, then `bodies` oversized ones."""

    async def run() -> MemoryFigures:
        async with DistinctClient(KEY, base_url=url, retry=ONCE) as client:
            await client.touchpoint_metrics("tp")
            before, refused = peak_memory(), 0
            for _ in range(bodies):
                try:
                    await client.touchpoint_metrics("tp")
                except TransportError as error:
                    refused += "longer than" in str(error)
            return MemoryFigures(refused, peak_memory() - before)

    return asyncio.run(run())


async def refused_bodies(*, size: int) -> MemoryFigures:
    """Send bombs, and plain bodies of `size` bytes, to a client in another process."""
    bodies = [
        reply(bomb(wbits=31), GZIP),
        reply(bomb(wbits=15), DEFLATE),
        flood(head_of(b"Content-Length: %d" % size), size),
        flood(head_of(CHUNKED), size, chunked=True),
        flood(head_of(b"Connection: close"), size),
    ]
    normal = reply(page_body("tp", 0, 50, total=50, page_size=50))
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        async with RawServer() as raw:
            raw.play(normal, *bodies)
            return await loop.run_in_executor(pool, refuse, raw.url, len(bodies))
