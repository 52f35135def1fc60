"""The error tree: messages, context, pickling and groups."""

import copy
import pickle
from typing import Any

import pytest

from distinct_async import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    DecodeError,
    DistinctError,
    ExportError,
    FanOutError,
    IncompleteListError,
    ListChangedError,
    NotFoundError,
    PaginationError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    RepeatedPageError,
    RequestTimeoutError,
    ServerError,
    StatusError,
    TransportError,
    errors,
)

SAMPLES: list[DistinctError] = [
    ConfigurationError("bad"),
    ClientClosedError("closed"),
    TransportError("broken", retryable=False),
    RequestTimeoutError("late"),
    StatusError(418, "teapot", request_id="r-1", body_excerpt="{}", retry_after=2.5),
    BadRequestError(400),
    AuthenticationError(401),
    PermissionDeniedError(403),
    NotFoundError(404, "Experience not found"),
    RateLimitError(429, retry_after=7),
    ServerError(503),
    RedirectError(302),
    DecodeError("expected a string", path="data.x", excerpt="7", retryable=True),
    PaginationError("odd"),
    RepeatedPageError(50, 0),
    ListChangedError("the list changed", offset=9),
    IncompleteListError(10, 5),
    ExportError("No space left on device", "/to/visits"),
]


def test_the_samples_cover_the_error_tree() -> None:
    classes = {value for value in vars(errors).values() if isinstance(value, type)}
    tree = {cls for cls in classes if issubclass(cls, DistinctError)}

    assert {type(error) for error in SAMPLES} | {DistinctError, FanOutError} == tree
    assert all(cls.__name__ in (errors.__doc__ or "") for cls in tree)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling_and_copying(error: DistinctError, protocol: int) -> None:
    error.touchpoint_id, error.next_offset, error.attempts = "tp-1", 150, 3

    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)


def test_the_message_includes_the_context() -> None:
    error = NotFoundError(404, "Touchpoint not found")
    assert str(error) == "the server answered 404: Touchpoint not found"

    error.touchpoint_id, error.next_offset, error.attempts = "tp\n1", 0, 2
    assert str(error).endswith(r"[touchpoint_id='tp\n1', next_offset=0, attempts=2]")


def test_a_configuration_error_is_a_value_error() -> None:
    assert isinstance(ConfigurationError("bad"), ValueError)


@pytest.mark.parametrize(
    ("error", "hint"),
    [(PermissionDeniedError(403), "allow-list"), (AuthenticationError(401), "API key")],
)
def test_an_access_error_hints_at_the_fix(error: DistinctError, hint: str) -> None:
    assert hint in str(error)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 405, 409, 501, 505])
def test_a_permanent_status_is_not_retryable(status: int) -> None:
    assert not StatusError(status).retryable


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_status_is_retryable(status: int) -> None:
    assert StatusError(status).retryable


def test_only_errors_that_affect_every_request_are_fatal() -> None:
    fatal = {type(error) for error in SAMPLES if error.fatal}

    assert fatal == {ClientClosedError, AuthenticationError, PermissionDeniedError}


@pytest.fixture
def group() -> FanOutError:
    missing, broken = NotFoundError(404), TransportError("broken")
    missing.touchpoint_id, broken.touchpoint_id = "tp-1", "tp-2"
    broken.next_offset = 50
    group = FanOutError("2 of 9 touchpoints failed", [missing, broken])
    group.started = 9
    return group


def test_a_fan_out_error_maps_touchpoints_to_their_failures(group: FanOutError) -> None:
    assert list(group.failures) == ["tp-1", "tp-2"]
    assert group.failures["tp-2"].next_offset == 50
    assert str(group).startswith("2 of 9 touchpoints failed")


def test_the_lowest_offset_wins_if_a_touchpoint_failed_twice() -> None:
    errors = [NotFoundError(404) for _ in range(4)]
    for error, offset in zip(errors, [50, None, 0, 100], strict=True):
        error.touchpoint_id, error.next_offset = "tp-1", offset
    errors[1].touchpoint_id = None

    assert FanOutError("failed", errors).failures == {"tp-1": errors[2]}


def test_except_star_splits_a_fan_out_error_by_type(group: FanOutError) -> None:
    caught: list[Any] = []
    try:
        raise group
    except* NotFoundError as part:
        caught.append(part)
    except* TransportError as part:
        caught.append(part)

    assert [type(part) for part in caught] == [FanOutError, FanOutError]
    assert [list(part.failures) for part in caught] == [["tp-1"], ["tp-2"]]
    assert [part.started for part in caught] == [9, 9]


def test_a_fan_out_error_survives_pickling(group: FanOutError) -> None:
    twin = pickle.loads(pickle.dumps(group))

    assert str(twin) == str(group)
    assert twin.started == group.started
    assert {k: str(v) for k, v in twin.failures.items()} == {
        k: str(v) for k, v in group.failures.items()
    }
