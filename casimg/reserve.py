"""A few megabytes kept back, so that deleting works on a full disk.

A catalog must write to say that something is deleted. On a full file system the reserve is given up first, and kept
anew when there is room again.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from casimg.constants import MIB
from casimg.errors import NoSpaceError

T = TypeVar("T")
RESERVE_SIZE: Final = 8 * MIB
_log = logging.getLogger("casimg.reserve")


class Reserve:
    """A file of real blocks beside the catalog. Threads: any."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self) -> None:
        """Take the space when there is some; never raises."""
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_blocks * 512 >= RESERVE_SIZE:
                return
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_SIZE)
            except OSError:
                self._path.unlink(missing_ok=True)
            finally:
                os.close(fd)

    def spend(self, work: Callable[[], T]) -> T:
        """Run `work`; when the disk is full, once more with the reserve given up. Raises: NoSpaceError."""
        try:
            return work()
        except NoSpaceError:
            _log.warning("reserve.spent path=%s", self._path)
            self._path.unlink(missing_ok=True)
            return work()
        finally:
            self.keep()
