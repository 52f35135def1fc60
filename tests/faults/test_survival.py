"""The experiments of `python -m benchmarks.faults`, at a small size."""

import pytest

from tests.support import survival
from tests.support.faults import MIB
from tests.support.helpers import spin
from tests.support.raw_server import reply
from tests.support.survival import BodyFigures, LeftoverFigures, page_body
from tests.support.survival import server as survival_server

pytestmark = pytest.mark.slow


async def test_a_walk_through_every_fault_loses_and_repeats_nothing() -> None:
    figures = await survival.walk_through_faults(visits=12_000, page_size=20, seed=1)

    assert (figures.delivered, figures.lost, figures.repeated) == (12_000, 0, 0)
    assert figures.wrong_offsets == figures.leaks == 0
    assert figures.gave_up > 5
    assert figures.spoilt > 100


async def test_a_walk_resumed_after_frequent_errors_delivers_everything_once() -> None:
    figures = await survival.walk_through_faults(
        visits=1_500, page_size=10, seed=2, rate=0.5, attempts=1
    )

    assert (figures.delivered, figures.lost, figures.repeated) == (1_500, 0, 0)
    assert figures.wrong_offsets == figures.leaks == 0
    assert figures.gave_up > 50


async def test_single_calls_succeed_despite_faults() -> None:
    figures = await survival.single_calls(calls=1_000, seed=1)

    assert figures.succeeded + figures.failures.total() == figures.calls == 1_000
    assert figures.failures["wrong"] == figures.leaks == 0
    assert figures.succeeded >= 995
    assert 1_150 < figures.requests <= 1_300


async def test_retries_do_not_multiply_the_requests_of_an_outage() -> None:
    figures = await survival.outage(calls=1_000)

    assert figures.succeeded == figures.failures["wrong"] == figures.leaks == 0
    assert figures.failures.total() == 1_000
    # The budget of 500 tokens pays for 100 retries, regardless of the number of calls, and for a
    # few more that time refills before 8 calls have failed.
    assert 1_100 <= figures.requests <= 1_110


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
async def test_no_truncated_body_is_read_as_a_wrong_page(encoding: str) -> None:
    body = page_body("tp", 0, 2, total=2, page_size=50)
    right = await survival.whole_page(body)

    figures = await survival.damaged(survival.cut_bodies(body, encoding), right)

    # A cut inside gzip's trailer loses only the checksum and the length, not the data.
    trailer = 5 * 8 if encoding == "gzip" else 0
    assert figures.tried > 700
    assert figures.wrong == figures.leaks == 0
    assert figures.right <= trailer
    assert figures.refused == figures.tried - figures.right


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_no_body_with_an_inverted_byte_is_read_as_a_wrong_page(encoding: str) -> None:
    body = page_body("tp", 0, 2, total=2, page_size=50)
    right = await survival.whole_page(body)

    figures = await survival.damaged(survival.spoilt_bodies(body, encoding), right)

    # The time, flags and system in gzip's header do not affect the data.
    assert figures.right <= (10 if encoding == "gzip" else 0)
    assert figures == BodyFigures(
        tried=figures.tried, right=figures.right, refused=figures.tried - figures.right
    )
    assert figures.tried > 100


async def test_walks_cancelled_at_random_moments_leave_nothing() -> None:
    async def settle() -> None:
        await spin(100)

    figures = await survival.cancelled_walks(walks=40, seed=1, settle=settle)

    assert figures == LeftoverFigures(
        finished=figures.finished, tasks=0, held_slots=0, file_descriptors=0
    )
    assert figures.finished < 20


def test_an_arbitrary_response_yields_a_value_or_one_of_our_errors() -> None:
    outcomes = survival.arbitrary_responses(examples=300, number=1)

    assert outcomes["leak"] == 0
    assert outcomes.keys() <= {"leak", "a value", "DecodeError", "StatusError", "TransportError"}
    assert min(outcomes["a value"], outcomes["DecodeError"], outcomes["TransportError"]) > 20


async def test_oversized_bodies_are_refused_in_bounded_memory() -> None:
    figures = await survival.refused_bodies(size=100 * MIB)

    assert figures.refused == 5
    assert figures.bytes_above <= 48 * MIB


async def test_closing_ends_a_hundred_requests_in_flight() -> None:
    assert (await survival.closing(requests=100)).ended == 100


async def test_cancelling_ends_walks_in_flight_asleep_and_waiting() -> None:
    assert (await survival.cancelling()).ended == 3


async def test_the_client_recovers_soon_after_an_outage() -> None:
    # On an injected clock: the longest delay is 20 seconds, and the caller pauses for one.
    assert 1 < await survival.recovery(outages=10, seed=1) <= 21


# --- The experiments detect errors


async def test_the_walk_experiment_counts_lost_and_repeated_visits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def misplaced(touchpoint_id: str, offset: int, stop: int, **counts: int) -> bytes:
        body = page_body(touchpoint_id, offset, stop, **counts)
        # Only what is amid a page can be wrong without being noticed where pages meet.
        for i in range(45, 50):
            body = body.replace(b'"visit-%d"' % i, b'"visit-%d"' % (i - 5))
        return body

    monkeypatch.setattr(survival_server, "page_body", misplaced)
    figures = await survival.walk_through_faults(visits=100, page_size=20, seed=1, rate=0)

    assert (figures.delivered, figures.lost, figures.repeated) == (100, 5, 5)


async def test_the_damage_experiment_counts_wrong_pages() -> None:
    right = await survival.whole_page(page_body("tp", 0, 2, total=2, page_size=50))
    other = page_body("tp", 0, 3, total=3, page_size=50)

    figures = await survival.damaged(iter([reply(other)]), right)

    assert figures == BodyFigures(tried=1, wrong=1)
