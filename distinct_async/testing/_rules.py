"""The API document's rules: query parameters in, a payload or a refusal out. Knows no HTTP."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import attrs

from distinct_async.testing.data import VisitSource, scan_times

Payload: TypeAlias = dict[str, Any]

_DEFAULT_PAGE_SIZE: Final = 50
_SUCCESS_MESSAGE: Final = "Touchpoint scanner metrics fetched successfully"


class Refusal(Exception):  # noqa: N818 - an answer of the API, not a failure of the fake server
    """An error response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    @property
    def payload(self) -> Payload:
        """The body of the response."""
        return {"statusCode": self.status, "message": self.message}


@attrs.frozen
class Touchpoint:
    """A touchpoint of the fake server."""

    id: str
    experience_id: str
    name: str
    value: str
    visits: VisitSource


@attrs.frozen
class Paging:
    """Paging behaviour that the document leaves open; `FakeDistinct` explains each field."""

    max_page_size: int | None
    ignore_offset: bool
    page_touchpoints: bool


@attrs.frozen
class Endpoint:
    """The metrics endpoint.

    Attributes:
        touchpoints: The touchpoints by id.
        paging: Its paging behaviour.
    """

    touchpoints: Mapping[str, Touchpoint]
    paging: Paging

    def answer(self, parameters: Mapping[str, str]) -> Payload:
        """Return the payload for a query.

        Raises:
            Refusal: A parameter is missing or invalid (400), or an id is unknown (404).
        """
        query = _Query(parameters)
        match query.choice("metricsType", {"EXPERIENCE", "USER", "TOUCHPOINT"}):
            case "EXPERIENCE":
                data = self._experience_data(query)
            case "USER":
                data = self._user_data(query)
            case _:
                data = self._touchpoint_data(query)
        return {"statusCode": 200, "message": _SUCCESS_MESSAGE, "data": data}

    def _experience_data(self, query: "_Query") -> Payload:
        touchpoints = self._touchpoints_of_experience(query)
        start, stop, _ = self._requested_range(query)
        listed = touchpoints[start:stop] if self.paging.page_touchpoints else touchpoints
        return {
            "totalTouchpoints": len(touchpoints),
            "touchpoints": [
                _identity(touchpoint)
                | {
                    "totalVisits": touchpoint.visits.count(unique=False),
                    "uniqueVisits": touchpoint.visits.count(unique=True),
                }
                for touchpoint in listed
            ],
        }

    def _user_data(self, query: "_Query") -> Payload:
        touchpoints = self._touchpoints_of_experience(query)
        user_id = query.required("userId")
        scanned = [(t, times) for t in touchpoints if (times := scan_times(t.visits, user_id))]
        if not scanned:
            raise Refusal(404, "User not found")
        return {
            "totalTouchpoints": len(scanned),
            "touchpoints": [
                _identity(touchpoint)
                | {"totalVisits": len(times), "timestampsUTC": [*map(_format_time, times)]}
                for touchpoint, times in scanned
            ],
        }

    def _touchpoint_data(self, query: "_Query") -> Payload:
        touchpoint = self.touchpoints.get(query.required("touchpointId"))
        unique = query.choice("visitsType", {"TOTAL", "UNIQUE"}, default="TOTAL") == "UNIQUE"
        experience_id = query.optional("experienceId")
        if touchpoint is None or experience_id not in {None, touchpoint.experience_id}:
            raise Refusal(404, "Touchpoint not found")
        start, stop, page_size = self._requested_range(query)
        items = [
            {"userId": visit.user_id, "timestampUTC": _format_time(visit.timestamp)}
            for visit in touchpoint.visits.slice(start, stop, unique=unique)
        ]
        prefix = "unique" if unique else "total"
        visits = {
            f"{prefix}Visits": touchpoint.visits.count(unique=unique),
            f"{prefix}VisitsDetails": {
                "items": items,
                "pagination": {"offset": start, "pageSize": page_size},
            },
        }
        return {"touchpoints": _identity(touchpoint) | visits}

    def _touchpoints_of_experience(self, query: "_Query") -> list[Touchpoint]:
        experience_id = query.required("experienceId")
        found = [t for t in self.touchpoints.values() if t.experience_id == experience_id]
        if not found:
            raise Refusal(404, "Experience not found")
        return found

    def _requested_range(self, query: "_Query") -> tuple[int, int, int]:
        """Return the start and the end (exclusive) of the page, and the page size."""
        offset = query.integer("offset", minimum=0, default=0)
        page_size = query.integer("pageSize", minimum=1, default=_DEFAULT_PAGE_SIZE)
        if self.paging.max_page_size is not None:
            page_size = min(page_size, self.paging.max_page_size)
        if self.paging.ignore_offset:
            offset = 0
        return offset, offset + page_size, page_size


@attrs.frozen
class _Query:
    """Query parameters; reading a missing or invalid one raises a `Refusal` with 400."""

    parameters: Mapping[str, str]

    def required(self, name: str) -> str:
        value = self.optional(name)
        if value is None:
            raise Refusal(400, f"Missing required parameter: {name}")
        return value

    def optional(self, name: str) -> str | None:
        return self.parameters.get(name) or None

    def choice(self, name: str, choices: Collection[str], default: str | None = None) -> str:
        value = self.required(name) if default is None else self.parameters.get(name, default)
        if value not in choices:
            raise Refusal(400, f"Invalid value for parameter: {name}")
        return value

    def integer(self, name: str, *, minimum: int, default: int) -> int:
        text = self.parameters.get(name, str(default))
        if not (text.isascii() and text.isdecimal() and minimum <= int(text)):
            raise Refusal(400, f"Invalid value for parameter: {name}")
        return int(text)


def _identity(touchpoint: Touchpoint) -> Payload:
    return {"id": touchpoint.id, "name": touchpoint.name, "value": touchpoint.value}


def _format_time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
