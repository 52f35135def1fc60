"""The other end of `launch`: contestants in processes of their own."""

import json
import subprocess
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from benchmarks.contestants import Contestant

_LAUNCH = Path(__file__).with_name("launch.py")


@attrs.frozen
class Outcome:
    """The outcome of one call.

    Attributes:
        value: The contestant's return value.
        wall: Seconds.
        processor: Seconds of processor time.
        peak_mib: Peak memory of the process so far.
    """

    value: Any
    wall: float
    processor: float
    peak_mib: float


class Process:
    """One launch of a contestant."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant
        # Isolated, or PYTHONPATH could hide the distinct_async that the interpreter has installed.
        command = (contestant.python, "-I", str(_LAUNCH), contestant.function)
        self._child = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self, **arguments: object) -> Outcome:
        """Call the contestant with its own arguments and these.

        Raises:
            RuntimeError: The contestant raised; its traceback is on stderr.
        """
        assert self._child.stdin is not None  # noqa: S101
        assert self._child.stdout is not None  # noqa: S101
        merged = {**self._contestant.arguments, **arguments}
        print(json.dumps(merged), file=self._child.stdin, flush=True)
        answer = self._child.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._contestant.title} failed")
        return Outcome(**json.loads(answer))

    def fetch(self, visits: int, **arguments: object) -> Outcome:
        """Call a contestant that returns the number of visits it got, and check that number.

        Raises:
            ValueError: It got more or fewer visits.
        """
        outcome = self.call(**arguments)
        if outcome.value != visits:
            raise ValueError(f"{self._contestant.title} got {outcome.value} of {visits} visits")
        return outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._child.kill()
        with self._child:
            pass


@contextmanager
def launched(contestants: Iterable[Contestant]) -> Generator[Mapping[str, Process]]:
    """Launch every contestant, and yield the processes by title."""
    with ExitStack() as stack:
        yield {each.title: stack.enter_context(Process(each)) for each in contestants}


def turns(processes: Mapping[str, Process], number: int) -> Sequence[tuple[str, Process]]:
    """Return the order of a round: each round starts with the next contestant."""
    pairs = [*processes.items()]
    first = number % len(pairs)
    return pairs[first:] + pairs[:first]


def take_turns(
    contestants: Iterable[Contestant], launches: int, rounds: int
) -> Generator[tuple[str, Process]]:
    """Spread the rounds over launches, and yield each contestant's turn in every round."""
    chosen = list(contestants)
    for launch in range(launches):
        with launched(chosen) as processes:
            for number in range(launch, rounds, launches):
                yield from turns(processes, number)
