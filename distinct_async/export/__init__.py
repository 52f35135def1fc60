"""Bulk export: every visit into files that are their own checkpoint, or into an Arrow table.

Parquet, Zstandard and tables need the extra ``arrow``: ``pip install 'distinct-async[arrow]'``.
"""
# pyarrow is untyped.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false

from collections.abc import AsyncIterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from distinct_async import Pager, VisitPage
from distinct_async.export.exporter import ExportOptions, ExportProgress, export_visits
from distinct_async.export.formats import FileFormat, require_arrow
from distinct_async.export.summary import DatasetSummary, TouchpointCounts, summarize

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "DatasetSummary",
    "ExportOptions",
    "ExportProgress",
    "FileFormat",
    "TouchpointCounts",
    "export_visits",
    "summarize",
    "to_arrow",
]


async def to_arrow(pager: Pager[Any, Any] | AsyncIterable[VisitPage]) -> "pa.Table":
    """Return all items of a list as a pyarrow Table, which every dataframe library accepts.

    Visits have the columns ``touchpoint_id`` (dictionary-encoded), ``user_id``, ``timestamp``
    (UTC, microseconds) and ``offset``, as in exported files. Touchpoints have ``touchpoint_id``,
    ``name``, ``value``, ``total_visits`` and ``unique_visits``.

    Args:
        pager: The value of `DistinctClient.total_visits`, `unique_visits` or `touchpoints`; or
            pages of visits, such as those of `DistinctClient.pages_across`.

    Raises:
        ConfigurationError: pyarrow is not installed.
        DistinctError: The walk failed; the items received before that are lost.
    """
    require_arrow("to_arrow")
    return await import_module("distinct_async.export.formats.parquet").collect_table(pager)
