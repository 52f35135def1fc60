"""Plots of a record, as small SVGs."""
# matplotlib's own types leave much unknown.
# pyright: basic

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contestants import BARE
from benchmarks.records import MemoryFigures, WalkFigures
from benchmarks.reporting.values import Spread
from benchmarks.reporting.walking import items_per_second, scenario_title

OWN_COLOUR, LIMIT_COLOUR, PEER_COLOUR = "#2563eb", "#6b7280", "#d6b98c"
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
STYLE |= {"axes.spines.right": False, "font.sans-serif": ["DejaVu Sans"], "ytick.major.size": 0}


def draw_walk(scenarios: Sequence[WalkFigures]) -> Figure:
    """Draw items per second, a panel for each scenario."""
    sizes = sorted({each.page_size for each in scenarios})
    latencies = sorted({each.latency for each in scenarios})
    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(len(sizes), len(latencies), sharey=True, squeeze=False)
    panels[0][0].invert_yaxis()
    for each in scenarios:
        axes = panels[sizes.index(each.page_size)][latencies.index(each.latency)]
        _draw_bars(axes, {title: items_per_second(each, title) for title in each.rounds})
        axes.set_title(scenario_title(each))
    return figure


def _draw_bars(axes: Axes, spreads: Mapping[str, Spread]) -> None:
    medians = [spread.median for spread in spreads.values()]
    errors = [
        [spread.median - spread.low for spread in spreads.values()],
        [spread.high - spread.median for spread in spreads.values()],
    ]
    axes.barh(list(spreads), medians, xerr=errors, color=[_colour(title) for title in spreads])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("items/s")


def _colour(title: str) -> str:
    if title.startswith("distinct_async"):
        return OWN_COLOUR
    return LIMIT_COLOUR if title == BARE else PEER_COLOUR


def draw_memory(walks: Sequence[MemoryFigures]) -> Figure:
    """Draw the peak over the length of the walk."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    for prefetch, consumer in dict.fromkeys((each.prefetch, each.consumer) for each in walks):
        line = [each for each in walks if (each.prefetch, each.consumer) == (prefetch, consumer)]
        visits = [each.visits for each in line]
        peaks = [Spread.of(each.peak_mib).median for each in line]
        style = "o-" if consumer == "fast" else "s--"
        axes.plot(visits, peaks, style, label=f"prefetch={prefetch}, {consumer} consumer")
    axes.set_xscale("log")
    lengths = sorted({each.visits for each in walks})
    axes.set_xticks(lengths, [f"{visits:,}" for visits in lengths])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("visits walked")
    axes.set_ylabel("peak of the process, MiB")
    axes.legend(loc="lower right")
    return figure


PLOTS: Mapping[str, Callable[[Any], Figure]] = {"walk": draw_walk, "memory": draw_memory}


def save(figures: Any, name: str, folder: Path) -> None:
    """Draw a record's plot to an SVG that is the same for the same figures."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        PLOTS[name](figures).savefig(path, metadata={"Date": None, "Creator": None})
    path.write_text(_shortened(path.read_text()))


def _shortened(svg: str) -> str:
    """Drop invisible digits, blanks, clips and rotations."""
    svg = re.sub(r"(\d\.\d)\d+", r"\1", svg)
    svg = re.sub(r' (transform="rotate\(-0 |clip-path=")[^"]*"', "", svg)
    return "".join(f"{line.strip()}\n" for line in svg.splitlines())
