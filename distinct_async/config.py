"""Settings as frozen values, checked when they are made."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from distinct_async._checks import (
    Validator,
    instance_of,
    integer_from,
    is_callable,
    rate,
    require_statuses,
    seconds,
)
from distinct_async.errors import ConfigurationError

MIB: Final = 1024 * 1024

_POSITIVE_OR_NONE: Final[Validator] = attrs.validators.optional(seconds(positive=True))
_RATE_OR_NONE: Final[Validator] = attrs.validators.optional(rate())


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
            as in botocore's standard mode, so retries do not amplify an outage. Time refills it
            in ten minutes. 0 disables retries.
        outage_after: Seconds of probing without a success after which an outage is certain and
            its errors are `fatal`. Probing starts when the budget is exhausted and 8 requests in a
            row have failed; 100 in a row make it certain sooner.
        statuses: The HTTP statuses to retry, from 400 to 599.
    """

    attempts: int = attrs.field(default=5, validator=integer_from(1))
    base_delay: float = attrs.field(default=0.5, validator=seconds(positive=False))
    max_delay: float = attrs.field(default=20.0, validator=seconds(positive=False))
    max_retry_after: float = attrs.field(default=120.0, validator=seconds(positive=False))
    budget: int = attrs.field(default=500, validator=integer_from(0))
    outage_after: float = attrs.field(default=60.0, validator=seconds(positive=True))
    statuses: frozenset[int] = attrs.field(
        default=frozenset({408, 429, 500, 502, 503, 504}), converter=require_statuses
    )


@attrs.frozen(kw_only=True)
class Limits:
    """How much the client does at once.

    Attributes:
        concurrency: Maximum number of requests in flight, across everything the client does.
        reserved: How many of these slots only single calls may take, not walks and fan-outs.
        requests_per_second: Maximum number of attempts started per second, or None for no limit.
            A tenth of a second's worth may start at once.
        adaptive: Whether to learn the server's own limit from its 429s, and keep to it.
        max_body_bytes: Maximum length of a response body after decompression, bytes.

    Raises:
        ConfigurationError: A limit is unusable.
    """

    concurrency: int = attrs.field(default=16, validator=integer_from(1))
    reserved: int = attrs.field(default=0, validator=integer_from(0))
    requests_per_second: float | None = attrs.field(default=None, validator=_RATE_OR_NONE)
    adaptive: bool = attrs.field(default=True, validator=instance_of(bool))
    max_body_bytes: int = attrs.field(default=32 * MIB, validator=integer_from(1))

    def __attrs_post_init__(self) -> None:
        if self.reserved >= self.concurrency:
            raise ConfigurationError("reserved must be less than concurrency")


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long to wait, in seconds; None waits forever.

    The defaults suit a service: a server that accepts connections and never answers holds a slot
    for 10 s, while a page of 1,000 visits takes well under a second.

    Attributes:
        connect: For a connection, including TLS.
        read: Between two pieces of a response.
        attempt: For one HTTP attempt, once it holds a slot.
        total: For one request, from its first slot on: all attempts and the delays between them.
            Waiting for the first slot is not limited.
    """

    connect: float | None = attrs.field(default=5.0, validator=_POSITIVE_OR_NONE)
    read: float | None = attrs.field(default=10.0, validator=_POSITIVE_OR_NONE)
    attempt: float | None = attrs.field(default=30.0, validator=_POSITIVE_OR_NONE)
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

    sleep: Callable[[float], Awaitable[None]] = attrs.field(
        default=asyncio.sleep, validator=is_callable
    )
    monotonic: Callable[[], float] = attrs.field(default=time.monotonic, validator=is_callable)
    now: Callable[[], float] = attrs.field(default=time.time, validator=is_callable)
    random: Callable[[], float] = attrs.field(default=random.random, validator=is_callable)


@attrs.frozen(kw_only=True)
class Policy:
    """The settings a session follows.

    Attributes:
        retry: When to retry.
        limits: How much to do at once.
        timeouts: How long to wait.
        runtime: Sleep, clocks and randomness.
    """

    retry: RetryPolicy = attrs.field(default=RetryPolicy(), validator=instance_of(RetryPolicy))
    limits: Limits = attrs.field(default=Limits(), validator=instance_of(Limits))
    timeouts: Timeouts = attrs.field(default=Timeouts(), validator=instance_of(Timeouts))
    runtime: Runtime = attrs.field(default=Runtime(), validator=instance_of(Runtime))
