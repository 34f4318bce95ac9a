"""A stored image as a read-only binary file: seek and read anywhere, many threads at once."""

import io
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from casimg.assemble import ContentReader
from casimg.errors import ClosedError
from casimg.manifest.walk import load_leaf
from casimg.pieces import clear, pieces, read_piece

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class ImageFile(io.RawIOBase):
    """Read a content like a file; every chunk is checked before a byte of it is returned.

    Reads are short only at the end. `read` and `seek` share one position among threads, as every file object does;
    `read_at` has none and is what threads should use.

    Close it when done: until then, or until its lease expires, the space of a deleted image is not given back.
    """

    def __init__(
        self, reader: ContentReader, check_open: Callable[[], None], on_close: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self._reader = reader
        self._check_open = check_open
        self._on_close = on_close
        self._lock = threading.Lock()
        self._position = 0

    @property
    def size(self) -> int:
        """Plain bytes."""
        return self._reader.tree.size

    def close(self) -> None:
        """Close and end the lease; twice is harmless."""
        if not self.closed:
            super().close()
            self._on_close()

    def __del__(self) -> None:
        """Do nothing: a file nobody closed may die inside any transaction of its thread; its lease expires."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_usable()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check_usable()
        with self._lock:
            base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
            if base is None:
                raise ValueError(f"whence {whence} is not 0, 1 or 2")
            if base + offset < 0:
                raise ValueError(f"cannot seek to {base + offset}, before the start")
            self._position = base + offset
            return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill the buffer from the position on and return how many bytes came; 0 at the end.

        Raises: ChunkLostError, NodeDamagedError, and what the backend raises.
        """
        with self._lock:
            self._check_usable()
            view = memoryview(buffer).cast("B")
            count = read_into(self._reader, self._position, view)
            self._position += count
            return count

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`, fewer only at the end. Threads: any, without waiting for each other.

        Raises: as readinto.
        """
        self._check_usable()
        if offset < 0 or size < 0:
            raise ValueError(f"offset {offset} and size {size} must not be negative")
        return bytes(read_range(self._reader, offset, size))

    def _check_usable(self) -> None:
        if self.closed:
            raise ClosedError("this image file")
        self._check_open()


def read_range(reader: ContentReader, offset: int, size: int) -> bytearray:
    """Return up to `size` bytes of a content at `offset`, fewer only at its end."""
    buffer = bytearray(max(0, min(size, reader.tree.size - offset)))
    read_into(reader, offset, memoryview(buffer))
    return buffer


def read_into(reader: ContentReader, offset: int, view: memoryview) -> int:
    """Fill `view` with the content's bytes at `offset`; returns how many came, fewer only at the end."""
    tree = reader.tree
    end = min(tree.size, offset + len(view))
    if end <= offset:
        return 0
    at = 0
    for piece in pieces(reader, offset, end):
        part = view[at : at + piece.size]
        if piece.leaf is None:
            clear(part)
        else:
            read_piece(reader, load_leaf(reader.node, tree, piece.number, piece.leaf), piece.start, part)
        at += piece.size
    return at
