"""Bulk export: every visit into files that are their own checkpoint, or into an Arrow table.

Parquet, Zstandard and tables need the extra ``arrow``: ``pip install 'distinct-async[arrow]'``.
"""
# pyarrow has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false

from collections.abc import AsyncIterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from distinct_async import Pager, VisitPage
from distinct_async.export.exporter import ExportProgress, export_visits
from distinct_async.export.formats import FileFormat, require_arrow
from distinct_async.export.summary import DatasetSummary, TouchpointCounts, summarize

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "DatasetSummary",
    "ExportProgress",
    "FileFormat",
    "TouchpointCounts",
    "export_visits",
    "summarize",
    "to_arrow",
]


async def to_arrow(pager: Pager[Any, Any] | AsyncIterable[VisitPage]) -> "pa.Table":
    """Return the items of a list as a pyarrow Table, which any dataframe library can take.

    Visits have the columns ``touchpoint_id`` (dictionary-encoded), ``user_id``, ``timestamp``
    (UTC, microseconds) and ``offset``, as in an export; touchpoints have ``touchpoint_id``,
    ``name``, ``value``, ``total_visits`` and ``unique_visits``.

    Args:
        pager: What `DistinctClient.total_visits`, `unique_visits` or `touchpoints` returns; or
            pages of visits, as `pages_across` gives.

    Raises:
        ConfigurationError: pyarrow is not installed.
        DistinctError: As for the items, which are lost then.
    """
    require_arrow("to_arrow")
    return await import_module("distinct_async.export.arrow").table_of(pager)
