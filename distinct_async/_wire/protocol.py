"""What all endpoints share: requests, replies, the envelope, error statuses and Retry-After.

Decoding is strict: a value of another type is a `DecodeError` with its JSON path, never coerced.
Unknown fields are ignored, so the API can grow.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, Literal, TypeVar, cast
from urllib.parse import quote, urlencode

import msgspec
from typing_extensions import override

from distinct_async._secrets import ApiKey
from distinct_async.errors import (
    AuthenticationError,
    BadRequestError,
    DecodeError,
    DistinctError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    ServerError,
    StatusError,
)

T = TypeVar("T")

KEY_HEADER: Final = "x-distinct-api-key"
LARGEST_COUNT: Final = 2**63 - 1

_OK: Final = 200
_REQUEST_ID_HEADERS: Final = ("x-request-id", "x-amzn-requestid", "x-correlation-id")
# A longer Retry-After is a server bug; ignore it.
_LONGEST_RETRY_AFTER: Final = 366 * 86_400.0
# What msgspec raises for bodies that are not JSON, not UTF-8, or nested too deeply.
_UNPARSABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_ERRORS_BY_STATUS: Final[Mapping[int, type[StatusError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}
_ERRORS_BY_CLASS: Final[Mapping[int, type[StatusError]]] = {3: RedirectError, 5: ServerError}


class Reply(msgspec.Struct, frozen=True):
    """An HTTP response, read to its end.

    Attributes:
        status: The HTTP status.
        headers: The headers; lookups ignore case.
        body: The decompressed body.
        api_key: The key, to redact it where the server echoes it.
        received_at: When the response arrived, seconds since the epoch.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    api_key: ApiKey
    received_at: float

    @override
    def __repr__(self) -> str:
        # The server may have echoed the key in the body.
        return f"<Reply {self.status}>"

    @property
    def excerpt(self) -> str:
        """The start of the body, safe for messages and logs."""
        return self.api_key.excerpt(self.body)


class Request(msgspec.Struct, Generic[T], frozen=True, eq=False, kw_only=True):
    """One logical request: what to send, and how to decode the reply.

    Attributes:
        path: The endpoint's path, below the base URL.
        query: The query string, percent-encoded.
        decode: Returns the reply's value, or the error it stands for.
        touchpoint_id: The requested touchpoint, for errors.
        experience_id: The requested experience, for errors.
    """

    path: str
    query: str
    decode: Callable[[Reply], T | DistinctError]
    touchpoint_id: str | None = None
    experience_id: str | None = None

    @override
    def __repr__(self) -> str:
        # The query may name a user.
        return f"<Request {self.path}>"


def encode_query(**parameters: str | int | None) -> str:
    """Return a percent-encoded query string without the parameters that are None."""
    present = {name: value for name, value in parameters.items() if value is not None}
    return urlencode(present, quote_via=quote, safe="")


# --- The envelope


class _Envelope(msgspec.Struct, Generic[T], rename="camel", gc=False):
    status_code: Literal[200]
    data: T


def struct_decoder(shape: type[T]) -> Callable[[Reply], T | DistinctError]:
    """Return a function that decodes a reply whose ``data`` msgspec can fill in one pass.

    The function returns a `StatusError` if the server answered with an error, and a `DecodeError`
    if the body is not the documented shape.
    """
    decoder = msgspec.json.Decoder(_Envelope[shape])  # type: ignore[valid-type]

    def decode(reply: Reply) -> T | DistinctError:
        if reply.status != _OK:
            return cast("DistinctError", read_envelope(reply))
        body = _without_bom(reply.body)
        try:
            if not body.isascii():
                # msgspec does not validate the encoding of what it skips.
                body.decode()
            data: T = decoder.decode(body).data
        except msgspec.ValidationError as error:
            problem = str(error)
        except _UNPARSABLE:
            return _not_json(reply)
        else:
            return data
        failure = read_envelope(reply)
        return failure if isinstance(failure, DistinctError) else _mismatch(reply, problem)

    return decode


def read_envelope(reply: Reply) -> Any:
    """Return the envelope's data, or a `StatusError` or `DecodeError` in its place."""
    parsed = _parse(reply.body)
    envelope = _as_object(parsed)
    if reply.status != _OK:
        return _status_error(reply, reply.status, envelope)
    if parsed is _NOT_JSON:
        return _not_json(reply)
    if envelope is None:
        return DecodeError("expected a JSON object", path="$", excerpt=reply.excerpt)
    status = envelope.get("statusCode")
    if type(status) is int and status // 100 in {3, 4, 5}:
        return _status_error(reply, status, envelope)
    if type(status) is not int or status != _OK:
        return DecodeError("expected 200", path="statusCode", excerpt=reply.excerpt)
    return envelope.get("data")


def decode_error(
    reply: Reply, problem: str, path: str, value: object, *, retryable: bool = False
) -> DecodeError:
    """Return the error for a value that is not what the API document says."""
    if isinstance(value, dict | list):
        # Containers may be nested deeper than an encoder goes.
        return DecodeError(problem, path=path, excerpt="{…}" if isinstance(value, dict) else "[…]")
    shown = reply.api_key.printable(msgspec.json.encode(value).decode())
    return DecodeError(problem, path=path, excerpt=shown, retryable=retryable)


_NOT_JSON: Final = object()


def _not_json(reply: Reply) -> DecodeError:
    # A proxy's error page or a truncated body: the next attempt may get the real response.
    return DecodeError("expected a JSON object", excerpt=reply.excerpt, retryable=True)


def _as_object(value: Any) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None


def _parse(body: bytes) -> Any:
    try:
        return msgspec.json.decode(_without_bom(body))
    except _UNPARSABLE:
        return _NOT_JSON


def _without_bom(body: bytes) -> bytes:
    # RFC 8259, section 8.1: parsers may ignore a byte order mark.
    return body.removeprefix(codecs.BOM_UTF8)


_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_PATH: Final = re.compile(r" - at `\$\.(.*)`$")


def _mismatch(reply: Reply, problem: str) -> DecodeError:
    """Return the error for a msgspec validation message, which ends in the JSON path."""
    where = _PATH.search(problem)
    path = where[1] if where else ""
    missing = _MISSING.match(problem)
    if missing is not None:
        return DecodeError("is missing", path=f"{path}.{missing[1]}".removeprefix("."))
    expected = _PATH.sub("", problem).partition(", got ")[0]
    value = _value_at(_parse(reply.body), path)
    return decode_error(reply, expected[:1].lower() + expected[1:], path, value)


def _value_at(document: Any, path: str) -> Any:
    """Return the value at a JSON path, or as close to it as the parsed document leads.

    msgspec does not name the keys of mappings, and of names that occur twice it sees both, while
    the parsed document keeps the last one.
    """
    with suppress(LookupError, TypeError):
        for index, name in re.findall(r"\[(\d+)\]|([^.\[\]]+)", path):
            document = document[int(index)] if index else document[name]
    return document


# --- Error statuses


def _status_error(reply: Reply, status: int, envelope: Mapping[str, Any] | None) -> StatusError:
    message = None if envelope is None else envelope.get("message")
    error = _ERRORS_BY_STATUS.get(status) or _ERRORS_BY_CLASS.get(status // 100, StatusError)
    return error(
        status,
        reply.api_key.printable(message) if isinstance(message, str) else "",
        request_id=_request_id(reply),
        body_excerpt=reply.excerpt,
        retry_after=parse_retry_after(reply.headers, now=reply.received_at),
    )


def _request_id(reply: Reply) -> str | None:
    found = (reply.headers.get(name) for name in _REQUEST_ID_HEADERS)
    return next((reply.api_key.printable(value) for value in found if value), None)


def parse_retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks to wait (RFC 9110, section 10.2.3).

    An HTTP-date counts from the response's own Date header, so clock skew does no harm; without
    one it counts from `now`, seconds since the epoch. A date in the past is 0. A value that is
    malformed, negative or longer than a year is ignored: None.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,12}(\.\d{1,12})?", value, re.ASCII):
        seconds = float(value)
    else:
        then = _http_date(value)
        sent = _http_date(headers.get("Date", ""))
        if then is None:
            return None
        seconds = max(0.0, then - (now if sent is None else sent))
    return seconds if seconds <= _LONGEST_RETRY_AFTER else None


def _http_date(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value)
        # A date without a zone would be read as local time.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
