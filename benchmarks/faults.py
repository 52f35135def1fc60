"""Measure what the client survives, over real sockets, and print it beside the goals.

Run with ``python -m benchmarks.faults [SEED ...]``, with the package and its ``test`` extra
installed. Every seed is one walk of a million visits; the first seed is also that of the other
experiments, which are those of ``tests/survival.py``, at full size. Exits with 1 if a goal is
missed, unless it was told to run a share of the full size, which is too little to judge by.
"""

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import attrs

# The raw byte server, the faults and the experiments are those of the tests, which are no package.
sys.path.append(str(Path(__file__).parents[1] / "tests"))

import survival
from faults import FAULTS, MIB

RATE = 0.2


@attrs.frozen
class Row:
    """A figure beside its goal.

    Attributes:
        figure: What was measured.
        goal: What it should be.
        measured: What it is.
        reached: Whether that is as it should be.
        errors: How many errors were raised meanwhile, each searched for the key.
        leaks: How many of them show it.
    """

    figure: str
    goal: str
    measured: str
    reached: bool
    errors: int = 0
    leaks: int = 0


@attrs.frozen
class Size:
    """How much of everything, as a share of the full size."""

    share: float

    def __call__(self, full: int, least: int = 10) -> int:
        """Return that share of a full size."""
        return max(least, round(full * self.share))


Experiment: TypeAlias = Callable[[Size, int], list[Row]]

# --- Rows: each names its goal and runs its experiment


def walks(figures: list[survival.WalkFigures], visits: int) -> Row:
    """Judge the walks of all seeds."""

    def total(name: str) -> int:
        return sum(getattr(walk, name) for walk in figures)

    lost, repeated, wrong = total("lost"), total("repeated"), total("wrong_offsets")
    delivered = total("delivered")
    return Row(
        f"{visits:,} visits in {visits // 100:,} pages, {RATE:.0%} of responses one of "
        f"{len(FAULTS)} faults, {len(figures)} seeds, attempts=10",
        "0 lost, 0 repeated, in order; exact `next_offset` whenever it gives up",
        f"{lost} lost, {repeated} repeated of {delivered:,}; {total('spoilt'):,} faults in "
        f"{total('requests'):,} responses; gave up and resumed {total('gave_up'):,} times, "
        f"{wrong} wrong offsets",
        reached=(lost, repeated, wrong, delivered) == (0, 0, 0, visits * len(figures)),
        errors=total("gave_up"),
        leaks=total("leaks"),
    )


def calls(size: Size, seed: int) -> list[Row]:
    """Make single calls through faults that another attempt can mend."""
    figures = asyncio.run(survival.single_calls(calls=size(10_000), seed=seed, rate=RATE))
    share = figures.succeeded / figures.calls
    typed = figures.succeeded + figures.failures.total() == figures.calls
    wrong, factor = figures.failures["wrong"], figures.requests / figures.calls
    failures = ", ".join(f"{n} {name}" for name, n in sorted(figures.failures.items()) if n)
    return [
        Row(
            f"{figures.calls:,} single calls, {RATE:.0%} faults, attempts=5",
            "≥ 99.9 % succeed, every failure typed",
            f"{share:.2%}; {failures or 'no failure'}",
            reached=share >= 0.999 and typed and not wrong,
            errors=figures.failures.total(),
            leaks=figures.leaks,
        ),
        Row(
            f"{RATE:.0%} faults",
            "requests ≤ 1.30 × calls",
            f"{factor:.3f} × (counted on the server)",
            reached=factor <= 1.3,
        ),
    ]


def outage(size: Size, seed: int) -> list[Row]:
    """Make single calls while the server is down."""
    figures = asyncio.run(survival.outage(calls=size(10_000), seed=seed))
    factor = figures.requests / figures.calls
    return [
        Row(
            f"total outage, {figures.calls:,} calls",
            "requests ≤ 1.02 × calls",
            f"{factor:.3f} × (counted on the server)",
            reached=factor <= 1.02 and figures.failures.total() == figures.calls,
            errors=figures.failures.total(),
            leaks=figures.leaks,
        )
    ]


def cuts(size: Size, seed: int) -> list[Row]:
    """Cut a body at every point, in every encoding and framing, and spoil every byte."""
    visits = size(20, least=2)
    body = survival.page_body("tp", 0, visits, total=visits, page_size=50)

    async def run() -> survival.BodyFigures:
        right, sum_ = await survival.whole_page(body), survival.BodyFigures()
        for encoding in ("identity", "gzip", "deflate"):
            sum_ += await survival.damaged(survival.cut_bodies(body, encoding), right)
            if encoding != "identity":
                sum_ += await survival.damaged(survival.spoilt_bodies(body, encoding), right)
        return sum_

    figures = asyncio.run(run())
    return [
        Row(
            "each cut point × identity, gzip, deflate × 5 framings; each byte of the compressed "
            "ones inverted",
            "never a wrong or empty success",
            f"{figures.wrong} of {figures.tried:,}; {figures.refused:,} refused, {figures.right} "
            "whole all the same (gzip's trailer or header)",
            reached=figures.wrong == 0 and figures.refused > 0,
            errors=figures.refused,
            leaks=figures.leaks,
        )
    ]


def cancelled(size: Size, seed: int) -> list[Row]:
    """Cancel walks at random moments."""
    walks = size(1_000)
    settle = partial(asyncio.sleep, 0.1)
    left = asyncio.run(survival.cancelled_walks(walks=walks, seed=seed, settle=settle))
    return [
        Row(
            f"{walks:,} walks cancelled at random",
            "+0 tasks, +0 file descriptors, 0 held slots after 100 ms",
            f"+{left.tasks} tasks, +{left.file_descriptors} file descriptors, "
            f"{left.held_slots} held slots",
            reached=left.tasks == left.file_descriptors == left.held_slots == 0,
        )
    ]


def arbitrary(size: Size, seed: int) -> list[Row]:
    """Answer with what Hypothesis makes up."""
    examples = size(10_000)
    outcomes = survival.arbitrary_responses(examples=examples, number=seed)
    leaks, values = outcomes.pop("leak", 0), outcomes["a value"]
    foreign = sum(n for name, n in outcomes.items() if name.startswith("foreign"))
    told = ", ".join(f"{n:,} {name}" for name, n in outcomes.most_common())
    return [
        Row(
            f"{examples:,} Hypothesis responses",
            "0 exceptions that are not ours",
            f"{foreign}; {told}",
            reached=foreign == 0 and outcomes.total() >= examples,
            errors=outcomes.total() - values - foreign,
            leaks=leaks,
        )
    ]


def memory(size: Size, seed: int) -> list[Row]:
    """Refuse bombs and floods, in a process of its own."""
    figures = asyncio.run(survival.refused_bodies(size=400 * MIB))
    return [
        Row(
            "bombs of 300 MiB, bodies of 400 MiB",
            "refused; peak memory ≤ 48 MiB above baseline",
            f"{figures.refused} of 5 refused; {figures.bytes_above / MIB:.1f} MiB above",
            reached=figures.refused == 5 and figures.bytes_above <= 48 * MIB,
        )
    ]


def ends(size: Size, seed: int) -> list[Row]:
    """Close and cancel."""
    closing = asyncio.run(survival.closing(requests=100))
    cancelling = asyncio.run(survival.cancelling())
    return [
        Row(
            "`aclose()` with 100 in flight; cancellation",
            "≤ 250 ms; ≤ 50 ms",
            f"{closing.seconds * 1e3:.0f} ms; {cancelling.seconds * 1e3:.1f} ms",
            reached=(closing.ended, cancelling.ended) == (100, 3)
            and closing.seconds <= 0.25
            and cancelling.seconds <= 0.05,
        )
    ]


def recovery(size: Size, seed: int) -> list[Row]:
    """Wait for outages to end, on an injected clock."""
    outages = size(100)
    longest = asyncio.run(survival.recovery(outages=outages, seed=seed))
    return [
        Row(
            f"first success after an outage ends, {outages} outages",
            "within max_delay + 1 s = 21 s (injected clock)",
            f"{longest:.1f} s at most",
            reached=longest <= 21,
        )
    ]


def secrets(rows: list[Row]) -> Row:
    """Sum up what was found in the errors of all other rows."""
    errors, leaks = sum(row.errors for row in rows), sum(row.leaks for row in rows)
    return Row(
        "the key in those errors: texts, notes, chain, local variables in tracebacks",
        "0 hits",
        f"{leaks} in {errors:,} errors",
        reached=leaks == 0 and errors > 0,
    )


# --- Running them


def walk(visits: int, seed: int) -> survival.WalkFigures:
    """Walk once."""
    return asyncio.run(
        survival.walk_through_faults(visits=visits, page_size=100, seed=seed, rate=RATE)
    )


def measure(size: Size, seeds: list[int]) -> list[Row]:
    """Run everything, what takes long side by side and what measures time or memory alone."""
    visits, first = size(1_000_000), seeds[0]
    together: list[Experiment] = [calls, outage, cuts, arbitrary, recovery]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        walking = [_submit(pool, f"walk, seed {s}", walk, visits, s) for s in seeds]
        running = {f: _submit(pool, f.__name__, f, size, first) for f in together}
        rows: dict[Experiment, list[Row]] = {f: future.result() for f, future in running.items()}
        walked = walks([future.result() for future in walking], visits)
    alone: list[Experiment] = [cancelled, memory, ends]
    rows |= {experiment: experiment(size, first) for experiment in alone}
    order = [calls, outage, cuts, cancelled, arbitrary, memory, ends, recovery]
    measured = [walked, *(row for experiment in order for row in rows[experiment])]
    return [*measured, secrets(measured)]


def _submit(
    pool: ProcessPoolExecutor, name: str, function: Callable[..., Any], *arguments: Any
) -> Future[Any]:
    started = time.monotonic()
    future = pool.submit(function, *arguments)
    future.add_done_callback(
        lambda _: print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    )
    return future


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    head = "| figure | goal | measured | |\n|---|---|---|---|\n"
    return head + "\n".join(
        f"| {row.figure} | {row.goal} | {row.measured} | {'✓' if row.reached else '✗'} |"
        for row in rows
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, default=[1, 2, 3, 4, 5], metavar="SEED")
    parser.add_argument("--share", type=float, default=1.0, help="share of the full size")
    options = parser.parse_args()
    started = time.monotonic()
    rows = measure(Size(options.share), options.seeds)
    print(table(rows))
    print(
        f"\nPython {platform.python_version()}, {os.cpu_count()} processors, "
        f"seeds {' '.join(map(str, options.seeds))}, {time.monotonic() - started:.0f} s"
    )
    return 0 if options.share < 1 or all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
