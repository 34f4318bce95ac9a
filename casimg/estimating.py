"""What files would shrink to, without a repository: cut, hash, compress, count, keep nothing but ids.

Memory: about 60 bytes per distinct chunk and chunker.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from casimg.choices import LEVEL_DEFAULT
from casimg.chunker import Chunker, ChunkerParams, open_chunker
from casimg.constants import CHUNK_SIZE_DEFAULT, FRAME_PLAIN_TARGET, HOLE_FLAG, ID_SIZE, KIB, SEGMENT_SIZE, TIB
from casimg.formats.frame import encode_frame
from casimg.ingest import thread_count
from casimg.manifest.shape import segment_count, segment_size
from casimg.progress import Progress, ProgressCallback, check_cancel
from casimg.results.figures import Estimate, EstimateRow
from casimg.source import FileSource

INDEX_ENTRY_SIZE = 94
"""Bytes of LMDB per chunk, pages half full as random inserts leave them (measured; DESIGN section 7)."""
_MANIFEST_ENTRY_SIZE = 36
_KEY_SIZE = 16
CHUNK_SIZES_DEFAULT = (8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB)


def index_estimate(unique_size: int, chunk_size: int) -> int:
    """Return the bytes of index for that much unique data."""
    return -(-unique_size // chunk_size) * INDEX_ENTRY_SIZE


def chunk_size_for(expect_size: int | None) -> int:
    """Return the chunk size for the unique data expected: 16 KiB to 3 TiB, 32 KiB to 6 TiB, then 64 KiB.

    The index should fit into the page cache of a host with 24 GiB.
    """
    if expect_size is None or expect_size <= 3 * TIB:
        return CHUNK_SIZE_DEFAULT
    return 32 * KIB if expect_size <= 6 * TIB else 64 * KIB


class _Tally:
    """One chunker's sums over all files."""

    def __init__(self, chunker: Chunker) -> None:
        self.chunker = chunker
        self.seen: set[bytes] = set()
        self.unique_size = self.stored_size = self.chunk_count = self.reference_count = self.hole_size = 0


def estimate(
    files: Sequence[str | os.PathLike[str]],
    *,
    chunk_sizes: Iterable[int] = CHUNK_SIZES_DEFAULT,
    chunkers: Iterable[str] = ("mincdc",),
    level: int = LEVEL_DEFAULT,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Estimate:
    """Return what each chunk size would make of the files, stored in this order in one repository.

    Raises: SourceError, InputError, CancelledError.
    """
    begin_s = time.monotonic()
    tallies = [
        _Tally(open_chunker(ChunkerParams.of(kind, size))) for kind in chunkers for size in sorted(set(chunk_sizes))
    ]
    sources = [FileSource(file) for file in files]
    try:
        total = sum(source.size for source in sources)
        done = 0
        threads = thread_count(0)
        with ThreadPoolExecutor(threads, thread_name_prefix="casimg-estimate") as pool:
            for source in sources:
                for number in range(segment_count(source.size)):
                    check_cancel(cancel, "the estimate")
                    size = segment_size(source.size, number)
                    _segment(pool, source, number, size, tallies, level)
                    done += size
                    if progress is not None:
                        progress(Progress("estimate", done, total))
        rows = tuple(
            EstimateRow(
                chunker=tally.chunker.params.kind,
                chunk_size=tally.chunker.params.size_avg,
                unique_size=tally.unique_size,
                stored_size=tally.stored_size,
                chunk_count=tally.chunk_count,
                index_size=tally.chunk_count * INDEX_ENTRY_SIZE,
                metadata_size=tally.reference_count * _MANIFEST_ENTRY_SIZE,
            )
            for tally in tallies
        )
        return Estimate(
            files=tuple(str(Path(file)) for file in files),
            virtual_size=total,
            hole_size=tallies[0].hole_size if tallies else 0,
            rows=rows,
            duration_s=time.monotonic() - begin_s,
        )
    finally:
        for source in sources:
            source.close()


def _segment(
    pool: ThreadPoolExecutor, source: FileSource, number: int, size: int, tallies: Sequence[_Tally], level: int
) -> None:
    start = number * SEGMENT_SIZE
    if source.next_data(start) >= start + size:
        for tally in tallies:
            tally.hole_size += size
        return
    data = memoryview(bytearray(size))
    source.read_into(start, data)
    frames: deque[tuple[_Tally, Future[bytes]]] = deque()
    for tally in tallies:
        at = 0
        group: list[memoryview] = []
        group_size = 0
        sizes, ids = tally.chunker.cut_and_hash(data)
        keys = (ids[start : start + _KEY_SIZE] for start in range(0, len(ids), ID_SIZE))
        for entry in sizes:
            length = entry & ~HOLE_FLAG
            piece = data[at : at + length]
            at += length
            if entry & HOLE_FLAG:
                tally.hole_size += length
                continue
            tally.reference_count += 1
            key = next(keys)
            if key in tally.seen:
                continue
            tally.seen.add(key)
            tally.chunk_count += 1
            tally.unique_size += length
            if group and group_size + length > FRAME_PLAIN_TARGET:
                frames.append((tally, pool.submit(_frame, group, level)))
                group, group_size = [], 0
            group.append(piece)
            group_size += length
        if group:
            frames.append((tally, pool.submit(_frame, group, level)))
    while frames:
        tally, future = frames.popleft()
        tally.stored_size += len(future.result())


def _frame(pieces: Sequence[memoryview], level: int) -> bytes:
    return encode_frame(0, b"".join(pieces), [len(piece) for piece in pieces], level)
