"""The reports on `benchmarks.fanout` and `benchmarks.export`."""

import statistics

from benchmarks.contestants import ACROSS, BARE_LOOP, EXPORT
from benchmarks.records import ExportFigures, ExportRun, FanOutFigures, ShardFigures, Timings
from benchmarks.reporting.values import Goal, Section, Spread, Table

FAKE_SERVER, FAST_SERVER = "`FakeDistinct`", "rendered pages"
# Two runs of one size differ by this.
FLAT_MIB = 10


# --- Fan-out


def fanout(figures: FanOutFigures) -> Section:
    """Report on many touchpoints at once."""
    goals = [
        Goal.at_least(
            f"fan-out, concurrency {concurrency}, one in flight each: speed, × the ideal",
            0.9,
            _of_ideal(figures, concurrency, contestants[ACROSS]),
        )
        for concurrency, contestants in figures.rounds.items()
    ]
    return Section([_fanout_table(figures), _growth_table(figures)], goals)


def _requests(figures: FanOutFigures) -> int:
    return figures.touchpoints * -(-figures.visits // figures.page_size)


def _ideal(figures: FanOutFigures, concurrency: int) -> float:
    return _requests(figures) * figures.latency / concurrency


def _of_ideal(figures: FanOutFigures, concurrency: int, timings: Timings) -> Spread:
    return Spread.of(_ideal(figures, concurrency) / wall for wall in timings.wall)


def _fanout_table(figures: FanOutFigures) -> Table:
    requests = _requests(figures)
    sequential = figures.sequential_touchpoint * figures.touchpoints
    rows = [
        (
            str(concurrency),
            title,
            f"{statistics.median(timings.wall):.2f}",
            f"{_ideal(figures, concurrency):.2f}",
            _of_ideal(figures, concurrency, timings).shown(),
            f"{sequential / statistics.median(timings.wall):.1f}",
            f"{statistics.median(timings.processor) / requests * 1e6:.0f}",
        )
        for concurrency, contestants in figures.rounds.items()
        for title, timings in contestants.items()
    ]
    title = (
        f"{figures.touchpoints:,} touchpoints × {figures.visits} visits, in pages of "
        f"{figures.page_size}: {requests:,} requests, {figures.latency * 1e3:g} ms of latency; one "
        f"walk after another takes {sequential:.0f} s"
    )
    head = ("concurrency", "", "s", "ideal, s", "× ideal", "× one after another", "processor, µs")
    return Table(title, head, rows)


def _growth_table(figures: FanOutFigures) -> Table:
    rows = [(f"{count:,}", f"{growth:.1f}") for count, growth in figures.growth_mib.items()]
    title = "peak memory above that of 32 touchpoints, at concurrency 32"
    return Table(title, ("touchpoints", "MiB"), rows)


# --- Export


def export(figures: ExportFigures) -> Section:
    """Report on exports and on shards."""
    return Section([_export_table(figures), _shard_table(figures.shards)], _export_goals(figures))


def _speed_ratio(run: ExportRun, title: str) -> Spread:
    return Spread.of_ratios(run.rounds[BARE_LOOP].wall, run.rounds[title].wall)


def _peak(run: ExportRun, title: str) -> float:
    return statistics.median(run.peak_mib[title])


def _export_table(figures: ExportFigures) -> Table:
    rows = [
        (
            run.server,
            f"{run.visits:,}",
            title,
            f"{run.visits / statistics.median(timings.wall):,.0f}",
            _speed_ratio(run, title).shown(),
            f"{statistics.median(timings.processor) / run.visits * 1e6:.2f}",
            f"{_peak(run, title):.0f}",
        )
        for run in figures.runs
        for title, timings in run.rounds.items()
    ]
    head = ("server", "visits", "", "rows/s", "× bare loop", "processor, µs per row", "peak, MiB")
    return Table(f"{figures.touchpoints} touchpoints, {figures.format}", head, rows)


def _shard_table(shards: ShardFigures) -> Table:
    row = (f"{shards.rate:g}", str(shards.requests), f"{shards.seconds:.1f}")
    head = ("rate, requests/s", "requests", "s", "most in any second")
    return Table("two shards under one rate", head, [(*row, str(shards.busiest_second))])


def _export_goals(figures: ExportFigures) -> list[Goal]:
    short, long = sorted((run for run in figures.runs if run.server == FAKE_SERVER), key=_visits)
    peaks = Spread.of([max(_peak(run, EXPORT) for run in figures.runs)])
    growth = Spread.of([_peak(long, EXPORT) - _peak(short, EXPORT)])
    shards = figures.shards
    # Each shard may start a tenth of a second's requests at once.
    bound = shards.rate + 2 * max(1.0, shards.rate / 2 * 0.1)
    busiest = str(shards.busiest_second)
    return [
        Goal.at_least("export: rows/s, × the bare loop", 0.8, _speed_ratio(long, EXPORT)),
        Goal.at_most("export: peak memory, MiB", 150, peaks),
        Goal.at_most("export: growth of the peak with twice the visits, MiB", FLAT_MIB, growth),
        Goal(
            f"export: two shards at {shards.rate:g} requests/s: requests in any second",
            f"≤ {bound:g}",
            busiest,
            reached=shards.busiest_second <= bound,
        ),
    ]


def _visits(run: ExportRun) -> int:
    return run.visits
