"""The endpoint's queries and shapes, as the API document has them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from distinct_async import (
    ConfigurationError,
    DecodeError,
    ExperienceMetrics,
    Touchpoint,
    TouchpointPage,
    TouchpointSummary,
    UserMetrics,
    UserTouchpoint,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async._wire import touchpoint_metrics as endpoint
from distinct_async._wire.protocol import Request
from tests.wire.replies import error_in, make_reply

Example = Callable[[str], bytes]
ExampleJSON = Callable[[str], Any]

TOTAL, UNIQUE = VisitsType.TOTAL, VisitsType.UNIQUE
REQUESTS: dict[str, Request[Any]] = {
    "experience": endpoint.experience_metrics("exp-1"),
    "user": endpoint.user_metrics("exp-1", "user-1"),
    "touchpoint_total": endpoint.visit_page("tp-1", visits_type=TOTAL),
    "touchpoint_unique": endpoint.visit_page("tp-1", visits_type=UNIQUE),
}


def at(day: int) -> datetime:
    return datetime(2024, 1, day, 10, tzinfo=UTC)


# --- The document's examples


def test_the_experience_example_is_decoded(example: Example) -> None:
    entry = TouchpointSummary("tp-1", "Entry Scan", "entry_scan", 3, 2)
    leave = TouchpointSummary("tp-2", "Exit Scan", "exit_scan", 1, 1)
    reply = make_reply(example("experience"))

    assert REQUESTS["experience"].decode(reply) == ExperienceMetrics(2, (entry, leave))
    page_at = endpoint.touchpoint_pages("exp-1")
    assert page_at(7, None).decode(reply) == TouchpointPage(2, (entry, leave), 7)
    assert page_at(None, None).decode(reply) == TouchpointPage(2, (entry, leave), 0)


def test_the_user_example_is_decoded(example: Example) -> None:
    touchpoint = UserTouchpoint("tp-1", "Entry Scan", "entry_scan", 2, (at(1), at(3)))

    decoded = REQUESTS["user"].decode(make_reply(example("user")))

    assert decoded == UserMetrics(2, (touchpoint,))


@pytest.mark.parametrize(
    ("name", "visits_type", "total", "visits"),
    [
        ("touchpoint_total", TOTAL, 3, [("user-1", 1), ("user-2", 2), ("user-1", 3)]),
        ("touchpoint_unique", UNIQUE, 2, [("user-1", 1), ("user-2", 2)]),
    ],
)
def test_the_touchpoint_examples_are_decoded(
    example: Example, name: str, visits_type: VisitsType, total: int, visits: list[tuple[str, int]]
) -> None:
    page = VisitPage(
        touchpoint=Touchpoint("tp-1", "Entry Scan", "entry_scan"),
        visits_type=visits_type,
        total=total,
        items=tuple(Visit(user, at(day)) for user, day in visits),
        offset=0,
        page_size=50,
    )

    assert REQUESTS[name].decode(make_reply(example(name))) == page


# --- Requests


@pytest.mark.parametrize(
    ("request_", "query"),
    [
        (endpoint.experience_metrics("e"), "metricsType=EXPERIENCE&experienceId=e"),
        (
            endpoint.experience_metrics("e", offset=0, page_size=50),
            "metricsType=EXPERIENCE&experienceId=e&offset=0&pageSize=50",
        ),
        (
            endpoint.touchpoint_pages("e")(50, 10),
            "metricsType=EXPERIENCE&experienceId=e&offset=50&pageSize=10",
        ),
        (endpoint.user_metrics("e", "u"), "metricsType=USER&experienceId=e&userId=u"),
        (
            endpoint.visit_page("t", visits_type=TOTAL),
            "metricsType=TOUCHPOINT&touchpointId=t&visitsType=TOTAL",
        ),
        (
            endpoint.visit_page("t", visits_type=UNIQUE, experience_id="e", offset=3, page_size=1),
            (
                "metricsType=TOUCHPOINT&touchpointId=t&experienceId=e&visitsType=UNIQUE"
                "&offset=3&pageSize=1"
            ),
        ),
        (
            endpoint.visit_pages("t", visits_type=TOTAL)(0, None),
            "metricsType=TOUCHPOINT&touchpointId=t&visitsType=TOTAL&offset=0",
        ),
    ],
)
def test_each_request_has_the_documents_path_and_query(request_: Request[Any], query: str) -> None:
    assert request_.path == "/v3/touchpoint/metrics"
    assert request_.query == query


def test_a_request_names_its_touchpoint_and_experience_for_errors() -> None:
    total = endpoint.visit_page("tp-1", visits_type=TOTAL, experience_id="exp-1")
    assert (total.touchpoint_id, total.experience_id) == ("tp-1", "exp-1")

    for request in (
        REQUESTS["experience"],
        REQUESTS["user"],
        endpoint.touchpoint_pages("exp-1")(0, 1),
    ):
        assert (request.touchpoint_id, request.experience_id) == (None, "exp-1")


@pytest.mark.parametrize(
    "odd", ["../x", "a&b=c", "a?b#c", "ä ö+ü", "%2F", "a;b", "a\nb", "x" * 10_000]
)
def test_unusual_ids_are_encoded_reversibly(odd: str) -> None:
    for request, name in (
        (endpoint.user_metrics("e", odd), "userId"),
        (endpoint.user_metrics(odd, "u"), "experienceId"),
        (endpoint.visit_page(odd, visits_type=TOTAL), "touchpointId"),
    ):
        assert parse_qs(request.query, strict_parsing=True)[name] == [odd]
        assert request.query.isascii()
        assert not set(request.query) & set(" #?+\n")


@pytest.mark.parametrize("bad", ["", " ", "\n\t", None, 7, b"id", "\ud800"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("experience_id", endpoint.experience_metrics),
        ("experience_id", endpoint.touchpoint_pages),
        ("experience_id", lambda bad: endpoint.user_metrics(bad, "u")),
        ("user_id", lambda bad: endpoint.user_metrics("e", bad)),
        ("touchpoint_id", lambda bad: endpoint.visit_page(bad, visits_type=TOTAL)),
        ("touchpoint_id", lambda bad: endpoint.visit_pages(bad, visits_type=TOTAL)),
    ],
)
def test_an_unusable_id_is_named_in_the_error(name: str, make: Any, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} must "):
        make(bad)


@pytest.mark.parametrize("bad", [-1, 1.0, "1", True, pytest.param(-(10**5000), id="huge")])
@pytest.mark.parametrize("name", ["offset", "page_size"])
def test_an_unusable_page_parameter_is_named_in_the_error(name: str, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} must be"):
        endpoint.experience_metrics("e", **{name: bad})
    with pytest.raises(ConfigurationError, match=rf"^{name} must be"):
        endpoint.visit_page("t", visits_type=TOTAL, **{name: bad})


def test_a_page_size_is_at_least_one() -> None:
    with pytest.raises(ConfigurationError, match=r"^page_size must be at least 1"):
        endpoint.experience_metrics("e", page_size=0)
    with pytest.raises(ConfigurationError, match=r"^page_size must be at least 1"):
        endpoint.visit_page("t", visits_type=TOTAL, page_size=0)


# --- Strictness

TOUCHPOINT = "data.touchpoints"
ITEMS = f"{TOUCHPOINT}.totalVisitsDetails.items"
MISSING = object()
EMPTY: list[Any] = []
WRONG: list[tuple[str, Any]] = [
    *[("data", value) for value in (None, EMPTY, "x", 1, MISSING)],
    *[(TOUCHPOINT, value) for value in (None, EMPTY, "x", MISSING)],
    *[(f"{TOUCHPOINT}.id", value) for value in (None, 5, True, ["tp"], {}, MISSING)],
    *[(f"{TOUCHPOINT}.name", value) for value in (None, 1.5, MISSING)],
    *[(f"{TOUCHPOINT}.value", value) for value in (None, MISSING)],
    *[
        (f"{TOUCHPOINT}.totalVisits", value)
        for value in (None, 1.0, 1.5, True, False, "7", -1, 10**30, {}, [], MISSING)
    ],
    *[(f"{TOUCHPOINT}.totalVisitsDetails", value) for value in (None, EMPTY, MISSING)],
    *[(ITEMS, value) for value in (None, {}, "", "abc", {"a": 1}, MISSING)],
    *[(f"{ITEMS}[2]", value) for value in (None, "x", EMPTY, 1)],
    *[(f"{ITEMS}[1].userId", value) for value in (None, 7, True, MISSING)],
    *[
        (f"{ITEMS}[0].timestampUTC", value)
        for value in (
            *(None, 0, 1704103200, True, "", "now", "2024-01-01", "2024-01-01T10:00:00", MISSING),
            *("20240101T100000Z", "2024-W01-1T10:00:00Z"),
            "2024-01-01T100000+01",
            *("2024-13-01T10:00:00Z", "2024-02-30T10:00:00Z", "2024-01-01T25:00:00Z"),
            *("2024-01-01T10:00:00ZZ", " 2024-01-01T10:00:00Z", "0001-01-01T00:00:00+10:00"),
            "2024-01-01T10:00:0٣Z",
        )
    ],
    *[(f"{TOUCHPOINT}.totalVisitsDetails.pagination", value) for value in (None, EMPTY, MISSING)],
    *[
        (f"{TOUCHPOINT}.totalVisitsDetails.pagination.{name}", value)
        for name in ("offset", "pageSize")
        for value in (None, "0", 0.0, False, -1, MISSING)
    ],
    *[("statusCode", value) for value in (None, "200", 200.0, True, 201, 0, -404, 9999, MISSING)],
]


def replace_at(document: Any, path: str, value: Any) -> None:
    *parents, last = path.replace("[", ".[").split(".")
    for part in parents:
        document = document[int(part[1:-1]) if part.startswith("[") else part]
    key: Any = int(last[1:-1]) if last.startswith("[") else last
    if value is MISSING:
        del document[key]
    else:
        document[key] = value


def excerpt_of(value: Any) -> str:
    """Return what an error shows of a value."""
    if value is MISSING:
        return ""
    if isinstance(value, dict | list):
        return "{…}" if isinstance(value, dict) else "[…]"
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_a_wrong_value_is_located_and_shown(
    example_json: ExampleJSON, path: str, value: Any
) -> None:
    document = example_json("touchpoint_total")
    replace_at(document, path, value)

    error = error_in(REQUESTS["touchpoint_total"].decode(make_reply(document)), DecodeError)

    assert error.path == path
    assert not error.retryable
    assert path in str(error)
    if path == "statusCode":
        # The envelope itself is wrong, so the error shows the start of the whole body.
        assert error.excerpt.startswith("{")
    else:
        assert error.excerpt == excerpt_of(value)


OTHER_PATHS = [
    ("experience", "data.totalTouchpoints"),
    ("experience", "data.touchpoints"),
    ("experience", "data.touchpoints[1].uniqueVisits"),
    ("user", "data.touchpoints[0].timestampsUTC"),
    ("user", "data.touchpoints[0].timestampsUTC[1]"),
    ("user", "data.touchpoints[0].totalVisits"),
]


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        (name, path, value)
        for name, path in OTHER_PATHS
        for value in ("wrong", None, {}, {"a": 1}, 1.0, True, -1, 2**63, MISSING)
        # An array without its last item is a shorter array.
        if not (path.endswith("]") and value is MISSING)
    ],
)
def test_the_other_shapes_are_as_strict(
    example_json: ExampleJSON, name: str, path: str, value: Any
) -> None:
    document = example_json(name)
    replace_at(document, path, value)

    error = error_in(REQUESTS[name].decode(make_reply(document)), DecodeError)

    assert (error.path, error.excerpt) == (path, excerpt_of(value))
    assert ("is missing" if value is MISSING else "expected") in str(error)
    assert not error.retryable


@pytest.mark.parametrize("value", [None, 7, ["tp"], MISSING])
@pytest.mark.parametrize("name", ["experience", "user"])
def test_a_touchpoint_needs_its_texts(example_json: ExampleJSON, name: str, value: Any) -> None:
    for path in ("data.touchpoints[0].id", "data.touchpoints[0].name", "data.touchpoints[0].value"):
        document = example_json(name)
        replace_at(document, path, value)
        error = error_in(REQUESTS[name].decode(make_reply(document)), DecodeError)
        assert (error.path, error.excerpt) == (path, excerpt_of(value))


def test_pages_of_touchpoints_are_as_strict(example_json: ExampleJSON) -> None:
    document = example_json("experience")
    replace_at(document, "data.touchpoints[1]", "wrong")

    outcome = endpoint.touchpoint_pages("exp-1")(0, 50).decode(make_reply(document))

    assert error_in(outcome, DecodeError).path == "data.touchpoints[1]"


def test_a_page_of_the_other_visits_type_is_refused(example: Example) -> None:
    reply = make_reply(example("touchpoint_total"))

    error = error_in(REQUESTS["touchpoint_unique"].decode(reply), DecodeError)

    assert error.path == "data.touchpoints.uniqueVisits"


def test_a_deeply_nested_value_is_a_wrong_value(example_json: ExampleJSON) -> None:
    document = example_json("touchpoint_total")
    nested: list[Any] = []
    for _ in range(500):
        nested = [nested]
    replace_at(document, f"{TOUCHPOINT}.id", nested)

    error = error_in(REQUESTS["touchpoint_total"].decode(make_reply(document)), DecodeError)

    assert (error.path, error.excerpt) == (f"{TOUCHPOINT}.id", "[…]")


@pytest.mark.parametrize("size", [2**63 - 1, 2**63])
def test_counts_end_at_63_bits(example_json: ExampleJSON, size: int) -> None:
    experience, total = example_json("experience"), example_json("touchpoint_total")
    replace_at(experience, "data.totalTouchpoints", size)
    replace_at(total, f"{TOUCHPOINT}.totalVisits", size)
    metrics = REQUESTS["experience"].decode(make_reply(experience))
    page = REQUESTS["touchpoint_total"].decode(make_reply(total))

    if size < 2**63:
        assert isinstance(metrics, ExperienceMetrics)
        assert isinstance(page, VisitPage)
        assert (metrics.total_touchpoints, page.total) == (size, size)
    else:
        assert error_in(metrics, DecodeError).path == "data.totalTouchpoints"
        assert error_in(page, DecodeError).path == f"{TOUCHPOINT}.totalVisits"


def add_fields(value: Any) -> Any:
    if isinstance(value, dict):
        return {"new": [1]} | {k: add_fields(v) for k, v in value.items()} | {"_": {"x": None}}
    return [add_fields(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", REQUESTS)
def test_unknown_fields_are_ignored(example_json: ExampleJSON, name: str) -> None:
    document, decode = example_json(name), REQUESTS[name].decode

    assert decode(make_reply(add_fields(document))) == decode(make_reply(document))
