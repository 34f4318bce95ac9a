"""The bare get."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.bare.stored import THREAD_COUNT, Frame, Piece, Stored, codecs
from benchmarks.bare.writer import sync_and_close
from casimg.chunker import chunk_ids
from casimg.constants import BLOCK_SIZE, SEGMENT_SIZE
from casimg.direct import aligned_buffer


def restore(stored: Stored, target: Path, *, direct: bool) -> None:
    """Write what was stored to a new file on two threads, durably; `direct` writes whole blocks past the page cache.

    Raises: OSError when the file system does not take direct writes.
    """
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
    write_fd = os.open(target, os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT) if direct else fd
    files = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in stored.files]
    try:
        os.ftruncate(fd, stored.size)
        with ThreadPoolExecutor(THREAD_COUNT) as pool:
            jobs = [
                pool.submit(_segment, stored, files, write_fd, fd, direct, offset, pieces)
                for offset, pieces in stored.segments.items()
            ]
            for job in jobs:
                job.result()
        os.fsync(fd)
    finally:
        for each in {fd, write_fd, *files}:
            os.close(each)
    sync_and_close(os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY))


class _Aligned(threading.local):
    """A buffer of a thread that direct writes can start from."""

    def __init__(self) -> None:
        self.view = aligned_buffer(SEGMENT_SIZE)


_aligned = _Aligned()


def _segment(
    stored: Stored, files: list[int], write_fd: int, plain_fd: int, direct: bool, offset: int, pieces: list[Piece]
) -> None:
    plains = {
        number: _decode(stored.frames[number], files) for number in dict.fromkeys(piece.frame for piece in pieces)
    }
    for run in runs(pieces):
        parts = [plains[piece.frame][piece.start : piece.start + piece.size] for piece in run]
        if not direct:
            os.pwritev(write_fd, parts, offset + run[0].at)
            continue
        at = 0
        for part in parts:
            _aligned.view[at : at + len(part)] = part
            at += len(part)
        whole = at - at % BLOCK_SIZE
        if whole:
            os.pwrite(write_fd, _aligned.view[:whole], offset + run[0].at)
        if at > whole:
            os.pwrite(plain_fd, _aligned.view[whole:at], offset + run[0].at + whole)


def runs(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Yield pieces that follow each other without a gap, together."""
    run: list[Piece] = []
    for piece in pieces:
        if run and run[-1].at + run[-1].size != piece.at:
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _decode(frame: Frame, files: list[int]) -> memoryview:
    payload = os.pread(files[frame.file], frame.size, frame.offset)
    plain = payload if frame.is_raw else codecs.decompressor.decompress(payload, max_output_size=frame.plain_size)
    if chunk_ids(plain, frame.sizes) != frame.ids:
        raise RuntimeError("a chunk is damaged")
    return memoryview(plain)
