"""Lists of visits that change at any time, even while they are read, over real sockets."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs

from distinct_async import Visit
from distinct_async.testing import FakeDistinct, FakeRequest

Beyond: TypeAlias = Literal["empty", "clamped", 400, 404, 416]


@attrs.define
class LivingServer:
    """Answers a `FakeDistinct`'s requests for visits from lists that a test may change.

    Both types of visits have the same list, so no user may occur twice in it.

    Attributes:
        lists: The visits by touchpoint.
        beyond: The answer to an offset at or beyond the end: an empty page, the last page, or an
            error of this status.
        fails_from: The offset from which on requests are answered with 503.
        requests: The touchpoint, offset and page size of every request.
        before: Called before a request is answered, with its number among those for its
            touchpoint, counted from 1.
    """

    lists: dict[str, list[Visit]]
    beyond: Beyond = "empty"
    fails_from: int | None = None
    requests: list[tuple[str, int, int]] = attrs.field(factory=list[tuple[str, int, int]])
    before: Callable[[str, int], object] = lambda *_: None

    def serve_on(self, fake: FakeDistinct) -> None:
        for touchpoint_id in self.lists:
            fake.add_touchpoint(touchpoint_id)
        fake.intercept = self._answer

    def offsets(self, touchpoint_id: str) -> list[int]:
        """Return the offsets requested for a touchpoint."""
        return [offset for key, offset, _ in self.requests if key == touchpoint_id]

    async def _answer(self, request: FakeRequest, payload: dict[str, Any]) -> dict[str, Any]:
        query = request.parameters
        touchpoint_id = query.get("touchpointId")
        if touchpoint_id not in self.lists:
            return payload
        offset, size = int(query["offset"]), int(query.get("pageSize", 50))
        self.requests.append((touchpoint_id, offset, size))
        self.before(touchpoint_id, len(self.offsets(touchpoint_id)))
        visits = self.lists[touchpoint_id]
        if self.fails_from is not None and offset >= self.fails_from:
            return {"statusCode": 503, "message": "try again later"}
        if offset >= len(visits) and offset:
            if self.beyond == "clamped":
                offset = max(0, len(visits) - size)
            elif self.beyond != "empty":
                return {"statusCode": self.beyond, "message": "offset is beyond the end"}
        return _page(touchpoint_id, query["visitsType"].lower(), visits, offset, size)


def _page(
    touchpoint_id: str, kind: str, visits: list[Visit], offset: int, size: int
) -> dict[str, Any]:
    items = [
        {"userId": visit.user_id, "timestampUTC": visit.timestamp.isoformat()}
        for visit in visits[offset : offset + size]
    ]
    details = {"items": items, "pagination": {"offset": offset, "pageSize": size}}
    identity = {"id": touchpoint_id, "name": touchpoint_id, "value": touchpoint_id}
    counts = {f"{kind}Visits": len(visits), f"{kind}VisitsDetails": details}
    return {"statusCode": 200, "message": "", "data": {"touchpoints": identity | counts}}
