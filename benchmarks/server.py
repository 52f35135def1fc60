"""A server that is not the bottleneck: rendered pages on a bare asyncio protocol.

It runs in processes of its own, answers every touchpoint with the same visits after a latency that
is exact to some tens of microseconds, and speaks just enough HTTP for what is measured.
"""

import asyncio
import multiprocessing
import re
import selectors
import socket
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from multiprocessing.connection import Connection
from typing import cast

import attrs
import orjson
from typing_extensions import override

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "

_TOUCHPOINT = re.compile(rb"[?&]touchpointId=([^& ]*)")
_OFFSET = re.compile(rb"[?&]offset=(\d+)")
_PAGE_SIZE = re.compile(rb"[?&]pageSize=(\d+)")


@attrs.frozen
class Service:
    """What the server serves.

    Attributes:
        visits: Visits of each touchpoint.
        latency: Seconds between a request and its answer.
        processes: How many processes share the port.
    """

    visits: int
    latency: float = 0.0
    processes: int = 2


@contextmanager
def running(service: Service) -> Generator[str]:
    """Run the server in processes of its own; yields its base URL."""
    context = multiprocessing.get_context("spawn")
    with _listen() as reserved:
        port = reserved.getsockname()[1]
        told, tell = context.Pipe()
        workers = [
            context.Process(target=_work, args=(service, port, tell), daemon=True)
            for _ in range(service.processes)
        ]
        for worker in workers:
            worker.start()
        for _ in workers:
            told.recv()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _listen(port: int = 0) -> socket.socket:
    sock = socket.socket()
    # The kernel shares the connections out among the processes.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _work(service: Service, port: int, started: Connection) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Visits(service), sock=_listen(port), backlog=1000
        )
        started.send(None)
        await server.serve_forever()

    # Unlike epoll, whose timeouts are whole milliseconds, select is exact.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(serve())


class _Visits(asyncio.Protocol):
    """One connection."""

    _transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        *heads, self._received = (self._received + data).split(b"\r\n\r\n")
        for head in heads:
            response = self._respond(head)
            if self._service.latency:
                loop = asyncio.get_running_loop()
                loop.call_later(self._service.latency, self._transport.write, response)
            else:
                self._transport.write(response)

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


@cache
def render_page(total: int, offset: int, page_size: int) -> tuple[bytes, bytes]:
    """Return a page's body, but for the touchpoint's id, which goes between the two parts."""
    stop = max(offset, min(offset + page_size, total))
    visits = [_visit(index) for index in range(offset, stop)]
    details = {"items": visits, "pagination": {"offset": offset, "pageSize": page_size}}
    touchpoint = {"name": "Door", "value": "door", "totalVisits": total}
    rendered = orjson.dumps(touchpoint | {"totalVisitsDetails": details})
    envelope = b'{"statusCode":200,"message":"ok","data":{"touchpoints":{"id":"'
    return envelope, b'",' + rendered[1:] + b"}}"


def _visit(index: int) -> dict[str, str]:
    moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=index)
    return {
        "userId": f"user-{index % 1_000}",
        "timestampUTC": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
    }
