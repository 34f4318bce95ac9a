"""The folder where a server keeps images whole, shared by its worker processes.

`<image id>` is a whole file; `incomplete/` has those that are being written, under names of their own, and the locks of
who writes them. The kernel ends a lock with its process, so what a killed one leaves is known at once. Other names are
nobody's here and left alone.
"""

import fcntl
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from casimg.constants import MIB
from casimg.errors import ConfigError
from casimg.ids import ContentId, ImageId
from casimg_api.cached_file import CachedFile, CachedFileError, CachedFileWriter

_log = logging.getLogger("casimg_api.cache_folder")

FREE_SIZE_MIN: Final = 256 * MIB
"""So much of the disk is left to others; what would not leave it is not begun."""
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNFINISHED: Final = re.compile(rf"{_UUID.pattern}\.([0-9a-f]{{16}}|(fetch\.)?lock)")
_LOCK_TRY_COUNT: Final = 3


class Fill:
    """A file that is being written, by the one who has its lock; ended by `finish` or `abandon`.

    Threads: one at a time.
    """

    def __init__(
        self, folder: "CacheFolder", image_id: ImageId, content_id: ContentId, size: int, lock: "_Lock"
    ) -> None:
        self.image_id = image_id
        self._folder = folder
        self._lock = lock
        self._path = folder.incomplete / f"{image_id}.{secrets.token_hex(8)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)
        try:  # so that those who tidy up know that somebody is at it
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._fd)
            raise
        self._writer = CachedFileWriter(self._fd, content_id, size)

    @property
    def is_whole(self) -> bool:
        return self._writer.written_size == self._writer.size

    def write(self, part: bytes) -> None:
        """Take the next bytes. Raises: OSError, ValueError."""
        self._writer.write(part)

    def finish(self, keep: Callable[[int, int], bool]) -> bool:
        """Give the file its name, if `keep` wants it; whether it has one.

        Args:
            keep: asked when the file is there, with the image's size and what the file takes; what it raises, or
                False, takes the file away again.
        Raises: OSError, ValueError, and what `keep` raises.
        """
        try:
            stored_size = self._writer.finish()
            os.rename(self._path, self._folder.path / self.image_id)
            try:
                kept = keep(self._writer.size, stored_size)
            except BaseException:
                self._folder.remove(self.image_id)
                raise
            if not kept:
                self._folder.remove(self.image_id)
            return kept
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give up what has not got its name; again is harmless, and it never raises."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                self._path.unlink()
            with suppress(OSError):
                os.close(fd)
        self._lock.release()


class CacheFolder:
    """A folder of cached images; made when it is not there. Threads, processes: any.

    Raises: ConfigError for a folder that cannot be used, or where everybody may write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.incomplete = path / "incomplete"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.incomplete.mkdir(mode=0o700, exist_ok=True)
            self.path = path.resolve()
            self.incomplete = self.path / "incomplete"
            mode, below = os.stat(self.path).st_mode, os.lstat(self.incomplete).st_mode
            # Root may write wherever it likes; for the others this tells at the start, not at the first image.
            (probe := self.incomplete / f"probe.{secrets.token_hex(8)}").touch(mode=0o600)
            probe.unlink()
        except OSError as error:
            raise ConfigError("cache.image_cache_dir", f"{path} cannot be used: {error.strerror or error}") from None
        if not stat.S_ISDIR(below):
            raise ConfigError("cache.image_cache_dir", f"{self.incomplete} must be a folder, and no link to one")
        if (mode | below) & stat.S_IWOTH:
            raise ConfigError("cache.image_cache_dir", f"everybody may write in {path}: what is sent would be theirs")

    def open(self, image_id: ImageId) -> CachedFile | None:
        """Return the whole file of an image; None when there is none. Raises: CachedFileError, OSError."""
        if not _UUID.fullmatch(image_id):
            return None
        try:
            return CachedFile(self.path / image_id)
        except FileNotFoundError:
            return None

    def begin(self, image_id: ImageId, content_id: ContentId, size: int, *, is_fetch: bool = False) -> Fill | None:
        """Begin to write an image; None when somebody is at it.

        Args:
            is_fetch: whether the server fetches for itself, which does not wait for a slow client.
        Raises: OSError.
        """
        place = self.path / image_id
        if not _UUID.fullmatch(image_id) or (place.is_dir() and not place.is_symlink()):  # no file can have its name
            return None
        lock = _lock(self._lock_path(image_id, is_fetch=is_fetch))
        if lock is None:
            return None
        try:
            return Fill(self, image_id, content_id, size, lock)
        except BaseException:
            lock.release()
            raise

    def fill_age_s(self, image_id: ImageId) -> float:
        """Return how long a client's download has been writing an image; 0 when none does."""
        try:
            return max(0.0, time.time() - os.lstat(self._lock_path(image_id, is_fetch=False)).st_mtime)
        except OSError:
            return 0.0

    def has_room(self, size: int) -> bool:
        """Tell whether the disk has room for so much more."""
        try:
            found = os.statvfs(self.path)
        except OSError:
            return False
        return found.f_bavail * found.f_frsize >= size + FREE_SIZE_MIN

    def remove(self, image_id: ImageId, only: CachedFile | None = None) -> bool:
        """Remove an image's file, or whatever has its name; whether there was one. Readers keep what they have open.

        Args:
            only: leave what came in its place meanwhile.
        """
        if not _UUID.fullmatch(image_id):
            return False
        path = self.path / image_id
        try:
            if only is not None:
                found = os.lstat(path)
                if (found.st_dev, found.st_ino) != only.identity:
                    return False
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:  # a folder, or the permissions are gone
            _log.warning("cache.not_removed image=%s why=%s", image_id, error.strerror or error)
            return False
        return True

    def images(self) -> list[ImageId]:
        """Return the names of images that anything has in the folder. Raises: OSError."""
        return sorted(ImageId(path.name) for path in self.path.iterdir() if _UUID.fullmatch(path.name))

    def is_filled_now(self, image_id: ImageId) -> bool:
        """Tell whether somebody writes an image, or enters it, at this moment."""
        for is_fetch in (False, True):
            path = self._lock_path(image_id, is_fetch=is_fetch)
            if path.exists() and _free_lock(path) is False:
                return True
        return False

    def sweep(self, stall_time_s: float) -> int:
        """Remove unfinished files that nobody writes any more, or has not for so long; return how many.

        Raises: OSError.
        """
        swept = 0
        for path in self.incomplete.iterdir():
            if not _UNFINISHED.fullmatch(path.name):
                if path.name.startswith("probe."):
                    with suppress(OSError):
                        path.unlink()
                continue
            with suppress(OSError):
                age_s = time.time() - os.lstat(path).st_mtime
                if _free_lock(path) is not False or age_s > stall_time_s:
                    path.unlink()
                    swept += 1
        return swept

    def _lock_path(self, image_id: ImageId, *, is_fetch: bool) -> Path:
        return self.incomplete / (f"{image_id}.fetch.lock" if is_fetch else f"{image_id}.lock")


class _Lock:
    """A lock of the kernel on a file that is there only as long."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # While it is held: whoever opened it before finds that its name is gone.
            with suppress(OSError):
                if _is_named(fd, self._path):
                    self._path.unlink()
            os.close(fd)


def _lock(path: Path) -> _Lock | None:
    """Take a lock, or return None when somebody has it. Raises: OSError."""
    for _ in range(_LOCK_TRY_COUNT):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(fd, path):
                os.utime(fd)
                return _Lock(path, fd)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    return None


def _free_lock(path: Path) -> bool | None:
    """Tell whether nobody has a lock on a file; None for what is none of our files."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    finally:
        os.close(fd)
    return True


def _is_named(fd: int, path: Path) -> bool:
    try:
        found, named = os.fstat(fd), os.lstat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (named.st_dev, named.st_ino)


__all__ = ["FREE_SIZE_MIN", "CacheFolder", "CachedFileError", "Fill"]
