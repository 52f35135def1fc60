"""Experiments that put figures on what the client survives, over real sockets.

`tests/test_survival.py` runs each of them small, `python -m benchmarks.faults` at full size.
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
from tests.support.helpers import KEY, ONCE, eventually, free_slots, shown_of
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
# Those that another attempt can mend.
PASSING: Final = tuple(fault for fault in FAULTS if fault.outcome is Outcome.RETRIED)


def page_body(touchpoint_id: str, offset: int, stop: int, *, total: int, page_size: int) -> bytes:
    """Return the response of a touchpoint whose nth visit is by the user ``visit-n``."""
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
    """A script that gives pages of synthetic visits, and spoils some of them.

    Attributes:
        requests: How many requests came.
        spoilt: How often each fault was chosen.
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
            # As if the server sent the key back: what shows the response must not show that.
            body = body.replace(b'"name":"N"', b'"name":"%s"' % KEY.encode())
        return fault.spoil(body)


def make_client(raw: RawServer, retry: RetryPolicy | None = None, **options: Any) -> DistinctClient:
    """Make a client that does not sleep, and does not wait long for stalled responses."""
    defaults = {"timeouts": IMPATIENT, "runtime": FakeClock().runtime}
    return DistinctClient(
        KEY, base_url=raw.url, retry=retry or RetryPolicy(), **{**defaults, **options}
    )


def shows_key(error: DistinctError) -> bool:
    """Tell whether the key is in what an error shows: texts, chain, local variables of frames."""
    return KEY in shown_of(error)


# --- A walk through every fault


@attrs.define
class WalkFigures:
    """What a walk through faults came to.

    Attributes:
        delivered: How many visits were delivered.
        lost: How many were not.
        repeated: How many came again.
        gave_up: How often the walk raised, and was resumed at `next_offset`.
        leaks: How many of those errors show the key.
        wrong_offsets: How often that was not the first visit that had not been delivered.
        requests: How many requests the server got.
        spoilt: How many of its responses were faults.
    """

    delivered: int = 0
    lost: int = 0
    repeated: int = 0
    gave_up: int = 0
    leaks: int = 0
    wrong_offsets: int = 0
    requests: int = 0
    spoilt: int = 0

    def take(self, page: VisitPage, expected: int) -> int:
        """Count a page's visits; return the index of the visit that should follow."""
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
    """Walk a touchpoint while a share of the responses is spoilt, resuming whenever it raises."""
    server, figures = VisitServer(visits, seed=seed, rate=rate), WalkFigures()
    offset = expected = 0
    async with RawServer() as raw, make_client(raw, RetryPolicy(attempts=attempts)) as client:
        raw.play(server)
        # A bound: more give up than there are pages, and something is wrong.
        for _ in range(visits // page_size + 10):
            walk = client.total_visits("tp", offset=offset, page_size=page_size, prefetch=16)
            try:
                async for page in walk.pages():
                    expected = figures.take(page, expected)
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
    """What many single calls came to.

    Attributes:
        calls: How many there were.
        succeeded: How many gave the right page.
        failures: How many raised each type of ours.
        leaks: How many of those errors show the key.
        requests: How many requests the server got.
    """

    calls: int
    succeeded: int
    failures: Counter[str]
    leaks: int
    requests: int


async def single_calls(
    *, calls: int, seed: int, rate: float = 0.2, faults: Sequence[Fault] = PASSING
) -> CallFigures:
    """Make single calls, 16 at a time, while a share of the responses is spoilt."""
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
    """Make single calls while not one response is any good."""
    down = named("closed before the head", "reset before the head", "429", "502", "503")
    return await single_calls(calls=calls, seed=seed, rate=1.0, faults=down)


# --- Cut and spoilt bodies


@attrs.define
class BodyFigures:
    """What became of damaged bodies.

    Attributes:
        tried: How many there were.
        right: How many gave the right page: what was damaged was not the data.
        refused: How many raised an error of ours.
        leaks: How many of those errors show the key.
        wrong: How many gave anything else.
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
    """Cut a body at every point, and end what is left of it in every way there is."""
    encode, fields = _ENCODINGS[encoding]
    whole = encode(body)
    for length in range(len(whole)):
        cut = whole[:length]
        yield send(head_of(b"Content-Length: %d" % len(whole), *fields) + cut, end="close")
        yield reply(cut, *fields)
        yield send(head_of(CHUNKED, *fields) + chunks_of(cut) + b"0\r\n\r\n")
        yield send(head_of(CHUNKED, *fields) + chunks_of(cut), end="close")
        yield send(head_of(b"Connection: close", *fields) + cut, end="close")


def spoilt_bodies(body: bytes, encoding: str) -> Iterator[Script]:
    """Invert every byte of a compressed body, one at a time."""
    encode, fields = _ENCODINGS[encoding]
    whole = encode(body)
    for index in range(len(whole)):
        yield reply(flipped(whole, index), *fields)


async def damaged(scripts: Iterator[Script], right: VisitPage) -> BodyFigures:
    """Ask once for each damaged body, and compare what comes with the right page."""
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
    """Return the page of an undamaged body."""
    async with RawServer() as raw, make_client(raw) as client:
        raw.play(reply(body))
        return await client.touchpoint_metrics("tp")


# --- Cancellation and closing


@attrs.frozen
class LeftoverFigures:
    """What cancelled walks left behind.

    Attributes:
        finished: How many walks came to their end before they were cancelled.
        tasks: Tasks that are still there.
        held_slots: Slots that are not free.
        file_descriptors: Open file descriptors, beyond those at the start.
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
    """Cancel walks at random moments, with faults around them, and look at what is left."""
    chance, finished = random.Random(seed), 0
    files, tasks = open_files(), asyncio.all_tasks()
    async with RawServer() as raw, make_client(raw, RetryPolicy(attempts=10)) as client:
        raw.play(VisitServer(_LONG_WALK, seed=seed, rate=0.2, faults=PASSING))

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
        held = client._session._settings.limits.concurrency - await free_slots(client)
    await settle()
    return LeftoverFigures(finished, len(left), held, open_files() - files)


@attrs.frozen
class EndFigures:
    """How requests ended.

    Attributes:
        ended: How many did, as they should.
        seconds: The longest it took.
    """

    ended: int
    seconds: float


async def closing(*, requests: int) -> EndFigures:
    """Close a client with so many requests in flight."""
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
    """Cancel three walks: one in flight, one asleep, one waiting for a slot."""
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
    """Return the longest time from an outage's end to the first success, seconds of a clock.

    Somebody asks again a second after each failure, for as long as the outage lasts.
    """
    chance, longest = random.Random(seed), 0.0
    # With the usual budget somebody is soon asking anew; without a bound one request goes on.
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
        # A bound: a second passes each time, and the outage lasts 600 at most.
        for _ in range(700):
            try:
                await client.touchpoint_metrics("t")
            except DistinctError:
                clock.time += 1
            else:
                return clock.time
    raise AssertionError("no success long after the outage")


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
# All that any kind of touchpoint has: fields that one kind does not have are ignored.
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
    """Find every value inside, at any depth, as its container and its key there."""
    for key in container if isinstance(container, dict) else range(len(container)):
        yield container, key
        if isinstance(container[key], dict | list):
            yield from _places(container[key])


@st.composite
def _damaged_document(draw: st.DrawFn) -> Any:
    """Draw a document in which up to two values, at any depth, are something else or missing."""
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

# A body, or a whole response, which is not even HTTP then.
ARBITRARY_RESPONSE: Final = st.one_of(
    _BODY.map(reply),
    st.builds(reply, _BODY, _FIELD | st.sampled_from([GZIP, DEFLATE])),
    st.binary(max_size=300).map(lambda data: send(data, end="close")),
    st.binary(max_size=300).map(lambda data: send(b"HTTP/1.1 200 OK\r\n" + data, end="close")),
)


def arbitrary_responses(*, examples: int, number: int) -> Counter[str]:
    """Answer with arbitrary responses; return how often each type of value or error came of it.

    Args:
        examples: How many responses.
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
        except Exception as error:  # noqa: BLE001 - what is looked for
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
    """What refusing far too long bodies took.

    Attributes:
        refused: How many were refused as too long.
        bytes_above: Peak memory above what it was after a usual request, bytes.
    """

    refused: int
    bytes_above: int


def peak_memory() -> int:
    """Return the most memory that this process has had, bytes."""
    try:
        # What getrusage says goes back to before exec, and so to the memory of the parent.
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kibibytes) * 1024


def refuse(url: str, bodies: int) -> MemoryFigures:
    """Ask once for a usual body, and then for so many others."""

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
    """Send bombs, and plain bodies of so many bytes, to a client in another process."""
    bodies = [
        reply(bomb(wbits=31), GZIP),
        reply(bomb(wbits=15), DEFLATE),
        flood(head_of(b"Content-Length: %d" % size), size),
        flood(head_of(CHUNKED), size, chunked=True),
        flood(head_of(b"Connection: close"), size),
    ]
    usual = reply(page_body("tp", 0, 50, total=50, page_size=50))
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        async with RawServer() as raw:
            raw.play(usual, *bodies)
            return await loop.run_in_executor(pool, refuse, raw.url, len(bodies))
