"""Servers that limit requests, and a client that follows a `Pace`, in simulated time.

No event loop: a heap of events, so that an hour of work takes a moment and always ends the same.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import attrs

from distinct_async._pace import Pace

RETRY_AFTER: Final[dict[str, Callable[[float], float | None]]] = {
    "none": lambda _: None,
    "zero": lambda _: 0.0,
    "one": lambda _: 1.0,
    "exact": lambda wait: wait,
    "ceil": math.ceil,
}


class Limiter(Protocol):
    """Admits or refuses requests."""

    @property
    def rate(self) -> float:
        """Requests per second admitted in the long run."""
        ...

    def admit(self, now: float, /) -> float:
        """Admit a request and return 0.0, or return the seconds until one would be admitted."""
        ...

    def release(self) -> None:
        """Take note that an admitted request has been answered."""
        ...


@attrs.define
class TokenBucket:
    """Holds `burst` tokens at most and gets `rate` of them each second."""

    rate: float
    burst: float
    _tokens: float = attrs.field(init=False)
    _at: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.burst

    def admit(self, now: float) -> float:
        self._tokens = min(self.burst, self._tokens + self.rate * (now - self._at))
        self._at = now
        if self._tokens >= 1 - 1e-9:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate

    def release(self) -> None:
        pass


@attrs.define
class FixedWindow:
    """Admits `limit` requests in each window of `window` seconds, the first of which began."""

    limit: int
    window: float
    phase: float = 0.0
    _index: int = attrs.field(default=-1, init=False)
    _count: int = attrs.field(default=0, init=False)

    @property
    def rate(self) -> float:
        return self.limit / self.window

    def admit(self, now: float) -> float:
        index, into = divmod(now + self.phase * self.window, self.window)
        if index != self._index:
            self._index, self._count = int(index), 0
        if self._count < self.limit:
            self._count += 1
            return 0.0
        return self.window - into

    def release(self) -> None:
        pass


@attrs.define
class SlidingWindow:
    """Admits `limit` requests in any `window` seconds."""

    limit: int
    window: float
    _times: deque[float] = attrs.field(factory=deque, init=False)

    @property
    def rate(self) -> float:
        return self.limit / self.window

    def admit(self, now: float) -> float:
        while self._times and self._times[0] <= now - self.window:
            self._times.popleft()
        if len(self._times) < self.limit:
            self._times.append(now)
            return 0.0
        return max(1e-6, self._times[0] + self.window - now)

    def release(self) -> None:
        pass


@attrs.define
class ConcurrencyLimit:
    """Admits a request unless `limit` of them are being answered."""

    limit: int
    rate: float = math.inf
    _running: int = attrs.field(default=0, init=False)

    def admit(self, _now: float) -> float:
        if self._running >= self.limit:
            return 0.02
        self._running += 1
        return 0.0

    def release(self) -> None:
        self._running -= 1


@attrs.define
class Broken:
    """Refuses a share of requests, whatever their rate."""

    share: float
    rate: float = math.inf
    _random: random.Random = attrs.field(factory=lambda: random.Random(7), init=False)

    def admit(self, _now: float) -> float:
        return 1.0 if self._random.random() < self.share else 0.0

    def release(self) -> None:
        pass


@attrs.define
class Changing:
    """Follows one limiter after another, each from its time on."""

    phases: Sequence[tuple[float, Limiter]]
    _running: deque[Limiter] = attrs.field(factory=deque, init=False)

    @property
    def rate(self) -> float:
        return self.phases[-1][1].rate

    def admit(self, now: float) -> float:
        limiter = [limiter for start, limiter in self.phases if start <= now][-1]
        wait = limiter.admit(now)
        if not wait:
            self._running.append(limiter)
        return wait

    def release(self) -> None:
        self._running.popleft().release()


@attrs.define
class Client:
    """One client of a simulation.

    Attributes:
        pace: Its pace.
        work: How many requests it has to send.
        concurrency: The most attempts in flight.
        idle: Pairs (from, to) of seconds in which it has no work.
    """

    pace: Pace
    work: float = math.inf
    concurrency: int = 16
    idle: tuple[tuple[float, float], ...] = ()
    in_flight: int = 0
    waking: float = math.inf
    starts: list[float] = attrs.Factory(list)
    admitted: list[float] = attrs.Factory(list)
    refused: list[float] = attrs.Factory(list)

    def busy_from(self, now: float) -> float:
        """Return when it next has work, at `now` or later."""
        for start, end in self.idle:
            if start <= now < end:
                return end
        return now


@attrs.define
class World:
    """One server, its clients, and the time.

    Attributes:
        limiter: The server's limit.
        clients: Its clients.
        latency: Seconds from the start of an attempt to its answer.
        jitter: Share of the latency by which answers vary, and a tenth of it requests.
        lag: Most seconds that a client oversleeps.
        retry_after: A key of `RETRY_AFTER`.
        seed: Of the random numbers.
    """

    limiter: Limiter
    clients: list[Client]
    latency: float = 0.02
    jitter: float = 0.0
    lag: float = 0.0
    retry_after: str = "none"
    seed: int = 1
    now: float = 0.0
    _events: list[tuple[float, int, Callable[[], None]]] = attrs.Factory(list)
    _random: random.Random = attrs.field(init=False)
    _count: int = 0

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def run(self, until: float = math.inf, admitted: float = math.inf) -> None:
        """Simulate until a time, until so many requests are admitted, or the work is done."""
        for client in self.clients:
            self._at(self.now, lambda client=client: self._fill(client))  # type: ignore[misc]
        while self._events and self.now < until:
            if sum(len(client.admitted) for client in self.clients) >= admitted:
                return
            self.now, _, act = heapq.heappop(self._events)
            act()

    def _at(self, time: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, act))

    def _varied(self, latency: float, share: float) -> float:
        return latency * (1 + share * (self._random.random() - 0.5)) if share else latency

    def _fill(self, client: Client) -> None:
        """Start as many attempts as the pace allows."""
        while client.work > 0 and client.in_flight < client.concurrency:
            delay = client.busy_from(self.now) - self.now
            delay = delay or client.pace.delay(self.now)
            assert delay < math.inf or client.in_flight
            if delay > 0:
                self._wake(client, self.now + delay + self.lag * self._random.random())
                return
            client.work -= 1
            self._send(client)

    def _wake(self, client: Client, time: float) -> None:
        if time < min(client.waking, math.inf):
            client.waking = time
            self._at(time, lambda: self._woken(client, time))

    def _woken(self, client: Client, time: float) -> None:
        if client.waking == time:
            client.waking = math.inf
            self._fill(client)

    def _send(self, client: Client) -> None:
        ticket = client.pace.start(self.now)
        client.in_flight += 1
        client.starts.append(self.now)
        legs = self._varied(self.latency / 4, self.jitter / 10)

        def arrive() -> None:
            wait = self.limiter.admit(self.now)
            answered = self.now + self._varied(self.latency / 2, self.jitter)
            if not wait:
                self._at(answered, self.limiter.release)
            self._at(answered + legs, lambda: end(wait))

        def end(wait: float) -> None:
            client.in_flight -= 1
            if wait:
                client.work += 1
                client.refused.append(self.now)
                after = RETRY_AFTER[self.retry_after](wait)
                client.pace.throttle(ticket, self.now, retry_after=after)
            else:
                client.admitted.append(self.now)
                client.pace.succeed(ticket)
            # What waits may now be allowed earlier.
            client.waking = math.inf
            self._fill(client)

        self._at(self.now + legs, arrive)


@attrs.frozen
class Figures:
    """How a simulation went.

    Attributes:
        seconds: Until the last answer.
        admitted: Requests admitted.
        refused: Attempts refused.
        late: Share refused of the attempts after the first hundred.
        use: Share of what the limit would admit, in the long run.
    """

    seconds: float
    admitted: int
    refused: int
    late: float
    use: float


def figures(world: World, *, since: float = 0.0) -> Figures:
    """Return the figures of a simulation; `use` counts from `since` seconds on."""
    admitted = sorted(time for client in world.clients for time in client.admitted)
    refused = sorted(time for client in world.clients for time in client.refused)
    ends = sorted([(t, 0) for t in admitted] + [(t, 1) for t in refused])
    late = [kind for at, kind in ends[100:] if at > since]
    at_most = sum(client.concurrency for client in world.clients) / world.latency
    best = min(world.limiter.rate, at_most) * (world.now - since)
    return Figures(
        seconds=world.now,
        admitted=len(admitted),
        refused=len(refused),
        late=sum(late) / len(late) if late else 0.0,
        use=sum(time > since for time in admitted) / best if best > 0 else 0.0,
    )


def simulate(
    limiter: Limiter,
    *,
    requests: float = math.inf,
    until: float = math.inf,
    concurrency: int = 16,
    latency: float = 0.02,
    jitter: float = 0.0,
    lag: float = 0.0,
    retry_after: str = "none",
    seed: int = 1,
    since: float = 0.0,
) -> Figures:
    """Let one client with a `Pace` of its own work against a limiter, and return the figures."""
    pace = Pace(random=random.Random(seed).random)
    client = Client(pace, work=requests, concurrency=concurrency)
    world = World(limiter, [client], latency, jitter, lag, retry_after, seed)
    world.run(until)
    return figures(world, since=since)


def long_run(
    limiter: Limiter,
    *,
    burst: float,
    window: float = 0.0,
    retry_after: str = "none",
    latency: float = 0.02,
    jitter: float = 0.0,
    lag: float = 0.0,
    seed: int = 1,
) -> Figures:
    """Return the figures of a limiter in the long run.

    It starts when the burst has been used up and a hundred more requests and ten seconds, and two
    windows, have passed.
    """
    fastest = 16 / latency
    rate = min(limiter.rate, fastest)
    spent = burst / (fastest - rate) if rate * 1.1 < fastest else 0.0
    since = spent + 100 / rate + 10 + 2 * window
    seconds = max(6 * window, min(max(100, 300 / rate), 20_000 / rate))
    return simulate(
        limiter,
        until=since + seconds,
        latency=latency,
        jitter=jitter,
        lag=lag,
        retry_after=retry_after,
        seed=seed,
        since=since,
    )


def shared(
    limiter: Limiter, clients: int, *, until: float, since: float, retry_after: str, seed: int = 1
) -> tuple[Figures, list[float]]:
    """Let clients share a limiter; return the figures, and each one's share of the admitted."""
    all_clients = [Client(Pace(random=random.Random(seed + n).random)) for n in range(clients)]
    world = World(limiter, all_clients, 0.02, 0.5, 0.001, retry_after, seed)
    world.run(until)
    admitted = [sum(time > since for time in client.admitted) for client in all_clients]
    return figures(world, since=since), [count / sum(admitted) for count in admitted]
