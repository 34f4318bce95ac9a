"""What goes over plain bytes: zero scan, chunkers, ids of chunks. Data are random: no chunker finds shortcuts."""

import random
from collections.abc import Callable
from functools import partial

from blake3 import blake3

from benchmarks.micro.case import Case
from casimg.chunker import ChunkerParams, native, open_chunker
from casimg.constants import KIB, MIB, SEGMENT_SIZE
from casimg.ids import chunk_id


def memory_cases(size: int) -> list[Case]:
    """Chunkers beside the fastest read of memory that is known here: the best zero scan over zeros.

    memchr of the C library and memcpy stand beside it, so that everybody sees how fast that is.
    """
    zeros, data, target = bytearray(size), bytearray(random.Random(1).randbytes(size)), bytearray(size)

    def copy() -> None:
        target[:] = data

    read = "limit: read memory"
    *others, best = native.implementations()
    cases = [Case(read, "", partial(native.zero_prefix_size, zeros, best), size)]
    cases += [Case("memchr of the C library", read, partial(zeros.find, 1), size), Case("memcpy", read, copy, size)]
    cases += [Case(f"zero scan, {name}", read, partial(native.zero_prefix_size, zeros, name), size) for name in others]
    for name in (*others, best):
        for avg in (16 * KIB, 64 * KIB):
            cases.append(Case(f"cut mincdc {avg // KIB}K, {name}", read, _cut("mincdc", avg, name, data), size))
    for avg in (16 * KIB, 64 * KIB):
        cases.append(Case(f"cut fastcdc {avg // KIB}K, scalar", read, _cut("fastcdc", avg, "scalar", data), size))
    return cases


def _cut(kind: str, avg: int, name: str, data: bytearray) -> Callable[[], None]:
    cut = open_chunker(ChunkerParams.of(kind, avg), name).cut_segment
    view = memoryview(data)
    parts = [view[at : at + SEGMENT_SIZE] for at in range(0, len(data), SEGMENT_SIZE)]

    def run() -> None:
        for part in parts:
            cut(part)

    return run


def hash_cases(size: int) -> list[Case]:
    """Ids of chunks beside BLAKE3 of the longest pieces that one thread hashes at full speed."""
    data = memoryview(random.Random(2).randbytes(size))

    def hash_all(step: int, of: Callable[[memoryview], object]) -> Callable[[], None]:
        parts = [data[at : at + step] for at in range(0, len(data), step)]

        def run() -> None:
            for part in parts:
                of(part)

        return run

    limit = "limit: BLAKE3 of 1 MiB"
    ids = [
        Case(f"chunk ids, {step // KIB}K", limit, hash_all(step, chunk_id), size)
        for step in (8 * KIB, 16 * KIB, 64 * KIB)
    ]
    return [Case(limit, "", hash_all(MIB, lambda part: blake3(part).digest()), size), *ids]
