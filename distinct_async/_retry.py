"""When to retry: a pure decision, a budget, and tenacity to act on both.

Knows no HTTP: an attempt returns a value, or a `DistinctError` that says whether it is retryable.
"""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final, TypeVar, cast

import attrs
from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from distinct_async.config import RetryPolicy, Runtime
from distinct_async.errors import DistinctError, StatusError

T = TypeVar("T")

RETRY_COST: Final = 5
REFILL_SECONDS: Final = 600.0
"""How long an empty budget takes to refill by time alone."""

_SUCCESS_REFUND: Final = 1


def decide_delay(
    policy: RetryPolicy, error: DistinctError, attempt: int, *, random: Callable[[], float]
) -> float | None:
    """Decide how many seconds to wait after a failed attempt; None gives up.

    The delay has full jitter (AWS Architecture Blog, "Exponential Backoff and Jitter", 2015). A
    Retry-After (RFC 9110, section 10.2.3) that asks for more is honoured, with jitter on top so
    that clients do not all return at once.

    Args:
        policy: The policy.
        error: The failed attempt's error.
        attempt: The attempt's number, counted from 1.
        random: Returns a number in [0, 1).
    """
    if not is_retryable(policy, error) or attempt >= policy.attempts:
        return None
    # Cap the exponent: 2.0 ** 1024 overflows a float.
    ceiling = min(policy.max_delay, policy.base_delay * 2.0 ** min(attempt - 1, 64))
    backoff = random() * ceiling
    retry_after = error.retry_after if isinstance(error, StatusError) else None
    if retry_after is None:
        return backoff
    if retry_after > policy.max_retry_after:
        return None
    return max(backoff, retry_after) + random() * min(policy.base_delay, policy.max_delay)


def is_retryable(policy: RetryPolicy, error: DistinctError) -> bool:
    """Return whether another attempt may succeed; for a status, the policy decides."""
    if isinstance(error, StatusError):
        return error.status in policy.statuses
    return error.retryable


@attrs.define(eq=False)
class RetryBudget:
    """Tokens shared by all requests of a client, so that retries do not amplify an outage.

    As in botocore's standard mode, a retry costs 5 tokens, and a success refunds the cost of its
    last retry, or 1 token if it had none, up to the capacity. Time refills the budget as well, so
    that a service that makes few requests is not left without retries.

    Args:
        capacity: Maximum number of tokens, and their number at first.
        monotonic: Returns the time, seconds on a clock that never goes back.
    """

    capacity: int
    _monotonic: Callable[[], float]
    _tokens: float = attrs.field(init=False)
    _counted_at: float = attrs.field(init=False)
    _suspended_until: float = attrs.field(default=-inf, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.capacity
        self._counted_at = self._monotonic()

    @property
    def tokens(self) -> int:
        """The tokens left now."""
        self._refill()
        return int(self._tokens)

    @property
    def exhausted(self) -> bool:
        """Whether the budget allowed retries at first, and allows none now."""
        return self.tokens < RETRY_COST <= self.capacity

    def spend(self) -> bool:
        """Pay for a retry; return whether there were enough tokens."""
        if self.tokens < RETRY_COST:
            return False
        self._tokens -= RETRY_COST
        return True

    def refund(self, *, retried: bool) -> None:
        """Refund tokens for a success."""
        refund = RETRY_COST if retried else _SUCCESS_REFUND
        self._tokens = min(self.capacity, self._tokens + refund)

    def suspend_refill(self, seconds: float) -> None:
        """Let the time from now on refill nothing, unless `seconds` pass without a further call."""
        self._refill()
        self._counted_at = self._monotonic()
        self._suspended_until = self._counted_at + seconds

    def resume_refill(self) -> None:
        """Let time refill the budget again, from now on."""
        self._refill()
        self._counted_at = self._monotonic()
        self._suspended_until = -inf

    def _refill(self) -> None:
        now = self._monotonic()
        if now >= self._suspended_until:
            gained = (now - self._counted_at) * self.capacity / REFILL_SECONDS
            self._tokens = min(self.capacity, self._tokens + gained)
            self._counted_at = now


@attrs.frozen(eq=False)
class Retrier:
    """Runs attempts until one succeeds, or the policy, the budget or the deadline ends them."""

    policy: RetryPolicy
    runtime: Runtime
    budget: RetryBudget

    async def run(
        self,
        attempt: Callable[[int], Awaitable[T | DistinctError]],
        *,
        deadline: Callable[[], float | None] = lambda: None,
    ) -> T | DistinctError:
        """Return the first value, or the last attempt's error.

        Args:
            attempt: Makes one attempt, given its number; returns its error rather than raise it.
            deadline: Returns when to give up, seconds on the clock of `Runtime.monotonic`, or
                None. A delay that would end later is not started.
        """
        first = outcome = await attempt(1)
        # Most calls end here, and tenacity costs as much processor time as half a request.
        if self._should_retry(first):
            outcome = await self._retry(first, attempt, deadline())
        if not isinstance(outcome, DistinctError):
            self.budget.refund(retried=outcome is not first)
        return outcome

    async def _retry(
        self,
        first: T | DistinctError,
        attempt: Callable[[int], Awaitable[T | DistinctError]],
        deadline: float | None,
    ) -> T | DistinctError:
        call = _Call(self, deadline)
        # One per call: concurrent calls that share an AsyncRetrying mix up their states.
        retrying = AsyncRetrying(
            retry=retry_if_result(self._should_retry),
            wait=call.delay,
            stop=call.is_over,
            sleep=self.runtime.sleep,
            retry_error_callback=_last_result,
        )

        async def numbered() -> T | DistinctError:
            number = retrying.statistics["attempt_number"]
            return first if number == 1 else await attempt(number)

        outcome: T | DistinctError = await retrying(numbered)
        return outcome

    def _should_retry(self, outcome: object) -> bool:
        return isinstance(outcome, DistinctError) and is_retryable(self.policy, outcome)


@attrs.frozen(eq=False, repr=False)
class _Call:
    """The callbacks tenacity makes after a failed attempt: first `delay`, then `is_over`."""

    retrier: Retrier
    deadline: float | None

    def delay(self, state: RetryCallState) -> float:
        error = cast("DistinctError", _last_result(state))
        policy, random = self.retrier.policy, self.retrier.runtime.random
        delay = decide_delay(policy, error, state.attempt_number, random=random)
        return float("inf") if delay is None else delay

    def is_over(self, state: RetryCallState) -> bool:
        delay = state.upcoming_sleep
        if delay == float("inf"):
            return True
        if self.deadline is not None and self.retrier.runtime.monotonic() + delay >= self.deadline:
            return True
        return not self.retrier.budget.spend()


def _last_result(state: RetryCallState) -> Any:
    return state.outcome and state.outcome.result()
