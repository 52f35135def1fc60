"""`export_visits`: every visit of many touchpoints into files, again and again."""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, cast, final

import attrs

from distinct_async import (
    ConfigurationError,
    DistinctClient,
    DistinctError,
    FanOutError,
    ListChangedError,
    Pager,
    TouchpointSummary,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async.export.dataset import (
    Partition,
    make_folders,
    touchpoint_folder,
    update_touchpoints,
)
from distinct_async.export.formats import FileFormat, Format, find_format
from distinct_async.export.rows import ExportedTouchpoint

T = TypeVar("T")

Touchpoints: TypeAlias = (
    str | Iterable[str | TouchpointSummary] | AsyncIterable[str | TouchpointSummary]
)
"""An experience's id, or touchpoints: their ids, or what `DistinctClient.touchpoints` lists."""

ROWS_PER_PART: Final = 100_000

_PAIR: Final = 2


@attrs.frozen(kw_only=True)
class ExportProgress:
    """How far an export has come.

    Attributes:
        touchpoints: Touchpoints to export.
        touchpoints_done: Those that are complete.
        touchpoints_failed: Those that are not, and will not be in this run.
        visits: Visits that these touchpoints have, as far as is known.
        visits_found: Those that earlier runs had exported.
        visits_fetched: Those that this run has.
        parts_written: Files of visits that this run has made.
        retries: Attempts that the client has made again since the run began.
    """

    touchpoints: int = 0
    touchpoints_done: int = 0
    touchpoints_failed: int = 0
    visits: int = 0
    visits_found: int = 0
    visits_fetched: int = 0
    parts_written: int = 0
    retries: int = 0


async def export_visits(
    client: DistinctClient,
    touchpoints: Touchpoints,
    destination: str | PathLike[str],
    *,
    experience_id: str | None = None,
    visits_type: VisitsType | str = VisitsType.TOTAL,
    format: FileFormat = "parquet",  # noqa: A002 - what every tool calls it
    shard: tuple[int, int] | None = None,
    progress: Callable[[ExportProgress], object] | None = None,
    page_size: int | None = 1_000,
    concurrency: int = 8,
    prefetch: int = 4,
    rows_per_part: int = ROWS_PER_PART,
) -> ExportProgress:
    """Write every visit to a Hive-partitioned folder, or those that it does not have yet.

    The files are their own checkpoint: a run continues each touchpoint at the first visit that
    no part has, so that going on after an interruption and fetching what is new are the same.
    Parts exist whole or not at all, whatever happens. Cancelled, it finishes the parts in hand.
    This takes for granted that the server appends visits, and neither removes nor reorders them.

    Args:
        client: Whose limits, retries and timeouts apply.
        touchpoints: An experience's id, or the touchpoints: ids, or what
            `DistinctClient.touchpoints` lists. Each is exported once.
        destination: The folder, made if it is not there.
        experience_id: The experience to scope the queries to; that of `touchpoints` if it is one.
        visits_type: All scans, or each user's first.
        format: The files' format; Parquet and Zstandard need the extra ``arrow``.
        shard: Which share of the touchpoints to export, like (3, 8) for the third of eight: by
            the SHA-256 of the id, so that processes agree without talking to each other.
        progress: Called with each state, after each page; must be quick.
        page_size: Visits to ask for per request; None leaves it to the server (50).
        concurrency: Most touchpoints to export at once. Of each, about a MiB waits in memory to
            be written.
        prefetch: Most pages of a touchpoint in flight or buffered.
        rows_per_part: Most visits of a part, rows.

    Returns:
        The last state.

    Raises:
        ConfigurationError: An argument is unusable, or an extra is missing.
        ExportError: The destination, or ``touchpoints.<format>``, cannot be written.
        FanOutError: At the end, if touchpoints failed; all others are exported, and of these
            whatever was fetched. The errors within are the walk's, a `ListChangedError` where the
            server has fewer visits than were exported, and `ExportError` for the files.
        DistinctError: The experience's touchpoints could not be listed.
    """
    if isinstance(touchpoints, str):
        if experience_id not in (None, touchpoints):
            raise ConfigurationError("experience_id must be left out, touchpoints is another")
        experience_id = touchpoints
        touchpoints = client.touchpoints(touchpoints)
    plan = _Plan(
        client=client,
        experience_id=experience_id,
        visits_type=_require_visits_type(visits_type),
        destination=_require_path(destination),
        format=find_format(format),
        shard=_require_shard(shard),
        page_size=page_size,
        concurrency=_require_count("concurrency", concurrency),
        prefetch=prefetch,
        rows_per_part=_require_count("rows_per_part", rows_per_part),
    )
    # Unusable arguments are told before anything is done.
    plan.walk("any", offset=0)
    with ThreadPoolExecutor(1, thread_name_prefix="distinct-export") as thread:
        disk = _Disk(thread)
        await disk.do(partial(make_folders, plan.destination))
        listed = await _collect(touchpoints)
        chosen = {key: each for key, each in listed.items() if is_of_shard(key, plan.shard)}
        return await _Export(plan, disk, chosen, progress or (lambda _: None)).run()


@attrs.frozen(kw_only=True)
class _Plan:
    """What was asked for."""

    client: DistinctClient
    experience_id: str | None
    visits_type: VisitsType
    destination: Path
    format: Format
    shard: tuple[int, int]
    page_size: int | None
    concurrency: int
    prefetch: int
    rows_per_part: int

    def walk(self, touchpoint_id: str, *, offset: int) -> Pager[Visit, VisitPage]:
        unique = self.visits_type is VisitsType.UNIQUE
        visits = self.client.unique_visits if unique else self.client.total_visits
        return visits(
            touchpoint_id,
            experience_id=self.experience_id,
            offset=offset,
            page_size=self.page_size,
            prefetch=self.prefetch,
        )

    def partition(self, touchpoint_id: str) -> Partition:
        folder = touchpoint_folder(self.destination, self.visits_type, touchpoint_id)
        return Partition(folder, touchpoint_id, self.format, self.rows_per_part)

    @property
    def touchpoints_stem(self) -> str:
        # Each shard its own: several may write to one folder, or be put together in one.
        index, count = self.shard
        return "touchpoints" if count == 1 else f"touchpoints-{index}-of-{count}"


def is_of_shard(touchpoint_id: str, shard: tuple[int, int]) -> bool:
    """Tell whether a touchpoint is of a shard: always the same, wherever it is asked."""
    index, count = shard
    digest = hashlib.sha256(touchpoint_id.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8]) % count == index - 1


@final
class _Export:
    """The state of one run."""

    def __init__(
        self,
        plan: _Plan,
        disk: "_Disk",
        chosen: Mapping[str, TouchpointSummary | None],
        tell: Callable[[ExportProgress], object],
    ) -> None:
        self._plan = plan
        self._disk = disk
        self._queue = deque(chosen)
        self._stopped = False
        self._tell = tell
        self._retries_before = plan.client.stats.retries
        self._errors: list[DistinctError] = []
        self._known: dict[str, ExportedTouchpoint] = {}
        self._progress = ExportProgress(touchpoints=len(chosen))
        for summary in chosen.values():
            if summary is not None:
                self._learn(ExportedTouchpoint.of(summary))

    async def run(self) -> ExportProgress:
        """Export all touchpoints.

        Raises:
            FanOutError: Some failed.
            ExportError: The touchpoints' file cannot be written.
        """
        self._update()
        await self._disk.do_after(self._work_side_by_side(), self._save_touchpoints)
        return self._progress

    async def _work_side_by_side(self) -> None:
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
            # One was cancelled because of what another raised.
            if not worker.cancelled():
                worker.result()
        if self._errors:
            raise self._failure()

    async def _work(self) -> None:
        while self._queue and not self._stopped:
            touchpoint_id = self._queue.popleft()
            partition = self._plan.partition(touchpoint_id)
            try:
                await self._disk.do_after(self._export(touchpoint_id, partition), partition.close)
            except DistinctError as error:
                self._fail(touchpoint_id, error, partition)
            else:
                self._update(touchpoints_done=1, parts_written=partition.parts_written)

    async def _export(self, touchpoint_id: str, partition: Partition) -> None:
        """Fetch what a touchpoint's parts do not have."""
        await self._disk.do(partition.open)
        self._update(visits_found=partition.rows)
        walk = self._plan.walk(touchpoint_id, offset=partition.rows)
        async with aclosing(walk.pages()) as pages:
            async for page in pages:
                if page.total < page.offset:
                    raise ListChangedError(page.offset, page.total)
                self._learn(_exported_from(touchpoint_id, page))
                await self._store(page, partition)
                self._update(visits_fetched=len(page.items))

    async def _store(self, page: VisitPage, partition: Partition) -> None:
        stored = 0
        while stored < len(page.items):
            visits = page.items[stored : stored + partition.room]
            partition.add(visits)
            stored += len(visits)
            if partition.is_due:
                await self._disk.do(partition.write)

    def _learn(self, touchpoint: ExportedTouchpoint) -> None:
        """Remember what is new of a touchpoint, and what that makes of all visits."""
        key, kind = touchpoint.touchpoint_id, self._plan.visits_type
        before = self._known.get(key)
        after = self._known[key] = touchpoint.updating(before)
        counts = [0 if each is None else each.count(kind) or 0 for each in (before, after)]
        visits = self._progress.visits + counts[1] - counts[0]
        self._progress = attrs.evolve(self._progress, visits=visits)

    def _update(self, **increases: int) -> None:
        """Count on, and tell."""
        counts = {name: getattr(self._progress, name) + more for name, more in increases.items()}
        retries = self._plan.client.stats.retries - self._retries_before
        self._progress = attrs.evolve(self._progress, **counts, retries=retries)
        self._tell(self._progress)

    def _fail(self, touchpoint_id: str, error: DistinctError, partition: Partition) -> None:
        error.touchpoint_id = touchpoint_id
        # Frames hold pages, and there may be many failures.
        for each in (error, error.__cause__):
            if each is not None:
                each.with_traceback(None)
        self._errors.append(error)
        self._stopped |= error.fatal
        self._update(touchpoints_failed=1, parts_written=partition.parts_written)

    def _failure(self) -> FanOutError:
        failed, done = len(self._errors), self._progress.touchpoints_done
        message = f"{failed} of {done + failed} touchpoints failed"
        error = FanOutError(message + "; no more were started" * bool(self._queue), self._errors)
        error.started = done + failed
        return error

    def _save_touchpoints(self) -> None:
        plan = self._plan
        update_touchpoints(plan.destination, plan.touchpoints_stem, plan.format, self._known)


def _exported_from(touchpoint_id: str, page: VisitPage) -> ExportedTouchpoint:
    unique = page.visits_type is VisitsType.UNIQUE
    return ExportedTouchpoint(
        touchpoint_id=touchpoint_id,
        name=page.touchpoint.name,
        value=page.touchpoint.value,
        total_visits=None if unique else page.total,
        unique_visits=page.total if unique else None,
    )


@attrs.frozen
class _Disk:
    """Does what waits for the disk, one thing at a time.

    Several parts that are encoded at once take more memory than they save time.
    """

    thread: ThreadPoolExecutor

    async def do(self, work: Callable[[], T]) -> T:
        """Call `work` in the thread; a cancellation waits for it to end."""
        running = asyncio.get_running_loop().run_in_executor(self.thread, work)
        cancellation: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError as error:
                # Nothing else may touch the files meanwhile.
                cancellation = error
        if cancellation is not None:
            running.exception()
            raise cancellation
        return running.result()

    async def do_after(self, work: Awaitable[None], close: Callable[[], None]) -> None:
        """Await `work`, and then call `close` in the thread, whatever became of it."""
        try:
            await work
        except BaseException:
            # What `work` came to is what is told, a cancellation above all.
            with suppress(DistinctError):
                await self.do(close)
            raise
        await self.do(close)


async def _collect(touchpoints: Touchpoints) -> dict[str, TouchpointSummary | None]:
    """Return the ids, each once and in the order in which they came, with what is known of them."""
    chosen: dict[str, TouchpointSummary | None] = {}
    async for each in _each(touchpoints):
        if isinstance(each, TouchpointSummary):
            chosen.setdefault(each.id, each)
        elif isinstance(each, str):
            chosen.setdefault(each, None)
        else:
            kind = type(each).__name__
            raise ConfigurationError(f"touchpoints must give ids or touchpoints, got {kind}")
    return chosen


async def _each(items: Any) -> AsyncIterator[object]:
    if isinstance(items, AsyncIterable):
        async for item in cast("AsyncIterable[object]", items):
            yield item
    elif isinstance(items, Iterable) and not isinstance(items, bytes):
        for item in cast("Iterable[object]", items):
            yield item
    else:
        kind = type(items).__name__
        raise ConfigurationError(f"touchpoints must be an experience's id, or ids, got {kind}")


def _require_visits_type(value: str) -> VisitsType:
    if value not in list(VisitsType):
        raise ConfigurationError(f"visits_type must be TOTAL or UNIQUE, got {value!a:.80}")
    return VisitsType(value)


def _require_path(value: str | PathLike[str]) -> Path:
    with suppress(TypeError):
        path = Path(value)
        # The path of an empty string is that of the current folder.
        if value != "":
            return path
    raise ConfigurationError("destination must be the path of a folder")


def _require_count(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be an integer of at least 1")
    return value


def _require_shard(shard: object) -> tuple[int, int]:
    """Return the number of a share, from 1, and how many there are."""
    if shard is None:
        return 1, 1
    expected = "shard must be two integers, (index, count), the index from 1 to the count"
    numbers = cast("tuple[object, ...]", shard) if isinstance(shard, tuple) else ()
    if len(numbers) != _PAIR:
        raise ConfigurationError(expected)
    index, count = (_require_count("shard", number) for number in numbers)
    if index > count:
        raise ConfigurationError(f"{expected}, got {index} of {count}")
    return index, count
