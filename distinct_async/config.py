"""Settings as frozen values, checked when they are made."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from distinct_async._checks import Validator, integer_from, seconds

MIB: Final = 1024 * 1024

_POSITIVE_OR_NONE: Final[Validator] = attrs.validators.optional(seconds(positive=True))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When to retry, and how long to wait before it.

    The delay before retry n is drawn from U(0, min(max_delay, base_delay · 2ⁿ⁻¹)), the "full
    jitter" of the AWS Architecture Blog ("Exponential Backoff and Jitter", 2015). A Retry-After
    that asks for a longer delay is honoured.

    Attributes:
        attempts: Maximum number of HTTP attempts per request, including the first.
        base_delay: Upper bound of the first delay, seconds.
        max_delay: Upper bound of every drawn delay, seconds.
        max_retry_after: Longest Retry-After to wait for, seconds; a longer one is raised.
        budget: Tokens in the client's retry budget. A retry costs 5 and a success refunds some,
            as in botocore's standard mode, so retries do not amplify an outage. 0
            disables retries.
    """

    attempts: int = attrs.field(default=5, validator=integer_from(1))
    base_delay: float = attrs.field(default=0.5, validator=seconds(positive=False))
    max_delay: float = attrs.field(default=20.0, validator=seconds(positive=False))
    max_retry_after: float = attrs.field(default=120.0, validator=seconds(positive=False))
    budget: int = attrs.field(default=500, validator=integer_from(0))


@attrs.frozen(kw_only=True)
class Limits:
    """How much the client does at once.

    Attributes:
        concurrency: Maximum number of requests in flight, across everything the client does.
        requests_per_second: Maximum number of attempts started per second, or None for no limit.
            A tenth of a second's worth may start at once.
        max_body_bytes: Maximum length of a response body after decompression, bytes.
    """

    concurrency: int = attrs.field(default=16, validator=integer_from(1))
    requests_per_second: float | None = attrs.field(default=None, validator=_POSITIVE_OR_NONE)
    max_body_bytes: int = attrs.field(default=32 * MIB, validator=integer_from(1))


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long to wait, in seconds; None waits forever.

    Attributes:
        connect: For a connection, including TLS.
        read: Between two pieces of a response.
        attempt: For one HTTP attempt, once it holds a slot.
        total: For one request: all attempts, delays and waiting.
    """

    connect: float | None = attrs.field(default=10.0, validator=_POSITIVE_OR_NONE)
    read: float | None = attrs.field(default=30.0, validator=_POSITIVE_OR_NONE)
    attempt: float | None = attrs.field(default=60.0, validator=_POSITIVE_OR_NONE)
    total: float | None = attrs.field(default=300.0, validator=_POSITIVE_OR_NONE)


@attrs.frozen(kw_only=True)
class Runtime:
    """Sleep, clocks and randomness, replaceable so that tests are fast and deterministic.

    Attributes:
        sleep: Waits for a number of seconds and advances `monotonic` by as much.
        monotonic: Seconds on a clock that never goes back.
        now: Seconds since the epoch.
        random: A number in [0, 1).
    """

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    random: Callable[[], float] = random.random
