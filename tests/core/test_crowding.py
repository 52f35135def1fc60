"""Crowded, broken or down: what a 503 without Retry-After means."""

from distinct_async._crowding import Crowding


def test_a_single_503_means_nothing() -> None:
    crowding = Crowding()
    crowding.succeeded(0)

    assert not crowding.explains(0.1, in_flight=16)


def test_503s_amid_successes_mean_that_the_server_is_crowded() -> None:
    crowding = Crowding()
    for now in (0.0, 0.1, 0.2):
        crowding.succeeded(now)

    assert [crowding.explains(0.3, in_flight=4) for _ in range(3)] == [False, True, True]
    assert crowding.explains(1.2, in_flight=1)


def test_every_tenth_503_means_that_something_is_broken() -> None:
    crowding = Crowding()
    for number in range(1_000):
        if number % 10:
            crowding.succeeded(number)
        else:
            assert not crowding.explains(number, in_flight=16)


def test_every_fifth_means_that_the_server_is_crowded() -> None:
    crowding = Crowding()
    explained = 0
    for number in range(100):
        if number % 5:
            crowding.succeeded(number / 100)
        else:
            explained += crowding.explains(number / 100, in_flight=16)

    assert explained > 10


def test_before_any_success_one_pause_is_worth_a_try() -> None:
    crowding = Crowding()

    assert [crowding.explains(0, in_flight=16) for _ in range(4)] == [False, True, False, False]
    crowding.succeeded(5)
    # A server that goes down later gets another one.
    assert [crowding.explains(9, in_flight=2) for _ in range(3)] == [True, False, False]


def test_one_request_at_a_time_is_no_crowd() -> None:
    crowding = Crowding()

    assert not any(crowding.explains(0, in_flight=1) for _ in range(9))
