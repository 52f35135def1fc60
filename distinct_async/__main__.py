"""Run the command line as ``python -m distinct_async``."""

import sys

from distinct_async.cli import main

sys.exit(main())
