"""The command line: ``distinct-async`` or ``python -m distinct_async`` (extra ``cli``).

Data goes to stdout, everything else to stderr. Exit codes: 0 success (also if the reader of
stdout goes away), 1 failure, 2 usage error, 3 partly exported, 130 interrupted, 143 terminated.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Final

SUCCESS: Final = 0
FAILURE: Final = 1
USAGE_ERROR: Final = 2
PARTLY_EXPORTED: Final = 3
INTERRUPTED: Final = 130
TERMINATED: Final = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: The command-line arguments; defaults to those of the process.

    Raises:
        SystemExit: The arguments are unusable.
    """
    if not all(map(find_spec, ("cyclopts", "rich"))):
        print(
            "distinct-async: the command line needs an extra: pip install 'distinct-async[cli]'",
            file=sys.stderr,
        )
        return USAGE_ERROR
    run: Callable[[Sequence[str]], int] = import_module("distinct_async.cli.app").run
    return run(sys.argv[1:] if arguments is None else arguments)
