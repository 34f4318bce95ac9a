"""Make the report of the benchmarks from their result files.

    python -m benchmarks.report [--results benchmarks/results] [--target benchmarks]

In: `*.json` of one folder. Out: `README.md` and `plots/*.svg` in another; the same results give the same bytes.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.report.plots import draw_all
from benchmarks.report.results import load_results
from benchmarks.report.sections import report


def main() -> int:
    """Write the report; 0 always, since what is missing is a part of the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--target", type=Path, default=Path("benchmarks"))
    options = parser.parse_args()
    make_report(options.results, options.target)
    print(f"report: {options.target / 'README.md'}")
    return 0


def make_report(results: Path, target: Path) -> None:
    """Write `README.md` and `plots/` below `target` from the files in `results`."""
    found = load_results(results)
    target.mkdir(parents=True, exist_ok=True)
    (target / "README.md").write_text(report(found, draw_all(found, target / "plots")))


if __name__ == "__main__":
    sys.exit(main())
