"""`export_visits`: append every new visit of many touchpoints to their files."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from os import PathLike
from typing import Final, TypedDict, final

import attrs

from distinct_async import (
    ConfigurationError,
    DistinctClient,
    DistinctError,
    ListChangedError,
    PaginationError,
    StatusError,
    TouchpointSummary,
    VisitPage,
    VisitsType,
)
from distinct_async._checks import (
    require_callable,
    require_folder,
    require_instance,
    require_integer,
    require_shard,
    require_visits_type,
)
from distinct_async.export.comparison import Comparison
from distinct_async.export.dataset import update_touchpoints
from distinct_async.export.disk import DiskThread
from distinct_async.export.failures import Failures
from distinct_async.export.files import Folders
from distinct_async.export.formats import FileFormat, find_format
from distinct_async.export.models import ExportedTouchpoint
from distinct_async.export.partition import Partition
from distinct_async.export.plan import ExportPlan, Touchpoints
from distinct_async.models import AnyVisitsType

ROWS_PER_PART: Final = 100_000


@attrs.frozen(kw_only=True)
class ExportProgress:
    """The progress of an export.

    Attributes:
        touchpoints: Touchpoints to export.
        touchpoints_done: Touchpoints exported completely.
        touchpoints_failed: Touchpoints that failed and are not tried again in this run.
        visits: The server's count of visits over these touchpoints, as far as known.
        visits_found: Visits that earlier runs had exported.
        visits_fetched: Visits that this run has exported. Falls if a list shifts while it is
            read, because the visits that no part has yet are discarded.
        parts_written: Files of visits that this run has finished.
        retries: Retries of the client since this run began.
    """

    touchpoints: int = 0
    touchpoints_done: int = 0
    touchpoints_failed: int = 0
    visits: int = 0
    visits_found: int = 0
    visits_fetched: int = 0
    parts_written: int = 0
    retries: int = 0


class ExportOptions(TypedDict, total=False):
    """The options of `export_visits` except `progress`, to annotate a function's ``**options``."""

    experience_id: str | None
    visits_type: AnyVisitsType
    format: FileFormat
    shard: tuple[int, int] | None
    page_size: int | None
    concurrency: int
    prefetch: int
    rows_per_part: int


async def export_visits(
    client: DistinctClient,
    touchpoints: Touchpoints,
    destination: str | PathLike[str],
    *,
    experience_id: str | None = None,
    visits_type: AnyVisitsType = VisitsType.TOTAL,
    format: FileFormat = "parquet",  # noqa: A002 - the usual name for it
    shard: tuple[int, int] | None = None,
    progress: Callable[[ExportProgress], object] | None = None,
    page_size: int | None = 1_000,
    concurrency: int = 8,
    prefetch: int = 4,
    rows_per_part: int = ROWS_PER_PART,
) -> ExportProgress:
    """Write every visit that a Hive-partitioned folder does not have yet.

    The files are their own checkpoint: each run continues each touchpoint at the first visit that
    no part has, whether the last run was interrupted or the visits are new. A part exists
    completely or not at all, even after a crash. A cancelled export finishes its open parts first.

    A run continues after a touchpoint's last stored visit and checks that the server still has it
    there. If the server has inserted, removed or reordered visits before it, the touchpoint fails
    and its files stay as they are.

    Args:
        client: The client; its limits, retries and timeouts apply.
        touchpoints: An experience's id; or touchpoints, as ids or as `DistinctClient.touchpoints`
            lists them. Duplicates are exported once.
        destination: The folder to export to; created if missing, and removed again if the export
            fails before anything is in it.
        experience_id: The experience that scopes the queries; defaults to `touchpoints` if that
            is an experience's id.
        visits_type: All scans, or each user's first.
        format: The files' format; Parquet and Zstandard need the extra ``arrow``.
        shard: The share of the touchpoints to export, such as (3, 8) for the third of eight. The
            SHA-256 of the id decides, so processes agree without communicating.
        progress: Called with the current progress after each page; must return quickly.
        page_size: Visits per request; None leaves it to the server (50).
        concurrency: Maximum number of touchpoints to export at once; each buffers about 1 MiB.
        prefetch: Maximum number of pages of a touchpoint in flight or buffered.
        rows_per_part: Maximum number of visits in a part.

    Returns:
        The final progress.

    Raises:
        ConfigurationError: An argument is unusable, or an extra is missing.
        ExportError: The destination or ``touchpoints.<format>`` cannot be written.
        FanOutError: Some touchpoints failed. Raised at the end: the others are exported, and so
            are the pages fetched for the failed ones, unless their list has shifted. It contains
            the errors of the walks; a `ListChangedError` if a list differs from its exported
            visits, or shifts while it is read; and an `ExportError` if a file is unusable.
        DistinctError: The experience's touchpoints could not be listed.
    """
    require_instance("client", client, DistinctClient)
    if isinstance(touchpoints, str):
        if experience_id not in (None, touchpoints):
            raise ConfigurationError("experience_id must be omitted or equal to touchpoints")
        experience_id = touchpoints
        touchpoints = client.touchpoints(touchpoints)
    report: Callable[[ExportProgress], object] = _ignore if progress is None else progress
    require_callable("progress", report)
    plan = ExportPlan(
        client=client,
        experience_id=experience_id,
        visits_type=require_visits_type(visits_type),
        destination=require_folder("destination", destination),
        file_format=find_format(format),
        shard=require_shard(shard),
        page_size=page_size,
        concurrency=require_integer("concurrency", concurrency, minimum=1),
        prefetch=prefetch,
        rows_per_part=require_integer("rows_per_part", rows_per_part, minimum=1),
    )
    # Creating a pager checks the other arguments before anything is written.
    plan.walk("any")
    return await _run(plan, touchpoints, report)


async def _run(
    plan: ExportPlan, touchpoints: Touchpoints, report: Callable[[ExportProgress], object]
) -> ExportProgress:
    with ThreadPoolExecutor(1, thread_name_prefix="distinct-export") as executor:
        disk, folders = DiskThread(executor), Folders(plan.destination)

        async def run() -> ExportProgress:
            await disk.run(folders.create)
            selected = await plan.select(touchpoints)
            return await _Run(plan, disk, selected, report).run()

        return await disk.run_after(run(), folders.remove_empty)


def _ignore(_: ExportProgress) -> None:
    pass


@final
class _Run:
    """The state of one run of an export."""

    def __init__(
        self,
        plan: ExportPlan,
        disk: DiskThread,
        selected: Mapping[str, TouchpointSummary | None],
        report: Callable[[ExportProgress], object],
    ) -> None:
        self._plan = plan
        self._disk = disk
        self._queue = deque(selected)
        self._failures = Failures(plan.experience_id)
        self._admit = plan.walk("any").source.admit
        self._report = report
        self._retries_before = plan.client.stats.retries
        self._touchpoints: dict[str, ExportedTouchpoint] = {}
        self._progress = ExportProgress(touchpoints=len(selected))
        for summary in selected.values():
            if summary is not None:
                self._remember(ExportedTouchpoint.from_summary(summary))

    async def run(self) -> ExportProgress:
        """Export all touchpoints.

        Raises:
            FanOutError: Some failed.
            ExportError: The touchpoints' file cannot be written.
        """
        self._advance()
        await self._disk.run_after(self._run_workers(), self._save_touchpoints)
        return self._progress

    async def _run_workers(self) -> None:
        count = min(self._plan.concurrency, len(self._queue))
        workers = [asyncio.create_task(self._work()) for _ in range(count)]
        try:
            if workers:
                await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        for worker in workers:
            # If one worker raised, the others were cancelled above.
            if not worker.cancelled():
                worker.result()
        if self._failures:
            done, left = self._progress.touchpoints_done, len(self._queue)
            raise self._failures.as_error(done=done, left=left)

    async def _work(self) -> None:
        while self._queue and not self._failures.stopped:
            end_probe = await self._failures.wait(self._admit)
            touchpoint_id = self._queue.popleft()
            if not self._queue:
                self._failures.dismiss_waiting()
            try:
                await self._export_one(touchpoint_id)
            finally:
                end_probe()

    async def _export_one(self, touchpoint_id: str) -> None:
        partition = self._plan.partition(touchpoint_id)
        try:
            work = self._export(touchpoint_id, partition)
            await self._disk.run_after(work, partition.close)
        except DistinctError as error:
            self._failures.record(touchpoint_id, error)
            self._advance(touchpoints_failed=1, parts_written=partition.parts_written)
        else:
            self._advance(touchpoints_done=1, parts_written=partition.parts_written)

    async def _export(self, touchpoint_id: str, partition: Partition) -> None:
        """Append the visits that a touchpoint's parts do not have yet."""
        await self._disk.run(partition.open)
        self._advance(visits_found=partition.rows)
        failure = await self._append(touchpoint_id, partition)
        if failure is not None and partition.stored.count and not partition.rows_added:
            comparison = Comparison(touchpoint_id, partition.stored, self._plan, self._disk)
            failure = await comparison.explain(failure)
        if failure is not None:
            raise failure

    async def _append(self, touchpoint_id: str, partition: Partition) -> DistinctError | None:
        """Append the pages of a walk; return its error if changes of the list may explain it."""
        pager = self._plan.walk(touchpoint_id, offset=partition.rows, after=partition.last)
        try:
            async with aclosing(pager.pages()) as pages:
                async for page in pages:
                    if page.shift:
                        problem = f"the list shifted by {page.shift:+,} during the export"
                        return self._discard(partition, ListChangedError(problem))
                    self._remember(ExportedTouchpoint.from_page(touchpoint_id, page))
                    await self._store(page, partition)
                    self._advance(visits_fetched=len(page.items))
        except ListChangedError as error:
            return self._discard(partition, error)
        except (PaginationError, StatusError) as error:
            return error.with_traceback(None)
        return None

    def _discard(self, partition: Partition, error: ListChangedError) -> ListChangedError:
        """Discard the visits that no part has, because their offsets may have changed.

        Nothing may be awaited before this, since a cancelled export stores them.
        """
        partition.reject()
        discarded = partition.rows_rejected
        if not discarded:
            return error.with_traceback(None)
        self._advance(visits_fetched=-discarded)
        problem = f"{error.args[0]}; discarded {discarded:,} visits that no part had yet"
        return ListChangedError(problem, offset=error.offset, moment=error.moment)

    async def _store(self, page: VisitPage, partition: Partition) -> None:
        stored = 0
        while stored < len(page.items):
            visits = page.items[stored : stored + partition.room]
            partition.add(visits)
            stored += len(visits)
            if partition.needs_flush:
                await self._disk.run(partition.flush)

    def _remember(self, touchpoint: ExportedTouchpoint) -> None:
        """Merge a touchpoint's counts, and add any growth to the expected visits."""
        key, visits_type = touchpoint.touchpoint_id, self._plan.visits_type
        before = self._touchpoints.get(key)
        after = self._touchpoints[key] = touchpoint.with_counts_from(before)
        known = (before.count(visits_type) if before else None) or 0
        growth = (after.count(visits_type) or 0) - known
        self._progress = attrs.evolve(self._progress, visits=self._progress.visits + growth)

    def _advance(self, **increases: int) -> None:
        """Increase some counters, and report the progress."""
        counts = {name: getattr(self._progress, name) + more for name, more in increases.items()}
        retries = self._plan.client.stats.retries - self._retries_before
        self._progress = attrs.evolve(self._progress, **counts, retries=retries)
        self._report(self._progress)

    def _save_touchpoints(self) -> None:
        plan = self._plan
        if self._progress.touchpoints and not self._touchpoints:
            # Nothing was learned of any, so do not claim that there are none.
            return
        update_touchpoints(
            plan.destination, plan.touchpoints_stem, plan.file_format, self._touchpoints
        )
