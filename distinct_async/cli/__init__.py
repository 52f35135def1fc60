"""The command line, ``distinct-async`` or ``python -m distinct_async``: the extra ``cli``.

Data goes to stdout, everything else to stderr. Exit codes: 0 done (or the reader went away),
1 failure, 2 usage, 3 partly exported, 130 interrupted.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Final

FAILURE: Final = 1
USAGE: Final = 2
PARTLY: Final = 3
INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    Args:
        arguments: The command line; that of the process if None.

    Raises:
        SystemExit: When the command line is not usable.
    """
    if not all(map(find_spec, ("cyclopts", "rich"))):
        print(
            "distinct-async: the command line needs an extra: pip install 'distinct-async[cli]'",
            file=sys.stderr,
        )
        return USAGE
    run: Callable[[Sequence[str]], int] = import_module("distinct_async.cli.app").run
    return run(sys.argv[1:] if arguments is None else arguments)
