"""What one more image costs in a repository with many: images of 16 MiB, each half the same and half its own."""

import hashlib
import io
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, cast

import casimg
from benchmarks.growth.made import fresh
from benchmarks.growth.setting import Rows, Setting, say
from benchmarks.growth.sizes import Steps
from benchmarks.memory import Sink
from casimg.constants import MIB
from casimg.repository import Repository

_ROUND_COUNT = 5


def measure_counts(setting: Setting) -> Rows:
    """Return a row per count of images; times of single calls are medians of five."""
    half_size = setting.pick(8 * MIB, MIB)
    rows: list[dict[str, Any]] = []
    with setting.work("counts") as folder, casimg.create(folder / "repo") as repo:
        count = 0
        for mark in setting.pick((10, 50, 250, 500), (5, 10, 20)):
            steps = Steps()
            steps.take("puts", partial(_put_all, repo, half_size, count, mark))
            puts_s = [_seconds(partial(_put, repo, half_size, number)) for number in range(mark, mark + 5)]
            for number in range(mark, mark + 5):
                repo.delete(f"i{number}")
            rows.append({"image_count": mark, "put_s": _middle(puts_s), **_measure(repo, steps, half_size, mark)})
            count = mark
            say(f"counts: {mark} images: put {rows[-1]['put_s'] * 1e3:.0f} ms, gc {rows[-1]['gc_s']:.2f} s")
    return rows


def _measure(repo: Repository, steps: Steps, half_size: int, count: int) -> dict[str, Any]:
    """Measure everything but puts; the first gc joins the small packs of the puts, the second finds nothing to do."""
    name, other = f"i{count // 2}", f"i{count - 1}"
    sha256 = hashlib.sha256(_data(half_size, count // 2)).digest()
    found: dict[str, Any] = {"equal": True}
    gets_s = []
    for _ in range(_ROUND_COUNT):
        sink = Sink()
        gets_s.append(_seconds(partial(repo.get, name, cast(BinaryIO, sink))))
        found["equal"] &= sink.sha256.digest() == sha256
    found["get_s"] = _middle(gets_s)
    found["list_s"] = _middle([_seconds(repo.images) for _ in range(_ROUND_COUNT)])
    found["show_s"] = _middle([_seconds(lambda: repo.image(name)) for _ in range(_ROUND_COUNT)])
    found["diff_s"] = _middle([_seconds(lambda: repo.diff(name, other)) for _ in range(_ROUND_COUNT)])
    found["snapshot_s"] = _middle([_seconds(partial(repo.snapshot, name, name=f"s{n}")) for n in range(_ROUND_COUNT)])
    for number in range(_ROUND_COUNT):
        repo.delete(f"s{number}")
    report = steps.take("gc", lambda: repo.plan_gc().execute())
    steps.take("gc_again", lambda: repo.plan_gc().execute())
    stats = repo.stats()
    return {
        **found,
        **steps.finished(
            gc_pack_count=report.pack_count,
            pack_count=stats.pack_count,
            stored_size=stats.stored_size,
            index_size=stats.index_size,
        ),
    }


def _put_all(repo: Repository, half_size: int, first: int, last: int) -> None:
    for number in range(first, last):
        _put(repo, half_size, number)


def _put(repo: Repository, half_size: int, number: int) -> None:
    repo.put(io.BytesIO(_data(half_size, number)), name=f"i{number}")


def _data(half_size: int, number: int) -> bytes:
    return fresh(half_size, seed=1) + fresh(half_size, seed=2, number=number)


def _seconds(call: Callable[[], object]) -> float:
    begin_s = time.perf_counter()
    call()
    return time.perf_counter() - begin_s


def _middle(seconds: list[float]) -> float:
    return round(statistics.median(seconds), 5)
