"""Shapes that cattrs structures: rare responses, whose public values are attrs classes.

cattrs is imported on first use, because a walk of visits does without it.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    get_origin,
)

import attrs
import msgspec

from distinct_async._wire.protocol import LARGEST_COUNT, Reply, decode_error, read_envelope
from distinct_async.errors import DecodeError, DistinctError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")
_Hook: TypeAlias = Callable[[Any, Any], Any]

_JSON_NAMES: Final = {"timestamps": "timestampsUTC"}


def structure(reply: Reply, shape: type[T]) -> T | DistinctError:
    """Return a reply's data as an attrs class, or a `StatusError` or `DecodeError` in its place."""
    data = read_envelope(reply)
    if isinstance(data, DistinctError):
        return data
    try:
        return _converter().structure(data, shape)
    except (ValueError, ExceptionGroup) as error:
        path, mismatch = _locate(error, "data")
    if not isinstance(mismatch, _MismatchError):
        return DecodeError("is missing", path=path)
    return decode_error(reply, f"expected {mismatch.expected}", path, mismatch.value)


class _MismatchError(ValueError):
    """A value is not what the API document says."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(expected, value)
        self.expected = expected
        self.value = value


def _locate(error: BaseException, path: str) -> tuple[str, BaseException]:
    """Follow cattrs' notes to the first value that failed; return its path and its error."""
    from cattrs import AttributeValidationNote, BaseValidationError  # noqa: PLC0415

    while isinstance(error, BaseValidationError):
        error = error.exceptions[0]
        note = error.__notes__[-1]
        if isinstance(note, AttributeValidationNote):
            path += f".{_json_name(note.name)}"
        else:
            path += f"[{note.index}]"
    return path, error


@cache
def _converter() -> "Converter":
    from cattrs import Converter  # noqa: PLC0415

    converter = Converter()
    converter.register_structure_hook(str, _string)
    converter.register_structure_hook(int, _count)
    converter.register_structure_hook(datetime, _timestamp)
    converter.register_structure_hook_factory(_is_tuple, _tuple_hook)
    converter.register_structure_hook_factory(attrs.has, _object_hook)
    return converter


def _string(value: object, _: object) -> str:
    if type(value) is not str:
        raise _MismatchError("a string", value)
    return value


def _count(value: object, _: object) -> int:
    # Comparing the exact type keeps booleans out. Every integer in the document is a count.
    if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
        raise _MismatchError("an integer from 0 to 2⁶³ - 1", value)
    return value


def _timestamp(value: object, _: object) -> datetime:
    try:
        if type(value) is str:
            moment: datetime = msgspec.convert(value, Annotated[datetime, msgspec.Meta(tz=True)])
            return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        pass
    raise _MismatchError("a UTC timestamp (RFC 3339)", value)


def _is_tuple(target: Any) -> bool:
    return get_origin(target) is tuple


def _tuple_hook(target: Any, converter: "Converter") -> _Hook:
    list_type: Any = list.__class_getitem__(get_args(target)[0])
    structure_list = converter.get_structure_hook(list_type)

    def hook(value: object, _: object) -> tuple[Any, ...]:
        # cattrs would iterate anything: the keys of an object, the characters of a string.
        if type(value) is not list:
            raise _MismatchError("an array", value)
        return tuple(structure_list(value, list_type))

    return hook


def _object_hook(target: type, converter: "Converter") -> _Hook:
    from cattrs.gen import make_dict_structure_fn, override  # noqa: PLC0415

    names = {a.name: override(rename=_json_name(a.name)) for a in attrs.fields(target)}
    make: Any = make_dict_structure_fn  # its annotations reject overrides beside options
    build: _Hook = make(target, converter, **names)

    def hook(value: object, _: object) -> Any:
        if type(value) is not dict:
            raise _MismatchError("an object", value)
        return build(cast("Any", value), target)

    return hook


def _json_name(attribute: str) -> str:
    """Return the document's spelling of an attribute: ``user_id`` → ``userId``."""
    head, *tail = attribute.split("_")
    return _JSON_NAMES.get(attribute) or head + "".join(map(str.capitalize, tail))
