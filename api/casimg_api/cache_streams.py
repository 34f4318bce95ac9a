"""Downloads through the cache of whole images: out of a file of it, or past one that is being written.

Both are what a handler sends: iterators of bytes that the server closes. What goes wrong with the cache costs a client
nothing but time.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from casimg_api.cache_folder import Fill
from casimg_api.cached_file import CachedFile, CachedFileError

_log: Final = logging.getLogger("casimg_api.cache_streams")


class Parts(Protocol):
    """Bytes on their way to a client."""

    def __next__(self) -> bytes: ...
    def close(self) -> None: ...


GoOn = Callable[[CachedFileError, int, int], Parts]
"""Returns bytes [start, end) from the repository, because the file cannot give them."""


class CachedStream:
    """Bytes of a file of the cache; where it turns out to be damaged, those of the repository.

    Args:
        file: closed with the stream.
        go_on: asked once, when the file is damaged later on.
    Raises: CachedFileError when the first part is damaged: then nothing was sent, and the file is the caller's.
    Threads: one at a time.
    """

    def __init__(self, file: CachedFile, start: int, end: int, go_on: GoOn) -> None:
        self._file = file
        self._go_on = go_on
        self._at = start
        self._end = end
        self._read = file.parts(start, end)
        self._first = next(self._read, None)
        self._rest: Parts | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
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
