"""Draw what was measured into ``benchmarks/README.md``: tables, plots, and what was missed.

Run with ``python -m benchmarks.report`` after `benchmarks.walk`, `benchmarks.memory`,
`benchmarks.decode` and `benchmarks.overhead`, whose results are in ``benchmarks/results``.
"""
# matplotlib's own types leave much unknown.
# pyright: basic

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contestants import BARE
from benchmarks.measuring import RESULTS, Goal, Record, Spread, goal_table
from benchmarks.walk import FULL_SIZE, Scenario

HERE = Path(__file__).parent
MEASUREMENTS = ("walk", "memory", "decode", "overhead")

OWN_COLOUR, LIMIT_COLOUR, PEER_COLOUR = "#2563eb", "#6b7280", "#d6b98c"

# Of the panels.
PAGE_SIZES = sorted({scenario.page_size for scenario in FULL_SIZE})
LATENCIES = sorted({scenario.latency for scenario in FULL_SIZE})

# Of goals that are not reached here, by how their figure begins.
REASONS: Mapping[str, str] = {
    "0 ms, pages of 1,000: speed, × that of httpx": (
        "a server that answers at once leaves nothing to do ahead of time, so only the client's "
        "processor counts, and the bare loop, which makes plain dicts and checks nothing, is "
        "itself only twice as fast as httpx. Three times would be a page in 0.44 ms (httpx takes "
        "1.32 ms, this client 0.76 ms); but 1,000 typed and checked visits take 0.31 ms to decode, "
        "and a request of bare aiohttp for a page of 50, not parsed, takes 0.16 ms. That leaves "
        "less than nothing to receive the other 57 kB and to hand over 1,000 items. Even if "
        "decoding took no longer than msgspec needs for its own Structs (0.12 ms), it would be "
        "about 2.3 times."
    ),
    "0 ms, pages of 1,000: speed, × that of dlt": (
        "it is on the line: 2.996 here, 2.9 and 3.4 in two other runs. The bare loop is 3.3 times "
        "as fast as dlt."
    ),
}

TITLES = {
    "walk": "Walking one touchpoint",
    "memory": "Memory",
    "decode": "Decoding",
    "overhead": "Overhead of a call, and import",
}

INTRODUCTION = """\
# How fast it is, and beside what

What is here was measured side by side, on one machine, in one go: all that counts are ratios. Each
measurement lets its contestants take turns, round after round, and takes ratios within a round;
tables show the median of the rounds, and in brackets the 10th and 90th percentiles. Servers run in
processes of their own and send pages that were rendered before; what such a server can do at most
is measured first, and the walk refuses to judge anyone who comes near it.

## Do it again

```sh
python3 -m venv .venv && .venv/bin/pip install -U pip
.venv/bin/pip install '.[test]' --group bench
.venv/bin/python -m benchmarks.walk      # about 30 minutes, most of them waiting for 50 ms
.venv/bin/python -m benchmarks.memory    # about 6 minutes
.venv/bin/python -m benchmarks.decode
.venv/bin/python -m benchmarks.overhead
.venv/bin/python -m benchmarks.report    # makes this page of what those wrote
```

The first two take `--share 0.01` for a first look, and all take `--help`. Each exits with 1 if a
goal is missed. Three more have their figures in the [README](../README.md): `benchmarks.faults`
("What it survives"), `benchmarks.fanout` ("Many touchpoints at once") and `benchmarks.export`
("Bulk export").

## Who walks

- **distinct_async**: this package, which gives a typed and checked `Visit` for every item; with its
  default settings (four pages in flight or ahead), with one page at a time, and with sixteen.
- **bare aiohttp and orjson**: the limit. One page after another, plain dicts, nothing checked.
- **httpx**: the loop one writes by hand, with `response.json()`.
- **openai's AsyncAPIClient**: the paginator of openai-python (and of every client that the same
  generator makes), with a page class for offsets.
- **dlt's RESTClient**: with its `OffsetPaginator`.
- **singer-sdk's RESTStream**: what a Meltano tap for such an API is made of.

Every one of them hands over every item, one by one, and has its count checked.
"""

ELSEWHERE = """\
## What these figures leave out

**Python 3.11.** The record is of the newest Python here. The same walk with Python 3.11.7, on the
same machine on the same day, misses one goal more: without latency, in pages of 1,000, the
processor's time is 1.75 (1.52 to 1.93) of the bare loop's, and not at most 1.5. There an async
generator hands over an item in 90 ns instead of 176, which both gain, so that decoding weighs more;
and the garbage collector looks at new objects almost three times as often, at visits more than at
the dicts of the loop. With pages of 1,000, the client is then 1.54 times as fast as httpx and 2.79
times as fast as dlt. All other goals are reached there, the closest of them: 5 ms and pages of
1,000 with 3.58, decoding with 0.52, importing with 1.13.

**cattrs.** What a walk of visits does not need is imported when it is needed. The first list of
touchpoints or of users, or the first page that is not as documented, imports cattrs, which takes 14
ms once. Counted in, importing the client would take 1.17 times what importing its dependencies
takes, and not 1.08.

**A busy machine.** Medians without latency vary between runs by up to 10 percent, and more in a
single round; those with latency hardly do.
"""


# --- Plots: each draws one record


def draw_walk(record: Record) -> Figure:
    """Draw items per second of all contestants, a panel for each scenario."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    panels = figure.subplots(len(PAGE_SIZES), len(LATENCIES), sharey=True)
    for outcome in record.raw:
        scenario = Scenario(**outcome["scenario"])
        row, column = PAGE_SIZES.index(scenario.page_size), LATENCIES.index(scenario.latency)
        axes = panels[row][column]
        visits, rounds = scenario.visits, outcome["rounds"].items()
        _draw_bars(axes, {name: [visits / each["wall"] for each in runs] for name, runs in rounds})
        axes.set_title(scenario.title)
        axes.set_xlabel("items/s")
    return figure


def draw_processor(record: Record) -> Figure:
    """Draw the processor time of all contestants, without latency."""
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    outcomes = [outcome for outcome in record.raw if not outcome["scenario"]["latency"]]
    for axes, outcome in zip(panels, outcomes, strict=True):
        scenario = outcome["scenario"]
        by, rounds = 1e6 / scenario["visits"], outcome["rounds"].items()
        _draw_bars(axes, {name: [each["processor"] * by for each in runs] for name, runs in rounds})
        axes.set_title(f"pages of {scenario['page_size']:,}")
        axes.set_xlabel("ms of processor per 1,000 items (shorter is better)")
    return figure


def draw_memory(record: Record) -> Figure:
    """Draw the peak over the length of the walk."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    lines: dict[tuple[int, str], list[tuple[int, float]]] = {}
    for peak in record.raw:
        key = peak["prefetch"], peak["consumer"]
        lines.setdefault(key, []).append((peak["visits"], Spread.of(peak["mib"]).median))
    for (prefetch, consumer), points in lines.items():
        style = "o-" if consumer == "fast" else "s--"
        visits, peaks = zip(*points, strict=True)
        axes.plot(visits, peaks, style, label=f"prefetch={prefetch}, {consumer} consumer")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("visits walked")
    axes.set_ylabel("peak of the process, MiB")
    axes.legend(loc="lower right")
    return figure


def draw_decode(record: Record) -> Figure:
    """Draw items per second of all contestants, a panel for each size of page."""
    figure = Figure(figsize=(12, 2.5), layout="constrained")
    panels = figure.subplots(1, len(record.raw), sharey=True, squeeze=False)[0]
    for axes, outcome in zip(panels, record.raw, strict=True):
        items, rounds = outcome["items"], outcome["rounds"].items()
        _draw_bars(axes, {name: [items / each for each in runs] for name, runs in rounds})
        axes.set_title(f"pages of {outcome['items']:,}")
        axes.set_xlabel("items/s")
    return figure


def draw_overhead(record: Record) -> Figure:
    """Draw what a call and an import take."""
    figure = Figure(figsize=(12, 2.2), layout="constrained")
    calls, imports = figure.subplots(1, 2)
    for axes, name, factor, unit in (
        (calls, "requests", 1e6, "µs of processor per request"),
        (imports, "imports", 1e3, "ms to import"),
    ):
        rounds = record.raw[name].items()
        _draw_bars(axes, {name: [each * factor for each in runs] for name, runs in rounds})
        axes.set_xlabel(f"{unit} (shorter is better)")
    return figure


PLOTS: Mapping[str, Mapping[str, Callable[[Record], Figure]]] = {
    "walk": {"walk-speed": draw_walk, "walk-processor": draw_processor},
    "memory": {"memory": draw_memory},
    "decode": {"decode": draw_decode},
    "overhead": {"overhead": draw_overhead},
}


def _draw_bars(axes: Axes, rounds: Mapping[str, Sequence[float]]) -> None:
    """Draw a bar for each contestant: the median of its rounds."""
    spreads = {title.replace("`", ""): Spread.of(values) for title, values in rounds.items()}
    titles = list(spreads)
    medians = [spread.median for spread in spreads.values()]
    errors = [
        [spread.median - spread.low for spread in spreads.values()],
        [spread.high - spread.median for spread in spreads.values()],
    ]
    axes.barh(titles, medians, xerr=errors, color=[_colour(title) for title in titles])
    # Panels that share an axis share its direction.
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"
    )
    axes.locator_params(axis="x", nbins=4)
    axes.spines[["top", "right"]].set_visible(False)


def _colour(title: str) -> str:
    if title.startswith(("distinct_async", "client", "bytes to", "the ")):
        return OWN_COLOUR
    limits = (BARE, "bare", "orjson", "msgspec", "its dependencies")
    return LIMIT_COLOUR if title.startswith(limits) else PEER_COLOUR


def save(figure: Figure, path: Path) -> None:
    """Write an SVG that is the same for the same figures."""
    path.parent.mkdir(exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": path.stem, "font.size": 9}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    # matplotlib leaves blanks at the ends of lines.
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n")


# --- The page


def make_page(records: Sequence[Record]) -> str:
    """Return the page."""
    goals = list(chain.from_iterable(record.goals for record in records))
    parts = [INTRODUCTION, _goals_section(goals), ELSEWHERE]
    parts += [_section(record) for record in records]
    return "\n".join(parts)


def _goals_section(goals: Sequence[Goal]) -> str:
    reached = sum(goal.reached for goal in goals)
    table = goal_table(goals)
    lines = [f"## {table.title}\n\n{reached} of {len(goals)} are reached.\n\n{table.grid}\n"]
    missed = [goal for goal in goals if not goal.reached]
    if missed:
        lines.append("### Not reached, and why\n")
        lines += [f"- **{goal.figure}**: {_reason(goal)}" for goal in missed]
        lines.append("")
    return "\n".join(lines)


def _reason(goal: Goal) -> str:
    known = (reason for start, reason in REASONS.items() if goal.figure.startswith(start))
    return next(known, "no reason is known yet.")


def _section(record: Record) -> str:
    machine = ", ".join(record.machine.values())
    versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    plots = [f"![{TITLES[record.name]}](plots/{plot}.svg)" for plot in PLOTS[record.name]]
    tables = [table.markdown for table in record.tables if table.title != "Goals"]
    ran = f"`{record.command}`, ended {record.ended} UTC, on {machine}, with {versions}."
    return "\n\n".join([f"## {TITLES[record.name]}", ran, *plots, *tables]) + "\n"


def main() -> None:
    """Write the page and its plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to read")
    parser.add_argument("--to", type=Path, default=HERE, help="the folder to write to")
    options = parser.parse_args()
    records = [Record.read(name, options.results) for name in MEASUREMENTS]
    for record in records:
        for plot, draw in PLOTS[record.name].items():
            save(draw(record), options.to / "plots" / f"{plot}.svg")
    (options.to / "README.md").write_text(make_page(records))
    print(options.to / "README.md")


if __name__ == "__main__":
    main()
