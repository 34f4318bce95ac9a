"""Put and get of a whole image beside the bare pipelines of `benchmarks.bare`, which do only what cannot be left out.

    python -m benchmarks.limits [--small] [--images FOLDER] [--folder .bench] [--results FOLDER] [--rounds 3]

Rounds are interleaved and medians kept, so that a slow minute of the machine meets both. `ratio` is the speed of the
bare pipeline that casimg reaches: 1.0 is as fast as can be. What is restored is compared by SHA-256.
"""

import argparse
import errno
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import casimg
from benchmarks import measure
from benchmarks.bare import Stored, restore, store
from benchmarks.growth.setting import Rows, Setting, Subject, T, say, sha256_of
from benchmarks.measure import Measured, run_call
from casimg.chunker import Chunker, ChunkerParams, open_chunker
from casimg.formats.config import load_site_config

_WAYS = {"buffered": False, "direct": True}


def main() -> int:
    """Measure and save; 1 when other bytes came back."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--small", action="store_true", help="the small family")
    parser.add_argument("--images", type=Path, help="folder of the family (default: .bench/images)")
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="where repositories and files go")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    images = options.images or Path(".bench/images-small" if options.small else ".bench/images")
    setting = Setting(options.small, images, options.folder / "growth")
    begin_s = time.monotonic()
    with setting.work("limits") as folder:
        subject = setting.subject(folder)
        runs = Runs(folder, subject)
        for number in range(options.rounds):
            runs.round()
            say(f"limits: round {number + 1} of {options.rounds}: {runs.said()}")
    rows = [{**row, "image": subject.name, "equal": runs.equal} for row in rows_of(runs.found)]
    settings: dict[str, object] = {"image": subject.name, "image_size": subject.size, "round_count": options.rounds}
    measure.save(options.results, "limits", rows, **settings, took_s=round(time.monotonic() - begin_s, 1))
    return 0 if runs.equal else 1


class Runs:
    """All runs so far, by what was run."""

    def __init__(self, folder: Path, subject: Subject) -> None:
        self._folder = folder
        self._subject = subject
        self.found: dict[str, list[Measured]] = {}
        self.equal = True

    def round(self) -> None:
        """Put and get once each way, everything from nothing."""
        place, target = self._folder / "repo", self._folder / "target.raw"
        sha256_of(self._subject.path)  # in the page cache for all
        with casimg.create(place) as repo:
            chunker = open_chunker(ChunkerParams.of(repo.chunker, repo.chunk_size))
            level = load_site_config(place).level
            self._take("put", lambda: repo.put(self._subject.path, name="a"))
            stored = [found for name in _WAYS if (found := self._bare_put(name, chunker, level)) is not None]
            read_all(place)  # what was written past the page cache is read from the disk else, and only by some
            self._take("get", lambda: repo.get("a", target))
            self._check(target)
        for name in _WAYS:
            self._bare_get(name, stored[0], target)
        shutil.rmtree(place)
        shutil.rmtree(self._folder / "bare")

    def said(self) -> str:
        """Return the last run of each in words."""
        return ", ".join(f"{name} {runs[-1].wall_s:.2f} s" for name, runs in self.found.items())

    def _bare_put(self, name: str, chunker: Chunker, level: int) -> Stored | None:
        folder = self._folder / "bare" / name
        folder.mkdir(parents=True)
        call = partial(store, self._subject.path, folder, chunker, level, direct=_WAYS[name])
        return self._take_bare("put", name, call)

    def _bare_get(self, name: str, stored: Stored, target: Path) -> None:
        read_all(self._folder / "bare")
        self._take_bare("get", name, partial(restore, stored, target, direct=_WAYS[name]))
        if target.exists():
            self._check(target)

    def _take_bare(self, what: str, name: str, call: Callable[[], T]) -> T | None:
        try:
            return self._take(f"bare {what}, {name}", call)
        except OSError as error:
            if not _WAYS[name] or error.errno != errno.EINVAL:
                raise
            (self._folder / "target.raw").unlink(missing_ok=True)
            say(f"limits: no direct writes here: {error}")  # the other way is the limit then
            return None

    def _take(self, name: str, call: Callable[[], T]) -> T:
        result, measured = run_call(call)
        self.found.setdefault(name, []).append(measured)
        return result

    def _check(self, target: Path) -> None:
        self.equal &= sha256_of(target) == self._subject.sha256
        target.unlink()


def read_all(folder: Path) -> None:
    """Read every file below a folder, so that its pages are in the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            sha256_of(path)


def rows_of(found: dict[str, list[Measured]]) -> Rows:
    """Return the two rows of medians; of two bare ways to write, the one with less wall time is the limit."""
    medians = {name: _median(runs) for name, runs in found.items()}
    rows = []
    for stage, ours in (("A", "put"), ("R", "get")):
        best = min((name for name in medians if name.startswith(f"bare {ours}")), key=lambda name: medians[name][0])
        what = f"{stage}: {ours} beside the bare pipeline, writes {best.partition(', ')[2]}"
        rows.append(_row(what, medians[ours], medians[best]))
    return rows


def _median(runs: list[Measured]) -> tuple[float, float]:
    return statistics.median(run.wall_s for run in runs), statistics.median(run.cpu_s for run in runs)


def _row(what: str, ours: tuple[float, float], bare: tuple[float, float]) -> dict[str, Any]:
    return {
        "what": what,
        "wall_s": round(ours[0], 3),
        "bare_s": round(bare[0], 3),
        "ratio": round(bare[0] / ours[0], 3),
        "cpu_s": round(ours[1], 3),
        "bare_cpu_s": round(bare[1], 3),
        "cpu_ratio": round(bare[1] / ours[1], 3),
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
