"""The wire format, without I/O: parameters out, bytes in.

Spellings and shapes are those of the API document ("Touchpoint Scanner Metrics"). Decoding is
strict: a value of another type is a `DecodeError` with its JSON path, never coerced. Fields that
the document does not have are ignored, for APIs grow.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    get_origin,
)
from urllib.parse import quote, urlencode

import attrs
import msgspec

from distinct_async.config import ApiKey, require_id, require_integer
from distinct_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    ServerError,
    StatusError,
)
from distinct_async.models import (
    ExperienceMetrics,
    Touchpoint,
    TouchpointPage,
    TouchpointSummary,
    UserMetrics,
    UserTouchpoint,
    Visit,
    VisitPage,
    VisitsType,
)

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")

PATH: Final = "/v3/touchpoint/metrics"
KEY_HEADER: Final = "x-distinct-api-key"

_OK: Final = 200
_NOT_JSON: Final = object()
# Of msgspec: no JSON or not of that type, not UTF-8, and nested too deeply.
_UNPARSABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_EXCERPT_CHARACTERS: Final = 200
_EXCERPT_SOURCE_BYTES: Final = 4096
_REQUEST_ID_HEADERS: Final = ("x-request-id", "x-amzn-requestid", "x-correlation-id")
# Beyond this a Retry-After is no advice but a fault of the server.
_ABSURD_RETRY_AFTER: Final = 366 * 86_400.0


# --- Parameters out ---------------------------------------------------------------------------


def experience_query(
    experience_id: str, *, offset: int | None = None, page_size: int | None = None
) -> str:
    """Return the query string of an EXPERIENCE request, percent-encoded.

    Raises:
        ConfigurationError: A parameter is unusable; the message names it.
    """
    return _query(
        metricsType="EXPERIENCE",
        experienceId=require_id("experience_id", experience_id),
        offset=_page_parameter("offset", offset, minimum=0),
        pageSize=_page_parameter("page_size", page_size, minimum=1),
    )


def user_query(experience_id: str, user_id: str) -> str:
    """Return the query string of a USER request, percent-encoded.

    Raises:
        ConfigurationError: A parameter is unusable; the message names it.
    """
    return _query(
        metricsType="USER",
        experienceId=require_id("experience_id", experience_id),
        userId=require_id("user_id", user_id),
    )


def touchpoint_query(
    touchpoint_id: str,
    *,
    visits_type: VisitsType,
    experience_id: str | None = None,
    offset: int | None = None,
    page_size: int | None = None,
) -> str:
    """Return the query string of a TOUCHPOINT request, percent-encoded.

    Raises:
        ConfigurationError: A parameter is unusable; the message names it.
    """
    query = _query(
        metricsType="TOUCHPOINT",
        touchpointId=require_id("touchpoint_id", touchpoint_id),
        experienceId=None if experience_id is None else require_id("experience_id", experience_id),
        visitsType=visits_type.value,
    )
    return of_page(
        query,
        _page_parameter("offset", offset, minimum=0),
        _page_parameter("page_size", page_size, minimum=1),
    )


def of_page(query: str, offset: int | None, page_size: int | None) -> str:
    """Return the query string of one page, given that of the whole list.

    Encoding the rest anew for each page would take a tenth of the time that a page takes.
    """
    start = "" if offset is None else f"&offset={offset}"
    return f"{query}{start}" if page_size is None else f"{query}{start}&pageSize={page_size}"


def parse_visits_type(value: VisitsType | str) -> VisitsType:
    """Return the visits type that `value` names.

    Raises:
        ConfigurationError: It names none.
    """
    try:
        return VisitsType(value)
    except ValueError:
        pass
    raise ConfigurationError("visits_type must be TOTAL or UNIQUE")


def _page_parameter(name: str, value: int | None, *, minimum: int) -> int | None:
    return None if value is None else require_integer(name, value, minimum=minimum)


def _query(**parameters: str | int | None) -> str:
    present = {name: value for name, value in parameters.items() if value is not None}
    return urlencode(present, quote_via=quote, safe="")


# --- Bytes in ---------------------------------------------------------------------------------


def printable(text: str, api_key: ApiKey) -> str:
    """Return foreign text without the key, escaped and cut, fit for a message or a log."""
    redacted = api_key.redact(text)
    cut = redacted[:_EXCERPT_CHARACTERS]
    # Not printable: control characters, ANSI escapes, line breaks, bidirectional overrides.
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
    return escaped if cut == redacted else f"{escaped}…"


@attrs.frozen
class Reply:
    """A response: all that decoding needs of it.

    Attributes:
        status: The HTTP status.
        headers: Its headers, looked up without regard to case.
        body: The decompressed body.
        api_key: The key, so that a server that echoes it puts it into no message.
        received_at: When it came, seconds since the epoch.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)
    api_key: ApiKey
    received_at: float

    def printable(self, text: str) -> str:
        """Return server-sent text without the key, escaped and cut, fit for a message or a log."""
        return printable(text, self.api_key)

    @property
    def excerpt(self) -> str:
        """The start of the body, fit for a message or a log."""
        start = self.body[:_EXCERPT_SOURCE_BYTES].decode("utf-8", "replace")
        if len(self.body) > _EXCERPT_SOURCE_BYTES:
            # The cut may have gone through the key, and half of it would not be recognized.
            start = self.api_key.redact(start)[: -len(self.api_key)]
        return self.printable(start)


def decode_experience(reply: Reply) -> ExperienceMetrics:
    """Return the metrics of an EXPERIENCE response.

    Raises:
        StatusError: The server answered with an error.
        DecodeError: The body is not the documented shape.
    """
    return _structure(reply, ExperienceMetrics)


def decode_touchpoint_page(reply: Reply, offset: int) -> TouchpointPage:
    """Return the page at `offset` of an EXPERIENCE response, which does not tell its offset.

    Raises:
        StatusError: The server answered with an error.
        DecodeError: The body is not the documented shape.
    """
    metrics = _structure(reply, ExperienceMetrics)
    return TouchpointPage(metrics.total_touchpoints, metrics.touchpoints, offset)


def decode_user(reply: Reply) -> UserMetrics:
    """Return the metrics of a USER response.

    Raises:
        StatusError: The server answered with an error.
        DecodeError: The body is not the documented shape.
    """
    return _structure(reply, UserMetrics)


def decode_visits(reply: Reply, visits_type: VisitsType) -> VisitPage:
    """Return the page of a TOUCHPOINT response.

    Raises:
        StatusError: The server answered with an error.
        DecodeError: The body is not the documented shape.
    """
    page = _decode_at_once(reply, visits_type)
    if page is not None:
        return page
    # Named field by field, or an error.
    if visits_type is VisitsType.TOTAL:
        total = _structure(reply, _TotalVisits).touchpoints
        return _visit_page(total, visits_type, total.total_visits, total.total_visits_details)
    unique = _structure(reply, _UniqueVisits).touchpoints
    return _visit_page(unique, visits_type, unique.unique_visits, unique.unique_visits_details)


# What cattrs fills; nobody compares or shows it, and code for that takes time to make.
@attrs.frozen(eq=False, repr=False)
class _Pagination:
    offset: int
    page_size: int


@attrs.frozen(eq=False, repr=False)
class _VisitsDetails:
    items: tuple[Visit, ...]
    pagination: _Pagination


@attrs.frozen(eq=False, repr=False)
class _TotalTouchpoint(Touchpoint):
    total_visits: int
    total_visits_details: _VisitsDetails


@attrs.frozen(eq=False, repr=False)
class _UniqueTouchpoint(Touchpoint):
    unique_visits: int
    unique_visits_details: _VisitsDetails


@attrs.frozen(eq=False, repr=False)
class _TotalVisits:
    touchpoints: _TotalTouchpoint


@attrs.frozen(eq=False, repr=False)
class _UniqueVisits:
    touchpoints: _UniqueTouchpoint


def _visit_page(
    touchpoint: "Touchpoint | _FastTouchpoint",
    visits_type: VisitsType,
    total: int,
    details: "_VisitsDetails | _FastDetails",
) -> VisitPage:
    return VisitPage(
        touchpoint=Touchpoint(touchpoint.id, touchpoint.name, touchpoint.value),
        visits_type=visits_type,
        total=total,
        items=details.items,
        offset=details.pagination.offset,
        page_size=details.pagination.page_size,
    )


# --- Bytes to visits, at once -----------------------------------------------------------------

_LARGEST_COUNT: Final = 2**63 - 1

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST_COUNT)]
_Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class _SpelledVisit(Visit):
    """A visit under the document's names.

    msgspec fills the slots of an attrs class by the names of its fields, and these are the same
    slots by other names. That takes a third of the time that it takes to make visits of dicts.
    """

    __slots__ = ()
    __attrs_attrs__ = attrs.fields(attrs.make_class("Names", ["userId", "timestampUTC"]))

    userId: str = Visit.user_id  # noqa: N815
    timestampUTC: _Moment = Visit.timestamp  # noqa: N815


class _FastPagination(msgspec.Struct, rename="camel", gc=False):
    offset: _Count
    page_size: _Count


class _FastDetails(msgspec.Struct, gc=False):
    items: tuple[_SpelledVisit, ...]
    pagination: _FastPagination


class _FastTouchpoint(msgspec.Struct, gc=False):
    id: str
    name: str
    value: str


class _FastTotal(_FastTouchpoint, rename={"total": "totalVisits", "details": "totalVisitsDetails"}):
    total: _Count
    details: _FastDetails


class _FastUnique(
    _FastTouchpoint, rename={"total": "uniqueVisits", "details": "uniqueVisitsDetails"}
):
    total: _Count
    details: _FastDetails


class _FastData(msgspec.Struct, Generic[T], gc=False):
    touchpoints: T


class _FastEnvelope(msgspec.Struct, Generic[T], rename="camel", gc=False):
    status_code: Literal[200]
    data: _FastData[T]


_FAST_DECODERS: Final[Mapping[VisitsType, msgspec.json.Decoder[_FastEnvelope[Any]]]] = {
    VisitsType.TOTAL: msgspec.json.Decoder(_FastEnvelope[_FastTotal]),
    VisitsType.UNIQUE: msgspec.json.Decoder(_FastEnvelope[_FastUnique]),
}
_set_class: Final[Callable[[Visit, type[Visit]], None]] = object.__dict__["__class__"].__set__


def _decode_at_once(reply: Reply, visits_type: VisitsType) -> VisitPage | None:
    """Return the page if it is as nearly all are; None if it takes a closer look."""
    if reply.status != _OK:
        return None
    try:
        if not reply.body.isascii():
            # msgspec does not look at the encoding of what it skips.
            reply.body.decode()
        touchpoint = _FAST_DECODERS[visits_type].decode(reply.body).data.touchpoints
    except _UNPARSABLE:
        return None
    visits: tuple[Visit, ...] = touchpoint.details.items
    for visit in visits:
        if visit.timestamp.tzinfo is not UTC:
            return None
        _set_class(visit, Visit)
    return _visit_page(touchpoint, visits_type, touchpoint.total, touchpoint.details)


# --- Status to error --------------------------------------------------------------------------

_ERRORS_BY_STATUS: Final[Mapping[int, type[StatusError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}
_ERRORS_BY_CLASS: Final[Mapping[int, type[StatusError]]] = {3: RedirectError, 5: ServerError}


def _data(reply: Reply) -> Any:
    """Return the envelope's data, or raise what the status or the envelope says instead."""
    if reply.status != _OK:
        raise _status_error(reply, reply.status, _as_object(_parse(reply.body)))
    parsed = _parse(reply.body)
    if parsed is _NOT_JSON:
        # A proxy's page or a cut body: another attempt may get the real one.
        raise DecodeError("expected a JSON object", excerpt=reply.excerpt, retryable=True)
    envelope = _as_object(parsed)
    if envelope is None:
        raise DecodeError("expected a JSON object", path="$", excerpt=reply.excerpt)
    status = envelope.get("statusCode")
    if type(status) is int and status // 100 in {3, 4, 5}:
        raise _status_error(reply, status, envelope)
    if type(status) is not int or status != _OK:
        raise DecodeError("expected 200", path="statusCode", excerpt=reply.excerpt)
    return envelope.get("data")


def _parse(body: bytes) -> Any:
    """Return the JSON value, or `_NOT_JSON`."""
    try:
        # RFC 8259, 8.1: whoever parses may ignore a byte order mark.
        return msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))
    except _UNPARSABLE:
        return _NOT_JSON


def _as_object(value: Any) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None


def _status_error(reply: Reply, status: int, envelope: Mapping[str, Any] | None) -> StatusError:
    message = None if envelope is None else envelope.get("message")
    error = _ERRORS_BY_STATUS.get(status) or _ERRORS_BY_CLASS.get(status // 100, StatusError)
    return error(
        status,
        reply.printable(message) if isinstance(message, str) else "",
        request_id=_request_id(reply),
        body_excerpt=reply.excerpt,
        retry_after=parse_retry_after(reply.headers, now=reply.received_at),
    )


def _request_id(reply: Reply) -> str | None:
    found = (reply.headers.get(name) for name in _REQUEST_ID_HEADERS)
    return next((reply.printable(value) for value in found if value), None)


def parse_retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3).

    An HTTP-date counts from the response's own Date, so that a skewed clock on either side does
    no harm; only without one from `now`, seconds since the epoch. A value that is malformed,
    negative or longer than a year is ignored: None. A date in the past is 0.
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
    return seconds if seconds <= _ABSURD_RETRY_AFTER else None


def _http_date(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value)
        # Without a zone it would be taken for this machine's local time.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


# --- The converter ----------------------------------------------------------------------------

# cattrs is imported by what needs it: a walk of visits that goes well does not.

_JSON_NAMES: Final = {"timestamp": "timestampUTC", "timestamps": "timestampsUTC"}


class _MismatchError(ValueError):
    """A value is not what the document says."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(expected, value)
        self.expected = expected
        self.value = value


def _json_name(attribute: str) -> str:
    """Return the document's spelling of an attribute: ``user_id`` → ``userId``."""
    head, *tail = attribute.split("_")
    return _JSON_NAMES.get(attribute) or head + "".join(map(str.capitalize, tail))


def _string(value: object, _: object) -> str:
    if type(value) is not str:
        raise _MismatchError("a string", value)
    return value


def _count(value: object, _: object) -> int:
    # The exact type keeps booleans out; the document's integers count, none can be negative.
    if type(value) is not int or not 0 <= value <= _LARGEST_COUNT:
        raise _MismatchError("an integer from 0 to 2⁶³ - 1", value)
    return value


def _timestamp(value: object, _: object) -> datetime:
    try:
        if type(value) is str:
            return msgspec.convert(value, _Moment).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        pass
    raise _MismatchError("a UTC timestamp (RFC 3339)", value)


_Hook: TypeAlias = Callable[[Any, Any], Any]


def _is_tuple(target: Any) -> bool:
    return get_origin(target) is tuple


def _tuple_hook(target: Any, converter: "Converter") -> _Hook:
    list_type: Any = list.__class_getitem__(get_args(target)[0])
    structure_list = converter.get_structure_hook(list_type)

    def structure(value: object, _: object) -> tuple[Any, ...]:
        # cattrs iterates whatever it is given: the keys of an object, the characters of a string.
        if type(value) is not list:
            raise _MismatchError("an array", value)
        return tuple(structure_list(value, list_type))

    return structure


def _object_hook(target: type, converter: "Converter") -> _Hook:
    from cattrs.gen import make_dict_structure_fn, override  # noqa: PLC0415

    names = {a.name: override(rename=_json_name(a.name)) for a in attrs.fields(target)}
    detailed = converter.detailed_validation
    make: Any = make_dict_structure_fn  # typed with its options and the overrides as one
    build: _Hook = make(target, converter, _cattrs_detailed_validation=detailed, **names)
    if not detailed:
        return build

    def structure(value: object, _: object) -> Any:
        if type(value) is not dict:
            raise _MismatchError("an object", value)
        return build(cast("Any", value), target)

    return structure


@cache
def _converter(*, detailed: bool) -> "Converter":
    from cattrs import Converter  # noqa: PLC0415

    converter = Converter(detailed_validation=detailed)
    converter.register_structure_hook(str, _string)
    converter.register_structure_hook(int, _count)
    converter.register_structure_hook(datetime, _timestamp)
    converter.register_structure_hook_factory(_is_tuple, _tuple_hook)
    for target in (
        *(Visit, _Pagination, _VisitsDetails),
        *(_TotalTouchpoint, _TotalVisits, _UniqueTouchpoint, _UniqueVisits),
        *(TouchpointSummary, ExperienceMetrics, UserTouchpoint, UserMetrics),
    ):
        converter.register_structure_hook(target, _object_hook(target, converter))
    return converter


def _structure(reply: Reply, target: type[T]) -> T:
    data = _data(reply)
    try:
        return _converter(detailed=False).structure(data, target)
    except (KeyError, TypeError, ValueError):
        pass
    # Naming the path costs time on every item, so only a page that failed pays for it.
    try:
        return _converter(detailed=True).structure(data, target)
    except (ValueError, ExceptionGroup) as error:
        path, mismatch = _locate(error, "data")
    raise _decode_error(reply, path, mismatch)


def _locate(error: BaseException, path: str) -> tuple[str, BaseException]:
    """Follow the notes of cattrs down to the first value that failed."""
    from cattrs import AttributeValidationNote, BaseValidationError  # noqa: PLC0415

    while isinstance(error, BaseValidationError):
        error = error.exceptions[0]
        note = error.__notes__[-1]
        if isinstance(note, AttributeValidationNote):
            path += f".{_json_name(note.name)}"
        else:
            path += f"[{note.index}]"
    return path, error


def _decode_error(reply: Reply, path: str, error: BaseException) -> DecodeError:
    if not isinstance(error, _MismatchError):
        return DecodeError("is missing", path=path)
    return DecodeError(
        f"expected {error.expected}", path=path, excerpt=reply.printable(_shown(error.value))
    )


def _shown(value: object) -> str:
    # Containers are not written out: they may be nested deeper than an encoder goes.
    if isinstance(value, dict | list):
        return "{…}" if isinstance(value, dict) else "[…]"
    return msgspec.json.encode(value).decode()
