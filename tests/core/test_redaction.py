"""Redaction: no form of the secret is left in a text, and the rest of the text is."""

import html
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from distinct_async import DecodeError, StatusError
from distinct_async._redaction import redact
from distinct_async._secrets import ApiKey
from distinct_async.testing import FakeDistinct, FakeRequest
from tests.support.helpers import ONCE, shown_by

VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
AWKWARD = "s3cr/et+\"K&y'<=%\\>~"

# What servers and proxies do to a text that they echo.
ESCAPES: dict[str, Callable[[str], str]] = {
    "as is": str,
    "lower": str.lower,
    "upper": str.upper,
    "json": lambda text: json.dumps(text)[1:-1],
    "json with slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "json in capitals": lambda text: "".join(f"\\u{ord(c):04X}" for c in text),
    "json in small letters": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    "javascript": lambda text: "".join(f"\\x{ord(c):02x}" for c in text),
    "html": html.escape,
    "html without quotes": lambda text: html.escape(text, quote=False),
    "html by name": lambda text: (
        html.escape(text).replace("&#x27;", "&apos;").replace("+", "&plus;")
    ),
    "html in decimal": lambda text: "".join(f"&#{ord(c):03};" for c in text),
    "html in hexadecimal": lambda text: "".join(f"&#X{ord(c):04X};" for c in text),
    "url": lambda text: quote(text, safe=""),
    "url in small letters": lambda text: re.sub(
        "%..", lambda m: m[0].lower(), quote(text, safe="")
    ),
    "url path": quote,
    "form": quote_plus,
    "every character in a url": lambda text: "".join(f"%{ord(c):02X}" for c in text),
    "decoded form": unquote_plus,
}
# Of these, every combination of three.
LAYERS = ["json", "html", "url", "url in small letters", "upper"]

keys = st.text(VISIBLE, min_size=4, max_size=12)
escapes = st.sampled_from(sorted(ESCAPES))


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("key", [AWKWARD, "Plain-Key_0123", "a%41b", "&amp;&amp;", "\\u0041\\\\x"])
def test_every_form_of_the_key_is_redacted(escape: str, key: str) -> None:
    escaped = ESCAPES[escape](key)
    assert redact(f"[{escaped}] and [{escaped}]", key) == "[***] and [***]"


@given(key=keys, escape=escapes, before=st.text(), after=st.text())
@example(key="aaaa", escape="url", before="aa", after="a")
@example(key="%00+", escape="decoded form", before="", after="")
def test_a_form_of_any_key_is_redacted_in_any_text(
    key: str, escape: str, before: str, after: str
) -> None:
    # Line breaks, as no escape sequence has them, keep the text from changing the form's meaning.
    form = f"\n{ESCAPES[escape](key)}\n"
    redacted = redact(f"{before}{form}{after}", key)

    assert form not in redacted
    assert "\n***\n" in redacted


@given(key=keys, first=st.sampled_from(LAYERS), second=st.sampled_from(LAYERS), data=st.data())
def test_forms_inside_forms_are_redacted(
    key: str, first: str, second: str, data: st.DataObject
) -> None:
    third = data.draw(st.sampled_from(LAYERS))
    escaped = key
    for layer in (first, second, third):
        escaped = ESCAPES[layer](escaped)

    assert redact(f"\n{escaped}\n", key) == "\n***\n"


@given(key=keys, text=st.text("0123 \n;&#xu%\\+é🎉\ud800İ", max_size=60))
def test_a_text_without_the_key_stays_as_it_is(key: str, text: str) -> None:
    assert redact(text, f"{key}Zq") == text


def test_unknown_escape_sequences_are_left_alone() -> None:
    text = r"&nosuch; &#128; &#304; &#7; %zz %c3%a9 \n \u00e9 \u1234 &#x41 & % \ "
    assert redact(text, "secret") == text
    assert redact(f"{text}&#115;ecret", "secret") == f"{text}***"


def test_an_empty_secret_is_nowhere() -> None:
    assert redact("text", "") == "text"


def test_forms_that_overlap_are_redacted_as_one() -> None:
    assert redact("aaaaa", "aa") == "******a"
    assert redact("%61aaa.aa", "aaa") == "***.aa"


@given(
    key=keys, escape=escapes, before=st.text(max_size=30), kept=st.integers(0, 200), data=st.data()
)
def test_no_start_of_the_key_is_left_where_the_text_is_cut(
    key: str, escape: str, before: str, kept: int, data: st.DataObject
) -> None:
    form = ESCAPES[escape](key)
    cut = data.draw(st.integers(0, len(form) - 1))
    text = f"{before}\n{form[:cut]}"

    shown = redact(text, key, is_cut=True)

    assert "\n" not in shown.removeprefix(before)


def test_the_start_of_a_long_text_is_shown() -> None:
    assert redact("x" * 1_000, "secret", is_cut=True) == "x" * (1_000 - 6 - 64)
    assert redact("secret" + "x" * 1_000, "secret", is_cut=True) == "***" + "x" * (1_000 - 6 - 64)


@pytest.mark.parametrize(
    "unit",
    ["k", "%6b", "%256b", "&#107;", "&#x6b", "&", "\\", "\\u006", "%", "&amp;", "&#0", "%5c"],
)
def test_long_texts_take_linear_time(unit: str) -> None:
    # With quadratic time, this would take hours, and the timeout of the tests would end it.
    text = unit * 200_000
    key = "k" * 20_000 + "j"

    assert redact(text, key).replace("***", "") in text


def test_excerpts_redact_every_form() -> None:
    key = ApiKey(AWKWARD)
    for escape in ESCAPES.values():
        assert key.printable(f"[{escape(key)}]") == "[***]"
        assert key.excerpt(f"[{escape(key)}]".encode()) == "[***]"
        body = ("." * 100 + escape(key)) * 1_000
        assert key.printable(body) == key.excerpt(body.encode()) == f"{'.' * 100}***{'.' * 97}…"


@pytest.mark.parametrize("escape", ESCAPES)
async def test_no_error_shows_a_form_of_the_key_that_the_server_echoes(
    fake: FakeDistinct, escape: str
) -> None:
    fake.api_key = AWKWARD
    form = ESCAPES[escape](AWKWARD)

    def answer(request: FakeRequest) -> web.Response:
        echo = f"no such key: {form}"
        if request.parameters.get("offset") == "1":
            # A header cannot have every character.
            headers = {"x-request-id": quote(AWKWARD)}
            body = {"statusCode": 404, "message": echo}
            return web.json_response(body, status=404, headers=headers)
        if request.parameters.get("offset") == "2":
            return web.Response(text=f"<html>{echo}</html>", status=502)
        if request.parameters.get("offset") == "3":
            return web.json_response({"statusCode": 200, "data": {"touchpoints": echo}})
        return web.Response(text=f"{echo}, {echo}")

    async def intercept(request: FakeRequest, _: Any) -> web.Response:
        return answer(request)

    fake.add_touchpoint("tp-1")
    fake.intercept = intercept
    async with fake.client(retry=ONCE) as client:
        for offset in (1, 2, 3, 4):
            with pytest.raises((StatusError, DecodeError)) as caught:
                await client.touchpoint_metrics("tp-1", offset=offset)

            # What is shown may be escaped once more.
            shown = shown_by(caught.value).replace("\\\\", "\\")
            assert "***" in shown
            assert form not in shown
            assert quote(AWKWARD) not in shown
