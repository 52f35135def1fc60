"""A server that sends scripted bytes, for what no HTTP server would do on purpose."""

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, Self, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import attrs

End: TypeAlias = Literal["keep", "close", "reset"]

_FLOOD_PIECE = bytes(64 * 1024)


@attrs.frozen
class Exchange:
    """A request, and the connection on which it came.

    Attributes:
        head: The request's head, as it came.
        reader: What the client sends next.
        writer: Where the answer goes.
    """

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def parameters(self) -> dict[str, str]:
        target = self.head.split(b" ", 2)[1].decode("ascii")
        return dict(parse_qsl(urlsplit(target).query, strict_parsing=True))

    async def send(self, piece: bytes) -> None:
        """Send bytes, waiting while the client does not read them."""
        self.writer.write(piece)
        await self.writer.drain()

    def end(self, how: End) -> None:
        if how == "reset":
            # Closing at once, without lingering, is what sends RST and not FIN.
            plain: socket.socket = self.writer.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        elif how == "close":
            self.writer.close()


Script: TypeAlias = Callable[[Exchange], Awaitable[None]]


class RawServer:
    """Plays one script per request head that it reads, the last one for all that follow.

    Args:
        tls: How to speak TLS; None speaks none.
        greeting: What to say first on every connection, before it was asked anything.

    Attributes:
        heads: The request heads so far, as they came.
        connections: How many connections were accepted.
        tasks: The server's own tasks, one per open connection.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, greeting: bytes = b"") -> None:
        self._tls = tls
        self._greeting = greeting
        self.heads: list[bytes] = []
        self.connections = 0
        self._scripts: deque[Script] = deque()
        self._server: asyncio.Server | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    def play(self, *scripts: Script) -> None:
        self._scripts.extend(scripts)

    def play_only(self, script: Script) -> None:
        """Play this one from now on, and no other."""
        self._scripts.clear()
        self._scripts.append(script)

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http{'s' if self._tls else ''}://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        writer.write(self._greeting)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                script = self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]
                await script(Exchange(head, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # A cancelled one, too, ends as if done: Python 3.11's streams log it otherwise.
            pass
        finally:
            self.tasks.discard(task)
            writer.close()


# --- Bytes


def head_of(*fields: bytes, status: str = "200 OK") -> bytes:
    """Return a response's head."""
    return b"\r\n".join([b"HTTP/1.1 " + status.encode("ascii"), *fields, b"", b""])


def response_of(body: bytes, *fields: bytes, status: str = "200 OK") -> bytes:
    """Return a whole response with a Content-Length."""
    return head_of(b"Content-Length: %d" % len(body), *fields, status=status) + body


def chunks_of(body: bytes, size: int = 100) -> bytes:
    """Return a body in chunks, without the last, empty one."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def chunked_response_of(body: bytes, *fields: bytes) -> bytes:
    """Return a whole response in chunks."""
    return head_of(b"Transfer-Encoding: chunked", *fields) + chunks_of(body) + b"0\r\n\r\n"


# --- Scripts


def send(*pieces: bytes, end: End = "keep") -> Script:
    """Make a script that sends bytes, and closes, resets or keeps the connection.

    Sending less than a whole response and keeping the connection stalls the client.
    """

    async def script(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.send(piece)
        exchange.end(end)

    return script


def reply(body: bytes, *fields: bytes, status: str = "200 OK") -> Script:
    """Make a script that sends a whole response and keeps the connection."""
    return send(response_of(body, *fields, status=status))


def drip(pieces: Iterable[bytes], pause: float = 0.0) -> Script:
    """Make a script that sends bytes one piece after the other, `pause` seconds apart."""

    async def script(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.send(piece)
            await asyncio.sleep(pause)

    return script


def flood(head: bytes, size: int, *, chunked: bool = False) -> Script:
    """Make a script that sends a head and then so many bytes of zeros, if the client lets it."""
    piece = b"%x\r\n%s\r\n" % (len(_FLOOD_PIECE), _FLOOD_PIECE) if chunked else _FLOOD_PIECE

    async def script(exchange: Exchange) -> None:
        await exchange.send(head)
        for _ in range(size // len(_FLOOD_PIECE)):
            await exchange.send(piece)

    return script


reset = send(end="reset")


async def hang(exchange: Exchange) -> None:
    """Answer nothing until the client goes away."""
    await exchange.reader.read()
