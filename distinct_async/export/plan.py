"""The arguments of an export as one value, and the choice of its touchpoints."""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import attrs

from distinct_async import (
    ConfigurationError,
    DistinctClient,
    Pager,
    StatusError,
    TouchpointSummary,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async._lifetime import Flow
from distinct_async.export.dataset import touchpoint_folder
from distinct_async.export.formats import Format
from distinct_async.export.partition import Partition
from distinct_async.pagination import in_flow

Touchpoints: TypeAlias = (
    str | Iterable[str | TouchpointSummary] | AsyncIterable[str | TouchpointSummary]
)
"""An experience's id; or touchpoints, as ids or as `DistinctClient.touchpoints` lists them."""

BEYOND_THE_END: Final = frozenset({400, 404, 416})
"""The statuses with which servers refuse an offset at or beyond the end of a list."""


@attrs.frozen(kw_only=True)
class ExportPlan:
    """The checked arguments of one export.

    Attributes:
        client: The client.
        experience_id: The experience that scopes the queries, or None.
        visits_type: Which visits to export.
        destination: The folder to export to.
        file_format: The format of the files.
        shard: The index of the shard, counted from 1, and the number of shards.
        page_size: Visits per request; None leaves it to the server.
        concurrency: Maximum number of touchpoints to export at once.
        prefetch: Maximum number of pages of a touchpoint in flight or buffered.
        rows_per_part: Maximum number of visits in a part.
        flow: What the export's walks belong to, so that they take one turn together.
    """

    client: DistinctClient
    experience_id: str | None
    visits_type: VisitsType
    destination: Path
    file_format: Format
    shard: tuple[int, int]
    page_size: int | None
    concurrency: int
    prefetch: int
    rows_per_part: int
    flow: Flow = attrs.field(factory=Flow)

    def walk(
        self, touchpoint_id: str, *, offset: int = 0, after: Sequence[Visit] = ()
    ) -> Pager[Visit, VisitPage]:
        """Return a pager over a touchpoint's visits from `offset`.

        Args:
            touchpoint_id: The touchpoint.
            offset: The number of stored visits.
            after: The last of them, which the server must still have in their place.

        Raises:
            ConfigurationError: An argument is unusable.
        """
        unique = self.visits_type is VisitsType.UNIQUE
        list_visits = self.client.unique_visits if unique else self.client.total_visits
        pager = list_visits(
            touchpoint_id,
            experience_id=self.experience_id,
            offset=offset,
            after=after,
            page_size=self.page_size,
            prefetch=self.prefetch,
        )
        return in_flow(pager, self.flow)

    async def page_at(self, touchpoint_id: str, offset: int) -> VisitPage | None:
        """Request a single visit; None if the server refuses the offset as beyond the list's end.

        Raises:
            DistinctError: The request failed.
        """
        try:
            return await self.client.touchpoint_metrics(
                touchpoint_id,
                visits_type=self.visits_type,
                experience_id=self.experience_id,
                offset=offset,
                page_size=1,
            )
        except StatusError as error:
            if error.status not in BEYOND_THE_END:
                raise
            return None

    def partition(self, touchpoint_id: str) -> Partition:
        """Return a touchpoint's parts."""
        folder = touchpoint_folder(self.destination, self.visits_type, touchpoint_id)
        return Partition(folder, touchpoint_id, self.file_format, self.rows_per_part)

    async def select(self, touchpoints: Touchpoints) -> dict[str, TouchpointSummary | None]:
        """Return this shard's touchpoints in order, each once, with its summary if listed.

        Raises:
            ConfigurationError: `touchpoints` is, or yields, a value of another type.
        """
        selected: dict[str, TouchpointSummary | None] = {}
        async for item in _iterate(touchpoints):
            if isinstance(item, TouchpointSummary):
                selected.setdefault(item.id, item)
            elif isinstance(item, str):
                selected.setdefault(item, None)
            else:
                kind = type(item).__name__
                raise ConfigurationError(
                    f"touchpoints must yield ids or TouchpointSummary values, got {kind}"
                )
        return {key: item for key, item in selected.items() if is_in_shard(key, self.shard)}

    @property
    def touchpoints_stem(self) -> str:
        """The name of the touchpoints' file without its suffix.

        Each shard has its own file, so that shards can write to, or be merged into, one folder.
        """
        index, count = self.shard
        return "touchpoints" if count == 1 else f"touchpoints-{index}-of-{count}"


def is_in_shard(touchpoint_id: str, shard: tuple[int, int]) -> bool:
    """Return whether a touchpoint belongs to a shard; the answer is the same on every machine."""
    index, count = shard
    digest = hashlib.sha256(touchpoint_id.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8]) % count == index - 1


async def _iterate(items: Any) -> AsyncIterator[object]:
    if isinstance(items, AsyncIterable):
        async for item in cast("AsyncIterable[object]", items):
            yield item
    elif isinstance(items, Iterable) and not isinstance(items, bytes):
        for item in cast("Iterable[object]", items):
            yield item
    else:
        kind = type(items).__name__
        raise ConfigurationError(
            f"touchpoints must be an experience's id or an iterable of touchpoints, got {kind}"
        )
