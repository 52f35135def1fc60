"""When to retry, how long to wait, and what the budget allows, on a fake clock."""

import asyncio
from typing import Any

import pytest

from distinct_async import (
    ConfigurationError,
    DistinctError,
    NotFoundError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from distinct_async._retry import Retrier, RetryBudget, decide_delay
from distinct_async.testing import FakeClock

POLICY = RetryPolicy(attempts=10, base_delay=0.5, max_delay=20, max_retry_after=120)
BROKEN = TransportError("broken")


def half() -> float:
    return 0.5


# --- The decision


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [(1, 0.25), (2, 0.5), (3, 1), (4, 2), (6, 8), (7, 10), (8, 10), (9, 10)],
)
def test_the_backoff_doubles_up_to_its_bound(attempt: int, expected: float) -> None:
    assert decide_delay(POLICY, BROKEN, attempt, random=half) == expected


def test_the_backoff_has_full_jitter() -> None:
    assert decide_delay(POLICY, BROKEN, 3, random=lambda: 0.0) == 0
    assert decide_delay(POLICY, BROKEN, 3, random=lambda: 0.999) == pytest.approx(2 * 0.999)


def test_the_backoff_does_not_overflow() -> None:
    policy = RetryPolicy(attempts=10_000)
    assert decide_delay(policy, BROKEN, 9_999, random=half) == 10


@pytest.mark.parametrize(
    ("error", "attempt"),
    [
        (TransportError("broken", retryable=False), 1),
        (ConfigurationError("bad"), 1),
        (BROKEN, 10),
        (BROKEN, 11),
        (RateLimitError(429, retry_after=120.1), 1),
        (ServerError(503, retry_after=121), 1),
        (ServerError(501), 1),
    ],
)
def test_no_delay_is_decided_for_an_error_that_is_final(error: DistinctError, attempt: int) -> None:
    assert decide_delay(POLICY, error, attempt, random=half) is None


@pytest.mark.parametrize(
    ("retry_after", "attempt", "expected"),
    [(0, 1, 0.25 + 0.25), (7, 1, 7.25), (120, 1, 120.25), (1, 9, 10.25), (None, 9, 10)],
)
def test_the_delay_is_the_longer_of_backoff_and_retry_after(
    retry_after: float | None, attempt: int, expected: float
) -> None:
    for error in (
        RateLimitError(429, retry_after=retry_after),
        ServerError(503, retry_after=retry_after),
    ):
        assert decide_delay(POLICY, error, attempt, random=half) == expected


# --- The budget


def test_a_budget_pays_for_retries_until_its_tokens_run_out() -> None:
    budget = RetryBudget(12, lambda: 0.0)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    assert budget.tokens == 2

    for _ in range(3):
        budget.refund(retried=False)
    assert budget.spend()
    budget.refund(retried=True)
    assert budget.tokens == 5

    for _ in range(9):
        budget.refund(retried=True)
    assert budget.tokens == budget.capacity == 12


def test_time_refills_a_budget_in_ten_minutes(clock: FakeClock) -> None:
    budget = RetryBudget(500, clock.runtime.monotonic)
    while budget.spend():
        pass
    assert (budget.tokens, budget.exhausted) == (0, True)

    clock.time += 5.9
    assert (budget.tokens, budget.spend()) == (4, False)
    clock.time += 0.2
    assert budget.spend()
    clock.time += 300
    assert budget.tokens == 250
    clock.time += 1e9
    assert budget.tokens == budget.capacity


def test_a_suspended_refill_gains_nothing_until_it_is_resumed(clock: FakeClock) -> None:
    budget = RetryBudget(500, clock.runtime.monotonic)
    while budget.spend():
        pass
    clock.time += 5
    for _ in range(20):
        budget.suspend_refill(60)
        clock.time += 59
    assert budget.tokens == 4

    budget.resume_refill()
    clock.time += 10
    assert budget.tokens == 12


@pytest.mark.parametrize("resumed", [False, True])
def test_a_suspension_that_runs_out_has_gained_all_its_time(
    clock: FakeClock, resumed: bool
) -> None:
    budget = RetryBudget(500, clock.runtime.monotonic)
    while budget.spend():
        pass
    budget.suspend_refill(300)
    clock.time += 301
    if resumed:
        budget.resume_refill()

    assert budget.tokens == 250


# --- Running attempts


class Attempts:
    """Replays outcomes, the last one for all further attempts, and records their numbers."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.numbers: list[int] = []

    async def __call__(self, number: int) -> Any:
        self.numbers.append(number)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, BaseException) and not isinstance(outcome, DistinctError):
            raise outcome
        return outcome


def make_retrier(clock: FakeClock, policy: RetryPolicy = POLICY) -> Retrier:
    return Retrier(policy, clock.runtime, RetryBudget(policy.budget, clock.runtime.monotonic))


async def test_the_first_success_is_returned(clock: FakeClock) -> None:
    attempts = Attempts(BROKEN, ServerError(503), "value")

    assert await make_retrier(clock).run(attempts) == "value"
    assert attempts.numbers == [1, 2, 3]
    assert len(clock.sleeps) == 2


async def test_the_last_error_is_returned_unchained(clock: FakeClock) -> None:
    attempts = Attempts(BROKEN, BROKEN, last := ServerError(503))

    outcome = await make_retrier(clock, RetryPolicy(attempts=3)).run(attempts)

    assert outcome is last
    assert (last.__cause__, last.__context__, last.__traceback__) == (None, None, None)
    assert attempts.numbers == [1, 2, 3]


async def test_a_permanent_error_is_not_retried(clock: FakeClock) -> None:
    attempts = Attempts(ServerError(501))

    assert isinstance(await make_retrier(clock).run(attempts), ServerError)
    assert (attempts.numbers, clock.sleeps) == ([1], [])


async def test_foreign_exceptions_pass_through(clock: FakeClock) -> None:
    attempts = Attempts(BROKEN, KeyError("bug"))

    with pytest.raises(KeyError, match="bug"):
        await make_retrier(clock).run(attempts)


async def test_the_budget_keeps_retries_from_multiplying_an_outage(clock: FakeClock) -> None:
    retrier, attempts = make_retrier(clock, RetryPolicy()), Attempts(BROKEN)
    for _ in range(10_000):
        await retrier.run(attempts)

    # Here all calls fail within the two minutes of their delays, so time refills little.
    assert 10_000 + 500 // 5 <= len(attempts.numbers) <= 10_000 * 1.02

    attempts.outcomes = ["value"]
    for _ in range(5):
        await retrier.run(attempts)
    attempts.outcomes = [BROKEN, "value"]
    assert await retrier.run(attempts) == "value"


@pytest.mark.parametrize("budget", [0, 4, 5, 12])
async def test_an_exhausted_budget_ends_retries_and_nothing_else(
    clock: FakeClock, budget: int
) -> None:
    retrier = make_retrier(clock, RetryPolicy(attempts=2, budget=budget))
    runs = [Attempts(ServerError(503)) for _ in range(4)]
    outcomes = [await retrier.run(run) for run in runs]

    retried = budget // 5
    assert [len(run.numbers) for run in runs] == [2] * retried + [1] * (4 - retried)
    assert not any(isinstance(outcome, ServerError) and outcome.fatal for outcome in outcomes)
    # A budget that never allowed a retry is no sign of an outage.
    assert retrier.budget.exhausted == (retried > 0)


async def test_the_policy_says_which_statuses_are_retried(clock: FakeClock) -> None:
    retrier = make_retrier(clock, RetryPolicy(attempts=2, statuses=frozenset({404, 520})))

    for error, attempts in (
        (NotFoundError(404), 2),
        (ServerError(520), 2),
        (ServerError(503), 1),
        (RateLimitError(429), 1),
        (BROKEN, 2),
    ):
        run = Attempts(error)
        assert await retrier.run(run) is error
        assert len(run.numbers) == attempts
    assert ServerError(503).retryable
    assert not ServerError(520).retryable


async def test_a_delay_that_would_end_after_the_deadline_is_not_started(clock: FakeClock) -> None:
    attempts = Attempts(RateLimitError(429, retry_after=10))

    deadline = clock.time + 25
    outcome = await make_retrier(clock).run(attempts, deadline=lambda: deadline)

    assert isinstance(outcome, RateLimitError)
    assert attempts.numbers == [1, 2, 3]
    assert all(10 <= delay <= 10.5 for delay in clock.sleeps)


async def test_concurrent_runs_do_not_share_state(clock: FakeClock) -> None:
    retrier = make_retrier(clock)
    runs = [Attempts(*[BROKEN] * failures, failures) for failures in range(8)]

    assert await asyncio.gather(*map(retrier.run, runs)) == list(range(8))
    assert [run.numbers for run in runs] == [list(range(1, n + 2)) for n in range(8)]
