"""The file of a whole image in a server's cache: its bytes, and behind them what they are checked by.

```
bytes of the image; blocks of zeros are holes
32 bytes for each block of 256 KiB: its BLAKE3; zeros for a block of zeros, which is never read
footer: magic, version, block size, size, stored size, content id, BLAKE3 of all behind the image's bytes
```

One file, so that one rename makes both be there. What power loss, a full disk or a bad disk leaves of it is told from a
good one when it is opened, or when the block is read: no byte goes out that was not checked since it was read.
"""

import errno
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from blake3 import blake3

from casimg.constants import KIB
from casimg.errors import DamageError
from casimg.ids import ContentId

BLOCK_SIZE: Final = 256 * KIB
"""Bytes that are checked, and sent, at once: they stay in a core's cache from the hash to the socket."""
_SUM_SIZE: Final = 32
_ZERO_SUM: Final = bytes(_SUM_SIZE)
_ZEROS: Final = bytes(BLOCK_SIZE)
_MAGIC: Final = b"casimgCF"
_VERSION: Final = 1
_FOOTER: Final = struct.Struct("<8sIIQQ32s")
_TAIL_SIZE: Final = _FOOTER.size + _SUM_SIZE
_NO_FILE: Final = (errno.ELOOP, errno.ENXIO, errno.ENODEV)
"""What opening a link, a socket or a device says."""


class CachedFileError(DamageError):
    """A file of the cache is not what was written: it goes, and the repository is read instead."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"the cached file {path} cannot be used: {why}")


class CachedFileWriter:
    """Writes a file of the cache. Threads: one at a time.

    Args:
        fd: open for writing, empty; stays the caller's.
        content_id: of the bytes, so that they are never taken for an image's other ones.
        size: bytes that must come.
    """

    def __init__(self, fd: int, content_id: ContentId, size: int) -> None:
        self.size = size
        self.written_size = 0
        self._fd = fd
        self._content_id = content_id
        self._offset = 0
        self._data_size = 0
        self._held = bytearray()
        self._sums = bytearray()

    def write(self, part: bytes) -> None:
        """Take the next bytes. Raises: OSError, ValueError for more than there should be."""
        self.written_size += len(part)
        if self.written_size > self.size:
            raise ValueError(f"more than {self.size} bytes")
        if not self._held and len(part) == BLOCK_SIZE:  # most parts are blocks, which need no copy
            self._put(part)
            return
        view = memoryview(part)
        while view:
            taken = min(BLOCK_SIZE - len(self._held), len(view))
            self._held += view[:taken]
            view = view[taken:]
            if len(self._held) == BLOCK_SIZE:
                self._flush()

    def finish(self) -> int:
        """Write what is behind the bytes, make all of it last, and return what it takes without holes.

        Raises: OSError, ValueError when bytes are missing.
        """
        if self.written_size != self.size:
            raise ValueError(f"{self.written_size} bytes of {self.size}")
        if self._held:
            self._flush()
        stored_size = self._data_size + len(self._sums) + _TAIL_SIZE
        footer = _FOOTER.pack(_MAGIC, _VERSION, BLOCK_SIZE, self.size, stored_size, self._content_id.encode())
        tail = bytes(self._sums) + footer
        _write_all(self._fd, tail + blake3(tail).digest(), self.size)
        os.fsync(self._fd)
        return stored_size

    def _flush(self) -> None:
        self._put(bytes(self._held))
        self._held.clear()

    def _put(self, block: bytes) -> None:
        if _is_zeros(block):
            self._sums += _ZERO_SUM
        else:
            _write_all(self._fd, block, self._offset)
            self._sums += blake3(block).digest()
            self._data_size += len(block)
        self._offset += len(block)


class CachedFile:
    """A file of the cache, open for reading; whoever has it closes it. It may lose its name meanwhile.

    Raises: FileNotFoundError, CachedFileError for what is no file of ours or not a whole one, OSError.
    Threads: any may read.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        # Never through a link, never waiting for a pipe's other end.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags)
        except OSError as error:
            if error.errno in _NO_FILE:
                raise CachedFileError(self._path, error.strerror or str(error)) from None
            raise  # it is not there, or this process has too much open
        try:
            self._read_tail()
        except BaseException:
            self.close()
            raise

    def _read_tail(self) -> None:
        found = os.fstat(self._fd)
        self.identity = (found.st_dev, found.st_ino)
        if not stat.S_ISREG(found.st_mode) or found.st_size < _TAIL_SIZE:
            raise CachedFileError(self._path, "it is no file, or too short for one")
        tail = self._read(found.st_size - _TAIL_SIZE, _TAIL_SIZE)
        magic, version, block_size, size, stored_size, content_id = _FOOTER.unpack(tail[: _FOOTER.size])
        if magic != _MAGIC or version != _VERSION or block_size != BLOCK_SIZE:
            raise CachedFileError(self._path, "it does not end as our files do")
        sums_size = -(-size // BLOCK_SIZE) * _SUM_SIZE
        if size + sums_size + _TAIL_SIZE != found.st_size:
            raise CachedFileError(self._path, "its size is not what its end says")
        self._sums = self._read(size, sums_size)
        if blake3(self._sums + tail[: _FOOTER.size]).digest() != tail[_FOOTER.size :]:
            raise CachedFileError(self._path, "its sums are damaged")
        self.size: int = size
        self.stored_size: int = stored_size
        self.content_id = ContentId(content_id.decode("ascii", "replace"))

    def parts(self, start: int, end: int) -> Iterator[bytes]:
        """Yield bytes [start, end) in parts, each checked after it was read.

        Raises: CachedFileError, also for what the disk refuses.
        """
        while start < end:
            number, skipped = divmod(start, BLOCK_SIZE)
            block_start = start - skipped
            block = self._block(number, min(BLOCK_SIZE, self.size - block_start))
            taken = min(end - start, len(block) - skipped)
            yield block if taken == len(block) else block[skipped : skipped + taken]
            start += taken

    def has_data(self, start: int, end: int) -> bool:
        """Tell whether there is anything but zeros in the blocks of [start, end)."""
        sums = self._sums[start // BLOCK_SIZE * _SUM_SIZE : -(-end // BLOCK_SIZE) * _SUM_SIZE]
        return sums.count(0) < len(sums)

    def close(self) -> None:
        """Close it; twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _block(self, number: int, size: int) -> bytes:
        wanted = self._sums[number * _SUM_SIZE : (number + 1) * _SUM_SIZE]
        if wanted == _ZERO_SUM:
            return _ZEROS if size == BLOCK_SIZE else _ZEROS[:size]
        block = self._read(number * BLOCK_SIZE, size)
        if blake3(block).digest() != wanted:
            raise CachedFileError(self._path, f"the block at byte {number * BLOCK_SIZE} is damaged")
        return block

    def _read(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size:
                more = os.pread(self._fd, size - len(data), offset + len(data))
                if not more:
                    raise CachedFileError(self._path, f"it ends at byte {offset + len(data)}")
                data += more
        except OSError as error:
            raise CachedFileError(self._path, f"at byte {offset}: {error.strerror or error}") from None
        return data


def _is_zeros(block: bytes) -> bool:
    return block == (_ZEROS if len(block) == BLOCK_SIZE else _ZEROS[: len(block)])


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
