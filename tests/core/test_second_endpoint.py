"""A second endpoint, defined here: the session, the transport and the walk serve it unchanged.

It lists a gate's scans, with a path, parameters, a shape and a page of its own.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import msgspec
import pytest

from distinct_async import (
    DecodeError,
    DistinctError,
    IncompleteListError,
    NotFoundError,
    Pager,
    RepeatedPageError,
    RetryPolicy,
    ServerError,
)
from distinct_async._reading import Source
from distinct_async._secrets import ApiKey
from distinct_async._session import Session
from distinct_async._transport import Transport, TransportSettings
from distinct_async._wire.protocol import Reply, Request, encode_query, struct_decoder
from distinct_async._wire.structuring import structure
from distinct_async.config import Policy
from distinct_async.testing import FakeClock
from tests.support.helpers import KEY
from tests.support.raw_server import Exchange, RawServer, response_of

# --- The endpoint


@attrs.frozen
class ScanPage:
    """A page of a gate's scans: what a walk needs, and the gate's name."""

    gate_name: str
    total: int
    items: tuple[str, ...]
    offset: int
    shift: int = 0

    def part(self, start: int, end: int, *, shift: int = 0) -> "ScanPage":
        items = self.items[start:end]
        return ScanPage(self.gate_name, self.total, items, self.offset + start, shift)


class _Window(msgspec.Struct):
    start: int
    of: int


class _Scans(msgspec.Struct, rename={"gate_name": "gate-name"}):
    gate_name: str
    window: _Window
    badges: tuple[str, ...]


_decode_scans = struct_decoder(_Scans)


def _decode_page(reply: Reply) -> ScanPage | DistinctError:
    data = _decode_scans(reply)
    if isinstance(data, DistinctError):
        return data
    return ScanPage(data.gate_name, data.window.of, data.badges, data.window.start)


def scan_page(gate_id: str, offset: int, page_size: int | None) -> Request[ScanPage]:
    return Request(
        path="/v3/gates/scans",
        query=encode_query(gate=gate_id, start=offset, count=page_size),
        decode=_decode_page,
        experience_id="exp-9",
    )


@attrs.frozen
class Gate:
    """A gate, which cattrs structures."""

    gate_id: str
    lane_names: tuple[str, ...]
    scan_count: int


def gate_details(gate_id: str) -> Request[Gate]:
    return Request(
        path="/v3/gates/details",
        query=encode_query(gate=gate_id),
        decode=lambda reply: structure(reply, Gate),
    )


# --- A client and a server of it


def scans(session: Session, gate_id: str, **options: Any) -> Pager[str, ScanPage]:
    async def fetch(offset: int, page_size: int | None) -> ScanPage | DistinctError:
        request = scan_page(gate_id, offset, page_size)
        return await session.fetch(request)

    source = Source(
        fetch=fetch,
        spawn=session.spawn,
        experience_id="exp-9",
    )
    return Pager(name=f"scans of {gate_id}", source=source, **options)


BADGES = [f"badge-{n}" for n in range(103)]


@attrs.define
class GateServer:
    """Serves gates and their scans.

    Attributes:
        change: Returns what to send, given the request's number, counted from 1, and the correct
            document.
        targets: The requested paths and parameters.
    """

    change: Callable[[int, dict[str, Any]], dict[str, Any]] = lambda _, document: document
    targets: list[tuple[str, dict[str, list[str]]]] = attrs.field(factory=list)

    async def serve(self, exchange: Exchange) -> None:
        target = urlsplit(exchange.head.split(b" ", 2)[1].decode())
        self.targets.append((target.path, parse_qs(target.query)))
        assert f"x-distinct-api-key: {KEY}".encode() in exchange.head
        parameters = exchange.parameters
        if target.path == "/v3/gates/scans":
            start, count = int(parameters["start"]), int(parameters.get("count", 10))
            data: dict[str, Any] = {
                "gate-name": "North",
                "window": {"start": start, "of": len(BADGES)},
                "badges": BADGES[start : start + count],
            }
        else:
            data = {"gateId": parameters["gate"], "laneNames": ["a", "b"], "scanCount": 103}
        document = self.change(len(self.targets), {"statusCode": 200, "data": data})
        status = f"{document['statusCode']} Reason"
        await exchange.send(response_of(json.dumps(document).encode(), status=status))


@pytest.fixture
def server(raw: RawServer) -> GateServer:
    server = GateServer()
    raw.play(server.serve)
    return server


@pytest.fixture
async def session(raw: RawServer, clock: FakeClock) -> AsyncIterator[Session]:
    settings = TransportSettings(api_key=ApiKey(KEY), base_url=raw.url, now=clock.runtime.now)
    policy = Policy(retry=RetryPolicy(attempts=3), runtime=clock.runtime)
    session = Session(Transport(settings), policy)
    yield session
    await session.aclose()


def fail_at(*numbers: int, **document: Any) -> Callable[[int, dict[str, Any]], dict[str, Any]]:
    """Return a change that replaces fields in the responses to the requests of these numbers."""
    return lambda number, right: right | document if number in numbers else right


# --- Walks


async def test_a_walk_yields_every_item_of_another_endpoint(
    session: Session, server: GateServer
) -> None:
    pages = [page async for page in scans(session, "g/1").pages()]

    assert [item for page in pages for item in page.items] == BADGES
    assert {type(page) for page in pages} == {ScanPage}
    assert (pages[0].gate_name, pages[0].total, pages[-1].offset) == ("North", 103, 100)
    assert {path for path, _ in server.targets} == {"/v3/gates/scans"}
    assert server.targets[0][1] == {"gate": ["g/1"], "start": ["0"]}
    assert session.stats.tasks == 0


async def test_offset_limit_and_page_size_apply_to_another_endpoint(
    session: Session, server: GateServer
) -> None:
    pager = scans(session, "g/1", offset=5, limit=20, page_size=7, prefetch=2)

    assert await pager.collect() == BADGES[5:25]
    windows = [(p["start"][0], p["count"][0]) for _, p in server.targets]
    # Each page but the first starts one item early.
    assert windows == [("5", "7"), ("11", "7"), ("17", "7"), ("23", "2")]


async def test_a_503_amid_a_walk_is_retried(
    session: Session, server: GateServer, clock: FakeClock
) -> None:
    server.change = fail_at(1, 3, statusCode=503, message="Later")

    assert await scans(session, "g/1").collect() == BADGES
    assert (session.stats.retries, len(clock.sleeps)) == (2, 2)
    assert len(server.targets) == 12 + 2


async def test_retries_that_run_out_end_the_walk_at_its_place(
    session: Session, server: GateServer
) -> None:
    server.change = lambda number, right: right | {"statusCode": 503} if number > 1 else right
    delivered: list[str] = []

    with pytest.raises(ServerError) as caught:
        async for badge in scans(session, "g/1", prefetch=1):
            delivered.append(badge)  # noqa: PERF401 - keep the items delivered before the error

    assert delivered == BADGES[:10]
    error = caught.value
    assert (error.next_offset, error.experience_id, error.touchpoint_id) == (10, "exp-9", None)
    assert error.attempts == 3

    server.change = lambda _, right: right
    rest = await scans(session, "g/1", offset=error.next_offset).collect()
    assert delivered + rest == BADGES


@pytest.mark.parametrize(
    ("data", "path", "excerpt"),
    [
        ({"gate-name": "North", "window": {"start": 0, "of": "many"}}, "data.window.of", '"many"'),
        (
            {"gate-name": "North", "window": {"start": 0, "of": 1}, "badges": ["b", 7]},
            "data.badges[1]",
            "7",
        ),
        ({"window": {"start": 0, "of": 1}, "badges": []}, "data.gate-name", ""),
    ],
)
async def test_a_wrong_shape_ends_the_walk_with_its_path(
    session: Session, server: GateServer, data: object, path: str, excerpt: str
) -> None:
    server.change = fail_at(1, data=data)

    with pytest.raises(DecodeError) as caught:
        await scans(session, "g/1").collect()

    assert (caught.value.path, caught.value.excerpt) == (path, excerpt)
    assert (caught.value.next_offset, caught.value.attempts, len(server.targets)) == (0, 1, 1)


async def test_a_walk_of_another_endpoint_notices_a_wrong_offset_and_a_wrong_total(
    session: Session, server: GateServer
) -> None:
    wrong = {"window": {"start": 50, "of": 103}, "badges": BADGES[50:60]}
    server.change = lambda _, right: right | {"data": right["data"] | wrong}
    with pytest.raises(RepeatedPageError):
        await scans(session, "g/1").collect()

    server.change = lambda _, right: right | {"data": right["data"] | {"badges": []}}
    with pytest.raises(IncompleteListError):
        await scans(session, "g/1").collect()


async def test_two_endpoints_share_the_limits_of_one_session(
    session: Session, server: GateServer
) -> None:
    walk = scans(session, "g/1").collect()

    async def get_gate() -> Gate | DistinctError:
        return await session.fetch(gate_details("g/1"))

    badges, gate = await asyncio.gather(walk, get_gate())

    assert (badges, gate) == (BADGES, Gate("g/1", ("a", "b"), 103))


# --- Single requests, structured by cattrs


async def test_a_value_of_another_endpoint_is_structured(
    session: Session, server: GateServer
) -> None:
    server.change = fail_at(1, statusCode=503)

    assert await session.fetch(gate_details("g/1")) == Gate("g/1", ("a", "b"), 103)
    assert server.targets == [("/v3/gates/details", {"gate": ["g/1"]})] * 2


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"gateId": 7, "laneNames": [], "scanCount": 1}, "data.gateId"),
        ({"gateId": "g", "laneNames": ["a", None], "scanCount": 1}, "data.laneNames[1]"),
        ({"gateId": "g", "laneNames": [], "scanCount": -1}, "data.scanCount"),
        ({"gateId": "g", "laneNames": []}, "data.scanCount"),
        ([], "data"),
    ],
)
async def test_a_value_of_the_wrong_shape_is_located(
    session: Session, server: GateServer, data: object, path: str
) -> None:
    server.change = fail_at(1, data=data)

    error = await session.fetch(gate_details("g/1"))

    assert isinstance(error, DecodeError)
    assert (error.path, error.attempts) == (path, 1)


async def test_an_error_of_another_endpoint_is_one_of_ours(
    session: Session, server: GateServer
) -> None:
    server.change = fail_at(1, statusCode=404, message="Gate not found")

    error = await session.fetch(gate_details("g/1"))

    assert isinstance(error, NotFoundError)
    assert (error.message, error.attempts) == ("Gate not found", 1)
