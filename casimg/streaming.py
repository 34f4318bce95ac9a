"""A range of a content as bytes in order, decoded ahead by threads that all streams of a process share.

End of the way of the data for whoever sends an image on: what a restore is to a file, this is to a socket. A stream
hands out parts; while one is on its way, the next segments are read, decoded and checked.

Memory: every stream may hold one segment, and more while there are some left of those that all share
(`casimg.read_ahead`). So one reader uses all cores, and a thousand slow ones keep a segment each.

What it must not know: HTTP.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from casimg.assemble import ContentReader
from casimg.catalog import ImageRow
from casimg.constants import KIB
from casimg.ids import NodeId
from casimg.ingest import thread_count
from casimg.leasing import open_leased
from casimg.manifest.walk import load_leaf
from casimg.pieces import Piece, pieces, read_piece
from casimg.read_ahead import ReadAhead
from casimg.wiring import Wiring

PART_SIZE: Final = 256 * KIB
"""Bytes of a part: small enough to stay in a core's cache from the copy to the socket."""
_ZEROS: Final = bytes(PART_SIZE)


@dataclass(slots=True)
class _Read:
    """A piece that is being read, or zeros."""

    piece: Piece
    buffer: bytearray | None = None
    future: "Future[None] | None" = None


class ContentStream:
    """Bytes [start, end) of a content in parts, every chunk verified before a byte of it is handed out.

    An iterator of `bytes`; whoever has it closes it, also in the middle.

    Args:
        ahead: threads and buffers, shared with other streams.
        on_close: called once.
    Threads: one at a time.
    """

    def __init__(
        self, reader: ContentReader, ahead: ReadAhead, start: int, end: int, on_close: Callable[[], None] = lambda: None
    ) -> None:
        if not 0 <= start <= end <= reader.tree.size:
            raise ValueError(f"range {start} to {end} is not within a content of {reader.tree.size} bytes")
        self.size = end - start
        self._reader = reader
        self._ahead = ahead
        self._on_close = on_close
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
        if self._running and self._running[0].future is not None:
            self._running[0].future.result()

    def __iter__(self) -> "ContentStream":
        return self

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        """Stop reading and let go of everything; twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._parts.close()
        for read in self._running:
            if read.future is not None:
                read.future.cancel()
                # One that runs writes into its buffer until it ends.
                read.future.add_done_callback(lambda _, read=read: self._give(read))  # type: ignore[misc]
        self._running.clear()
        self._plan = iter(())
        self._on_close()

    def _hand_out(self) -> Generator[bytes, None, None]:
        while True:
            self._read_on()
            if not self._running:
                return
            read = self._running[0]
            if read.future is not None:
                read.future.result()
            self._running.popleft()
            try:
                self._read_on()
                yield from _zeros(read.piece.size) if read.buffer is None else _slices(read.buffer, read.piece.size)
            finally:
                self._give(read)

    def _read_on(self) -> None:
        """Begin to read pieces, as far ahead as there are threads and buffers."""
        while len(self._running) <= self._ahead.threads:
            piece = self._next or next(self._plan, None)
            self._next = piece
            if piece is None:
                return
            read = _Read(piece)
            if piece.leaf is not None:
                read.buffer = self._ahead.take(self._held_count)
                if read.buffer is None:
                    return
                self._held_count += 1
                read.future = self._ahead.submit(self._job(piece, piece.leaf, read.buffer))
            self._running.append(read)
            self._next = None

    def _job(self, piece: Piece, leaf: NodeId, buffer: bytearray) -> Callable[[], None]:
        reader = self._reader

        def job() -> None:
            node = load_leaf(reader.node, reader.tree, piece.number, leaf)
            read_piece(reader, node, piece.start, memoryview(buffer)[: piece.size], by_runs=True)

        return job

    def _give(self, read: _Read) -> None:
        with self._lock:  # after a close a worker gives back what it was reading into
            buffer, read.buffer = read.buffer, None
            if buffer is not None:
                self._held_count -= 1
                self._ahead.give(buffer, self._held_count)


def _zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // PART_SIZE):
        yield _ZEROS
    if size % PART_SIZE:
        yield _ZEROS[: size % PART_SIZE]


def _slices(buffer: bytearray, size: int) -> Iterator[bytes]:
    view = memoryview(buffer)
    for at in range(0, size, PART_SIZE):
        yield bytes(view[at : min(at + PART_SIZE, size)])


def open_stream(
    wiring: Wiring,
    image: ImageRow,
    start: int = 0,
    end: int | None = None,
    *,
    threads: int = 0,
    stores: Sequence[str] = (),
) -> ContentStream:
    """Open bytes [start, end) of an image under a lease that ends when the stream is closed.

    Args:
        threads: cores to use, together with all other streams of this process; 0 for all, at most 8.
        stores: backends in the order in which they shall be tried, before all others.
    Raises: ImageNotFoundError when the image has no data or its content went meanwhile, ValueError for a range that
        is not within it.
    """
    reader, lease = open_leased(wiring, image, stores)
    try:
        ahead = wiring.read_ahead(thread_count(threads))
        return ContentStream(reader, ahead, start, reader.tree.size if end is None else end, lease.end)
    except BaseException:
        lease.end()
        raise
