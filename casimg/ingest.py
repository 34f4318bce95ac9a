"""THE write path, readable top to bottom.

    source -> 4 MiB segments -> holes out -> cut -> BLAKE3 -> known? note its pack
      new: chunks of the segment -> frame -> pack -> backend -> catalog -> index
    -> manifest leaf -> inner nodes -> root

1. `ingest` plans segments in order; segments that the source knows to be a hole are never read.
2. `_cut_and_hash` runs on any core: read, zero scan, cut, hash. Segments do not depend on each other.
3. `_decide` runs in segment order on the calling thread, so the same source gives the same frames for any number of
   threads: known chunks are noted, new ones claimed.
4. `_encode` runs on any core: new chunks of a segment become frames, each decoded and compared.
5. Frames go to the pack line in segment order; the leaf goes to the manifest.

What it must not know: where packs end up, SQL, images. It commits nothing: that is the repository's.

Memory: at most `2 * threads + 4` segment buffers, `threads + 2` more while somebody watches, their frames, and ids of
chunks that are pending in the line.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from casimg.buffers import BufferBudget, SegmentBuffers
from casimg.chunker import Chunker
from casimg.constants import (
    FRAME_PLAIN_TARGET,
    ID_SIZE,
    KIND_DATA,
    KIND_METADATA,
    NODE_FRAME_PLAIN_TARGET,
    SEGMENT_SIZE,
)
from casimg.dedup import KnownChunks
from casimg.formats.frame import encode_frame
from casimg.formats.node import encode_leaf
from casimg.ids import BytesLike, NodeId, node_id
from casimg.manifest.build import TreeBuilder
from casimg.manifest.shape import check_content_size, segment_count, segment_size
from casimg.progress import Progress, ProgressCallback, check_cancel
from casimg.segments import CutSegment, SegmentWatch, Taken
from casimg.source import FileSource, Source, StreamSource

_HEARTBEAT_EVERY_S = 60.0
_REPORT_EVERY_S = 0.1
_THREADS_MAX = 8


@dataclass(slots=True)
class IngestFigures:
    """What an ingest has seen so far; sizes in plain bytes but for the stored ones."""

    size: int = 0
    read_size: int = 0
    hole_size: int = 0
    known_size: int = 0
    new_size: int = 0
    stored_size: int = 0
    metadata_size: int = 0
    noted: set[int] = field(default_factory=set)
    """Numbers of packs that hold chunks or nodes this content uses and did not store itself."""


NewChunk = tuple[bytes, tuple[int, int]]
"""The id of a chunk to store, and where it starts and ends in its segment."""

Frame = tuple[bytes, list[bytes], list[int]]
"""An encoded frame, and ids and sizes of its chunks."""


class FrameSink(Protocol):
    """Where frames go: `casimg.packing.PackLine`, or nowhere in a dry run."""

    @property
    def stored_sizes(self) -> Mapping[int, int]:
        """Bytes stored so far by kind."""
        ...

    def is_pending(self, chunk: bytes) -> bool: ...

    def claim(self, chunk: bytes) -> None: ...

    def append(self, kind: int, frame: bytes, ids: Sequence[bytes], sizes: Sequence[int]) -> object: ...

    def landed(self) -> Sequence[int]: ...

    def flush(self) -> None: ...


class Ingest:
    """One run of the write path.

    Args:
        chunker: cuts segments.
        level: zstd level of frames.
        known: what the repository holds.
        line: where frames go.
        threads: cores to use.
        heartbeat: says that the session lives; called by progress, not by a clock of its own.
        progress, cancel: as in the public API.
        total_size: for progress; None when the source cannot tell.
        budget: of buffers that many ingests share; None for one that has the machine for itself.
        watch: needs the bytes of segments too; None when nobody does.
        keep: given new segments, whose ids were computed of these bytes, with the ids of their leaves; on any thread.
    """

    def __init__(
        self,
        *,
        chunker: Chunker,
        level: int,
        known: KnownChunks,
        line: FrameSink,
        threads: int,
        heartbeat: Callable[[], None],
        progress: ProgressCallback | None,
        cancel: threading.Event | None,
        total_size: int | None,
        budget: BufferBudget | None = None,
        watch: SegmentWatch | None = None,
        keep: Callable[[NodeId, memoryview], object] | None = None,
    ) -> None:
        self.chunker = chunker
        self._level = level
        self._known = known
        self._line = line
        self._threads = threads
        self._heartbeat = heartbeat
        self._progress = progress
        self._cancel = cancel
        self._total_size = total_size
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="casimg-ingest")
        self._buffers = SegmentBuffers(budget)
        self._watch = watch
        self._keep = keep
        self._watched: deque[CutSegment] = deque()
        self._cutting: deque[Future[CutSegment] | Taken] = deque()
        self._encoding: deque[tuple[CutSegment, Future[list[Frame]]]] = deque()
        self._nodes: list[tuple[bytes, NodeId]] = []
        self._nodes_size = 0
        self._beat_at_s = self._report_at_s = time.monotonic()
        self.figures = IngestFigures()
        self.tree = TreeBuilder(self.emit_node)

    # The steps a caller composes: `ingest` below for whole sources, casimg.snapshot.changed for maps.

    def take_buffer(self) -> bytearray:
        """Return a segment buffer, of unknown content; it comes back with the segment that is cut in it."""
        self._give_watched()
        return self._buffers.take(self._finish_oldest)

    def submit(self, job: Callable[[], CutSegment]) -> None:
        """Run `job` on a core: it reads, cuts and hashes the next segment."""
        check_cancel(self._cancel, "the ingest")
        self._queue(self._pool.submit(job))

    def take(self, taken: Taken) -> None:
        """Let the next segments be what `taken` says, unread."""
        check_cancel(self._cancel, "the ingest")
        self._queue(taken)

    def _finish_oldest(self) -> bool:
        """Finish the oldest work of this ingest, which gives its buffer back; False when there is none."""
        if self._encoding:
            self._append_next()
            return True
        if self._cutting:
            self._decide_next()
            return True
        if self._watched:
            self._give_watched(wait_over=len(self._watched) - 1)
            return True
        return False

    def _give(self, segment: CutSegment) -> None:
        """Give the buffer of a segment back, as soon as nobody needs it."""
        if segment.buffer is None:
            return
        if self._watch is None:
            self._buffers.give(segment.buffer)
            return
        self._watched.append(segment)
        # Who watches may be slower than we are for long: then it sets the pace.
        self._give_watched(wait_over=self._threads + 1)

    def _give_watched(self, wait_over: int | None = None) -> None:
        """Give back the buffers that are no longer watched, and wait while there are more than so many others."""
        while self._watch is not None and self._watched:
            segment = self._watched[0]
            if not self._watch.is_free(segment.number):
                if wait_over is None or len(self._watched) <= wait_over:
                    return
                self._watch.wait_free(segment.number)
            self._watched.popleft()
            if segment.buffer is not None:
                self._buffers.give(segment.buffer)

    def _queue(self, item: Future[CutSegment] | Taken) -> None:
        self._cutting.append(item)
        # One segment more than there are cores keeps every core busy while this thread decides.
        ahead_count = 0 if self._watch is not None and self._watch.is_waiting else self._threads + 1
        while len(self._cutting) > ahead_count:
            self._decide_next()

    def drain(self) -> None:
        """Decide on everything submitted, so that the manifest is complete up to here."""
        while self._cutting:
            self._decide_next()

    def finish(self) -> NodeId | None:
        """Store what is left and return the root of the manifest; None when all is zeros."""
        self.drain()
        root = self.tree.finish()
        while self._encoding:
            self._append_next()
        self._append_nodes()
        self._line.flush()
        self.figures.stored_size = self._line.stored_sizes.get(KIND_DATA, 0)
        self.figures.metadata_size = self._line.stored_sizes.get(KIND_METADATA, 0)
        self._tell(last=True)
        return root

    def close(self) -> None:
        """End the threads; jobs not begun are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        # The manifest's builder knows this object, so it dies late; its buffers are too large to wait for that.
        self._buffers.clear()
        self._cutting.clear()
        self._encoding.clear()
        self._watched.clear()

    def emit_node(self, encoded: bytes) -> NodeId:
        """Store a manifest node unless it is known, and return its id."""
        return self._emit_node(encoded)[0]

    def _emit_node(self, encoded: bytes) -> tuple[NodeId, bool]:
        """Store a manifest node unless it is known; return its id, and whether other packs than ours hold it."""
        node = node_id(encoded)
        if self._line.is_pending(node):
            return node, False
        with self._known.reading() as find:
            pack_no = find(node)
        if pack_no is not None:
            self.figures.noted.add(pack_no)
            return node, True
        self._line.claim(node)
        if self._nodes and self._nodes_size + len(encoded) > NODE_FRAME_PLAIN_TARGET:
            self._append_nodes()
        self._nodes.append((encoded, node))
        self._nodes_size += len(encoded)
        return node, False

    def _decide_next(self) -> None:
        """Step 3 for the oldest segment: in order, on the calling thread."""
        item = self._cutting.popleft()
        if isinstance(item, Taken):
            self._take_now(item)
            return
        segment = item.result()
        for pack_no in self._line.landed():
            self._known.trust(pack_no)
        figures = self.figures
        figures.read_size += segment.read_size
        figures.size += segment.plain_size
        figures.hole_size += segment.hole_size
        new = self._decide(segment)
        leaf, is_known = self._emit_node(encode_leaf(segment.sizes, segment.ids)) if segment.ids else (None, True)
        self.tree.add_leaf(leaf)
        if new:
            keep = None
            if self._keep is not None and leaf is not None and segment.read_chunks is None:
                keep = partial(self._keep, leaf)
            self._encoding.append((segment, self._pool.submit(_encode_job(segment.plain, new, self._level, keep))))
        if self._watch is not None:
            self._watch.decided(leaf, is_known=is_known and not new)
        if not new:
            self._give(segment)
        while self._encoding and (len(self._encoding) > self._threads + 1 or self._encoding[0][1].done()):
            self._append_next()
        self._tell()

    def _take_now(self, taken: Taken) -> None:
        if taken.node is None:
            self.tree.add_absent(taken.count)
        else:
            self.tree.add_subtree(taken.height, taken.node)
        self.figures.size += taken.size
        self.figures.hole_size += taken.hole_size
        self.figures.known_size += taken.size - taken.hole_size
        self._tell()

    def _decide(self, segment: CutSegment) -> list[NewChunk]:
        """Note the packs of known chunks and return the new ones, claimed."""
        new: list[int] = []
        new_ids: list[bytes] = []
        noted = self.figures.noted
        is_pending, claim = self._line.is_pending, self._line.claim
        ids = segment.ids
        asked = range(len(ids) // ID_SIZE) if segment.read_chunks is None else segment.read_chunks
        at, count = 0, len(asked)
        with self._known.reading() as find:
            while at < count:
                # Known data come in the order in which they were stored: a whole segment is often one comparison.
                run = self._known.run(ids, at) if segment.read_chunks is None else 0
                if run:
                    noted.add(self._known.run_pack_no)
                    at += run
                    continue
                chunk = asked[at]
                one = ids[chunk * ID_SIZE : (chunk + 1) * ID_SIZE]
                if not is_pending(one):
                    pack_no = find(one)
                    if pack_no is not None:
                        noted.add(pack_no)
                    else:
                        claim(one)
                        new.append(chunk)
                        new_ids.append(one)
                at += 1
        spans = segment.spans(new) if new else []
        new_size = sum(end - start for start, end in spans)
        self.figures.new_size += new_size
        self.figures.known_size += segment.plain_size - segment.hole_size - new_size
        return list(zip(new_ids, spans, strict=True))

    def _append_next(self) -> None:
        segment, future = self._encoding.popleft()
        for frame, ids, sizes in future.result():
            self._line.append(KIND_DATA, frame, ids, sizes)
            self.figures.stored_size += len(frame)
        self._give(segment)

    def _append_nodes(self) -> None:
        if self._nodes:
            sizes = [len(encoded) for encoded, _ in self._nodes]
            plain = b"".join(encoded for encoded, _ in self._nodes)
            frame = encode_frame(KIND_METADATA, plain, sizes, self._level)
            self._line.append(KIND_METADATA, frame, [node for _, node in self._nodes], sizes)
            self._nodes.clear()
            self._nodes_size = 0

    def _tell(self, *, last: bool = False) -> None:
        now_s = time.monotonic()
        if now_s - self._beat_at_s >= _HEARTBEAT_EVERY_S:
            self._beat_at_s = now_s
            self._heartbeat()
        if self._progress is not None and (last or now_s - self._report_at_s >= _REPORT_EVERY_S):
            self._report_at_s = now_s
            figures = self.figures
            self._progress(
                Progress(
                    "read",
                    figures.size,
                    self._total_size,
                    figures.hole_size,
                    figures.new_size,
                    figures.stored_size,
                )
            )


def ingest(run: Ingest, source: Source) -> NodeId | None:
    """Take a whole source in and return the root of its manifest.

    Raises: SourceError, SourceChangedError, CancelledError, and what storing raises.
    """
    if isinstance(source, FileSource):
        _submit_file(run, source)
    else:
        _submit_stream(run, source)
    return run.finish()


def _submit_file(run: Ingest, source: FileSource) -> None:
    check_content_size(source.size)
    count = segment_count(source.size)
    number = 0
    while number < count:
        # A hole of any length costs one question.
        data = source.next_data(number * SEGMENT_SIZE)
        next_number = count if data >= source.size else data // SEGMENT_SIZE
        if next_number > number:
            size = min(source.size, next_number * SEGMENT_SIZE) - number * SEGMENT_SIZE
            run.take(Taken(next_number - number, size, size))
            number = next_number
            continue
        size = segment_size(source.size, number)
        start = number * SEGMENT_SIZE
        ranges = list(source.data_ranges(start, start + size))
        run.submit(_file_job(run, source, number, size, ranges))
        number += 1


def _file_job(
    run: Ingest, source: FileSource, number: int, size: int, ranges: list[tuple[int, int]]
) -> Callable[[], CutSegment]:
    buffer = run.take_buffer()

    def job() -> CutSegment:
        view = memoryview(buffer)[:size]
        base = number * SEGMENT_SIZE
        done = base
        read_size = 0
        for start, end in ranges:
            view[done - base : start - base] = bytes(start - done)
            source.read_into(start, view[start - base : end - base])
            read_size += end - start
            done = end
        view[done - base :] = bytes(base + size - done)
        return cut_and_hash(run.chunker, number, buffer, size, read_size)

    return job


def _submit_stream(run: Ingest, source: StreamSource) -> None:
    with contextlib.closing(source.buffers(run.take_buffer)) as segments:
        for number, (buffer, size) in enumerate(segments):
            check_content_size(number * SEGMENT_SIZE + size)
            if size:
                run.submit(_stream_job(run, number, buffer, size))


def _stream_job(run: Ingest, number: int, buffer: bytearray, size: int) -> Callable[[], CutSegment]:
    return lambda: cut_and_hash(run.chunker, number, buffer, size, size)


def cut_and_hash(chunker: Chunker, number: int, buffer: bytearray, size: int, read_size: int) -> CutSegment:
    """Step 2: cut the first `size` bytes of a segment buffer and hash the chunks. Threads: any; releases the GIL."""
    view = memoryview(buffer)[:size]
    sizes, ids = chunker.cut_and_hash(view)
    return CutSegment(number, sizes, ids, view, read_size, buffer=buffer)


def _encode_job(
    plain: memoryview, new: list[NewChunk], level: int, keep: Callable[[memoryview], object] | None
) -> Callable[[], list[Frame]]:
    def job() -> list[Frame]:
        frames = _encode(plain, new, level)
        if keep is not None:
            keep(plain)
        return frames

    return job


def _encode(plain: memoryview, new: list[NewChunk], level: int) -> list[Frame]:
    """Step 4: the new chunks of one segment as frames of at most 256 KiB, in order. Threads: any."""
    frames: list[Frame] = []
    group: list[NewChunk] = []
    group_size = 0
    for chunk in new:
        start, end = chunk[1]
        if group and group_size + end - start > FRAME_PLAIN_TARGET:
            frames.append(_encode_group(plain, group, level))
            group, group_size = [], 0
        group.append(chunk)
        group_size += end - start
    frames.append(_encode_group(plain, group, level))
    return frames


def _encode_group(plain: memoryview, group: list[NewChunk], level: int) -> Frame:
    sizes = [end - start for _, (start, end) in group]
    first, last = group[0][1][0], group[-1][1][1]
    if last - first == sum(sizes):
        data: BytesLike = plain[first:last]  # most often nothing lies between them, and nothing is copied
    else:
        data = b"".join(plain[start:end] for _, (start, end) in group)
    return encode_frame(KIND_DATA, data, sizes, level), [chunk for chunk, _ in group], sizes


def thread_count(asked: int) -> int:
    """Return how many threads to use: as asked, or for 0 all cores this process may run on, at most 8.

    Each thread costs about 16 MiB of buffers; 8 keep put and get under 256 MiB and are more than disks feed.
    """
    return asked or min(_THREADS_MAX, len(os.sched_getaffinity(0)))
