"""Measure what the client survives, over real sockets.

Run ``python -m benchmarks.faults``, with the package's ``test`` extra, from the repository's root.
Every seed is one walk of a million visits, and the first two also walk a list that changes
meanwhile. The first seed also runs the other experiments, which are those of
``tests/support/survival`` at full size. Exits with 1 if a full-size run misses a goal.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeAlias

import attrs

from benchmarks.command import conclude, make_parser
from benchmarks.records import FaultFigures
from tests.support import survival
from tests.support.faults import FAULTS, MIB

RATE = 0.2
FULL_WALK = 1_000_000
# Seeds that walk a living list, because that takes twice as long as a list that stands still.
LIVING_SEEDS = 2
# Event-loop turns that an answer takes at most, so that others overtake it.
TURNS = 30


@attrs.frozen
class Size:
    """A share of the full size."""

    share: float

    def __call__(self, full: int, least: int = 10) -> int:
        """Return that share of a number."""
        return max(least, round(full * self.share))


Counts: TypeAlias = dict[str, Any]
Experiment: TypeAlias = Callable[[Size, int], Counts]

# --- Experiments


def walk(visits: int, seed: int) -> Counts:
    """Walk through faults, resuming whenever the walk gives up."""
    experiment = survival.walk_through_faults(visits=visits, page_size=100, seed=seed, rate=RATE)
    return attrs.asdict(asyncio.run(experiment))


def living(visits: int, seed: int, turns: int = 0) -> Counts:
    """Walk through faults while the list changes, resuming whenever the walk gives up."""
    # Every shift is logged as a warning.
    logging.getLogger("distinct_async").setLevel(logging.ERROR)
    experiment = survival.walk_living_list(
        visits=visits, page_size=100, seed=seed, rate=RATE, turns=turns
    )
    return attrs.asdict(asyncio.run(experiment))


def overtaking(size: Size, seed: int) -> Counts:
    """Walk a living list whose answers overtake each other."""
    visits = size(100_000)
    return {"visits": visits, **living(visits, seed, TURNS)}


def calls(size: Size, seed: int) -> Counts:
    """Make single calls through faults that another attempt can overcome."""
    experiment = survival.single_calls(calls=size(10_000), seed=seed, rate=RATE)
    return attrs.asdict(asyncio.run(experiment))


def outage(size: Size, seed: int) -> Counts:
    """Make single calls while the server is down."""
    return attrs.asdict(asyncio.run(survival.outage(calls=size(10_000), seed=seed)))


def bodies(size: Size, _: int) -> Counts:
    """Cut a body at every point, in every encoding and framing, and invert every byte."""
    visits = size(20, least=2)
    body = survival.page_body("tp", 0, visits, total=visits, page_size=50)

    async def run() -> survival.BodyFigures:
        right, total = await survival.whole_page(body), survival.BodyFigures()
        for encoding in ("identity", "gzip", "deflate"):
            total += await survival.damaged(survival.cut_bodies(body, encoding), right)
            if encoding != "identity":
                total += await survival.damaged(survival.spoilt_bodies(body, encoding), right)
        return total

    return attrs.asdict(asyncio.run(run()))


def cancelled(size: Size, seed: int) -> Counts:
    """Cancel walks at random moments."""
    walks, settle = size(1_000), partial(asyncio.sleep, 0.1)
    left = asyncio.run(survival.cancelled_walks(walks=walks, seed=seed, settle=settle))
    return {"walks": walks, **attrs.asdict(left)}


def arbitrary(size: Size, seed: int) -> Counts:
    """Answer with responses that Hypothesis generates."""
    examples = size(10_000)
    outcomes = survival.arbitrary_responses(examples=examples, number=seed)
    leaks, values = outcomes.pop("leak", 0), outcomes.pop("a value", 0)
    return {"examples": examples, "values": values, "errors": dict(outcomes), "leaks": leaks}


def memory(_size: Size, _seed: int) -> Counts:
    """Refuse bombs and floods, in a process of its own."""
    return attrs.asdict(asyncio.run(survival.refused_bodies(size=400 * MIB)))


def endings(_size: Size, _seed: int) -> Counts:
    """Close a client with requests in flight, and cancel walks."""
    closing = asyncio.run(survival.closing(requests=100))
    cancelling = asyncio.run(survival.cancelling())
    return {"closing": attrs.asdict(closing), "cancelling": attrs.asdict(cancelling)}


def recovery(size: Size, seed: int) -> Counts:
    """Wait for outages to end, on an injected clock."""
    outages = size(100)
    longest = asyncio.run(survival.recovery(outages=outages, seed=seed))
    return {"outages": outages, "longest": longest}


# --- Running them

TOGETHER: Sequence[Experiment] = (overtaking, calls, outage, bodies, arbitrary, recovery)
# These measure time or memory.
ALONE: Sequence[Experiment] = (cancelled, memory, endings)


def measure(size: Size, seeds: list[int]) -> FaultFigures:
    """Run all experiments, the long ones side by side."""
    visits, first = size(FULL_WALK), seeds[0]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        changing = [
            _submit(pool, f"living list, seed {seed}", living, visits, seed)
            for seed in seeds[:LIVING_SEEDS]
        ]
        walking = [_submit(pool, f"walk, seed {seed}", walk, visits, seed) for seed in seeds]
        together = {f.__name__: _submit(pool, f.__name__, f, size, first) for f in TOGETHER}
        alive = [future.result() for future in changing]
        walks = [future.result() for future in walking]
        experiments = {name: future.result() for name, future in together.items()}
    experiments |= {experiment.__name__: experiment(size, first) for experiment in ALONE}
    return FaultFigures(RATE, len(FAULTS), visits, walks, experiments, alive)


def _submit(
    pool: ProcessPoolExecutor, name: str, function: Callable[..., Counts], *arguments: Any
) -> Future[Counts]:
    started = time.monotonic()
    future = pool.submit(function, *arguments)
    future.add_done_callback(
        lambda _: print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    )
    return future


def main() -> int:
    """Measure, and print the table."""
    parser = make_parser(__doc__, beside=False)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--share", type=float, default=1, help="of the full size")
    options = parser.parse_args()
    reached = conclude(parser, options, "faults", measure(Size(options.share), options.seeds))
    return 0 if reached or options.share < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
