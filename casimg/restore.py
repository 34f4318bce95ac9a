"""Write a stored content to a target, segment by segment on all cores.

End of the way of the data. Every chunk is checked before it is written; holes stay holes where the target allows it.
A resumed restore trusts nothing that lies in the partial file: each chunk found there is hashed like one read from a
pack.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from casimg.assemble import ContentReader, SegmentData
from casimg.chunker import zero_prefix_size
from casimg.constants import HOLE_FLAG, SEGMENT_SIZE
from casimg.formats.node import Leaf
from casimg.ids import NodeId, chunk_id
from casimg.manifest.shape import segment_size
from casimg.manifest.walk import leaf_ids, load_leaf
from casimg.progress import Progress, ProgressCallback, check_cancel
from casimg.target import FdTarget, NewFileTarget, Target

_REPORT_EVERY_S = 0.1


@dataclass(slots=True)
class RestoreFigures:
    """Bytes: `done` of the content, `written` to the target, `kept` because a partial file had them right."""

    done_size: int = 0
    written_size: int = 0
    hole_size: int = 0
    kept_size: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a content in order: a segment with data, or zeros of any length (`leaf` None)."""

    offset: int
    size: int
    number: int
    leaf: NodeId | None


def spans(reader: ContentReader, first: int = 0) -> Iterator[Span]:
    """Yield a content as spans that cover it without gaps, from segment `first` on."""
    tree = reader.tree
    at = first
    for number, leaf in leaf_ids(reader.node, tree, first):
        if number > at:
            yield Span(at * SEGMENT_SIZE, (number - at) * SEGMENT_SIZE, at, None)
        yield Span(number * SEGMENT_SIZE, segment_size(tree.size, number), number, leaf)
        at = number + 1
    if at * SEGMENT_SIZE < tree.size:
        yield Span(at * SEGMENT_SIZE, tree.size - at * SEGMENT_SIZE, at, None)


def gaps(data: SegmentData, size: int) -> Iterator[tuple[int, int]]:
    """Yield the (offset, size) ranges of a segment that its data does not cover: its holes."""
    at = 0
    for offset, view in data:
        if offset > at:
            yield at, offset - at
        at = offset + len(view)
    if at < size:
        yield at, size - at


class Restore:
    """One run from a content to a target."""

    def __init__(
        self,
        reader: ContentReader,
        target: Target,
        *,
        threads: int,
        progress: ProgressCallback | None,
        cancel: threading.Event | None,
    ) -> None:
        self._reader = reader
        self._target = target
        self._threads = threads
        self._progress = progress
        self._cancel = cancel
        self._report_at_s = time.monotonic()
        self.figures = RestoreFigures()

    def run(self) -> RestoreFigures:
        """Write everything; the caller finishes or abandons the target.

        Raises: ChunkLostError, NodeDamagedError, TargetError, NoSpaceError, CancelledError.
        """
        running: deque[tuple[Span, Future[tuple[SegmentData, int]]]] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="casimg-restore") as pool:
            try:
                for span in spans(self._reader):
                    check_cancel(self._cancel, "the restore")
                    if span.leaf is None:
                        # Before bytes written in order; elsewhere the cores go on.
                        while running and not self._target.holes_are_zeros:
                            self._finish_next(running)
                        self._zeros(span)
                    else:
                        running.append((span, pool.submit(self._segment, span, span.leaf)))
                    while len(running) > self._threads + 1:
                        self._finish_next(running)
                while running:
                    self._finish_next(running)
            except BaseException:
                for _, future in running:
                    future.cancel()
                raise
        self._tell(last=True)
        return self.figures

    def _segment(self, span: Span, leaf: NodeId) -> tuple[SegmentData, int]:
        """Read a segment and, on a target that takes any order, write it; returns what is left to write, and kept."""
        node = load_leaf(self._reader.node, self._reader.tree, span.number, leaf)
        target = self._target
        if isinstance(target, NewFileTarget) and target.kept:
            return [], self._mend_segment(target, span, node)
        if isinstance(target, FdTarget) and self._reader.fill(node, target.buffer()):
            data = [(start, target.buffer()[start:end]) for start, end in node.data_ranges()]
            for offset, view in data:
                target.write_buffer(offset, offset + len(view), span.offset + offset)
        else:
            data = self._reader.segment(node)
            if target.ordered:
                return data, 0
            for offset, parts in _runs(data):
                target.write(span.offset + offset, parts)
        if not target.holes_are_zeros:
            for offset, size in gaps(data, span.size):
                target.write_zeros(span.offset + offset, size)
        return [], 0

    def _mend_segment(self, target: NewFileTarget, span: Span, leaf: Leaf) -> int:
        """Write what the partial file does not have right; returns the bytes it had right."""
        have = memoryview(bytearray(span.size))
        target.read_into(span.offset, have)
        at = kept = 0
        wrong: list[tuple[int, int]] = []
        for entry, chunk in leaf.entries():
            size = entry & ~HOLE_FLAG
            piece = have[at : at + size]
            if chunk is None:
                if zero_prefix_size(piece) < size:
                    target.write_zeros(span.offset + at, size)
            elif chunk_id(piece) == chunk:
                kept += size
            else:
                wrong.append((at, at + size))
            at += size
        for start, end in wrong:
            for offset, view in self._reader.pieces(leaf, start, end):
                target.write(span.offset + offset, [view])
        return kept

    def _zeros(self, span: Span) -> None:
        target = self._target
        if isinstance(target, NewFileTarget) and target.kept:
            target.clear(span.offset, span.size)
        elif not target.holes_are_zeros:
            at, end = span.offset, span.offset + span.size
            while at < end:  # in steps, so that progress and cancelling work on a terabyte of zeros
                check_cancel(self._cancel, "the restore")
                step = min(end - at, 16 * SEGMENT_SIZE)
                target.write_zeros(at, step)
                at += step
                self.figures.written_size += step
                self.figures.done_size += step
                self._tell()
            self.figures.hole_size += span.size
            return
        self.figures.done_size += span.size
        self.figures.hole_size += span.size
        self._tell()

    def _finish_next(self, running: deque[tuple[Span, Future[tuple[SegmentData, int]]]]) -> None:
        span, future = running.popleft()
        data, kept = future.result()
        target = self._target
        if target.ordered:
            at = 0
            for offset, parts in _runs(data):
                target.write_zeros(span.offset + at, offset - at)
                target.write(span.offset + offset, parts)
                at = offset + sum(len(part) for part in parts)
            target.write_zeros(span.offset + at, span.size - at)
        node = self._reader.node(span.leaf) if span.leaf is not None else None
        hole = node.hole_size if isinstance(node, Leaf) else 0
        figures = self.figures
        figures.done_size += span.size
        figures.hole_size += hole
        figures.kept_size += kept
        figures.written_size += span.size - kept - (hole if target.holes_are_zeros or kept else 0)
        self._tell()

    def _tell(self, *, last: bool = False) -> None:
        now_s = time.monotonic()
        if self._progress is not None and (last or now_s - self._report_at_s >= _REPORT_EVERY_S):
            self._report_at_s = now_s
            self._progress(Progress("restore", self.figures.done_size, self._reader.tree.size, self.figures.hole_size))


def _runs(data: SegmentData) -> Iterator[tuple[int, list[memoryview]]]:
    """Yield (offset, parts) of pieces that follow each other without a gap: one write each."""
    start = end = 0
    parts: list[memoryview] = []
    for offset, view in data:
        if parts and offset != end:
            yield start, parts
            parts = []
        if not parts:
            start = offset
        parts.append(view)
        end = offset + len(view)
    if parts:
        yield start, parts
