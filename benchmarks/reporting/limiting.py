"""The report on `benchmarks.limits`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.records import LimitedRun, LimitedServer, LimitFigures
from benchmarks.reporting.values import Goal, Section, Spread, Table

LEAST_COLD, LEAST_LEARNED = 75, 85
MOST_CROWDED = 2
# Seconds of probing that it may take to tell an outage from broken touchpoints.
MOST_PROBING = 60
MOST_BESIDE, LEAST_BULK = 1.6, 0.9
MOST_OUTAGE = 1.02
LONG_WAIT = 3_600
# A client's requests in flight, less the one that was refused.
OTHERS_IN_FLIGHT = 15

Counts = Mapping[str, Any]


def limits(figures: LimitFigures) -> Section:
    """Report on all rows that were measured."""
    goals = [
        goal
        for name, servers in figures.rows.items()
        for server in servers
        for goal in _ROWS[name](server)
    ]
    goals += [
        goal for name, runs in figures.experiments.items() for goal in _EXPERIMENTS[name](runs)
    ]
    return Section([_table(figures)] if figures.rows else [], goals)


def _table(figures: LimitFigures) -> Table:
    rows = [
        (
            server.server,
            job,
            f"{runs[0].needed:,}",
            Spread.of(run.seconds for run in runs).shown(1),
            f"{runs[0].ideal:.1f}",
            f"{Spread.of(run.refused for run in runs).median / runs[0].needed:.1%}",
            str(sum(run.lost_touchpoints for run in runs)),
        )
        for servers in figures.rows.values()
        for server in servers
        for job, runs in _by_job(server.runs).items()
    ]
    head = ("server", "job", "requests needed", "s", "ideal, s", "refused", "touchpoints lost")
    return Table("jobs in front of limiting and failing servers", head, rows)


def _by_job(runs: Iterable[LimitedRun]) -> dict[str, list[LimitedRun]]:
    jobs: dict[str, list[LimitedRun]] = {}
    for run in runs:
        jobs.setdefault(run.job, []).append(run)
    return jobs


def _each_job(
    runs: Iterable[LimitedRun], figure: Callable[[LimitedRun], float], digits: int, unit: str = ""
) -> str:
    """Show a figure of each job, and the range over its runs."""
    shown: list[str] = []
    for job, each in _by_job(runs).items():
        values = sorted(map(figure, each))
        ends = (f"{value:,.{digits}f}" for value in (values[0], values[-1]))
        shown.append(f"{job} {'–'.join(dict.fromkeys(ends))}{unit}")
    return ", ".join(shown)


def _is_complete(run: LimitedRun) -> bool:
    return run.lost_touchpoints == run.lost_visits == 0


def _failures(runs: Iterable[LimitedRun]) -> str:
    lost = sum(run.lost_touchpoints for run in runs)
    return f"; {lost} lost" if lost else ""


# --- Rates


def _cold(server: LimitedServer) -> list[Goal]:
    title = f"{server.runs[0].needed:,} requests from a cold start"
    return _shares(server, title, lambda run: run.ideal / run.seconds, LEAST_COLD)


def _learned(server: LimitedServer) -> list[Goal]:
    title = f"the second half of {server.runs[0].needed:,} requests"
    return _shares(server, title, lambda run: run.late_rate / (server.rate or 1.0), LEAST_LEARNED)


def _shares(
    server: LimitedServer, title: str, share: Callable[[LimitedRun], float], least: int
) -> list[Goal]:
    def percent(run: LimitedRun) -> float:
        return share(run) * 100

    runs = server.runs
    return [
        Goal(
            f"{server.server}: {title}, of the limit",
            f"≥ {least}%, complete",
            _each_job(runs, percent, 0, "%") + _failures(runs),
            reached=all(_is_complete(run) and percent(run) >= least for run in runs),
        )
    ]


def _crawling(server: LimitedServer) -> list[Goal]:
    runs = server.runs
    return [
        Goal(
            f"{server.server}: {runs[0].needed:,} requests, which take {runs[0].ideal:.0f} s",
            "complete",
            _each_job(runs, lambda run: run.seconds, 0, " s") + _failures(runs),
            reached=all(map(_is_complete, runs)),
        )
    ]


def _crowded(server: LimitedServer) -> list[Goal]:
    def ratio(run: LimitedRun) -> float:
        return run.seconds / run.ideal

    runs = server.runs
    return [
        Goal(
            f"{server.server}: {runs[0].needed:,} requests, × the ideal time",
            f"≤ {MOST_CROWDED}, none lost",
            _each_job(runs, ratio, 2) + _failures(runs),
            reached=all(_is_complete(run) and ratio(run) <= MOST_CROWDED for run in runs),
        )
    ]


def _broken(server: LimitedServer) -> list[Goal]:
    def delivered(run: LimitedRun) -> float:
        return run.touchpoints - run.lost_touchpoints

    runs = server.runs
    seconds = max(run.seconds - run.ideal for run in runs)
    return [
        Goal(
            f"{server.server}: the others delivered by the first run",
            f"{runs[0].touchpoints} of {runs[0].touchpoints}, at most {MOST_PROBING} s late",
            f"{_each_job(runs, delivered, 0)}; {seconds:.0f} s late at most",
            reached=all(map(_is_complete, runs)) and seconds <= MOST_PROBING,
        )
    ]


# --- Other rows


def _forbidden(runs: Sequence[Counts]) -> list[Goal]:
    more = max(run["after_refusal"] for run in runs)
    waits = [run["named_wait"] or 0.0 for run in runs]
    named = all(LONG_WAIT - 60 < wait <= LONG_WAIT for wait in waits)
    return [
        Goal(
            "Retry-After: 3600: further requests after the first refusal",
            f"those in flight (≤ {OTHERS_IN_FLIGHT}); then a local error that names the wait",
            f"{more} at most; `retry_after={min(waits):.0f}`",
            reached=more <= OTHERS_IN_FLIGHT and named,
        )
    ]


def _small_pages(runs: Sequence[Counts]) -> list[Goal]:
    library, command = runs
    return [
        Goal(
            '400 "pageSize must be at most 100": `export_visits`, and the command line',
            "complete; one warning each",
            f"{library['visits']:,} of {library['wanted']:,} visits, {library['warnings']} "
            f"warning; exit {command['exit']}, {command['warnings']} warning",
            reached=library["visits"] == library["wanted"]
            and (library["warnings"], command["exit"], command["warnings"]) == (1, 0, 1),
        )
    ]


def _beside(runs: Sequence[Counts]) -> list[Goal]:
    jobs = dict.fromkeys(run["job"] for run in runs)
    return [goal for job in jobs for goal in _beside_job(job, [r for r in runs if r["job"] == job])]


def _beside_job(job: str, runs: Sequence[Counts]) -> list[Goal]:
    slower = Spread.of(run["beside"] / run["alone"] for run in runs)
    bulk = Spread.of(run["bulk_alone"] / run["bulk_beside"] for run in runs)
    calls = Spread.of(run["beside"] * 1e3 for run in runs)
    return [
        Goal(
            f"single calls beside {_BULKS[job]} on one client: median time, × alone",
            f"≤ {MOST_BESIDE}",
            f"{slower.shown()}, {calls.shown(0)} ms",
            reached=slower.median <= MOST_BESIDE,
        ),
        Goal.at_least(f"{_BULKS[job]} beside single calls: speed, × alone", LEAST_BULK, bulk),
    ]


def _outage(runs: Sequence[Counts]) -> list[Goal]:
    factor = max(run["requests"] / run["calls"] for run in runs)
    return [
        Goal(
            f"total outage, {runs[0]['calls']:,} calls: requests, × calls",
            f"≤ {MOST_OUTAGE}",
            f"{factor:.3f}",
            reached=factor <= MOST_OUTAGE,
        )
    ]


_BULKS = {"fan-out": "a fan-out with `concurrency=64`", "export": "an export"}

_ROWS: Mapping[str, Callable[[LimitedServer], list[Goal]]] = {
    "cold": _cold,
    "learned": _learned,
    "slow": _learned,
    "crawling": _crawling,
    "crowded": _crowded,
    "broken": _broken,
}
_EXPERIMENTS: Mapping[str, Callable[[Sequence[Counts]], list[Goal]]] = {
    "forbidden": _forbidden,
    "small_pages": _small_pages,
    "beside": _beside,
    "outage": _outage,
}
