"""`Pager`: a paged list as a value, to be read item by item or page by page."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Generic, Self, cast

import attrs
from attrs import evolve
from typing_extensions import override

from distinct_async._checks import instance_of, integer_from
from distinct_async._reading import Source
from distinct_async._walk import Walk
from distinct_async.errors import ConfigurationError, DistinctError, unwrap
from distinct_async.models import P_co, T_co


def _as_tuple(after: Any) -> tuple[Any, ...]:
    if isinstance(after, list | tuple):
        return tuple(cast("list[Any]", after))
    return () if after is None else (after,)


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Pager(Generic[T_co, P_co]):
    """A list that the server returns in pages.

    A pager is a value: it does nothing until it is iterated, and each iteration is a new walk.

    Example:
        ``async for visit in client.total_visits("tp-1"): ...``

    Attributes:
        name: What is listed, for the repr.
        source: Where the pages come from.
        offset: Index of the first item to deliver.
        after: The items expected before it, or the last of them, which prove the place. If they
            have moved, a walk starts after where they are now.
        total: The server's count when the walk had come there, if known. It tells how far the
            items in `after` may have moved since.
        limit: Maximum number of items to deliver; None for no limit.
        page_size: Items to request per page, or None for the server's default.
        prefetch: Maximum number of pages in flight or buffered ahead of the consumer.

    Raises:
        ConfigurationError: An argument is unusable.
    """

    name: str
    source: Source[P_co] = attrs.field(validator=instance_of(Source))
    offset: int = attrs.field(default=0, validator=integer_from(0))
    after: tuple[T_co, ...] = attrs.field(default=(), converter=_as_tuple)
    total: int | None = None
    limit: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(integer_from(0))
    )
    page_size: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(integer_from(1))
    )
    prefetch: int = attrs.field(default=4, validator=integer_from(1))

    @property
    def touchpoint_id(self) -> str | None:
        """The touchpoint whose visits are listed; None for a list of touchpoints."""
        return self.source.touchpoint_id

    def __attrs_post_init__(self) -> None:
        if self.after and self.offset == 0:
            raise ConfigurationError("offset must be at least 1 if after is given, got 0")

    @override
    def __repr__(self) -> str:
        shown = f"offset={self.offset}, limit={self.limit}, page_size={self.page_size}"
        return f"<Pager {self.name}: {shown}, prefetch={self.prefetch}>"

    def __aiter__(self) -> AsyncGenerator[T_co, None]:  # noqa: PYI058 - has aclose()
        """Walk the pages and yield every item once, in order.

        Raises:
            DistinctError: A page cannot be fetched, or the pages do not add up. Every item before
                it was yielded; `resume` returns a pager of the others.
        """
        return self._items()

    async def _items(self) -> AsyncGenerator[T_co, None]:
        # Does not iterate `pages`: an event loop that ends closes all generators at once, and
        # would close a nested one twice.
        async with aclosing(open_walk(self)) as walk:
            while (page := unwrap(await walk.next_page())) is not None:
                for item in page.items:
                    yield item

    async def pages(self) -> AsyncGenerator[P_co, None]:
        """Walk the pages and yield them, with no item missing, repeated or beyond the limit.

        There is at least one page, unless `limit` is 0: an empty list has one empty page, which
        carries the total.

        Raises:
            DistinctError: As for iteration.
        """
        async with aclosing(open_walk(self)) as walk:
            while (page := unwrap(await walk.next_page())) is not None:
                yield page

    def resume(self, error: DistinctError) -> Self:
        """Return a pager of what a walk over this one did not deliver before it failed.

        Its walks prove that they continue where the failed one ended, or find the place again if
        the list has changed since.

        Args:
            error: What a walk over this pager raised.

        Raises:
            DistinctError: `error` itself, if it names no place to resume at.
            ConfigurationError: `error` is from a walk over another list.
        """
        point = error.resume_point
        if point is None:
            raise error
        if point.name != self.name:
            raise ConfigurationError(
                f"error must be from a walk over the {self.name}, got one over the {point.name}"
            )
        limit = None if self.limit is None else max(0, self.limit - point.delivered)
        return evolve(self, offset=point.offset, after=point.after, total=point.total, limit=limit)

    async def collect(self) -> list[T_co]:
        """Return every item in a list.

        Raises:
            DistinctError: As for iteration. The items received so far are discarded; iterate to
                keep them.
        """
        return [item async for page in self.pages() for item in page.items]


def in_flow(pager: "Pager[T_co, P_co]", flow: object | None) -> "Pager[T_co, P_co]":
    """Return a pager whose walks belong to a flow, and take its turns; None makes a new one."""
    source = pager.source
    if source.for_flow is None:
        return pager
    return evolve(pager, source=evolve(source, fetch=source.for_flow(flow), for_flow=None))


def open_walk(pager: "Pager[Any, P_co]", flow: object | None = None) -> Walk[P_co]:
    """Start a walk over a pager's list."""
    pager = in_flow(pager, flow)
    return Walk(
        pager.source,
        offset=pager.offset,
        after=pager.after,
        total=pager.total,
        name=pager.name,
        limit=pager.limit,
        page_size=pager.page_size,
        prefetch=pager.prefetch,
    )
