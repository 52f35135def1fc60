"""A small version of every row that `python -m benchmarks.faults` measures at full size."""

import asyncio

import pytest

from tests.support import survival
from tests.support.faults import MIB
from tests.support.raw_server import reply
from tests.support.survival import BodyFigures, LeftoverFigures, page_body

pytestmark = pytest.mark.slow


async def test_a_walk_through_every_fault_loses_and_repeats_nothing() -> None:
    figures = await survival.walk_through_faults(visits=12_000, page_size=20, seed=1)

    assert (figures.delivered, figures.lost, figures.repeated) == (12_000, 0, 0)
    assert figures.wrong_offsets == figures.leaks == 0
    assert figures.gave_up > 5
    assert figures.spoilt > 100


async def test_a_walk_that_gives_up_all_the_time_arrives_all_the_same() -> None:
    figures = await survival.walk_through_faults(
        visits=1_500, page_size=10, seed=2, rate=0.5, attempts=1
    )

    assert (figures.delivered, figures.lost, figures.repeated) == (1_500, 0, 0)
    assert figures.wrong_offsets == figures.leaks == 0
    assert figures.gave_up > 50


async def test_single_calls_succeed_through_faults() -> None:
    figures = await survival.single_calls(calls=1_000, seed=1)

    assert figures.succeeded + figures.failures.total() == figures.calls == 1_000
    assert figures.failures["wrong"] == figures.leaks == 0
    assert figures.succeeded >= 995
    assert 1_150 < figures.requests <= 1_300


async def test_an_outage_is_not_multiplied() -> None:
    figures = await survival.outage(calls=1_000)

    assert figures.succeeded == figures.failures["wrong"] == figures.leaks == 0
    assert figures.failures.total() == 1_000
    # The budget of 500 tokens pays for 100 retries, however many calls there are.
    assert figures.requests == 1_100


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
async def test_no_cut_gives_a_wrong_or_an_empty_page(encoding: str) -> None:
    body = page_body("tp", 0, 2, total=2, page_size=50)
    right = await survival.whole_page(body)

    figures = await survival.damaged(survival.cut_bodies(body, encoding), right)

    # Without gzip's trailer the data are whole; a checksum is all that is missing.
    trailer = 5 * 8 if encoding == "gzip" else 0
    assert figures.tried > 700
    assert figures.wrong == figures.leaks == 0
    assert figures.right <= trailer
    assert figures.refused == figures.tried - figures.right


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_no_spoilt_byte_gives_a_wrong_page(encoding: str) -> None:
    body = page_body("tp", 0, 2, total=2, page_size=50)
    right = await survival.whole_page(body)

    figures = await survival.damaged(survival.spoilt_bodies(body, encoding), right)

    # Of gzip's head, the time, the flags and the system mean nothing for the data.
    assert figures.right <= (10 if encoding == "gzip" else 0)
    assert figures == BodyFigures(
        tried=figures.tried, right=figures.right, refused=figures.tried - figures.right
    )
    assert figures.tried > 100


async def test_walks_cancelled_at_random_leave_nothing() -> None:
    async def settle() -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    figures = await survival.cancelled_walks(walks=40, seed=1, settle=settle)

    assert figures == LeftoverFigures(
        finished=figures.finished, tasks=0, held_slots=0, file_descriptors=0
    )
    assert figures.finished < 20


def test_arbitrary_responses_give_values_or_our_errors() -> None:
    outcomes = survival.arbitrary_responses(examples=300, number=1)

    assert outcomes["leak"] == 0
    assert outcomes.keys() <= {"leak", "a value", "DecodeError", "StatusError", "TransportError"}
    assert min(outcomes["a value"], outcomes["DecodeError"], outcomes["TransportError"]) > 20


async def test_bodies_without_end_are_refused_in_bounded_memory() -> None:
    figures = await survival.refused_bodies(size=100 * MIB)

    assert figures.refused == 5
    assert figures.bytes_above <= 48 * MIB


async def test_closing_ends_a_hundred_requests_in_flight() -> None:
    assert (await survival.closing(requests=100)).ended == 100


async def test_walks_end_when_they_are_cancelled() -> None:
    assert (await survival.cancelling()).ended == 3


async def test_the_first_success_after_an_outage() -> None:
    # On an injected clock: the longest delay of 20 seconds, and the second before asking again.
    assert 1 < await survival.recovery(outages=10, seed=1) <= 21


# --- The experiments themselves: they would notice


async def test_a_lost_and_a_repeated_visit_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def misplaced(touchpoint_id: str, offset: int, stop: int, **counts: int) -> bytes:
        shift = {40: 10, 60: -5}.get(offset, 0)
        body = page_body(touchpoint_id, offset + shift, stop + shift, **counts)
        told = b'"offset":%d,' % (offset + shift)
        return body.replace(told, b'"offset":%d,' % offset)

    monkeypatch.setattr(survival, "page_body", misplaced)
    figures = await survival.walk_through_faults(visits=100, page_size=20, seed=1, rate=0)

    assert (figures.delivered, figures.lost, figures.repeated) == (100, 15, 15)


async def test_a_wrong_page_is_noticed() -> None:
    right = await survival.whole_page(page_body("tp", 0, 2, total=2, page_size=50))
    other = page_body("tp", 0, 3, total=3, page_size=50)

    figures = await survival.damaged(iter([reply(other)]), right)

    assert figures == BodyFigures(tried=1, wrong=1)
