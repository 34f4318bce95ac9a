"""Run attacks on real repositories and say in one table what was done and what was lost.

    python -m tests.torture [ATTACK ..] [--small] [--seed N] [--minutes N] [--jobs N] [--json FILE] [--folder DIR]

Attacks: simulation faults kills power full flips fleet; all by default. Options of a single attack (`--count`,
`--timer-count`, `--step`, `--seconds`, `--file-system`) replay it. Exit code 1 when anything was violated.
"""

import argparse
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.torture import faults, fleet, flips, full, kills, power
from tests.torture.mounts import FILE_SYSTEMS
from tests.torture.result import Result

ATTACKS = ("simulation", "faults", "kills", "power", "full", "flips", "fleet")


def main() -> int:
    given = _arguments()
    logging.getLogger("casimg").addHandler(logging.NullHandler())
    logging.getLogger("casimg").propagate = False
    folder = Path(tempfile.mkdtemp(prefix="casimg-torture-", dir=given.folder))
    begin_s = time.monotonic()
    results: list[Result] = []
    try:
        for attack in given.attacks or ATTACKS:
            print(f"== {attack}", file=sys.stderr, flush=True)
            for result in _RUNS[attack](folder / attack, given):
                results.append(result)
                for violation in result.violations[:20]:
                    print(f"VIOLATED: {violation}\n  replay: {result.replay}", file=sys.stderr, flush=True)
            shutil.rmtree(folder / attack, ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    machine = _machine(folder.parent)
    duration_s = time.monotonic() - begin_s
    print(table(results, machine, duration_s))
    if given.json:
        document = {"machine": machine, "duration_s": duration_s, "results": [result.as_dict() for result in results]}
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return int(any(result.violations for result in results))


def table(results: list[Result], machine: dict[str, str], duration_s: float) -> str:
    """Return what was done, how much was compared, where the kills landed, and what was lost."""
    lines = ["", "machine: " + ", ".join(f"{name} {value}" for name, value in machine.items()), ""]
    for result in results:
        head = f"{result.attack:<11} seed {result.seed:<6} {result.duration_s:7.0f} s  "
        compared = f"{result.image_count:>8,} images, {result.byte_count / 1e9:8.2f} GB compared"
        lines.append(f"{head}{compared}  {len(result.violations)} violations")
        lines += [f"    {count:>9,}  {what}" for what, count in result.counts.items()]
        lines += [f"    note: {note}" for note in result.notes[:8]]
    kills_at = sum(result.counts["kills at stages"] for result in results)
    landed = {what: count for result in results for what, count in result.histogram.items() if result.attack == "kills"}
    if kills_at:
        lines += ["", f"where {kills_at:,} kills at stages landed, and those at random times:"]
        for what, count in sorted(landed.items(), key=lambda item: (item[0].startswith("("), -item[1])):
            share = "" if what.startswith("(") else f"{count * 100 / kills_at:5.1f} %"
            lines.append(f"    {count:>6,} {share:>8}  {what}")
    lost = [violation for result in results for violation in result.violations]
    images = sum(result.image_count for result in results)
    size = sum(result.byte_count for result in results)
    lines += ["", f"{images:,} images and {size / 1e9:.2f} GB read back and compared in {duration_s:.0f} s"]
    lines += [f"lost or wrong: {len(lost)}"]
    lines += [f"    {violation[:300]}" for violation in lost[:20]]
    lines += [f"    replay: {result.replay}" for result in results if result.violations]
    return "\n".join(lines)


def _simulation(folder: Path, given: argparse.Namespace) -> list[Result]:
    count = given.count or (200 if given.small else 10_000)
    # Another seed is another range of schedules.
    options = ["--schedules", str(count), "--first", str((given.seed - 1) * 100_000)]
    result = Result("simulation", given.seed, f"python -m tests.simulation {' '.join(options)}")
    command = [sys.executable, "-m", "tests.simulation", *options, "--jobs", str(given.jobs), "--json"]
    with result.timing():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        result.violations.append(f"the simulation ended with {done.returncode} and no figures: {done.stderr[-500:]}")
        return [result]
    result.counts.update({"schedules": found["schedules"], "steps": found["steps"], **found["counts"]})
    # The first two lines say what and how to see it again; the rest is the trace.
    result.violations += ["; ".join(violation.splitlines()[:2]) for violation in found["violations"]]
    return [result]


def _faults(folder: Path, given: argparse.Namespace) -> list[Result]:
    return [faults.run(folder, seed=given.seed, step=given.step or (19 if given.small else 1))]


def _kills(folder: Path, given: argparse.Namespace) -> list[Result]:
    count = given.count or (60 if given.small else 1000)
    timer_count = count // 5 if given.timer_count is None else given.timer_count
    return [kills.run(folder, seed=given.seed, count=count, timer_count=timer_count, jobs=given.jobs)]


def _power(folder: Path, given: argparse.Namespace) -> list[Result]:
    count = given.count or (5 if given.small else 60)
    chosen = [system for system in FILE_SYSTEMS if given.file_system in (None, system.name)]
    return [power.run(folder / system.name, seed=given.seed, count=count, system=system) for system in chosen]


def _full(folder: Path, given: argparse.Namespace) -> list[Result]:
    return [full.run(folder, seed=given.seed, count=given.count or (14 if given.small else 140))]


def _flips(folder: Path, given: argparse.Namespace) -> list[Result]:
    return [flips.run(folder, seed=given.seed, count=given.count or (80 if given.small else 1500))]


def _fleet(folder: Path, given: argparse.Namespace) -> list[Result]:
    seconds = given.seconds or (10 if given.small else given.minutes * 60)
    return [fleet.run(folder, seed=given.seed, seconds=seconds)]


_RUNS: dict[str, Callable[[Path, argparse.Namespace], list[Result]]] = {
    "simulation": _simulation,
    "faults": _faults,
    "kills": _kills,
    "power": _power,
    "full": _full,
    "flips": _flips,
    "fleet": _fleet,
}


def _machine(folder: Path) -> dict[str, str]:
    def said(*command: str) -> str:
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        except OSError:
            return ""

    usable = [system.name for system in FILE_SYSTEMS if system.why_not() is None]
    changed = "+changes" if said("git", "status", "--porcelain", "--untracked-files=no") else ""
    return {
        "commit": (said("git", "rev-parse", "--short", "HEAD") or "unknown") + changed,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "folder on": said("stat", "-f", "-c", "%T", str(folder)) or "unknown",
        "power cuts on": " ".join(usable) or "none",
    }


def _arguments() -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=" ".join(ATTACKS))
    parser.add_argument("--small", action="store_true", help="a few minutes instead of about an hour")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the fleet works")
    parser.add_argument("--jobs", type=int, default=2, help="repositories killed side by side")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    parser.add_argument("--folder", type=Path, help="where repositories are made; the system's temporary folder")
    for name in ("--count", "--timer-count", "--step"):
        parser.add_argument(name, type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--file-system", choices=[system.name for system in FILE_SYSTEMS])
    given = parser.parse_args()
    if unknown := set(given.attacks) - set(ATTACKS):
        parser.error(f"unknown attack {', '.join(sorted(unknown))}; known are {' '.join(ATTACKS)}")
    return given


if __name__ == "__main__":
    sys.exit(main())
