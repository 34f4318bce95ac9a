"""A range of a content as bytes in order, decoded ahead by threads that all streams of a process share.

End of the way of the data for whoever sends an image on: what a restore is to a file, this is to a socket. A stream
hands out parts; while one is on its way, the next segments are read, decoded and checked. Segments that are kept
(`casimg.kept`) are handed out from where they are.

Memory: every stream may hold one segment, and more while there are some left of those that all share
(`casimg.read_ahead`). So one reader uses all cores, and a thousand slow ones keep a segment each.

A short range is all there before its first byte goes out, so nothing is held for it. Any other stream is under a lease.

What it must not know: HTTP.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Final

from casimg.assemble import ContentReader
from casimg.catalog import ImageRow
from casimg.constants import KIB, SEGMENT_SIZE
from casimg.ids import NodeId
from casimg.ingest import thread_count
from casimg.kept import KeptSegment
from casimg.leasing import open_late
from casimg.manifest.shape import segment_size
from casimg.manifest.walk import load_leaf
from casimg.pieces import Piece, pieces, read_piece
from casimg.read_ahead import ReadAhead
from casimg.wiring import Wiring

PART_SIZE: Final = 256 * KIB
"""Bytes of a part: small enough to stay in a core's cache from the copy to the socket."""
_ZEROS: Final = bytes(PART_SIZE)
_SHORT_COUNT: Final = 2
"""Segments of a range that is read without a lease, all of it at once."""


@dataclass(slots=True)
class _Read:
    """A piece that is there, or is being read into a buffer, or is zeros."""

    piece: Piece
    view: memoryview | None = None
    kept: KeptSegment | None = None
    buffer: bytearray | None = None
    future: "Future[KeptSegment | None] | None" = None
    is_joined: bool = False
    """Another stream reads the segment, to be kept."""


class ContentStream:
    """Bytes [start, end) of a content in parts, every chunk verified before a byte of it is handed out.

    An iterator of `bytes`; whoever has it closes it, also in the middle.

    Args:
        ahead: threads, buffers and kept segments, shared with other streams.
        on_close: called once.
        on_read: called before something is read: progress.
        on_failure: called when something could not be read.
        hold: called by `begin` unless all is there then, so that what is left can still be read later on.
    Threads: one at a time.
    """

    def __init__(
        self,
        reader: ContentReader,
        ahead: ReadAhead,
        start: int,
        end: int,
        on_close: Callable[[], None] = lambda: None,
        *,
        on_read: Callable[[], None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
        hold: Callable[[], None] = lambda: None,
    ) -> None:
        if not 0 <= start <= end <= reader.tree.size:
            raise ValueError(f"range {start} to {end} is not within a content of {reader.tree.size} bytes")
        self.size = end - start
        self._reader = reader
        self._ahead = ahead
        self._on_close = on_close
        self._on_read = on_read
        self._on_failure = on_failure
        self._hold = hold
        self._plan = pieces(reader, start, end)
        self._next: Piece | None = None
        self._running: deque[_Read] = deque()
        self._held_count = 0
        self._lock = threading.Lock()
        self._parts = self._hand_out()
        self._closed = False

    def begin(self) -> None:
        """Wait until the first part can be handed out: what is wrong with it is raised here.

        Raises: ChunkLostError, NodeDamagedError, ImageNotFoundError, and what the backend raises.
        """
        self._read_on()
        self._next = self._next or self._plan_on()
        is_short = self._next is None and len(self._running) <= _SHORT_COUNT
        if not is_short:
            self._hold()
        for read in list(self._running) if is_short else list(self._running)[:1]:
            self._wait(read)

    def __iter__(self) -> "ContentStream":
        return self

    def __next__(self) -> bytes:
        part = next(self._parts)
        return part if isinstance(part, bytes) else bytes(part)

    def views(self) -> "Iterator[bytes | memoryview]":
        """Return the parts without a copy: each may change when the next one is asked for, or the stream is closed."""
        return self._parts

    def close(self) -> None:
        """Stop reading and let go of everything; twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._parts.close()
        for read in self._running:
            if read.is_joined:
                self._give(read)
            elif read.future is not None:
                read.future.cancel()
                # One that runs writes into its buffer until it ends.
                read.future.add_done_callback(lambda _, read=read: self._give(read))  # type: ignore[misc]
        self._running.clear()
        self._plan = iter(())
        self._on_close()

    def _hand_out(self) -> "Generator[bytes | memoryview, None, None]":
        while True:
            self._read_on()
            if not self._running:
                return
            read = self._running[0]
            self._wait(read)
            self._running.popleft()
            try:
                self._read_on()
                yield from _zeros(read.piece.size) if read.view is None else _slices(read.view)
            finally:
                self._give(read)

    def _read_on(self) -> None:
        """Begin to read pieces, as far ahead as there are threads and buffers."""
        while len(self._running) <= self._ahead.threads:
            piece = self._next = self._next or self._plan_on()
            if piece is None:
                return
            read = _Read(piece)
            if piece.leaf is not None and not self._begin_read(read, piece.leaf):
                return
            self._running.append(read)
            self._next = None

    def _begin_read(self, read: _Read, leaf: NodeId) -> bool:
        """Find a piece where it is kept, or begin to read it; False when there is no buffer for it."""
        kept = self._ahead.kept.find(leaf)
        if kept is not None:
            _take_kept(read, kept)
            return True
        read.buffer = self._ahead.take(self._held_count)
        if read.buffer is None:
            return False
        self._held_count += 1
        read.view = memoryview(read.buffer)[: read.piece.size]
        job = self._job(read.piece, leaf, read.view)
        if read.piece.size < segment_size(self._reader.tree.size, read.piece.number):
            read.future = self._ahead.submit(job)
            return True
        found, is_of_other = self._ahead.join(leaf, job)
        if isinstance(found, KeptSegment):
            _take_kept(read, found)
            self._give(read)
        else:
            read.future, read.is_joined = found, is_of_other
        return True

    def _wait(self, read: _Read) -> None:
        """Wait until a piece is there. Raises: what reading it raises."""
        if read.is_joined and read.future is not None and read.piece.leaf is not None and read.view is not None:
            wait([read.future])
            read.is_joined = False
            # Who was at it may have gone away, or failed, or not been let keep it: then it is read here.
            is_there = not read.future.cancelled() and read.future.exception() is None
            kept = read.future.result() if is_there else None
            if kept is not None:
                _take_kept(read, kept)
                self._give(read)
                return
            read.future = self._ahead.submit(self._job(read.piece, read.piece.leaf, read.view))
        if read.future is not None:
            read.future.result()

    def _plan_on(self) -> Piece | None:
        try:
            return next(self._plan, None)
        except BaseException:
            self._on_failure()
            raise

    def _job(self, piece: Piece, leaf: NodeId, view: memoryview) -> "Callable[[], KeptSegment | None]":
        reader = self._reader

        def job() -> KeptSegment | None:
            self._on_read()
            try:
                node = load_leaf(reader.node, reader.tree, piece.number, leaf)
                read_piece(reader, node, piece.start, view, by_runs=True)
            except BaseException:
                self._on_failure()
                raise
            return self._ahead.kept.offer(leaf, view) if len(view) == node.plain_size else None

        return job

    def _give(self, read: _Read) -> None:
        with self._lock:  # after a close a worker gives back what it was reading into
            buffer, read.buffer = read.buffer, None
            if buffer is not None:
                self._held_count -= 1
                self._ahead.give(buffer, self._held_count)


def _take_kept(read: _Read, kept: KeptSegment) -> None:
    read.kept = kept
    read.view = kept.view[read.piece.start : read.piece.start + read.piece.size]


def _zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // PART_SIZE):
        yield _ZEROS
    if size % PART_SIZE:
        yield _ZEROS[: size % PART_SIZE]


def _slices(view: memoryview) -> Iterator[memoryview]:
    for at in range(0, len(view), PART_SIZE):
        yield view[at : at + PART_SIZE]


def open_stream(
    wiring: Wiring,
    image: ImageRow,
    start: int = 0,
    end: int | None = None,
    *,
    threads: int = 0,
    stores: Sequence[str] = (),
) -> ContentStream:
    """Open bytes [start, end) of an image; what is held for them is let go when the stream is closed.

    Args:
        threads: cores to use, together with all other streams of this process; 0 for all, at most 8.
        stores: backends in the order in which they shall be tried, before all others.
    Raises: ImageNotFoundError when the image has no data or its content went meanwhile, ValueError for a range that
        is not within it.
    """
    end = image.size if end is None else end
    is_long = -(-(end or 0) // SEGMENT_SIZE) - start // SEGMENT_SIZE > _SHORT_COUNT
    reader, lease = open_late(wiring, image, stores, is_long=is_long)
    try:
        return ContentStream(
            reader,
            wiring.read_ahead(thread_count(threads)),
            start,
            reader.tree.size if end is None else end,
            lease.end,
            on_read=lease.touch,
            on_failure=partial(wiring.forget_reader, lease.content_id),
            hold=lease.take,
        )
    except BaseException:
        lease.end()
        raise
