"""Argument checks, all in one place.

Each returns the checked value or raises a `ConfigurationError` that names the argument and says
what was expected.
"""

import math
import re
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from distinct_async.errors import ConfigurationError
from distinct_async.models import Visit, VisitsType

if TYPE_CHECKING:
    import attrs

_SHOWN_CHARACTERS: Final = 80
_SHARD_LENGTH: Final = 2


def require_integer(name: str, value: object, *, minimum: int) -> int:
    """Return `value` if it is an integer of at least `minimum`; a bool is not an integer.

    Raises:
        ConfigurationError: It is anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(f"{name} must be an integer, got {type(value).__name__}")
    if value < minimum:
        # Do not print the value: Python refuses to print integers of more than 4,300 digits.
        raise ConfigurationError(f"{name} must be at least {minimum}, got a smaller one")
    return value


def require_seconds(name: str, value: object, *, positive: bool) -> float:
    """Return `value` if it is a finite number of at least 0, or above 0 if `positive`.

    Raises:
        ConfigurationError: It is anything else.
    """
    expected = "a finite number above 0" if positive else "a finite number of at least 0"
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigurationError(f"{name} must be {expected}, got {type(value).__name__}")
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise ConfigurationError(f"{name} must be {expected}, got {value!r}")
    return value


def require_after(value: object) -> tuple[Visit, ...]:
    """Return the visits expected before an offset; a single one may stand alone.

    Raises:
        ConfigurationError: `value` is neither a visit, nor a list or tuple of visits, nor None.
    """
    visits = cast("list[object]", value if isinstance(value, list | tuple) else [value])
    if value is None:
        return ()
    for visit in visits:
        if not isinstance(visit, Visit):
            kind = type(visit).__name__
            raise ConfigurationError(f"after must be a visit or a list of visits, got {kind}")
        if visit.timestamp.tzinfo is None:
            raise ConfigurationError("after must have timestamps with a zone, got one without")
    return tuple(cast("list[Visit]", visits))


def require_id(name: str, value: object) -> str:
    """Return `value` if it is a non-blank string that can be encoded as UTF-8.

    Raises:
        ConfigurationError: It is anything else.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a string, got {type(value).__name__}")
    if not value.strip():
        raise ConfigurationError(f"{name} must not be empty")
    if re.search("[\ud800-\udfff]", value):
        raise ConfigurationError(f"{name} must be encodable as UTF-8, got lone surrogates")
    return value


def require_optional_id(name: str, value: object) -> str | None:
    """Return `value` if it is None or a usable id.

    Raises:
        ConfigurationError: It is anything else.
    """
    return None if value is None else require_id(name, value)


def require_optional_integer(name: str, value: object, *, minimum: int) -> int | None:
    """Return `value` if it is None or an integer of at least `minimum`.

    Raises:
        ConfigurationError: It is anything else.
    """
    return None if value is None else require_integer(name, value, minimum=minimum)


def require_visits_type(value: object) -> VisitsType:
    """Return the `VisitsType` that `value` is or names.

    Raises:
        ConfigurationError: It names none.
    """
    for visits_type in VisitsType:
        if value == visits_type:
            return visits_type
    raise ConfigurationError(f"visits_type must be TOTAL or UNIQUE, got {_shown(value)}")


def require_header_text(name: str, value: object) -> str:
    """Return `value` if it can be a header's value: printable ASCII, not empty.

    Raises:
        ConfigurationError: It is anything else.
    """
    if not isinstance(value, str) or re.fullmatch(r"[ -~]+", value) is None:
        raise ConfigurationError(f"{name} must be printable ASCII and not empty")
    return value


def require_folder(name: str, value: str | PathLike[str]) -> Path:
    """Return `value` as a path.

    Raises:
        ConfigurationError: It is empty, which pathlib takes for the current folder, or no path.
    """
    with suppress(TypeError):
        path = Path(value)
        if value != "":
            return path
    raise ConfigurationError(f"{name} must be the path of a folder")


def require_shard(value: object) -> tuple[int, int]:
    """Return a shard as its index, counted from 1, and the number of shards; None is (1, 1).

    Raises:
        ConfigurationError: It is not a pair of integers, or the index exceeds the count.
    """
    if value is None:
        return 1, 1
    expected = "shard must be two integers, (index, count), the index from 1 to the count"
    numbers = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
    if len(numbers) != _SHARD_LENGTH:
        raise ConfigurationError(expected)
    index, count = (require_integer("shard", number, minimum=1) for number in numbers)
    if index > count:
        raise ConfigurationError(f"{expected}, got {index} of {count}")
    return index, count


def require_instance(name: str, value: object, expected: type) -> None:
    """Check that `value` is an instance of `expected`.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, expected):
        kind = type(value).__name__
        raise ConfigurationError(f"{name} must be {expected.__name__}, got {kind}")


def _shown(value: object) -> str:
    return ascii(value)[:_SHOWN_CHARACTERS]


# --- The same checks as validators of attrs fields


Validator: TypeAlias = Callable[[Any, Any, Any], None]
"""Takes the instance, the attrs field and the value."""


def integer_from(minimum: int) -> Validator:
    """Return a validator for integers of at least `minimum`."""

    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        require_integer(attribute.name, value, minimum=minimum)

    return validate


def seconds(*, positive: bool) -> Validator:
    """Return a validator for finite numbers of at least 0, or above 0 if `positive`."""

    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        require_seconds(attribute.name, value, positive=positive)

    return validate


def instance_of(expected: type) -> Validator:
    """Return a validator for instances of `expected`."""

    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        require_instance(attribute.name, value, expected)

    return validate
