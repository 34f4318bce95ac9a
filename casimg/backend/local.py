"""Objects as files below a local folder: the default backend.

An object appears under its key in one rename, after its bytes are durable; the folder is synced after that, so an
object that was reported stored survives a power cut. Unfinished files lie in `tmp/` and never show.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from casimg.backend.base import ObjectStat, Space
from casimg.backend.keys import check_key
from casimg.constants import KIB, MIB
from casimg.errors import (
    BackendUnavailableError,
    CasimgError,
    InputError,
    NoSpaceError,
    ObjectDamagedError,
    ObjectNotFoundError,
)

_COPY_STEP = 1 * MIB
_READ_AHEAD_FROM = 256 * KIB
_TMP = "tmp"


class LocalBackend:
    """Keep objects in `root`. Threads: any. Implements Backend, TakesFiles, ListsPartials and TellsSpace."""

    def __init__(self, root: Path, name: str = "local") -> None:
        self._root = root
        self._name = name
        self._check_there()

    @classmethod
    def create(cls, root: Path, name: str = "local") -> "LocalBackend":
        """Make the folder and open it."""
        try:
            (root / _TMP).mkdir(parents=True, exist_ok=True)
            _sync_folder(root)
            _sync_folder(root.parent)
        except OSError as error:
            raise _translated(error, str(root), name) from None
        return cls(root, name)

    @property
    def name(self) -> str:
        return self._name

    def put(self, key: str, source: BinaryIO, size: int) -> None:
        """As Backend.put. Cost: one copy, two to four fsyncs."""
        final = self._path(key)
        part = self._root / _TMP / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with part.open("xb", buffering=0) as file:
                left = size
                while left:
                    data = source.read(min(_COPY_STEP, left))
                    if not data:
                        raise InputError(f"the source of {key} ended {left} bytes early")
                    left -= len(data)
                    view = memoryview(data)
                    while view:
                        view = view[file.write(view) :]
                os.fsync(file.fileno())
            self._publish(part, final)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self._error(error, key) from None
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def take_file(self, key: str, path: Path) -> bool:
        """As TakesFiles.take_file; only within one file system."""
        final = self._path(key)
        try:
            if path.stat().st_dev != self._root.stat().st_dev:
                return False
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            self._publish(path, final)
        except OSError as error:
            if error.errno == errno.EXDEV:  # bind mounts share a device number
                return False
            raise self._error(error, key) from None
        return True

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        """As Backend.get_range."""
        try:
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._error(error, key) from None
        try:
            if size >= _READ_AHEAD_FROM:
                # The kernel's own read-ahead begins small with every open; what follows is likely asked for next.
                with contextlib.suppress(OSError):
                    os.posix_fadvise(fd, offset, 2 * size, os.POSIX_FADV_WILLNEED)
            data = os.pread(fd, size, offset)
            if len(data) < size:
                # One pread is short at the end, and after a signal.
                parts = [data]
                while data and sum(map(len, parts)) < size:
                    done = sum(map(len, parts))
                    data = os.pread(fd, size - done, offset + done)
                    parts.append(data)
                data = b"".join(parts)
        except OSError as error:
            raise self._error(error, key) from None
        finally:
            os.close(fd)
        if len(data) < size:
            raise ObjectDamagedError(key, offset + len(data), f"it ends {size - len(data)} bytes early")
        return data

    def stat(self, key: str) -> ObjectStat:
        """As Backend.stat."""
        try:
            return ObjectStat(key, os.stat(self._path(key)).st_size)
        except OSError as error:
            raise self._error(error, key) from None

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """As Backend.list."""
        self._check_there()
        # The folder part of the prefix narrows the walk; the rest filters.
        folder = prefix.rpartition("/")[0]
        start = self._root / folder if folder else self._root
        for key, size in self._walk(start, folder):
            if key.startswith(prefix):
                yield ObjectStat(key, size)

    def delete(self, key: str) -> None:
        """As Backend.delete."""
        path = self._path(key)
        try:
            path.unlink()
            _sync_folder(path.parent)
        except FileNotFoundError:
            self._check_there()
        except OSError as error:
            raise self._error(error, key) from None

    def list_partials(self) -> Iterator[ObjectStat]:
        """As ListsPartials.list_partials."""
        self._check_there()
        for path in (self._root / _TMP).iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield ObjectStat(path.name, path.stat().st_size)

    def delete_partial(self, name: str) -> None:
        """As ListsPartials.delete_partial."""
        check_key(name)
        (self._root / _TMP / name).unlink(missing_ok=True)

    def space(self) -> Space:
        """As TellsSpace.space."""
        try:
            found = os.statvfs(self._root)
        except OSError as error:
            raise _translated(error, str(self._root), self._name) from None
        return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def close(self) -> None:
        """Nothing is held open."""

    def _check_there(self) -> None:
        """Raise BackendUnavailableError when the whole folder is gone: then no object is missing."""
        if not (self._root / _TMP).is_dir():
            why = f"there is no object folder {self._root}; is its file system mounted?"
            raise BackendUnavailableError(self._name, why)

    def _error(self, error: OSError, key: str) -> CasimgError:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            self._check_there()
        return _translated(error, key, self._name)

    def _path(self, key: str) -> Path:
        check_key(key)
        if key.startswith(f"{_TMP}/"):
            raise InputError(f"{key!r} lies where unfinished objects are")
        return self._root / key

    def _publish(self, part: Path, final: Path) -> None:
        """Rename a durable file to its key and make the name durable, new folders included."""
        made: list[Path] = []
        folder = final.parent
        while not folder.is_dir():
            made.append(folder)
            folder = folder.parent
        for new in reversed(made):
            new.mkdir(exist_ok=True)
            _sync_folder(new.parent)
        os.rename(part, final)
        _sync_folder(final.parent)

    def _walk(self, folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._error(error, prefix) from None
        for entry in entries:
            key = f"{prefix}/{entry.name}" if prefix else entry.name
            if key == _TMP:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(folder / entry.name, key)
            else:
                with contextlib.suppress(FileNotFoundError):
                    yield key, entry.stat().st_size


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _translated(error: OSError, key: str, name: str) -> CasimgError:
    why = (error.strerror or str(error)).lower()
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ObjectNotFoundError(key)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(name)
    if error.errno == errno.EIO:
        return ObjectDamagedError(key, None, why)
    return BackendUnavailableError(name, f"{key}: {why}")
