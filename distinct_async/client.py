"""`DistinctClient`: one method per request, and a `Pager` per list."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from copy import copy
from typing import Self

from attrs import evolve
from typing_extensions import override

from distinct_async._checks import (
    require_after,
    require_header,
    require_items,
    require_seconds,
    require_visits_type,
)
from distinct_async._fanout import FanOut, Touchpoints
from distinct_async._secrets import find_api_key, find_base_url, require_base_url
from distinct_async._session import Session
from distinct_async._sources import Lists
from distinct_async._transport import (
    DEFAULT_USER_AGENT,
    HTTPSession,
    TraceConfig,
    Transport,
    TransportSettings,
)
from distinct_async._wire import touchpoint_metrics as endpoint
from distinct_async.config import Limits, Policy, RetryPolicy, Runtime, Timeouts
from distinct_async.errors import ConfigurationError, unwrap
from distinct_async.models import (
    AnyVisitsType,
    ClientStats,
    ExperienceMetrics,
    TouchpointPage,
    TouchpointSummary,
    UserMetrics,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async.pagination import Pager


class DistinctClient:
    """A client of Distinct's Touchpoint Scanner Metrics endpoint.

    One client serves any number of concurrent calls and walks on one event loop, and can be
    created before the loop runs. Close it with ``async with`` or `aclose`.

    Args:
        api_key: The admin API key; DISTINCT_API_KEY from the environment if None.
        base_url: Where the API is; DISTINCT_BASE_URL from the environment if None, and
            https://api.distinct.so if neither is set. http:// is for loopback hosts only.
        session: An aiohttp session to borrow. Its connector, proxies and cookies are used, and
            it is never closed. Only the client's own connector detects unsolicited responses.
        trace_configs: aiohttp trace configurations for the client's own session.
        retry: When to retry.
        limits: How much to do at once.
        timeouts: How long to wait.
        user_agent: The User-Agent header.
        runtime: Sleep, clocks and randomness; tests replace them.

    Raises:
        ConfigurationError: An argument is unusable. The message names it and never shows the key.
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
        # Rebind both at once, so no traceback shows a key, or a URL's password, in its locals.
        api_key, base_url = find_api_key(api_key), find_base_url(base_url)
        if session is not None and trace_configs is not None:
            raise ConfigurationError("trace_configs must be given to the borrowed session itself")
        policy = Policy(retry=retry, limits=limits, timeouts=timeouts, runtime=runtime)
        self._base_url = require_base_url(base_url)
        settings = TransportSettings(
            api_key=api_key.checked(),
            base_url=self._base_url,
            user_agent=require_header("user_agent", user_agent, default=DEFAULT_USER_AGENT),
            session=session,
            trace_configs=require_items("trace_configs", trace_configs, TraceConfig),
            limits=limits,
            now=runtime.now,
        )
        self._session = Session(Transport(settings), policy)
        self._lists = Lists(self._session)

    @override
    def __repr__(self) -> str:
        # A traceback that shows locals may show a client whose __init__ raised.
        session: Session | None = vars(self).get("_session")
        if session is None:
            return "<DistinctClient unusable>"
        return f"<DistinctClient {self._base_url}{' closed' if session.closed else ''}>"

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._session.closed

    @property
    def stats(self) -> ClientStats:
        """A snapshot of the client's activity."""
        return self._session.stats

    async def __aenter__(self) -> Self:
        unwrap(self._session.bind_to_running_loop())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def with_options(
        self, *, retry: RetryPolicy | None = None, timeouts: Timeouts | None = None
    ) -> Self:
        """Return a view of this client with other retries or timeouts.

        It shares all else, such as the limits and the retry budget; closing either closes both.

        Args:
            retry: When to retry; None for the same as here. `budget` and `outage_after` are shared.
            timeouts: How long to wait; None for the same as here.

        Raises:
            ConfigurationError: An argument is unusable.
        """
        view = copy(self)
        session = self._session.view(retry=retry, timeouts=timeouts)
        vars(view).update(_session=session, _lists=self._lists.over(session))
        return view

    async def aclose(self, grace: float = 0.0) -> None:
        """End every request and walk, and close the session unless it was borrowed.

        New calls and walks raise `ClientClosedError` at once, and those that are being awaited
        after `grace`. Closing twice is allowed.

        Args:
            grace: How long requests that are under way may take to end, seconds.

        Raises:
            ConfigurationError: The client belongs to another event loop, which is still open.
        """
        await self._session.aclose(require_seconds("grace", grace, positive=False))

    async def experience_metrics(
        self, experience_id: str, *, offset: int | None = None, page_size: int | None = None
    ) -> ExperienceMetrics:
        """Get the counts of an experience's touchpoints in one request (``EXPERIENCE``).

        Args:
            experience_id: The experience.
            offset: Touchpoints to skip; the server may ignore this.
            page_size: Touchpoints to return; the server may ignore this, too.

        Raises:
            ConfigurationError: An argument is unusable.
            NotFoundError: The experience does not exist.
            DistinctError: Any other error except a PaginationError.
        """
        request = endpoint.experience_metrics(experience_id, offset=offset, page_size=page_size)
        outcome = await self._session.fetch(request)
        return unwrap(outcome)

    async def user_metrics(self, experience_id: str, user_id: str) -> UserMetrics:
        """Get a user's scans within an experience in one request (``USER``).

        Args:
            experience_id: The experience.
            user_id: The user.

        Raises:
            ConfigurationError: An argument is unusable.
            NotFoundError: The experience or the user does not exist.
            DistinctError: Any other error except a PaginationError.
        """
        outcome = await self._session.fetch(endpoint.user_metrics(experience_id, user_id))
        return unwrap(outcome)

    async def touchpoint_metrics(
        self,
        touchpoint_id: str,
        *,
        visits_type: AnyVisitsType = VisitsType.TOTAL,
        experience_id: str | None = None,
        offset: int | None = None,
        page_size: int | None = None,
    ) -> VisitPage:
        """Get one page of a touchpoint's visits in one request (``TOUCHPOINT``).

        Args:
            touchpoint_id: The touchpoint.
            visits_type: All scans, or each user's first.
            experience_id: The experience to scope the query to.
            offset: Visits to skip; the server's default is 0.
            page_size: Visits to return; the server's default is 50, and it may return fewer.

        Raises:
            ConfigurationError: An argument is unusable.
            NotFoundError: The touchpoint does not exist.
            DistinctError: Any other error except a PaginationError.
        """
        request = endpoint.visit_page(
            touchpoint_id,
            visits_type=require_visits_type(visits_type),
            experience_id=experience_id,
            offset=offset,
            page_size=page_size,
        )
        outcome = await self._session.fetch(request)
        return unwrap(outcome)

    def touchpoints(
        self, experience_id: str, *, page_size: int | None = None
    ) -> Pager[TouchpointSummary, TouchpointPage]:
        """List every touchpoint of an experience once, whether or not the server pages them.

        Args:
            experience_id: The experience.
            page_size: Touchpoints to request per page.

        Raises:
            ConfigurationError: An argument is unusable.
        """
        requests = endpoint.touchpoint_pages(experience_id)
        return evolve(self._lists.touchpoints(requests, experience_id), page_size=page_size)

    def total_visits(
        self,
        touchpoint_id: str,
        *,
        experience_id: str | None = None,
        offset: int = 0,
        after: Visit | Sequence[Visit] | None = None,
        limit: int | None = None,
        page_size: int | None = None,
        prefetch: int = 4,
    ) -> Pager[Visit, VisitPage]:
        """List every scan of a touchpoint, including repeats by the same user.

        Args:
            touchpoint_id: The touchpoint.
            experience_id: The experience to scope the query to.
            offset: Visits to skip.
            after: The visit expected before `offset`, such as the last one you stored, or several.
                The walk starts early enough to prove the place, and finds it again if it moved.
            limit: Maximum number of visits to deliver; None for no limit.
            page_size: Visits to request per page; None leaves it to the server (50).
            prefetch: Maximum number of pages in flight or buffered ahead of the consumer.

        Raises:
            ConfigurationError: An argument is unusable.
        """
        pager = self._visits(touchpoint_id, VisitsType.TOTAL, experience_id)
        after = require_after(after)
        return evolve(
            pager, offset=offset, after=after, limit=limit, page_size=page_size, prefetch=prefetch
        )

    def unique_visits(
        self,
        touchpoint_id: str,
        *,
        experience_id: str | None = None,
        offset: int = 0,
        after: Visit | Sequence[Visit] | None = None,
        limit: int | None = None,
        page_size: int | None = None,
        prefetch: int = 4,
    ) -> Pager[Visit, VisitPage]:
        """List the first scan of every user who scanned a touchpoint.

        Arguments and errors are those of `total_visits`.
        """
        pager = self._visits(touchpoint_id, VisitsType.UNIQUE, experience_id)
        after = require_after(after)
        return evolve(
            pager, offset=offset, after=after, limit=limit, page_size=page_size, prefetch=prefetch
        )

    def pages_across(
        self,
        touchpoints: Touchpoints,
        *,
        visits_type: AnyVisitsType = VisitsType.TOTAL,
        experience_id: str | None = None,
        page_size: int | None = None,
        concurrency: int = 8,
        prefetch: int = 4,
    ) -> AsyncGenerator[VisitPage, None]:
        """Walk many touchpoints side by side and yield each page as soon as it arrives.

        A touchpoint's pages, at least one, come in the order of their offsets, with other
        touchpoints' pages in between. A touchpoint that fails does not stop the others; only a
        `fatal` failure keeps further ones from being started.

        Args:
            touchpoints: The touchpoints: ids, what `touchpoints` lists, or pagers of visits. Each
                is taken from the iterable when its walk starts; one given twice is walked twice.
                An async generator is closed at the end. A pager keeps its own settings, so
                failures can be resumed: pass ``total_visits(id).resume(error)``.
            visits_type: All scans, or each user's first; not for pagers.
            experience_id: The experience to scope the queries to; not for pagers.
            page_size: Visits per request; None leaves it to the server (50); not for pagers.
            concurrency: Maximum number of touchpoints to walk at once. All their requests share
                the client's limits.
            prefetch: Maximum number of pages in flight or buffered per touchpoint; not for pagers.

        Raises:
            ConfigurationError: An argument is unusable; raised at once.
            FanOutError: Touchpoints failed, or the iterable ended early; raised at the end. All
                other pages were yielded.
            Exception: `touchpoints` itself raised it; raised after the pages of the started
                touchpoints. If touchpoints failed too, it is the FanOutError's cause.
        """
        kind = require_visits_type(visits_type)

        def make_pager(touchpoint_id: str) -> Pager[Visit, VisitPage]:
            pager = self._visits(touchpoint_id, kind, experience_id)
            return evolve(pager, page_size=page_size, prefetch=prefetch)

        # Validate eagerly, so the error points at the caller.
        make_pager("any")
        return FanOut(
            touchpoints,
            make_pager=make_pager,
            spawn=self._session.spawn,
            admit=self._session.admit,
            concurrency=concurrency,
            flow=self._session.new_flow(),
        ).pages()

    def _visits(
        self, touchpoint_id: str, visits_type: VisitsType, experience_id: str | None
    ) -> Pager[Visit, VisitPage]:
        requests = endpoint.visit_pages(
            touchpoint_id, visits_type=visits_type, experience_id=experience_id
        )
        return self._lists.visits(requests, visits_type, touchpoint_id, experience_id)
