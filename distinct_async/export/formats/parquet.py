"""Parquet files and Arrow tables, built column by column with pyarrow.

Columns are filled page by page, so a page's `Visit` objects (about 200 bytes each) are freed
before the next page arrives.
"""
# pyarrow is untyped, and the types that pyright infers from its sources are wrong.
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
from distinct_async.export.models import ExportedTouchpoint, StoredVisit, Tally

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME: Final = pa.timestamp("us", "UTC")

# pyarrow and pandas infer a dictionary of strings for `touchpoint_id` from the folder's name, and
# refuse to merge it with a column of another type.
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
    """Consecutive visits of one touchpoint as growing columns, about 25 bytes per visit.

    Arrow arrays are created from these buffers because `pyarrow.array` imports pandas wherever it
    is installed, which takes half a second and 45 MiB.

    Args:
        touchpoint_id: The touchpoint's id.
        offset: The offset of the first visit.
    """

    def __init__(self, touchpoint_id: str, offset: int) -> None:
        self._touchpoint_id = touchpoint_id
        self._offset = offset
        self._times = array("q")
        self._user_ids = _StringColumn()

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        return self._times.itemsize * len(self._times) + self._user_ids.size

    def extend(self, visits: Sequence[Visit]) -> None:
        """Append visits."""
        self._user_ids.extend([visit.user_id for visit in visits])
        self._times.extend(
            [
                age.days * 86_400_000_000 + age.seconds * 1_000_000 + age.microseconds
                for visit in visits
                for age in (visit.timestamp - _EPOCH,)
            ]
        )

    def to_table(self) -> Any:
        """Return a table with the schema `VISITS`."""
        count = len(self._times)
        dictionary = _StringColumn()
        dictionary.extend([self._touchpoint_id])
        offsets = array("q", range(self._offset, self._offset + count))
        columns = [
            pa.DictionaryArray.from_arrays(
                _fixed_width_array(pa.int32(), array("i", bytes(4 * count))), dictionary.to_array()
            ),
            self._user_ids.to_array(),
            _fixed_width_array(_TIME, self._times),
            _fixed_width_array(pa.int64(), offsets),
        ]
        return pa.Table.from_arrays(columns, schema=VISITS)


@final
class _StringColumn:
    """A growing column of strings: their bytes, and the position where each string ends."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("i", [0])

    @property
    def size(self) -> int:
        return len(self._bytes) + self._ends.itemsize * len(self._ends)

    def extend(self, texts: Sequence[str]) -> None:
        joined = "".join(texts)
        # An ASCII string has as many bytes as characters.
        lengths = map(len, texts) if joined.isascii() else [len(text.encode()) for text in texts]
        self._bytes += joined.encode()
        self._ends.extend(islice(accumulate(lengths, initial=self._ends[-1]), 1, None))

    def to_array(self) -> Any:
        buffers = pa.py_buffer(self._ends), pa.py_buffer(self._bytes)
        return pa.StringArray.from_buffers(len(self._ends) - 1, *buffers)


def _fixed_width_array(dtype: Any, values: "array[int]") -> Any:
    return pa.Array.from_buffers(dtype, len(values), [None, pa.py_buffer(values)])


async def collect_table(pager: Pager[Any, Any] | AsyncIterable[VisitPage]) -> Any:
    """Return all items of a pager, or of pages of visits, as a table."""
    if isinstance(pager, Pager) and pager.touchpoint_id is None:
        return _touchpoint_table([ExportedTouchpoint.from_summary(item) async for item in pager])
    pages = pager.pages() if isinstance(pager, Pager) else pager
    tables = [VISITS.empty_table()]
    async for page in pages:
        columns = VisitColumns(page.touchpoint.id, page.offset)
        columns.extend(page.items)
        tables.append(columns.to_table())
    return pa.concat_tables(tables)


def _touchpoint_table(touchpoints: Iterable[ExportedTouchpoint]) -> Any:
    lines = msgspec.json.Encoder().encode_lines(touchpoints)
    if not lines:
        return TOUCHPOINTS.empty_table()
    # Built from JSON because `Table.from_pylist` imports pandas, too.
    options = json.ParseOptions(explicit_schema=TOUCHPOINTS)
    return json.read_json(BytesIO(lines), parse_options=options)


@final
class ParquetWriter:
    """An open Parquet file; each buffer becomes a row group.

    Args:
        path: The file to create.
    """

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(
            path,
            VISITS,
            compression="zstd",
            use_dictionary=["touchpoint_id"],
            # Both columns grow steadily: deltas halve the file and save a third of the time.
            column_encoding=dict.fromkeys(("timestamp", "offset"), "DELTA_BINARY_PACKED"),
        )

    def write(self, buffer: VisitColumns) -> None:
        """Write a row group."""
        table = buffer.to_table()
        self._writer.write_table(table, row_group_size=table.num_rows)

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()
        # Otherwise pyarrow keeps this part's memory and takes more for the next part.
        pa.default_memory_pool().release_unused()


_STORED: Final = ["user_id", "timestamp", "offset"]


def _stored_visits(table: Any) -> list[StoredVisit]:
    # Dropping the zone (always UTC) avoids a lookup in the time zone database.
    moments = table["timestamp"].cast(pa.timestamp("us")).to_pylist()
    columns = table["user_id"].to_pylist(), moments, table["offset"].to_pylist()
    return [
        StoredVisit(offset, Visit(user_id, moment.replace(tzinfo=UTC)))
        for user_id, moment, offset in zip(*columns, strict=True)
    ]


@final
class Parquet:
    """Parquet, in row groups of about 50,000 visits."""

    name = "parquet"
    # One row group per part would suit readers slightly better, but takes 10 MiB more for eight
    # open parts, and more still if ids are long.
    flush_threshold = 1024 * 1024

    def new_buffer(self, touchpoint_id: str, offset: int) -> VisitColumns:
        """Create a buffer whose first visit will have this offset."""
        return VisitColumns(touchpoint_id, offset)

    def open_writer(self, path: Path) -> ParquetWriter:
        """Create a file of visits."""
        return ParquetWriter(path)

    def read_visit(self, path: Path, index: int) -> StoredVisit | None:
        """Read one row of a file of visits; a negative index counts from the end."""
        with pq.ParquetFile(path) as file:
            index += file.metadata.num_rows if index < 0 else 0
            if not 0 <= index < file.metadata.num_rows:
                return None
            group = 0
            while index >= (rows := file.metadata.row_group(group).num_rows):
                index, group = index - rows, group + 1
            table = file.read_row_group(group, _STORED)
        return _stored_visits(table.slice(index, 1))[0]

    def read_last(self, path: Path, count: int) -> list[StoredVisit]:
        """Read the last rows of a file of visits, from its last row group."""
        with pq.ParquetFile(path) as file:
            groups = file.metadata.num_row_groups
            if groups == 0:
                return []
            table = file.read_row_group(groups - 1, _STORED)
        return _stored_visits(table.slice(max(0, table.num_rows - count)))

    def tally(self, path: Path) -> Tally:
        """Count the visits in a file."""
        table = pq.read_table(path, columns=["user_id", "timestamp"], partitioning=None)
        # Dropping the zone (always UTC) avoids a lookup in the time zone database.
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
