"""`DistinctClient`: the API's three questions as calls, and its lists as pagers."""

import os
from collections.abc import AsyncGenerator, Iterable
from functools import partial
from typing import Self

from typing_extensions import override

from distinct_async import wire
from distinct_async.config import (
    DEFAULT_BASE_URL,
    ApiKey,
    Limits,
    RetryPolicy,
    Runtime,
    Secret,
    Timeouts,
    require_base_url,
    require_header_text,
    require_integer,
)
from distinct_async.errors import ConfigurationError
from distinct_async.fanout import FanOut, TouchpointIds
from distinct_async.models import (
    ExperienceMetrics,
    TouchpointPage,
    TouchpointSummary,
    UserMetrics,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async.pagination import Pager, Source, watch_touchpoints, watch_visits
from distinct_async.session import DEFAULT_USER_AGENT, HTTPSession, Session, Settings, TraceConfig


class DistinctClient:
    """Asks Distinct's Touchpoint Scanner Metrics endpoint.

    One client serves any number of concurrent calls and walks, within one event loop; it can be
    made before the loop runs. Close it with ``async with`` or `aclose`.

    Args:
        api_key: The admin API key; the environment's DISTINCT_API_KEY if None.
        base_url: Where the API is; the environment's DISTINCT_BASE_URL if None, and
            https://api.distinct.so without one. http:// is for loopback hosts only.
        session: An aiohttp session to use. It stays the caller's: its connector, proxies and
            cookies are used as they are, and it is never closed.
        trace_configs: aiohttp trace configurations for the client's own session.
        retry: When to try again.
        limits: How much to do at once.
        timeouts: How long to wait.
        user_agent: The User-Agent header.
        runtime: Sleep, clocks and randomness; tests replace them.

    Raises:
        ConfigurationError: An argument is unusable; the message names it, and never shows the key.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        session: HTTPSession | None = None,
        trace_configs: Iterable[TraceConfig] | None = None,
        retry: RetryPolicy = RetryPolicy(),
        limits: Limits = Limits(),
        timeouts: Timeouts = Timeouts(),
        user_agent: str | None = None,
        runtime: Runtime = Runtime(),
    ) -> None:
        # Rebound at once, so that no traceback shows a key, or a URL's password, among its locals.
        api_key = _find_api_key() if api_key is None else ApiKey.of(api_key)
        base_url = Secret.of(_find_base_url() if base_url is None else base_url)
        if session is not None and trace_configs is not None:
            raise ConfigurationError("trace_configs must be given to the borrowed session itself")
        self._base_url = require_base_url(base_url)
        self._session = Session(
            Settings(
                api_key=api_key.checked(),
                base_url=self._base_url,
                user_agent=require_header_text("user_agent", user_agent or DEFAULT_USER_AGENT),
                session=session,
                trace_configs=tuple(trace_configs or ()),
                retry=retry,
                limits=limits,
                timeouts=timeouts,
                runtime=runtime,
            )
        )

    @override
    def __repr__(self) -> str:
        # A traceback that shows locals may show a client whose __init__ has just raised.
        session: Session | None = vars(self).get("_session")
        if session is None:
            return "<DistinctClient unusable>"
        return f"<DistinctClient {self._base_url}{' closed' if session.closed else ''}>"

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._session.closed

    @property
    def retries(self) -> int:
        """How many attempts were made again so far, for all requests of this client."""
        return self._session.retries

    async def __aenter__(self) -> Self:
        self._session.check_usable()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every request and walk, and close the session unless it was borrowed.

        Whoever awaits a call or a walk of this client gets `ClientClosedError`. Closing twice is
        allowed.

        Raises:
            ConfigurationError: The client belongs to another event loop, which still runs.
        """
        await self._session.aclose()

    async def experience_metrics(
        self, experience_id: str, *, offset: int | None = None, page_size: int | None = None
    ) -> ExperienceMetrics:
        """Get the counts of an experience's touchpoints, in one request (``EXPERIENCE``).

        Args:
            experience_id: The experience.
            offset: Touchpoints to skip, if the server pages them; it may ignore this.
            page_size: Touchpoints to return, likewise.

        Raises:
            ConfigurationError: An argument is unusable.
            NotFoundError: The experience does not exist.
            DistinctError: Any but the walk's.
        """
        query = wire.experience_query(experience_id, offset=offset, page_size=page_size)
        return await self._session.fetch(query, wire.decode_experience)

    async def user_metrics(self, experience_id: str, user_id: str) -> UserMetrics:
        """Get a user's scans within an experience, in one request (``USER``).

        Args:
            experience_id: The experience.
            user_id: The user.

        Raises:
            ConfigurationError: An argument is unusable.
            NotFoundError: The experience or the user does not exist.
            DistinctError: Any but the walk's.
        """
        query = wire.user_query(experience_id, user_id)
        return await self._session.fetch(query, wire.decode_user)

    async def touchpoint_metrics(
        self,
        touchpoint_id: str,
        *,
        visits_type: VisitsType | str = VisitsType.TOTAL,
        experience_id: str | None = None,
        offset: int | None = None,
        page_size: int | None = None,
    ) -> VisitPage:
        """Get one page of a touchpoint's visits, in one request (``TOUCHPOINT``).

        Args:
            touchpoint_id: The touchpoint.
            visits_type: All scans, or each user's first.
            experience_id: The experience to scope the query to.
            offset: Visits to skip; the server's default is 0.
            page_size: Visits to return; the server's default is 50, and it may give fewer.

        Raises:
            ConfigurationError: An argument is unusable.
            NotFoundError: The touchpoint does not exist.
            DistinctError: Any but the walk's.
        """
        kind = wire.parse_visits_type(visits_type)
        query = wire.touchpoint_query(
            touchpoint_id,
            visits_type=kind,
            experience_id=experience_id,
            offset=offset,
            page_size=page_size,
        )
        decode = partial(wire.decode_visits, visits_type=kind)
        return await self._session.fetch(query, decode, touchpoint_id=touchpoint_id)

    def touchpoints(
        self, experience_id: str, *, page_size: int | None = None
    ) -> Pager[TouchpointSummary, TouchpointPage]:
        """List every touchpoint of an experience once, whether or not the server pages them.

        Args:
            experience_id: The experience.
            page_size: Touchpoints to ask for per request.

        Raises:
            ConfigurationError: An argument is unusable.
        """
        wire.experience_query(experience_id, page_size=page_size)

        async def fetch(offset: int, size: int | None) -> TouchpointPage:
            query = wire.experience_query(experience_id, offset=offset, page_size=size)
            decode = partial(wire.decode_touchpoint_page, offset=offset)
            return await self._session.fetch(query, decode)

        return Pager(
            name=f"touchpoints of {experience_id!a}",
            page_size=page_size,
            source=Source(fetch=fetch, spawn=self._session.spawn, make_watch=watch_touchpoints),
        )

    def total_visits(
        self,
        touchpoint_id: str,
        *,
        experience_id: str | None = None,
        offset: int = 0,
        limit: int | None = None,
        page_size: int | None = None,
        prefetch: int = 4,
    ) -> Pager[Visit, VisitPage]:
        """List every scan of a touchpoint, repeats by the same user included.

        Args:
            touchpoint_id: The touchpoint.
            experience_id: The experience to scope the query to.
            offset: Visits to skip; an error's `next_offset` resumes a walk here.
            limit: Most visits to deliver, or None.
            page_size: Visits to ask for per request; None leaves it to the server (50).
            prefetch: Most pages in flight or buffered ahead of the consumer.

        Raises:
            ConfigurationError: An argument is unusable.
        """
        return self._visits(
            VisitsType.TOTAL,
            touchpoint_id,
            experience_id=experience_id,
            offset=offset,
            limit=limit,
            page_size=page_size,
            prefetch=prefetch,
        )

    def unique_visits(
        self,
        touchpoint_id: str,
        *,
        experience_id: str | None = None,
        offset: int = 0,
        limit: int | None = None,
        page_size: int | None = None,
        prefetch: int = 4,
    ) -> Pager[Visit, VisitPage]:
        """List the first scan of every user who scanned a touchpoint.

        The arguments are those of `total_visits`, and so are the errors.
        """
        return self._visits(
            VisitsType.UNIQUE,
            touchpoint_id,
            experience_id=experience_id,
            offset=offset,
            limit=limit,
            page_size=page_size,
            prefetch=prefetch,
        )

    def pages_across(
        self,
        touchpoint_ids: TouchpointIds,
        *,
        visits_type: VisitsType | str = VisitsType.TOTAL,
        experience_id: str | None = None,
        page_size: int | None = None,
        concurrency: int = 8,
        prefetch: int = 4,
    ) -> AsyncGenerator[VisitPage, None]:
        """Walk many touchpoints side by side and yield each page as soon as it is there.

        A touchpoint's pages come in the order of their offsets, one at least, and those of other
        touchpoints in between. A touchpoint that fails does not keep the others from being walked
        to their end; only a `fatal` failure keeps further ones from being started.

        Args:
            touchpoint_ids: The touchpoints: ids, or what `touchpoints` lists. Each is taken only
                when its walk begins, and walked as often as it is given. An async generator is
                closed in the end.
            visits_type: All scans, or each user's first.
            experience_id: The experience to scope the queries to.
            page_size: Visits to ask for per request; None leaves it to the server (50).
            concurrency: Most touchpoints to walk at once. The requests of all of them share the
                client's limits.
            prefetch: Most pages of a touchpoint in flight or buffered; of all touchpoints, there
                are `concurrency` times as many.

        Raises:
            ConfigurationError: At once, if an argument is unusable.
            FanOutError: At the end, if touchpoints failed or not all ids could be taken. All other
                pages were yielded, and each error's `next_offset` is where the rest begins.
            Exception: What `touchpoint_ids` itself raised, unless it is this package's, after the
                pages of what was started; if touchpoints failed, it is the FanOutError's cause.
        """
        require_integer("concurrency", concurrency, minimum=1)
        make_pager = partial(
            self._visits,
            wire.parse_visits_type(visits_type),
            experience_id=experience_id,
            offset=0,
            limit=None,
            page_size=page_size,
            prefetch=prefetch,
        )
        # Unusable arguments are told here, where the caller passed them.
        make_pager("any")
        return FanOut(
            touchpoint_ids,
            make_pager=make_pager,
            spawn=self._session.spawn,
            concurrency=concurrency,
        ).pages()

    def _visits(
        self,
        visits_type: VisitsType,
        touchpoint_id: str,
        *,
        experience_id: str | None,
        offset: int,
        limit: int | None,
        page_size: int | None,
        prefetch: int,
    ) -> Pager[Visit, VisitPage]:
        query = wire.touchpoint_query(
            touchpoint_id, visits_type=visits_type, experience_id=experience_id
        )
        _check_walk(offset, limit, page_size, prefetch)
        decode = partial(wire.decode_visits, visits_type=visits_type)

        async def fetch(offset: int, size: int | None) -> VisitPage:
            return await self._session.fetch(wire.of_page(query, offset, size), decode)

        return Pager(
            name=f"{visits_type.lower()} visits of {touchpoint_id!a}",
            offset=offset,
            limit=limit,
            page_size=page_size,
            prefetch=prefetch,
            touchpoint_id=touchpoint_id,
            source=Source(fetch=fetch, spawn=self._session.spawn, make_watch=watch_visits),
        )


def _check_walk(offset: int, limit: int | None, page_size: int | None, prefetch: int) -> None:
    # Now, where the caller made the mistake, and not when the first page is asked for.
    require_integer("offset", offset, minimum=0)
    if limit is not None:
        require_integer("limit", limit, minimum=0)
    if page_size is not None:
        require_integer("page_size", page_size, minimum=1)
    require_integer("prefetch", prefetch, minimum=1)


def _find_base_url() -> str:
    return os.environ.get("DISTINCT_BASE_URL") or DEFAULT_BASE_URL


def _find_api_key() -> ApiKey:
    found = os.environ.get("DISTINCT_API_KEY")
    if not found:
        raise ConfigurationError("api_key is missing: pass it, or set DISTINCT_API_KEY")
    return ApiKey(found)
