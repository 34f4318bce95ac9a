"""Downloads through the cache of whole images: out of a file of it, or past one that is being written.

Segments of a file that were checked are kept in memory as those of the repository are, so that what many ask for is
hashed once.

Both are what a handler sends: iterators of bytes that the server closes. What goes wrong with the cache costs a client
nothing but time.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, Protocol, runtime_checkable

from casimg.constants import SEGMENT_SIZE
from casimg.ids import ContentId, NodeId, chunk_id
from casimg.kept import KeptSegments
from casimg_api.cache_folder import Fill
from casimg_api.cached_file import BLOCK_SIZE, CachedFile, CachedFileError

_log: Final = logging.getLogger("casimg_api.cache_streams")


class Parts(Protocol):
    """Bytes on their way to a client."""

    def __next__(self) -> bytes: ...
    def close(self) -> None: ...


@runtime_checkable
class Views(Protocol):
    """Parts that can also be had without a copy: each may change when the next one is asked for."""

    def views(self) -> "Iterator[bytes | memoryview]": ...


GoOn = Callable[[CachedFileError, int, int], Parts]
"""Returns bytes [start, end) from the repository, because the file cannot give them."""


class CachedStream:
    """Bytes of a file of the cache; where it turns out to be damaged, those of the repository.

    Args:
        file: closed with the stream.
        go_on: asked once, when the file is damaged later on.
        kept: where segments are kept in memory; None keeps none.
    Raises: CachedFileError when the first part is damaged: then nothing was sent, and the file is the caller's.
    Threads: one at a time.
    """

    def __init__(self, file: CachedFile, start: int, end: int, go_on: GoOn, kept: KeptSegments | None = None) -> None:
        self._file = file
        self._go_on = go_on
        self._at = start
        self._end = end
        self._read = file.parts(start, end) if kept is None or not kept.is_on else _kept_parts(file, start, end, kept)
        self._first = next(self._read, None)
        self._rest: Parts | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part = self._next()
        return part if isinstance(part, bytes) else bytes(part)

    def views(self) -> "Iterator[bytes | memoryview]":
        """Return the parts without a copy."""
        with suppress(StopIteration):
            while True:
                yield self._next()

    def _next(self) -> bytes | memoryview:
        if self._rest is not None:
            return next(self._rest)
        try:
            part = next(self._read) if self._first is None else self._first
        except CachedFileError as error:
            self._rest = self._go_on(error, self._at, self._end)
            return next(self._rest)
        self._first = None
        self._at += len(part)
        return part

    def close(self) -> None:
        self._file.close()
        if self._rest is not None:
            self._rest.close()


def _kept_parts(file: CachedFile, start: int, end: int, kept: KeptSegments) -> "Iterator[bytes | memoryview]":
    """Yield bytes [start, end) out of memory, or checked out of the file and kept. Raises: CachedFileError."""
    while start < end:
        number, skipped = divmod(start, SEGMENT_SIZE)
        stop = min(end, start - skipped + SEGMENT_SIZE)
        key = _key(file.content_id, number)
        found = kept.find(key)
        if found is not None:
            for at in range(skipped, skipped + stop - start, BLOCK_SIZE):
                yield found.view[at : min(at + BLOCK_SIZE, skipped + stop - start)]
        elif skipped or stop < min(file.size, start + SEGMENT_SIZE) or not file.has_data(start, stop):
            yield from file.parts(start, stop)
        else:
            whole = bytearray()
            for part in file.parts(start, stop):
                whole += part
                yield part
            kept.offer(key, memoryview(whole))
        start = stop


def _key(content_id: ContentId, number: int) -> NodeId:
    """Return what a segment of a cached file is known by, which no leaf is."""
    return NodeId(chunk_id(f"segment {number} of content {content_id} in a cached file".encode()))


class FillingStream:
    """A stream of a whole image whose parts are also written to a file of the cache. Threads: one at a time.

    Args:
        finish: given the file at the end, when all of the image went by.
    """

    def __init__(self, stream: Parts, fill: Fill, finish: Callable[[Fill], None]) -> None:
        self._stream = stream
        self._finish = finish
        self._fill: Fill | None = fill

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part = next(self._stream)
        if self._fill is not None:
            try:
                self._fill.write(part)
            except (OSError, ValueError) as error:  # a full disk, mostly: the client gets its bytes all the same
                _log.warning("cache.not_filled image=%s why=%s", self._fill.image_id, error)
                self._fill.abandon()
                self._fill = None
        return part

    def close(self) -> None:
        self._stream.close()
        fill, self._fill = self._fill, None
        if fill is None:
            return
        if fill.is_whole:
            self._finish(fill)
        else:  # the client went away
            fill.abandon()
