"""The server of the experiments, which corrupts some pages, and the client."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from distinct_async import DistinctClient, DistinctError, RetryPolicy
from distinct_async.testing import FakeClock
from tests.support.faults import FAULTS, IMPATIENT, Fault, Outcome
from tests.support.helpers import KEY, shown_by
from tests.support.raw_server import Exchange, RawServer, Script, reply

# Faults that a retry can overcome.
TRANSIENT: Final = tuple(fault for fault in FAULTS if fault.outcome is Outcome.RETRIED)


def render_page(
    touchpoint_id: str,
    visits: Iterable[int],
    *,
    offset: int,
    total: int,
    page_size: int,
    value: str = "v",
) -> bytes:
    """Return a page of a touchpoint's visits; visit n is by the user ``visit-n``."""
    items = ",".join(
        f'{{"userId":"visit-{i}","timestampUTC":"2024-01-01T{i // 3600 % 24:02}:'
        f'{i // 60 % 60:02}:{i % 60:02}Z"}}'
        for i in visits
    )
    return (
        f'{{"statusCode":200,"message":"ok","data":{{"touchpoints":{{"id":"{touchpoint_id}",'
        f'"name":"N","value":"{value}","totalVisits":{total},"totalVisitsDetails":{{'
        f'"items":[{items}],"pagination":{{"offset":{offset},"pageSize":{page_size}}}}}}}}}}}'
    ).encode()


def page_body(touchpoint_id: str, offset: int, stop: int, *, total: int, page_size: int) -> bytes:
    """Return the page of a touchpoint whose nth visit is visit n."""
    visits = range(offset, stop)
    return render_page(touchpoint_id, visits, offset=offset, total=total, page_size=page_size)


class VisitServer:
    """A script that serves pages of synthetic visits and corrupts some of them.

    Attributes:
        requests: Number of requests received.
        spoilt: Number of responses corrupted by each fault.
    """

    def __init__(
        self, visits: int, *, seed: int = 0, rate: float = 0.0, faults: Sequence[Fault] = FAULTS
    ) -> None:
        self.requests = 0
        self.spoilt = Counter[str]()
        self._visits = visits
        self._random = random.Random(seed)
        self._rate = rate
        self._faults = faults
        self._weights = [fault.weight for fault in faults]

    async def __call__(self, exchange: Exchange) -> None:
        self.requests += 1
        parameters = exchange.parameters
        offset, size = int(parameters.get("offset", 0)), int(parameters.get("pageSize", 50))
        body = self.page(parameters["touchpointId"], offset, size)
        await self._script(body)(exchange)

    def page(self, touchpoint_id: str, offset: int, size: int) -> bytes:
        """Return a page as it is before a fault corrupts it."""
        stop = max(offset, min(offset + size, self._visits))
        return page_body(touchpoint_id, offset, stop, total=self._visits, page_size=size)

    def _script(self, body: bytes) -> Script:
        if self._random.random() >= self._rate:
            return reply(body)
        (fault,) = self._random.choices(self._faults, self._weights)
        self.spoilt[fault.name] += 1
        if fault.outcome is not Outcome.READ:
            # The server echoes the key; an error that shows the response must redact it.
            body = body.replace(b'"name":"N"', b'"name":"%s"' % KEY.encode())
        return fault.corrupt(body)


def make_client(raw: RawServer, retry: RetryPolicy | None = None, **options: Any) -> DistinctClient:
    """Create a client that never sleeps and soon gives up on a stalled response."""
    defaults = {"timeouts": IMPATIENT, "runtime": FakeClock().runtime}
    return DistinctClient(
        KEY, base_url=raw.url, retry=retry or RetryPolicy(), **{**defaults, **options}
    )


def shows_key(error: DistinctError) -> bool:
    """Return whether the error reveals the key: in its texts, its chain or its frames' locals."""
    return KEY in shown_by(error)
