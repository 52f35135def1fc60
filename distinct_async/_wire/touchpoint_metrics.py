"""The endpoint ``GET /v3/touchpoint/metrics``: its queries and its shapes.

Spellings and shapes follow the API document ("Touchpoint Scanner Metrics").
"""

from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Annotated, Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from distinct_async._checks import require_id, require_optional_id, require_optional_integer
from distinct_async._wire.protocol import (
    LARGEST_COUNT,
    Reply,
    Request,
    decode_error,
    encode_query,
    struct_decoder,
)
from distinct_async._wire.structuring import structure
from distinct_async.errors import DecodeError, DistinctError
from distinct_async.models import (
    ExperienceMetrics,
    Touchpoint,
    TouchpointPage,
    UserMetrics,
    Visit,
    VisitPage,
    VisitsType,
)

T = TypeVar("T")

_ENDPOINT: Final = "/v3/touchpoint/metrics"


# --- Requests


def experience_metrics(
    experience_id: str, *, offset: int | None = None, page_size: int | None = None
) -> Request[ExperienceMetrics]:
    """Return an EXPERIENCE request.

    Raises:
        ConfigurationError: An argument is unusable.
    """
    query = encode_query(
        metricsType="EXPERIENCE",
        experienceId=require_id("experience_id", experience_id),
        offset=require_optional_integer("offset", offset, minimum=0),
        pageSize=require_optional_integer("page_size", page_size, minimum=1),
    )
    return Request(
        path=_ENDPOINT,
        query=query,
        decode=lambda reply: structure(reply, ExperienceMetrics),
        experience_id=experience_id,
    )


def user_metrics(experience_id: str, user_id: str) -> Request[UserMetrics]:
    """Return a USER request.

    Raises:
        ConfigurationError: An argument is unusable.
    """
    query = encode_query(
        metricsType="USER",
        experienceId=require_id("experience_id", experience_id),
        userId=require_id("user_id", user_id),
    )
    return Request(
        path=_ENDPOINT,
        query=query,
        decode=lambda reply: structure(reply, UserMetrics),
        experience_id=experience_id,
    )


def visit_page(
    touchpoint_id: str,
    *,
    visits_type: VisitsType,
    experience_id: str | None = None,
    offset: int | None = None,
    page_size: int | None = None,
) -> Request[VisitPage]:
    """Return a TOUCHPOINT request.

    Raises:
        ConfigurationError: An argument is unusable.
    """
    require_optional_integer("offset", offset, minimum=0)
    require_optional_integer("page_size", page_size, minimum=1)
    at = visit_pages(touchpoint_id, visits_type=visits_type, experience_id=experience_id)
    return at(offset, page_size)


# --- Requests of walks, page by page

PageRequests: TypeAlias = Callable[[int | None, int | None], Request[T]]
"""Returns the request for the page at an offset and of a size; None leaves it to the server."""


def touchpoint_pages(experience_id: str) -> PageRequests[TouchpointPage]:
    """Return the requests for the pages of an experience's touchpoints.

    Raises:
        ConfigurationError: An argument is unusable.
    """
    require_id("experience_id", experience_id)

    def at(offset: int | None, page_size: int | None) -> Request[TouchpointPage]:
        request = experience_metrics(experience_id, offset=offset, page_size=page_size)

        def decode(reply: Reply) -> TouchpointPage | DistinctError:
            metrics = request.decode(reply)
            if isinstance(metrics, DistinctError):
                return metrics
            # The response does not contain its offset.
            return TouchpointPage(metrics.total_touchpoints, metrics.touchpoints, offset or 0)

        return Request(
            path=request.path, query=request.query, decode=decode, experience_id=experience_id
        )

    return at


def visit_pages(
    touchpoint_id: str, *, visits_type: VisitsType, experience_id: str | None = None
) -> PageRequests[VisitPage]:
    """Return the requests for the pages of a touchpoint's visits.

    Raises:
        ConfigurationError: An argument is unusable.
    """
    # Encoded once for all pages: it would take a tenth of the time that a page takes.
    query = encode_query(
        metricsType="TOUCHPOINT",
        touchpointId=require_id("touchpoint_id", touchpoint_id),
        experienceId=require_optional_id("experience_id", experience_id),
        visitsType=visits_type.value,
    )
    decode = _decoder_for(touchpoint_id, visits_type)

    def at(offset: int | None, page_size: int | None) -> Request[VisitPage]:
        start = "" if offset is None else f"&offset={offset}"
        size = "" if page_size is None else f"&pageSize={page_size}"
        return Request(
            path=_ENDPOINT,
            query=f"{query}{start}{size}",
            decode=decode,
            touchpoint_id=touchpoint_id,
            experience_id=experience_id,
        )

    return at


def _decoder_for(
    touchpoint_id: str, visits_type: VisitsType
) -> Callable[[Reply], VisitPage | DistinctError]:
    """Return a decoder that accepts pages of this touchpoint only."""
    decode_page = _VISIT_DECODERS[visits_type]

    def decode(reply: Reply) -> VisitPage | DistinctError:
        page = decode_page(reply)
        if isinstance(page, DistinctError) or page.touchpoint.id == touchpoint_id:
            return page
        # A cache may have mixed up two touchpoints; the next attempt may get the right one.
        wanted = reply.api_key.printable(msgspec.json.encode(touchpoint_id).decode())
        problem, found = f"expected {wanted}", page.touchpoint.id
        return decode_error(reply, problem, "data.touchpoints.id", found, retryable=True)

    return decode


# --- The shape of a page of visits

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)]


class _Pagination(msgspec.Struct, rename="camel", gc=False):
    offset: _Count
    page_size: _Count


class _Details(msgspec.Struct, gc=False):
    items: tuple[Visit, ...]
    pagination: _Pagination


class _Touchpoint(msgspec.Struct, gc=False):
    id: str
    name: str
    value: str


class _Total(_Touchpoint, rename={"total": "totalVisits", "details": "totalVisitsDetails"}):
    total: _Count
    details: _Details


class _Unique(_Touchpoint, rename={"total": "uniqueVisits", "details": "uniqueVisitsDetails"}):
    total: _Count
    details: _Details


class _Data(msgspec.Struct, Generic[T], gc=False):
    touchpoints: T


def _visit_decoder(
    visits_type: VisitsType, shape: type[_Total | _Unique]
) -> Callable[[Reply], VisitPage | DistinctError]:
    decode_data: Callable[[Reply], Any] = struct_decoder(_Data[shape])  # type: ignore[valid-type]
    path = f"data.touchpoints.{visits_type.lower()}VisitsDetails.items"

    def decode(reply: Reply) -> VisitPage | DistinctError:
        data: _Data[_Total | _Unique] | DistinctError = decode_data(reply)
        if isinstance(data, DistinctError):
            return data
        touchpoint = data.touchpoints
        items = _checked_visits(reply, touchpoint.details.items, visits_type, path)
        if isinstance(items, DistinctError):
            return items
        return VisitPage(
            Touchpoint(touchpoint.id, touchpoint.name, touchpoint.value),
            visits_type,
            touchpoint.total,
            items,
            touchpoint.details.pagination.offset,
            touchpoint.details.pagination.page_size,
        )

    return decode


def _checked_visits(
    reply: Reply, visits: tuple[Visit, ...], visits_type: VisitsType, path: str
) -> tuple[Visit, ...] | DecodeError:
    if visits_type is VisitsType.UNIQUE and len({v.user_id for v in visits}) < len(visits):
        return _repeated_user(reply, visits, path)
    for visit in visits:
        if visit.timestamp.tzinfo is not UTC:
            return _in_utc(reply, visits, path)
    return visits


def _in_utc(reply: Reply, visits: tuple[Visit, ...], path: str) -> tuple[Visit, ...] | DecodeError:
    """Return visits whose timestamps are in UTC, whatever offsets the server sent."""
    converted: list[Visit] = []
    for index, visit in enumerate(visits):
        try:
            converted.append(Visit(visit.user_id, visit.timestamp.astimezone(UTC)))
        except OverflowError:
            where = f"{path}[{index}].timestampUTC"
            return decode_error(reply, "expected a UTC timestamp", where, visit.timestamp)
    return tuple(converted)


def _repeated_user(reply: Reply, visits: tuple[Visit, ...], path: str) -> DecodeError:
    """Return the error for a page of unique visits that lists a user twice."""
    users = [visit.user_id for visit in visits]
    first = {user_id: index for index, user_id in reversed([*enumerate(users)])}
    index, user_id = next((i, user) for i, user in enumerate(users) if first[user] != i)
    where = f"{path}[{index}].userId"
    return decode_error(reply, "expected each user once", where, user_id, retryable=True)


_VISIT_DECODERS: Final[Mapping[VisitsType, Callable[[Reply], VisitPage | DistinctError]]] = {
    VisitsType.TOTAL: _visit_decoder(VisitsType.TOTAL, _Total),
    VisitsType.UNIQUE: _visit_decoder(VisitsType.UNIQUE, _Unique),
}
