"""Settings as values, and the checks that every argument goes through before any request."""

import asyncio
import ipaddress
import math
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self
from urllib.parse import urlsplit

import attrs
from typing_extensions import override

from distinct_async.errors import ConfigurationError

DEFAULT_BASE_URL: Final = "https://api.distinct.so"
MIB: Final = 1024 * 1024

_Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def require_integer(name: str, value: object, *, minimum: int) -> int:
    """Return `value` if it is an integer of at least `minimum`.

    Raises:
        ConfigurationError: It is not; booleans are not integers here.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(f"{name} must be an integer, got {type(value).__name__}")
    if value < minimum:
        # Digits alone: Python refuses to print integers of more than 4,300 of them.
        raise ConfigurationError(f"{name} must be at least {minimum}, got a smaller one")
    return value


def require_seconds(name: str, value: object, *, positive: bool) -> float:
    """Return `value` if it is a finite number, at least 0 (above 0 where `positive`).

    Raises:
        ConfigurationError: It is not.
    """
    expected = "a finite number above 0" if positive else "a finite number of at least 0"
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigurationError(f"{name} must be {expected}, got {type(value).__name__}")
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise ConfigurationError(f"{name} must be {expected}, got {value!r}")
    return value


def require_id(name: str, value: object) -> str:
    """Return `value` if it can be sent as an id: a string that is not blank.

    Raises:
        ConfigurationError: It is not, or it has lone surrogates and so no UTF-8 form.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a string, got {type(value).__name__}")
    if not value.strip():
        raise ConfigurationError(f"{name} must not be empty")
    if re.search("[\ud800-\udfff]", value):
        raise ConfigurationError(f"{name} must be encodable as UTF-8, got lone surrogates")
    return value


def _integer_from(minimum: int) -> _Validator:
    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        require_integer(attribute.name, value, minimum=minimum)

    return validate


def _seconds(*, positive: bool) -> _Validator:
    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        require_seconds(attribute.name, value, positive=positive)

    return validate


_POSITIVE_OR_NONE: Final[_Validator] = attrs.validators.optional(_seconds(positive=True))


def instance_of(expected: type) -> _Validator:
    """Make an attrs validator that names the field.

    Raises:
        ConfigurationError: On validation, if the value is of another type.
    """

    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if not isinstance(value, expected):
            kind = type(value).__name__
            raise ConfigurationError(f"{attribute.name} must be {expected.__name__}, got {kind}")

    return validate


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When to try again, and how long to wait before.

    The delay before retry n is drawn from U(0, min(max_delay, base_delay · 2ⁿ⁻¹)), the "full
    jitter" of the AWS Architecture Blog ("Exponential Backoff and Jitter", 2015). A longer
    Retry-After is honoured.

    Attributes:
        attempts: Most HTTP attempts of one request, the first included.
        base_delay: Upper bound of the first delay, seconds.
        max_delay: Upper bound of every drawn delay, seconds.
        max_retry_after: Longest Retry-After to wait for, seconds; a longer one is raised.
        budget: Tokens of the client's retry budget; a retry costs 5, a success gives back (like
            botocore's standard mode), so an outage is not multiplied. 0 turns retries off.
    """

    attempts: int = attrs.field(default=5, validator=_integer_from(1))
    base_delay: float = attrs.field(default=0.5, validator=_seconds(positive=False))
    max_delay: float = attrs.field(default=20.0, validator=_seconds(positive=False))
    max_retry_after: float = attrs.field(default=120.0, validator=_seconds(positive=False))
    budget: int = attrs.field(default=500, validator=_integer_from(0))


@attrs.frozen(kw_only=True)
class Limits:
    """How much the client does at once.

    Attributes:
        concurrency: Most requests in flight, over everything the client does.
        requests_per_second: Most attempts started per second, or None; a tenth of a second's
            worth may start at once.
        max_body_bytes: Longest response body, decompressed, bytes.
    """

    concurrency: int = attrs.field(default=16, validator=_integer_from(1))
    requests_per_second: float | None = attrs.field(default=None, validator=_POSITIVE_OR_NONE)
    max_body_bytes: int = attrs.field(default=32 * MIB, validator=_integer_from(1))


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long to wait, in seconds; None waits without bound.

    Attributes:
        connect: For a connection, TLS included.
        read: Between two pieces of a response.
        attempt: For one HTTP attempt, from the moment it may start.
        total: For one request with all its attempts, delays and waiting.
    """

    connect: float | None = attrs.field(default=10.0, validator=_POSITIVE_OR_NONE)
    read: float | None = attrs.field(default=30.0, validator=_POSITIVE_OR_NONE)
    attempt: float | None = attrs.field(default=60.0, validator=_POSITIVE_OR_NONE)
    total: float | None = attrs.field(default=300.0, validator=_POSITIVE_OR_NONE)


@attrs.frozen(kw_only=True)
class Runtime:
    """Sleep, clocks and randomness, replaceable so that tests neither wait nor guess.

    Attributes:
        sleep: Wait so many seconds; must move `monotonic` on by as many.
        monotonic: Seconds of a clock that never goes back.
        now: Seconds since the epoch.
        random: A number in [0, 1).
    """

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    random: Callable[[], float] = random.random


class Secret(str):
    """A string whose repr is ``'***'``, so that no traceback with locals shows it."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "'***'"

    @classmethod
    def of(cls, value: object) -> Self:
        """Hide `value`, whatever it is; what is no string becomes an empty one."""
        return cls(value) if isinstance(value, str) else cls()


class ApiKey(Secret):
    """An API key, which shows itself only when it is sent."""

    __slots__ = ()

    def checked(self) -> Self:
        """Return the key if it can go into a header.

        Raises:
            ConfigurationError: It is empty or has characters that are not printable ASCII. The
                message does not show it.
        """
        if re.fullmatch(r"[!-~]+", self) is None:
            raise ConfigurationError(
                "api_key must be a string of printable ASCII without spaces or line breaks"
            )
        return self

    def redact(self, text: str) -> str:
        """Return `text` with every occurrence of the key replaced by ``***``."""
        return text.replace(self, "***")


def require_base_url(value: Secret) -> str:
    """Return `value`, without a trailing slash, if it is a base URL to which a key may be sent.

    Args:
        value: The URL, hidden for as long as it may have credentials in it.

    Raises:
        ConfigurationError: It is no http(s) URL with a host, it has credentials, a query or a
            fragment, or it would send the key in clear text to another machine.
    """
    expected = "base_url must be an http(s) URL with a host"
    problem = _base_url_problem(value)
    if problem:
        raise ConfigurationError(f"{expected}{problem}")
    return value.rstrip("/")


def _base_url_problem(value: str) -> str:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return ", got something else"
    if parts.scheme not in {"http", "https"} or not host or re.search(r"[\s\x00-\x1f]", value):
        return ", got something else"
    if parts.username is not None or parts.query or parts.fragment:
        return " and neither credentials, a query nor a fragment"
    if parts.scheme == "http" and not _is_loopback(host):
        return "; http:// would send the key in clear text, so it is for loopback hosts only"
    return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_header_text(name: str, value: object) -> str:
    """Return `value` if it can be a header's value: printable ASCII.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, str) or re.fullmatch(r"[ -~]+", value) is None:
        raise ConfigurationError(f"{name} must be printable ASCII and not empty")
    return value
