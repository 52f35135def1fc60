"""Sweep limits, latencies and answers through the simulation of `Pace`, and print the worst cases.

``python -m tests.core.explore_pace [SWEEP ...]`` runs all sweeps, or those named. They take some
minutes.
"""

import random
import statistics
import sys
from collections.abc import Callable, Iterable
from typing import Final

from distinct_async._pace import Pace
from tests.support.limiters import (
    Broken,
    Changing,
    Client,
    ConcurrencyLimit,
    Figures,
    FixedWindow,
    Limiter,
    SlidingWindow,
    TokenBucket,
    World,
    long_run,
    shared,
    simulate,
)

WORST: Final = 3
# Latency, jitter, and lag of timers, in seconds.
CONDITIONS: Final = ((0.02, 0.0, 0.0), (0.02, 0.5, 0.001), (0.2, 0.3, 0.001))
WINDOWS: Final = ((60, 60), (10, 1), (100, 10), (1000, 60), (5, 1), (1, 1), (600, 60), (500, 1))


def report(name: str, unit: str, values: Iterable[tuple[float, object]], *, low: bool) -> None:
    """Print the median of values and the worst, with their cases."""
    ordered = sorted(values, key=lambda pair: pair[0], reverse=not low)
    median = statistics.median(value for value, _ in ordered)
    worst = "; ".join(f"{value:.3f} {case}" for value, case in ordered[:WORST])
    sys.stdout.write(f"{name:28} {unit:8} median {median:.3f} of {len(ordered):3}, worst {worst}\n")


def long_runs(name: str, cases: Iterable[tuple[str, Callable[[], Limiter], float, float]]) -> None:
    """Print the use and the refusals of limiters, for each way to answer."""
    cases = list(cases)
    for retry_after in ("one", "exact", "zero", "none"):
        results: list[tuple[Figures, object]] = []
        for title, make, burst, window in cases:
            for latency, jitter, lag in CONDITIONS:
                outcome = long_run(
                    make(),
                    burst=burst,
                    window=window,
                    retry_after=retry_after,
                    latency=latency,
                    jitter=jitter,
                    lag=lag,
                )
                results.append((outcome, f"{title} {latency} {jitter}"))
        label = f"{name}, {retry_after}"
        report(label, "use", ((outcome.use, case) for outcome, case in results), low=True)
        report(label, "refused", ((outcome.late, case) for outcome, case in results), low=False)


def buckets() -> None:
    """Token buckets."""
    long_runs(
        "buckets",
        (
            (f"{rate}/s burst {burst}", lambda r=rate, b=burst: TokenBucket(r, b), burst, 0)  # type: ignore[misc]
            for rate in (1, 3, 10, 50, 200, 1000)
            for burst in (1, 5, 30, 200, 1000)
            if burst < 1000 or rate > 3
        ),
    )


def windows() -> None:
    """Fixed and sliding windows."""
    fixed: list[tuple[str, Callable[[], Limiter], float, float]] = [
        (f"{n}/{w} s from {p}", lambda n=n, w=w, p=p: FixedWindow(n, w, p), n, w)  # type: ignore[misc]
        for n, w in WINDOWS
        for p in (0, 0.3, 0.9)
    ]
    long_runs("fixed windows", fixed)
    long_runs(
        "sliding windows",
        ((f"{n}/{w} s", lambda n=n, w=w: SlidingWindow(n, w), n, w) for n, w in WINDOWS),  # type: ignore[misc]
    )


def cold() -> None:
    """500 requests at 50/s and a burst of 5, from a cold start."""
    for retry_after in ("one", "none"):
        for latency in (0.005, 0.02, 0.05, 0.2):
            runs = [
                (jitter, lag, seed)
                for jitter, lag in ((0.0, 0.0), (0.5, 0.001))
                for seed in range(8)
            ]
            values = [
                simulate(
                    TokenBucket(50, 5),
                    requests=500,
                    retry_after=retry_after,
                    latency=latency,
                    jitter=jitter,
                    lag=lag,
                    seed=seed,
                ).seconds
                for jitter, lag, seed in runs
            ]
            report(f"cold, {retry_after}, {latency}", "seconds", zip(values, runs), low=False)  # noqa: B905


def concurrency() -> None:
    """At most four at once: multiples of the ideal time."""
    for retry_after in ("none", "zero", "one"):
        for latency in (0.005, 0.02, 0.1):
            runs = [(n, jitter) for n in (300, 500) for jitter in (0.0, 0.5, 1.0)]
            values = [
                simulate(
                    ConcurrencyLimit(4),
                    requests=n,
                    latency=latency,
                    jitter=jitter,
                    retry_after=retry_after,
                ).seconds
                / (n * latency / 4)
                for n, jitter in runs
            ]
            name = f"concurrency, {retry_after}, {latency}"
            report(name, "x ideal", zip(values, runs), low=False)  # noqa: B905


def changes() -> None:
    """Limits that change after a minute: use and refusals per five seconds."""
    for before, after in ((10, 100), (50, 500), (100, 10), (500, 50)):
        for retry_after in ("one", "none"):
            client = Client(Pace(random=random.Random(1).random))
            limiter = Changing(((0, TokenBucket(before, 10)), (60, TokenBucket(after, 10))))
            World(limiter, [client], retry_after=retry_after).run(95)
            spans = [(60 + 5 * n, 65 + 5 * n) for n in range(7)]
            use = [sum(a < t <= b for t in client.admitted) / 5 / after for a, b in spans]
            refused = [sum(a < t <= b for t in client.refused) for a, b in spans]
            row = " ".join(f"{value:.2f}" for value in use)
            sys.stdout.write(
                f"change {before} to {after}, {retry_after}: use {row}, refused {refused}\n"
            )


def sharing() -> None:
    """Several clients of one limit."""
    for clients in (2, 4, 8):
        for rate, burst in ((50, 5), (50, 50), (10, 10), (200, 10)):
            for retry_after in ("one", "none"):
                outcome, shares = shared(
                    TokenBucket(rate, burst), clients, until=140, since=20, retry_after=retry_after
                )
                sys.stdout.write(
                    f"{clients} clients of {rate}/s burst {burst}, {retry_after}: use "
                    f"{outcome.use:.2f}, refused {outcome.late:.3f}, shares of fair "
                    f"{min(shares) * clients:.2f} to {max(shares) * clients:.2f}\n"
                )


def broken() -> None:
    """Requests refused whatever their rate: the rate, relative to that without refusals."""
    for share in (0.02, 0.05, 0.1, 0.15, 0.2):
        client = Client(Pace(random=random.Random(1).random))
        World(Broken(share), [client]).run(60)
        sys.stdout.write(f"broken {share}: {len(client.starts) / 60 / 800:.2f} of the rate\n")


SWEEPS: Final = {
    sweep.__name__: sweep
    for sweep in (cold, concurrency, broken, changes, sharing, buckets, windows)
}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or SWEEPS:
        SWEEPS[chosen]()
