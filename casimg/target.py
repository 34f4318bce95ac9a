"""Where restored bytes go: a new file, an existing file or block device in place, or a stream.

Last part of the way of the data. A new file gets its final name only when it is whole and durable. Knows nothing of
chunks.
"""

import contextlib
import errno
import fcntl
import os
import stat
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol, cast

from casimg.constants import BLOCK_SIZE, MIB, SEGMENT_SIZE
from casimg.direct import aligned_buffer, open_direct, write_direct
from casimg.errors import NoSpaceError, TargetError

PARTIAL_SUFFIX: Final = ".casimg-partial"
_ZEROS: Final = memoryview(bytes(1 * MIB))
_IOV_COUNT_MAX: Final = 512
_BLKZEROOUT: Final = 0x127F  # linux/fs.h: _IO(0x12, 127)


class Target(Protocol):
    """Something a restore writes to."""

    label: str
    ordered: bool
    """True when bytes must arrive in order, holes as zeros (a stream)."""
    holes_are_zeros: bool
    """True when ranges that are not written already read as zeros."""

    def write(self, offset: int, parts: Sequence[memoryview]) -> None:
        """Write the parts one after another at `offset`. Raises: TargetError, NoSpaceError."""
        ...

    def write_zeros(self, offset: int, size: int) -> None: ...

    def finish(self) -> None:
        """Make everything durable and visible under the final name."""
        ...

    def abandon(self) -> None:
        """Give up: the final name is untouched."""
        ...


class _Aligned(threading.local):
    """A buffer for direct writes for each thread."""

    def __init__(self) -> None:
        self.buffer = aligned_buffer(SEGMENT_SIZE)


class FdTarget:
    """Writing by position to a file descriptor. Threads: any, for disjoint ranges.

    Whole blocks go past the page cache where the file system allows it (casimg.direct).
    """

    ordered = False

    def __init__(self, label: str, fd: int) -> None:
        self.label = label
        self._fd = fd
        self._direct_fd: int | None = None
        self._aligned = _Aligned()

    def _open_direct(self) -> None:
        """Write whole blocks directly from now on, if that can be done here."""
        self._direct_fd = open_direct(self._fd)

    def _close(self) -> None:
        if self._direct_fd is not None:
            os.close(self._direct_fd)
            self._direct_fd = None
        os.close(self._fd)

    def buffer(self) -> memoryview:
        """Return a buffer of a segment's size, this thread's own, for `write_buffer`."""
        return self._aligned.buffer

    def write_buffer(self, start: int, end: int, offset: int) -> None:
        """Write [start, end) of this thread's buffer at `offset`, directly where that can be done.

        Raises: as write.
        """
        data = self._aligned.buffer[start:end]
        whole = (end - start) - (end - start) % BLOCK_SIZE
        if self._direct_fd is not None and whole and not offset % BLOCK_SIZE and not start % BLOCK_SIZE:
            try:
                done = write_direct(self._direct_fd, offset, data[:whole])
            except OSError as error:
                raise _write_error(self.label, error) from None
            if done:
                offset += whole
                data = data[whole:]
        self.write(offset, [data])

    def write(self, offset: int, parts: Sequence[memoryview]) -> None:
        pending = [part for part in parts if len(part)]
        while pending:
            try:
                count = os.pwritev(self._fd, pending[:_IOV_COUNT_MAX], offset)
            except OSError as error:
                raise _write_error(self.label, error) from None
            offset += count
            while pending and count >= len(pending[0]):
                count -= len(pending[0])
                pending.pop(0)
            if count:
                pending[0] = pending[0][count:]

    def write_zeros(self, offset: int, size: int) -> None:
        while size:
            step = min(size, len(_ZEROS))
            self.write(offset, [_ZEROS[:step]])
            offset += step
            size -= step

    def _sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise _write_error(self.label, error) from None


class NewFileTarget(FdTarget):
    """A file that appears under its name only when it is whole: `NAME.casimg-partial` until then.

    Replaces an existing regular file at once, keeping its mode and, where allowed, its owner; a symbolic link is
    followed. After a failure or kill -9 the partial file stays for `--resume`.

    Args:
        path: final path.
        size: bytes; the file is sparse until written.
        resume: keep the content of a partial file left by an earlier restore; `kept` tells whether there was one.
    """

    def __init__(self, path: Path, size: int, *, resume: bool) -> None:
        self._final = Path(os.path.realpath(path))
        self._partial = self._final.with_name(self._final.name + PARTIAL_SUFFIX)
        self.kept = False
        try:
            fd = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise _write_error(str(path), error) from None
        super().__init__(str(path), fd)
        try:
            # Two restores to one name would mix their bytes; the lock goes with the process.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.kept = resume and os.fstat(fd).st_size > 0
            if not self.kept:
                os.ftruncate(fd, 0)
            os.ftruncate(fd, size)
        except BlockingIOError:
            os.close(fd)
            raise TargetError(str(path), "another restore is writing it") from None
        except OSError as error:
            os.close(fd)
            raise _write_error(str(path), error) from None
        # A kept partial file may hold anything in what should be holes.
        self.holes_are_zeros = not self.kept
        if not self.kept:
            self._open_direct()

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Read back what a partial file holds; used to find what `--resume` need not write again."""
        return os.preadv(self._fd, [buffer], offset)

    def clear(self, offset: int, size: int) -> None:
        """Make a range read as zeros where a partial file holds data in it."""
        at, end = offset, offset + size
        while at < end:
            try:
                data = os.lseek(self._fd, at, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole up to the end
                return
            hole = min(end, os.lseek(self._fd, data, os.SEEK_HOLE))
            if data < hole:
                self.write_zeros(data, hole - data)
            at = max(hole, data)

    def finish(self) -> None:
        self._sync()
        try:
            try:
                before = os.stat(self._final)
            except FileNotFoundError:
                pass
            else:
                os.fchmod(self._fd, stat.S_IMODE(before.st_mode))
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    # As `cp` does: where that is not allowed the new file belongs to who wrote it.
                    with contextlib.suppress(PermissionError):
                        os.fchown(self._fd, before.st_uid, before.st_gid)
            os.rename(self._partial, self._final)
            folder = os.open(self._final.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _write_error(self.label, error) from None
        self._close()

    def abandon(self) -> None:
        self._close()


class InPlaceTarget(FdTarget):
    """An existing block device, or an existing file whose identity must stay; holes are written as zeros.

    Raises:
        TargetError: mounted or otherwise in use, too small, not there.
    """

    holes_are_zeros = False

    def __init__(self, path: Path, size: int) -> None:
        try:
            is_device = stat.S_ISBLK(os.stat(path).st_mode)
            # O_EXCL on a block device fails while it, or a partition of it, is mounted or claimed.
            flags = os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if is_device else 0)
            fd = os.open(path, flags)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise TargetError(str(path), "the device is mounted or in use; unmount it first") from None
            raise _write_error(str(path), error) from None
        super().__init__(str(path), fd)
        self._is_device = is_device
        self._size = size
        try:
            if is_device:
                capacity = os.lseek(fd, 0, os.SEEK_END)
                if capacity < size:
                    raise TargetError(str(path), f"the device has {capacity} bytes, the image {size}")
        except BaseException:
            os.close(fd)
            raise
        self._open_direct()

    def write_zeros(self, offset: int, size: int) -> None:
        if self._is_device and offset % 4096 == 0 and size % 4096 == 0 and size:
            try:
                fcntl.ioctl(self._fd, _BLKZEROOUT, struct.pack("QQ", offset, size))
                return
            except OSError:
                pass  # a device that cannot: plain zeros do
        super().write_zeros(offset, size)

    def finish(self) -> None:
        if not self._is_device:
            os.ftruncate(self._fd, self._size)
        self._sync()
        self._close()

    def abandon(self) -> None:
        self._close()


class StreamTarget:
    """A pipe, socket or any binary file object, written in order; not closed by us."""

    ordered = True
    holes_are_zeros = False

    def __init__(self, stream: BinaryIO, label: str) -> None:
        self.label = label
        self._stream = stream

    def write(self, offset: int, parts: Sequence[memoryview]) -> None:  # noqa: ARG002 - in order by contract
        try:
            for part in parts:
                self._write_whole(part)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _write_error(self.label, error) from None

    def _write_whole(self, part: memoryview) -> None:
        while len(part):
            count = self._stream.write(part)
            if count is None:  # a raw stream in non-blocking mode took nothing
                raise TargetError(self.label, "it is in non-blocking mode")
            part = part[count:]

    def write_zeros(self, offset: int, size: int) -> None:
        while size:
            step = min(size, len(_ZEROS))
            self.write(offset, [_ZEROS[:step]])
            size -= step

    def finish(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _write_error(self.label, error) from None

    def abandon(self) -> None:
        pass


def open_target(target: str | os.PathLike[str] | BinaryIO, size: int, *, resume: bool, in_place: bool) -> Target:
    """Open what a user may give as a target for `size` bytes.

    A block device, or any path with `in_place`, is written in place; another path becomes a new file that replaces
    what is there in one step.

    Raises: TargetError, NoSpaceError.
    """
    if not isinstance(target, (str, os.PathLike)):
        return StreamTarget(target, str(getattr(target, "name", "the stream")))
    if not os.fspath(target):
        raise TargetError("''", "the path is empty")
    path = Path(target)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    except (OSError, ValueError) as error:
        raise TargetError(str(path), str(error)) from None
    if mode is not None and stat.S_ISDIR(mode):
        raise TargetError(str(path), "it is a folder; give a file name in it")
    if mode is not None and stat.S_ISBLK(mode):
        if resume:
            raise TargetError(str(path), "--resume works for files; a device is written anew")
        return InPlaceTarget(path, size)
    if mode is not None and not stat.S_ISREG(mode):
        # A FIFO, /dev/null, a terminal: bytes in order.
        try:
            return _OwnedStream(path)
        except OSError as error:
            raise _write_error(str(path), error) from None
    if in_place:
        if mode is None:
            raise TargetError(str(path), "in place means into an existing file, and there is none")
        return InPlaceTarget(path, size)
    return NewFileTarget(path, size, resume=resume)


class _OwnedStream(StreamTarget):
    """A special file opened by us, so closed by us."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        super().__init__(cast(BinaryIO, self._file), str(path))  # raw: may write short, and we loop

    def finish(self) -> None:
        self._file.close()

    def abandon(self) -> None:
        self._file.close()


def _write_error(label: str, error: OSError) -> TargetError | NoSpaceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(label)
    return TargetError(label, (error.strerror or str(error)).lower())
