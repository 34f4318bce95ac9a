"""Chunkers and the zero scan beside memcpy, on one core: thread CPU time, medians of interleaved rounds.

python -m benchmarks.micro_chunker [--size 512MiB] [--rounds 7] [--json]
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

from casimg.chunker import ChunkerParams, native
from casimg.chunker.native import NativeChunker
from casimg.sizes import parse_size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="512MiB")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size = parse_size(options.size)
    data = bytearray(os.urandom(size))
    zeros = bytearray(size)
    target = bytearray(size)
    runs: dict[str, Callable[[], object]] = {}
    for name in native.implementations():
        for avg in (16384, 65536):
            runs[f"mincdc {name} {avg // 1024}K"] = _cut("mincdc", avg, name, data)
        runs[f"zero scan {name}"] = lambda name=name: native.zero_prefix_size(zeros, name)  # type: ignore[misc]
    for avg in (16384, 65536):
        runs[f"fastcdc scalar {avg // 1024}K"] = _cut("fastcdc", avg, "scalar", data)

    def copy() -> None:
        target[:] = data

    runs["memcpy"] = copy
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            begin_s = time.thread_time()
            run()
            times[name].append(time.thread_time() - begin_s)
    speeds = {name: size / statistics.median(found) / 1e9 for name, found in times.items()}
    base = speeds["fastcdc scalar 16K"]
    if options.json:
        print(json.dumps({"size": size, "rounds": options.rounds, "gb_per_s": speeds}, indent=2))
        return
    for name, speed in speeds.items():
        print(f"{name:<24} {speed:6.2f} GB/s  {speed / base:5.2f} x fastcdc scalar 16K")


def _cut(kind: str, avg: int, name: str, data: bytearray) -> Callable[[], int]:
    chunker = NativeChunker(ChunkerParams.of(kind, avg), name)
    return lambda: chunker.cut_run(data)


if __name__ == "__main__":
    main()
