"""The bare pipelines: what put and get cannot do without, and nothing else. No index, catalog, manifest, trailer.

`store`: read, zero scan, cut, hash, skip what this image had before, zstd, decode check, files of 64 MiB, fsync.
`restore`: read, decode, hash and compare, write in segments, fsync; with or without the page cache.
"""

import mmap
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import zstandard

from casimg.chunker import Chunker, chunk_ids
from casimg.constants import BLOCK_SIZE, FRAME_PLAIN_TARGET, HOLE_FLAG, ID_SIZE, PACK_SIZE_TARGET, SEGMENT_SIZE
from casimg.source import FileSource

THREAD_COUNT = 2
_RAW_OVER = 0.97  # as casimg's frames
_WAITING_MAX = THREAD_COUNT + 2


@dataclass(frozen=True, slots=True)
class Frame:
    """Chunks stored together: where the payload is, and what comes out."""

    file: int
    offset: int
    size: int
    plain_size: int
    is_raw: bool
    sizes: tuple[int, ...]
    ids: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a segment: a range of a frame's plain bytes."""

    at: int
    frame: int
    start: int
    size: int


@dataclass(slots=True)
class Stored:
    """What `store` made: frames, and the pieces of each segment with data, by the segment's offset."""

    size: int
    files: list[Path]
    frames: list[Frame]
    segments: dict[int, list[Piece]]

    @property
    def stored_size(self) -> int:
        """Bytes of all payloads."""
        return sum(frame.size for frame in self.frames)


@dataclass(slots=True)
class _Segment:
    offset: int
    buffer: bytearray
    sizes: list[int]
    ids: bytes

    def chunks(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield (offset in the segment, size, id) of the chunks."""
        at = number = 0
        for entry in self.sizes:
            if entry < HOLE_FLAG:
                yield at, entry, self.ids[number * ID_SIZE : (number + 1) * ID_SIZE]
                number += 1
            at += entry & ~HOLE_FLAG


class _Codecs(threading.local):
    """Contexts of a thread."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        if level not in self.compressors:
            self.compressors[level] = zstandard.ZstdCompressor(level=level)
        return self.compressors[level]


_codecs = _Codecs()

Group = list[tuple[int, int, bytes]]
"""Chunks of one frame to be: (offset in the segment, size, id)."""


def store(path: Path, folder: Path, chunker: Chunker, level: int) -> Stored:
    """Take a raw image in. Two threads compute, the calling one writes, one more waits for fsync as casimg's does."""
    return _Store(path, folder, chunker, level).run()


class _Store:
    def __init__(self, path: Path, folder: Path, chunker: Chunker, level: int) -> None:
        self._source = FileSource(path)
        self._folder = folder
        self._chunker = chunker
        self._level = level
        self._buffers: list[bytearray] = []
        self._stored = Stored(self._source.size, [], [], {})
        self._known: dict[bytes, tuple[int, int]] = {}
        self._frame_count = 0
        self._file_fd = -1
        self._file_size = 0
        self._syncing: list[Future[None]] = []

    def run(self) -> Stored:
        cutting: deque[Future[_Segment]] = deque()
        encoding: deque[tuple[_Segment, list[Group], Future[list[tuple[bytes, bool]]]]] = deque()
        with ThreadPoolExecutor(THREAD_COUNT) as pool, ThreadPoolExecutor(1) as syncer:

            def decide() -> None:
                segment = cutting.popleft().result()
                groups = self._groups(segment)
                encoding.append((segment, groups, pool.submit(_encode, segment, groups, self._level)))
                while encoding and (len(encoding) > _WAITING_MAX or encoding[0][2].done()):
                    self._write(*encoding.popleft(), syncer)

            for offset, ranges in self._plan():
                cutting.append(pool.submit(self._cut, offset, ranges))
                if len(cutting) > _WAITING_MAX:
                    decide()
            while cutting:
                decide()
            while encoding:
                self._write(*encoding.popleft(), syncer)
            self._next_file(syncer)
        for sync in self._syncing:
            sync.result()
        _sync_folder(self._folder)
        self._source.close()
        return self._stored

    def _plan(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        at = self._source.next_data(0)
        while at < self._source.size:
            at -= at % SEGMENT_SIZE
            end = min(at + SEGMENT_SIZE, self._source.size)
            yield at, list(self._source.data_ranges(at, end))
            at = self._source.next_data(end)

    def _cut(self, offset: int, ranges: list[tuple[int, int]]) -> _Segment:
        size = min(SEGMENT_SIZE, self._source.size - offset)
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = bytearray(SEGMENT_SIZE)
        view = memoryview(buffer)[:size]
        done = 0
        for start, end in ranges:
            view[done : start - offset] = bytes(start - offset - done)
            self._source.read_into(start, view[start - offset : end - offset])
            done = end - offset
        view[done:] = bytes(size - done)
        return _Segment(offset, buffer, *self._chunker.cut_and_hash(view))

    def _groups(self, segment: _Segment) -> list[Group]:
        """Note where each chunk of a segment will be, and return the new ones in groups of 256 KiB."""
        groups: list[Group] = []
        pieces: list[Piece] = []
        group_size = FRAME_PLAIN_TARGET
        for at, size, chunk in segment.chunks():
            place = self._known.get(chunk)
            if place is None:
                if group_size + size > FRAME_PLAIN_TARGET:
                    groups.append([])
                    self._frame_count += 1
                    group_size = 0
                place = self._known[chunk] = self._frame_count - 1, group_size
                groups[-1].append((at, size, chunk))
                group_size += size
            before = pieces[-1] if pieces else None
            if before is not None and (before.at + before.size, before.frame, before.start + before.size) == (
                at,
                *place,
            ):
                pieces[-1] = Piece(before.at, before.frame, before.start, before.size + size)
            else:
                pieces.append(Piece(at, *place, size))
        if pieces:
            self._stored.segments[segment.offset] = pieces
        return groups

    def _write(
        self,
        segment: _Segment,
        groups: list[Group],
        encoded: Future[list[tuple[bytes, bool]]],
        syncer: ThreadPoolExecutor,
    ) -> None:
        for group, (payload, is_raw) in zip(groups, encoded.result(), strict=True):
            if self._file_fd < 0:
                path = self._folder / f"{len(self._stored.files):05}"
                self._stored.files.append(path)
                self._file_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            sizes = tuple(size for _, size, _ in group)
            ids = b"".join(chunk for *_, chunk in group)
            place = len(self._stored.files) - 1, self._file_size
            self._stored.frames.append(Frame(*place, len(payload), sum(sizes), is_raw, sizes, ids))
            os.write(self._file_fd, payload)
            self._file_size += len(payload)
            if self._file_size >= PACK_SIZE_TARGET:
                self._next_file(syncer)
        self._buffers.append(segment.buffer)

    def _next_file(self, syncer: ThreadPoolExecutor) -> None:
        if self._file_fd >= 0:
            self._syncing.append(syncer.submit(_sync_and_close, self._file_fd))
        self._file_fd, self._file_size = -1, 0


def _encode(segment: _Segment, groups: list[Group], level: int) -> list[tuple[bytes, bool]]:
    """Return (payload, whether it is raw) of each group, decoded and compared."""
    found = []
    view = memoryview(segment.buffer)
    for group in groups:
        plain = b"".join(view[at : at + size] for at, size, _ in group)
        payload = _codecs.compressor(level).compress(plain)
        if _codecs.decompressor.decompress(payload, max_output_size=len(plain)) != plain:
            raise RuntimeError("zstd gave back other bytes")
        is_raw = len(payload) > _RAW_OVER * len(plain)
        found.append((plain if is_raw else payload, is_raw))
    return found


def _sync_and_close(fd: int) -> None:
    os.fsync(fd)
    os.close(fd)


def _sync_folder(folder: Path) -> None:
    _sync_and_close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


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
    _sync_folder(target.parent)


class _Aligned(threading.local):
    """A buffer of a thread that direct writes can start from."""

    def __init__(self) -> None:
        self.view = memoryview(mmap.mmap(-1, SEGMENT_SIZE))


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
    plain = payload if frame.is_raw else _codecs.decompressor.decompress(payload, max_output_size=frame.plain_size)
    if chunk_ids(plain, frame.sizes) != frame.ids:
        raise RuntimeError("a chunk is damaged")
    return memoryview(plain)
