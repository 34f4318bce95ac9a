"""Write packs: a pack being filled is a file in the spool, not memory."""

import array
import errno
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from casimg.constants import BLOCK_SIZE, MIB
from casimg.direct import aligned_buffer, open_direct, write_direct
from casimg.errors import NoSpaceError, TargetError
from casimg.formats.pack import NONCE_SIZE, FrameSpan, PackTrailer, encode_pack_header, encode_trailer
from casimg.ids import PackId

_SUFFIX = ".pack"
_BUFFER_SIZE = 1 * MIB


@dataclass(frozen=True, slots=True)
class FinishedPack:
    """A whole pack in the spool, not yet durable anywhere."""

    path: Path
    pack_id: PackId
    kind: int
    domain: int
    size: int
    trailer_offset: int
    trailer: PackTrailer


class SpoolPack:
    """A pack being filled.

    Args:
        nonce: 16 random bytes, so that no pack id ever comes twice; given only by tests.
    Threads: one.
    Raises: NoSpaceError, TargetError from every method that writes.
    """

    def __init__(self, spool: Path, kind: int, domain: int, *, nonce: bytes | None = None) -> None:
        self._path = spool / f"{os.getpid()}-{secrets.token_hex(8)}{_SUFFIX}"
        self._kind = kind
        self._domain = domain
        self._nonce = secrets.token_bytes(NONCE_SIZE) if nonce is None else nonce
        self._frames: list[FrameSpan] = []
        self._sizes: array.array[int] = array.array("I")
        self._ids: list[bytes] = []
        self._hash = blake3()
        self._broken = False
        self.size = 0
        try:
            self._file = self._path.open("xb", buffering=0)
        except OSError as error:
            raise _spool_error(spool, error) from None
        self._direct_fd = open_direct(self._file.fileno())
        self._buffer = aligned_buffer(_BUFFER_SIZE)
        self._filled = 0
        self._write(encode_pack_header(kind, domain))

    def append(self, frame: bytes, ids: Sequence[bytes], sizes: Sequence[int]) -> None:
        """Add an encoded frame and say which chunks are in it."""
        if not ids or len(ids) != len(sizes):
            raise ValueError(f"{len(ids)} ids for {len(sizes)} chunks")
        self._frames.append(FrameSpan(self.size, len(frame), len(self._sizes), len(ids)))
        self._sizes.extend(sizes)
        self._ids.extend(ids)
        self._write(frame)

    def finish(self) -> FinishedPack:
        """Write the trailer and close the file; the pack id is BLAKE3 of all bytes, nonce included."""
        trailer_offset = self.size
        ids = b"".join(self._ids)
        self._write(encode_trailer(self._kind, self._domain, self._nonce, self._frames, self._sizes, ids))
        self._flush()
        self._close()
        trailer = PackTrailer(self._kind, self._domain, self._nonce, self._frames, self._sizes, ids)
        pack_id = PackId(self._hash.digest())
        return FinishedPack(self._path, pack_id, self._kind, self._domain, self.size, trailer_offset, trailer)

    def discard(self) -> None:
        """Drop the pack; twice is harmless."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        self._file.close()
        if self._direct_fd is not None:
            os.close(self._direct_fd)
            self._direct_fd = None

    def _write(self, data: bytes) -> None:
        if self._broken:
            # Part of a frame may be in the file: a trailer after it would vouch for chunks that are not there.
            raise TargetError(str(self._path), "an earlier write to this pack failed; it can only be discarded")
        self._hash.update(data)
        view = memoryview(data)
        while view:
            count = min(len(view), _BUFFER_SIZE - self._filled)
            self._buffer[self._filled : self._filled + count] = view[:count]
            self._filled += count
            self.size += count
            view = view[count:]
            if self._filled == _BUFFER_SIZE:
                self._flush()

    def _flush(self) -> None:
        """Write what is in the buffer, which begins at a multiple of its size."""
        self._broken = True
        offset = self.size - self._filled
        whole = self._filled - self._filled % BLOCK_SIZE
        done = 0
        try:
            if self._direct_fd is not None and write_direct(self._direct_fd, offset, self._buffer[:whole]):
                done = whole
            while done < self._filled:
                done += os.pwrite(self._file.fileno(), self._buffer[done : self._filled], offset + done)
        except OSError as error:
            raise _spool_error(self._path.parent, error) from None
        self._filled = 0
        self._broken = False


def clean_spool(spool: Path) -> int:
    """Remove packs of processes that are gone from the spool and return how many; files of others are not touched."""
    count = 0
    for path in spool.glob(f"*{_SUFFIX}"):
        pid = path.name.partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            with suppress(OSError):
                path.unlink()
                count += 1
    return count


def _spool_error(spool: Path, error: OSError) -> NoSpaceError | TargetError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(str(spool))
    return TargetError(str(spool), (error.strerror or str(error)).lower())
