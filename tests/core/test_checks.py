"""Argument checks: each error names the argument, what was expected and what it got."""

import math
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import pytest

from distinct_async import ConfigurationError, VisitsType
from distinct_async import _checks as checks

# Python refuses to print integers of this length, and no float holds them.
HUGE = 10**5000
LARGEST = 2**63 - 1


def message_of(check: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check()
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    return str(caught.value)


# --- Numbers


def test_integers_from_the_minimum_to_64_bits_pass() -> None:
    assert checks.require_integer("size", 1, minimum=1) == 1
    assert checks.require_integer("size", LARGEST, minimum=1) == LARGEST
    assert checks.require_optional_integer("size", 0, minimum=0) == 0
    assert checks.require_optional_integer("size", None, minimum=0) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "size must be an integer, got NoneType"),
        (True, "size must be an integer, got bool"),
        (1.0, "size must be an integer, got float"),
        ("1", "size must be an integer, got str"),
        (0, "size must be at least 1, got a smaller one"),
        pytest.param(-HUGE, "size must be at least 1, got a smaller one", id="hugely negative"),
        (2**63, f"size must be at most {LARGEST}, got a larger one"),
        pytest.param(HUGE, f"size must be at most {LARGEST}, got a larger one", id="huge"),
    ],
)
def test_other_integers_are_refused(value: Any, message: str) -> None:
    assert message_of(lambda: checks.require_integer("size", value, minimum=1)) == message


def test_an_optional_integer_is_checked_like_any_other() -> None:
    message = message_of(lambda: checks.require_optional_integer("size", 0, minimum=1))

    assert message == "size must be at least 1, got a smaller one"


def test_seconds_that_a_timer_holds_pass() -> None:
    longest = int(threading.TIMEOUT_MAX)
    assert checks.require_seconds("delay", longest, positive=True) == longest
    assert checks.require_seconds("delay", 0, positive=False) == 0
    assert checks.require_seconds("delay", 0.001, positive=True) == 0.001
    assert checks.require_seconds("delay", 86_400, positive=True) == 86_400


@pytest.mark.parametrize(
    ("value", "positive", "message"),
    [
        (0, True, "delay must be a finite number above 0, got 0"),
        (-0.5, True, "delay must be a finite number above 0, got -0.5"),
        (-0.5, False, "delay must be a finite number of at least 0, got -0.5"),
        (math.inf, False, "delay must be a finite number of at least 0, got inf"),
        (math.nan, True, "delay must be a finite number above 0, got nan"),
        (9_223_372_037, True, "delay must be at most 9223372036 seconds, got more"),
        (1e300, False, "delay must be at most 9223372036 seconds, got more"),
        pytest.param(
            HUGE, True, "delay must be a finite number above 0, got a huge int", id="huge"
        ),
        pytest.param(
            -HUGE,
            True,
            "delay must be a finite number above 0, got a huge int",
            id="hugely negative",
        ),
        (None, True, "delay must be a finite number above 0, got NoneType"),
        ("1", False, "delay must be a finite number of at least 0, got str"),
        (False, False, "delay must be a finite number of at least 0, got bool"),
    ],
)
def test_other_seconds_are_refused(value: Any, positive: bool, message: str) -> None:
    assert message_of(lambda: checks.require_seconds("delay", value, positive=positive)) == message


def test_rates_whose_inverse_a_timer_holds_pass() -> None:
    for rate in (2e-10, 1, 0.5, 1e300):
        assert checks.require_rate("rate", rate) == rate


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "rate must be a finite number above 0, got 0"),
        (math.inf, "rate must be a finite number above 0, got inf"),
        (True, "rate must be a finite number above 0, got bool"),
        pytest.param(HUGE, "rate must be a finite number above 0, got a huge int", id="huge"),
        (1e-10, "rate must be at least one in 9223372036 seconds"),
        (5e-324, "rate must be at least one in 9223372036 seconds"),
    ],
)
def test_other_rates_are_refused(value: Any, message: str) -> None:
    assert message_of(lambda: checks.require_rate("rate", value)) == message


# --- Texts


@pytest.mark.parametrize("value", ["x", " x ", "../x", "\x00", "🎉", "x" * 10_000])
def test_any_text_is_an_id(value: str) -> None:
    assert checks.require_id("user_id", value) == value
    assert checks.require_optional_id("user_id", value) == value


def test_an_optional_id_may_be_none() -> None:
    assert checks.require_optional_id("user_id", None) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "user_id must be a string, got int"),
        (b"id", "user_id must be a string, got bytes"),
        ("", "user_id must not be empty"),
        (" \n\t", "user_id must not be empty"),
        ("a\ud800", "user_id must be encodable as UTF-8, got lone surrogates"),
    ],
)
def test_other_ids_are_refused(value: Any, message: str) -> None:
    assert message_of(lambda: checks.require_id("user_id", value)) == message
    assert message_of(lambda: checks.require_optional_id("user_id", value)) == message


def test_none_is_not_a_required_id() -> None:
    assert message_of(lambda: checks.require_id("user_id", None)).startswith("user_id must be")


def test_visits_types_are_found_by_value_or_name() -> None:
    assert checks.require_visits_type("UNIQUE") is VisitsType.UNIQUE
    assert checks.require_visits_type(VisitsType.TOTAL) is VisitsType.TOTAL


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *[("unique", "'unique'"), ("", "''"), (None, "None"), (1, "1"), (["TOTAL"], "['TOTAL']")],
        ("ü\n\x1b", r"'\xfc\n\x1b'"),
        ("x" * 1_000, "'" + "x" * 79),
        pytest.param(HUGE, "a huge int", id="huge"),
    ],
)
def test_other_visits_types_are_refused(value: Any, shown: str) -> None:
    message = message_of(lambda: checks.require_visits_type(value))

    assert message == f"visits_type must be TOTAL or UNIQUE, got {shown}"


def test_printable_ascii_can_be_a_header() -> None:
    for value, header in (("nightly/1 (x; y)", "nightly/1 (x; y)"), (None, "default/1")):
        assert checks.require_header("user_agent", value, default="default/1") == header


@pytest.mark.parametrize("value", ["", "a\r\nb", "ü", "\x00", "a\n", 0, False, 7, b"agent"])
def test_other_headers_are_refused(value: Any) -> None:
    message = message_of(lambda: checks.require_header("user_agent", value, default="x"))

    assert message == "user_agent must be printable ASCII and not empty"


# --- Folders and shards


@attrs.frozen
class NoPath:
    path: Any

    def __fspath__(self) -> Any:
        return self.path


@pytest.mark.parametrize("value", ["a/b", Path("a/b"), PurePosixPath("a/b")])
def test_a_folder_is_a_path(value: Any) -> None:
    assert checks.require_folder("folder", value) == Path("a/b")


@pytest.mark.parametrize(
    "value", ["", None, 7, b"a/b", "a\0b", Path("a\0b"), "a\ud800", NoPath(""), NoPath(7)]
)
def test_other_folders_are_refused(value: Any) -> None:
    message = message_of(lambda: checks.require_folder("folder", value))

    assert message == "folder must be the path of a folder"


def test_a_shard_is_an_index_and_a_count() -> None:
    assert checks.require_shard((1, 1)) == (1, 1)
    assert checks.require_shard((2, 3)) == (2, 3)
    assert checks.require_shard(None) == (1, 1)


PAIR = "shard must be two integers, (index, count), the index from 1 to the count"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *[(value, PAIR) for value in ((), (1,), (1, 2, 3), [1, 2], "12", 1)],
        ((3, 2), f"{PAIR}, got 3 of 2"),
        ((0, 2), "shard must be at least 1, got a smaller one"),
        ((1, 2**63), f"shard must be at most {LARGEST}, got a larger one"),
        ((1, 0), "shard must be at least 1, got a smaller one"),
        ((1, True), "shard must be an integer, got bool"),
        ((1.0, 2), "shard must be an integer, got float"),
        (("1", "2"), "shard must be an integer, got str"),
    ],
)
def test_other_shards_are_refused(value: Any, message: str) -> None:
    assert message_of(lambda: checks.require_shard(value)) == message


# --- Types and validators


def test_an_instance_is_of_its_class_or_a_subclass() -> None:
    checks.require_instance("retry", True, int)

    message = message_of(lambda: checks.require_instance("retry", "x", int))
    assert message == "retry must be int, got str"


def test_items_are_a_tuple_of_their_class() -> None:
    assert checks.require_items("traces", None, int) == ()
    assert checks.require_items("traces", iter([1, 2]), int) == (1, 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, "x"], "traces must be int values, got str"),
        ("x", "traces must be int values, got str"),
        (1, "traces must be iterable, got int"),
    ],
)
def test_other_items_are_refused(value: Any, message: str) -> None:
    assert message_of(lambda: checks.require_items("traces", value, int)) == message


def test_only_what_can_be_called_is_callable() -> None:
    checks.require_callable("progress", print)

    message = message_of(lambda: checks.require_callable("progress", 0))
    assert message == "progress must be callable, got int"


@attrs.frozen(kw_only=True)
class Settings:
    attempts: Any = attrs.field(default=1, validator=checks.integer_from(1))
    delay: Any = attrs.field(default=0, validator=checks.seconds(positive=False))
    timeout: Any = attrs.field(default=1, validator=checks.seconds(positive=True))
    rate: Any = attrs.field(default=1, validator=checks.rate())
    path: Any = attrs.field(default=Path(), validator=checks.instance_of(Path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attempts": 0}, "attempts must be at least 1, got a smaller one"),
        ({"attempts": True}, "attempts must be an integer, got bool"),
        ({"delay": -1}, "delay must be a finite number of at least 0, got -1"),
        ({"timeout": 0}, "timeout must be a finite number above 0, got 0"),
        ({"rate": 0}, "rate must be a finite number above 0, got 0"),
        ({"path": "x"}, "path must be Path, got str"),
    ],
)
def test_a_validator_names_its_field(arguments: dict[str, Any], message: str) -> None:
    assert message_of(lambda: Settings(**arguments)) == message


def test_validators_let_usable_values_pass() -> None:
    assert Settings(attempts=2, delay=0, timeout=0.5, rate=0.5, path=Path("x")).attempts == 2
