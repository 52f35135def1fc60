"""Pages of visits against an independent reference, odd timestamps and random damage."""

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example as with_example
from hypothesis import given
from hypothesis import strategies as st

from distinct_async import (
    DecodeError,
    DistinctError,
    Touchpoint,
    UserMetrics,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async._wire import touchpoint_metrics as endpoint
from distinct_async._wire.protocol import Reply
from tests.wire.replies import KEY, error_in, make_reply

Example = Callable[[str], bytes]
ExampleJSON = Callable[[str], Any]


def decode(reply: Reply, visits_type: VisitsType = VisitsType.TOTAL) -> VisitPage | DistinctError:
    return endpoint.visit_page("tp-1", visits_type=visits_type).decode(reply)


def page_in(outcome: VisitPage | DistinctError) -> VisitPage:
    assert isinstance(outcome, VisitPage)
    return outcome


# --- Against a reference


def make_document(items: list[dict[str, str]], total: int, visits_type: VisitsType) -> Any:
    kind = visits_type.lower()
    details = {"items": items, "pagination": {"offset": total, "pageSize": total}}
    touchpoint = {"id": "tp-1", "name": "n", "value": "v", f"{kind}Visits": total}
    data = {"touchpoints": touchpoint | {f"{kind}VisitsDetails": details}}
    return {"statusCode": 200, "message": "ok", "data": data}


def decode_with_the_standard_library(body: bytes, visits_type: VisitsType) -> VisitPage:
    kind = visits_type.lower()
    touchpoint = json.loads(body)["data"]["touchpoints"]
    details = touchpoint[f"{kind}VisitsDetails"]
    return VisitPage(
        touchpoint=Touchpoint(touchpoint["id"], touchpoint["name"], touchpoint["value"]),
        visits_type=visits_type,
        total=touchpoint[f"{kind}Visits"],
        items=tuple(
            Visit(item["userId"], datetime.fromisoformat(item["timestampUTC"]).astimezone(UTC))
            for item in details["items"]
        ),
        offset=details["pagination"]["offset"],
        page_size=details["pagination"]["pageSize"],
    )


texts = st.text(st.characters(exclude_categories=["Cs"]))
zones = [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))]
moments = st.datetimes(
    # In UTC, a day at either end may not exist.
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - the zone is drawn
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.sampled_from(zones),
)


@given(
    st.lists(st.tuples(texts, moments.map(datetime.isoformat))),
    st.integers(0, 2**63 - 1),
    st.lists(st.sampled_from(["T", " ", "t"]), min_size=1),
    st.sampled_from(VisitsType),
    st.booleans(),
)
@with_example([], 0, ["T"], VisitsType.UNIQUE, False)
@with_example(
    [("a", "2024-01-01T10:00:00+00:00"), ("b", "2024-01-01T15:30:00.5+05:30")],
    2,
    ["t", " "],
    VisitsType.TOTAL,
    True,
)
def test_any_page_is_decoded_as_by_the_standard_library(
    visits: list[tuple[str, str]],
    total: int,
    separators: list[str],
    visits_type: VisitsType,
    escaped: bool,
) -> None:
    # Users may come again, but not among unique visits.
    total_only = visits_type is VisitsType.TOTAL
    items = [
        {
            "userId": user if total_only else f"{n} {user}",
            "timestampUTC": moment.replace("T", separators[n % len(separators)]),
        }
        for n, (user, moment) in enumerate(visits)
    ]
    document = make_document(items, total, visits_type)
    body = json.dumps(document, ensure_ascii=escaped).encode()

    page = page_in(decode(make_reply(body), visits_type))

    assert page == decode_with_the_standard_library(body, visits_type)
    assert {type(visit) for visit in page.items} <= {Visit}
    assert all(visit.timestamp.tzinfo is UTC for visit in page.items)
    assert pickle.loads(pickle.dumps(page)) == page


# --- The document's pages


@pytest.mark.parametrize("visits_type", VisitsType)
def test_visits_are_hashable_values_of_any_text(example: Example, visits_type: VisitsType) -> None:
    body = example(f"touchpoint_{visits_type.lower()}").replace(b"user-1", "Zoë 🎉".encode())

    page = page_in(decode(make_reply(body), visits_type))

    assert [visit.user_id for visit in page.items][:2] == ["Zoë 🎉", "user-2"]
    known = Visit("user-2", datetime(2024, 1, 2, 10, tzinfo=UTC))
    assert hash(page.items[1]) == hash(known)
    assert {known} <= set(page.items)


WITHOUT_CATTRS = """
import json
import sys

from distinct_async._secrets import ApiKey
from distinct_async._wire.protocol import Reply
from distinct_async._wire.touchpoint_metrics import visit_page
from distinct_async.models import VisitsType

for visits_type, body in json.load(sys.stdin).items():
    request = visit_page("tp-1", visits_type=VisitsType(visits_type))
    print(len(request.decode(Reply(200, {}, body.encode(), ApiKey("key"), 0.0)).items))
print("cattrs" in sys.modules, "aiohttp" in sys.modules)
"""


def test_pages_of_visits_are_decoded_without_cattrs_or_aiohttp(example: Example) -> None:
    bodies = {kind: example(f"touchpoint_{kind.lower()}").decode() for kind in VisitsType}

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CATTRS],
        input=json.dumps(bodies),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["3", "2", "False", "False"]


# --- Timestamps

TIMESTAMPS = pytest.mark.parametrize(
    ("text", "hour", "microsecond"),
    [
        ("2024-01-01T10:00:00Z", 10, 0),
        ("2024-01-01T10:00:00+00:00", 10, 0),
        ("2024-01-01T10:00:00-00:00", 10, 0),
        ("2024-01-01T12:00:00+02:00", 10, 0),
        ("2024-01-01T10:00:00.000Z", 10, 0),
        ("2024-01-01 10:00:00z", 10, 0),
        ("2024-01-01T10:00:00.123456Z", 10, 123_456),
        ("2024-01-01T04:30:00.5-05:30", 10, 500_000),
    ],
)


@TIMESTAMPS
@pytest.mark.parametrize("visits_type", VisitsType)
def test_a_visits_timestamp_is_aware_and_in_utc(
    example_json: ExampleJSON, visits_type: VisitsType, text: str, hour: int, microsecond: int
) -> None:
    kind = visits_type.lower()
    document = example_json(f"touchpoint_{kind}")
    items = document["data"]["touchpoints"][f"{kind}VisitsDetails"]["items"]
    items[0]["timestampUTC"] = text

    page = page_in(decode(make_reply(document), visits_type))

    timestamp = page.items[0].timestamp
    assert timestamp == datetime(2024, 1, 1, hour, 0, 0, microsecond, tzinfo=UTC)
    assert {visit.timestamp.tzinfo for visit in page.items} == {UTC}
    assert (page.total, page.visits_type) == (len(page.items), visits_type)


@TIMESTAMPS
def test_a_users_timestamps_are_aware_and_in_utc(
    example_json: ExampleJSON, text: str, hour: int, microsecond: int
) -> None:
    document = example_json("user")
    document["data"]["touchpoints"][0]["timestampsUTC"][0] = text

    metrics = endpoint.user_metrics("exp-1", "user-1").decode(make_reply(document))

    assert isinstance(metrics, UserMetrics)
    timestamps = metrics.touchpoints[0].timestamps
    assert timestamps[0] == datetime(2024, 1, 1, hour, 0, 0, microsecond, tzinfo=UTC)
    assert {timestamp.tzinfo for timestamp in timestamps} == {UTC}


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"])
@pytest.mark.parametrize("visits_type", VisitsType)
def test_a_timestamp_that_does_not_exist_in_utc_is_located(
    visits_type: VisitsType, text: str
) -> None:
    usual = "2024-01-01T12:00:00+02:00"
    items = [{"userId": f"at {moment}", "timestampUTC": moment} for moment in (usual, text)]
    reply = make_reply(make_document(items, 2, visits_type))

    error = error_in(decode(reply, visits_type), DecodeError)

    path = f"data.touchpoints.{visits_type.lower()}VisitsDetails.items[1].timestampUTC"
    assert (error.path, error.excerpt) == (path, f'"{text}"')
    assert "expected a UTC timestamp" in str(error)


# --- Identity


@pytest.mark.parametrize("found", ["tp-2", "TP-1", "tp-1 ", "", "tp\u2011" + "1"])
@pytest.mark.parametrize("visits_type", VisitsType)
def test_a_page_of_another_touchpoint_is_an_error_that_names_both(
    example_json: ExampleJSON, visits_type: VisitsType, found: str
) -> None:
    document = example_json(f"touchpoint_{visits_type.lower()}")
    document["data"]["touchpoints"]["id"] = found

    error = error_in(decode(make_reply(document), visits_type), DecodeError)

    assert (error.path, error.retryable) == ("data.touchpoints.id", True)
    assert json.loads(error.excerpt) == found
    assert 'expected "tp-1", got "' in str(error)


def test_the_key_in_a_wrong_touchpoint_id_is_hidden(example_json: ExampleJSON) -> None:
    document = example_json("touchpoint_total")
    document["data"]["touchpoints"]["id"] = f"tp-{KEY}"

    error = error_in(decode(make_reply(document)), DecodeError)

    assert KEY not in f"{error}{vars(error)}"


def test_a_user_twice_among_unique_visits_is_an_error_but_not_among_all() -> None:
    moments = ["2024-01-01T10:00:00Z", "2024-01-01T11:00:00Z", "2024-01-02T10:00:00Z"]
    items = [
        {"userId": user, "timestampUTC": moment}
        for user, moment in zip("abb", moments, strict=True)
    ]

    document = make_document(items, 3, VisitsType.TOTAL)
    assert len(page_in(decode(make_reply(document))).items) == 3
    document = make_document(items, 3, VisitsType.UNIQUE)
    error = error_in(decode(make_reply(document), VisitsType.UNIQUE), DecodeError)
    assert error.path == "data.touchpoints.uniqueVisitsDetails.items[2].userId"
    assert (error.excerpt, error.retryable) == ('"b"', True)


# --- Damage


def test_no_mutation_of_the_example_escapes_as_another_exception(example_json: ExampleJSON) -> None:
    junk = [None, True, -1, 0.5, "", "x", [], {}, [None], {"id": None}]

    def mutate(document: Any, root: Any) -> int:
        keys = document if isinstance(document, dict) else range(len(document))
        tried = 0
        for key in list(keys):
            original = document[key]
            for value in junk:
                document[key] = value
                outcome = decode(make_reply(copy.deepcopy(root)))
                assert isinstance(outcome, VisitPage | DistinctError)
                tried += 1
            document[key] = original
            if isinstance(original, dict | list):
                tried += mutate(original, root)
        return tried

    document = example_json("touchpoint_total")
    assert mutate(document, document) == len(junk) * 22


@pytest.mark.parametrize(
    ("touchpoint", "path"),
    [
        ('{"id": 7}, "touchpoints": null', "data.touchpoints.id"),
        ('{"id": 7}}, "data": {"touchpoints": {"name": []}', "data.touchpoints.id"),
        ('{"totalVisitsDetails": {"items": [{"userId": 7}], "items": []}}', "userId"),
        ('{"totalVisitsDetails": {"items": [{"userId": 7}], "items": [7]}}', "userId"),
    ],
)
def test_a_name_that_occurs_twice_escapes_as_no_other_exception(touchpoint: str, path: str) -> None:
    body = f'{{"statusCode": 200, "data": {{"touchpoints": {touchpoint}}}}}'

    error = error_in(decode(make_reply(body.encode())), DecodeError)

    assert error.path.endswith(path)
