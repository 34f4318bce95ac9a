"""Measure how times, bytes and memory grow, a result file per benchmark.

    python -m benchmarks.growth [--small] [--only NAME ...] [--images FOLDER] [--folder .bench] [--results FOLDER]

Several benchmarks run each in a process of its own: memory that one has freed does not count for the next.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import generations, measure
from benchmarks.growth.counts import measure_counts
from benchmarks.growth.index import measure_index
from benchmarks.growth.reads import measure_reads
from benchmarks.growth.setting import Rows, Setting, say
from benchmarks.growth.sizes import measure_sizes
from benchmarks.growth.small_images import measure_small_images
from benchmarks.growth.snapshot import measure_snapshot


@dataclass(frozen=True, slots=True)
class Growth:
    """One benchmark: the result file it makes, and how."""

    result: str
    rows: Callable[[Setting], Rows]


def measure_one_disk(setting: Setting) -> Rows:
    """Return the one row of `benchmarks.generations`."""
    scale = setting.pick(generations.Scale(), generations.SMALL)
    return [generations.row_of(generations.measure_generations(setting.folder / "generations", scale))]


GROWTHS: Mapping[str, Growth] = {
    "sizes": Growth("growth", measure_sizes),
    "counts": Growth("growth_images", measure_counts),
    "index": Growth("growth_index", measure_index),
    "snapshot": Growth("snapshot", measure_snapshot),
    "reads": Growth("random_reads", measure_reads),
    "small_images": Growth("small_images", measure_small_images),
    "generations": Growth("generations", measure_one_disk),
}
"""By the name that `--only` takes, in the order they run in."""


def main() -> int:
    """Run what was asked for; 0 when all went well, 1 when something failed or gave other bytes, 2 for no such name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a minute for everything")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=", ".join(GROWTHS))
    parser.add_argument("--images", type=Path, help="folder of the family (default: .bench/images)")
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="where repositories and files go")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    names = list(options.only or GROWTHS)
    if unknown := set(names) - set(GROWTHS):
        print(f"growth: there is no {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    images = options.images or Path(".bench/images-small" if options.small else ".bench/images")
    if len(names) == 1:
        return run_one(names[0], Setting(options.small, images, options.folder / "growth"), options.results)
    shared = ["--images", str(images), "--folder", str(options.folder), "--results", str(options.results)]
    shared += ["--small"] if options.small else []
    statuses = [subprocess.call([sys.executable, "-m", "benchmarks.growth", "--only", name, *shared]) for name in names]
    for name, status in zip(names, statuses, strict=True):
        if status:
            say(f"{name} FAILED ({status})")
    return 1 if any(statuses) else 0


def run_one(name: str, setting: Setting, results: Path) -> int:
    """Run one benchmark here and save its rows; 1 when bytes came back different."""
    begin_s = time.monotonic()
    growth = GROWTHS[name]
    rows = growth.rows(setting)
    took_s = round(time.monotonic() - begin_s, 1)
    say(f"{name} took {took_s:.0f} s")
    measure.save(results, growth.result, rows, small=setting.small, took_s=took_s)
    return 1 if any(row.get("equal") is False for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
