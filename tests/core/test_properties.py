"""Properties: arbitrary ids, and walks over a server that grows, clamps and fails at random."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule
from typing_extensions import override

from distinct_async import (
    ConfigurationError,
    DistinctClient,
    DistinctError,
    NotFoundError,
    Pager,
    RateLimitError,
    ServerError,
    Visit,
    VisitPage,
    VisitsType,
)
from distinct_async.testing import FakeClock, FakeDistinct

# --- Ids

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
ids = text.filter(str.strip)
long_ids = ids.map(lambda short: (short * 10_000)[:10_000])
blanks = st.text(st.sampled_from(" \t\r\n\u2003"))
surrogates = st.text(st.characters(categories=["Cs"]), min_size=1)


@contextmanager
def served(
    clock: FakeClock | None = None,
) -> Iterator[tuple[asyncio.Runner, FakeDistinct, DistinctClient]]:
    with asyncio.Runner() as runner:
        fake = runner.run(FakeDistinct().__aenter__())
        client = fake.client(runtime=(clock or FakeClock()).runtime)
        try:
            yield runner, fake, client
        finally:
            runner.run(client.aclose())
            runner.run(fake.__aexit__())


def test_arbitrary_ids_reach_the_server_unchanged() -> None:
    with served() as (runner, fake, client):

        @given(ids | long_ids, ids)
        @example("../../etc", "?")
        @example("a&b=c#d", "%2F+%00")
        @example("\r\nX-Injected: 1", "🎉" * 100)
        def send(one: str, other: str) -> None:
            with pytest.raises(NotFoundError) as caught:
                runner.run(client.touchpoint_metrics(one, experience_id=other))
            parameters = fake.requests[-1].parameters
            assert (parameters["touchpointId"], parameters["experienceId"]) == (one, other)
            assert caught.value.touchpoint_id == one
            assert str(caught.value).isprintable()

            with pytest.raises(NotFoundError):
                runner.run(client.user_metrics(other, one))
            parameters = fake.requests[-1].parameters
            assert (parameters["experienceId"], parameters["userId"]) == (other, one)
            assert len(parameters) == 3

        send()


@given(blanks | surrogates)
def test_a_blank_or_unencodable_id_is_refused_by_name(bad: str) -> None:
    client = DistinctClient("key")
    with pytest.raises(ConfigurationError, match="touchpoint_id"):
        client.total_visits(bad)


# --- A walk against a model

START = datetime(2024, 1, 1, tzinfo=UTC)


@attrs.define(eq=False)
class ModelWalk:
    """A walk and the visits it has delivered.

    Attributes:
        known: The length of the list when the walk began.
        pager: What the walk has yet to deliver, as of its start or its last resumption.
        items: The open generator, or None until the walk starts or resumes.
        ended: Whether the walk has reached the end.
    """

    visits_type: VisitsType
    offset: int
    limit: int | None
    page_size: int | None
    prefetch: int
    known: int
    pager: Pager[Visit, VisitPage]
    items: AsyncGenerator[Visit, None] | None = None
    delivered: list[Visit] = attrs.field(factory=list[Visit])
    ended: bool = False

    @property
    def next_offset(self) -> int:
        return self.offset + len(self.delivered)


class ServerAndWalks(RuleBasedStateMachine):
    """Visits arrive, pages shrink and requests fail while walks advance and resume."""

    walks = Bundle("walks")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.served = served(self.clock)
        self.runner, self.fake, self.client = self.served.__enter__()
        self.fake.add_touchpoint("tp")
        self.total: list[Visit] = []
        self.unique: dict[str, Visit] = {}
        self.started: list[ModelWalk] = []

    @override
    def teardown(self) -> None:
        try:
            for walk in self.started:
                self.finish(walk)
        finally:
            self.served.__exit__(None, None, None)

    @initialize(visits=st.integers(0, 400))
    def begin(self, visits: int) -> None:
        # Users return at irregular intervals.
        self.scan(number * number % 211 for number in range(visits))

    @rule(users=st.lists(st.integers(0, 300), min_size=1, max_size=40))
    def grow(self, users: list[int]) -> None:
        self.scan(users)

    def scan(self, users: Iterable[int]) -> None:
        for user in users:
            visit = Visit(f"user-{user}", START + timedelta(seconds=len(self.total)))
            self.fake.scan("tp", visit.user_id, visit.timestamp)
            self.total.append(visit)
            self.unique.setdefault(visit.user_id, visit)

    @rule(
        status=st.sampled_from([429, 500, 503, 404]),
        times=st.integers(1, 6),
        retry_after=st.sampled_from([None, 0, 7, 1_000]),
    )
    def fail(self, status: int, times: int, retry_after: int | None) -> None:
        self.fake.fail_next(status, times, retry_after)

    @precondition(lambda self: len(self.started) < 5)
    @rule(
        target=walks,
        visits_type=st.sampled_from(VisitsType),
        offset=st.integers(0, 50),
        limit=st.none() | st.integers(0, 80),
        page_size=st.none() | st.integers(1, 20),
        prefetch=st.integers(1, 9),
    )
    def start(self, **arguments: Any) -> ModelWalk:
        total = arguments["visits_type"] is VisitsType.TOTAL
        known = len(self.total if total else self.unique)
        pager = self.make_pager(**arguments)
        walk = ModelWalk(**arguments, known=known, pager=pager)
        self.started.append(walk)
        return walk

    def make_pager(self, *, visits_type: VisitsType, **options: Any) -> Pager[Visit, VisitPage]:
        unique = visits_type is VisitsType.UNIQUE
        return (self.client.unique_visits if unique else self.client.total_visits)("tp", **options)

    @rule(walk=walks, items=st.integers(1, 40), largest=st.none() | st.integers(1, 20))
    def step(self, walk: ModelWalk, items: int, largest: int | None) -> None:
        # The server's page size changes in the middle of a walk.
        self.fake.max_page_size = largest
        self.runner.run(self.take(walk, items))

    @rule(walk=walks)
    def drop(self, walk: ModelWalk) -> None:
        # A later step goes on after the last visit delivered.
        if walk.items is not None:
            self.runner.run(walk.items.aclose())
            walk.items = None
            walk.pager = self.make_pager(
                visits_type=walk.visits_type,
                offset=walk.next_offset,
                after=walk.delivered[-1] if walk.delivered else None,
                limit=None if walk.limit is None else walk.limit - len(walk.delivered),
                page_size=walk.page_size,
                prefetch=walk.prefetch,
            )

    def finish(self, walk: ModelWalk) -> None:
        self.runner.run(self.take(walk, 100_000))
        if len(walk.delivered) != walk.limit:
            assert walk.ended
            assert walk.next_offset >= walk.known

    async def take(self, walk: ModelWalk, items: int) -> None:
        """Take `items` items, resuming after every error, and compare them with the model."""
        wanted = len(walk.delivered) + items
        # Bounded: each planned failure can end a walk only once.
        for _ in range(1_000):
            if walk.ended or len(walk.delivered) >= wanted:
                break
            try:
                await self.advance(walk, wanted)
            except (ServerError, RateLimitError, NotFoundError) as error:
                self.resume(walk, error)
                # Until then, the client makes no requests.
                self.clock.time += getattr(error, "retry_after", None) or 0
        else:
            raise AssertionError("the walk never ends")
        model = self.total if walk.visits_type is VisitsType.TOTAL else [*self.unique.values()]
        assert walk.delivered == model[walk.offset : walk.next_offset]

    def resume(self, walk: ModelWalk, error: DistinctError) -> None:
        # A 404 may mean that the list has become shorter. If the search for the place fails as
        # well, no offset is certain, but the visits before it still are.
        assert error.next_offset in (None, walk.next_offset)
        assert error.resume_point is not None
        assert error.resume_point.offset == walk.next_offset
        walk.pager = walk.pager.resume(error)
        walk.items = None

    async def advance(self, walk: ModelWalk, wanted: int) -> None:
        if walk.items is None:
            walk.items = aiter(walk.pager)
        async for visit in walk.items:
            walk.delivered.append(visit)
            if len(walk.delivered) >= wanted:
                return
        walk.ended = True


TestServerAndWalks = ServerAndWalks.TestCase
