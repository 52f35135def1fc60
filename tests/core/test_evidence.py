"""`Admissions`: when the attempts that a server admitted were started."""

from distinct_async._evidence import Admissions


def admissions(*starts: float) -> Admissions:
    counted = Admissions()
    for start in starts:
        counted.add(start)
    return counted


def test_each_window_counts_the_attempts_from_its_start_to_the_end() -> None:
    counted = admissions(1.0, 1.1, 1.1, 1.2, 1.3)

    assert [*counted.windows(1.05, 1.25)] == [(1.1, 3), (1.2, 1)]


def test_attempts_count_by_their_start_and_not_by_the_order_of_their_ends() -> None:
    counted = admissions(1.3, 1.1, 1.2, 1.1)

    assert [*counted.windows(0, 2)] == [(1.1, 4), (1.2, 2), (1.3, 1)]


def test_attempts_within_20_ms_share_a_window_that_starts_with_the_first() -> None:
    counted = admissions(1.015, 1.012, 1.019, 1.021)

    assert [*counted.windows(0, 2)] == [(1.012, 4), (1.021, 1)]


def test_only_the_last_ten_seconds_are_kept() -> None:
    counted = admissions(*((number * 2 + 1) / 100 for number in range(5_000)))

    windows = [*counted.windows(0, 200)]
    assert len(windows) == windows[0][1] == 512
    assert windows[0][0] == 89.77


def test_without_attempts_there_is_no_window() -> None:
    assert [*admissions().windows(0, 9)] == []
