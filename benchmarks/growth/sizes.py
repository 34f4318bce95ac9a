"""Put, get, snapshot, diff and gc against the size of an image: a fresh repository for each size."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import casimg
from benchmarks.growth.made import overwrite, spread, write_made
from benchmarks.growth.setting import Rows, Setting, T, alone, fitting, say, sha256_of
from benchmarks.measure import Measured, run_call
from casimg.constants import GIB, KIB, MIB
from casimg.results.images import ByteRange

_PAGE_SIZE = 8 * KIB
_CHANGED_SIZE = 64 * _PAGE_SIZE


class Steps:
    """What the steps of one row took: seconds as `NAME_s` and `NAME_cpu_s`, and the step with the most memory."""

    def __init__(self) -> None:
        self.row: dict[str, Any] = {}
        self._peak = 0
        self._peak_at = ""

    def take(self, name: str, call: Callable[[], T], *, cpu: bool = False) -> T:
        """Call something, keep what it took, and return its result."""
        result, measured = run_call(call)
        self.add(name, measured, cpu=cpu)
        return result

    def add(self, name: str, measured: Measured, *, cpu: bool = False) -> None:
        """Keep what a step took."""
        self.row[f"{name}_s"] = round(measured.wall_s, 4)
        if cpu:
            self.row[f"{name}_cpu_s"] = round(measured.cpu_s, 3)
        if measured.rss_anon_peak > self._peak:
            self._peak, self._peak_at = measured.rss_anon_peak, name

    def finished(self, **more: object) -> dict[str, Any]:
        """Return the row, with more keys and the peak."""
        return {**self.row, **more, "rss_anon_peak": self._peak, "peak_at": self._peak_at}


def measure_sizes(setting: Setting) -> Rows:
    """Return a row per size; the largest goes first, and its file is cut for the next."""
    with setting.work("sizes") as folder:
        full = [GIB // 4, GIB // 2, GIB, 2 * GIB, 4 * GIB]
        # The source, what is restored, half of it stored, and some room.
        sizes = fitting(setting.pick(full, [16 * MIB, 32 * MIB, 64 * MIB]), folder, 2.75)
        source = folder / "source.raw"
        say(f"sizes: making {max(sizes) / GIB:.2f} GiB")
        hashes = write_made(source, max(sizes), marks=sizes)
        rows = []
        for size in sorted(sizes, reverse=True):
            os.truncate(source, size)
            rows.append(alone(_measure, folder, source, size, hashes[size]))
            say(f"sizes: {size / GIB:.2f} GiB: put {rows[-1]['put_s']:.2f} s, get {rows[-1]['get_s']:.2f} s")
        return rows[::-1]


def _measure(folder: Path, source: Path, size: int, sha256: str) -> dict[str, Any]:
    steps = Steps()
    target = folder / "target.raw"
    sha256_of(source)  # in the page cache, as far as it fits
    with casimg.create(folder / "repo") as repo:
        report = steps.take("put", lambda: repo.put_report(source, name="a"), cpu=True)
        steps.take("get", lambda: repo.get("a", target), cpu=True)
        equal = sha256_of(target) == sha256
        target.unlink()
        steps.take("snapshot", lambda: repo.snapshot("a", name="b"))
        ranges = spread(size, _CHANGED_SIZE, _PAGE_SIZE, seed=size)
        before = _read(source, ranges)
        overwrite(source, ranges, seed=size)
        steps.take("snapshot_map", lambda: repo.snapshot("a", name="c", source=source, changed=ranges))
        for at, data in zip(ranges, before, strict=True):
            _write(source, at, data)
        steps.take("diff", lambda: repo.diff("a", "c"))
        index_size = repo.stats().index_size
        repo.delete("c")
        # What one small deletion costs: to look at everything and free nearly nothing.
        steps.take("gc_little", lambda: repo.plan_gc().execute())
        repo.delete("a")
        repo.delete("b")
        steps.take("gc_all", lambda: repo.plan_gc().execute())
        left_size = repo.stats().stored_size
    shutil.rmtree(folder / "repo")
    sizes = {"stored_size": report.stored_size, "index_size": index_size, "left_size": left_size}
    return {"size": size, **steps.finished(**sizes, equal=equal)}


def _read(path: Path, ranges: list[ByteRange]) -> list[bytes]:
    with path.open("rb", buffering=0) as file:
        return [os.pread(file.fileno(), at.size, at.offset) for at in ranges]


def _write(path: Path, at: ByteRange, data: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), data, at.offset)
