"""The API key, its redaction, and the rule for base URLs it may be sent to."""

import ipaddress
import os
import re
from typing import Final, NoReturn, Self
from urllib.parse import urlsplit

from typing_extensions import override

from distinct_async._redaction import redact
from distinct_async.errors import ConfigurationError

DEFAULT_BASE_URL: Final = "https://api.distinct.so"

_EXCERPT_CHARACTERS: Final = 200
# Bytes or characters: enough to fill an excerpt after redaction.
_EXCERPT_SOURCE: Final = 4096


class Secret(str):
    """A string whose repr is ``'***'``, so tracebacks that show locals do not reveal it."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "'***'"

    @override
    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        # Pickling a client would write its key to a file or a pipe.
        raise TypeError(f"cannot pickle {type(self).__name__}: it would reveal a secret")

    @classmethod
    def of(cls, value: object) -> Self:
        """Wrap `value`; anything but a string becomes an empty secret, which no check accepts."""
        return cls(value) if isinstance(value, str) else cls()


class ApiKey(Secret):
    """An API key."""

    __slots__ = ()

    def checked(self) -> Self:
        """Return the key if it can be sent as a header.

        Raises:
            ConfigurationError: It is empty or contains anything but visible ASCII. The message
                does not contain the key.
        """
        if re.fullmatch(r"[!-~]+", self) is None:
            raise ConfigurationError(
                "api_key must be a string of printable ASCII without spaces or line breaks"
            )
        return self

    def redact(self, text: str) -> str:
        """Return `text` with every occurrence of the key replaced by ``***``.

        Forms of the key that are escaped for JSON, HTML or URLs, or have another case, count too.
        """
        return redact(text, self)

    def printable(self, text: str) -> str:
        """Return foreign text redacted, escaped and truncated: safe for messages and logs."""
        return self._excerpt(text[:_EXCERPT_SOURCE], is_cut=len(text) > _EXCERPT_SOURCE)

    def excerpt(self, body: bytes) -> str:
        """Return the start of a response body, safe for messages and logs."""
        start = body[:_EXCERPT_SOURCE].decode("utf-8", "replace")
        return self._excerpt(start, is_cut=len(body) > _EXCERPT_SOURCE)

    def _excerpt(self, text: str, *, is_cut: bool) -> str:
        redacted = redact(text, self, is_cut=is_cut)
        shown = redacted[:_EXCERPT_CHARACTERS]
        # Escapes control characters, ANSI sequences, line breaks and bidirectional overrides.
        escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
        return f"{escaped}…" if is_cut or shown != redacted else escaped


def find_api_key(api_key: object) -> ApiKey:
    """Return the given key, or DISTINCT_API_KEY from the environment if it is None.

    Raises:
        ConfigurationError: There is neither.
    """
    found = os.environ.get("DISTINCT_API_KEY") if api_key is None else api_key
    if api_key is None and not found:
        raise ConfigurationError("api_key is missing: pass it, or set DISTINCT_API_KEY")
    return ApiKey.of(found)


def find_base_url(base_url: object) -> Secret:
    """Return the given URL, or DISTINCT_BASE_URL from the environment, or the default."""
    if base_url is None:
        return Secret(os.environ.get("DISTINCT_BASE_URL") or DEFAULT_BASE_URL)
    return Secret.of(base_url)


def require_base_url(value: Secret) -> str:
    """Return `value` without trailing slashes if it is a base URL that may receive the key.

    Args:
        value: The URL; a `Secret`, because it may contain credentials until it is checked.

    Raises:
        ConfigurationError: It is not an http(s) URL with a host; it has credentials, a query or
            a fragment; or it would send the key in clear text to another machine.
    """
    problem = _base_url_problem(value)
    if problem:
        raise ConfigurationError(f"base_url must be an http(s) URL with a host{problem}")
    return value.rstrip("/")


def _base_url_problem(value: str) -> str:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return ", got something else"
    if parts.scheme not in {"http", "https"} or not host or re.search(r"[\s\x00-\x1f]", value):
        return ", got something else"
    if parts.username is not None or parts.query or parts.fragment:
        return " and neither credentials, a query nor a fragment"
    if parts.scheme == "http" and not _is_loopback(host):
        return "; http:// would send the key in clear text, so it is for loopback hosts only"
    return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
