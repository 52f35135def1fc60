"""Every error this package raises.

::

    DistinctError
    ├── ConfigurationError (also ValueError)   bad argument, bad key, http:// to a non-loopback host
    ├── ClientClosedError                      the client was closed
    ├── TransportError                         could not talk to the server
    │   └── RequestTimeoutError                it took too long
    ├── StatusError                            the server answered with an error status
    │   ├── BadRequestError         400
    │   ├── AuthenticationError     401
    │   ├── PermissionDeniedError   403        (the IP allow-list)
    │   ├── NotFoundError           404
    │   ├── RateLimitError          429
    │   ├── ServerError             5xx
    │   └── RedirectError           3xx
    ├── DecodeError                            a 200 that is not the documented shape
    ├── WalkError                              the server's pages do not add up
    │   ├── StuckPageError                     an ignored offset, a repeated page
    │   ├── DriftError                         the total shrank
    │   └── IncompleteWalkError                the pages ended before the total, or after it
    ├── ExportError                            an exported file cannot be written, or read
    └── FanOutError (an ExceptionGroup)        some of many touchpoints failed

Nothing else escapes, but for cancellation. Every error can be pickled.
"""

import copyreg
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from typing_extensions import override

_RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class DistinctError(Exception):
    """Root of every error of this package.

    Attributes:
        touchpoint_id: The touchpoint that was asked for, or None.
        next_offset: The offset at which a walk can be resumed so that nothing is lost and
            nothing repeated; None outside a walk.
        attempts: HTTP attempts made for the failing request; 0 when none was made.
        retryable: Whether the same request may succeed later.
        fatal: Whether the client's other requests would fail the same way now: its key or its
            address is refused, it is closed, or an outage has used up its retry budget.
    """

    retryable: bool = False
    fatal: bool = False

    def __init__(
        self,
        message: str,
        *,
        touchpoint_id: str | None = None,
        next_offset: int | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message)
        self.touchpoint_id = touchpoint_id
        self.next_offset = next_offset
        self.attempts = attempts

    @override
    def __str__(self) -> str:
        context = {
            "touchpoint_id": self.touchpoint_id and self.touchpoint_id[:80],
            "next_offset": self.next_offset,
            "attempts": self.attempts or None,
        }
        known = ", ".join(f"{k}={v!a}" for k, v in context.items() if v is not None)
        return f"{self.args[0]} [{known}]" if known else str(self.args[0])

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt by calling their class with `args`, which keyword arguments break.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class ConfigurationError(DistinctError, ValueError):
    """An argument, the API key or the base URL is unusable; no request was made."""


class ClientClosedError(DistinctError):
    """The client (or the aiohttp session it borrowed) was closed."""

    fatal = True


class TransportError(DistinctError):
    """The server could not be talked to: no connection, or one that broke."""

    def __init__(self, message: str, *, retryable: bool = True, **context: Any) -> None:
        super().__init__(message, **context)
        self.retryable = retryable


class RequestTimeoutError(TransportError):
    """A connection, a read, an attempt or the whole request took too long."""


class StatusError(DistinctError):
    """The server answered with an error status, in HTTP or in the envelope's ``statusCode``.

    Attributes:
        status: The status code.
        message: The server's own message, escaped and cut; empty when it sent none.
        request_id: The server's id of the request, or None.
        body_excerpt: The start of the body, escaped and cut.
        retry_after: Seconds the server asks to wait (RFC 9110, 10.2.3), or None.
    """

    hint = ""

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        request_id: str | None = None,
        body_excerpt: str = "",
        retry_after: float | None = None,
        **context: Any,
    ) -> None:
        said = message or body_excerpt or "no message"
        super().__init__(f"the server answered {status}: {said}{self.hint}", **context)
        self.status = status
        self.message = message
        self.request_id = request_id
        self.body_excerpt = body_excerpt
        self.retry_after = retry_after
        self.retryable = status in _RETRYABLE_STATUSES


class BadRequestError(StatusError):
    """400: a parameter is missing or invalid."""


class AuthenticationError(StatusError):
    """401: the API key was not accepted."""

    hint = " (check the API key)"
    fatal = True


class PermissionDeniedError(StatusError):
    """403: the request came from an IP that is not on the key's allow-list."""

    hint = " (is this machine's IP on the key's allow-list?)"
    fatal = True


class NotFoundError(StatusError):
    """404: the experience, user or touchpoint does not exist."""


class RateLimitError(StatusError):
    """429: too many requests; ``retry_after`` says for how many seconds to wait, if known."""


class ServerError(StatusError):
    """5xx: the server failed."""


class RedirectError(StatusError):
    """3xx: the server redirects elsewhere, which is refused so that the key goes nowhere else."""

    hint = " (redirects are refused; check base_url)"


class DecodeError(DistinctError):
    """A 200 whose body is not the documented shape.

    Attributes:
        path: Where in the JSON, like ``data.touchpoints.totalVisitsDetails.items[3].userId``;
            empty when the body is not JSON at all.
        excerpt: What was there, escaped and cut.
    """

    def __init__(
        self, problem: str, *, path: str = "", excerpt: str = "", retryable: bool = False
    ) -> None:
        super().__init__(f"{path or 'body'}: {problem}" + (f", got {excerpt}" if excerpt else ""))
        self.path = path
        self.excerpt = excerpt
        self.retryable = retryable


class WalkError(DistinctError):
    """The server's pages do not add up, so going on would lose or repeat items."""


class StuckPageError(WalkError):
    """The server answered with items of another offset than the requested one.

    Attributes:
        requested: The offset that was asked for.
        returned: The offset whose items came back.
    """

    def __init__(self, requested: int, returned: int) -> None:
        super().__init__(f"asked for offset {requested}, got the page of offset {returned}")
        self.requested = requested
        self.returned = returned


class DriftError(WalkError):
    """The total shrank, so offsets no longer mean what they did.

    Attributes:
        before: The total known when the request was made, or how many items an export has stored.
        after: The smaller total in its answer.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(f"the total shrank from {before} to {after}")
        self.before = before
        self.after = after


class IncompleteWalkError(WalkError):
    """The pages ended, and what they held is not the total.

    Attributes:
        expected: The server's total.
        received: How far the pages reached, counted from offset 0.
    """

    def __init__(self, expected: int, received: int) -> None:
        super().__init__(f"the server counts {expected} items, its pages ended at {received}")
        self.expected = expected
        self.received = received


class ExportError(DistinctError):
    """A file or folder of an export cannot be written or read, or the parts do not add up.

    Attributes:
        path: The file or folder.
    """

    def __init__(self, problem: str, path: str, *, fatal: bool = False) -> None:
        super().__init__(f"{path!a}: {problem}")
        self.path = path
        self.fatal = fatal


class FanOutError(DistinctError, ExceptionGroup[DistinctError]):
    """Some of many touchpoints failed; all pages that the others have were delivered.

    ``except*`` sees the errors inside, each with its own ``touchpoint_id`` and ``next_offset``. One
    without a ``touchpoint_id`` is what kept the ids from being read to their end.

    Attributes:
        taken: How many ids were taken, in the order in which they were given. The touchpoints
            after them were not asked for, because of a failure that is `fatal` or without an id.
    """

    taken: int = 0

    def __init__(self, message: str, exceptions: Sequence[DistinctError], /) -> None:
        super().__init__(message)
        # The group keeps both as its args; DistinctError's message alone would lose the errors.
        self.args = (message, exceptions)

    @property
    def failures(self) -> Mapping[str, DistinctError]:
        """Map each failed touchpoint's id to its error.

        Of an id that was given, and failed, more than once, to the one with the first offset.
        """
        failures: dict[str, DistinctError] = {}
        for error in self.exceptions:
            # No group is nested in another here, whatever the type of `exceptions` allows.
            if isinstance(error, DistinctError) and error.touchpoint_id is not None:
                known = failures.setdefault(error.touchpoint_id, error)
                if (error.next_offset or 0) < (known.next_offset or 0):
                    failures[error.touchpoint_id] = error
        return MappingProxyType(failures)

    @override
    def derive(self, excs: Sequence[DistinctError]) -> "FanOutError":  # type: ignore[override]
        """Make a group of some of the errors, as ``except*`` and ``split`` do."""
        part = FanOutError(self.message, excs)
        part.taken = self.taken
        return part
