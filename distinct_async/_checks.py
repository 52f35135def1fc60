"""Argument checks, all in one place.

Each returns the checked value or raises a `ConfigurationError` that names the argument and says
what was expected.
"""

import math
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from distinct_async.errors import ConfigurationError
from distinct_async.models import Visit, VisitsType

if TYPE_CHECKING:
    import attrs

T = TypeVar("T")

LARGEST_INTEGER: Final = 2**63 - 1
# Timers and locks count nanoseconds in 64 bits (`threading.TIMEOUT_MAX`): 292 years.
LONGEST_SECONDS: Final = LARGEST_INTEGER // 10**9

_SHOWN_CHARACTERS: Final = 80
_ERROR_STATUSES: Final = range(400, 600)
_SHARD_LENGTH: Final = 2


def require_integer(name: str, value: object, *, minimum: int) -> int:
    """Return `value` if it is an integer from `minimum` to 2⁶³ - 1; a bool is not an integer.

    Raises:
        ConfigurationError: It is anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(f"{name} must be an integer, got {type(value).__name__}")
    if value < minimum:
        # Do not print the value: Python refuses to print integers of more than 4,300 digits.
        raise ConfigurationError(f"{name} must be at least {minimum}, got a smaller one")
    if value > LARGEST_INTEGER:
        raise ConfigurationError(f"{name} must be at most {LARGEST_INTEGER}, got a larger one")
    return value


def require_seconds(name: str, value: object, *, positive: bool) -> float:
    """Return `value` if it is a finite number of at least 0, or above 0 if `positive`.

    Raises:
        ConfigurationError: It is anything else, or more seconds than a timer can hold.
    """
    number = _require_finite(name, value, positive=positive)
    if number > LONGEST_SECONDS:
        raise ConfigurationError(f"{name} must be at most {LONGEST_SECONDS} seconds, got more")
    return number


def require_rate(name: str, value: object) -> float:
    """Return `value` if it is a finite number above 0 whose inverse a timer can hold.

    Raises:
        ConfigurationError: It is anything else.
    """
    number = _require_finite(name, value, positive=True)
    if number * LONGEST_SECONDS < 1:
        raise ConfigurationError(f"{name} must be at least one in {LONGEST_SECONDS} seconds")
    return number


def _require_finite(name: str, value: object, *, positive: bool) -> float:
    expected = "a finite number above 0" if positive else "a finite number of at least 0"
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigurationError(f"{name} must be {expected}, got {type(value).__name__}")
    if value < 0 or (positive and value == 0) or not _fits_float(value):
        raise ConfigurationError(f"{name} must be {expected}, got {shown(value)}")
    return value


def _fits_float(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


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
    raise ConfigurationError(f"visits_type must be TOTAL or UNIQUE, got {shown(value)}")


def require_header(name: str, value: object, *, default: str) -> str:
    """Return `value` if it can be a header's value: printable ASCII, not empty; None is `default`.

    Raises:
        ConfigurationError: It is anything else.
    """
    if value is None:
        return default
    if not isinstance(value, str) or re.fullmatch(r"[ -~]+", value) is None:
        raise ConfigurationError(f"{name} must be printable ASCII and not empty")
    return value


def require_folder(name: str, value: str | os.PathLike[str]) -> Path:
    """Return `value` as a path.

    Raises:
        ConfigurationError: It is empty, which pathlib takes for the current folder, or no path of
            this system: it contains NUL, or characters that its file names cannot have.
    """
    with suppress(TypeError, UnicodeEncodeError):
        text = os.fspath(value)
        if b"\0" not in os.fsencode(text) and text != "":
            return Path(text)
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


def require_statuses(value: object) -> frozenset[int]:
    """Return the HTTP error statuses in an iterable.

    Raises:
        ConfigurationError: It is no iterable of integers from 400 to 599.
    """
    expected = "statuses must be an iterable of integers from 400 to 599"
    if not isinstance(value, Iterable):
        raise ConfigurationError(f"{expected}, got {type(value).__name__}")
    statuses: list[int] = []
    for status in cast("Iterable[object]", value):
        if not isinstance(status, int) or isinstance(status, bool):
            raise ConfigurationError(f"{expected}, got one of {type(status).__name__}")
        if status not in _ERROR_STATUSES:
            raise ConfigurationError(f"{expected}, got one outside")
        statuses.append(int(status))
    return frozenset(statuses)


def require_instance(name: str, value: object, expected: type) -> None:
    """Check that `value` is an instance of `expected`.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, expected):
        kind = type(value).__name__
        raise ConfigurationError(f"{name} must be {expected.__name__}, got {kind}")


def require_items(name: str, value: object, expected: type[T]) -> tuple[T, ...]:
    """Return the items of an iterable, all of which must be instances of `expected`; None is ().

    Raises:
        ConfigurationError: It is no iterable, or one of its items is anything else.
    """
    if value is None:
        return ()
    if not isinstance(value, Iterable):
        raise ConfigurationError(f"{name} must be iterable, got {type(value).__name__}")
    items = tuple(cast("Iterable[object]", value))
    for item in items:
        if not isinstance(item, expected):
            kind = type(item).__name__
            raise ConfigurationError(f"{name} must be {expected.__name__} values, got {kind}")
    return cast("tuple[T, ...]", items)


def require_callable(name: str, value: object) -> None:
    """Check that `value` can be called.

    Raises:
        ConfigurationError: It cannot.
    """
    if not callable(value):
        raise ConfigurationError(f"{name} must be callable, got {type(value).__name__}")


def shown(value: object) -> str:
    """Return the start of a value's repr, for messages."""
    try:
        return ascii(value)[:_SHOWN_CHARACTERS]
    except ValueError:
        # Python refuses to print integers of more than 4,300 digits.
        return f"a huge {type(value).__name__}"


# --- The same checks as validators of attrs fields


Validator: TypeAlias = Callable[[Any, Any, Any], None]
"""Takes the instance, the attrs field and the value."""


def integer_from(minimum: int) -> Validator:
    """Return a validator for integers from `minimum` to 2⁶³ - 1."""

    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        require_integer(attribute.name, value, minimum=minimum)

    return validate


def seconds(*, positive: bool) -> Validator:
    """Return a validator for finite numbers of at least 0, or above 0 if `positive`."""

    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        require_seconds(attribute.name, value, positive=positive)

    return validate


def rate() -> Validator:
    """Return a validator for finite numbers above 0 whose inverse a timer can hold."""

    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        require_rate(attribute.name, value)

    return validate


def instance_of(expected: type) -> Validator:
    """Return a validator for instances of `expected`."""

    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        require_instance(attribute.name, value, expected)

    return validate


def is_callable(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    """Check that a field's value can be called."""
    require_callable(attribute.name, value)
