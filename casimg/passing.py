"""The bytes of an upload on their way into segments: held against the size that was said, and hashed from there.

Between a source and the ingest: the source's bytes are read straight into the segment buffers of the ingest, and
hashed out of these; so nothing is copied on the way. The ingest keeps a buffer until its bytes were hashed
(`casimg.segments.SegmentWatch`), which makes the source wait. What is likely known as a whole is not hashed at all
(`casimg.speculating`).

What it must not know: images, HTTP.
"""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import BinaryIO, Final, cast

from casimg.constants import SEGMENT_SIZE
from casimg.errors import SizeMismatchError
from casimg.hashing import PassHashes
from casimg.ids import NodeId
from casimg.source import FileSource, SourceLike, StreamSource, open_source
from casimg.speculating import Speculation

_log = logging.getLogger("casimg.passing")
_CHECK_EVERY_S: Final = 0.5


class Passing:
    """Hashes of what passes, beside its ingest: the watch of that ingest.

    While a speculation goes on, segments are held until they are decided, and not hashed. When it ends a thread reads
    back what went by, and hands over to what has come meanwhile; the ingest waits when it has no more buffers.

    Args:
        pulse: called now and then while somebody waits: says that the session lives, and raises when it shall end.
    Threads: the ingest's; `close` ends it in any case.
    """

    def __init__(self, pulse: Callable[[], None]) -> None:
        self._hashes = PassHashes()
        self._pulse = pulse
        self._size = 0
        self._speculation: Speculation | None = None
        self._skipped_count = 0  # segments of the beginning that were not hashed as they passed
        self._held: deque[memoryview] = deque()  # segments that are not decided, or come after what is read back
        self._lock = threading.Lock()
        self._reading_back: threading.Thread | None = None
        self._is_live = True  # whether what comes is hashed at once
        self._is_closed = False
        self._error: BaseException | None = None

    def speculate(self, speculation: Speculation) -> None:
        """Let this say whether what comes must be hashed; before the first byte."""
        self._speculation, self._is_live = speculation, False

    def take(self, view: memoryview) -> None:
        """Take the bytes of the next segment, which stay where they are until `is_free`."""
        with self._lock:
            self._size += len(view)
            if self._is_live:
                self._hashes.give(view)
            else:
                self._held.append(view)

    @property
    def is_waiting(self) -> bool:
        """Whether what has come shall be decided at once, so that its hashes can begin."""
        return self._speculation is not None and not self._skipped_count

    def decided(self, leaf: NodeId | None, *, is_known: bool) -> None:
        """Learn what the next segment is."""
        speculation = self._speculation
        if speculation is None:
            return
        if speculation.goes_on(leaf, is_known=is_known):
            self._held.popleft()
            self._skipped_count += 1
        else:
            self._go_live(speculation)

    def is_free(self, number: int) -> bool:
        """Tell whether the bytes of a segment are needed no more."""
        return number < self._skipped_count or self._hashes.hashed_size >= self._end(number)

    def wait_free(self, number: int) -> None:
        """Wait until the bytes of a decided segment are needed no more. Raises: what reading back raises."""
        if number >= self._skipped_count:
            self._wait(self._end(number))

    def digests(self, root: NodeId | None) -> Mapping[str, str]:
        """Return the digests of all that has passed, in hex, by algorithm; all segments are decided.

        Args:
            root: of all that has passed.
        Raises: what reading back raises.
        """
        speculation = self._speculation
        if speculation is not None:
            known = speculation.hashes(root, self._size) if self._skipped_count else None
            if known is not None:
                return known
            self._go_live(speculation)
        self._wait(self._size)
        if self._reading_back is not None:
            self._reading_back.join()
        return self._hashes.digests()

    def close(self) -> None:
        """End the threads; twice is harmless."""
        self._is_closed = True
        self._hashes.close()
        if self._reading_back is not None:
            self._reading_back.join()
            self._hashes.close()

    def _go_live(self, speculation: Speculation) -> None:
        """Hash all that has come, from the beginning, and what comes as it comes."""
        self._speculation = None
        if not self._skipped_count:
            self._hand_over()
            return
        speculation.end()
        _log.info("upload.read_back size=%d", self._skipped_count * SEGMENT_SIZE)
        self._reading_back = threading.Thread(
            target=self._read_back, args=(speculation,), name="casimg-read-back", daemon=True
        )
        self._reading_back.start()

    def _read_back(self, speculation: Speculation) -> None:
        try:
            with speculation.turn(self._check_open):
                self._hash_again(speculation)
            self._hand_over()
        except _ClosedError:
            return
        except BaseException as error:  # raised again where the upload waits
            self._error = error
        speculation.failed(self._error)

    def _hash_again(self, speculation: Speculation) -> None:
        buffers = [bytearray(SEGMENT_SIZE) for _ in range(2)]
        ends = [0, 0]

        def take_buffer() -> bytearray:
            buffers.reverse()
            ends.reverse()
            self._wait_hashed(ends[0])
            return buffers[0]

        for part in speculation.read_back(self._size, take_buffer):
            self._hashes.give(part)
            ends[0] = self._hashes.given_size
            self._wait_hashed(ends[0] - 2 * SEGMENT_SIZE)
        self._wait_hashed(ends[0])

    def _wait_hashed(self, size: int) -> None:
        while not self._hashes.wait(size, _CHECK_EVERY_S):
            self._check_open()
        self._check_open()

    def _hand_over(self) -> None:
        with self._lock:
            for view in self._held:
                self._hashes.give(view)
            self._held.clear()
            self._is_live = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise _ClosedError

    def _end(self, number: int) -> int:
        return min(self._size, (number + 1) * SEGMENT_SIZE)

    def _wait(self, size: int) -> None:
        while not self._hashes.wait(size, _CHECK_EVERY_S):
            if self._error is not None:
                raise self._error
            self._pulse()


class _ClosedError(Exception):
    """Nobody wants what is being read back."""


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
