"""Cut images by many chunkers at once, and count what each would store. Pure but for reading the images.

    image -> 4 MiB segments -> each chunker: holes out, cut, BLAKE3, seen before?
      new chunks: zstd of each alone, and of frames of a segment's new chunks, as the ingest makes them

Every chunker sees each segment in the same buffer, read once, images in the order they are named in.
Memory: about 100 bytes per unique chunk and chunker.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from casimg.chunker import ChunkerParams, open_chunker
from casimg.constants import FRAME_PLAIN_TARGET, HOLE_FLAG, KIB, KIND_DATA, MIB, SEGMENT_SIZE
from casimg.estimating import INDEX_ENTRY_SIZE
from casimg.formats.frame import encode_frame
from casimg.formats.node import encode_leaf
from casimg.ids import chunk_id, node_id
from casimg.manifest.shape import segment_count, segment_size
from casimg.source import FileSource

LEVEL = 3
CDC_SIZES = (8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB)
CHUNKERS: tuple[tuple[str, int], ...] = (
    *(("fixed", size) for size in (4 * KIB, 16 * KIB, 64 * KIB, 4 * MIB)),
    *(("fastcdc", size) for size in CDC_SIZES),
    *(("mincdc", size) for size in CDC_SIZES),
)
"""Kind and average size in bytes of everything that is compared."""

_KEY_SIZE = 16  # of an id: enough to tell chunks of one family apart, half the memory


@dataclass(frozen=True, slots=True)
class Samples:
    """Of every how many segments the new chunks are compressed: each alone, and in frames.

    `alone` is a multiple of `frames`.
    """

    alone: int = 1
    frames: int = 1


@dataclass(slots=True)
class Part:
    """Plain bytes that were compressed, and what they became."""

    plain_size: int = 0
    stored_size: int = 0

    def add(self, plain_size: int, stored_size: int) -> None:
        self.plain_size += plain_size
        self.stored_size += stored_size


@dataclass(slots=True)
class Tally:
    """What one chunker made of everything so far; sizes in bytes, `cut_cpu_s` in seconds of this thread."""

    kind: str
    chunk_size: int
    hole_size: int = 0
    plain_size: int = 0
    unique_size: int = 0
    chunk_count: int = 0
    unique_count: int = 0
    manifest_size: int = 0
    in_frames: Part = field(default_factory=Part)
    alone: Part = field(default_factory=Part)
    alone_in_frames: Part = field(default_factory=Part)
    cut_cpu_s: float = 0.0
    seen: set[bytes] = field(default_factory=set, repr=False)

    def row(self, samples: Samples) -> dict[str, Any]:
        """Return the figures as a row of the results; what was compressed in part is scaled to all unique bytes."""
        frames = self.in_frames
        frames_size = frames.stored_size * self.unique_size / frames.plain_size if frames.plain_size else 0.0
        # Segments differ in how well they compress far more than in what frames gain: so frames are the measure.
        same = self.alone_in_frames.stored_size
        alone_size = frames_size * self.alone.stored_size / same if same else 0.0
        return {
            "chunker": self.kind,
            "chunk_size": self.chunk_size,
            "plain_size": self.plain_size,
            "hole_size": self.hole_size,
            "unique_size": self.unique_size,
            "dedup_ratio": round(self.plain_size / self.unique_size, 4) if self.unique_size else 0.0,
            "chunk_count": self.chunk_count,
            "unique_count": self.unique_count,
            "mean_chunk_size": round(self.plain_size / self.chunk_count) if self.chunk_count else 0,
            "alone_size": round(alone_size),
            "frames_size": round(frames_size),
            "index_size": self.unique_count * INDEX_ENTRY_SIZE,
            "manifest_size": self.manifest_size,
            "cut_gb_s": round(self.plain_size / self.cut_cpu_s / 1e9, 3) if self.cut_cpu_s else 0.0,
            "alone_every_count": samples.alone,
            "frames_every_count": samples.frames,
        }


_ALL = Samples()


def count_chunks(
    images: Sequence[Path],
    chunkers: Iterable[tuple[str, int]] = CHUNKERS,
    *,
    samples: Samples = _ALL,
    tell: Callable[[int], None] | None = None,
) -> list[Tally]:
    """Return what each chunker makes of the images, stored in this order in one repository.

    Args:
        samples: how much of the new chunks to compress, which is nearly all of the time.
        tell: called with the bytes of images that are done.
    Raises: SourceError, InputError.
    """
    cutters = [(Tally(kind, size), open_chunker(ChunkerParams.of(kind, size)).cut_segment) for kind, size in chunkers]
    compress = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False).compress
    done = 0
    for number, (data, hole_size) in enumerate(_segments(images)):
        done += len(data) + hole_size
        for tally, cut in cutters:
            tally.hole_size += hole_size
            if not data:
                continue
            begin_s = time.thread_time()
            entries = cut(data)
            tally.cut_cpu_s += time.thread_time() - begin_s
            new = _take(tally, entries, data)
            new_size = sum(len(piece) for piece in new)
            if number % samples.frames == 0:
                in_frames = frames_size(new)
                tally.in_frames.add(new_size, in_frames)
                if number % samples.alone == 0:
                    tally.alone_in_frames.add(new_size, in_frames)
                    tally.alone.add(new_size, sum(min(len(piece), len(compress(piece))) for piece in new))
        if tell is not None:
            tell(done)
    return [tally for tally, _ in cutters]


def _take(tally: Tally, entries: Sequence[int], data: memoryview) -> list[memoryview]:
    """Count the entries of a segment and return its chunks that were not seen before."""
    new: list[memoryview] = []
    ids: list[bytes] = []
    at = 0
    for entry in entries:
        size = entry & ~HOLE_FLAG
        if entry & HOLE_FLAG:
            tally.hole_size += size
        else:
            piece = data[at : at + size]
            chunk = chunk_id(piece)
            ids.append(chunk)
            if chunk[:_KEY_SIZE] not in tally.seen:
                tally.seen.add(chunk[:_KEY_SIZE])
                tally.unique_size += size
                tally.unique_count += 1
                new.append(piece)
            tally.plain_size += size
        at += size
    tally.chunk_count += len(ids)
    if ids:
        leaf = encode_leaf(entries, b"".join(ids))
        node = node_id(leaf)[:_KEY_SIZE]
        if node not in tally.seen:
            tally.seen.add(node)
            tally.manifest_size += len(leaf)
    return new


def frames_size(pieces: Sequence[memoryview]) -> int:
    """Return the stored bytes of the new chunks of one segment: frames of at most 256 KiB, headers included."""
    total = group_size = 0
    group: list[memoryview] = []
    for piece in pieces:
        if group and group_size + len(piece) > FRAME_PLAIN_TARGET:
            total += _frame_size(group)
            group, group_size = [], 0
        group.append(piece)
        group_size += len(piece)
    return total + (_frame_size(group) if group else 0)


def _frame_size(group: Sequence[memoryview]) -> int:
    return len(encode_frame(KIND_DATA, b"".join(group), [len(piece) for piece in group], LEVEL))


def _segments(images: Sequence[Path]) -> Iterator[tuple[memoryview, int]]:
    """Yield the segments of the images: their bytes, or none and the size when the file system knows only holes."""
    buffer = memoryview(bytearray(SEGMENT_SIZE))
    for image in images:
        source = FileSource(image)
        try:
            number, count = 0, segment_count(source.size)
            while number < count:
                start = number * SEGMENT_SIZE
                data = source.next_data(start)
                reached = count if data >= source.size else data // SEGMENT_SIZE
                if reached > number:
                    yield buffer[:0], min(source.size, reached * SEGMENT_SIZE) - start
                    number = reached
                    continue
                part = buffer[: segment_size(source.size, number)]
                source.read_into(start, part)
                yield part, 0
                number += 1
        finally:
            source.close()
