"""Run the benchmarks one after another and make their report.

    python -m benchmarks.suite [--small] [--only NAME ...] [--images FOLDER] [--results FOLDER] [--report FOLDER]

Each is a program of its own: a failure is noted, the rest goes on, and the report tells what is not measured. Small
runs write below `.bench/` only.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Where images are and where things go."""

    small: bool
    images: Path
    results: Path
    report: Path


@dataclass(frozen=True, slots=True)
class Bench:
    """One program.

    Attributes:
        name: what `--only` calls it.
        arguments: module and arguments, what follows `python -m`.
    """

    name: str
    arguments: Callable[[Settings], list[str]]


def _usual(module: str, *, images: bool = True) -> Callable[[Settings], list[str]]:
    """Return what nearly all take: `--images` if they use the family, `--results`, `--small`."""

    def arguments(settings: Settings) -> list[str]:
        family = ["--images", str(settings.images)] if images else []
        return [module, *family, "--results", str(settings.results), *_small(settings)]

    return arguments


def _small(settings: Settings) -> list[str]:
    return ["--small"] if settings.small else []


BENCHES: Sequence[Bench] = (
    Bench("images", lambda s: ["benchmarks.images", "--folder", str(s.images), *_small(s)]),
    Bench("chunkers", _usual("benchmarks.chunkers")),
    Bench("micro", _usual("benchmarks.micro", images=False)),
    Bench("limits", _usual("benchmarks.limits")),
    Bench("peers", _usual("benchmarks.peers")),
    Bench("growth", _usual("benchmarks.growth")),
    Bench("servers", _usual("benchmarks.servers", images=False)),
    Bench("glance", _usual("benchmarks.glance")),
)
"""In the order they run in; a module that is not there is passed over."""


def main() -> int:
    """Run what was asked for; 0 when all went well, 1 when something failed, 2 when a name is unknown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--small", action="store_true", help="small images and sizes, everything below .bench/")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=", ".join(bench.name for bench in BENCHES))
    parser.add_argument("--images", type=Path, help="folder of the family")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--report", type=Path, help="folder of README.md and plots")
    options = parser.parse_args()
    known = {bench.name for bench in BENCHES}
    if unknown := set(options.only or ()) - known:
        print(f"suite: there is no {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    settings = settings_of(options.small, options.images, options.results, options.report)
    chosen = [bench for bench in BENCHES if not options.only or bench.name in options.only]
    return run_all(chosen, settings)


def settings_of(small: bool, images: Path | None, results: Path | None, report: Path | None) -> Settings:
    """Return the folders to use: as given, or those of the full or the small run."""
    if small:
        defaults = Path(".bench/images-small"), Path(".bench/results-small"), Path(".bench/report-small")
    else:
        defaults = Path(".bench/images"), Path("benchmarks/results"), Path("benchmarks")
    return Settings(small, images or defaults[0], results or defaults[1], report or defaults[2])


def run_all(benches: Sequence[Bench], settings: Settings, run: Callable[[Sequence[str]], int] = subprocess.call) -> int:
    """Run the benches and the report, print how each ended, and return 1 when one failed.

    Args:
        run: runs a command and returns its exit status.
    """
    ended: list[tuple[str, str]] = []
    for place, bench in enumerate(benches, 1):
        module, *arguments = bench.arguments(settings)
        if find_spec(module) is None:
            ended.append((bench.name, "not there"))
            continue
        say(f"[{place}/{len(benches)}] python -m {' '.join([module, *arguments])}")
        begin_s = time.monotonic()
        status = run([sys.executable, "-m", module, *arguments])
        ended.append((bench.name, f"{_word(status)}, {time.monotonic() - begin_s:.0f} s"))
    report = ["--results", str(settings.results), "--target", str(settings.report)]
    ended.append(("report", _word(run([sys.executable, "-m", "benchmarks.report", *report]))))
    for name, how in ended:
        say(f"{name:<14} {how}")
    return 1 if any(how.startswith(_FAILED) for _, how in ended) else 0


_FAILED = "FAILED"


def _word(status: int) -> str:
    return f"{_FAILED} ({status})" if status else "done"


def say(text: str) -> None:
    """Print a line at once: the benches print in between."""
    print(f"suite: {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
