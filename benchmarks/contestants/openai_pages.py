"""openai-python's paginator, with a page class for offsets like those that its generator emits."""

import asyncio
from typing import Generic, TypeVar, cast

from openai import BaseModel
from openai._base_client import AsyncAPIClient, BaseAsyncPage, BasePage, PageInfo
from pydantic import Field
from typing_extensions import override

from benchmarks.contestants import KEY, METRICS

T = TypeVar("T")


class Visit(BaseModel):
    """A visit."""

    user_id: str = Field(alias="userId")
    timestamp_utc: str = Field(alias="timestampUTC")


class Details(BaseModel, Generic[T]):
    """A page's items."""

    items: list[T]


class Touchpoint(BaseModel, Generic[T]):
    """A touchpoint with a page of its visits."""

    total_visits: int = Field(alias="totalVisits")
    details: Details[T] = Field(alias="totalVisitsDetails")


class Data(BaseModel, Generic[T]):
    """The envelope's data."""

    touchpoints: Touchpoint[T]


class OffsetPage(BaseAsyncPage[T], BasePage[T], Generic[T]):
    """A page that knows the next offset."""

    data: Data[T]

    @override
    def _get_page_items(self) -> list[T]:
        return self.data.touchpoints.details.items

    @override
    def next_page_info(self) -> PageInfo | None:
        offset = cast("int", self._options.params.get("offset")) + len(self._get_page_items())
        if offset >= self.data.touchpoints.total_visits:
            return None
        return PageInfo(params={"offset": offset})


def walk(url: str, page_size: int) -> int:
    """Walk with `get_api_list`, which yields items."""
    return asyncio.run(_count(url, page_size))


async def _count(url: str, page_size: int) -> int:
    count = 0
    params = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "visitsType": "TOTAL"}
    async with AsyncAPIClient(
        version="1", base_url=url, custom_headers=KEY, _strict_response_validation=False
    ) as client:
        async for _ in client.get_api_list(
            METRICS,
            model=Visit,
            page=OffsetPage[Visit],
            options={"params": params | {"offset": 0, "pageSize": page_size}},
        ):
            count += 1
    return count
