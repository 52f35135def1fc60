"""This package: decoding one response."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from benchmarks.contestants import page_body, time_decoding


def decode(items: int, calls: int) -> float:
    """Decode a page of visits and return the seconds per call."""
    return time_decoding(_decoder(items), calls)


@cache
def _decoder(items: int) -> Callable[[], object]:
    body = page_body(items)
    try:
        return _current_decoder(body)
    except ModuleNotFoundError:
        return _former_decoder(body)


def _current_decoder(body: bytes) -> Callable[[], object]:
    # By name, as an older version, which has none of these modules, can run beside this one.
    endpoint: Any = import_module("distinct_async._wire.touchpoint_metrics")
    protocol: Any = import_module("distinct_async._wire.protocol")
    key = import_module("distinct_async._secrets").ApiKey("key")
    request = endpoint.visit_page("tp-1", visits_type=_total())
    reply = protocol.Reply(200, {}, body, key, 0.0)
    return lambda: request.decode(reply)


def _former_decoder(body: bytes) -> Callable[[], object]:
    wire: Any = import_module("distinct_async.wire")
    key = import_module("distinct_async.config").ApiKey("key")
    reply, visits_type = wire.Reply(200, {}, body, key, 0.0), _total()
    return lambda: wire.decode_visits(reply, visits_type)


def _total() -> Any:
    return import_module("distinct_async").VisitsType.TOTAL
