"""The API key: where it is found, that nothing shows it, and which URLs may receive it."""

import pickle
from typing import Any

import pytest

from distinct_async import ConfigurationError, DistinctClient
from distinct_async._secrets import (
    DEFAULT_BASE_URL,
    ApiKey,
    Secret,
    find_api_key,
    find_base_url,
    require_base_url,
)
from tests.support.helpers import KEY

# --- Secrets


def test_a_secret_hides_itself() -> None:
    secret = Secret("private")

    assert repr(secret) == "'***'"
    assert "private" not in repr([{"secret": secret}])
    assert (str(secret), secret == "private", len(secret)) == ("private", True, 7)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_client_cannot_be_pickled_with_its_key(protocol: int) -> None:
    for value in (ApiKey(KEY), DistinctClient(KEY)):
        with pytest.raises(TypeError, match="cannot pickle") as caught:
            pickle.dumps(value, protocol)
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("value", [None, 7, b"private", ["private"]])
def test_a_value_that_is_not_a_string_becomes_an_empty_secret(value: object) -> None:
    assert Secret.of(value) == ""
    assert type(ApiKey.of(value)) is ApiKey


def test_wrapping_keeps_a_string() -> None:
    assert ApiKey.of(KEY) == KEY
    assert type(ApiKey.of(KEY)) is ApiKey


# --- The key


@pytest.mark.parametrize("key", ["a", KEY, "!~", "x" * 10_000])
def test_a_key_of_visible_ascii_can_be_sent(key: str) -> None:
    assert ApiKey(key).checked() == key


@pytest.mark.parametrize(
    "key", ["", " ", f"{KEY}\n", f"{KEY}\r\nX-Evil: 1", f"{KEY} x", f"{KEY}é", f"\0{KEY}", "\x7f"]
)
def test_any_other_key_is_refused_without_showing_it(key: str) -> None:
    expected = "^api_key must be a string of printable ASCII without spaces or line breaks$"
    with pytest.raises(ConfigurationError, match=expected):
        ApiKey(key).checked()


def test_a_missing_key_names_the_argument_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"^api_key is missing: .*DISTINCT_API_KEY"):
        find_api_key(None)

    monkeypatch.setenv("DISTINCT_API_KEY", "")
    with pytest.raises(ConfigurationError, match=r"^api_key is missing: .*DISTINCT_API_KEY"):
        find_api_key(None)


def test_the_key_is_found_in_the_argument_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DISTINCT_API_KEY", "from-environment")
    assert find_api_key(None) == "from-environment"
    assert find_api_key("given") == "given"
    assert type(find_api_key(None)) is ApiKey
    # An empty argument is the caller's mistake, which the environment must not hide.
    assert find_api_key("") == ""


# --- Redaction


def test_redaction_replaces_every_occurrence_of_the_key() -> None:
    key = ApiKey("key-1")

    assert key.redact("key-1 and key-1key-1, not key-2") == "*** and ******, not key-2"
    assert key.redact("nothing") == "nothing"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 🎉", "plain ü 🎉"),
        ("a\r\n\tb", r"a\r\n\tb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202eright to left", r"\u202eright to left"),
        ("\ud800", r"\ud800"),
        ("key-1\n", r"***\n"),
    ],
)
def test_printable_text_is_redacted_and_escaped(text: str, shown: str) -> None:
    assert ApiKey("key-1").printable(text) == shown
    assert ApiKey("key-1").printable(text).isprintable()


def test_printable_text_is_truncated_after_redaction() -> None:
    key = ApiKey("key-1")

    assert key.printable("x" * 200) == "x" * 200
    assert key.printable("x" * 201) == "x" * 200 + "…"
    # The key straddles the cut, so a cut before redaction would leave its first half.
    assert key.printable("x" * 197 + "key-1") == "x" * 197 + "***"
    assert key.printable("x" * 198 + "key-1") == "x" * 198 + "**…"


def test_an_excerpt_shows_the_start_of_a_body() -> None:
    key = ApiKey("key-1")

    assert key.excerpt(b"") == ""
    assert key.excerpt(b"say key-1") == "say ***"
    assert key.excerpt(b"\xff\xfe") == "\ufffd\ufffd"
    assert key.excerpt(b"x" * 10_000) == "x" * 200 + "…"


@pytest.mark.parametrize("length", [1, 7, 90, 4_095])
@pytest.mark.parametrize("padding", range(8))
def test_an_excerpt_never_shows_a_part_of_a_key_it_cuts(length: int, padding: int) -> None:
    # Redaction shrinks the text, so the excerpt reaches the key that the source's end cuts.
    key = ApiKey("k" * length)
    body = b"." * padding + key.encode() * 10_000

    assert "k" not in key.excerpt(body)


# --- Base URLs


def test_the_base_url_is_found_in_the_argument_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert find_base_url(None) == DEFAULT_BASE_URL == "https://api.distinct.so"

    monkeypatch.setenv("DISTINCT_BASE_URL", "http://localhost:1")
    assert find_base_url(None) == "http://localhost:1"
    assert find_base_url("https://x.test") == "https://x.test"
    assert (find_base_url(""), find_base_url(7)) == ("", "")
    assert repr(find_base_url("https://user:pass@x.test")) == "'***'"


@pytest.mark.parametrize(
    "url",
    [
        *("https://api.distinct.so", "https://proxy.test:8443/distinct/", "HTTPS://API.TEST"),
        *("http://localhost", "http://127.0.0.1:8080", "http://127.9.9.9", "http://[::1]:80"),
    ],
)
def test_a_usable_base_url_loses_its_trailing_slashes(url: str) -> None:
    assert require_base_url(Secret(url)) == url.rstrip("/")
    assert require_base_url(Secret(f"{url}//")) == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", ", got something else"),
        ("api.distinct.so", ", got something else"),
        ("ftp://api.distinct.so", ", got something else"),
        ("https://[::1", ", got something else"),
        ("https://host:port", ", got something else"),
        ("https://ho st", ", got something else"),
        ("https://user:secret@host", " and neither credentials, a query nor a fragment"),
        ("https://host?secret=1", " and neither credentials, a query nor a fragment"),
        ("https://host#secret", " and neither credentials, a query nor a fragment"),
        ("http://api.distinct.so", "; http:// would send the key in clear text"),
        ("http://10.0.0.1", "; http:// would send the key in clear text"),
        ("http://localhost.test", "; http:// would send the key in clear text"),
    ],
)
def test_an_unusable_base_url_is_explained_and_never_shown(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        require_base_url(Secret(url))

    message = str(caught.value)
    assert message.startswith(f"base_url must be an http(s) URL with a host{problem}")
    assert not url or url not in message
    assert caught.value.__context__ is None


def test_secrets_can_be_compared_and_hashed_like_strings() -> None:
    headers: dict[str, Any] = {"key": ApiKey(KEY)}

    assert headers == {"key": KEY}
    assert {ApiKey(KEY)} == {KEY}
