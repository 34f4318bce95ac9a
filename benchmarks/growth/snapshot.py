"""Snapshots of a disk of which 1 % changed, with and without a map of what changed; disks of several sizes.

The changed bytes are as many on every disk: with a map the time follows them, without one it follows the disk.
"""

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast
from zlib import crc32

import casimg
from benchmarks.growth.made import overwrite, spread, write_made
from benchmarks.growth.setting import Rows, Setting, alone, say, sha256_of
from benchmarks.measure import Measured, run_call
from benchmarks.memory import Sink
from casimg.constants import GIB, KIB, MIB
from casimg.results.images import ByteRange, PutReport

_PATTERNS = {"8 KiB pages": 8 * KIB, "runs of 1 MiB": MIB}
_WAYS = ("no map", "map")  # the map last: what is restored then has gone through it


def measure_snapshot(setting: Setting) -> Rows:
    """Return a row per disk, pattern and way; every change is new, so both ways store the same."""
    rows: list[dict[str, Any]] = []
    with setting.work("snapshot") as folder:
        wanted_size = setting.pick(20 * GIB, 512 * MIB)
        # The disk, half of it stored, and what changes.
        disk_size = fit(wanted_size, shutil.disk_usage(folder).free)
        changed_size = disk_size // 100 // MIB * MIB
        note = "" if disk_size == wanted_size else "less than planned: the file system is too full"
        disk = folder / "disk.raw"
        say(f"snapshot: making a disk of {disk_size / GIB:.2f} GiB")
        write_made(disk, disk_size, marks=())
        casimg.create(folder / "repo").close()
        for part in (1, 2, 4):
            size = disk_size // part // MIB * MIB
            os.truncate(disk, size)
            rows += _measure(folder / "repo", disk, size, changed_size, check_all=part == 4)
    return [{**row, "note": note} for row in sorted(rows, key=lambda row: int(row["disk_size"]))]


def fit(wanted_size: int, free_size: int) -> int:
    """Return the size of the disk, whole MiB: as wanted, or so that 1.8 times as much is free."""
    return min(wanted_size, int(free_size / 1.8)) // MIB * MIB


def _measure(place: Path, disk: Path, size: int, changed_size: int, *, check_all: bool) -> list[dict[str, Any]]:
    rows = []
    parent = f"disk {size}"
    with casimg.open(place) as repo:
        repo.put(disk, name=parent)
    for pattern, run_size in _PATTERNS.items():
        for way in _WAYS:
            name = f"{size}, {pattern}, {way}"
            ranges = spread(size, changed_size, run_size, seed=seed_of(name))
            overwrite(disk, ranges, seed=seed_of(name))
            report, took = alone(_snapshot, place, parent, name, disk, ranges if way == "map" else None)
            parent = name
            rows.append(
                {
                    "disk_size": size,
                    "changed_size": changed_size,
                    "pattern": pattern,
                    "way": way,
                    "wall_s": round(took.wall_s, 3),
                    "cpu_s": round(took.cpu_s, 3),
                    "read_size": report.read_size,
                    "stored_size": report.stored_size + report.metadata_size,
                    "rss_anon_peak": took.rss_anon_peak,
                }
            )
            say(f"snapshot: {size / GIB:.2f} GiB, {pattern}, {way}: {took.wall_s:.2f} s")
            # Restoring large disks takes longer than all the rest: of those only the last snapshot.
            if way == "map" and (check_all or pattern == list(_PATTERNS)[-1]):
                rows[-1]["equal"] = _is_equal(place, name, disk)
    return rows


def _snapshot(
    place: Path, parent: str, name: str, disk: Path, changed: list[ByteRange] | None
) -> tuple[PutReport, Measured]:
    with casimg.open(place) as repo:
        return run_call(partial(repo.snapshot_report, parent, name=name, source=disk, changed=changed))


def seed_of(name: str) -> int:
    """Return a seed that is the same in every run."""
    return crc32(name.encode())


def _is_equal(place: Path, name: str, disk: Path) -> bool:
    sink = Sink()
    with casimg.open(place) as repo:
        repo.get(name, cast(BinaryIO, sink))
    return sink.sha256.hexdigest() == sha256_of(disk)
