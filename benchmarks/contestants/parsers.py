"""Parsers that do less than the client."""

import json
from datetime import datetime
from functools import cache
from typing import Annotated

import msgspec
import orjson

from benchmarks.contestants import page_body, time_decoding

_body = cache(page_body)


class _Visit(msgspec.Struct, gc=False):
    user_id: str = msgspec.field(name="userId")
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] = msgspec.field(name="timestampUTC")


class _Pagination(msgspec.Struct, rename="camel"):
    offset: int
    page_size: int


class _Details(msgspec.Struct):
    items: list[_Visit]
    pagination: _Pagination


class _Touchpoint(msgspec.Struct, rename="camel"):
    id: str
    name: str
    value: str
    total_visits: int
    total_visits_details: _Details


class _Data(msgspec.Struct):
    touchpoints: _Touchpoint


class _Envelope(msgspec.Struct, rename="camel"):
    status_code: int
    data: _Data


_decoder = msgspec.json.Decoder(_Envelope)


def orjson_alone(items: int, calls: int) -> float:
    """Parse to plain dicts with orjson."""
    body = _body(items)
    return time_decoding(lambda: orjson.loads(body), calls)


def json_alone(items: int, calls: int) -> float:
    """Parse to plain dicts with the standard library."""
    body = _body(items)
    return time_decoding(lambda: json.loads(body), calls)


def msgspec_structs(items: int, calls: int) -> float:
    """Decode to typed Structs, with timestamps parsed and types checked in C."""
    body = _body(items)
    return time_decoding(lambda: _decoder.decode(body), calls)
