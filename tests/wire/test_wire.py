import copy
import json
import pickle
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from distinct_async import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    DistinctError,
    ExperienceMetrics,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    ServerError,
    StatusError,
    Touchpoint,
    TouchpointPage,
    TouchpointSummary,
    UserMetrics,
    UserTouchpoint,
    Visit,
    VisitPage,
    VisitsType,
    wire,
)
from distinct_async.config import ApiKey

Example = Callable[[str], bytes]
ExampleJSON = Callable[[str], Any]
NOW = 1_700_000_000.0


def make_reply(
    body: bytes | Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> wire.Reply:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.Reply(status, CIMultiDict(headers or {}), encoded, ApiKey("canary"), NOW)


def decode_total(reply: wire.Reply) -> VisitPage:
    return wire.decode_visits(reply, VisitsType.TOTAL)


def at(day: int) -> datetime:
    return datetime(2024, 1, day, 10, tzinfo=UTC)


# --- The document's examples


def test_the_experience_example(example: Example) -> None:
    entry = TouchpointSummary("tp-1", "Entry Scan", "entry_scan", 3, 2)
    leave = TouchpointSummary("tp-2", "Exit Scan", "exit_scan", 1, 1)
    reply = make_reply(example("experience"))

    assert wire.decode_experience(reply) == ExperienceMetrics(2, (entry, leave))
    assert wire.decode_touchpoint_page(reply, 7) == TouchpointPage(2, (entry, leave), 7)


def test_the_user_example(example: Example) -> None:
    touchpoint = UserTouchpoint("tp-1", "Entry Scan", "entry_scan", 2, (at(1), at(3)))

    assert wire.decode_user(make_reply(example("user"))) == UserMetrics(2, (touchpoint,))


@pytest.mark.parametrize(
    ("name", "visits_type", "total", "visits"),
    [
        ("touchpoint_total", VisitsType.TOTAL, 3, [("user-1", 1), ("user-2", 2), ("user-1", 3)]),
        ("touchpoint_unique", VisitsType.UNIQUE, 2, [("user-1", 1), ("user-2", 2)]),
    ],
)
def test_the_touchpoint_examples(
    example: Example, name: str, visits_type: VisitsType, total: int, visits: list[tuple[str, int]]
) -> None:
    assert wire.decode_visits(make_reply(example(name)), visits_type) == VisitPage(
        touchpoint=Touchpoint("tp-1", "Entry Scan", "entry_scan"),
        visits_type=visits_type,
        total=total,
        items=tuple(Visit(user, at(day)) for user, day in visits),
        offset=0,
        page_size=50,
    )


@pytest.mark.parametrize(
    ("name", "error"), [("error_400", BadRequestError), ("error_404", NotFoundError)]
)
def test_the_error_examples(
    example: Example, example_json: ExampleJSON, name: str, error: type[StatusError]
) -> None:
    document = example_json(name)
    for status in (document["statusCode"], 200):
        with pytest.raises(error) as caught:
            wire.decode_experience(make_reply(example(name), status=status))

        assert type(caught.value) is error
        assert caught.value.message == document["message"]
        assert caught.value.status == document["statusCode"]


# --- Parameters


def test_the_query_of_each_kind_of_request() -> None:
    total, unique = VisitsType.TOTAL, VisitsType.UNIQUE
    made = [
        wire.experience_query("e"),
        wire.experience_query("e", offset=0, page_size=50),
        wire.user_query("e", "u"),
        wire.touchpoint_query("t", visits_type=total),
        wire.touchpoint_query("t", visits_type=unique, experience_id="e", offset=3, page_size=1),
    ]
    assert made == [
        "metricsType=EXPERIENCE&experienceId=e",
        "metricsType=EXPERIENCE&experienceId=e&offset=0&pageSize=50",
        "metricsType=USER&experienceId=e&userId=u",
        "metricsType=TOUCHPOINT&touchpointId=t&visitsType=TOTAL",
        (
            "metricsType=TOUCHPOINT&touchpointId=t&experienceId=e&visitsType=UNIQUE"
            "&offset=3&pageSize=1"
        ),
    ]


@pytest.mark.parametrize(
    "odd", ["../x", "a&b=c", "a?b#c", "ä ö+ü", "%2F", "a;b", "\n", "x" * 10_000]
)
def test_odd_ids_are_encoded_and_come_back(odd: str) -> None:
    if odd.strip():
        query = wire.user_query("e", odd)
        assert parse_qs(query, strict_parsing=True)["userId"] == [odd]
        assert query.isascii()
        assert not set(query) & set(" #?+\n")


@pytest.mark.parametrize("bad", ["", " ", "\n\t", None, 7, b"id", "\ud800"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("experience_id", wire.experience_query),
        ("experience_id", lambda bad: wire.user_query(bad, "u")),
        ("user_id", lambda bad: wire.user_query("e", bad)),
        ("touchpoint_id", lambda bad: wire.touchpoint_query(bad, visits_type=VisitsType.TOTAL)),
    ],
)
def test_unusable_ids_name_their_parameter(name: str, make: Any, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} must "):
        make(bad)


@pytest.mark.parametrize("bad", [-1, 1.0, "1", True, pytest.param(-(10**5000), id="huge")])
@pytest.mark.parametrize("name", ["offset", "page_size"])
def test_unusable_page_parameters_name_themselves(name: str, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} must be"):
        wire.experience_query("e", **{name: bad})
    with pytest.raises(ConfigurationError, match=rf"^{name} must be"):
        wire.touchpoint_query("t", visits_type=VisitsType.TOTAL, **{name: bad})


def test_a_page_has_at_least_one_item() -> None:
    with pytest.raises(ConfigurationError, match=r"^page_size must be at least 1"):
        wire.experience_query("e", page_size=0)


def test_visits_types_are_parsed() -> None:
    assert wire.parse_visits_type("UNIQUE") is VisitsType.UNIQUE
    assert wire.parse_visits_type(VisitsType.TOTAL) is VisitsType.TOTAL
    for bad in ("unique", "", None, 1):
        with pytest.raises(ConfigurationError, match=r"^visits_type must be") as caught:
            wire.parse_visits_type(bad)  # type: ignore[arg-type]
        assert caught.value.__context__ is None


# --- Strictness

TOUCHPOINT = "data.touchpoints"
ITEMS = f"{TOUCHPOINT}.totalVisitsDetails.items"
MISSING = object()
EMPTY: list[Any] = []
WRONG: list[tuple[str, Any]] = [
    *[("data", value) for value in (None, EMPTY, "x", 1)],
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


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_a_wrong_value_is_named_by_its_path(
    example_json: ExampleJSON, path: str, value: Any
) -> None:
    document = example_json("touchpoint_total")
    replace_at(document, path, value)

    with pytest.raises(DecodeError) as caught:
        decode_total(make_reply(document))

    assert caught.value.path == path
    assert not caught.value.retryable
    assert path in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("experience", "data.totalTouchpoints"),
        ("experience", "data.touchpoints"),
        ("experience", "data.touchpoints[1].uniqueVisits"),
        ("user", "data.touchpoints[0].timestampsUTC"),
        ("user", "data.touchpoints[0].timestampsUTC[1]"),
        ("user", "data.touchpoints[0].totalVisits"),
    ],
)
def test_the_other_shapes_are_as_strict(example_json: ExampleJSON, name: str, path: str) -> None:
    document = example_json(name)
    replace_at(document, path, "wrong")

    decoders: dict[str, Callable[[wire.Reply], object]] = {
        "experience": wire.decode_experience,
        "user": wire.decode_user,
    }
    with pytest.raises(DecodeError, match="expected") as caught:
        decoders[name](make_reply(document))

    assert caught.value.path == path


def test_the_other_visits_type_is_not_what_was_asked_for(example: Example) -> None:
    with pytest.raises(DecodeError) as caught:
        wire.decode_visits(make_reply(example("touchpoint_total")), VisitsType.UNIQUE)

    assert caught.value.path == "data.touchpoints.uniqueVisits"


def add_fields(value: Any) -> Any:
    if isinstance(value, dict):
        return {"new": [1]} | {k: add_fields(v) for k, v in value.items()} | {"_": {"x": None}}
    return [add_fields(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["touchpoint_total", "touchpoint_unique"])
def test_unknown_fields_are_ignored(example_json: ExampleJSON, name: str) -> None:
    document = example_json(name)
    kind = VisitsType(name.removeprefix("touchpoint_").upper())

    grown = wire.decode_visits(make_reply(add_fields(document)), kind)

    assert grown == wire.decode_visits(make_reply(document), kind)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-01T10:00:00Z", at(1)),
        ("2024-01-01T10:00:00+00:00", at(1)),
        ("2024-01-01T12:00:00+02:00", at(1)),
        ("2024-01-01T10:00:00.000Z", at(1)),
        ("2024-01-01 10:00:00z", at(1)),
        ("2024-01-01T10:00:00.123456Z", at(1).replace(microsecond=123456)),
        ("2024-01-01T04:30:00.5-05:30", at(1).replace(microsecond=500_000)),
    ],
)
@pytest.mark.parametrize("visits_type", VisitsType)
def test_timestamps_are_aware_and_utc(
    example_json: ExampleJSON, visits_type: VisitsType, text: str, expected: datetime
) -> None:
    name = visits_type.lower()
    document = example_json(f"touchpoint_{name}")
    replace_at(document, f"{TOUCHPOINT}.{name}VisitsDetails.items[0].timestampUTC", text)

    page = wire.decode_visits(make_reply(document), visits_type)

    timestamp = page.items[0].timestamp
    assert (timestamp, timestamp.tzinfo) == (expected, UTC)
    assert (page.total, page.visits_type) == (len(page.items), visits_type)


# --- At once, or field by field: the same

odd_texts = st.text(st.characters(exclude_categories=["Cs"]))
moments = st.datetimes(
    # Those of the first day would be none in UTC.
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - the zone is drawn
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)


def slowly(reply: wire.Reply) -> VisitPage:
    touchpoint = wire._structure(reply, wire._TotalVisits).touchpoints
    details = touchpoint.total_visits_details
    return wire._visit_page(touchpoint, VisitsType.TOTAL, touchpoint.total_visits, details)


@given(
    st.lists(st.tuples(odd_texts, moments.map(datetime.isoformat))),
    st.integers(0, 2**63 - 1),
    st.lists(st.sampled_from(["T", " ", "t"]), min_size=1),
)
def test_any_page_is_the_same_at_once_and_field_by_field(
    visits: list[tuple[str, str]], total: int, between: list[str]
) -> None:
    items = [
        {"userId": user, "timestampUTC": moment.replace("T", between[n % len(between)])}
        for n, (user, moment) in enumerate(visits)
    ]
    details = {"items": items, "pagination": {"offset": total, "pageSize": total}}
    touchpoint = {"id": "t", "name": "n", "value": "v", "totalVisits": total}
    data = {"touchpoints": touchpoint | {"totalVisitsDetails": details}}
    reply = make_reply({"statusCode": 200, "message": "ok", "data": data})

    page, at_once = decode_total(reply), wire._decode_at_once(reply, VisitsType.TOTAL)

    assert page == slowly(reply)
    assert at_once == (page if all("+05:30" not in moment for _, moment in visits) else None)
    assert {type(visit) for visit in page.items} <= {Visit}
    assert pickle.loads(pickle.dumps(page)) == page


@pytest.mark.parametrize(
    ("name", "visits_type"),
    [("touchpoint_total", VisitsType.TOTAL), ("touchpoint_unique", VisitsType.UNIQUE)],
)
def test_documented_pages_are_decoded_at_once(
    example: Example, name: str, visits_type: VisitsType
) -> None:
    body = example(name).replace(b"user-1", "Zoë 🎉".encode())
    page = wire._decode_at_once(make_reply(body), visits_type)

    assert page is not None
    assert [visit.user_id for visit in page.items][:2] == ["Zoë 🎉", "user-2"]
    assert hash(page.items[1]) == hash(Visit("user-2", at(2)))


@pytest.mark.parametrize("size", [2**63 - 1, 2**63])
def test_counts_end_where_64_bits_do(example_json: ExampleJSON, size: int) -> None:
    document = example_json("experience")
    replace_at(document, "data.totalTouchpoints", size)
    reply = make_reply(document)

    if size < 2**63:
        assert wire.decode_experience(reply).total_touchpoints == size
    else:
        with pytest.raises(DecodeError, match=r"data\.totalTouchpoints"):
            wire.decode_experience(reply)


# --- Bodies that are not the envelope


@pytest.mark.parametrize(
    "body", [b"", b" \n", b"<html>", b"{", b'{"a":NaN}', b"\xff\xfe", b"[" * 5000]
)
def test_a_body_that_is_not_json_may_be_retried(body: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_total(make_reply(body))

    assert (caught.value.path, caught.value.retryable) == ("", True)


def test_every_cut_of_a_body_may_be_retried(example: Example) -> None:
    body = example("touchpoint_total").rstrip()
    for length in range(len(body)):
        with pytest.raises(DecodeError) as caught:
            decode_total(make_reply(body[:length]))
        assert caught.value.retryable


@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b'"x"', b"true", b"[[]]"])
def test_json_that_is_no_object_is_not_retried(body: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_total(make_reply(body))

    assert (caught.value.path, caught.value.retryable) == ("$", False)


def test_a_deeply_nested_value_is_a_wrong_value(example_json: ExampleJSON) -> None:
    document = example_json("touchpoint_total")
    nested: list[Any] = []
    for _ in range(500):
        nested = [nested]
    replace_at(document, f"{TOUCHPOINT}.id", nested)

    with pytest.raises(DecodeError) as caught:
        decode_total(make_reply(document))

    assert (caught.value.path, caught.value.excerpt) == (f"{TOUCHPOINT}.id", "[…]")


# --- Status to error


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *[(400, BadRequestError), (401, AuthenticationError), (403, PermissionDeniedError)],
        *[(404, NotFoundError), (429, RateLimitError), (408, StatusError), (418, StatusError)],
        *[(500, ServerError), (503, ServerError), (599, ServerError)],
        *[(301, RedirectError), (302, RedirectError), (304, RedirectError), (308, RedirectError)],
    ],
)
def test_statuses_become_errors_in_http_and_in_the_envelope(
    status: int, error: type[StatusError]
) -> None:
    for reply in (
        make_reply({"statusCode": status, "message": "Said so"}, status=status),
        make_reply({"statusCode": status, "message": "Said so"}),
        # When both are errors, HTTP wins.
        make_reply({"statusCode": 500, "message": "Said so"}, status=status),
    ):
        with pytest.raises(error) as caught:
            decode_total(reply)
        assert type(caught.value) is error
        assert (caught.value.status, caught.value.message) == (status, "Said so")


def test_a_status_of_no_class_is_a_plain_error(example: Example) -> None:
    for status in (201, 204, 206, 999):
        with pytest.raises(StatusError) as caught:
            decode_total(make_reply(example("touchpoint_total"), status=status))
        assert (type(caught.value), caught.value.status) == (StatusError, status)


@pytest.mark.parametrize("body", [b"", b"<h1>Bad gateway</h1>", b"[]", b'{"message": 7}', b"null"])
def test_an_error_without_a_message_shows_its_body(body: bytes) -> None:
    with pytest.raises(ServerError) as caught:
        decode_total(make_reply(body, status=502))

    assert caught.value.message == ""
    assert caught.value.body_excerpt == body.decode()
    assert (body.decode() or "no message") in str(caught.value)


def test_request_ids_are_kept() -> None:
    for name in ("X-Request-Id", "x-amzn-RequestId", "X-Correlation-ID"):
        with pytest.raises(StatusError) as caught:
            decode_total(make_reply(b"", status=500, headers={name: "id\x1b-1"}))
        assert caught.value.request_id == r"id\x1b-1"
    with pytest.raises(StatusError) as caught:
        decode_total(make_reply(b"", status=500))
    assert caught.value.request_id is None


def test_server_sent_text_is_redacted_escaped_and_cut() -> None:
    message = "\x1b[31mno\r\n canary \u202e ü" + "x" * 500
    with pytest.raises(ServerError) as caught:
        decode_total(
            make_reply({"message": message}, status=500, headers={"X-Request-Id": "canary"})
        )

    error = caught.value
    assert error.message.startswith(r"\x1b[31mno\r\n *** \u202e ü")
    assert error.message.endswith("x…")
    assert len(error.message) < 250
    assert error.request_id == "***"
    assert "canary" not in str(error) + repr(error) + error.body_excerpt
    assert str(error).isprintable()


def test_an_excerpt_never_ends_within_the_key() -> None:
    key = "canary-" + "0123456789" * 9
    # Longer than what is looked at, so that the last of the keys is cut.
    reply = attrs.evolve(make_reply(key.encode() * 100, status=500), api_key=ApiKey(key))

    assert reply.excerpt.replace("***", "") == ""


# --- Retry-After

DATE = "Mon, 01 Jan 2024 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": " 120 "}, 120),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "Mon, 01 Jan 2024 10:00:30 GMT", "Date": DATE}, 30),
        ({"Retry-After": "Mon, 01 Jan 2024 09:00:00 GMT", "Date": DATE}, 0),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT", "Date": "yesterday"}, 30),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT", "Date": DATE}, None),
        ({"Retry-After": "Fri, 31 Dec 100000 23:59:59 GMT", "Date": DATE}, None),
        *[
            ({"Retry-After": value}, None)
            for value in ("", "nan", "inf", "-1", "1e3", "1" * 36, "99999999999", "soon", "٣", "+5")
        ],
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert wire.parse_retry_after(CIMultiDict(headers), now=NOW) == expected


@pytest.mark.parametrize("zone", ["", " -0000", " GMT", " UTC"])
def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        headers = {"Retry-After": f"Mon, 01 Jan 2024 10:00:30{zone}", "Date": DATE}
        assert wire.parse_retry_after(CIMultiDict(headers), now=NOW) == 30
    finally:
        monkeypatch.undo()
        time.tzset()


def test_retry_after_is_on_the_error() -> None:
    with pytest.raises(RateLimitError) as caught:
        decode_total(make_reply(b"", status=429, headers={"retry-after": "7"}))

    assert caught.value.retry_after == 7


def test_no_mutation_of_the_example_gives_anything_but_our_errors(
    example_json: ExampleJSON,
) -> None:
    junk = [None, True, -1, 0.5, "", "x", [], {}, [None], {"id": None}]

    def mutate(document: Any, root: Any) -> int:
        keys = document if isinstance(document, dict) else range(len(document))
        tried = 0
        for key in list(keys):
            original = document[key]
            for value in junk:
                document[key] = value
                try:
                    page = decode_total(make_reply(copy.deepcopy(root)))
                except DistinctError:
                    pass
                else:
                    assert isinstance(page, VisitPage)
                tried += 1
            document[key] = original
            if isinstance(original, dict | list):
                tried += mutate(original, root)
        return tried

    document = example_json("touchpoint_total")
    assert mutate(document, document) == len(junk) * 22
