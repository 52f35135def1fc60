"""A server that is not the bottleneck: rendered pages on a bare asyncio protocol.

It runs in processes of its own and serves the same visits for every touchpoint. Its latency is
exact to some tens of microseconds, and it speaks only the HTTP that the contestants need.
`requests_per_second` measures its own limit.
"""

import asyncio
import multiprocessing
import re
import selectors
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from multiprocessing.connection import Connection
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import orjson
from typing_extensions import override

# Visits repeat after this many, so that any number of them takes the same memory.
CYCLE = 100_000

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "

_TOUCHPOINT = re.compile(rb"[?&]touchpointId=([^& ]*)")
_OFFSET = re.compile(rb"[?&]offset=(\d+)")
_PAGE_SIZE = re.compile(rb"[?&]pageSize=(\d+)")


@attrs.frozen
class Service:
    """The server's settings.

    Attributes:
        visits: Visits of each touchpoint.
        latency: Seconds between a request and its answer.
        processes: Number of processes that share the port; each connection stays with one.
        page_sizes: Pages of these sizes are rendered before the first request.
    """

    visits: int
    latency: float = 0.0
    processes: int = 2
    page_sizes: tuple[int, ...] = ()


@contextmanager
def workers(target: Callable[..., None], *arguments: Any, count: int = 1) -> Generator[list[Any]]:
    """Run a function in processes of its own, and yield the first message of each.

    The function takes the arguments and a `Connection` to send that message to.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe()
    processes = [
        context.Process(target=target, args=(*arguments, sender), daemon=True) for _ in range(count)
    ]
    for process in processes:
        process.start()
    try:
        yield [receiver.recv() for _ in processes]
    finally:
        for process in processes:
            process.terminate()
            process.join()


@contextmanager
def running(service: Service) -> Generator[str]:
    """Run the server, and yield its base URL."""
    with _listen() as reserved:
        port = reserved.getsockname()[1]
        with workers(_work, service, port, count=service.processes):
            yield f"http://127.0.0.1:{port}"


def _listen(port: int = 0) -> socket.socket:
    # asyncio disables Nagle's algorithm only on sockets that name the protocol.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # The kernel spreads the connections over the processes.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _work(service: Service, port: int, started: Connection) -> None:
    for page_size in service.page_sizes:
        for offset in range(0, min(service.visits, CYCLE), page_size):
            render_page(service.visits, offset, page_size)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Visits(service), sock=_listen(port), backlog=1000
        )
        started.send(None)
        await server.serve_forever()

    # epoll rounds timeouts to milliseconds; select does not.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(serve())


class Heads(asyncio.Protocol):
    """One connection, whose requests are no more than their heads."""

    transport: asyncio.Transport
    _received = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        *heads, self._received = (self._received + data).split(b"\r\n\r\n")
        for head in heads:
            self.head_received(head)

    def head_received(self, head: bytes) -> None:
        """Answer a request."""
        raise NotImplementedError


class _Visits(Heads):
    def __init__(self, service: Service) -> None:
        self._service = service

    @override
    def head_received(self, head: bytes) -> None:
        response = self._respond(head)
        if self._service.latency:
            loop = asyncio.get_running_loop()
            loop.call_later(self._service.latency, self.transport.write, response)
        else:
            self.transport.write(response)

    def _respond(self, head: bytes) -> bytes:
        target = head[: head.index(b"\r\n")]
        offset, page_size = _OFFSET.search(target), _PAGE_SIZE.search(target)
        touchpoint = _TOUCHPOINT.search(target)
        before, after = render_page(
            self._service.visits,
            int(offset[1]) if offset else 0,
            int(page_size[1]) if page_size else 50,
        )
        name = touchpoint[1] if touchpoint else b""
        length = len(before) + len(name) + len(after)
        return b"%s%d\r\n\r\n%s%s%s" % (_HEAD, length, before, name, after)


def render_page(total: int, offset: int, page_size: int) -> tuple[bytes, bytes]:
    """Return a page's body in two parts; the touchpoint's id belongs between them."""
    stop = max(offset, min(offset + page_size, total))
    items = _render_items(offset % CYCLE, stop - offset)
    before = b'{"statusCode":200,"message":"ok","data":{"touchpoints":{"id":"'
    after = (
        b'","name":"Door","value":"door","totalVisits":%d,"totalVisitsDetails":{"items":%s,'
        b'"pagination":{"offset":%d,"pageSize":%d}}}}}' % (total, items, offset, page_size)
    )
    return before, after


@cache
def _render_items(start: int, count: int) -> bytes:
    return orjson.dumps([_visit(index % CYCLE) for index in range(start, start + count)])


def _visit(index: int) -> dict[str, str]:
    moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=index)
    return {
        "userId": f"user-{index % 1_000}",
        "timestampUTC": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
    }


# --- The server's own limit

_UNREAD = bytearray(1 << 20)


def requests_per_second(url: str, page_size: int, *, batches: int = 40) -> float:
    """Measure the server's own limit, on one socket that only counts bytes."""
    address = urlsplit(url)
    target = f"/?touchpointId=tp-1&offset=0&pageSize={page_size}"
    request = f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()
    # Few enough at a time that neither side fills its buffers and waits for the other.
    batch = 50
    with socket.create_connection((address.hostname or "", address.port or 0)) as sock:
        length = _first_length(sock, request)
        started = time.perf_counter()
        for _ in range(batches):
            sock.sendall(request * batch)
            _skip(sock, length * batch)
        return batches * batch / (time.perf_counter() - started)


def _first_length(sock: socket.socket, request: bytes) -> int:
    sock.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += sock.recv(65_536)
    head, body = received.split(b"\r\n\r\n", 1)
    length = int(head.rsplit(b" ", 1)[1])
    _skip(sock, length - len(body))
    return len(head) + 4 + length


def _skip(sock: socket.socket, length: int) -> None:
    while length > 0:
        length -= sock.recv_into(_UNREAD)
