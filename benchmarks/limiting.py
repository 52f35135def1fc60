"""A server that limits and fails in configured ways, in a process of its own.

It answers ``EXPERIENCE`` and ``TOUCHPOINT`` requests, on a bare asyncio protocol that shares no
code with `distinct_async.testing`. Every touchpoint has the same visits. It counts what it answers;
`fetch_counts` asks for the counts.
"""

import asyncio
import json
import re
import selectors
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from typing import cast
from urllib.parse import urlsplit

import attrs
import cattrs
import orjson
from typing_extensions import override

from benchmarks.server import Heads, render_page, workers

DATE_OF_NOW = "date"
EXPERIENCE = "exp-1"

_COUNTS = "/counts"
# A refusal is no work for the server, but takes its way as well.
_REFUSAL_LATENCY = 0.002

_PARAMETER = re.compile(rb"[?&]([^=& ]+)=([^& ]*)")


@attrs.frozen(kw_only=True)
class Limiting:
    """The server's settings.

    Attributes:
        touchpoints: Their number; they are named tp-0, tp-1 and so on.
        visits: Visits of each touchpoint.
        latency: Seconds between a request and its answer; a refusal takes 2 ms at most.
        rate: Requests per second that a token bucket admits, or None for no such limit.
        burst: Size of the token bucket, which starts full.
        slots: Requests that may be in flight, or None for no such limit.
        refusal: Status of a refusal.
        retry_after: Header of a refusal; None for none, `DATE_OF_NOW` for the time of the refusal.
        max_page_size: A larger pageSize is answered with 400.
        broken: Touchpoints that are answered with 500.
        down: Whether every request is answered with 503.
    """

    touchpoints: int = 1
    visits: int = 40
    latency: float = 0.02
    rate: float | None = None
    burst: int = 1
    slots: int | None = None
    refusal: int = 429
    retry_after: str | None = None
    max_page_size: int | None = None
    broken: tuple[int, ...] = ()
    down: bool = False

    def body(self) -> bytes:
        """Render the list of touchpoints."""
        listed = [
            {
                "id": f"tp-{number}",
                "name": "Door",
                "value": "door",
                "totalVisits": self.visits,
                "uniqueVisits": self.visits,
            }
            for number in range(self.touchpoints)
        ]
        data = {"totalTouchpoints": len(listed), "touchpoints": listed}
        return orjson.dumps({"statusCode": 200, "message": "ok", "data": data})


@attrs.define
class Counts:
    """The server's counts.

    Attributes:
        requests: Requests received.
        refused: Requests refused because of the limit.
        oversized: Requests refused because of their pageSize.
        failed: Requests answered with 500, or with 503 because the server is down.
        after_refusal: Requests received after the first refusal.
        admitted: When each other request came, seconds since the first request.
    """

    requests: int = 0
    refused: int = 0
    oversized: int = 0
    failed: int = 0
    after_refusal: int = 0
    admitted: list[float] = attrs.field(factory=list[float])


@contextmanager
def limiting(services: Sequence[Limiting]) -> Generator[Sequence[str]]:
    """Run servers, all in one process, and yield their base URLs."""
    with workers(_work, services) as (ports,):
        yield [f"http://127.0.0.1:{port}" for port in ports]


def fetch_counts(url: str) -> Counts:
    """Ask a server for its counts."""
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or "", address.port)
    try:
        connection.request("GET", _COUNTS)
        return cattrs.structure(json.loads(connection.getresponse().read()), Counts)
    finally:
        connection.close()


def _work(services: Sequence[Limiting], started: Connection) -> None:
    async def serve() -> None:
        ports = [await _start(service) for service in services]
        started.send(ports)
        await asyncio.Event().wait()

    # epoll rounds timeouts to milliseconds; select does not.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(serve())


async def _start(service: Limiting) -> int:
    limiter, loop = _Limiter(service), asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Requests(limiter), "127.0.0.1", backlog=1000)
    return cast("int", server.sockets[0].getsockname()[1])


@attrs.frozen
class _Answer:
    status: int
    body: Sequence[bytes]
    latency: float = _REFUSAL_LATENCY
    header: bytes = b""
    holds_slot: bool = False

    def encode(self) -> bytes:
        length = sum(map(len, self.body))
        head = b"HTTP/1.1 %d Answer\r\nContent-Type: application/json\r\n" % self.status
        return b"%s%sContent-Length: %d\r\n\r\n" % (head, self.header, length) + b"".join(self.body)


def _refuse(status: int, message: str, header: bytes = b"") -> _Answer:
    body = orjson.dumps({"statusCode": status, "message": message})
    return _Answer(status, [body], header=header)


class _Limiter:
    """One server's limits and counts."""

    def __init__(self, service: Limiting) -> None:
        self._service = service
        self._listing = service.body()
        self._broken = {b"tp-%d" % number for number in service.broken}
        self._tokens, self._refilled = float(service.burst), time.monotonic()
        self._first = 0.0
        self._in_flight = 0
        self.counts = Counts()

    def answer(self, head: bytes) -> _Answer:
        """Count a request and decide on its answer. Call `leave` when it is sent."""
        if head.startswith(f"GET {_COUNTS} ".encode()):
            return _Answer(200, [orjson.dumps(attrs.asdict(self.counts))])
        counts, now = self.counts, time.monotonic()
        self._first = self._first or now
        counts.requests += 1
        counts.after_refusal += counts.refused > 0
        if self._service.down:
            counts.failed += 1
            return _refuse(503, "down")
        if not self._admits(now):
            counts.refused += 1
            return _refuse(self._service.refusal, "slow down", self._retry_after())
        self._in_flight += 1
        answer = self._admit(dict(_PARAMETER.findall(head.split(b"\r\n", 1)[0])), now)
        return attrs.evolve(answer, holds_slot=True)

    def leave(self, answer: _Answer) -> None:
        """Free the answer's slot."""
        self._in_flight -= answer.holds_slot

    def _admits(self, now: float) -> bool:
        service = self._service
        if service.slots is not None and self._in_flight >= service.slots:
            return False
        if service.rate is None:
            return True
        gained = (now - self._refilled) * service.rate
        self._tokens, self._refilled = min(service.burst, self._tokens + gained), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _retry_after(self) -> bytes:
        value = self._service.retry_after
        if value is None:
            return b""
        shown = formatdate(usegmt=True) if value == DATE_OF_NOW else value
        return f"Retry-After: {shown}\r\n".encode()

    def _admit(self, parameters: dict[bytes, bytes], now: float) -> _Answer:
        service, counts = self._service, self.counts
        page_size = int(parameters.get(b"pageSize", 50))
        if service.max_page_size is not None and page_size > service.max_page_size:
            counts.oversized += 1
            return _refuse(400, f"pageSize must be at most {service.max_page_size}")
        touchpoint = parameters.get(b"touchpointId", b"")
        if touchpoint in self._broken:
            counts.failed += 1
            return _refuse(500, "broken")
        counts.admitted.append(now - self._first)
        if parameters[b"metricsType"] == b"EXPERIENCE":
            return _Answer(200, [self._listing], service.latency)
        before, after = render_page(service.visits, int(parameters.get(b"offset", 0)), page_size)
        return _Answer(200, [before, touchpoint, after], service.latency)


class _Requests(Heads):
    def __init__(self, limiter: _Limiter) -> None:
        self._limiter = limiter

    @override
    def head_received(self, head: bytes) -> None:
        answer = self._limiter.answer(head)
        asyncio.get_running_loop().call_later(answer.latency, self._send, answer)

    def _send(self, answer: _Answer) -> None:
        self._limiter.leave(answer)
        self.transport.write(answer.encode())
