"""Sessions over a scripted transport, and the calls that the tests of both layers make."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from unittest.mock import ANY

from aiohttp import web

from distinct_async import (
    ClientStats,
    DistinctClient,
    DistinctError,
    RateLimitError,
    ServerError,
    Timeouts,
)
from distinct_async._secrets import ApiKey
from distinct_async._session import Session
from distinct_async._wire.protocol import Reply, Request
from distinct_async.config import Policy
from distinct_async.testing import FakeRequest

Outcome: TypeAlias = Reply | DistinctError | Callable[[], Awaitable[Reply | DistinctError]]

Decoded: TypeAlias = str | DistinctError


def make_reply(body: str = "value", status: int = 200) -> Reply:
    return Reply(status, {}, body.encode(), ApiKey("key"), 0.0)


class ScriptedTransport:
    """Replays outcomes without any I/O, the last one for all further attempts.

    Attributes:
        sent: The path and query of every attempt.
        events: The calls in order, "send", "abort" and "aclose"; tests add their own.
    """

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = list(outcomes or (make_reply(),))
        self.sent: list[tuple[str, str]] = []
        self.events: list[str] = []

    async def send(
        self,
        path: str,
        query: str,
        timeouts: Timeouts,  # noqa: ARG002 - a protocol's name
    ) -> Reply | DistinctError:
        self.sent.append((path, query))
        self.events.append("send")
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        return await outcome() if callable(outcome) else outcome

    def abort(self) -> None:
        self.events.append("abort")

    def forget(self) -> None:
        self.events.append("forget")

    async def aclose(self) -> None:
        self.events.append("aclose")


def decode_text(reply: Reply) -> Decoded:
    """Return the body of a 200, and an error for every other status."""
    if reply.status == 200:
        return reply.body.decode()
    return (RateLimitError if reply.status == 429 else ServerError)(reply.status)


def make_session(transport: ScriptedTransport, **settings: Any) -> Session:
    return Session(transport, Policy(**settings))


async def fetch_text(session: Session, decode: Callable[[Reply], Decoded] = decode_text) -> Decoded:
    """Make one request of a scripted session."""
    request: Request[str] = Request(
        path="/v9/things",
        query="id=7",
        decode=decode,
        touchpoint_id="tp-1",
        experience_id="exp-1",
    )
    return await session.fetch(request)


def stats(*, in_flight: int, waiting: int, tasks: int, retries: int, **others: Any) -> ClientStats:
    """Return the statistics of a client that no server has slowed down, whatever its budget."""
    spent = {"retry_budget": ANY, "pace": None, "paused_for": 0.0}
    counts = {"in_flight": in_flight, "waiting": waiting, "tasks": tasks, "retries": retries}
    return ClientStats(**counts, **(spent | others))


async def fetch_total(client: DistinctClient) -> int:
    """Make one request, and return the touchpoint's number of visits."""
    return (await client.touchpoint_metrics("tp-1")).total


def answer_with(make_response: Callable[[], web.StreamResponse]) -> Any:
    """Return an `intercept` for the fake server that replaces each of its responses."""

    async def intercept(_: FakeRequest, __: dict[str, Any]) -> web.StreamResponse:
        return make_response()

    return intercept
