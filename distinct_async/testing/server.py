"""`FakeDistinct`: the API document as a real HTTP server on loopback."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Self

import attrs
import msgspec
from aiohttp import web

from distinct_async import DistinctClient, Visit
from distinct_async.testing.data import (
    RecordedVisits,
    SyntheticVisits,
    VisitSource,
    find_user,
    share_out,
)

_PATH: Final = "/v3/touchpoint/metrics"
_KEY_HEADER: Final = "x-distinct-api-key"
_DEFAULT_PAGE_SIZE: Final = 50
_LOGGED_REQUESTS: Final = 100_000
_LONGEST_LINE_BYTES: Final = 1024 * 1024
_SUCCESS: Final = "Touchpoint scanner metrics fetched successfully"

Payload = dict[str, Any]


@attrs.frozen
class FakeRequest:
    """A request that the fake server got.

    Attributes:
        parameters: The query parameters, decoded.
        headers: The headers, names in lower case; without the API key.
        authorized: Whether the API key was the right one.
        remote: The client's IP address.
    """

    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    authorized: bool
    remote: str


Intercept = Callable[[FakeRequest, Payload], Awaitable[Payload | web.StreamResponse]]


@attrs.define
class _FakeTouchpoint:
    id: str
    experience_id: str
    name: str
    value: str
    visits: VisitSource


@attrs.define
class _PlannedFailure:
    status: int
    times: int
    retry_after: float | str | None


class _Refusal(Exception):  # noqa: N818 - the server's answer, not a fault of ours
    """An error response."""

    def __init__(self, status: int, message: str, retry_after: float | str | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class FakeDistinct:
    """A Distinct API on loopback that behaves as its document says, and misbehaves when told to.

    Use it with ``async with``; `url`, `api_key` and `client` are for the code under test. It has
    no touchpoints at first: add them, or start from `synthetic`.

    Example:
        ``async with FakeDistinct() as fake, fake.client() as client: ...``

    Args:
        api_key: The key that clients must send.
        seed: Seed of `fail_rate`'s randomness.

    Attributes:
        api_key: That key.
        requests: The requests so far, oldest first; beyond 100,000 the older half is dropped.
        request_count: How many requests there were, those that were dropped included.
        latency: Seconds to wait before every answer.
        max_page_size: Most items of a page, whatever was asked for; None does not clamp.
        ignore_offset: Answer every request with the first page.
        page_touchpoints: Whether ``EXPERIENCE`` obeys ``offset`` and ``pageSize`` (the document
            says both that it does and that it does not).
        fail_rate: Share of requests to answer with 503, from 0 to 1.
        allowed_ips: Addresses that are not refused with 403; None allows all.
        intercept: An async function that gets each request and its payload, and returns the
            payload to send, or an aiohttp response: for faults that no other attribute has.
    """

    def __init__(self, *, api_key: str = "fake-key", seed: int = 0) -> None:
        self.api_key = api_key
        self.requests: list[FakeRequest] = []
        self.request_count = 0
        self.latency = 0.0
        self.max_page_size: int | None = None
        self.ignore_offset = False
        self.page_touchpoints = True
        self.fail_rate = 0.0
        self.allowed_ips: Collection[str] | None = None
        self.intercept: Intercept | None = None
        self._failures: deque[_PlannedFailure] = deque()
        self._touchpoints: dict[str, _FakeTouchpoint] = {}
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._runner: web.AppRunner | None = None
        self._url = ""

    @classmethod
    def synthetic(
        cls,
        *,
        touchpoints: int = 12,
        visits: int = 50_000,
        seed: int = 0,
        experience_id: str = "exp-1",
    ) -> Self:
        """Make a server with an experience whose visits are computed, and take no memory.

        Args:
            touchpoints: How many, with the ids ``tp-1``, ``tp-2`` …
            visits: How many, over all touchpoints.
            seed: The same seed gives the same visits.
            experience_id: The experience.
        """
        fake = cls(seed=seed)
        for number, share in enumerate(share_out(visits, touchpoints, seed=seed), 1):
            source = SyntheticVisits(share, seed + number)
            fake._add(f"tp-{number}", experience_id, f"Placement {number}", None, source)
        return fake

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise RuntimeError("the fake server is running already")
        app = web.Application()
        app.router.add_get(_PATH, self._handle)
        # Ids may be long; the limit of a request line must not be what a test finds.
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, max_line_size=_LONGEST_LINE_BYTES
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self._url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def url(self) -> str:
        """The base URL, for ``DistinctClient(base_url=...)`` or DISTINCT_BASE_URL."""
        if self._runner is None:
            raise RuntimeError("the fake server runs only inside `async with`")
        return self._url

    def client(self, **options: Any) -> DistinctClient:
        """Make a client of this server; `options` are those of `DistinctClient`."""
        settings: dict[str, Any] = {"api_key": self.api_key, "base_url": self.url, **options}
        return DistinctClient(**settings)

    def add_touchpoint(
        self,
        touchpoint_id: str,
        *,
        experience_id: str = "exp-1",
        name: str | None = None,
        value: str | None = None,
        visits: Iterable[Visit] = (),
    ) -> None:
        """Add a touchpoint.

        Args:
            touchpoint_id: Its id.
            experience_id: The experience it belongs to, which comes to exist with it.
            name: Its display name; the id if None.
            value: Its identifier value; derived from the name if None.
            visits: Its visits so far; times without a zone are UTC.
        """
        source = RecordedVisits(attrs.evolve(v, timestamp=_as_utc(v.timestamp)) for v in visits)
        self._add(touchpoint_id, experience_id, name or touchpoint_id, value, source)

    def scan(self, touchpoint_id: str, user_id: str, at: datetime) -> None:
        """Record a visit; a time without a zone is UTC.

        Raises:
            KeyError: The touchpoint was not added.
        """
        self._touchpoints[touchpoint_id].visits.add(Visit(user_id, _as_utc(at)))

    def fail_next(
        self, status: int, times: int = 1, retry_after: float | str | None = None
    ) -> None:
        """Answer the next requests with an error, before anything else is looked at.

        Args:
            status: The HTTP status.
            times: How many requests.
            retry_after: The Retry-After header: seconds or an HTTP-date; None sends none.
        """
        self._failures.append(_PlannedFailure(status, times, retry_after))

    def _add(
        self, touchpoint_id: str, experience: str, name: str, value: str | None, visits: VisitSource
    ) -> None:
        value = name.lower().replace(" ", "_") if value is None else value
        self._touchpoints[touchpoint_id] = _FakeTouchpoint(
            touchpoint_id, experience, name, value, visits
        )

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = FakeRequest(
            parameters=dict(request.query),
            headers={k.lower(): v for k, v in request.headers.items() if k.lower() != _KEY_HEADER},
            authorized=request.headers.get(_KEY_HEADER) == self.api_key,
            remote=request.remote or "",
        )
        self._log(seen)
        if self.latency:
            await asyncio.sleep(self.latency)
        headers: dict[str, str] = {}
        try:
            self._refuse(seen)
            payload: Payload = {"statusCode": 200, "message": _SUCCESS, "data": self._data(seen)}
        except _Refusal as refusal:
            payload = {"statusCode": refusal.status, "message": refusal.message}
            if refusal.retry_after is not None:
                headers["Retry-After"] = str(refusal.retry_after)
        if self.intercept is not None:
            changed = await self.intercept(seen, payload)
            if isinstance(changed, web.StreamResponse):
                return changed
            payload = changed
        return _json_response(payload, headers)

    def _log(self, request: FakeRequest) -> None:
        if len(self.requests) >= _LOGGED_REQUESTS:
            del self.requests[: _LOGGED_REQUESTS // 2]
        self.requests.append(request)
        self.request_count += 1

    def _refuse(self, request: FakeRequest) -> None:
        """Raise what the request fails with before its parameters are looked at."""
        if self._failures:
            failure = self._failures[0]
            failure.times -= 1
            if failure.times <= 0:
                self._failures.popleft()
            raise _Refusal(failure.status, "Planned failure", failure.retry_after)
        if self._random.random() < self.fail_rate:
            raise _Refusal(503, "Service Unavailable")
        if self.allowed_ips is not None and request.remote not in self.allowed_ips:
            raise _Refusal(403, "IP address not allowed")
        if not request.authorized:
            raise _Refusal(401, "Invalid API key")

    def _data(self, request: FakeRequest) -> Payload:
        query = _Query(request.parameters)
        match query.choice("metricsType", {"EXPERIENCE", "USER", "TOUCHPOINT"}):
            case "EXPERIENCE":
                return self._experience(query)
            case "USER":
                return self._user(query)
            case _:
                return self._touchpoint(query)

    def _members(self, query: "_Query") -> list[_FakeTouchpoint]:
        experience_id = query.required("experienceId")
        members = [t for t in self._touchpoints.values() if t.experience_id == experience_id]
        if not members:
            raise _Refusal(404, "Experience not found")
        return members

    def _experience(self, query: "_Query") -> Payload:
        members = self._members(query)
        start, stop, _ = self._range(query)
        listed = members[start:stop] if self.page_touchpoints else members
        return {
            "totalTouchpoints": len(members),
            "touchpoints": [
                _identity(touchpoint)
                | {
                    "totalVisits": touchpoint.visits.count(unique=False),
                    "uniqueVisits": touchpoint.visits.count(unique=True),
                }
                for touchpoint in listed
            ],
        }

    def _user(self, query: "_Query") -> Payload:
        members = self._members(query)
        user_id = query.required("userId")
        scanned = [(t, times) for t in members if (times := find_user(t.visits, user_id))]
        if not scanned:
            raise _Refusal(404, "User not found")
        return {
            "totalTouchpoints": len(scanned),
            "touchpoints": [
                _identity(touchpoint)
                | {"totalVisits": len(times), "timestampsUTC": [*map(_format, times)]}
                for touchpoint, times in scanned
            ],
        }

    def _touchpoint(self, query: "_Query") -> Payload:
        touchpoint = self._touchpoints.get(query.required("touchpointId"))
        unique = query.choice("visitsType", {"TOTAL", "UNIQUE"}, default="TOTAL") == "UNIQUE"
        experience_id = query.optional("experienceId")
        if touchpoint is None or experience_id not in {None, touchpoint.experience_id}:
            raise _Refusal(404, "Touchpoint not found")
        start, stop, page_size = self._range(query)
        prefix = "unique" if unique else "total"
        items = [
            {"userId": visit.user_id, "timestampUTC": _format(visit.timestamp)}
            for visit in touchpoint.visits.slice(start, stop, unique=unique)
        ]
        details = {"items": items, "pagination": {"offset": start, "pageSize": page_size}}
        counts = {
            f"{prefix}Visits": touchpoint.visits.count(unique=unique),
            f"{prefix}VisitsDetails": details,
        }
        return {"touchpoints": _identity(touchpoint) | counts}

    def _range(self, query: "_Query") -> tuple[int, int, int]:
        """Return the first index, the one after the last, and the page size."""
        offset = query.integer("offset", minimum=0, default=0)
        page_size = query.integer("pageSize", minimum=1, default=_DEFAULT_PAGE_SIZE)
        if self.max_page_size is not None:
            page_size = min(page_size, self.max_page_size)
        if self.ignore_offset:
            offset = 0
        return offset, offset + page_size, page_size


@attrs.frozen
class _Query:
    """The query parameters, with the document's 400 for each that is missing or invalid."""

    parameters: Mapping[str, str]

    def required(self, name: str) -> str:
        value = self.optional(name)
        if value is None:
            raise _Refusal(400, f"Missing required parameter: {name}")
        return value

    def optional(self, name: str) -> str | None:
        return self.parameters.get(name) or None

    def choice(self, name: str, choices: Collection[str], default: str | None = None) -> str:
        value = self.required(name) if default is None else self.parameters.get(name, default)
        if value not in choices:
            raise _Refusal(400, f"Invalid value for parameter: {name}")
        return value

    def integer(self, name: str, *, minimum: int, default: int) -> int:
        text = self.parameters.get(name, str(default))
        if not (text.isascii() and text.isdecimal() and minimum <= int(text)):
            raise _Refusal(400, f"Invalid value for parameter: {name}")
        return int(text)


def _identity(touchpoint: _FakeTouchpoint) -> Payload:
    return {"id": touchpoint.id, "name": touchpoint.name, "value": touchpoint.value}


def _as_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _format(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _json_response(payload: Payload, headers: Mapping[str, str]) -> web.Response:
    status = payload.get("statusCode")
    return web.Response(
        body=msgspec.json.encode(payload),
        status=status if isinstance(status, int) else 200,
        headers=headers,
        content_type="application/json",
    )
