"""Records: the raw figures of every round, one JSON file for each measurement and Python."""

import json
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import cattrs

from benchmarks.processes import Outcome

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("aiohttp", "attrs", "cattrs", "dlt", "httpx", "hypothesis", "msgspec"),
    *("openai", "orjson", "pyarrow", "pydantic", "requests", "singer-sdk", "tenacity"),
)

Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | None"


@attrs.frozen
class Timings:
    """One contestant's figures, round by round.

    Attributes:
        wall: Seconds.
        processor: Seconds of processor time.
    """

    wall: list[float] = attrs.field(factory=list[float])
    processor: list[float] = attrs.field(factory=list[float])

    def add(self, outcome: Outcome) -> None:
        """Add a round."""
        self.wall.append(outcome.wall)
        self.processor.append(outcome.processor)


@attrs.frozen
class WalkFigures:
    """A scenario of `benchmarks.walk`.

    Attributes:
        page_size: Visits per page.
        latency: The server's, seconds.
        visits: Visits of the touchpoint.
        requests_per_second: The server's own limit, without latency, on one connection.
        rounds: By contestant.
    """

    page_size: int
    latency: float
    visits: int
    requests_per_second: float
    rounds: dict[str, Timings]


@attrs.frozen
class MemoryFigures:
    """A walk of `benchmarks.memory`, with the peak of each round's process."""

    visits: int
    prefetch: int
    consumer: str
    peak_mib: list[float]


@attrs.frozen
class DecodeFigures:
    """A page of `benchmarks.decode`, with seconds of processor time per call by contestant."""

    items: int
    seconds: dict[str, list[float]]


@attrs.frozen
class OverheadFigures:
    """Figures of `benchmarks.overhead`.

    Attributes:
        requests: Seconds of processor time per request, by contestant.
        imports: Seconds, by title of the import.
    """

    requests: dict[str, list[float]]
    imports: dict[str, list[float]]


@attrs.frozen
class FanOutFigures:
    """Figures of `benchmarks.fanout`.

    Attributes:
        touchpoints: Their number.
        visits: Visits of each touchpoint.
        page_size: Visits per page.
        latency: The server's, seconds.
        sequential_touchpoint: Seconds per touchpoint, one after another.
        rounds: By concurrency and contestant.
        growth_mib: Growth of the peak memory over that of 32 touchpoints, by touchpoints.
    """

    touchpoints: int
    visits: int
    page_size: int
    latency: float
    sequential_touchpoint: float
    rounds: dict[int, dict[str, Timings]]
    growth_mib: dict[int, float]


@attrs.frozen
class ExportRun:
    """Exports of one size from one server, with the peak memory of each round's process."""

    server: str
    visits: int
    rounds: dict[str, Timings]
    peak_mib: dict[str, list[float]]


@attrs.frozen
class ShardFigures:
    """Two shards under one rate, as counted by the server."""

    rate: float
    requests: int
    seconds: float
    busiest_second: int


@attrs.frozen
class ExportFigures:
    """Figures of `benchmarks.export`."""

    format: str
    touchpoints: int
    runs: list[ExportRun]
    shards: ShardFigures


@attrs.frozen
class FaultFigures:
    """Figures of `benchmarks.faults`.

    Attributes:
        rate: Share of the responses that are faulty.
        kinds: Number of kinds of faults.
        visits: Visits of each walk.
        walks: The counts of each seed's walk.
        experiments: The counts of every other experiment.
        living: The counts of the walks over lists that change meanwhile; those of the first seeds.
    """

    rate: float
    kinds: int
    visits: int
    walks: list[dict[str, int]]
    experiments: dict[str, dict[str, Any]]
    living: list[dict[str, int]] = attrs.field(factory=list[dict[str, int]])


@attrs.frozen(kw_only=True)
class LimitedRun:
    """A job in front of a limiting server.

    Attributes:
        job: Its name.
        seed: The seed of the client's randomness and of the server's failures.
        needed: Requests that the job needs.
        ideal: Seconds that the limit allows.
        seconds: Seconds that the job took.
        late_rate: Requests per second that the server admitted in the second half of the job.
        touchpoints: Touchpoints to deliver.
        lost_touchpoints: How many of them were not delivered, or not completely.
        lost_visits: How many of their visits were not delivered.
        failures: Number of errors by name.
        requests: Requests that the server counted.
        refused: Requests that its limit refused.
    """

    job: str
    seed: int
    needed: int
    ideal: float
    seconds: float
    late_rate: float
    touchpoints: int
    lost_touchpoints: int
    lost_visits: int
    failures: dict[str, int]
    requests: int
    refused: int


@attrs.frozen(kw_only=True)
class LimitedServer:
    """A server, and the jobs that were run in front of it.

    Attributes:
        server: The server, in words.
        rate: Requests per second that it admits, or None.
        runs: The jobs.
    """

    server: str
    rate: float | None
    runs: list[LimitedRun]


@attrs.frozen(kw_only=True)
class LimitFigures:
    """Figures of `benchmarks.limits`.

    Attributes:
        rows: The servers of each row.
        experiments: The counts of every other row's runs.
    """

    rows: dict[str, list[LimitedServer]]
    experiments: dict[str, list[dict[str, Any]]]


FIGURES: dict[str, Any] = {
    "walk": list[WalkFigures],
    "memory": list[MemoryFigures],
    "decode": list[DecodeFigures],
    "overhead": OverheadFigures,
    "fanout": FanOutFigures,
    "export": ExportFigures,
    "faults": FaultFigures,
    "limits": LimitFigures,
}


@attrs.frozen(kw_only=True)
class Record:
    """One run of a measurement.

    Attributes:
        name: The measurement.
        command: The command, without paths.
        ended: Date and time, UTC.
        python: The version of the measuring Python.
        machine: System and processors.
        versions: The installed packages.
        figures: An instance of `FIGURES`'s type for the name.
    """

    name: str
    command: str
    ended: str
    python: str
    machine: str
    versions: dict[str, str]
    figures: Any

    @property
    def minor(self) -> str:
        """The Python's version, without the patch level."""
        return self.python.rpartition(".")[0]

    @classmethod
    def of(cls, name: str, command: str, figures: Any) -> "Record":
        """Record figures of this process's Python and machine."""
        return cls(
            name=name,
            command=command,
            ended=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            python=platform.python_version(),
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} × {_processor()}",
            versions=_versions(("distinct-async", *PACKAGES)),
            figures=figures,
        )

    def write(self, folder: Path) -> None:
        """Write the record to its file in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        text = _lines(cattrs.unstructure(self))
        (folder / f"{self.name}-{self.minor}.json").write_text(f"{text}\n")


def read_records(folder: Path) -> list[Record]:
    """Read all records of a folder, the newest Python's first."""
    order = list(FIGURES)
    records = [_read(path) for path in folder.glob("*.json")]
    return sorted(records, key=lambda r: (-int(r.minor.split(".")[1]), order.index(r.name)))


def _read(path: Path) -> Record:
    record = cattrs.structure(json.loads(path.read_text()), Record)
    return attrs.evolve(record, figures=cattrs.structure(record.figures, FIGURES[record.name]))


def _lines(value: Json, indent: str = "") -> str:
    """Return JSON with six significant digits, and a line for each list or object of scalars."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        parts = [f"{json.dumps(str(key))}: {_lines(value[key], indent + ' ')}" for key in value]
        return f"{{{_joined(parts, indent)}}}"
    if isinstance(value, list):
        return f"[{_joined([_lines(item, indent + ' ') for item in value], indent)}]"
    return json.dumps(value, ensure_ascii=False)


def _joined(parts: list[str], indent: str) -> str:
    if not any(part.endswith(("]", "}")) for part in parts):
        return ", ".join(parts)
    lines = f",\n{indent} ".join(parts)
    return f"\n{indent} {lines}\n{indent}"


def _versions(packages: Iterable[str]) -> dict[str, str]:
    versions: dict[str, str] = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, "unknown")
