import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distinct_async._pace import Pace


def no_jitter() -> float:
    return 0.0


@pytest.fixture
def pace() -> Pace:
    return Pace(random=no_jitter)


def admit(pace: Pace, count: int, now: float) -> None:
    """Start attempts at once, and have all of them admitted."""
    for ticket in [pace.start(now) for _ in range(count)]:
        pace.succeed(ticket)


def refuse(pace: Pace, count: int, now: float) -> None:
    """Start attempts at once, and have each of them refused 20 ms later."""
    for ticket in [pace.start(now) for _ in range(count)]:
        pace.throttle(ticket, now + 0.02)


def blast(pace: Pace, *, admitted: int = 5, refused: int = 11, now: float = 0.0) -> None:
    admit(pace, admitted, now)
    refuse(pace, refused, now)


def run(pace: Pace, *, admits: float, now: float, until: float) -> float:
    """Start attempts as soon as they may; end each at once, every one within a rate admitted."""
    tokens, at = 1.0, now
    while now < until:
        now += pace.delay(now)
        tokens = min(5.0, tokens + (now - at) * admits)
        at = now
        ticket = pace.start(now)
        if tokens >= 1:
            tokens -= 1
            pace.succeed(ticket)
        else:
            pace.throttle(ticket, now, retry_after=1.0)
        now += 1e-6
    return now


def test_nothing_is_limited_before_the_first_refusal(pace: Pace) -> None:
    for now in range(100):
        assert pace.delay(now / 1000) == 0.0
        pace.succeed(pace.start(now / 1000))

    assert pace.rate is None
    assert pace.paused_until == -math.inf


def test_retry_after_pauses_all(pace: Pace) -> None:
    ticket = pace.start(0.0)
    pace.throttle(ticket, 0.02, retry_after=1.0)

    assert pace.paused_until == 1.02
    assert pace.delay(0.02) == 1.0
    assert pace.delay(1.02) == 0.0


def test_the_longest_pause_holds(pace: Pace) -> None:
    ticket = pace.start(0.0)
    pace.throttle(ticket, 0.02, retry_after=3.0)
    pace.throttle(ticket, 0.03, retry_after=1.0)

    assert pace.paused_until == 3.02


@pytest.mark.parametrize("retry_after", [None, 0.0, -5.0])
def test_a_refusal_without_a_time_pauses_a_little(pace: Pace, retry_after: float | None) -> None:
    for ticket in [pace.start(0.0) for _ in range(16)]:
        pace.throttle(ticket, 0.02, retry_after=retry_after)

    assert pace.paused_until == pytest.approx(0.12)


def test_pauses_have_jitter() -> None:
    pace = Pace(random=lambda: 1.0)
    pace.throttle(pace.start(0.0), 0.0, retry_after=1.0)

    assert pace.paused_until == pytest.approx(1.025)


def test_few_refusals_without_a_time_are_ignored(pace: Pace) -> None:
    for now in range(100):
        admit(pace, 9, now / 10)
        refuse(pace, 1, now / 10)

    assert pace.rate is None
    assert pace.delay(10.0) == 0.0


def test_many_refusals_without_a_time_are_not(pace: Pace) -> None:
    admit(pace, 9, 0.0)
    refuse(pace, 8, 0.1)

    assert pace.delay(0.12) == pytest.approx(0.1)


def test_after_the_first_refusal_the_rate_is_what_the_burst_can_have_regained(pace: Pace) -> None:
    blast(pace)
    now = pace.paused_until
    assert pace.rate is None

    pace.start(now)

    assert pace.rate == pytest.approx(5 / 0.1 + 1 / 0.3)
    assert pace.delay(now) == pytest.approx(1 / (5 / 0.1 + 1 / 0.3))


def test_a_refusal_of_the_very_first_attempt_is_a_burst_of_one(pace: Pace) -> None:
    pace.throttle(pace.start(0.0), 0.02, retry_after=1.0)
    pace.start(1.02)

    assert pace.rate == pytest.approx(1 + 1 / 3)


def test_the_burst_is_that_of_the_last_second(pace: Pace) -> None:
    for now in range(10):
        admit(pace, 2, float(now))
    admit(pace, 1, 9.5)
    pace.throttle(pace.start(9.6), 9.6, retry_after=1.0)
    pace.start(10.6)

    assert pace.rate == pytest.approx(3 + 1)


def test_attempts_admitted_after_the_first_refusal_are_no_burst(pace: Pace) -> None:
    first, second = pace.start(0.0), pace.start(0.0)
    pace.throttle(first, 0.02, retry_after=1.0)
    pace.succeed(second)
    pace.succeed(0.025)
    pace.start(1.02)

    assert pace.rate == pytest.approx(4 / 3 / 1.0, rel=0.1)


def test_the_rate_is_learned_from_two_refusals(pace: Pace) -> None:
    admit(pace, 5, 0.0)
    pace.throttle(pace.start(0.0), 0.02, retry_after=1.0)

    run(pace, admits=50, now=1.02, until=10)

    assert pace.rate == pytest.approx(50, rel=0.1)


def test_a_limit_that_rises_is_followed(pace: Pace) -> None:
    admit(pace, 5, 0.0)
    pace.throttle(pace.start(0.0), 0.02, retry_after=1.0)
    now = run(pace, admits=50, now=1.02, until=10)

    run(pace, admits=500, now=now, until=45)

    assert pace.rate == pytest.approx(500, rel=0.2)


def test_late_refusals_belong_to_the_episode(pace: Pace) -> None:
    late = pace.start(0.0)
    blast(pace)
    now = pace.paused_until
    for _ in range(30):
        now += pace.delay(now)
        pace.succeed(pace.start(now))
    rate, paused = pace.rate, pace.paused_until

    pace.throttle(late, now)
    assert (pace.rate, pace.paused_until) == (rate, paused)

    pace.throttle(late, now, retry_after=2.0)
    assert pace.paused_until == now + 2.0
    pace.start(now + 2.0)
    assert pace.rate is not None
    assert rate is not None
    assert pace.rate >= rate


def test_pauses_grow_while_nothing_is_admitted(pace: Pace) -> None:
    pauses = []
    now = 0.0
    for _ in range(60):
        pace.throttle(pace.start(now), now)
        pauses.append(pace.delay(now))
        now = pace.paused_until

    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(0.1)
    assert pauses[20] > 2
    assert pauses[-1] == 20.0


def test_after_an_outage_the_known_rate_is_soon_reached(pace: Pace) -> None:
    admit(pace, 5, 0.0)
    pace.throttle(pace.start(0.0), 0.02, retry_after=1.0)
    now = run(pace, admits=50, now=1.02, until=20)
    for _ in range(15):
        now = max(now, pace.paused_until)
        pace.throttle(pace.start(now), now)

    now = pace.paused_until
    pace.start(now)
    assert pace.rate is not None
    assert pace.rate < 5
    run(pace, admits=50, now=now, until=now + 10)
    assert pace.rate == pytest.approx(50, rel=0.1)


def test_the_rate_grows_only_while_it_is_what_limits(pace: Pace) -> None:
    blast(pace)
    now = pace.paused_until
    pace.start(now)
    rate = pace.rate

    for second in range(1, 100):
        pace.start(now + second)

    assert pace.rate == rate


def test_lateness_is_made_up_for_within_the_burst(pace: Pace) -> None:
    blast(pace)
    now = pace.paused_until
    pace.start(now)
    now += pace.delay(now)
    pace.start(now + 0.001)
    assert pace.rate is not None

    assert pace.delay(now) == pytest.approx(1 / pace.rate, rel=0.1)


def test_cancelled_attempts_are_no_evidence(pace: Pace) -> None:
    for now in range(100):
        pace.cancel(pace.start(now / 1000), now / 1000)

    assert pace.rate is None
    assert pace.delay(1.0) == 0.0


@pytest.mark.parametrize(("ceiling", "at_once"), [(50.0, 5), (5.0, 1), (0.5, 1)])
@pytest.mark.parametrize("adaptive", [True, False])
def test_a_ceiling_lets_a_tenth_of_a_second_start_at_once(
    ceiling: float, at_once: int, *, adaptive: bool
) -> None:
    pace = Pace(ceiling=ceiling, adaptive=adaptive)
    started = 0
    while pace.delay(7.0) == 0.0:
        pace.start(7.0)
        started += 1

    assert started == at_once
    assert pace.delay(7.0) == pytest.approx(1 / ceiling)
    assert pace.rate == ceiling


def test_a_ceiling_holds_for_a_minute() -> None:
    pace = Pace(ceiling=50)
    now, started = 0.0, 0
    while now < 60:
        now += pace.delay(now)
        pace.succeed(pace.start(now))
        started += 1

    assert started == pytest.approx(50 * 60 + 5, abs=2)


def test_the_learned_rate_stays_below_the_ceiling() -> None:
    pace = Pace(ceiling=20, random=no_jitter)
    blast(pace)
    now = run(pace, admits=50, now=pace.paused_until, until=30)

    assert pace.rate == 20
    blast(pace, admitted=0, refused=20, now=now)
    pace.start(pace.paused_until)
    assert pace.rate is not None
    assert pace.rate < 20


def test_without_learning_only_what_the_server_asks_for_is_kept() -> None:
    pace = Pace(adaptive=False)
    blast(pace)
    assert pace.delay(0.02) == 0.0

    pace.throttle(pace.start(1.0), 1.0, retry_after=2.0)

    assert pace.delay(1.0) == 2.0
    pace.start(3.0)
    assert pace.rate is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "succeed", "throttle", "cancel"]),
        st.floats(0, 100),
        st.sampled_from([None, -1.0, 0.0, 0.5, 60.0]),
    ),
    max_size=60,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(STEPS, st.sampled_from([None, 0.01, 20.0]), st.booleans())
def test_no_order_of_events_stops_it(
    steps: list[tuple[str, float, float | None]], ceiling: float | None, adaptive: bool
) -> None:
    pace = Pace(ceiling=ceiling, adaptive=adaptive)
    now = 0.0
    tickets: list[float] = []
    for step, seconds, retry_after in steps:
        now += seconds
        if step == "start":
            delay = pace.delay(now)
            assert 0.0 <= delay <= 100.0 + 1e-9
            now += delay
            assert pace.delay(now) == pytest.approx(0.0, abs=1e-9)
            tickets.append(pace.start(now))
        elif tickets and step == "succeed":
            pace.succeed(tickets.pop())
        elif tickets and step == "throttle":
            pace.throttle(tickets.pop(), now, retry_after=retry_after)
        elif tickets:
            pace.cancel(tickets.pop(), now)
    assert pace.rate is None or pace.rate >= 0.01


def test_many_episodes_with_hardly_anything_admitted_leave_a_rate() -> None:
    """As in an outage, where some answers are 429 and the others no success."""
    pace = Pace(random=lambda: 0.5)
    now = 0.0
    for _ in range(500):
        now += pace.delay(now)
        pace.succeed(pace.start(now))
        now += pace.delay(now)
        pace.throttle(pace.start(now), now)
        assert pace.delay(now) <= 25

    assert pace.rate is not None
    assert pace.rate >= 0.04
