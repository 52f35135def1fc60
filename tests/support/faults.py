"""Every fault that the client must survive, and what it must make of each."""

import codecs
import enum
import gzip
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import attrs

from distinct_async import Timeouts
from tests.support.raw_server import (
    Script,
    chunked_response_of,
    chunks_of,
    drip,
    flood,
    head_of,
    reply,
    response_of,
    send,
)

MIB = 1024 * 1024
BOMB_BYTES = 300 * MIB
OVERSIZED_BYTES = 40 * MIB

GZIP = b"Content-Encoding: gzip"
DEFLATE = b"Content-Encoding: deflate"
CHUNKED = b"Transfer-Encoding: chunked"


class Outcome(enum.Enum):
    """What the client makes of a response."""

    READ = "read as if nothing had happened"
    RETRIED = "asked for again"
    REFUSED = "raised at once"


@attrs.frozen
class Fault:
    """A way to answer wrongly.

    Attributes:
        name: What happens.
        outcome: What the client must make of it.
        spoil: Makes the script, given the body that would have been right.
        weight: How often to choose it; those that take long are rarer.
        slow: Whether only a timeout ends it.
    """

    name: str
    outcome: Outcome
    spoil: Callable[[bytes], Script] = attrs.field(repr=False)
    weight: float = 1.0
    slow: bool = False


# Short enough for a run with thousands of stalls, long enough for whatever is only slow.
IMPATIENT = Timeouts(connect=5, read=0.5, attempt=1, total=None)


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


@cache
def bomb(*, wbits: int) -> bytes:
    """Return 300 MiB of zeros, compressed."""
    compressor = zlib.compressobj(wbits=wbits)
    block = bytes(MIB)
    pieces = [compressor.compress(block) for _ in range(BOMB_BYTES // MIB)]
    return b"".join([*pieces, compressor.flush()])


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def flipped(data: bytes, index: int) -> bytes:
    """Return data with one byte inverted."""
    return data[:index] + bytes([data[index] ^ 0xFF]) + data[index + 1 :]


def extended(body: bytes, value: bytes) -> bytes:
    """Return an envelope with one more field, which the document does not have."""
    return b'{"more":' + value + b"," + body.lstrip()[1:]


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _bytes_of(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def _slowly(body: bytes) -> Script:
    # The head byte by byte, and then in some pieces: there may be a lot of it.
    step = len(body) // 20 + 1
    pieces = (body[start : start + step] for start in range(0, len(body), step))
    return drip([*_bytes_of(head_of(b"Content-Length: %d" % len(body))), *pieces])


def _endlessly(body: bytes) -> Script:
    return drip(_bytes_of(head_of(b"Content-Length: 10000") + body), pause=0.02)


def _length(body: bytes, claimed: int) -> bytes:
    return head_of(b"Content-Length: %d" % claimed) + body


def _status(status: str, *fields: bytes) -> Callable[[bytes], Script]:
    code = int(status.split(maxsplit=1)[0])
    return lambda _: reply(b'{"statusCode":%d,"message":"Planned"}' % code, *fields, status=status)


def _body(change: Callable[[bytes], bytes], *fields: bytes) -> Callable[[bytes], Script]:
    return lambda body: reply(change(body), *fields)


READ, RETRIED, REFUSED = Outcome.READ, Outcome.RETRIED, Outcome.REFUSED

CONNECTION_FAULTS = (
    Fault("closed before the head", RETRIED, lambda _: send(end="close")),
    Fault("reset before the head", RETRIED, lambda _: send(end="reset")),
    Fault("closed in the head", RETRIED, lambda _: send(b"HTTP/1.1 200 OK\r\nCon", end="close")),
    Fault("reset in the head", RETRIED, lambda _: send(b"HTTP/1.1 200 OK\r\nCon", end="reset")),
    Fault("closed in the body", RETRIED, lambda body: send(half(response_of(body)), end="close")),
    Fault("reset in the body", RETRIED, lambda body: send(half(response_of(body)), end="reset")),
    Fault(
        "closed in a chunk",
        RETRIED,
        lambda body: send(half(chunked_response_of(body)), end="close"),
    ),
    Fault(
        "reset in a chunk", RETRIED, lambda body: send(half(chunked_response_of(body)), end="reset")
    ),
    Fault(
        "closed before the last chunk",
        RETRIED,
        lambda body: send(head_of(CHUNKED) + chunks_of(body), end="close"),
    ),
    Fault("length too long", RETRIED, lambda body: send(_length(body, len(body) + 1), end="close")),
    Fault("length too short", RETRIED, lambda body: send(_length(body, len(body) // 2))),
    Fault("answered twice", READ, lambda body: send(response_of(body) + response_of(body))),
    Fault(
        "answered twice, in two writes",
        READ,
        lambda body: send(response_of(body), response_of(body)),
    ),
    Fault(
        "cut, no length",
        RETRIED,
        lambda body: send(head_of(b"Connection: close") + half(body), end="close"),
    ),
    Fault(
        "whole, no length",
        READ,
        lambda body: send(head_of(b"Connection: close") + body, end="close"),
    ),
    Fault("closed after the body", READ, lambda body: send(response_of(body), end="close")),
    Fault("stalled before the head", RETRIED, lambda _: send(), weight=0.1, slow=True),
    Fault(
        "stalled in the body", RETRIED, lambda body: send(half(response_of(body))), 0.1, slow=True
    ),
    Fault("dripped to the end", READ, _slowly),
    Fault("dripped without end", RETRIED, _endlessly, weight=0.03, slow=True),
    Fault(
        "early hints first",
        READ,
        lambda body: send(head_of(status="103 Early Hints") + response_of(body)),
    ),
)

HEAD_FAULTS = (
    Fault("header of 9 kB", RETRIED, lambda body: reply(body, b"X-Long: " + b"x" * 9_000)),
    Fault("200 headers", RETRIED, lambda body: reply(body, *[b"X-%d: x" % i for i in range(200)])),
    Fault(
        "length and chunks",
        RETRIED,
        lambda body: send(chunked_response_of(body, b"Content-Length: 5")),
    ),
    Fault("two lengths", RETRIED, lambda body: reply(body, b"Content-Length: 5")),
    Fault("negative length", RETRIED, lambda body: send(_length(body, -1))),
    Fault("bad chunk size", RETRIED, lambda body: send(head_of(CHUNKED) + b"zz\r\n" + body)),
    Fault(
        "huge chunk size", RETRIED, lambda body: send(head_of(CHUNKED) + b"f" * 40 + b"\r\n" + body)
    ),
    Fault("no HTTP", RETRIED, lambda body: send(body + b"\r\n\r\n")),
    Fault("control characters", RETRIED, lambda body: reply(body, b"X-Bad: \x00\x1b[31m")),
    Fault(
        "switching protocols", REFUSED, lambda body: reply(body, status="101 Switching Protocols")
    ),
)

ENCODING_FAULTS = (
    Fault("gzip", READ, _body(gzipped, GZIP)),
    Fault("deflate", READ, _body(zlib.compress, DEFLATE)),
    Fault("not gzip", RETRIED, _body(bytes, GZIP)),
    Fault("not deflate", RETRIED, _body(bytes, DEFLATE)),
    Fault("cut gzip", RETRIED, _body(lambda body: half(gzipped(body)), GZIP)),
    Fault("cut deflate", RETRIED, _body(lambda body: half(zlib.compress(body)), DEFLATE)),
    Fault("no gzip at all", RETRIED, _body(lambda _: b"", GZIP)),
    Fault("spoilt gzip", RETRIED, _body(lambda body: flipped(gzipped(body), -5), GZIP)),
    Fault("spoilt deflate", RETRIED, _body(lambda body: flipped(zlib.compress(body), -1), DEFLATE)),
    Fault("encoding nobody asked for", RETRIED, _body(gzipped, b"Content-Encoding: br")),
    Fault("gzip bomb", REFUSED, lambda _: reply(bomb(wbits=31), GZIP), weight=0.03),
    Fault("deflate bomb", REFUSED, lambda _: reply(bomb(wbits=15), DEFLATE), weight=0.03),
    Fault(
        "oversized body",
        REFUSED,
        lambda _: flood(head_of(b"Content-Length: %d" % OVERSIZED_BYTES), OVERSIZED_BYTES),
        weight=0.03,
    ),
    Fault(
        "oversized chunks",
        REFUSED,
        lambda _: flood(head_of(CHUNKED), OVERSIZED_BYTES, chunked=True),
        weight=0.03,
    ),
)

BODY_FAULTS = (
    Fault("empty", RETRIED, _body(lambda _: b"")),
    Fault("white space", RETRIED, _body(lambda _: b" \r\n\t ")),
    Fault("null", REFUSED, _body(lambda _: b"null")),
    Fault("array", REFUSED, _body(lambda _: b"[]")),
    Fault("string", REFUSED, _body(lambda _: b'"ok"')),
    Fault("HTML", RETRIED, _body(lambda _: b"<html>Gateway</html>", b"Content-Type: text/html")),
    Fault("JSON said to be HTML", READ, _body(bytes, b"Content-Type: text/html; charset=x")),
    Fault("byte order mark", READ, _body(lambda body: codecs.BOM_UTF8 + body)),
    Fault("UTF-16", RETRIED, _body(lambda body: body.decode().encode("utf-16"))),
    Fault("NaN", RETRIED, _body(lambda body: extended(body, b"NaN"))),
    # Numbers by JSON's grammar, and of a field that nobody reads.
    Fault("infinity", READ, _body(lambda body: extended(body, b"1e999"))),
    Fault("integer of 5,000 digits", READ, _body(lambda body: extended(body, b"9" * 5_000))),
    Fault("bad UTF-8", RETRIED, _body(lambda body: extended(body, b'"\xff"'))),
    Fault("nested 100,000 deep", RETRIED, _body(lambda body: extended(body, nested(100_000)))),
    Fault("nested 900 deep", READ, _body(lambda body: extended(body, nested(900)))),
    Fault("cut", RETRIED, _body(half)),
    Fault("doubled", RETRIED, _body(lambda body: body + body)),
    Fault("an error inside", RETRIED, _body(lambda _: b'{"statusCode":503,"message":"Planned"}')),
    Fault("wrong shape", REFUSED, _body(lambda body: body.replace(b'"userId"', b'"user"'))),
)

STATUS_FAULTS = (
    Fault("204", REFUSED, lambda _: send(head_of(status="204 No Content"))),
    *[
        Fault(status[:3], RETRIED, _status(status))
        for status in (
            "408 Request Timeout",
            "429 Too Many Requests",
            "500 Internal Server Error",
            "502 Bad Gateway",
            "503 Service Unavailable",
            "504 Gateway Timeout",
        )
    ],
    Fault("429 with Retry-After", RETRIED, _status("429 Slow Down", b"Retry-After: 7")),
    Fault("redirect", REFUSED, _status("302 Found", b"Location: /elsewhere")),
)

FAULTS = (*CONNECTION_FAULTS, *HEAD_FAULTS, *ENCODING_FAULTS, *BODY_FAULTS, *STATUS_FAULTS)
_BY_NAME = {fault.name: fault for fault in FAULTS}


def named(*names: str) -> list[Fault]:
    return [_BY_NAME[name] for name in names]
