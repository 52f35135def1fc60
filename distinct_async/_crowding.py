"""Whether 503s mean that too many requests are in flight, or that something is broken."""

import math
from http import HTTPStatus
from typing import Final, final

from distinct_async.errors import StatusError

TOO_MANY: Final = HTTPStatus.TOO_MANY_REQUESTS
BUSY: Final = HTTPStatus.SERVICE_UNAVAILABLE

# One in seven requests answered 503 tells a crowded server from something broken, once there are
# two of them.
_CROWDED: Final = 2
_SHARE: Final = 0.15
# Seconds without a success after which the server is down, not crowded.
_SECONDS: Final = 1.0


@final
class Crowding:
    """Judges the 503s of a server that does not say when to come back."""

    def __init__(self) -> None:
        self._busy = 0.0
        self._last_success = -math.inf
        self._doubted = False

    def succeeded(self, now: float) -> None:
        """Note a success.

        Args:
            now: Seconds on a monotonic clock, here and below.
        """
        self._last_success = now
        if self._busy:
            self._busy = max(0.0, self._busy - _SHARE)
            self._doubted = False

    def explains(self, now: float, *, in_flight: int) -> bool:
        """Note that a request's first attempt was answered 503; return whether to slow down.

        Later attempts do not tell: they meet what is broken for good again and again. Where nothing
        has succeeded yet, one pause lets the attempts in flight do so.

        Args:
            now: The time.
            in_flight: Number of attempts in flight, this one included.
        """
        self._busy += 1
        if self._busy < _CROWDED:
            return False
        if now - self._last_success <= _SECONDS:
            return True
        doubted, self._doubted = self._doubted, self._doubted or in_flight > 1
        return self._doubted and not doubted


def status_of(outcome: object) -> int | None:
    """Return the status of an error that has one."""
    return outcome.status if isinstance(outcome, StatusError) else None


def is_throttle(outcome: object) -> bool:
    """Return whether an answer asks to be asked less often: a 429, or a 503 with Retry-After."""
    if not isinstance(outcome, StatusError):
        return False
    return outcome.status == TOO_MANY or (
        outcome.status == BUSY and outcome.retry_after is not None
    )
