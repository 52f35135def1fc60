"""Damaged and oversized bodies."""

import asyncio
import re
import resource
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import attrs

from distinct_async import (
    DistinctClient,
    DistinctError,
    TransportError,
    VisitPage,
)
from tests.support.faults import (
    CHUNKED,
    DEFLATE,
    GZIP,
    bomb,
    flipped,
    gzipped,
)
from tests.support.helpers import KEY, ONCE
from tests.support.raw_server import (
    RawServer,
    Script,
    chunks_of,
    flood,
    head_of,
    reply,
    send,
)
from tests.support.survival.server import make_client, page_body, shows_key


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
