"""When failures are an outage, and who may start a touchpoint meanwhile, on a fake clock."""

import asyncio
from collections.abc import Callable

import pytest

from distinct_async import (
    ClientClosedError,
    ConfigurationError,
    DecodeError,
    DistinctError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    Runtime,
    ServerError,
    TransportError,
)
from distinct_async._health import Admission, Health, admit_all
from distinct_async._retry import RetryBudget
from distinct_async.testing import FakeClock
from tests.support.helpers import spin

POLICY = RetryPolicy()


class Patient:
    """A server's health, as told by its requests.

    Attributes:
        clock: Its clock.
        budget: The retry budget; exhausted at first.
        health: The health itself.
    """

    def __init__(self, clock: FakeClock, policy: RetryPolicy = POLICY) -> None:
        self.clock = clock
        self.budget = RetryBudget(policy.budget, clock.runtime.monotonic)
        self.exhaust()
        self.health = Health(policy, self.budget)

    def exhaust(self) -> None:
        while self.budget.spend():
            pass

    def fail(self, times: int = 1, *, every: float = 0.0) -> list[bool]:
        """Let requests fail, a time apart; return whether each error is fatal."""
        fatal: list[bool] = []
        for _ in range(times):
            self.clock.time += every
            self.health.failed(error := ServerError(503, attempts=1), self.clock.time)
            fatal.append(error.fatal)
        return fatal

    @property
    def doubtful(self) -> bool:
        return self.health.is_doubtful(self.clock.time)


@pytest.fixture
def patient(clock: FakeClock) -> Patient:
    return Patient(clock)


# --- Health


def test_eight_failures_in_a_row_and_no_budget_raise_doubt(patient: Patient) -> None:
    patient.fail(7)
    assert not patient.doubtful
    patient.health.succeeded()
    patient.fail(7)
    assert not patient.doubtful
    assert patient.fail() == [False]
    assert patient.doubtful
    patient.health.succeeded()
    assert not patient.doubtful


@pytest.mark.parametrize("budget", [0, 4, 500])
def test_while_the_budget_allows_retries_or_never_did_nothing_is_in_doubt(
    clock: FakeClock, budget: int
) -> None:
    patient = Patient(clock, RetryPolicy(budget=budget))
    clock.time += 3_600

    assert patient.fail(1_000, every=1) == [False] * 1_000
    assert not patient.doubtful


def test_failures_in_a_row_keep_time_from_paying_for_retries(patient: Patient) -> None:
    patient.fail(8)
    patient.fail(30, every=500)

    assert patient.doubtful
    assert not patient.budget.spend()
    patient.health.succeeded()
    patient.clock.time += 12
    assert patient.budget.spend()


def test_a_hundred_failures_in_a_row_are_an_outage(patient: Patient) -> None:
    assert patient.fail(101) == [False] * 99 + [True] * 2

    patient.health.succeeded()
    assert patient.fail() == [False]


@pytest.mark.parametrize("outage_after", [60.0, 5.0])
def test_doubt_that_lasts_is_an_outage(clock: FakeClock, outage_after: float) -> None:
    patient = Patient(clock, RetryPolicy(outage_after=outage_after))
    patient.fail(8)

    assert patient.fail(9, every=outage_after / 9 - 1e-6) == [False] * 9
    assert patient.fail(2, every=1) == [True, True]


def test_the_time_counts_from_the_failures_and_not_from_the_last_success(patient: Patient) -> None:
    patient.health.succeeded()
    patient.clock.time += 3_600
    patient.exhaust()

    # A server that wakes slowly may fail for a while, and is in order afterwards.
    assert patient.fail(40, every=1) == [False] * 40
    patient.health.succeeded()
    assert not patient.doubtful


def test_the_time_in_which_an_empty_budget_refills_ends_doubt(patient: Patient) -> None:
    patient.fail(8)
    patient.clock.time += 599
    assert patient.doubtful
    patient.clock.time += 1
    assert not patient.doubtful
    assert patient.budget.tokens == 500

    assert patient.fail(99) == [False] * 99
    assert not patient.doubtful


def test_a_new_prober_doubts_an_earlier_verdict(patient: Patient) -> None:
    assert patient.fail(100)[-1]
    patient.health.probe(patient.clock.time)
    assert patient.doubtful
    assert patient.fail(91) == [False] * 91
    assert patient.fail(2) == [True, True]


def test_time_in_which_nobody_probed_proves_no_outage(patient: Patient) -> None:
    patient.fail(8)
    patient.clock.time += 300
    patient.health.probe(patient.clock.time)

    assert patient.doubtful
    patient.fail(11, every=5)
    # Somebody who probes beside others gives them no further minute.
    patient.health.probe(patient.clock.time)
    assert patient.fail(1, every=5) == [True]


@pytest.mark.parametrize(
    ("error", "doubtful"),
    [
        (ServerError(503), True),
        (ServerError(520), True),
        (TransportError("broken"), True),
        (RequestTimeoutError("slow"), True),
        (DecodeError("cut", retryable=True), True),
        (NotFoundError(404), False),
        (ServerError(501), False),
        (DecodeError("wrong"), False),
    ],
)
def test_an_answer_that_no_outage_causes_is_a_sign_of_life(
    clock: FakeClock, error: DistinctError, doubtful: bool
) -> None:
    patient = Patient(clock, RetryPolicy(statuses={404, 520}))
    patient.fail(7)
    error.attempts = 1
    patient.health.failed(error, clock.time)
    patient.fail(7 if not doubtful else 0)

    assert patient.doubtful == doubtful


@pytest.mark.parametrize(
    "error",
    [
        ClientClosedError("closed", attempts=1),
        ConfigurationError("bad", attempts=1),
        RequestTimeoutError("no slot"),
        RateLimitError(429),
        NotFoundError(404),
    ],
)
def test_an_error_of_the_client_says_nothing_about_the_server(
    patient: Patient, error: DistinctError
) -> None:
    patient.fail(7)
    patient.health.failed(error, patient.clock.time)
    assert not patient.doubtful
    patient.fail(1)
    assert patient.doubtful


# --- Admission


class Sleeper:
    """A sleep that ends when the test says so.

    Attributes:
        sleeps: The seconds of every sleep.
        ended: Number of sleeps that ended or were cancelled.
    """

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self.ended = 0
        self._wake = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        try:
            await self._wake.wait()
        finally:
            self.ended += 1

    async def wake(self) -> None:
        self._wake.set()
        await spin(5)
        self._wake.clear()


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


def make_admission(
    patient: Patient, sleeper: Sleeper, *, random: float = 1.0, patience: float = 1e6
) -> Admission:
    runtime = Runtime(
        sleep=sleeper.sleep, monotonic=patient.clock.runtime.monotonic, random=lambda: random
    )
    return Admission(patient.health, runtime, patience=patience)


async def test_without_doubt_everybody_is_admitted_at_once(
    patient: Patient, sleeper: Sleeper
) -> None:
    admission = make_admission(patient, sleeper)
    patient.fail(7)
    for _ in range(50):
        # Nothing waits for the end of these.
        await admission.admit()
        await admit_all()

    assert sleeper.sleeps == []


async def test_in_doubt_one_is_admitted_after_the_other(patient: Patient, sleeper: Sleeper) -> None:
    admission = make_admission(patient, sleeper)
    patient.fail(8)
    admitted: list[Callable[[], None]] = []

    async def enter() -> None:
        admitted.append(await admission.admit())

    waiting = [asyncio.create_task(enter()) for _ in range(3)]
    for number in range(3):
        await spin()
        assert len(sleeper.sleeps) == number + 1
        assert len(admitted) == number
        await sleeper.wake()
        await spin()
        assert len(admitted) == number + 1
        assert len(sleeper.sleeps) == number + 1
        admitted[-1]()
        # Calling it again must not end the probe of somebody else.
        await spin()
        admitted[-1]()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("random", [0.0, 1.0])
async def test_the_pauses_double_up_to_five_seconds(
    patient: Patient, sleeper: Sleeper, random: float
) -> None:
    admission = make_admission(patient, sleeper, random=random)

    async def probe(times: int) -> list[float]:
        sleeper.sleeps.clear()
        for _ in range(times):
            probing = asyncio.create_task(admission.admit())
            await spin(5)
            await sleeper.wake()
            (await probing)()
        return [seconds / (1 + random) * 2 for seconds in sleeper.sleeps]

    patient.fail(8)
    assert await probe(7) == [0.5, 1, 2, 4, 5, 5, 5]
    admission.observe("value")
    patient.fail(8)
    assert await probe(2) == [0.5, 1]


async def test_a_success_admits_all_who_wait_even_during_a_pause(
    patient: Patient, sleeper: Sleeper
) -> None:
    admission = make_admission(patient, sleeper)
    patient.fail(8)
    before = asyncio.all_tasks()
    waiting = [asyncio.create_task(admission.admit()) for _ in range(5)]
    await spin()
    admission.observe(ServerError(503, attempts=1))
    await spin()
    assert not any(task.done() for task in waiting)

    admission.observe(NotFoundError(404, attempts=1))
    ends = await asyncio.gather(*waiting)

    assert (len(sleeper.sleeps), sleeper.ended) == (1, 1)
    assert asyncio.all_tasks() == before
    for end in ends:
        end()


async def test_a_cancelled_pause_lets_the_next_one_probe(
    patient: Patient, sleeper: Sleeper
) -> None:
    admission = make_admission(patient, sleeper)
    patient.fail(8)
    first, second, third = (asyncio.create_task(admission.admit()) for _ in range(3))
    await spin()
    second.cancel()
    first.cancel()
    await spin()
    assert first.cancelled()
    assert second.cancelled()
    assert (len(sleeper.sleeps), sleeper.ended) == (2, 1)

    await sleeper.wake()
    await third


async def test_a_probe_that_never_ends_is_not_waited_for_for_ever(
    patient: Patient, sleeper: Sleeper
) -> None:
    admission = make_admission(patient, sleeper, patience=0)
    patient.fail(8)
    probing = asyncio.create_task(admission.admit())
    await spin(5)
    await sleeper.wake()
    stuck = await probing

    others = [asyncio.create_task(admission.admit()) for _ in range(2)]
    async with asyncio.timeout(60):
        while len(sleeper.sleeps) < 3:  # noqa: ASYNC110 - no event marks the change
            await asyncio.sleep(0)
    stuck()
    await sleeper.wake()
    await asyncio.gather(*others)


def test_after_a_reset_another_event_loop_can_probe(patient: Patient) -> None:
    admission = Admission(patient.health, patient.clock.runtime)
    patient.fail(8)

    async def probe() -> None:
        # This probe never ends, and the loop's end cancels the wait for it.
        await admission.admit()
        waiting = asyncio.create_task(admission.admit())
        await spin()
        assert not waiting.done()

    asyncio.run(probe())
    admission.reset()
    asyncio.run(probe())

    assert len(patient.clock.sleeps) == 2


async def test_an_exception_of_the_sleep_passes(patient: Patient) -> None:
    async def fail(_: float) -> None:
        raise KeyError("bug")

    runtime = Runtime(sleep=fail, monotonic=patient.clock.runtime.monotonic)
    admission = Admission(patient.health, runtime)
    patient.fail(8)
    for _ in range(2):
        with pytest.raises(KeyError, match="bug"):
            await admission.admit()
