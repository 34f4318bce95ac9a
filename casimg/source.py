"""Where plain bytes come from: a file or block device that can be read anywhere, or a stream that is read once.

First part of the way of the data: source in, 4 MiB segments out. Knows holes only as hints that save reading;
what a hole is, the zero scan decides. Knows nothing of chunks.
"""

import contextlib
import errno
import fcntl
import io
import os
import queue
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from casimg.constants import BLOCK_SIZE, MIB
from casimg.errors import SourceChangedError, SourceError

_PIPE_SIZE = 1 * MIB


class FileSource:
    """A regular file or a block device, read by position from many threads.

    Args:
        path: what to read. Symbolic links are followed.
    Raises:
        SourceError: missing, a folder, not readable, or of a kind that cannot be read by position.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.label = os.fspath(path)
        try:
            # Non-blocking, so that a FIFO without a writer is refused instead of waited for.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise SourceError(self.label, _why(error)) from None
        try:
            self._first = os.fstat(self._fd)
            if stat.S_ISREG(self._first.st_mode):
                self.size = self._first.st_size
                self._has_holes = True
            elif stat.S_ISBLK(self._first.st_mode):
                self.size = os.lseek(self._fd, 0, os.SEEK_END)
                self._has_holes = False
            elif stat.S_ISDIR(self._first.st_mode):
                raise SourceError(self.label, "it is a folder; give the disk image file or block device")
            else:
                raise SourceError(self.label, "it is neither a regular file nor a block device; pipe it in as `-`")
        except OSError as error:
            os.close(self._fd)
            raise SourceError(self.label, _why(error)) from None
        except SourceError:
            os.close(self._fd)
            raise

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes at `offset`. Threads: any.

        Raises:
            SourceError: the medium fails.
            SourceChangedError: the source ends early: it was cut while being read.
        """
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(self._fd, [buffer[done:]], offset + done)
            except OSError as error:
                raise SourceError(self.label, f"{_why(error)} at byte {offset + done}") from None
            if count == 0:
                raise SourceChangedError(self.label, f"it ends at byte {offset + done}, it had {self.size} bytes")
            done += count

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) ranges within [start, end) that may hold data, widened to whole blocks.

        A range that the file system reports as a hole for only part of a block is not skipped. Threads: one.
        """
        if not self._has_holes:
            yield start, end
            return
        at = start
        while at < end:
            try:
                data = os.lseek(self._fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                    return
                yield at, end  # the file system cannot tell
                return
            if data >= end:
                return
            hole = os.lseek(self._fd, data, os.SEEK_HOLE)
            low = max(at, data - data % BLOCK_SIZE)
            high = min(end, -(-hole // BLOCK_SIZE) * BLOCK_SIZE)
            yield low, high
            at = high

    def next_data(self, start: int) -> int:
        """Return the offset of the first block at or after `start` that may hold data; `size` when there is none."""
        if not self._has_holes:
            return start
        try:
            data = os.lseek(self._fd, start, os.SEEK_DATA)
        except OSError as error:
            return self.size if error.errno == errno.ENXIO else start
        return max(start, data - data % BLOCK_SIZE)

    def check_unchanged(self) -> None:
        """Raise SourceChangedError when size or modification time are not what they were at the start."""
        now = os.fstat(self._fd)
        if (now.st_size, now.st_mtime_ns) != (self._first.st_size, self._first.st_mtime_ns):
            raise SourceChangedError(
                self.label, "it changed while it was read; stop its writers, snapshot it, or pass --allow-changes"
            )

    def close(self) -> None:
        os.close(self._fd)


class StreamSource:
    """A binary file, a pipe or an iterator of bytes, read once from where it stands; not closed by us."""

    size: int | None = None

    def __init__(self, stream: BinaryIO | Iterable[bytes], label: str) -> None:
        self.label = label
        self._read: Callable[[int], bytes | None] | None = getattr(stream, "read", None)
        self._readinto: Callable[[memoryview], int | None] | None = getattr(stream, "readinto", None)
        self._parts = iter(()) if self._read is not None else iter(stream)
        self._rest = memoryview(b"")
        self.reads_ahead = isinstance(stream, io.FileIO)
        """Only an unbuffered file is read by a thread of ours: what has a lock could not be closed while it waits."""
        if isinstance(stream, io.FileIO):
            _widen_pipe(stream.fileno())

    def read_into(self, buffer: memoryview) -> int:
        """Fill `buffer` and return how many bytes came; fewer than its length only at the end of the stream.

        Raises: SourceError.
        """
        done = 0
        while done < len(buffer):
            count = self._read_some(buffer[done:])
            if count == 0:
                break
            done += count
        return done

    def buffers(self, take_buffer: Callable[[], bytearray]) -> Generator[tuple[bytearray, int], None, None]:
        """Yield buffers and the bytes read into each; only the last is not full.

        Args:
            take_buffer: gives a buffer of any content; all have one size.
        Raises: SourceError.
        """
        return self._read_ahead(take_buffer) if self.reads_ahead else self._read_here(take_buffer)

    def _read_here(self, take_buffer: Callable[[], bytearray]) -> Generator[tuple[bytearray, int], None, None]:
        while True:
            buffer = take_buffer()
            size = self.read_into(memoryview(buffer))
            yield buffer, size
            if size < len(buffer):
                return

    def _read_ahead(self, take_buffer: Callable[[], bytearray]) -> Generator[tuple[bytearray, int], None, None]:
        """Read the next buffer while this one is used; in a daemon thread, since a pipe may never say any more."""
        free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        full: queue.SimpleQueue[tuple[bytearray, int | BaseException]] = queue.SimpleQueue()

        def read() -> None:
            while (buffer := free.get()) is not None:
                try:
                    full.put((buffer, self.read_into(memoryview(buffer))))
                except BaseException as error:  # raised again where the source is used
                    full.put((buffer, error))
                    return

        threading.Thread(target=read, name="casimg-read", daemon=True).start()
        try:
            free.put(take_buffer())
            while True:
                buffer, found = full.get()
                if isinstance(found, BaseException):
                    raise found
                if found == len(buffer):
                    free.put(take_buffer())
                yield buffer, found
                if found < len(buffer):
                    return
        finally:
            free.put(None)

    def _read_some(self, buffer: memoryview) -> int:
        if len(self._rest):
            return self._take(buffer)
        try:
            if self._readinto is not None:
                count = self._readinto(buffer)
                if count is None:
                    raise SourceError(self.label, "it is in non-blocking mode")
                return int(count)
            if self._read is not None:
                part = self._read(len(buffer))
                if part is None:
                    raise SourceError(self.label, "it is in non-blocking mode")
            else:
                part = self._next_part()
        except OSError as error:
            raise SourceError(self.label, _why(error)) from None
        try:
            self._rest = memoryview(part).cast("B")
        except TypeError:
            raise SourceError(self.label, f"it gave {type(part).__name__} instead of bytes") from None
        return self._take(buffer)

    def _next_part(self) -> bytes:
        for part in self._parts:
            if not isinstance(part, (bytes, bytearray, memoryview)):
                raise SourceError(self.label, f"it gave {type(part).__name__} instead of bytes")
            if len(part):  # an empty part is not the end of an iterator
                return bytes(part)
        return b""

    def _take(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        pass


Source = FileSource | StreamSource


def _widen_pipe(fd: int) -> None:
    """Let a pipe hold 1 MiB, so that its ends take turns a sixteenth as often."""
    with contextlib.suppress(OSError):  # no pipe, or the user has as many large ones as the system lets him
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


class _Closes(Protocol):
    def close(self) -> None: ...


SourceLike = str | os.PathLike[str] | BinaryIO | Iterable[bytes]
"""What a user may give as a source: a path, a binary file, or an iterator of bytes."""


def open_source(source: SourceLike) -> Source:
    """Open what a user may give as a source: a path, a binary file, or an iterator of bytes.

    Raises: SourceError.
    """
    if isinstance(source, (str, os.PathLike)):
        if not os.fspath(source):
            raise SourceError("''", "the path is empty")
        return FileSource(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return StreamSource([bytes(source)], "bytes")
    if _is_file(source) or isinstance(source, Iterable):
        name = getattr(source, "name", None)
        return StreamSource(source, str(name) if isinstance(name, (str, Path)) else "the stream")
    raise SourceError(repr(source), "give a path, a binary file, or an iterator of bytes")


def _is_file(stream: object) -> bool:
    return callable(getattr(stream, "read", None))


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
