"""Where the server's list differs from the visits that earlier runs have stored."""

from functools import partial
from typing import Final, final

import attrs

from distinct_async import DistinctError, ListChangedError, StatusError, Visit
from distinct_async.export.disk import DiskThread
from distinct_async.export.plan import BEYOND_THE_END, ExportPlan
from distinct_async.export.stored import StoredVisits

# Identical visits in a row of which the first is looked for.
_LONGEST_RUN: Final = 64


@final
@attrs.frozen
class Comparison:
    """Compares a touchpoint's stored visits with the server's list.

    Attributes:
        touchpoint_id: The touchpoint.
        stored: The stored visits.
        plan: How to ask the server.
        disk: The thread that reads the parts.
    """

    touchpoint_id: str
    stored: StoredVisits
    plan: ExportPlan
    disk: DiskThread

    async def explain(self, error: DistinctError) -> DistinctError:
        """Return why a walk could not continue after the stored visits.

        Args:
            error: The error that ended the walk; returned if all stored visits are the server's.

        Raises:
            DistinctError: A request failed, or a part cannot be read.
        """
        if isinstance(error, StatusError) and not await self._is_about_the_offset(error):
            return error
        offset = await self.find_difference()
        if offset is None:
            return error
        moment = (await self._stored_at(offset)).timestamp
        time = moment.isoformat().replace("+00:00", "Z")
        return ListChangedError(
            f"the server's list differs from the exported visits from offset {offset:,} on"
            f" ({time}); no visits were written",
            offset=offset,
            moment=moment,
        )

    async def find_difference(self) -> int | None:
        """Return the first offset whose stored visit is not the server's; None if all are.

        Bisects, after a look at the first visit, which any reordering moves. It assumes that all
        visits after the first difference differ, too, except that identical visits next to each
        other may hide a shift.
        """
        count = end = self.stored.count
        if count and not await self._is_same(0):
            return 0
        same = min(1, count)
        while same < end:
            middle = await self._first_of_run((same + end) // 2, least=same)
            if await self._is_same_from(middle, least=same):
                same = middle + 1
            else:
                end = middle
        return None if same == count else same

    async def _first_of_run(self, offset: int, *, least: int) -> int:
        """Return the first offset, from `least` on, from which all visits to `offset` are equal."""
        visit = await self._stored_at(offset)
        first = offset
        while first > max(least, offset - _LONGEST_RUN):
            if await self._stored_at(first - 1) != visit:
                break
            first -= 1
        return first

    async def _is_same_from(self, offset: int, *, least: int) -> bool:
        """Return whether nothing differs up to `offset`, if nothing does before `least`."""
        if not await self._is_same(offset):
            return False
        # After a deletion, an identical visit may stand here, but then the one before differs.
        is_last = offset + 1 == self.stored.count
        if is_last or await self._stored_at(offset + 1) == await self._stored_at(offset):
            return offset == least or await self._is_same(offset - 1)
        return True

    async def _is_about_the_offset(self, refusal: StatusError) -> bool:
        if refusal.status not in BEYOND_THE_END:
            return False
        return await self.plan.page_at(self.touchpoint_id, 0) is not None

    async def _is_same(self, offset: int) -> bool:
        page = await self.plan.page_at(self.touchpoint_id, offset)
        # Some servers answer an offset beyond the end with the last page.
        if page is None or page.offset != offset:
            return False
        return page.items[:1] == (await self._stored_at(offset),)

    async def _stored_at(self, offset: int) -> Visit:
        return await self.disk.run(partial(self.stored.at, offset))
