"""The protocol of all endpoints: the envelope, error statuses, Retry-After and redaction."""

import time
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import pytest
from multidict import CIMultiDict

from distinct_async import (
    AuthenticationError,
    BadRequestError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    ServerError,
    StatusError,
    VisitsType,
)
from distinct_async._wire import touchpoint_metrics as endpoint
from distinct_async._wire.protocol import (
    Reply,
    Request,
    encode_query,
    parse_retry_after,
    struct_decoder,
)
from tests.wire.replies import NOW, error_in, make_reply

Decode: TypeAlias = Callable[[Reply], object]
Example = Callable[[str], bytes]
ExampleJSON = Callable[[str], Any]

# One shape that msgspec decodes in one pass, and one that cattrs structures.
DECODERS: dict[str, Decode] = {
    "msgspec": endpoint.visit_page("tp-1", visits_type=VisitsType.TOTAL).decode,
    "cattrs": endpoint.experience_metrics("exp-1").decode,
}


@pytest.fixture(params=DECODERS)
def decode(request: pytest.FixtureRequest) -> Decode:
    return DECODERS[request.param]


# --- Error statuses


@pytest.mark.parametrize(
    ("name", "kind"), [("error_400", BadRequestError), ("error_404", NotFoundError)]
)
def test_the_documents_errors_are_decoded_in_http_and_in_the_envelope(
    decode: Decode,
    example: Example,
    example_json: ExampleJSON,
    name: str,
    kind: type[StatusError],
) -> None:
    document = example_json(name)
    for status in (document["statusCode"], 200):
        error = error_in(decode(make_reply(example(name), status=status)), kind)

        assert error.message == document["message"]
        assert error.status == document["statusCode"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *[(400, BadRequestError), (401, AuthenticationError), (403, PermissionDeniedError)],
        *[(404, NotFoundError), (429, RateLimitError), (408, StatusError), (418, StatusError)],
        *[(500, ServerError), (503, ServerError), (599, ServerError)],
        *[(301, RedirectError), (302, RedirectError), (304, RedirectError), (308, RedirectError)],
    ],
)
def test_a_status_has_its_error_in_http_and_in_the_envelope(
    decode: Decode, status: int, kind: type[StatusError]
) -> None:
    for reply in (
        make_reply({"statusCode": status, "message": "Said so"}, status=status),
        make_reply({"statusCode": status, "message": "Said so"}),
        # HTTP wins if both are errors.
        make_reply({"statusCode": 500, "message": "Said so"}, status=status),
    ):
        error = error_in(decode(reply), kind)
        assert (error.status, error.message) == (status, "Said so")


def test_a_status_outside_the_error_classes_is_a_plain_status_error(
    decode: Decode, example: Example
) -> None:
    for status in (201, 204, 206, 999):
        error = error_in(
            decode(make_reply(example("touchpoint_total"), status=status)), StatusError
        )
        assert error.status == status


def test_an_error_in_the_envelope_wins_over_data_of_the_wrong_shape(decode: Decode) -> None:
    for data in (None, 7, {"touchpoints": 7}):
        reply = make_reply({"data": data, "statusCode": 503, "message": "Later"})
        assert error_in(decode(reply), ServerError).status == 503


@pytest.mark.parametrize("body", [b"", b"<h1>Bad gateway</h1>", b"[]", b'{"message": 7}', b"null"])
def test_an_error_without_a_message_shows_its_body(decode: Decode, body: bytes) -> None:
    error = error_in(decode(make_reply(body, status=502)), ServerError)

    assert error.message == ""
    assert error.body_excerpt == body.decode()
    assert (body.decode() or "no message") in str(error)


def test_an_error_keeps_the_servers_request_id(decode: Decode) -> None:
    for name in ("X-Request-Id", "x-amzn-RequestId", "X-Correlation-ID"):
        reply = make_reply(b"", status=500, headers={name: "id\x1b-1"})
        assert error_in(decode(reply), ServerError).request_id == r"id\x1b-1"

    assert error_in(decode(make_reply(b"", status=500)), ServerError).request_id is None


# --- Redaction


def test_foreign_text_is_redacted_escaped_and_truncated(decode: Decode) -> None:
    message = "\x1b[31mno\r\n canary \u202e ü" + "x" * 500
    reply = make_reply({"message": message}, status=500, headers={"X-Request-Id": "canary"})

    error = error_in(decode(reply), ServerError)

    assert error.message.startswith(r"\x1b[31mno\r\n *** \u202e ü")
    assert error.message.endswith("x…")
    assert len(error.message) < 250
    assert error.request_id == "***"
    assert "canary" not in str(error) + repr(error) + error.body_excerpt
    assert str(error).isprintable()


def test_a_wrong_value_that_echoes_the_key_is_redacted(decode: Decode) -> None:
    reply = make_reply({"statusCode": 200, "data": {"touchpoints": "canary\x1b"}})

    error = error_in(decode(reply), DecodeError)

    assert "canary" not in str(error) + repr(error)
    assert str(error).isprintable()


def test_an_excerpt_never_ends_within_the_key(decode: Decode) -> None:
    key = "canary-" + "0123456789" * 9
    # The excerpt's source is shorter than this body, and ends within one of the keys.
    reply = make_reply(key.encode() * 100, status=500, api_key=key)

    assert reply.excerpt.replace("***", "") == "…"
    assert error_in(decode(reply), ServerError).body_excerpt == reply.excerpt


def test_reprs_show_neither_bodies_nor_queries(decode: Decode) -> None:
    reply = make_reply(b"private")
    request = Request(path="/v1/things", query="userId=private", decode=decode)

    assert "private" not in repr(reply)
    assert "canary" not in repr(reply)
    assert "private" not in repr(request)


# --- Bodies that are not an envelope


@pytest.mark.parametrize(
    "body", [b"", b" \n", b"<html>", b"{", b'{"a":NaN}', b"\xff\xfe", b"[" * 5000]
)
def test_a_body_that_is_not_json_may_be_retried(decode: Decode, body: bytes) -> None:
    error = error_in(decode(make_reply(body)), DecodeError)

    assert (error.path, error.retryable) == ("", True)


def test_every_truncation_of_a_body_may_be_retried(decode: Decode, example: Example) -> None:
    body = example("touchpoint_total").rstrip()
    for length in range(len(body)):
        assert error_in(decode(make_reply(body[:length])), DecodeError).retryable


def test_text_that_is_not_utf8_may_be_retried_wherever_it_stands(decode: Decode) -> None:
    # Even in a field that no shape has, whose encoding msgspec does not check.
    body = b'{"statusCode": 200, "data": {}, "unknown": "\xff"}'

    error = error_in(decode(make_reply(body)), DecodeError)

    assert (error.path, error.retryable) == ("", True)


@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b'"x"', b"true", b"[[]]"])
def test_json_that_is_not_an_object_is_not_retried(decode: Decode, body: bytes) -> None:
    error = error_in(decode(make_reply(body)), DecodeError)

    assert (error.path, error.retryable) == ("$", False)
    assert error.excerpt == body.decode()


@pytest.mark.parametrize("status", [None, "200", 200.0, True, 201, 0, -404, 9999])
def test_a_status_code_other_than_200_is_a_wrong_value(decode: Decode, status: Any) -> None:
    error = error_in(decode(make_reply({"statusCode": status, "data": {}})), DecodeError)

    assert (error.path, error.retryable) == ("statusCode", False)
    assert error.excerpt.startswith('{"statusCode": ')


# --- Shapes that msgspec decodes


class Shape(msgspec.Struct, rename={"user_id": "user-id"}):
    user_id: str
    scans: dict[str, int] = {}


def decode_shape(text: str) -> object:
    return struct_decoder(Shape)(make_reply(f'{{"statusCode": 200, "data": {text}}}'.encode()))


@pytest.mark.parametrize(
    ("data", "path", "excerpt"),
    [
        ('{"user-id": 7}', "data.user-id", "7"),
        ("{}", "data.user-id", ""),
        # msgspec does not say which key of a mapping it means.
        ('{"user-id": "u", "scans": {"a": 1, "b": "x"}}', "data.scans[...]", "{…}"),
        # Of names that occur twice, other parsers see the last one only.
        ('{"user-id": 7, "user-id": "u"}', "data.user-id", '"u"'),
        ('{"scans": {"a": []}, "scans": null}', "data.scans[...]", "null"),
        ('{"user-id": 7}, "data": null', "data.user-id", "null"),
    ],
)
def test_a_wrong_value_is_located_in_any_struct(data: str, path: str, excerpt: str) -> None:
    error = error_in(decode_shape(data), DecodeError)

    assert (error.path, error.excerpt) == (path, excerpt)


def test_a_byte_order_mark_is_ignored(example: Example) -> None:
    for name, decode_example in DECODERS.items():
        body = example("touchpoint_total" if name == "msgspec" else "experience")
        marked = make_reply(b"\xef\xbb\xbf" + body)
        assert decode_example(marked) == decode_example(make_reply(body))


# --- Queries


def test_a_query_omits_none_and_encodes_everything_else() -> None:
    assert encode_query(a=None, b="x y/z", c=0) == "b=x%20y%2Fz&c=0"
    assert encode_query() == ""


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
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], expected: float | None) -> None:
    assert parse_retry_after(CIMultiDict(headers), now=NOW) == expected


@pytest.mark.parametrize("zone", ["", " -0000", " GMT", " UTC"])
def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        headers = {"Retry-After": f"Mon, 01 Jan 2024 10:00:30{zone}", "Date": DATE}
        assert parse_retry_after(CIMultiDict(headers), now=NOW) == 30
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_error_keeps_retry_after(decode: Decode) -> None:
    reply = make_reply(b"", status=429, headers={"retry-after": "7"})

    assert error_in(decode(reply), RateLimitError).retry_after == 7
