"""md5 and sha512 of a stream as it passes by: each on a thread of its own, beside the ingest that reads the stream.

In goes what a user may give as a source, out come its bytes in order, in parts, and at the end the digests. Hashing one
stream is slower than cutting and storing known data, and cannot be split: so it sets the pace of an upload, and the
reader waits for the slower of the two.

Memory: per stream at most 2 MiB, the part being given out aside.
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
_QUEUE_COUNT_MAX: Final = 4


class PassHashes:
    """Digests of one stream.

    Args:
        algorithms: names that hashlib knows.
        size: bytes that must come; None when nobody knows.
    Threads: one, which reads the parts, then asks for the digests, and always ends with `close`.
    """

    def __init__(self, algorithms: Iterable[str] = ALGORITHMS, *, size: int | None = None) -> None:
        self._lanes = {name: _Lane(name) for name in algorithms}
        self._expected_size = size
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self.size = 0
        """Bytes that have passed so far."""

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

    def digests(self) -> dict[str, str]:
        """Return the digests of all that has passed, in hex, by algorithm."""
        self._flush()
        return {name: lane.digest() for name, lane in self._lanes.items()}

    def close(self) -> None:
        """End the threads; twice is harmless."""
        for lane in self._lanes.values():
            lane.close()

    def _take(self, part: bytes) -> None:
        if len(part) >= _PART_SIZE_MIN:
            self._flush()
            self._give(part)
            return
        self._waiting.append(part)
        self._waiting_size += len(part)
        if self._waiting_size >= _PART_SIZE_MIN:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._give(b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_size = 0

    def _give(self, part: bytes) -> None:
        for lane in self._lanes.values():
            lane.parts.put(part)


class _Lane:
    """One hash and its thread."""

    def __init__(self, algorithm: str) -> None:
        # md5 tells an image's bytes from others here and protects nobody.
        self._hash: Any = hashlib.new(algorithm, usedforsecurity=False)
        self.parts: queue.Queue[bytes | None] = queue.Queue(_QUEUE_COUNT_MAX)
        self._thread = threading.Thread(target=self._run, name=f"casimg-{algorithm}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (part := self.parts.get()) is not None:
            self._hash.update(part)

    def digest(self) -> str:
        self.close()
        return str(self._hash.hexdigest())

    def close(self) -> None:
        if self._thread.is_alive():
            self.parts.put(None)
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
