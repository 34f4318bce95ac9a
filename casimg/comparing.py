"""Compare a stored image with a file byte by byte, and two stored images by their manifests."""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from casimg.assemble import ContentReader
from casimg.constants import BLOCK_SIZE, SEGMENT_SIZE
from casimg.image_file import read_range
from casimg.manifest.diff import changed_ranges, differing_segments
from casimg.manifest.walk import load_leaf
from casimg.progress import Progress, ProgressCallback, check_cancel
from casimg.restore import Span, spans
from casimg.results.comparing import DiffReport, VerifyReport
from casimg.results.images import ByteRange, Image
from casimg.source import FileSource

DIFFERENCE_COUNT_MAX = 1000
_ZERO_STEP = 16 * SEGMENT_SIZE


def verify(
    reader: ContentReader,
    image: Image,
    file: str | os.PathLike[str],
    *,
    threads: int,
    progress: ProgressCallback | None,
    cancel: threading.Event | None,
) -> VerifyReport:
    """Read an image back from the packs and compare it with a file, 4 KiB block by block.

    Raises: SourceError, ChunkLostError, NodeDamagedError, CancelledError.
    """
    begin_s = time.monotonic()
    source = FileSource(file)
    try:
        size = reader.tree.size
        common = min(size, source.size)
        differences: list[tuple[int, int]] = []
        done_size = 0
        with ThreadPoolExecutor(threads, thread_name_prefix="casimg-verify") as pool:
            running: deque[tuple[int, Future[list[tuple[int, int]]]]] = deque()
            try:
                for span in _steps(reader):
                    check_cancel(cancel, "the comparison")
                    running.append((span.size, pool.submit(_compare, reader, source, span, common)))
                    while len(running) > threads + 1:
                        done_size += _collect(running, differences)
                        if progress is not None:
                            progress(Progress("verify", done_size, size))
                while running:
                    done_size += _collect(running, differences)
            except BaseException:
                for _, future in running:
                    future.cancel()
                raise
        if progress is not None:
            progress(Progress("verify", done_size, size))
        if size != source.size:
            differences.append((common, max(size, source.size)))
        merged = _merged(differences)
        return VerifyReport(
            image=image,
            file=source.label,
            size=size,
            file_size=source.size,
            equal=not merged,
            differences=tuple(ByteRange(start, end - start) for start, end in merged[:DIFFERENCE_COUNT_MAX]),
            difference_size=sum(end - start for start, end in merged),
            duration_s=time.monotonic() - begin_s,
        )
    finally:
        source.close()


def _steps(reader: ContentReader) -> Iterator[Span]:
    """Spans, zeros in steps that one task compares quickly."""
    for span in spans(reader):
        if span.leaf is not None:
            yield span
            continue
        at, end = span.offset, span.offset + span.size
        while at < end:
            size = min(_ZERO_STEP, end - at)
            yield Span(at, size, at // SEGMENT_SIZE, None)
            at += size


def _collect(running: deque[tuple[int, Future[list[tuple[int, int]]]]], differences: list[tuple[int, int]]) -> int:
    size, future = running.popleft()
    differences.extend(future.result())
    return size


def _compare(reader: ContentReader, source: FileSource, span: Span, common: int) -> list[tuple[int, int]]:
    """Return the differing (start, end) ranges of whole blocks within a span, as far as both have bytes."""
    end = min(span.offset + span.size, common)
    if span.leaf is None:
        return _compare_zeros(source, span.offset, end)
    leaf = load_leaf(reader.node, reader.tree, span.number, span.leaf)
    stored = bytearray(span.size)
    for offset, piece in reader.segment(leaf):
        stored[offset : offset + len(piece)] = piece
    if end <= span.offset:
        return []
    have = memoryview(bytearray(end - span.offset))
    source.read_into(span.offset, have)
    return _block_differences(memoryview(stored)[: len(have)], have, span.offset)


def _compare_zeros(source: FileSource, start: int, end: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for at in range(start, end, SEGMENT_SIZE):
        size = min(SEGMENT_SIZE, end - at)
        if source.next_data(at) >= at + size:
            continue
        have = memoryview(bytearray(size))
        source.read_into(at, have)
        found += _block_differences(memoryview(bytes(size)), have, at)
    return found


def _block_differences(a: memoryview, b: memoryview, base: int) -> list[tuple[int, int]]:
    if a == b:
        return []
    # Halving finds few differences in few comparisons, each at memcmp speed.
    found: list[tuple[int, int]] = []
    stack = [(0, len(a))]
    while stack:
        start, end = stack.pop()
        if a[start:end] == b[start:end]:
            continue
        if end - start <= BLOCK_SIZE:
            found.append((base + start, base + end))
            continue
        middle = start + -(-(end - start) // (2 * BLOCK_SIZE)) * BLOCK_SIZE
        stack += [(middle, end), (start, middle)]
    return found


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def diff(a: ContentReader, b: ContentReader, image_a: Image, image_b: Image, *, exact: bool) -> DiffReport:
    """Return where two images differ; without `exact` no data is read, only manifest nodes that differ.

    Raises: ChunkLostError, NodeDamagedError.
    """
    ranges: list[tuple[int, int]] = []
    only_b: dict[bytes, int] = {}
    in_a: set[bytes] = set()
    # Nodes of b are loaded through b, whose packs hold them; a's through a.
    for number, leaf_a, leaf_b in differing_segments(a.node, b.node, a.tree, b.tree):
        found = changed_ranges(number, leaf_a, leaf_b, a.tree.size, b.tree.size)
        ranges += [(offset, offset + size) for offset, size in found]
        if leaf_a is not None:
            in_a.update(leaf_a.ids)
        if leaf_b is not None:
            only_b.update(zip(leaf_b.ids, (size for size, chunk in leaf_b.entries() if chunk is not None), strict=True))
    for chunk in in_a:
        only_b.pop(chunk, None)
    small, large = sorted((a.tree.size, b.tree.size))
    if small != large:
        ranges.append((small, large))
    merged = _merged(ranges)
    if exact:
        merged = _exact(a, b, merged, small)
    return DiffReport(
        a=image_a,
        b=image_b,
        ranges=tuple(ByteRange(start, end - start) for start, end in merged),
        changed_size=sum(end - start for start, end in merged),
        only_in_b_size=sum(only_b.values()),
        exact=exact,
    )


def _exact(a: ContentReader, b: ContentReader, ranges: list[tuple[int, int]], common: int) -> list[tuple[int, int]]:
    """Narrow ranges of whole chunks to the 4 KiB blocks that really differ."""
    found: list[tuple[int, int]] = []
    for start, end in ranges:
        if start >= common:
            found.append((start, end))
            continue
        low = start - start % BLOCK_SIZE
        while low < min(end, common):
            high = min(end, common, low - low % SEGMENT_SIZE + SEGMENT_SIZE)
            found += _block_differences(_bytes_of(a, low, high), _bytes_of(b, low, high), low)
            low = high
        if end > common:
            found.append((common, end))
    return _merged(found)


def _bytes_of(reader: ContentReader, start: int, end: int) -> memoryview:
    return memoryview(read_range(reader, start, end - start))
