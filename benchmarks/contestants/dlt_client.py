"""dlt's RESTClient with its OffsetPaginator."""

from dlt.sources.helpers.rest_client.client import RESTClient
from dlt.sources.helpers.rest_client.paginators import OffsetPaginator

from benchmarks.contestants import KEY, METRICS

_TOUCHPOINT = "data.touchpoints"


def walk(url: str, page_size: int) -> int:
    """Walk with `paginate`, which yields pages."""
    client = RESTClient(
        url,
        headers=KEY,
        paginator=OffsetPaginator(
            page_size, limit_param="pageSize", total_path=f"{_TOUCHPOINT}.totalVisits"
        ),
        data_selector=f"{_TOUCHPOINT}.totalVisitsDetails.items",
    )
    count = 0
    params = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "visitsType": "TOTAL"}
    for page in client.paginate(METRICS, params=params):
        for _ in page:
            count += 1
    return count
