"""The file formats of an export: which there are, and what each must be able to do."""

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

from distinct_async import ConfigurationError, Visit
from distinct_async.export.rows import ExportedTouchpoint, Tally

FileFormat: TypeAlias = Literal[
    "parquet", "csv", "csv.gz", "csv.zst", "jsonl", "jsonl.gz", "jsonl.zst"
]
"""The formats, by the suffixes of their files; Parquet and Zstandard need the extra ``arrow``."""

FORMATS: Final[tuple[FileFormat, ...]] = get_args(FileFormat)


class Gathered(Protocol):
    """Visits of one touchpoint that wait to be written, in whatever form takes little memory."""

    @property
    def size(self) -> int:
        """How many bytes they take."""
        ...

    def add(self, visits: Sequence[Visit]) -> None:
        """Append visits. Does no I/O."""
        ...


class Sink(Protocol):
    """A file of visits that is being written."""

    def write(self, gathered: Any) -> None:
        """Write what was gathered."""
        ...

    def close(self) -> None:
        """Write what is left, and close the file."""
        ...


class Format(Protocol):
    """One file format."""

    @property
    def name(self) -> str:
        """The suffix of its files."""
        ...

    @property
    def most_pending(self) -> int:
        """How many bytes to gather before they are written."""
        ...

    def gather(self, touchpoint_id: str, offset: int) -> Gathered:
        """Begin to gather visits of a touchpoint, the first of which has this offset."""
        ...

    def open(self, path: Path) -> Sink:
        """Begin a file of visits."""
        ...

    def tally(self, path: Path) -> Tally:
        """Count the visits of a file."""
        ...

    def write_touchpoints(self, path: Path, touchpoints: Iterable[ExportedTouchpoint]) -> None:
        """Write a file of touchpoints."""
        ...

    def read_touchpoints(self, path: Path) -> list[ExportedTouchpoint]:
        """Read a file of touchpoints."""
        ...


def find_format(name: object) -> Format:
    """Return the format of this name.

    Raises:
        ConfigurationError: There is none, or it needs pyarrow, which is not installed.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise ConfigurationError(f"format must be one of {', '.join(FORMATS)}, got {name!a:.80}")
    kind, _, compression = name.partition(".")
    if kind == "parquet" or compression == "zst":
        require_arrow(f"format {name}")
    # Not at the top: only what is used is loaded, and pyarrow may not be there.
    if kind == "parquet":
        parquet: Format = import_module("distinct_async.export.arrow").Parquet()
        return parquet
    text: Format = import_module("distinct_async.export.text").make_format(name)
    return text


def find_format_of(path: Path) -> Format | None:
    """Return the format of a file by its name, or None if it is of no format.

    Raises:
        ConfigurationError: It needs pyarrow, which is not installed.
    """
    name = next((name for name in FORMATS if path.name.endswith(f".{name}")), None)
    return None if name is None else find_format(name)


def require_arrow(what: str) -> None:
    """See to it that pyarrow is there.

    Raises:
        ConfigurationError: It is not; the message tells how to install it.
    """
    if find_spec("pyarrow") is None:
        raise ConfigurationError(
            f"{what} needs pyarrow: install it with pip install 'distinct-async[arrow]'"
        )
