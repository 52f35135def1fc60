"""Every error this package raises.

::

    DistinctError
    ├── ConfigurationError (also ValueError)   bad argument, bad key, http:// to another machine
    ├── ClientClosedError                      the client is closed
    ├── TransportError                         no connection, or one that broke
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
    ├── PaginationError                        the server's pages do not add up
    │   ├── RepeatedPageError                  an ignored offset, a repeated page
    │   ├── ListChangedError                   the place of a walk cannot be found again
    │   └── IncompleteListError                the pages ended before the total, or beyond it
    ├── ExportError                            an exported file cannot be written or read
    └── FanOutError (an ExceptionGroup)        some of many touchpoints failed

Nothing else escapes, except cancellation. Every error can be pickled.

Inside the package an error is a value: functions return it, `in_context` adds where it happened,
and `unwrap` raises it at the public call, without a foreign exception in its chain or a frame that
could show the API key.
"""

import copyreg
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, TypeVar

import attrs
from typing_extensions import override

T = TypeVar("T")
E = TypeVar("E", bound="DistinctError")

_RETRYABLE_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
_SHOWN_ID_CHARACTERS: Final = 80


@attrs.frozen(kw_only=True)
class ResumePoint:
    """Where a walk stopped.

    Attributes:
        offset: The offset that the walk had reached.
        after: The last items before it, which prove the place; empty if there are none.
        delivered: Number of items delivered.
        total: The server's count at that time, or None.
        name: The list.
    """

    offset: int
    after: tuple[Any, ...] = attrs.field(repr=False)
    delivered: int
    total: int | None
    name: str


class DistinctError(Exception):
    """Base class of all errors of this package.

    Attributes:
        touchpoint_id: The requested touchpoint, or None.
        experience_id: The requested experience, or None.
        next_offset: The offset at which to resume a walk so that nothing is lost or repeated;
            None outside a walk, or if there is no such offset.
        resume_point: What `Pager.resume` needs; None outside a walk, or if it cannot be resumed.
        attempts: HTTP attempts made for the failed request; 0 if none was made.
        retryable: Whether the same request may succeed later.
        fatal: Whether the client's other requests would fail the same way now: its key or
            address is refused, it is closed, or nothing has succeeded for long.
    """

    retryable: bool = False
    fatal: bool = False

    def __init__(
        self,
        message: str,
        *,
        touchpoint_id: str | None = None,
        experience_id: str | None = None,
        next_offset: int | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message)
        self.touchpoint_id = touchpoint_id
        self.experience_id = experience_id
        self.next_offset = next_offset
        self.resume_point: ResumePoint | None = None
        self.attempts = attempts

    @override
    def __str__(self) -> str:
        context = {
            "touchpoint_id": self.touchpoint_id and self.touchpoint_id[:_SHOWN_ID_CHARACTERS],
            "experience_id": self.experience_id and self.experience_id[:_SHOWN_ID_CHARACTERS],
            "next_offset": self.next_offset,
            "attempts": self.attempts or None,
        }
        known = ", ".join(f"{k}={v!a}" for k, v in context.items() if v is not None)
        return f"{self.args[0]} [{known}]" if known else str(self.args[0])

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        # Unpickling calls the class with `args`, which would miss keyword-only arguments.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


def in_context(
    error: E,
    *,
    touchpoint_id: str | None = None,
    experience_id: str | None = None,
    next_offset: int | None = None,
    attempts: int | None = None,
) -> E:
    """Add what is known of where an error happened, and drop its frames.

    Frames keep pages alive, and may hold a response that echoes the key. Where None is passed, what
    is already known is kept.
    """
    context = {"touchpoint_id": touchpoint_id, "experience_id": experience_id}
    for name, value in {**context, "next_offset": next_offset, "attempts": attempts}.items():
        if value is not None:
            setattr(error, name, value)
    return error.with_traceback(None)


def unwrap(outcome: T | DistinctError) -> T:
    """Return a value, or raise the error that took its place."""
    if isinstance(outcome, DistinctError):
        raise outcome
    return outcome


class ConfigurationError(DistinctError, ValueError):
    """An argument, the API key or the base URL is unusable; no request was made."""


class ClientClosedError(DistinctError):
    """The client, or the aiohttp session it borrowed, is closed."""

    fatal = True


class TransportError(DistinctError):
    """The server could not be reached, or the connection broke."""

    def __init__(self, message: str, *, retryable: bool = True, **context: Any) -> None:
        super().__init__(message, **context)
        self.retryable = retryable


class RequestTimeoutError(TransportError):
    """A connection, a read, an attempt or the whole request took too long."""


class StatusError(DistinctError):
    """The server answered with an error status, in HTTP or in the envelope's ``statusCode``.

    Attributes:
        status: The status code.
        message: The server's message, escaped and truncated; empty if it sent none.
        request_id: The server's id for the request, or None.
        body_excerpt: The start of the body, treated likewise.
        retry_after: Seconds the server asks to wait (RFC 9110, section 10.2.3), or None.
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
        self.status, self.message = status, message
        self.request_id = request_id
        self.body_excerpt = body_excerpt
        self.retry_after = retry_after
        self.retryable = status in _RETRYABLE_STATUSES


class BadRequestError(StatusError):
    """400: a parameter is missing or invalid."""


class AuthenticationError(StatusError):
    """401: the server does not accept the API key."""

    hint = " (check the API key)"
    fatal = True


class PermissionDeniedError(StatusError):
    """403: the request came from an IP address that is not on the key's allow-list."""

    hint = " (is this machine's IP on the key's allow-list?)"
    fatal = True


class NotFoundError(StatusError):
    """404: the experience, user or touchpoint does not exist."""


class RateLimitError(StatusError):
    """429: too many requests; ``retry_after`` is how many seconds to wait, if known."""


class ServerError(StatusError):
    """5xx: the server failed."""


class RedirectError(StatusError):
    """3xx: the server redirects, which is refused so that the key is sent nowhere else."""

    hint = " (redirects are refused; check base_url)"


class DecodeError(DistinctError):
    """A 200 response whose body does not match the documented shape.

    Attributes:
        path: Where in the JSON, such as ``data.touchpoints.totalVisitsDetails.items[3].userId``;
            empty if the body is not JSON.
        excerpt: What was found there, escaped and truncated.
    """

    def __init__(
        self, problem: str, *, path: str = "", excerpt: str = "", retryable: bool = False
    ) -> None:
        super().__init__(f"{path or 'body'}: {problem}" + (f", got {excerpt}" if excerpt else ""))
        self.path, self.excerpt = path, excerpt
        self.retryable = retryable


class PaginationError(DistinctError):
    """The server's pages do not add up, so going on would lose or repeat items."""


class RepeatedPageError(PaginationError):
    """The server returned items from an offset other than the requested one.

    Attributes:
        requested: The requested offset.
        returned: The offset whose items came back.
    """

    def __init__(self, requested: int, returned: int) -> None:
        super().__init__(f"requested offset {requested} but received the page at offset {returned}")
        self.requested, self.returned = requested, returned


class ListChangedError(PaginationError):
    """The list has changed so that a walk cannot find its place again.

    Attributes:
        offset: The offset from which on the list differs from what was read before, if known.
        moment: The time of the visit that was read there, if known.
    """

    def __init__(
        self, problem: str, *, offset: int | None = None, moment: datetime | None = None
    ) -> None:
        super().__init__(problem)
        self.offset, self.moment = offset, moment


class IncompleteListError(PaginationError):
    """The pages ended, and the server keeps claiming another total.

    Attributes:
        expected: The server's total.
        received: How far the pages reached, counted from offset 0.
    """

    def __init__(self, expected: int, received: int) -> None:
        super().__init__(f"the server counts {expected} items, but its pages ended at {received}")
        self.expected, self.received = expected, received


class ExportError(DistinctError):
    """A file or folder of an export cannot be written or read, or its parts do not add up.

    Attributes:
        path: The file or folder.
    """

    def __init__(self, problem: str, path: str, *, fatal: bool = False) -> None:
        super().__init__(f"{path!a}: {problem}")
        self.path = path
        self.fatal = fatal


class FanOutError(DistinctError, ExceptionGroup[DistinctError]):
    """Some of many touchpoints failed; every page of the others was delivered.

    ``except*`` sees the errors inside, each with its own ``touchpoint_id``. One without is why the
    iterable of touchpoints ended early.

    Attributes:
        started: How many touchpoints were started, in the order in which they were given. Those
            after them were not requested, because of a `fatal` failure or because the iterable
            itself failed.
    """

    started: int = 0

    def __init__(self, message: str, exceptions: Sequence[DistinctError], /) -> None:
        super().__init__(message)
        # An exception group keeps both as its args, and pickling needs them.
        self.args = (message, exceptions)

    @property
    def failures(self) -> Mapping[str, DistinctError]:
        """Map each failed touchpoint's id to its error.

        If one failed several times, this has the error with the lowest offset.
        """
        failures: dict[str, DistinctError] = {}
        for error in self.exceptions:
            # The type of `exceptions` allows nested groups; there are none here.
            if isinstance(error, DistinctError) and error.touchpoint_id is not None:
                known = failures.setdefault(error.touchpoint_id, error)
                if (error.next_offset or 0) < (known.next_offset or 0):
                    failures[error.touchpoint_id] = error
        return MappingProxyType(failures)

    @override
    def derive(self, excs: Sequence[DistinctError]) -> "FanOutError":  # type: ignore[override]
        """Make a group of some of the errors, for ``except*`` and ``split``."""
        part = FanOutError(self.message, excs)
        part.started = self.started
        return part
