"""Many images of 1 MiB in one process: what each costs at the beginning and at the end."""

import hashlib
import io
import time
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import casimg
from benchmarks.growth.made import fresh
from benchmarks.growth.setting import Rows, Setting, say
from benchmarks.measure import Measured, run_call
from benchmarks.memory import Sink
from casimg.constants import MIB
from casimg.repository import Repository


def measure_small_images(setting: Setting) -> Rows:
    """Return a row per verb; first and last are means of the first and last tenth of the images."""
    count = setting.pick(1000, 50)
    with setting.work("small-images") as folder, casimg.create(folder / "repo") as repo:
        rows = [
            _each("put", count, lambda number: repo.put(io.BytesIO(_data(number)), name=f"i{number}")),
            _each("list", min(count, 100), lambda _: repo.images()),
            _each("show", count, lambda number: repo.image(f"i{number}")),
        ]
        equal: list[bool] = []
        rows.append({**_each("get", count, lambda number: equal.append(_get(repo, number))), "equal": all(equal)})
        rows.append(_each("rm", count // 2, lambda number: repo.delete(f"i{2 * number}")))
        rows.append(_gc(repo, "gc of half", count // 2))
        for number in range(1, count, 2):
            repo.delete(f"i{number}")
        rows.append(_gc(repo, "gc of the rest", count - count // 2))
        return rows


def ends(times_s: list[float]) -> dict[str, float]:
    """Return the means of the first and the last tenth, and the last over the first."""
    part = max(1, len(times_s) // 10)
    first_s, last_s = sum(times_s[:part]) / part, sum(times_s[-part:]) / part
    return {
        "first_s": round(first_s, 6),
        "last_s": round(last_s, 6),
        "last_over_first_ratio": round(last_s / first_s, 2),
    }


def _each(what: str, count: int, call: Callable[[int], object]) -> dict[str, Any]:
    times_s: list[float] = []

    def run() -> None:
        for number in range(count):
            begin_s = time.perf_counter()
            call(number)
            times_s.append(time.perf_counter() - begin_s)

    _, took = run_call(run)
    return {**_row(what, count, took), **ends(times_s)}


def _gc(repo: Repository, what: str, count: int) -> dict[str, Any]:
    """One collection; `each` is per image deleted before it."""
    _, took = run_call(lambda: repo.plan_gc().execute())
    return _row(what, count, took)


def _row(what: str, count: int, took: Measured) -> dict[str, Any]:
    say(f"small images: {what}: {took.wall_s / count * 1e3:.2f} ms each")
    return {
        "what": what,
        "image_count": count,
        "each_s": round(took.wall_s / count, 6),
        "each_cpu_s": round(took.cpu_s / count, 6),
        "rss_anon_peak": took.rss_anon_peak,
    }


def _data(number: int) -> bytes:
    return fresh(MIB, seed=4, number=number)


def _get(repo: Repository, number: int) -> bool:
    sink = Sink()
    repo.get(f"i{number}", cast(BinaryIO, sink))
    return sink.sha256.digest() == hashlib.sha256(_data(number)).digest()
