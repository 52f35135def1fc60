"""Replies to decode, and a look at the errors that decoding returns."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from multidict import CIMultiDict

from distinct_async import DistinctError
from distinct_async._secrets import ApiKey
from distinct_async._wire.protocol import Reply

E = TypeVar("E", bound=DistinctError)

KEY = "canary"
NOW = 1_700_000_000.0


def make_reply(
    body: bytes | Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    api_key: str = KEY,
) -> Reply:
    """Return a reply; a body that is not bytes is encoded as JSON."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, CIMultiDict(headers or {}), encoded, ApiKey(api_key), NOW)


def error_in(outcome: object, kind: type[E]) -> E:
    """Return `outcome`, which must be an error of exactly this class, with nothing attached."""
    assert isinstance(outcome, kind)
    assert type(outcome) is kind
    assert (outcome.__cause__, outcome.__context__, outcome.__traceback__) == (None, None, None)
    return outcome
