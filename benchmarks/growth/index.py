"""The index alone, with made ids: what an entry costs to insert and to keep, what a lookup costs, as it grows."""

import random
import time
from array import array
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.growth.made import fresh
from benchmarks.growth.setting import Rows, Setting, say
from benchmarks.measure import Measured, run_call
from casimg.constants import CHUNK_SIZE_DEFAULT, DOMAIN_DEFAULT, GIB, ID_SIZE, KIND_DATA
from casimg.formats.pack import NONCE_SIZE, FrameSpan, PackTrailer
from casimg.index import Index, Lookup

_PACK_COUNT = 4096  # chunks of a pack of 64 MiB that does not compress
_BATCH_PACKS = 2  # as an ingest hands them over
_FRAME_SIZE = 90_000
_FRAME_COUNT = 16
_ASKED_COUNT = 2000
_MILLION = 1_000_000


def made_pack(number: int) -> PackTrailer:
    """Return the entry list of a pack that was never written."""
    frames = [
        FrameSpan(16 + first // _FRAME_COUNT * _FRAME_SIZE, _FRAME_SIZE, first, _FRAME_COUNT)
        for first in range(0, _PACK_COUNT, _FRAME_COUNT)
    ]
    sizes = array("I", [CHUNK_SIZE_DEFAULT]) * _PACK_COUNT
    ids = fresh(_PACK_COUNT * ID_SIZE, seed=3, number=number)
    return PackTrailer(KIND_DATA, DOMAIN_DEFAULT, bytes(NONCE_SIZE), frames, sizes, ids)


def measure_index(setting: Setting) -> Rows:
    """Return a row per count of entries; `insert_us` is of the entries since the row before, commits included."""
    marks = setting.pick([n * _MILLION for n in (1, 2, 5, 10, 20)], [50_000, 100_000, 200_000])
    rows: list[dict[str, Any]] = []
    with setting.work("index") as folder:
        index = Index.open(folder / "index", "made", "made", map_size=64 * GIB)
        pack_count = 0
        for mark in marks:
            first, pack_count = pack_count, -(-mark // _PACK_COUNT)
            _, took = run_call(partial(_insert, index, first, pack_count))
            rows.append(_row(index, (pack_count - first) * _PACK_COUNT, pack_count, took))
            say(f"index: {rows[-1]['entry_count']:,} entries, {rows[-1]['insert_us']:.1f} us each to insert")
        index.close()
    return rows


def _row(index: Index, inserted_count: int, pack_count: int, took: Measured) -> dict[str, Any]:
    rng = random.Random(pack_count)
    # One pack at a time: two thousand would be all the memory that is seen.
    hits = [made_pack(rng.randrange(pack_count)).id_at(rng.randrange(_PACK_COUNT)) for _ in range(_ASKED_COUNT)]
    misses = [rng.randbytes(ID_SIZE) for _ in range(_ASKED_COUNT)]
    with index.reading() as lookup:
        hit_us, hit_p99_us = _ask(lookup, hits, found=True)
        miss_us, _ = _ask(lookup, misses, found=False)
    entry_count, size = index.entry_count(), index.stored_size()
    return {
        "entry_count": entry_count,
        "insert_us": round(took.wall_s / inserted_count * 1e6, 2),
        "hit_us": hit_us,
        "miss_us": miss_us,
        "insert_cpu_us": round(took.cpu_s / inserted_count * 1e6, 2),
        "hit_p99_us": hit_p99_us,
        "index_size": size,
        "entry_size": round(size / entry_count, 1),
        "rss_anon_peak": took.rss_anon_peak,
    }


def _insert(index: Index, first: int, end: int) -> None:
    for low in range(first, end, _BATCH_PACKS):
        numbers = range(low, min(low + _BATCH_PACKS, end))
        packs = [(number, made_pack(number)) for number in numbers]
        index.add_packs([(number, pack.id_at(0), pack) for number, pack in packs])


def _ask(lookup: Lookup, ids: Sequence[bytes], *, found: bool) -> tuple[float, float]:
    """Return median and 99th percentile of looking ids up, us. Raises: RuntimeError for a wrong answer."""
    times_ns = []
    for chunk in ids:
        begin_ns = time.perf_counter_ns()
        place = lookup.first(chunk)
        times_ns.append(time.perf_counter_ns() - begin_ns)
        if (place is not None) != found:
            raise RuntimeError("the index does not know what was put in it, or knows what was not")
    times_ns.sort()
    return round(times_ns[len(ids) // 2] / 1e3, 2), round(times_ns[len(ids) * 99 // 100] / 1e3, 2)
