"""Measure a client with default settings in front of servers that limit or fail.

Run ``python -m benchmarks.limits``. The servers have a process of their own, and admit requests by
a token bucket, by the requests in flight or by the page's size, or fail for some or all requests.
Rows run one after another; jobs that mostly wait run side by side. Every seed repeats every row,
and the worst run is judged. Exits with 1 if a full-size run misses a goal, or if any run loses a
visit.
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import attrs

from benchmarks import limited
from benchmarks.command import conclude, make_parser
from benchmarks.limited import NEW_VISITS, Trial
from benchmarks.limiting import DATE_OF_NOW, Limiting, limiting
from benchmarks.records import LimitedRun, LimitedServer, LimitFigures

PAGES, VISITS = 5, 40
BROKEN_FIRST = 30

Servers: TypeAlias = dict[str, Limiting]
Counts: TypeAlias = dict[str, Any]
Experiment: TypeAlias = Callable[..., Coroutine[Any, Any, Counts]]
T = TypeVar("T")


@attrs.frozen
class Size:
    """A share of the full size, and the seeds."""

    share: float
    seeds: Sequence[int]

    def __call__(self, full: int, least: int = 10) -> int:
        """Return that share of a number."""
        return max(least, round(full * self.share))


def make_trials(servers: Servers, jobs: Iterable[str], requests: int, seed: int) -> list[Trial]:
    """Return trials of so many requests, to which an export adds that for the list."""
    return [
        Trial(title=title, job=job, seed=seed, service=_sized(service, job, requests))
        for title, service in servers.items()
        for job in jobs
    ]


def _sized(service: Limiting, job: str, requests: int) -> Limiting:
    touchpoints, pages = (1, requests) if job == "walk" else (requests // PAGES, PAGES)
    visits = pages * NEW_VISITS[job]
    return attrs.evolve(service, touchpoints=max(1, touchpoints), visits=visits)


def run_together(trials: Sequence[Trial]) -> list[tuple[Trial, LimitedRun]]:
    """Run trials side by side."""

    async def run(urls: Sequence[str]) -> list[LimitedRun]:
        return await asyncio.gather(
            *(limited.run(trial, url) for trial, url in zip(trials, urls, strict=True))
        )

    with limiting([each.service for each in trials]) as urls:
        return [*zip(trials, asyncio.run(run(urls)), strict=True)]


def by_server(outcomes: Iterable[tuple[Trial, LimitedRun]]) -> list[LimitedServer]:
    """Group runs by server."""
    servers: dict[str, LimitedServer] = {}
    for trial, run in outcomes:
        server = LimitedServer(server=trial.title, rate=trial.service.rate, runs=[])
        servers.setdefault(trial.title, server).runs.append(run)
    return [*servers.values()]


# --- Rates

EVERY_JOB = ("walk", "fan-out", "export")
FIFTY = Limiting(rate=50, burst=5)
FIFTIES: Servers = {
    "50/s, burst 5, Retry-After: 1": attrs.evolve(FIFTY, retry_after="1"),
    "50/s, burst 5, no Retry-After": FIFTY,
}
TEN = Limiting(rate=10, burst=10)
TENS: Servers = {
    "10/s, burst 10, Retry-After: 0": attrs.evolve(TEN, retry_after="0"),
    "10/s, burst 10, Retry-After: a date of now": attrs.evolve(TEN, retry_after=DATE_OF_NOW),
}
ONES: Servers = {
    f"1/s, burst {burst}, Retry-After: 1": Limiting(rate=1, burst=burst, retry_after="1")
    for burst in (10, 1)
}


def cold(size: Size) -> list[LimitedServer]:
    """Make 500 requests from a cold start, each job alone: another's work would delay them."""
    return _one_by_one(size, FIFTIES, EVERY_JOB, size(500))


def learned(size: Size) -> list[LimitedServer]:
    """Make 1,000 requests, of which the second half counts."""
    trials = (make_trials(FIFTIES, EVERY_JOB, size(1_000), seed) for seed in size.seeds)
    return by_server(outcome for together in trials for outcome in run_together(together))


def _one_by_one(
    size: Size, servers: Servers, jobs: Iterable[str], requests: int
) -> list[LimitedServer]:
    trials = (trial for seed in size.seeds for trial in make_trials(servers, jobs, requests, seed))
    return by_server(outcome for trial in trials for outcome in run_together([trial]))


def slow(size: Size) -> list[LimitedServer]:
    """Make 300 requests to servers that say no without saying for how long."""
    return _at_once(size, TENS, ("fan-out", "export"), size(300))


def crawling(size: Size) -> list[LimitedServer]:
    """Make 40 requests to servers that admit one a second."""
    return _at_once(size, ONES, ("walk", "fan-out"), size(40, least=5))


def _at_once(
    size: Size, servers: Servers, jobs: Iterable[str], requests: int
) -> list[LimitedServer]:
    trials = [make_trials(servers, jobs, requests, seed) for seed in size.seeds]
    return by_server(run_together([trial for each in trials for trial in each]))


# --- Requests in flight

CROWDED: Servers = {
    f"4 in flight, {status} otherwise": Limiting(slots=4, refusal=status) for status in (429, 503)
}


def crowded(size: Size) -> list[LimitedServer]:
    """Make 500 requests to servers that admit four at a time."""
    return _one_by_one(size, CROWDED, ("fan-out", "export"), size(500))


# --- Broken touchpoints


def broken(size: Size) -> list[LimitedServer]:
    """Export and fan out while some touchpoints are always answered with 500."""
    number, few = size(200), size(BROKEN_FIRST, least=2)
    title = f"{few} of {number} touchpoints broken, the first ones"
    first = Limiting(touchpoints=number, visits=VISITS, broken=tuple(range(few)))
    trials = [Trial(title=title, job="export", seed=seed, service=first) for seed in size.seeds]
    number, few = size(1_000), size(100, least=1)
    title = f"{few} of {number:,} touchpoints broken, spread"
    for seed in size.seeds:
        spread = tuple(random.Random(seed).sample(range(number), few))
        service = Limiting(touchpoints=number, visits=VISITS, broken=spread)
        trials += [
            Trial(title=title, job=job, seed=seed, service=service) for job in ("fan-out", "export")
        ]
    return by_server(run_together(trials))


# --- Other rows


def _alone(service: Limiting, run: Experiment, *arguments: Any) -> Counts:
    started = time.monotonic()
    with limiting([service]) as (url,):
        counts = asyncio.run(run(service, url, *arguments))
    return {**counts, "seconds": time.monotonic() - started}


def forbidden(size: Size) -> list[Counts]:
    """Fan out in front of a server that asks for an hour's pause."""
    service = Limiting(rate=50, burst=5, retry_after="3600", touchpoints=size(500))
    return [_alone(service, limited.run_forbidden, seed) for seed in size.seeds]


def small_pages(size: Size) -> list[Counts]:
    """Export from a server whose pages have 100 visits at most."""
    service = Limiting(max_page_size=100, touchpoints=size(40), visits=300)
    library = _alone(service, limited.run_small_pages, size.seeds[0])
    return [library, _alone(service, limited.run_command)]


def beside(size: Size) -> list[Counts]:
    """Make single calls beside a bulk job on one client."""
    services = {
        job: Limiting(touchpoints=size(touchpoints), visits=PAGES * NEW_VISITS[job])
        for job, touchpoints in (("fan-out", 600), ("export", 120))
    }
    return [
        _alone(service, limited.run_beside, job, seed, size(100))
        for seed in size.seeds
        for job, service in services.items()
    ]


def outage(size: Size) -> list[Counts]:
    """Make single calls while the server is down."""
    return [
        _alone(Limiting(down=True), limited.run_outage, seed, size(10_000)) for seed in size.seeds
    ]


# --- Running them

ROWS: Sequence[Callable[[Size], list[LimitedServer]]] = (
    *(cold, learned, slow, crawling, crowded, broken),
)
EXPERIMENTS: Sequence[Callable[[Size], list[Counts]]] = (forbidden, small_pages, beside, outage)
NAMES = [row.__name__ for row in (*ROWS, *EXPERIMENTS)]


def measure(size: Size, rows: Sequence[str]) -> LimitFigures:
    """Measure the named rows, one after another."""
    # The first export imports pyarrow.
    run_together(make_trials({"no limit": Limiting()}, EVERY_JOB, PAGES, seed=0))
    return LimitFigures(
        rows={row.__name__: _timed(row, size) for row in ROWS if row.__name__ in rows},
        experiments={
            row.__name__: _timed(row, size) for row in EXPERIMENTS if row.__name__ in rows
        },
    )


def _timed(row: Callable[[Size], T], size: Size) -> T:
    started = time.monotonic()
    figures = row(size)
    print(f"{row.__name__}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return figures


def main() -> int:
    """Measure, and print the tables."""
    parser = make_parser(__doc__, beside=False)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--share", type=float, default=1, help="of the full size")
    parser.add_argument("--rows", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args()
    figures = measure(Size(options.share, options.seeds), options.rows)
    reached = conclude(parser, options, "limits", figures)
    # A small run is too short to learn a limit, but loses nothing.
    return 0 if reached or (options.share < 1 and _is_complete(figures)) else 1


def _is_complete(figures: LimitFigures) -> bool:
    runs = (run for servers in figures.rows.values() for server in servers for run in server.runs)
    return all(run.lost_touchpoints == run.lost_visits == 0 for run in runs)


if __name__ == "__main__":
    sys.exit(main())
