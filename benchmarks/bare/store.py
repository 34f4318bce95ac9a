"""The bare put."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare.stored import THREAD_COUNT, Frame, Piece, Stored, codecs
from benchmarks.bare.writer import FrameWriter
from casimg.chunker import Chunker
from casimg.constants import FRAME_PLAIN_TARGET, HOLE_FLAG, ID_SIZE, SEGMENT_SIZE
from casimg.source import FileSource

_RAW_OVER = 0.97  # as casimg's frames
_WAITING_MAX = THREAD_COUNT + 2


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


Group = list[tuple[int, int, bytes]]
"""Chunks of one frame to be: (offset in the segment, size, id)."""


def store(path: Path, folder: Path, chunker: Chunker, level: int, *, direct: bool) -> Stored:
    """Take a raw image in. Two threads compute, the calling one writes, one more waits for fsync as casimg's does.

    Args:
        folder: an empty one.
        direct: write whole blocks past the page cache. Raises OSError where that cannot be done.
    """
    return _Store(path, folder, chunker, level, direct=direct).run()


class _Store:
    def __init__(self, path: Path, folder: Path, chunker: Chunker, level: int, *, direct: bool) -> None:
        self._source = FileSource(path)
        self._writer = FrameWriter(folder, direct=direct)
        self._chunker = chunker
        self._level = level
        self._buffers: list[bytearray] = []
        self._stored = Stored(self._source.size, [], [], {})
        self._known: dict[bytes, tuple[int, int]] = {}
        self._frame_count = 0

    def run(self) -> Stored:
        cutting: deque[Future[_Segment]] = deque()
        encoding: deque[tuple[_Segment, list[Group], Future[list[tuple[bytes, bool]]]]] = deque()
        with ThreadPoolExecutor(THREAD_COUNT) as pool:

            def decide() -> None:
                segment = cutting.popleft().result()
                groups = self._groups(segment)
                encoding.append((segment, groups, pool.submit(_encode, segment, groups, self._level)))
                while encoding and (len(encoding) > _WAITING_MAX or encoding[0][2].done()):
                    self._write(*encoding.popleft())

            for offset, ranges in self._plan():
                cutting.append(pool.submit(self._cut, offset, ranges))
                if len(cutting) > _WAITING_MAX:
                    decide()
            while cutting:
                decide()
            while encoding:
                self._write(*encoding.popleft())
        self._stored.files = self._writer.finish()
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

    def _write(self, segment: _Segment, groups: list[Group], encoded: Future[list[tuple[bytes, bool]]]) -> None:
        for group, (payload, is_raw) in zip(groups, encoded.result(), strict=True):
            sizes = tuple(size for _, size, _ in group)
            ids = b"".join(chunk for *_, chunk in group)
            place = self._writer.append(payload)
            self._stored.frames.append(Frame(*place, len(payload), sum(sizes), is_raw, sizes, ids))
        self._buffers.append(segment.buffer)


def _encode(segment: _Segment, groups: list[Group], level: int) -> list[tuple[bytes, bool]]:
    """Return (payload, whether it is raw) of each group, decoded and compared."""
    found = []
    view = memoryview(segment.buffer)
    for group in groups:
        plain = b"".join(view[at : at + size] for at, size, _ in group)
        payload = codecs.compressor(level).compress(plain)
        if codecs.decompressor.decompress(payload, max_output_size=len(plain)) != plain:
            raise RuntimeError("zstd gave back other bytes")
        is_raw = len(payload) > _RAW_OVER * len(plain)
        found.append((plain if is_raw else payload, is_raw))
    return found
