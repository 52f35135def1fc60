"""When the attempts that a server admitted were started."""

from collections.abc import Generator
from itertools import accumulate
from typing import Final, final

# Counting every 20 ms resolves a ramp of half a second; keep ten seconds.
_SLOT_SECONDS: Final = 0.02
_SLOTS: Final = 512


@final
class Admissions:
    """The admitted attempts of about the last ten seconds, by the time of their start.

    Attempts end in another order than they start in, and refusals end sooner, so only their starts
    say how many a server admitted in some time.
    """

    def __init__(self) -> None:
        # By slot: when its first attempt started, and how many did.
        self._slots: dict[int, tuple[float, int]] = {}

    def add(self, start: float) -> None:
        """Count an admitted attempt.

        Args:
            start: When it started, in seconds on a monotonic clock, here and below.
        """
        slot = int(start / _SLOT_SECONDS)
        first, count = self._slots.get(slot, (start, 0))
        self._slots[slot] = min(first, start), count + 1
        if len(self._slots) > _SLOTS:
            del self._slots[next(iter(self._slots))]

    def windows(self, start: float, end: float) -> Generator[tuple[float, int]]:
        """Yield the times between `start` and `end` at which attempts started, in order.

        Each comes with the number of attempts from then to `end`.
        """
        slots = sorted(slot for slot in self._slots.values() if start <= slot[0] <= end)
        counts = [*accumulate(count for _, count in reversed(slots))]
        for (first, _), count in zip(slots, reversed(counts), strict=True):
            yield first, count
