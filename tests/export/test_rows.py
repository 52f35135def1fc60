"""The rows of CSV and JSON Lines, byte for byte."""

from datetime import UTC, datetime

import attrs
import pytest

from distinct_async import TouchpointSummary, Visit
from distinct_async._rows import (
    SYNTAXES,
    TOUCHPOINT_COLUMNS,
    VISIT_COLUMNS,
    encode_visits,
    format_times,
    touchpoint_row,
)
from distinct_async.export.models import ExportedTouchpoint

VISITS = [
    Visit("user-1", datetime(2024, 1, 1, 10, 30, tzinfo=UTC)),
    Visit('ä,"\r', datetime(2024, 1, 1, 10, 30, 0, 120, tzinfo=UTC)),
]
SUMMARY = TouchpointSummary("tp-1", "Door", "door", 3, 2)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "csv",
            (
                b'"touchpoint_id","user_id","timestamp","offset"\n'
                b'"tp-1","user-1","2024-01-01T10:30:00.000000Z",7\n'
                b'"tp-1","\xc3\xa4,""\r","2024-01-01T10:30:00.000120Z",8\n'
            ),
        ),
        (
            "jsonl",
            (
                b'{"touchpoint_id":"tp-1","user_id":"user-1",'
                b'"timestamp":"2024-01-01T10:30:00.000000Z","offset":7}\n'
                b'{"touchpoint_id":"tp-1","user_id":"\xc3\xa4,\\"\\r",'
                b'"timestamp":"2024-01-01T10:30:00.000120Z","offset":8}\n'
            ),
        ),
    ],
)
def test_visits_are_encoded_as_lines(name: str, lines: bytes) -> None:
    syntax = SYNTAXES[name]

    assert syntax.head(VISIT_COLUMNS) + encode_visits(syntax, "tp-1", 7, VISITS) == lines


@pytest.mark.parametrize("name", SYNTAXES)
def test_no_visits_are_no_lines(name: str) -> None:
    assert encode_visits(SYNTAXES[name], "tp-1", 7, []) == b""


def test_formatted_times_always_have_microseconds() -> None:
    assert format_times([]) == []
    assert format_times([visit.timestamp for visit in VISITS]) == [
        "2024-01-01T10:30:00.000000Z",
        "2024-01-01T10:30:00.000120Z",
    ]


def test_the_row_of_a_touchpoint_is_the_same_in_files_and_on_the_command_line() -> None:
    row = dict(zip(TOUCHPOINT_COLUMNS, touchpoint_row(SUMMARY), strict=True))

    assert row == attrs.asdict(ExportedTouchpoint.from_summary(SUMMARY))
