"""Parquet, and tables in memory, through pyarrow: the one module that needs it.

Columns grow page by page: the visits themselves, some 200 bytes each, are gone when the next page
comes.
"""
# pyarrow has no types, and what a checker reads off its sources is not so.
# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false

from array import array
from collections import Counter
from collections.abc import AsyncIterable, Iterable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final, final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import json

from distinct_async import Pager, Visit, VisitPage
from distinct_async.export.rows import ExportedTouchpoint, Tally

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME: Final = pa.timestamp("us", "UTC")

# The id is the same in all rows of a file. Also, this is the type that pyarrow and pandas give
# the partition's column, which they refuse to merge with any other.
VISITS: Final = pa.schema(
    [
        pa.field("touchpoint_id", pa.dictionary(pa.int32(), pa.string())),
        pa.field("user_id", pa.string()),
        pa.field("timestamp", _TIME),
        pa.field("offset", pa.int64()),
    ]
)
TOUCHPOINTS: Final = pa.schema(
    [
        pa.field("touchpoint_id", pa.string()),
        pa.field("name", pa.string()),
        pa.field("value", pa.string()),
        pa.field("total_visits", pa.int64()),
        pa.field("unique_visits", pa.int64()),
    ]
)


@final
class VisitColumns:
    """Visits of one touchpoint as growing columns, some 25 bytes each.

    Arrays are made from these buffers, and not by `pyarrow.array`: wherever pandas is installed,
    that imports it, which takes half a second and 45 MiB.

    Args:
        touchpoint_id: The touchpoint.
        offset: Offset of the first visit.
    """

    def __init__(self, touchpoint_id: str, offset: int) -> None:
        self._touchpoint_id = touchpoint_id
        self._offset = offset
        self._times = array("q")
        self._user_ids = _Strings()

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._times.itemsize * len(self._times) + self._user_ids.size

    def add(self, visits: Sequence[Visit]) -> None:
        """Append visits."""
        self._user_ids.extend([visit.user_id for visit in visits])
        self._times.extend(
            [
                passed.days * 86_400_000_000 + passed.seconds * 1_000_000 + passed.microseconds
                for visit in visits
                for passed in (visit.timestamp - _EPOCH,)
            ]
        )

    def table(self) -> Any:
        """Return all of them in the schema `VISITS`."""
        count = len(self._times)
        touchpoint_ids = _Strings()
        touchpoint_ids.extend([self._touchpoint_id])
        offsets = array("q", range(self._offset, self._offset + count))
        columns = [
            pa.DictionaryArray.from_arrays(
                _fixed(pa.int32(), array("i", bytes(4 * count))), touchpoint_ids.column()
            ),
            self._user_ids.column(),
            _fixed(_TIME, self._times),
            _fixed(pa.int64(), offsets),
        ]
        return pa.Table.from_arrays(columns, schema=VISITS)


@final
class _Strings:
    """A growing column of strings: their bytes, and where each ends."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("i", [0])

    @property
    def size(self) -> int:
        return len(self._bytes) + self._ends.itemsize * len(self._ends)

    def extend(self, texts: Sequence[str]) -> None:
        joined = "".join(texts)
        # In ASCII, a string is as long as its bytes.
        lengths = map(len, texts) if joined.isascii() else [len(text.encode()) for text in texts]
        self._bytes += joined.encode()
        self._ends.extend(islice(accumulate(lengths, initial=self._ends[-1]), 1, None))

    def column(self) -> Any:
        buffers = pa.py_buffer(self._ends), pa.py_buffer(self._bytes)
        return pa.StringArray.from_buffers(len(self._ends) - 1, *buffers)


def _fixed(kind: Any, values: "array[int]") -> Any:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


async def table_of(pager: Pager[Any, Any] | AsyncIterable[VisitPage]) -> Any:
    """Walk the pages, and return their items as a table."""
    if isinstance(pager, Pager) and pager.touchpoint_id is None:
        return _touchpoint_table([ExportedTouchpoint.of(each) async for each in pager])
    pages = pager.pages() if isinstance(pager, Pager) else pager
    tables = [VISITS.empty_table()]
    async for page in pages:
        columns = VisitColumns(page.touchpoint.id, page.offset)
        columns.add(page.items)
        tables.append(columns.table())
    return pa.concat_tables(tables)


def _touchpoint_table(touchpoints: Iterable[ExportedTouchpoint]) -> Any:
    lines = msgspec.json.Encoder().encode_lines(touchpoints)
    if not lines:
        return TOUCHPOINTS.empty_table()
    # By way of JSON, as `Table.from_pylist` imports pandas, too.
    options = json.ParseOptions(explicit_schema=TOUCHPOINTS)
    return json.read_json(BytesIO(lines), parse_options=options)


class Parquet:
    """Parquet, in row groups of about 50,000 visits."""

    name = "parquet"
    # Parts of one row group each, which readers would like a little better, take 10 MiB more when
    # eight are in hand, and more yet of uncommonly long ids.
    most_pending = 1024 * 1024

    def gather(self, touchpoint_id: str, offset: int) -> VisitColumns:
        """Begin to gather visits."""
        return VisitColumns(touchpoint_id, offset)

    def open(self, path: Path) -> "ParquetSink":
        """Begin a file of visits."""
        return ParquetSink(path)

    def tally(self, path: Path) -> Tally:
        """Count the visits of a file."""
        table = pq.read_table(path, columns=["user_id", "timestamp"], partitioning=None)
        # Without the zone, which is UTC: nothing has to be looked up in a time zone database.
        times = table["timestamp"].cast(pa.timestamp("us"))
        hours = pc.value_counts(pc.add(pc.multiply(pc.day_of_week(times), 24), pc.hour(times)))
        ends = pc.min_max(times).as_py()
        return Tally(
            visits=table.num_rows,
            users=set(pc.unique(table["user_id"]).to_pylist()),
            hours=Counter({divmod(x["values"], 24): x["counts"] for x in hours.to_pylist()}),
            moments=(ends["min"].replace(tzinfo=UTC), ends["max"].replace(tzinfo=UTC)),
        )

    def write_touchpoints(self, path: Path, touchpoints: Iterable[ExportedTouchpoint]) -> None:
        """Write a file of touchpoints."""
        pq.write_table(_touchpoint_table(touchpoints), path)

    def read_touchpoints(self, path: Path) -> list[ExportedTouchpoint]:
        """Read a file of touchpoints."""
        rows = pq.read_table(path, schema=TOUCHPOINTS, partitioning=None).to_pylist()
        return [ExportedTouchpoint(**row) for row in rows]


class ParquetSink:
    """A Parquet file that is being written."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(
            path,
            VISITS,
            compression="zstd",
            use_dictionary=["touchpoint_id"],
            # Both grow with every row: these take half the file, and a third of the time.
            column_encoding=dict.fromkeys(("timestamp", "offset"), "DELTA_BINARY_PACKED"),
        )

    def write(self, gathered: VisitColumns) -> None:
        """Write a row group."""
        table = gathered.table()
        self._writer.write_table(table, row_group_size=table.num_rows)

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.close()
        # Else what one part took stays with the process, and the next takes more.
        pa.default_memory_pool().release_unused()
