"""The file formats of an export, looked up by name or by file."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from distinct_async import ConfigurationError
from distinct_async._checks import shown
from distinct_async.export.formats.base import Format, VisitBuffer, VisitWriter

__all__ = [
    "FORMATS",
    "FileFormat",
    "Format",
    "VisitBuffer",
    "VisitWriter",
    "find_format",
    "find_format_of",
    "require_arrow",
]

FileFormat: TypeAlias = Literal[
    "parquet", "csv", "csv.gz", "csv.zst", "jsonl", "jsonl.gz", "jsonl.zst"
]
"""A file format, named by the suffix of its files.

Parquet and Zstandard (``.zst``) need the extra ``arrow``.
"""

FORMATS: Final[tuple[FileFormat, ...]] = get_args(FileFormat)


def find_format(name: object) -> Format:
    """Return the format with this name.

    Raises:
        ConfigurationError: There is none, or it needs pyarrow, which is not installed.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise ConfigurationError(f"format must be one of {', '.join(FORMATS)}, got {shown(name)}")
    kind, _, compression = name.partition(".")
    if kind == "parquet" or compression == "zst":
        require_arrow(f"format {name}")
    # Imported on demand: pyarrow may be missing, and takes a quarter of a second to load.
    if kind == "parquet":
        parquet: Format = import_module("distinct_async.export.formats.parquet").Parquet()
        return parquet
    text: Format = import_module("distinct_async.export.formats.text").create_format(name)
    return text


def find_format_of(path: Path) -> Format | None:
    """Return the format that a file's name ends with, or None.

    Raises:
        ConfigurationError: The format needs pyarrow, which is not installed.
    """
    name = next((name for name in FORMATS if path.name.endswith(f".{name}")), None)
    return None if name is None else find_format(name)


def require_arrow(feature: str) -> None:
    """Check that pyarrow is installed.

    Raises:
        ConfigurationError: It is not.
    """
    if find_spec("pyarrow") is None:
        raise ConfigurationError(
            f"{feature} needs pyarrow: install it with pip install 'distinct-async[arrow]'"
        )
