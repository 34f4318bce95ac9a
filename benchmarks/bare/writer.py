"""Payloads one after another in files of 64 MiB, made durable on a thread of its own."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from casimg.constants import BLOCK_SIZE, MIB, PACK_SIZE_TARGET
from casimg.direct import aligned_buffer

_BUFFER_SIZE = MIB


class FrameWriter:
    """Files of payloads in an empty folder. Threads: one."""

    def __init__(self, folder: Path, *, direct: bool) -> None:
        self._folder = folder
        self._direct = direct
        self._paths: list[Path] = []
        self._fd = self._direct_fd = -1
        self._size = 0
        self._buffer = aligned_buffer(_BUFFER_SIZE)
        self._filled = 0
        self._syncer = ThreadPoolExecutor(1)
        self._syncing: list[Future[None]] = []

    def append(self, payload: bytes) -> tuple[int, int]:
        """Write a payload and return the number of its file and its offset there."""
        if self._fd < 0:
            path = self._folder / f"{len(self._paths):05}"
            self._paths.append(path)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            if self._direct:
                self._direct_fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
        place = len(self._paths) - 1, self._size
        view = memoryview(payload)
        while self._direct and view:
            count = min(len(view), _BUFFER_SIZE - self._filled)
            self._buffer[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == _BUFFER_SIZE:
                self._flush(place[1] + len(payload) - len(view))
        if not self._direct:
            os.write(self._fd, view)
        self._size += len(payload)
        if self._size >= PACK_SIZE_TARGET:
            self._end_file()
        return place

    def finish(self) -> list[Path]:
        """Make everything durable and return the files. Raises: OSError."""
        self._end_file()
        for sync in self._syncing:
            sync.result()
        self._syncer.shutdown()
        sync_and_close(os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY))
        return self._paths

    def _flush(self, end: int) -> None:
        """Write the buffer, which ends at `end` of the file."""
        offset, whole = end - self._filled, self._filled - self._filled % BLOCK_SIZE
        if whole:
            os.pwrite(self._direct_fd, self._buffer[:whole], offset)
        if self._filled > whole:
            os.pwrite(self._fd, self._buffer[whole : self._filled], offset + whole)
        self._filled = 0

    def _end_file(self) -> None:
        if self._fd < 0:
            return
        if self._direct:
            self._flush(self._size)
            os.close(self._direct_fd)
        self._syncing.append(self._syncer.submit(sync_and_close, self._fd))
        self._fd, self._size = -1, 0


def sync_and_close(fd: int) -> None:
    """Make a file or folder durable and close it."""
    os.fsync(fd)
    os.close(fd)
