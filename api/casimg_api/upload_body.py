"""The bytes of an upload as they come off the connection: counted, bounded, inspected, and known to be whole.

Nothing of them is kept here: each part goes on to the ingest before the next one is read, so a slow repository makes
the client wait, not the memory grow.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from casimg_api.errors import HttpError
from casimg_api.inspection import FormatRefusedError, Inspection

PART_SIZE_MAX: Final = 256 << 10
_READ_SIZE_MAX: Final = 1 << 20
"""So much may come before limits are looked at."""
_DRAIN_SIZE_MAX: Final = 1 << 30
_DRAIN_TIME_MAX_S: Final = 20.0
_DRAIN_PART_SIZE: Final = 256 << 10

T = TypeVar("T")


class ReadsBytes(Protocol):
    """`wsgi.input` of any server."""

    def read(self, size: int, /) -> bytes: ...


class ClientGoneError(Exception):
    """The connection ended before the last byte had come; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """No more bytes than `size_max`; what to tell the client when there are, given the bytes seen or announced."""

    size_max: int
    explain: Callable[[int], str]

    def check(self, size: int) -> None:
        """Raise 413 for a size beyond the limit."""
        if size > self.size_max:
            raise HttpError(413, self.explain(size))


class UploadBody:
    """A binary file for the ingest to read, or to go through by parts.

    Args:
        stream: the server's; one that ends a chunked body itself.
        length: of the body as announced by its header; None for a chunked one.
    Threads: one at a time.
    """

    def __init__(self, stream: ReadsBytes, length: int | None) -> None:
        self._stream = stream
        self._readinto: Callable[[memoryview], int] | None = getattr(stream, "readinto", None)
        self._length = length
        self._limits: Sequence[SizeLimit] = ()
        self._inspection: Inspection | None = None
        self._ended = False
        self.size = 0
        """Bytes that have come so far."""

    def look(self, limits: Sequence[SizeLimit], inspection: Inspection | None) -> None:
        """Say what to hold the bytes against, before the first is read.

        Args:
            limits: crossed in the middle, the upload is over.
            inspection: sees every byte; None when there is nothing to look for.
        """
        self._limits = limits
        self._inspection = inspection

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end. Raises: ClientGoneError, HttpError 413."""
        part = self._next(min(size, PART_SIZE_MAX))
        self._see(memoryview(part))
        return part

    def readinto(self, buffer: memoryview) -> int:
        """Put bytes into a buffer and return how many, 0 at the end. Raises: ClientGoneError, HttpError 413."""
        count = self._next_into(buffer[:_READ_SIZE_MAX])
        self._see(buffer[:count])
        return count

    def _see(self, part: memoryview) -> None:
        if not len(part):
            return
        self.size += len(part)
        for limit in self._limits:
            limit.check(self.size)
        if self._inspection is not None:
            self._inspection.feed(part)

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(PART_SIZE_MAX), b"")

    def finish(self) -> int | None:
        """Return the virtual size of what has come, when that is known. Raises: HttpError 415."""
        if self._inspection is None:
            return None
        try:
            return self._inspection.finish()
        except FormatRefusedError as error:
            raise HttpError(415, "", detail=str(error)) from None

    def drain(self) -> None:
        """Read on and forget, for a while: a client that is still sending does not listen yet. Never raises."""
        give_up_s = time.monotonic() + _DRAIN_TIME_MAX_S
        drained = 0
        try:
            while drained < _DRAIN_SIZE_MAX and time.monotonic() < give_up_s:
                part = self._next(_DRAIN_PART_SIZE)
                if not part:
                    return
                self.size += len(part)
                drained += len(part)
        except ClientGoneError:
            return

    def _next(self, size: int) -> bytes:
        part = self._ask(size, self._stream.read)
        return part or b""

    def _next_into(self, buffer: memoryview) -> int:
        readinto = self._readinto
        if readinto is None:
            part = self._next(len(buffer))
            buffer[: len(part)] = part
            return len(part)
        return self._ask(len(buffer), lambda size: readinto(buffer[:size])) or 0

    def _ask(self, size: int, read: Callable[[int], T]) -> T | None:
        """Return what the server gives for at most so many bytes; None or nothing at the end."""
        if self._length is not None:
            size = min(size, self._length - self.size)
        if self._ended:
            return None
        try:
            found = read(size) if size else None
        except Exception as error:  # each server has errors of its own for a connection that breaks
            self._ended = True
            raise ClientGoneError(f"after {self.size} bytes: {error}") from error
        if not found:
            self._ended = True
            if self._length is not None and self.size < self._length:
                raise ClientGoneError(f"after {self.size} of {self._length} bytes")
        return found
