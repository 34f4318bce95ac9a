"""The inner loops beside the limits of the same machine in the same run: CPU seconds of one thread.

    python -m benchmarks.micro [--size 128MiB] [--rounds 7] [--only WORD ...] [--json] [--results FOLDER]

Every case names its limit, another case that does the least that any program must do for it: read the bytes, call the
codec, ask LMDB. Rounds are interleaved, so that a slow minute of the machine meets all cases alike; medians are kept.
A new case is one more entry of a list that `make_cases` joins; a limit is a case without a limit.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import measure
from benchmarks.micro.case import Case
from benchmarks.micro.codec import zstd_cases
from benchmarks.micro.memory import hash_cases, memory_cases
from benchmarks.micro.metadata import index_cases, manifest_cases
from casimg.chunker import description
from casimg.constants import FRAME_PLAIN_TARGET, MIB
from casimg.sizes import format_size, parse_size


def main() -> int:
    """Measure, print and save; 2 when no case has such a name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=__doc__)
    parser.add_argument("--size", default="128MiB", help="bytes for what reads memory; the rest takes a part of it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="cases with such a word in their name")
    parser.add_argument("--small", action="store_true", help="64 MiB and 3 rounds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    size, round_count = (64 * MIB, 3) if options.small else (parse_size(options.size), options.rounds)
    with tempfile.TemporaryDirectory(prefix="casimg-micro-") as folder:
        cases = choose(make_cases(size, Path(folder)), options.only)
        if not cases:
            print("micro: no case has such a word in its name", file=sys.stderr)
            return 2
        rows = rows_of(cases, run_rounds(cases, round_count))
    measure.save(options.results, "micro", rows, size=size, round_count=round_count, cut_by=description())
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        print_table(rows, size, round_count)
    return 0


def make_cases(size: int, folder: Path) -> list[Case]:
    """Return all cases, their data made.

    Args:
        size: bytes for what reads memory; more than the caches hold, or limits that run first look slow.
        folder: an empty folder for indexes.
    """
    return [
        *memory_cases(size),
        *hash_cases(size),
        *zstd_cases(max(FRAME_PLAIN_TARGET, size // 8)),
        *index_cases(folder),
        *manifest_cases(),
    ]


def choose(cases: Sequence[Case], words: Sequence[str]) -> list[Case]:
    """Return the cases with one of the words in their name, and their limits; all without words."""
    chosen = {case.name for case in cases if not words or any(word in case.name for word in words)}
    chosen |= {case.limit for case in cases if case.name in chosen and case.limit}
    return [case for case in cases if case.name in chosen]


def run_rounds(cases: Sequence[Case], round_count: int) -> dict[str, float]:
    """Run every case once a round, after a round that is not counted, and return the median CPU seconds of each."""
    times: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(round_count + 1):
        for case in cases:
            case.before()
            begin_s = time.thread_time()
            case.run()
            if number:
                times[case.name].append(time.thread_time() - begin_s)
    return {name: statistics.median(found) for name, found in times.items()}


def rows_of(cases: Sequence[Case], cpu_s: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row per case; `limit_ratio` is its speed over its limit's, 1.0 is as fast as can be."""
    each_s = {case.name: max(cpu_s[case.name], 1e-9) / case.amount for case in cases}
    return [
        {
            "case": case.name,
            "limit": case.limit,
            "speed_gb_s": round(1e-9 / each_s[case.name], 3) if case.unit == "bytes" else None,
            "each_us": None if case.unit == "bytes" else round(each_s[case.name] * 1e6, 3),
            "limit_ratio": round(each_s[case.limit] / each_s[case.name], 3) if case.limit else None,
            "cpu_s": round(cpu_s[case.name], 6),
            "amount": case.amount,
            "unit": case.unit,
        }
        for case in cases
    ]


def print_table(rows: Sequence[dict[str, Any]], size: int, round_count: int) -> None:
    """Print the rows; limits have no ratio."""
    table = Table(title=f"CPU of one thread, median of {round_count} rounds, {format_size(size)}", title_justify="left")
    table.add_column("case")
    table.add_column("speed", justify="right")
    table.add_column("of the limit", justify="right")
    table.add_column("limit")
    for row in rows:
        speed = f"{row['each_us']:.2f} us each" if row["speed_gb_s"] is None else f"{row['speed_gb_s']:.2f} GB/s"
        share = "" if row["limit_ratio"] is None else f"{row['limit_ratio']:.0%}"
        table.add_row(row["case"], speed, share, row["limit"] or "-", style=None if row["limit"] else "bold")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    sys.exit(main())
