"""Deal the chunkers out to processes: sets of ids are not shared, so that no lock and no GIL slows the counting."""

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.chunkers.counting import CHUNKERS, Samples, count_chunks
from casimg.sizes import format_size

_WORKERS_MAX = 2
_TELL_EVERY_S = 10.0


def compare(images: Sequence[Path], samples: Samples) -> list[dict[str, Any]]:
    """Return a row per chunker, in the order of CHUNKERS."""
    workers = min(_WORKERS_MAX, len(os.sched_getaffinity(0)))
    # Dealt out in turn: kinds and sizes, and so the work, are spread evenly.
    shares = [CHUNKERS[number::workers] for number in range(workers)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_count, images, share, samples, number == 0) for number, share in enumerate(shares)]
        found = {(row["chunker"], row["chunk_size"]): row for job in jobs for row in job.result()}
    return [found[chunker] for chunker in CHUNKERS]


def _count(
    images: Sequence[Path], share: Sequence[tuple[str, int]], samples: Samples, talk: bool
) -> list[dict[str, Any]]:
    total = sum(image.stat().st_size for image in images)
    told_s = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told_s
        if talk and time.monotonic() - told_s >= _TELL_EVERY_S:
            told_s = time.monotonic()
            print(f"chunkers: {done / total:.0%} of {format_size(total)}", file=sys.stderr, flush=True)

    return [tally.row(samples) for tally in count_chunks(images, share, samples=samples, tell=tell)]
