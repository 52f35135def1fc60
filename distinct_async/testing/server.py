"""`FakeDistinct`: the API document as a real HTTP server on loopback."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Self, TypeAlias, Unpack

import attrs
import msgspec
from aiohttp import web

from distinct_async import DistinctClient, Visit
from distinct_async._options import ClientOptions
from distinct_async.testing._rules import Endpoint, Paging, Payload, Refusal, Touchpoint
from distinct_async.testing.data import (
    RecordedVisits,
    SyntheticVisits,
    VisitSource,
    split_unevenly,
)

_PATH: Final = "/v3/touchpoint/metrics"
_KEY_HEADER: Final = "x-distinct-api-key"
_LOGGED_REQUESTS: Final = 100_000
_MAX_REQUEST_LINE_BYTES: Final = 1024 * 1024


@attrs.frozen
class FakeRequest:
    """A request that the fake server received.

    Attributes:
        parameters: The query parameters, decoded.
        headers: The headers with lower-case names, without the API key.
        authorized: Whether the API key was correct.
        remote: The client's IP address.
    """

    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    authorized: bool
    remote: str


Intercept: TypeAlias = Callable[[FakeRequest, Payload], Awaitable[Payload | web.StreamResponse]]


@attrs.define
class _PlannedFailure:
    status: int
    times_left: int
    retry_after: float | str | None


class FakeDistinct:
    """A Distinct API on loopback that follows the document, and misbehaves on request.

    Use it with ``async with``, and pass `url` and `api_key`, or a `client`, to the code under
    test. It starts without touchpoints: add some, or create it with `synthetic`.

    Example:
        ``async with FakeDistinct() as fake, fake.client() as client: ...``

    Args:
        api_key: The key that clients must send.
        seed: Seed of the randomness behind `fail_rate`.

    Attributes:
        api_key: The key that clients must send.
        requests: The requests so far, oldest first. Beyond 100,000, the older half is dropped.
        request_count: Number of requests so far, including dropped ones.
        latency: Seconds to wait before each answer.
        max_page_size: Largest page that the server returns, however large a page is requested.
            None means no maximum.
        ignore_offset: Answer every request with the first page.
        page_touchpoints: Whether ``EXPERIENCE`` obeys ``offset`` and ``pageSize``, on which the
            document contradicts itself.
        fail_rate: Share of requests to answer with 503, from 0 to 1.
        allowed_ips: Client addresses to accept; others get 403. None accepts all.
        intercept: An async function that receives each request and its payload and returns the
            payload to send, or an aiohttp response. Use it for faults that have no attribute.
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
        self._planned_failures: deque[_PlannedFailure] = deque()
        self._touchpoints: dict[str, Touchpoint] = {}
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
        """Create a server with one experience whose visits are computed and need no memory.

        Args:
            touchpoints: Number of touchpoints; their ids are ``tp-1``, ``tp-2`` …
            visits: Number of visits of all touchpoints together.
            seed: The same seed produces the same visits.
            experience_id: The experience's id.
        """
        fake = cls(seed=seed)
        for number, share in enumerate(split_unevenly(visits, touchpoints, seed=seed), 1):
            source = SyntheticVisits(share, seed + number)
            fake._add(f"tp-{number}", experience_id, f"Placement {number}", None, source)
        return fake

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise RuntimeError("the fake server is already running")
        app = web.Application()
        app.router.add_get(_PATH, self._handle)
        # aiohttp's own limit would reject long ids before the fake sees them.
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, max_line_size=_MAX_REQUEST_LINE_BYTES
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
            raise RuntimeError("the fake server only runs inside `async with`")
        return self._url

    def client(self, **options: Unpack[ClientOptions]) -> DistinctClient:
        """Create a client of this server, with any options of `DistinctClient`."""
        settings: ClientOptions = {"api_key": self.api_key, "base_url": self.url, **options}
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
            touchpoint_id: The touchpoint's id.
            experience_id: Its experience, which is created if needed.
            name: Its display name; defaults to the id.
            value: Its identifier value; derived from the name by default.
            visits: Its visits so far. Times without a zone are UTC.
        """
        source = RecordedVisits(Visit(v.user_id, _as_utc(v.timestamp)) for v in visits)
        self._add(touchpoint_id, experience_id, name or touchpoint_id, value, source)

    def scan(self, touchpoint_id: str, user_id: str, at: datetime) -> None:
        """Record a visit. A time without a zone is UTC.

        Raises:
            KeyError: The server has no such touchpoint.
        """
        self._touchpoints[touchpoint_id].visits.add(Visit(user_id, _as_utc(at)))

    def visits(self, touchpoint_id: str, *, unique: bool = False) -> list[Visit]:
        """Return the visits that the server holds, in the order in which it lists them.

        Args:
            touchpoint_id: The touchpoint's id.
            unique: Only each user's first visit.

        Raises:
            KeyError: The server has no such touchpoint.
        """
        source = self._touchpoints[touchpoint_id].visits
        return list(source.slice(0, source.count(unique=unique), unique=unique))

    def fail_next(
        self, status: int, times: int = 1, retry_after: float | str | None = None
    ) -> None:
        """Answer the next requests with an error, without looking at them.

        Several calls queue up: their failures are served in order.

        Args:
            status: The HTTP status.
            times: Number of requests to fail.
            retry_after: The Retry-After header, in seconds or as an HTTP date. None omits it.
        """
        self._planned_failures.append(_PlannedFailure(status, times, retry_after))

    def _add(
        self, touchpoint_id: str, experience: str, name: str, value: str | None, visits: VisitSource
    ) -> None:
        value = name.lower().replace(" ", "_") if value is None else value
        touchpoint = Touchpoint(touchpoint_id, experience, name, value, visits)
        self._touchpoints[touchpoint_id] = touchpoint

    async def _handle(self, http_request: web.Request) -> web.StreamResponse:
        request = self._describe(http_request)
        self._log(request)
        if self.latency:
            await asyncio.sleep(self.latency)
        payload, headers = self._answer(request)
        if self.intercept is not None:
            replacement = await self.intercept(request, payload)
            if isinstance(replacement, web.StreamResponse):
                return replacement
            payload = replacement
        return _json_response(payload, headers)

    def _describe(self, request: web.Request) -> FakeRequest:
        return FakeRequest(
            parameters=dict(request.query),
            headers={k.lower(): v for k, v in request.headers.items() if k.lower() != _KEY_HEADER},
            authorized=request.headers.get(_KEY_HEADER) == self.api_key,
            remote=request.remote or "",
        )

    def _log(self, request: FakeRequest) -> None:
        if len(self.requests) >= _LOGGED_REQUESTS:
            del self.requests[: _LOGGED_REQUESTS // 2]
        self.requests.append(request)
        self.request_count += 1

    def _answer(self, request: FakeRequest) -> tuple[Payload, dict[str, str]]:
        """Return the payload and the headers for a request."""
        failure = self._take_planned_failure()
        if failure is not None:
            retry_after = failure.retry_after
            headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
            return Refusal(failure.status, "Planned failure").payload, headers
        paging = Paging(self.max_page_size, self.ignore_offset, self.page_touchpoints)
        try:
            self._check_access(request)
            return Endpoint(self._touchpoints, paging).answer(request.parameters), {}
        except Refusal as refusal:
            return refusal.payload, {}

    def _take_planned_failure(self) -> _PlannedFailure | None:
        if not self._planned_failures:
            return None
        failure = self._planned_failures[0]
        failure.times_left -= 1
        if failure.times_left <= 0:
            self._planned_failures.popleft()
        return failure

    def _check_access(self, request: FakeRequest) -> None:
        """Raise the `Refusal` of a request that fails regardless of its parameters."""
        if self._random.random() < self.fail_rate:
            raise Refusal(503, "Service Unavailable")
        if self.allowed_ips is not None and request.remote not in self.allowed_ips:
            raise Refusal(403, "IP address not allowed")
        if not request.authorized:
            raise Refusal(401, "Invalid API key")


def _as_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _json_response(payload: Payload, headers: Mapping[str, str]) -> web.Response:
    status = payload.get("statusCode")
    return web.Response(
        body=msgspec.json.encode(payload),
        status=status if isinstance(status, int) else 200,
        headers=headers,
        content_type="application/json",
    )
