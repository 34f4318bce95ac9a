"""md5 and sha512 of a stream as it passes by: each on a thread of its own, beside whoever reads the stream.

In go bytes in order, in parts that stay as they are until they were hashed; out come at the end the digests. Hashing
one stream is slower than cutting and storing known data, and cannot be split: so it sets the pace of an upload whose
content is not known (`casimg.passing`), and the reader waits for the slower of the two.

Memory: nothing is copied; whoever gives parts bounds what waits by `wait`.
"""

import contextlib
import hashlib
import os
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Final

from casimg.constants import MIB
from casimg.errors import SizeMismatchError, SourceError
from casimg.source import FileSource, SourceLike

ALGORITHMS: Final = ("md5", "sha512")
_PART_SIZE_MAX: Final = MIB // 4
_PART_SIZE_MIN: Final = 64 * 1024  # below it, handing a part to two threads costs as much as hashing it
_UNHASHED_SIZE_MAX: Final = MIB
_STEP_SIZE: Final = MIB  # a lane says so often how far it is


class PassHashes:
    """Digests of one stream.

    Args:
        algorithms: names that hashlib knows.
        size: bytes that must come through `passing`; None when nobody knows.
    Threads: one at a time gives parts, any may wait; `close` ends it in any case.
    """

    def __init__(self, algorithms: Iterable[str] = ALGORITHMS, *, size: int | None = None) -> None:
        self._progress = threading.Condition()
        self._lanes = {name: _Lane(name, self._progress) for name in algorithms}
        self._expected_size = size
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self.size = 0
        """Bytes that have passed so far."""
        self.given_size = 0
        """Bytes that were given to be hashed."""

    def passing(self, source: SourceLike) -> Generator[bytes, None, None]:
        """Yield the bytes of a source, in parts, while they are hashed.

        Raises: SourceError, SizeMismatchError as soon as it is certain, and what an iterator raises.
        """
        expected = self._expected_size
        for part in _parts(source):
            self.size += len(part)
            if expected is not None and self.size > expected:
                raise SizeMismatchError(expected, self.size)
            self._take(part)
            yield part
        if expected is not None and self.size != expected:
            raise SizeMismatchError(expected, self.size)

    def give(self, part: bytes | memoryview) -> None:
        """Hash these bytes next; they must stay as they are until `hashed_size` is past them. Never waits."""
        self.given_size += len(part)
        for lane in self._lanes.values():
            lane.give(part)

    @property
    def hashed_size(self) -> int:
        """Bytes that all hashes have seen."""
        return min(lane.hashed_size for lane in self._lanes.values())

    def wait(self, size: int, time_max_s: float | None = None) -> bool:
        """Wait until so many bytes were hashed; False when the time is over first."""
        with self._progress:
            return self._progress.wait_for(lambda: self.hashed_size >= size, time_max_s)

    def digests(self) -> dict[str, str]:
        """Return the digests of all that was given, in hex, by algorithm."""
        self._flush()
        return {name: lane.digest() for name, lane in self._lanes.items()}

    def close(self) -> None:
        """End the threads, whatever they have not hashed; twice is harmless."""
        for lane in self._lanes.values():
            lane.close()

    def _take(self, part: bytes) -> None:
        if len(part) >= _PART_SIZE_MIN:
            self._flush()
            self.give(part)
        else:
            self._waiting.append(part)
            self._waiting_size += len(part)
            if self._waiting_size >= _PART_SIZE_MIN:
                self._flush()
        self.wait(self.given_size - _UNHASHED_SIZE_MAX)

    def _flush(self) -> None:
        if self._waiting:
            self.give(b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_size = 0


class _Lane:
    """One hash and its thread, which begins with the first part.

    Args:
        progress: told whenever more was hashed.
    """

    def __init__(self, algorithm: str, progress: threading.Condition) -> None:
        self._name = algorithm
        # md5 tells an image's bytes from others here and protects nobody.
        self._hash: Any = hashlib.new(algorithm, usedforsecurity=False)
        self._progress = progress
        self._parts: queue.SimpleQueue[bytes | memoryview | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_over = False
        self.hashed_size = 0

    def give(self, part: bytes | memoryview) -> None:
        self._parts.put(part)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"casimg-{self._name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (part := self._parts.get()) is not None:
            view = memoryview(part)
            for at in range(0, len(view), _STEP_SIZE):
                if self._is_over:
                    return
                step = view[at : at + _STEP_SIZE]
                self._hash.update(step)
                with self._progress:
                    self.hashed_size += len(step)
                    self._progress.notify_all()

    def digest(self) -> str:
        self._end()
        return str(self._hash.hexdigest())

    def close(self) -> None:
        self._is_over = True
        self._end()

    def _end(self) -> None:
        if self._thread is not None:
            self._parts.put(None)
            self._thread.join()


def _parts(source: SourceLike) -> Iterator[bytes]:
    """Yield a source's bytes in parts of at most 256 KiB, none of them empty. Raises: SourceError."""
    if isinstance(source, (str, os.PathLike)):
        yield from _file_parts(source)
        return
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = [bytes(source)]
    read = getattr(source, "read", None)
    given = _read_parts(read) if callable(read) else iter(source)
    for part in given:
        if not isinstance(part, (bytes, bytearray, memoryview)):
            raise SourceError("the stream", f"it gave {type(part).__name__} instead of bytes")
        if isinstance(part, bytes) and 0 < len(part) <= _PART_SIZE_MAX:
            yield part
            continue
        view = memoryview(part).cast("B")
        for start in range(0, len(view), _PART_SIZE_MAX):
            yield bytes(view[start : start + _PART_SIZE_MAX])


def _read_parts(read: Any) -> Iterator[Any]:
    while True:
        part = read(_PART_SIZE_MAX)
        if part is None:
            raise SourceError("the stream", "it is in non-blocking mode")
        if isinstance(part, (bytes, bytearray, memoryview)) and not part:
            return
        yield part


def _file_parts(path: str | os.PathLike[str]) -> Iterator[bytes]:
    with contextlib.closing(FileSource(path)) as file:
        for start in range(0, file.size, _PART_SIZE_MAX):
            part = bytearray(min(_PART_SIZE_MAX, file.size - start))
            file.read_into(start, memoryview(part))
            yield bytes(part)
        file.check_unchanged()
