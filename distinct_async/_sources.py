"""The lists of a client: pagers over its session, with page sizes that the server accepts."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeAlias

from distinct_async._lifetime import Flow
from distinct_async._reading import DEFAULT_PAGE_SIZE, Fetch, Source
from distinct_async._session import Session
from distinct_async._wire.protocol import Request
from distinct_async.errors import DistinctError, StatusError
from distinct_async.models import (
    P,
    TouchpointPage,
    TouchpointSummary,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async.pagination import Pager

_LOGGER: Final = logging.getLogger("distinct_async")
# The document has 400 for an invalid parameter; the others are what proxies say.
_TOO_LARGE: Final = frozenset({400, 413, 414, 422})

PageRequests: TypeAlias = Callable[[int | None, int | None], Request[P]]
"""Returns the request for the page at an offset, with a page size."""


class PageSizes:
    """The page sizes that the server has refused, for all lists of a client."""

    def __init__(self) -> None:
        self._refused: int | None = None
        self._largest = 0

    def note(self, size: int) -> None:
        """Remember that the server accepted a page size."""
        self._largest = max(self._largest, size)

    def accepted(self, size: int | None) -> int | None:
        """Return a page size to request: this one, or None if one like it was refused."""
        if size is None or self._refused is None or size < self._refused:
            return size
        return None

    def refuse(self, size: int) -> None:
        """Remember that the server refused a page size, and warn of it once."""
        if size <= self._largest:
            # It has accepted larger ones, so it meant something else.
            return
        if self._refused is None:
            _LOGGER.warning(
                "the server refused pages of %d items; leaving the page size to the server", size
            )
        self._refused = min(size, self._refused or size)


class Lists:
    """The lists of a client.

    Args:
        session: What makes the requests.
        sizes: The page sizes that the server has refused, shared by all views of a client.
    """

    def __init__(self, session: Session, sizes: PageSizes | None = None) -> None:
        self._session = session
        self._sizes = PageSizes() if sizes is None else sizes

    def over(self, session: Session) -> "Lists":
        """Return the same lists over another view of the session."""
        return Lists(session, self._sizes)

    def visits(
        self,
        requests: PageRequests[VisitPage],
        visits_type: VisitsType,
        touchpoint_id: str,
        experience_id: str | None,
    ) -> Pager[Visit, VisitPage]:
        """Return a pager of a touchpoint's visits."""
        source = self._source(
            requests,
            is_full=_is_full,
            touchpoint_id=touchpoint_id,
            experience_id=experience_id,
        )
        return Pager(name=f"{visits_type.lower()} visits of {touchpoint_id!a}", source=source)

    def touchpoints(
        self, requests: PageRequests[TouchpointPage], experience_id: str
    ) -> Pager[TouchpointSummary, TouchpointPage]:
        """Return a pager of an experience's touchpoints."""
        source = self._source(requests, key=attrgetter("id"), experience_id=experience_id)
        return Pager(name=f"touchpoints of {experience_id!a}", source=source)

    def fetch(
        self,
        requests: PageRequests[P],
        offset: int | None,
        size: int | None,
        flow: Flow | None = None,
    ) -> Awaitable[P | DistinctError]:
        """Fetch a page, and again without a page size if the server refuses this one."""
        size = self._sizes.accepted(size)
        if size is None or size <= DEFAULT_PAGE_SIZE:
            return self._session.fetch(requests(offset, size), flow)
        return self._fetch_large(requests, offset, size, flow)

    def _source(self, requests: PageRequests[P], **options: Any) -> Source[P]:
        def for_flow(flow: object) -> Fetch[P]:
            own = flow if isinstance(flow, Flow) else self._session.new_flow()
            return lambda offset, size: self.fetch(requests, offset, size, own)

        session = self._session
        return Source(
            fetch=partial(self.fetch, requests),
            for_flow=for_flow,
            spawn=session.spawn,
            admit=session.admit,
            **options,
        )

    async def _fetch_large(
        self, requests: PageRequests[P], offset: int | None, size: int, flow: Flow | None
    ) -> P | DistinctError:
        outcome = await self._session.fetch(requests(offset, size), flow)
        if not isinstance(outcome, DistinctError):
            self._sizes.note(size)
        if not isinstance(outcome, StatusError) or outcome.status not in _TOO_LARGE:
            return outcome
        # The document names no largest page, so the size may be what the server refuses.
        second = await self._session.fetch(requests(offset, None), flow)
        if isinstance(second, DistinctError):
            attempts = outcome.attempts + second.attempts
            if isinstance(second, StatusError) and second.status == outcome.status:
                said = f"{outcome.args[0]} (with pageSize={size}, and without it as well)"
                outcome.args, second = (said,), outcome
            second.attempts = attempts
        else:
            self._sizes.refuse(size)
        return second


def _is_full(page: VisitPage) -> bool:
    return len(page.items) >= page.page_size
