"""When to retry: a pure decision, a budget, and tenacity to act on both.

Knows no HTTP: an attempt returns a value, or a `DistinctError` that says whether it is retryable.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import attrs
from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from distinct_async.config import RetryPolicy, Runtime
from distinct_async.errors import DistinctError, StatusError

T = TypeVar("T")

RETRY_COST: Final = 5
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
    if not error.retryable or attempt >= policy.attempts:
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


@attrs.define(eq=False)
class RetryBudget:
    """Tokens shared by all requests of a client, so that retries do not amplify an outage.

    As in botocore's standard mode, a retry costs 5 tokens, and a success refunds the cost of its
    last retry, or 1 token if it had none, up to the capacity.
    """

    capacity: int
    tokens: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = self.capacity

    def spend(self) -> bool:
        """Pay for a retry; return whether there were enough tokens."""
        if self.tokens < RETRY_COST:
            return False
        self.tokens -= RETRY_COST
        return True

    @property
    def exhausted(self) -> bool:
        """Whether the budget allowed retries at first, and allows none now."""
        return self.tokens < RETRY_COST <= self.capacity

    def refund(self, *, retried: bool) -> None:
        """Refund tokens for a success."""
        self.tokens = min(self.capacity, self.tokens + (RETRY_COST if retried else _SUCCESS_REFUND))


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
        deadline: float | None = None,
    ) -> T | DistinctError:
        """Return the first value, or the last attempt's error.

        Args:
            attempt: Makes one attempt, given its number; returns its error rather than raise it.
            deadline: When to give up, seconds on the clock of `Runtime.monotonic`. A delay that
                would end later is not started.
        """
        first = outcome = await attempt(1)
        # Most calls end here, and tenacity costs as much processor time as half a request.
        if _is_retryable(first):
            outcome = await self._retry(first, attempt, deadline)
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
            retry=retry_if_result(_is_retryable),
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
        if self.retrier.budget.spend():
            return False
        error = cast("DistinctError", _last_result(state))
        error.fatal = self.retrier.budget.exhausted
        return True


def _is_retryable(outcome: object) -> bool:
    return isinstance(outcome, DistinctError) and outcome.retryable


def _last_result(state: RetryCallState) -> Any:
    return state.outcome and state.outcome.result()
