"""Reads of a stored image: at random offsets and one after another, with cold and warm caches."""

import hashlib
import os
import random
import time
from pathlib import Path
from typing import Any

import casimg
from benchmarks.growth.setting import Rows, Setting, Subject, alone, say
from benchmarks.measure import rss_anon
from casimg.constants import KIB, MIB
from casimg.repository import Repository

_READ_SIZES = (4 * KIB, 64 * KIB)
_STEP_SIZES = (64 * KIB, MIB)


def measure_reads(setting: Setting) -> Rows:
    """Return a row per way, size and state; every byte read is compared with the image."""
    with setting.work("reads") as folder:
        subject = setting.subject(folder)
        with casimg.create(folder / "repo") as repo:
            repo.put(subject.path, name="a")
        place = folder / "repo"
        rows = []
        for state in ("cold", "warm"):
            for size in _STEP_SIZES:
                rows.append(_row("sequential", size, state, *alone(_sequential, place, subject, size, state)))
        for state, count in (("cold", setting.pick(200, 30)), ("warm", setting.pick(2000, 500))):
            for size in _READ_SIZES:
                offsets = offsets_of(subject.size, size, count)
                read = _random_cold if state == "cold" else _random_warm
                rows.append(_row("pread", size, state, *alone(read, place, subject, size, offsets)))
        return [{**row, "image": subject.name} for row in rows]


def offsets_of(image_size: int, size: int, count: int) -> list[int]:
    """Return offsets all over an image, whole multiples of the size of a read."""
    rng = random.Random(count + size)
    return [rng.randrange(image_size // size) * size for _ in range(count)]


def drop_pages(folder: Path) -> None:
    """Drop the pages of every file below a folder from the page cache; what is not yet on disk is written first."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def _sequential(place: Path, subject: Subject, size: int, state: str) -> tuple[list[float], bool, int]:
    if state == "cold":
        drop_pages(place)
    sha256 = hashlib.sha256()
    times_s: list[float] = []
    with casimg.open(place) as repo, repo.open_image("a") as image:
        while True:
            begin_s = time.perf_counter()
            data = image.read(size)
            took_s = time.perf_counter() - begin_s
            if not data:
                break
            times_s.append(took_s)
            sha256.update(data)
        peak = rss_anon()
    return times_s, sha256.hexdigest() == subject.sha256, peak


def _random_cold(place: Path, subject: Subject, size: int, offsets: list[int]) -> tuple[list[float], bool, int]:
    """Each read is the first of a repository just opened, and its pages have to come from the disk."""
    found = []
    for offset in offsets:
        drop_pages(place)
        with casimg.open(place) as repo:
            found.append(_pread(repo, subject, size, [offset]))
    return [time_s for times_s, _, _ in found for time_s in times_s], all(equal for _, equal, _ in found), found[-1][2]


def _random_warm(place: Path, subject: Subject, size: int, offsets: list[int]) -> tuple[list[float], bool, int]:
    with casimg.open(place) as repo:
        return _pread(repo, subject, size, offsets)


def _pread(repo: Repository, subject: Subject, size: int, offsets: list[int]) -> tuple[list[float], bool, int]:
    times_s, equal = [], True
    with repo.open_image("a") as image, subject.path.open("rb", buffering=0) as original:
        for offset in offsets:
            begin_s = time.perf_counter()
            data = image.read_at(offset, size)
            times_s.append(time.perf_counter() - begin_s)
            equal &= data == os.pread(original.fileno(), size, offset)
        return times_s, equal, rss_anon()


def _row(what: str, size: int, state: str, times_s: list[float], equal: bool, peak: int) -> dict[str, Any]:
    row = {"what": what, "size": size, "state": state, **summary(times_s, size), "rss_anon_peak": peak, "equal": equal}
    say(f"reads: {what} {size // KIB} KiB {state}: {row['median_s'] * 1e3:.3f} ms, {row['mb_per_s']:.0f} MB/s")
    return row


def summary(times_s: list[float], size: int) -> dict[str, Any]:
    """Return count, median and 99th percentile of reads of a size, and the megabytes (10^6) per second of all."""
    ordered = sorted(times_s)
    return {
        "read_count": len(ordered),
        "median_s": round(ordered[len(ordered) // 2], 7),
        "p99_s": round(ordered[len(ordered) * 99 // 100], 7),
        "mb_per_s": round(size * len(ordered) / max(sum(ordered), 1e-9) / 1e6, 1),
    }
