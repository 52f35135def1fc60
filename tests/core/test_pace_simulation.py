"""`Pace` against limiters of all kinds, in simulated time."""

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distinct_async._pace import Pace
from tests.support.limiters import (
    RETRY_AFTER,
    Broken,
    Changing,
    Client,
    ConcurrencyLimit,
    FixedWindow,
    Limiter,
    SlidingWindow,
    TokenBucket,
    World,
    figures,
    long_run,
    shared,
    simulate,
)

each_answer = pytest.mark.parametrize("retry_after", ["none", "zero", "one", "exact", "ceil"])
log_uniform = st.floats(0, 1)


@settings(max_examples=10, derandomize=True, deadline=None)
@given(log_uniform, log_uniform, st.sampled_from(sorted(RETRY_AFTER)))
def test_every_bucket_is_used_well(rate: float, burst: float, retry_after: str) -> None:
    size = 600**burst + 1
    bucket = TokenBucket(300**rate, size)

    outcome = long_run(bucket, burst=size, retry_after=retry_after)

    assert outcome.use >= 0.8
    assert outcome.late <= 0.1


@pytest.mark.parametrize("retry_after", ["zero", "one", "exact"])
@pytest.mark.parametrize(("rate", "burst"), [(10, 10), (50, 5), (50, 1000), (100, 30)])
def test_a_bucket_is_used_to_85_percent(rate: float, burst: float, retry_after: str) -> None:
    outcome = long_run(TokenBucket(rate, burst), burst=burst, retry_after=retry_after)

    assert outcome.use >= 0.85
    assert outcome.late <= 0.05


@pytest.mark.slow
@each_answer
def test_nearly_every_bucket_is_used_to_85_percent(retry_after: str) -> None:
    outcomes = [
        long_run(TokenBucket(rate, burst), burst=burst, retry_after=retry_after)
        for rate in (1, 3, 10, 30, 100, 300, 1000)
        for burst in (1, 2, 3, 5, 10, 30, 100, 300, 1000)
    ]

    assert max(outcome.late for outcome in outcomes) <= 0.1
    # A burst of one admits no attempt that is early, and a burst of many seconds hides the rate.
    well = [outcome.use >= 0.85 for outcome in outcomes]
    assert sum(well) >= 0.95 * len(outcomes)
    assert min(outcome.use for outcome in outcomes) >= 0.7


@each_answer
@pytest.mark.parametrize(
    ("kind", "limit", "window"),
    [(FixedWindow, 60, 60), (FixedWindow, 100, 10), (SlidingWindow, 60, 60)],
)
def test_windows_are_used(
    kind: type[FixedWindow] | type[SlidingWindow], limit: int, window: float, retry_after: str
) -> None:
    outcome = long_run(kind(limit, window), burst=limit, window=window, retry_after=retry_after)

    assert outcome.use >= 0.8
    assert outcome.late <= 0.1


@pytest.mark.parametrize("jitter", [0.0, 0.5])
@pytest.mark.parametrize("latency", [0.005, 0.02])
@pytest.mark.parametrize("retry_after", ["none", "one"])
def test_the_rate_is_found_with_few_refusals(
    retry_after: str, latency: float, jitter: float
) -> None:
    outcome = simulate(
        TokenBucket(50, 5), requests=500, retry_after=retry_after, latency=latency, jitter=jitter
    )

    # 75 % of the limit are 13.3 s, in which a third refusal that costs a second does not fit.
    assert outcome.seconds <= 13.3
    assert outcome.refused <= 30


@pytest.mark.parametrize("burst", [1, 10])
@each_answer
def test_a_slow_limit_refuses_few_in_a_row(burst: int, retry_after: str) -> None:
    outcome = simulate(TokenBucket(1, burst), requests=60, retry_after=retry_after)

    assert outcome.admitted == 60
    # The first wave, and less than one more for each request that follows the burst.
    assert outcome.refused <= 40
    assert outcome.seconds <= 60 / 0.7


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("retry_after", ["none", "zero"])
def test_a_concurrency_limit_costs_less_than_the_ideal_again(
    retry_after: str, jitter: float
) -> None:
    outcome = simulate(ConcurrencyLimit(4), requests=500, retry_after=retry_after, jitter=jitter)

    assert outcome.seconds <= 2 * 500 / 200


def test_a_long_latency_needs_many_in_flight() -> None:
    outcome = long_run(TokenBucket(50, 5), burst=5, latency=0.2)

    assert outcome.use >= 0.85


@pytest.mark.parametrize("retry_after", ["none", "one"])
@pytest.mark.parametrize(("before", "after"), [(50, 500), (100, 10)])
def test_a_limit_that_changes_is_found_again(before: int, after: int, retry_after: str) -> None:
    client = Client(Pace(random=random.Random(1).random))
    limiter = Changing(((0, TokenBucket(before, 10)), (60, TokenBucket(after, 10))))
    world = World(limiter, [client], retry_after=retry_after)

    world.run(110)

    late = [time for time in client.admitted if time > 85]
    assert len(late) / (world.now - 85) >= 0.8 * after
    assert sum(time > 70 for time in client.refused) <= 0.1 * sum(t > 70 for t in client.starts)


@pytest.mark.parametrize("retry_after", ["none", "one"])
@pytest.mark.parametrize("clients", [2, 8])
def test_clients_share_a_limit(clients: int, retry_after: str) -> None:
    outcomes = [
        shared(TokenBucket(50, 5), clients, until=120, since=20, retry_after=retry_after, seed=seed)
        for seed in range(1, 200, 12)
    ]

    assert min(outcome.use for outcome, _ in outcomes) >= 0.8
    # Some client is unlucky in some runs, so the median counts.
    assert statistics.median(min(shares) for _, shares in outcomes) * clients >= 0.15


def test_idle_times_are_no_reason_to_go_faster() -> None:
    idle = tuple((start, start + 20.0) for start in range(20, 200, 40))
    client = Client(Pace(random=random.Random(1).random), idle=idle)
    world = World(TokenBucket(50, 5), [client], retry_after="one")

    world.run(200)

    assert len(client.admitted) >= 0.8 * 50 * 100
    assert len(client.refused) <= 0.02 * len(client.starts)


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_few_refusals_that_no_rate_explains_cost_little(share: float) -> None:
    client = Client(Pace(random=random.Random(1).random))
    world = World(Broken(share), [client])

    world.run(20)

    assert len(client.starts) >= 0.5 * 20 * 800


def test_an_outage_is_probed_ever_more_slowly_and_then_left_fast() -> None:
    client = Client(Pace(random=random.Random(1).random))
    nothing: Limiter = Broken(1.0)
    world = World(
        Changing(((0, TokenBucket(50, 5)), (60, nothing), (180, TokenBucket(50, 5)))), [client]
    )

    world.run(240)

    assert sum(61 < time < 180 for time in client.starts) <= 30
    assert sum(time > 210 for time in client.admitted) >= 0.85 * 50 * 30


def test_the_figures_count_what_was_refused_late() -> None:
    outcome = simulate(FixedWindow(10, 1), requests=20)

    assert outcome.admitted == 20
    assert outcome.late == 0.0
    assert figures(World(TokenBucket(1, 1), [])).use == 0.0
