"""The report on `benchmarks.faults`."""

from collections.abc import Mapping
from typing import Any

from benchmarks.records import FaultFigures
from benchmarks.reporting.living import living
from benchmarks.reporting.values import Goal, Section

MIB = 1024 * 1024
MOST_MIB = 48

Counts = Mapping[str, Any]


def faults(figures: FaultFigures) -> Section:
    """Report on all experiments; every row is a goal."""
    counts = figures.experiments
    goals = [
        _walks(figures),
        *living(figures),
        *_calls(counts["calls"], figures.rate),
        _outage(counts["outage"]),
        _bodies(counts["bodies"]),
        _cancelled(counts["cancelled"]),
        _arbitrary(counts["arbitrary"]),
        _memory(counts["memory"]),
        _endings(counts["endings"]),
        _recovery(counts["recovery"]),
        _secrets(figures),
    ]
    return Section([], goals)


def _walks(figures: FaultFigures) -> Goal:
    def total(name: str) -> int:
        return sum(walk[name] for walk in figures.walks)

    lost, repeated, wrong = total("lost"), total("repeated"), total("wrong_offsets")
    delivered, visits = total("delivered"), figures.visits
    return Goal(
        f"{visits:,} visits in {visits // 100:,} pages, {figures.rate:.0%} of the responses one of "
        f"{figures.kinds} faults, `attempts=10`, seeds: {len(figures.walks)}",
        "0 lost, 0 repeated, in order; exact `next_offset` whenever a walk gives up",
        f"{lost} lost, {repeated} repeated of {delivered:,}; {total('spoilt'):,} faults in "
        f"{total('requests'):,} responses; gave up and resumed {total('gave_up'):,} times, "
        f"{wrong} wrong offsets",
        reached=(lost, repeated, wrong, delivered) == (0, 0, 0, visits * len(figures.walks)),
    )


def _calls(calls: Counts, rate: float) -> list[Goal]:
    share, factor = calls["succeeded"] / calls["calls"], calls["requests"] / calls["calls"]
    failed = sum(calls["failures"].values())
    typed = calls["succeeded"] + failed == calls["calls"] and not calls["failures"].get("wrong")
    failures = ", ".join(f"{n} {name}" for name, n in sorted(calls["failures"].items()) if n)
    return [
        Goal(
            f"{calls['calls']:,} single calls, {rate:.0%} faults, `attempts=5`",
            "≥ 99.9 % succeed, every failure typed",
            f"{share:.2%}; {failures or 'no failure'}",
            reached=share >= 0.999 and typed,
        ),
        Goal(
            f"requests that the server counts, {rate:.0%} faults",
            "≤ 1.30 × calls",
            f"{factor:.3f} ×",
            reached=factor <= 1.3,
        ),
    ]


def _outage(calls: Counts) -> Goal:
    factor = calls["requests"] / calls["calls"]
    return Goal(
        f"requests that the server counts, total outage, {calls['calls']:,} calls",
        "≤ 1.02 × calls",
        f"{factor:.3f} ×",
        reached=factor <= 1.02 and sum(calls["failures"].values()) == calls["calls"],
    )


def _bodies(bodies: Counts) -> Goal:
    return Goal(
        "a body cut at every point, plain, gzip and deflate, in 5 framings; every compressed byte "
        "inverted",
        "never a wrong or empty success",
        f"{bodies['wrong']} of {bodies['tried']:,}; {bodies['refused']:,} refused, "
        f"{bodies['right']} intact (damage to gzip's header or trailer)",
        reached=bodies["wrong"] == 0 and bodies["refused"] > 0,
    )


def _cancelled(left: Counts) -> Goal:
    return Goal(
        f"{left['walks']:,} walks cancelled at random",
        "no task, file descriptor or slot left after 100 ms",
        f"{left['tasks']} tasks, {left['file_descriptors']} file descriptors, "
        f"{left['held_slots']} slots",
        reached=left["tasks"] == left["file_descriptors"] == left["held_slots"] == 0,
    )


def _arbitrary(arbitrary: Counts) -> Goal:
    errors, values = arbitrary["errors"], arbitrary["values"]
    foreign = _foreign(errors)
    shown = ", ".join(f"{n:,} {name}" for name, n in sorted(errors.items(), key=lambda i: -i[1]))
    return Goal(
        f"{arbitrary['examples']:,} arbitrary responses (Hypothesis)",
        "0 exceptions other than ours",
        f"{foreign}; {values:,} values, {shown}",
        reached=foreign == 0 and values + sum(errors.values()) >= arbitrary["examples"],
    )


def _foreign(errors: Counts) -> int:
    return sum(n for name, n in errors.items() if name.startswith("foreign"))


def _memory(bodies: Counts) -> Goal:
    return Goal(
        "bombs of 300 MiB, bodies of 400 MiB",
        f"refused, peak memory ≤ {MOST_MIB} MiB above the baseline",
        f"{bodies['refused']} of 5 refused; {bodies['bytes_above'] / MIB:.1f} MiB",
        reached=bodies["refused"] == 5 and bodies["bytes_above"] <= MOST_MIB * MIB,
    )


def _endings(endings: Counts) -> Goal:
    closing, cancelling = endings["closing"]["seconds"], endings["cancelling"]["seconds"]
    ended = endings["closing"]["ended"], endings["cancelling"]["ended"]
    return Goal(
        "`aclose()` with 100 requests in flight; cancelling",
        "≤ 250 ms; ≤ 50 ms",
        f"{closing * 1e3:.0f} ms; {cancelling * 1e3:.1f} ms",
        reached=ended == (100, 3) and closing <= 0.25 and cancelling <= 0.05,
    )


def _recovery(recovery: Counts) -> Goal:
    return Goal(
        f"first success after an outage ends, {recovery['outages']} outages",
        "within `max_delay` + 1 s = 21 s (injected clock)",
        f"{recovery['longest']:.1f} s at most",
        reached=recovery["longest"] <= 21,
    )


def _secrets(figures: FaultFigures) -> Goal:
    counts = figures.experiments
    arbitrary = counts["arbitrary"]["errors"]
    walks = [*figures.walks, *figures.living, *filter(None, [counts.get("overtaking")])]
    errors = (
        sum(walk["gave_up"] + walk.get("lost_places", 0) for walk in walks)
        + sum(sum(counts[name]["failures"].values()) for name in ("calls", "outage"))
        + counts["bodies"]["refused"]
        + sum(arbitrary.values())
        - _foreign(arbitrary)
    )
    leaks = sum(walk["leaks"] for walk in walks)
    leaks += sum(counts[name]["leaks"] for name in ("calls", "outage", "bodies", "arbitrary"))
    return Goal(
        "the key in those errors: texts, notes, chain, local variables in tracebacks",
        "0 hits",
        f"{leaks} in {errors:,} errors",
        reached=leaks == 0 and errors > 0,
    )
