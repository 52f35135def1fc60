"""Read exported files without the code that wrote them."""

import csv
import gzip
import io
import json
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distinct_async import Visit

Row = tuple[str, str, datetime, int]


def rows_of(folder: Path) -> list[Row]:
    """Return the rows of all parts in a folder, by touchpoint and offset."""
    paths = [folder / part for part in parts_of(folder)]
    rows = [row for path in paths for row in _read_cached(path, path.stat().st_mtime_ns)]
    return sorted(rows, key=lambda row: (row[0], row[3]))


@lru_cache(1_000)
def _read_cached(path: Path, _: int) -> list[Row]:
    """Read a part once: parts never change, and tests read folders many times."""
    return list(read(path))


def parts_of(folder: Path) -> list[str]:
    """Return the paths of the parts, relative to the folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("visits-*"))


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Map every file, hidden ones included, to values that change when it is written."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.rglob("*")
    }


def touch(folder: Path, *names: str) -> None:
    """Create empty files in a folder, and the folder if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def read(path: Path) -> Iterable[Row]:
    """Yield the rows of a part."""
    for row in _read(path):
        moment = row["timestamp"]
        if isinstance(moment, str):
            assert len(moment) == len("2024-01-01T00:00:00.000000Z")
            moment = datetime.fromisoformat(moment)
        yield row["touchpoint_id"], row["user_id"], moment, int(row["offset"])


def _read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            rows: list[dict[str, Any]] = file.read().to_pylist()
        return rows
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if path.suffix == ".zst":
        content = pa.input_stream(pa.BufferReader(content), compression="zstd").read()
    if ".csv" in path.suffixes:
        return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    return [json.loads(line) for line in content.decode().split("\n")[:-1]]


def rows_from(touchpoint_id: str, visits: Iterable[Visit]) -> list[Row]:
    """Return the rows that an export should have for these visits."""
    return [
        (touchpoint_id, visit.user_id, visit.timestamp, offset)
        for offset, visit in enumerate(visits)
    ]
