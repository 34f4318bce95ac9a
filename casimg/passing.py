"""The bytes of an upload on their way into segments: held against the size that was said, and hashed from there.

Between a source and the ingest: the source's bytes are read straight into the segment buffers of the ingest, and
hashed out of these; so nothing is copied on the way. The ingest keeps a buffer until its bytes were hashed
(`casimg.ingest.SegmentWatch`), which makes the source wait.

What it must not know: images, HTTP.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable
from typing import BinaryIO, Final, cast

from casimg.constants import SEGMENT_SIZE
from casimg.errors import SizeMismatchError
from casimg.hashing import PassHashes
from casimg.ids import NodeId
from casimg.source import FileSource, SourceLike, StreamSource, open_source

_PULSE_EVERY_S: Final = 10.0


class Passing:
    """Hashes of what passes, beside its ingest: the watch of that ingest.

    Args:
        pulse: called now and then while somebody waits: the session lives.
    Threads: the ingest's; `close` ends it in any case.
    """

    def __init__(self, pulse: Callable[[], None]) -> None:
        self._hashes = PassHashes()
        self._pulse = pulse
        self._size = 0

    def take(self, view: memoryview) -> None:
        """Take the bytes of the next segment, which stay where they are until `is_free`."""
        self._size += len(view)
        self._hashes.give(view)

    def decided(self, number: int, leaf: NodeId | None, *, is_known: bool) -> None:
        """Learn what a segment is; in order."""

    def is_free(self, number: int) -> bool:
        """Tell whether the bytes of a segment are needed no more."""
        return self._hashes.hashed_size >= self._end(number)

    def wait_free(self, number: int) -> None:
        """Wait until the bytes of a segment are needed no more."""
        self._wait(self._end(number))

    def digests(self) -> dict[str, str]:
        """Return the digests of all that has passed, in hex, by algorithm."""
        self._wait(self._size)
        return self._hashes.digests()

    def close(self) -> None:
        """End the threads; twice is harmless."""
        self._hashes.close()

    def _end(self, number: int) -> int:
        return min(self._size, (number + 1) * SEGMENT_SIZE)

    def _wait(self, size: int) -> None:
        while not self._hashes.wait(size, _PULSE_EVERY_S):
            self._pulse()


class PassingSource(StreamSource):
    """What a user gives as the source of an upload, read once in order, whatever it is.

    Args:
        size: bytes that must come; None when nobody knows.
        pulse: called whenever bytes have come.
    Raises: SourceError.
    """

    def __init__(self, given: SourceLike, passing: Passing, size: int | None, pulse: Callable[[], None]) -> None:
        self._opened = open_source(given)
        self._passing = passing
        self._expected_size = size
        self._pulse = pulse
        self.passed_size = 0
        """Bytes that have come so far."""
        opened = self._opened
        if isinstance(opened, FileSource):
            given = cast(BinaryIO, _InOrder(opened))
        elif isinstance(given, (bytes, bytearray, memoryview)):
            given = [bytes(given)]
        super().__init__(cast("BinaryIO | Iterable[bytes]", given), opened.label)
        self.reads_ahead = False

    def buffers(self, take_buffer: Callable[[], bytearray]) -> Generator[tuple[bytearray, int], None, None]:
        """Yield buffers and the bytes read into each; only the last is not full.

        Raises: SourceError, SizeMismatchError as soon as it is certain.
        """
        with contextlib.closing(self._read_here(take_buffer)) as segments:
            for buffer, size in segments:
                if size < len(buffer):
                    self._check_whole()
                if size:
                    self._passing.take(memoryview(buffer)[:size])
                yield buffer, size

    def close(self) -> None:
        self._opened.close()

    def _read_some(self, buffer: memoryview) -> int:
        count = super()._read_some(buffer)
        self.passed_size += count
        expected = self._expected_size
        if expected is not None and self.passed_size > expected:
            raise SizeMismatchError(expected, self.passed_size)
        self._pulse()
        return count

    def _check_whole(self) -> None:
        expected = self._expected_size
        if expected is not None and self.passed_size != expected:
            raise SizeMismatchError(expected, self.passed_size)


class _InOrder:
    """A file or block device read from its beginning to the end that it had at first."""

    def __init__(self, file: FileSource) -> None:
        self._file = file
        self._at = 0

    def read(self, size: int) -> bytes:
        part = bytearray(size)
        return bytes(part[: self.readinto(memoryview(part))])

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), self._file.size - self._at)
        if not size:
            self._file.check_unchanged()
            return 0
        self._file.read_into(self._at, buffer[:size])
        self._at += size
        return size
