"""A server that sends scripted bytes, including bytes that no HTTP server would send."""

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
    """A request and its connection.

    Attributes:
        head: The raw request head.
        reader: Reads the bytes that the client sends next.
        writer: Writes the response.
    """

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def parameters(self) -> dict[str, str]:
        target = self.head.split(b" ", 2)[1].decode("ascii")
        return dict(parse_qsl(urlsplit(target).query, strict_parsing=True))

    async def send(self, piece: bytes) -> None:
        """Send bytes, and wait until the client has room for more."""
        self.writer.write(piece)
        await self.writer.drain()

    def end(self, how: End) -> None:
        if how == "reset":
            # Zero linger time makes the kernel send RST instead of FIN.
            plain: socket.socket = self.writer.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        elif how == "close":
            self.writer.close()


Script: TypeAlias = Callable[[Exchange], Awaitable[None]]


class RawServer:
    """Plays one script per request; the last script repeats.

    Args:
        tls: The server's TLS context, or None for plain HTTP.
        greeting: Bytes to send on every new connection, before any request.

    Attributes:
        heads: The raw request heads so far.
        connections: Number of accepted connections.
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
        """Drop all scripts, and play this one from now on."""
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
            # Swallow the cancellation too: Python 3.11's streams would log it.
            pass
        finally:
            self.tasks.discard(task)
            writer.close()


# --- Bytes


def head_of(*fields: bytes, status: str = "200 OK") -> bytes:
    """Return a response head with these header fields."""
    return b"\r\n".join([b"HTTP/1.1 " + status.encode("ascii"), *fields, b"", b""])


def response_of(body: bytes, *fields: bytes, status: str = "200 OK") -> bytes:
    """Return a complete response with a Content-Length."""
    return head_of(b"Content-Length: %d" % len(body), *fields, status=status) + body


def chunks_of(body: bytes, size: int = 100) -> bytes:
    """Return a chunked body without the terminating empty chunk."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def chunked_response_of(body: bytes, *fields: bytes) -> bytes:
    """Return a complete response with a chunked body."""
    return head_of(b"Transfer-Encoding: chunked", *fields) + chunks_of(body) + b"0\r\n\r\n"


# --- Scripts


def send(*pieces: bytes, end: End = "keep") -> Script:
    """Create a script that sends bytes and then closes, resets or keeps the connection.

    An incomplete response on a connection that is kept open stalls the client.
    """

    async def script(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.send(piece)
        exchange.end(end)

    return script


def reply(body: bytes, *fields: bytes, status: str = "200 OK") -> Script:
    """Create a script that sends a complete response and keeps the connection."""
    return send(response_of(body, *fields, status=status))


def drip(pieces: Iterable[bytes], pause: float = 0.0) -> Script:
    """Create a script that sends the pieces one by one, `pause` seconds apart."""

    async def script(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.send(piece)
            await asyncio.sleep(pause)

    return script


def flood(head: bytes, size: int, *, chunked: bool = False) -> Script:
    """Create a script that sends a head and up to `size` zero bytes, until the client hangs up."""
    piece = b"%x\r\n%s\r\n" % (len(_FLOOD_PIECE), _FLOOD_PIECE) if chunked else _FLOOD_PIECE

    async def script(exchange: Exchange) -> None:
        await exchange.send(head)
        for _ in range(size // len(_FLOOD_PIECE)):
            await exchange.send(piece)

    return script


reset = send(end="reset")


async def hang(exchange: Exchange) -> None:
    """Never answer; wait until the client disconnects."""
    await exchange.reader.read()
