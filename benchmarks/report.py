"""Render ``benchmarks/README.md`` and its plots from the records in ``benchmarks/results``.

Run ``python -m benchmarks.report`` after the measurements. With ``--check``, it writes nothing and
exits with 1 if the page is not up to date.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.records import RESULTS, read_records
from benchmarks.reporting.page import make_page
from benchmarks.reporting.plots import PLOTS, save


def main() -> int:
    """Render or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    parser.add_argument("--to", type=Path, default=RESULTS.parent, help="folder for the page")
    parser.add_argument("--check", action="store_true", help="only compare the page")
    options = parser.parse_args()
    records, path = read_records(options.results), options.to / "README.md"
    page = make_page(records)
    if options.check:
        up_to_date = path.read_text() == page
        print(path, "is up to date" if up_to_date else "is out of date")
        return 0 if up_to_date else 1
    # The newest Python comes first, and so is kept.
    for name, figures in {each.name: each.figures for each in reversed(records)}.items():
        if name in PLOTS:
            save(figures, name, options.to / "plots")
    path.write_text(page)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
