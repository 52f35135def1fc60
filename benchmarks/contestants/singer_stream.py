"""Meltano's singer-sdk: a RESTStream with its OffsetPaginator, as in any tap for such an API."""
# As its documentation does, this sets class attributes where its classes have properties.
# pyright: basic, reportIncompatibleMethodOverride=false, reportAssignmentType=false

from collections.abc import Mapping
from typing import Any

import requests
from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.pagination import OffsetPaginator
from typing_extensions import override

from benchmarks.contestants import KEY, METRICS


class VisitPaginator(OffsetPaginator):
    """Follows offsets up to the total."""

    @override
    def has_more(self, response: requests.Response) -> bool:
        total: int = response.json()["data"]["touchpoints"]["totalVisits"]
        return self.current_value + self.page_size < total


class VisitStream(RESTStream[int]):
    """A touchpoint's visits."""

    name = "visits"
    path = METRICS
    records_jsonpath = "$.data.touchpoints.totalVisitsDetails.items[*]"
    schema = th.PropertiesList(
        th.Property("userId", th.StringType), th.Property("timestampUTC", th.DateTimeType)
    ).to_dict()

    @property
    @override
    def url_base(self) -> str:
        return str(self.config["url"])

    @property
    @override
    def http_headers(self) -> dict[str, str]:
        return super().http_headers | KEY

    @override
    def get_url_params(
        self, context: Mapping[str, Any] | None, next_page_token: int | None
    ) -> dict[str, Any]:
        return {
            "metricsType": "TOUCHPOINT",
            "touchpointId": "tp-1",
            "visitsType": "TOTAL",
            "offset": next_page_token,
            "pageSize": self.config["page_size"],
        }

    @override
    def get_new_paginator(self) -> VisitPaginator:
        return VisitPaginator(0, self.config["page_size"])


class VisitTap(Tap):
    """The tap that owns the stream."""

    name = "tap-visits"
    config_jsonschema = th.PropertiesList(
        th.Property("url", th.StringType), th.Property("page_size", th.IntegerType)
    ).to_dict()

    @override
    def discover_streams(self) -> list[Any]:
        return []


def walk(url: str, page_size: int) -> int:
    """Walk with `get_records`, which yields items."""
    stream = VisitStream(VisitTap(config={"url": url, "page_size": page_size}))
    count = 0
    for _ in stream.get_records(None):
        count += 1
    return count
