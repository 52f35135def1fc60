"""Every fault that the client must survive, and the outcome that each must have."""

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
    """How the client must handle a response."""

    READ = "decoded normally"
    RETRIED = "requested again"
    REFUSED = "raised without a retry"


@attrs.frozen
class Fault:
    """A faulty or unusual response.

    Attributes:
        name: A short description.
        outcome: How the client must handle it.
        corrupt: Creates the script that sends it, from the correct body.
        weight: Relative frequency in random runs; slow faults are rarer.
        slow: Whether only a timeout ends the attempt.
    """

    name: str
    outcome: Outcome
    corrupt: Callable[[bytes], Script] = attrs.field(repr=False)
    weight: float = 1.0
    slow: bool = False


# Short enough for thousands of stalls, long enough for a response that is merely slow.
IMPATIENT = Timeouts(connect=5, read=0.5, attempt=1, total=None)


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


@cache
def bomb(*, wbits: int) -> bytes:
    """Return 300 MiB of zeros in compressed form."""
    compressor = zlib.compressobj(wbits=wbits)
    block = bytes(MIB)
    pieces = [compressor.compress(block) for _ in range(BOMB_BYTES // MIB)]
    return b"".join([*pieces, compressor.flush()])


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def flipped(data: bytes, index: int) -> bytes:
    """Return the data with one byte inverted."""
    return data[:index] + bytes([data[index] ^ 0xFF]) + data[index + 1 :]


def extended(body: bytes, value: bytes) -> bytes:
    """Return an envelope with one more field, which the API document does not define."""
    return b'{"more":' + value + b"," + body.lstrip()[1:]


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _single_bytes(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def _slowly(body: bytes) -> Script:
    # Only the head is sent byte by byte: bodies can be long.
    step = len(body) // 20 + 1
    pieces = (body[start : start + step] for start in range(0, len(body), step))
    return drip([*_single_bytes(head_of(b"Content-Length: %d" % len(body))), *pieces])


def _endlessly(body: bytes) -> Script:
    return drip(_single_bytes(head_of(b"Content-Length: 10000") + body), pause=0.02)


def _with_length(body: bytes, claimed: int) -> bytes:
    return head_of(b"Content-Length: %d" % claimed) + body


def _with_status(status: str, *fields: bytes) -> Callable[[bytes], Script]:
    code = int(status.split(maxsplit=1)[0])
    return lambda _: reply(b'{"statusCode":%d,"message":"Planned"}' % code, *fields, status=status)


def _with_body(change: Callable[[bytes], bytes], *fields: bytes) -> Callable[[bytes], Script]:
    return lambda body: reply(change(body), *fields)


READ, RETRIED, REFUSED = Outcome.READ, Outcome.RETRIED, Outcome.REFUSED

CONNECTION_FAULTS = (
    Fault("closed before the head", RETRIED, lambda _: send(end="close")),
    Fault("reset before the head", RETRIED, lambda _: send(end="reset")),
    Fault(
        "closed inside the head", RETRIED, lambda _: send(b"HTTP/1.1 200 OK\r\nCon", end="close")
    ),
    Fault("reset inside the head", RETRIED, lambda _: send(b"HTTP/1.1 200 OK\r\nCon", end="reset")),
    Fault(
        "closed inside the body", RETRIED, lambda body: send(half(response_of(body)), end="close")
    ),
    Fault(
        "reset inside the body", RETRIED, lambda body: send(half(response_of(body)), end="reset")
    ),
    Fault(
        "closed inside a chunk",
        RETRIED,
        lambda body: send(half(chunked_response_of(body)), end="close"),
    ),
    Fault(
        "reset inside a chunk",
        RETRIED,
        lambda body: send(half(chunked_response_of(body)), end="reset"),
    ),
    Fault(
        "closed before the last chunk",
        RETRIED,
        lambda body: send(head_of(CHUNKED) + chunks_of(body), end="close"),
    ),
    Fault(
        "Content-Length too large",
        RETRIED,
        lambda body: send(_with_length(body, len(body) + 1), end="close"),
    ),
    Fault(
        "Content-Length too small", RETRIED, lambda body: send(_with_length(body, len(body) // 2))
    ),
    Fault("answered twice", READ, lambda body: send(response_of(body) + response_of(body))),
    Fault(
        "answered twice, in separate writes",
        READ,
        lambda body: send(response_of(body), response_of(body)),
    ),
    Fault(
        "truncated, without a length",
        RETRIED,
        lambda body: send(head_of(b"Connection: close") + half(body), end="close"),
    ),
    Fault(
        "complete, without a length",
        READ,
        lambda body: send(head_of(b"Connection: close") + body, end="close"),
    ),
    Fault("closed after the body", READ, lambda body: send(response_of(body), end="close")),
    Fault("stalled before the head", RETRIED, lambda _: send(), weight=0.1, slow=True),
    Fault(
        "stalled inside the body",
        RETRIED,
        lambda body: send(half(response_of(body))),
        0.1,
        slow=True,
    ),
    Fault("slow but complete", READ, _slowly),
    Fault("dripping forever", RETRIED, _endlessly, weight=0.03, slow=True),
    Fault(
        "early hints first",
        READ,
        lambda body: send(head_of(status="103 Early Hints") + response_of(body)),
    ),
)

HEAD_FAULTS = (
    Fault("9 kB header", RETRIED, lambda body: reply(body, b"X-Long: " + b"x" * 9_000)),
    Fault("200 headers", RETRIED, lambda body: reply(body, *[b"X-%d: x" % i for i in range(200)])),
    Fault(
        "both Content-Length and chunks",
        RETRIED,
        lambda body: send(chunked_response_of(body, b"Content-Length: 5")),
    ),
    Fault("two Content-Lengths", RETRIED, lambda body: reply(body, b"Content-Length: 5")),
    Fault("negative Content-Length", RETRIED, lambda body: send(_with_length(body, -1))),
    Fault("malformed chunk size", RETRIED, lambda body: send(head_of(CHUNKED) + b"zz\r\n" + body)),
    Fault(
        "huge chunk size", RETRIED, lambda body: send(head_of(CHUNKED) + b"f" * 40 + b"\r\n" + body)
    ),
    Fault("not HTTP", RETRIED, lambda body: send(body + b"\r\n\r\n")),
    Fault(
        "control characters in a header", RETRIED, lambda body: reply(body, b"X-Bad: \x00\x1b[31m")
    ),
    Fault(
        "switching protocols", REFUSED, lambda body: reply(body, status="101 Switching Protocols")
    ),
)

ENCODING_FAULTS = (
    Fault("gzip", READ, _with_body(gzipped, GZIP)),
    Fault("deflate", READ, _with_body(zlib.compress, DEFLATE)),
    Fault("plain body labelled gzip", RETRIED, _with_body(bytes, GZIP)),
    Fault("plain body labelled deflate", RETRIED, _with_body(bytes, DEFLATE)),
    Fault("truncated gzip", RETRIED, _with_body(lambda body: half(gzipped(body)), GZIP)),
    Fault(
        "truncated deflate", RETRIED, _with_body(lambda body: half(zlib.compress(body)), DEFLATE)
    ),
    Fault("empty body labelled gzip", RETRIED, _with_body(lambda _: b"", GZIP)),
    Fault("corrupt gzip", RETRIED, _with_body(lambda body: flipped(gzipped(body), -5), GZIP)),
    Fault(
        "corrupt deflate",
        RETRIED,
        _with_body(lambda body: flipped(zlib.compress(body), -1), DEFLATE),
    ),
    Fault("unsolicited encoding", RETRIED, _with_body(gzipped, b"Content-Encoding: br")),
    Fault("gzip bomb", REFUSED, lambda _: reply(bomb(wbits=31), GZIP), weight=0.03),
    Fault("deflate bomb", REFUSED, lambda _: reply(bomb(wbits=15), DEFLATE), weight=0.03),
    Fault(
        "oversized body",
        REFUSED,
        lambda _: flood(head_of(b"Content-Length: %d" % OVERSIZED_BYTES), OVERSIZED_BYTES),
        weight=0.03,
    ),
    Fault(
        "oversized chunked body",
        REFUSED,
        lambda _: flood(head_of(CHUNKED), OVERSIZED_BYTES, chunked=True),
        weight=0.03,
    ),
)

BODY_FAULTS = (
    Fault("empty body", RETRIED, _with_body(lambda _: b"")),
    Fault("only whitespace", RETRIED, _with_body(lambda _: b" \r\n\t ")),
    Fault("null", REFUSED, _with_body(lambda _: b"null")),
    Fault("array", REFUSED, _with_body(lambda _: b"[]")),
    Fault("string", REFUSED, _with_body(lambda _: b'"ok"')),
    Fault(
        "HTML", RETRIED, _with_body(lambda _: b"<html>Gateway</html>", b"Content-Type: text/html")
    ),
    Fault("JSON labelled HTML", READ, _with_body(bytes, b"Content-Type: text/html; charset=x")),
    Fault("byte order mark", READ, _with_body(lambda body: codecs.BOM_UTF8 + body)),
    Fault("UTF-16", RETRIED, _with_body(lambda body: body.decode().encode("utf-16"))),
    Fault("NaN", RETRIED, _with_body(lambda body: extended(body, b"NaN"))),
    # Valid JSON numbers, in a field that the client ignores.
    Fault("infinity", READ, _with_body(lambda body: extended(body, b"1e999"))),
    Fault("integer of 5,000 digits", READ, _with_body(lambda body: extended(body, b"9" * 5_000))),
    Fault("invalid UTF-8", RETRIED, _with_body(lambda body: extended(body, b'"\xff"'))),
    Fault(
        "nesting 100,000 levels deep",
        RETRIED,
        _with_body(lambda body: extended(body, nested(100_000))),
    ),
    Fault("nesting 900 levels deep", READ, _with_body(lambda body: extended(body, nested(900)))),
    Fault("truncated JSON", RETRIED, _with_body(half)),
    Fault("body sent twice", RETRIED, _with_body(lambda body: body + body)),
    Fault(
        "error status in the envelope",
        RETRIED,
        _with_body(lambda _: b'{"statusCode":503,"message":"Planned"}'),
    ),
    Fault("wrong shape", REFUSED, _with_body(lambda body: body.replace(b'"userId"', b'"user"'))),
)

STATUS_FAULTS = (
    Fault("204 No Content", REFUSED, lambda _: send(head_of(status="204 No Content"))),
    *[
        Fault(status[:3], RETRIED, _with_status(status))
        for status in (
            "408 Request Timeout",
            "429 Too Many Requests",
            "500 Internal Server Error",
            "502 Bad Gateway",
            "503 Service Unavailable",
            "504 Gateway Timeout",
        )
    ],
    Fault("429 with Retry-After", RETRIED, _with_status("429 Slow Down", b"Retry-After: 7")),
    Fault("redirect", REFUSED, _with_status("302 Found", b"Location: /elsewhere")),
)

FAULTS = (*CONNECTION_FAULTS, *HEAD_FAULTS, *ENCODING_FAULTS, *BODY_FAULTS, *STATUS_FAULTS)
_BY_NAME = {fault.name: fault for fault in FAULTS}


def named(*names: str) -> list[Fault]:
    return [_BY_NAME[name] for name in names]
