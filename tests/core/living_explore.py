"""Run the machines of `test_living_lists` for many steps, with new examples each time.

``python -m tests.core.living_explore [STEPS] [SEED]`` prints a line per machine with its steps,
seeds and outcomes. A failure ends it, with its example, which is not shrunk: that takes longer than
finding another.
"""

import logging
import sys
from collections import Counter

import hypothesis
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.core.living_exports import LivingExports
from tests.core.living_fan_out import LivingFanOut
from tests.core.living_walks import LivingWalks

MACHINES = (LivingWalks, LivingFanOut, LivingExports)
EXAMPLES = 200

SETTINGS = hypothesis.settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.data_too_large,
        hypothesis.HealthCheck.filter_too_much,
    ],
)


def explore(machine: type[RuleBasedStateMachine], steps: Counter[str], goal: int, seed: int) -> int:
    """Run a machine from a seed on until it has taken `goal` steps; return the next seed."""
    while steps.total() < goal:
        run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=SETTINGS)
        seed += 1
    return seed


def main(goal: int = 100_000, seed: int = 1) -> None:
    # Every shift is a warning.
    logging.disable(logging.WARNING)
    for machine in MACHINES:
        end = explore(machine, machine.steps, goal // len(MACHINES) + 1, seed)
        outcomes = ", ".join(f"{name} {count:,}" for name, count in machine.outcomes.most_common())
        total = machine.steps.total()
        print(f"{machine.__name__}: {total:,} steps, seeds {seed} to {end - 1}: {outcomes}")  # noqa: T201


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
