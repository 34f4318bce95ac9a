"""Thirty generations of one disk: what restores cost at the end, and what deleting half of them gives back.

    python -m benchmarks.generations [--count 30] [--small] [--folder .demo] [--json] [--results FOLDER]

The disk is an ext4 file system of real files with a database file in it. Each generation a day goes by: files are
removed and written, and 8 KiB pages of the database are updated in place. Every generation is a snapshot of the one
before. Restores go to a sink that hashes, first and last by turns, so that noise meets both alike.
"""

import argparse
import hashlib
import json
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import casimg
from benchmarks import measure
from benchmarks.demo_images import DATA_SIZE, IMAGE_SIZE, make_first, tool
from benchmarks.measure import rss_anon, run_call
from benchmarks.memory import Sink, Watch
from casimg.constants import MIB
from casimg.repository import Repository
from casimg.sizes import format_size

_SEED = 20261125
_PAGE_SIZE = 8192


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a run is; sizes in bytes.

    Attributes:
        count: generations.
        round_count: how often each restore is timed.
        data_size: of the files on the disk.
        database_size: of the database among them.
    """

    count: int = 30
    round_count: int = 5
    disk_size: int = IMAGE_SIZE
    data_size: int = DATA_SIZE
    database_size: int = 48 * MIB


SMALL = Scale(count=6, round_count=3, disk_size=160 * MIB, data_size=96 * MIB, database_size=24 * MIB)


class Disk:
    """A disk image in use."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.path = make_first(folder, image_size=scale.disk_size, data_size=scale.data_size)
        self._debugfs = tool("debugfs")
        self._rng = random.Random(_SEED)
        self._day = 0
        self._written: list[str] = []
        files = [path for path in Path("/usr/lib/python3").rglob("*.py") if path.is_file()]
        self._files = sorted(files, key=lambda path: hashlib.sha256(str(path).encode()).digest())
        database = folder / "database"
        with database.open("wb") as file:
            for _ in range(scale.database_size // _PAGE_SIZE):
                file.write(self._page())
        self._run([f"write {database} /database"])
        database.unlink()
        said = subprocess.run(
            [self._debugfs, "-R", "blocks /database", str(self.path)], check=True, capture_output=True
        )
        blocks = [int(word) for word in said.stdout.split()]
        # Pages whose two blocks lie side by side, as nearly all do.
        self._pages = [a for a, b in zip(blocks[::2], blocks[1::2], strict=False) if b == a + 1]

    def next_day(self) -> None:
        """Use the disk for a day: 60 files removed or written, 400 pages of the database updated."""
        self._day += 1
        commands = [f"mkdir /day{self._day}"]
        for path in self._rng.sample(self._written, min(len(self._written), 20)):
            commands.append(f"rm {path}")
            self._written.remove(path)
        for number, file in enumerate(self._rng.sample(self._files, 40)):
            path = f"/day{self._day}/{number:03}"
            commands.append(f'write "{file}" {path}')
            self._written.append(path)
        self._run(commands)
        # Updates are not even: some tables are hot.
        hot = self._pages[: len(self._pages) // 4]
        with self.path.open("r+b") as image:
            for number in range(400):
                image.seek(self._rng.choice(hot if number % 2 else self._pages) * 4096)
                image.write(self._page())

    def sha256(self) -> str:
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        return digest.hexdigest()

    def _page(self) -> bytes:
        """A page that compresses about as a database's do."""
        rows = (b"%d|%s|pending|" % (self._rng.randrange(10**9), self._rng.randbytes(24)) for _ in range(170))
        return b"".join(rows)[:_PAGE_SIZE].ljust(_PAGE_SIZE, b"\0")

    def _run(self, commands: list[str]) -> None:
        script = self.path.with_suffix(".debugfs")
        script.write_text("\n".join(commands) + "\n")
        subprocess.run([self._debugfs, "-w", "-f", str(script), str(self.path)], check=True, capture_output=True)
        script.unlink()


def restore_s(repo: Repository, names: list[str], hashes: dict[str, str], round_count: int) -> dict[str, float]:
    """Restore each image some times, by turns, and return the median seconds of each."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(round_count):
        for name in names:
            repo._wiring.frames = type(repo._wiring.frames)()
            sink = Sink()
            begin_s = time.monotonic()
            repo.get(name, cast(BinaryIO, sink))
            found[name].append(time.monotonic() - begin_s)
            if sink.sha256.hexdigest() != hashes[name]:
                raise SystemExit(f"{name} came back different")
    return {name: round(statistics.median(times), 3) for name, times in found.items()}


def stored(repo: Repository) -> int:
    stats = repo.stats()
    return stats.stored_size + stats.metadata_size


def collect(repo: Repository) -> tuple[dict[str, object], int]:
    """Run a collection; returns its report and by how much the anonymous memory grew."""
    before = rss_anon()
    watch = Watch()
    watch.start()
    report = asdict(repo.plan_gc().execute())
    return report, max(0, watch.stop() - before)


def run(folder: Path, scale: Scale) -> dict[str, object]:
    """Build, store, measure, collect, measure again."""
    disk, count, round_count = Disk(folder, scale), scale.count, scale.round_count
    last = f"g{count - 1}"
    hashes: dict[str, str] = {}
    found: dict[str, object] = {"count": count, "machine": f"{platform.machine()}, Python {platform.python_version()}"}
    with casimg.create(folder / "repo") as repo, casimg.create(folder / "never") as never:
        for number in range(count):
            name = f"g{number}"
            if number:
                disk.next_day()
                repo.snapshot(f"g{number - 1}", name=name, source=disk.path)
            else:
                repo.put(disk.path, name=name)
            if number % 2:
                never.put(disk.path, name=name)
            hashes[name] = disk.sha256()
        found["stored_size"] = stored(repo)
        found["amplification_before"] = repo.stats(last).usages[0].decode_amplification
        found["restore_s_before"] = restore_s(repo, ["g0", last], hashes, round_count)
        found["gc"], grown = collect(repo)
        found["stored_size_after_gc"] = stored(repo)
        found["amplification_after"] = repo.stats(last).usages[0].decode_amplification
        after = found["restore_s_after"] = restore_s(repo, ["g0", last], hashes, round_count)
        found["last_over_first_after_gc"] = round(after[last] / after["g0"], 3)
        for number in range(0, count, 2):
            repo.delete(f"g{number}")
        found["gc_of_half"], grown_again = collect(repo)
        found["gc_rss_anon_growth"] = max(grown, grown_again)
        found["half"] = {"stored_size": stored(repo), "never_had_them": stored(never)}
        found["half_over_never"] = round(stored(repo) / stored(never), 4)
        restore_s(repo, [f"g{number}" for number in range(1, count, 2)], hashes, 1)
        found["clean"] = repo.check(read_data=True).clean
    return found


def row_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `run` found as a flat row of `generations.json`."""
    before, after = list(found["restore_s_before"].values()), list(found["restore_s_after"].values())
    half = found["half"]
    return {
        "generation_count": found["count"],
        "first_restore_before_gc_s": before[0],
        "last_restore_before_gc_s": before[-1],
        "first_restore_s": after[0],
        "last_restore_s": after[-1],
        "last_over_first_before_gc": round(before[-1] / before[0], 3),
        "last_over_first_after_gc": found["last_over_first_after_gc"],
        "amplification_before_gc": round(found["amplification_before"], 3),
        "amplification_after_gc": round(found["amplification_after"], 3),
        "stored_size": found["stored_size"],
        "stored_after_gc_size": found["stored_size_after_gc"],
        "half_stored_size": half["stored_size"],
        "half_never_size": half["never_had_them"],
        "half_over_never_ratio": found["half_over_never"],
        "gc_rss_anon_growth": found["gc_rss_anon_growth"],
        "rss_anon_peak": found["rss_anon_peak"],
        "equal": found["clean"],
    }


def measure_generations(folder: Path, scale: Scale) -> dict[str, object]:
    """Run in a folder of its own, removed again, and return what `run` returns, with the peak of memory."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        found, took = run_call(lambda: run(folder, scale))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {**found, "rss_anon_peak": took.rss_anon_peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, help="generations (default: 30, small 6)")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--results", type=Path, help="folder for generations.json (default: none is written)")
    parser.add_argument("--folder", type=Path, default=Path(".demo"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    scale = SMALL if arguments.small else Scale()
    if arguments.count:
        scale = replace(scale, count=arguments.count)
    found = measure_generations(arguments.folder / "generations", scale)
    if arguments.results:
        measure.save(arguments.results, "generations", [row_of(found)])
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        print(f"{key:26} {format_size(value) if isinstance(value, int) and 'count' not in key else value}")
    if not found["clean"]:
        sys.exit("check found problems")


if __name__ == "__main__":
    main()
