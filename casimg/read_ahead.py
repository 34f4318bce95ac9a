"""Threads and segment buffers that all streams of a process share.

One stream alone uses all cores and as many buffers as keep them busy. A thousand use the same cores, and each may hold
one buffer whatever the others do: so what the process takes grows by a segment for each, not by a pipeline, and slow
ones do not slow down a fast one.

Of many that want the same image at the same time one reads each segment, and the others wait for it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from casimg.constants import SEGMENT_SIZE
from casimg.ids import NodeId
from casimg.kept import KeptSegment, KeptSegments

EXTRA_COUNT: Final = 16
"""Buffers beside the first of each stream: 64 MiB, twice what one stream of eight threads is ahead by."""


class ReadAhead:
    """Where segments are read before they are asked for. Threads: any. Fork: a child needs its own.

    Args:
        threads: how many segments are read at once.
        extra_count: how many buffers all streams together may have beside their first, which is never refused.
        kept: where segments are kept that were read; None keeps none.
    """

    def __init__(self, threads: int, extra_count: int = EXTRA_COUNT, *, kept: KeptSegments | None = None) -> None:
        self.threads = threads
        self.kept = kept or KeptSegments()
        self.extra_used_count = 0
        self._extra_count = extra_count
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="casimg-stream")
        self._lock = threading.Lock()
        self._free: list[bytearray] = []
        self._led: dict[NodeId, Future[KeptSegment | None]] = {}

    def take(self, own_count: int) -> bytearray | None:
        """Return a buffer of any content; None when it would be an extra one and there are no more.

        Args:
            own_count: how many the asker holds.
        """
        with self._lock:
            if own_count:
                if self.extra_used_count >= self._extra_count:
                    return None
                self.extra_used_count += 1
            if self._free:
                return self._free.pop()
        return bytearray(SEGMENT_SIZE)

    def give(self, buffer: bytearray, left_count: int) -> None:
        """Take a buffer back from a stream that has so many left."""
        with self._lock:
            self.extra_used_count -= left_count > 0
            # The kernel zeroes every page of a fresh one: as many are kept as one stream goes through.
            if len(self._free) < self.threads + 2:
                self._free.append(buffer)

    def submit(self, job: "Callable[[], KeptSegment | None]") -> "Future[KeptSegment | None]":
        """Run a job on one of the threads."""
        return self._pool.submit(job)

    def join(
        self, leaf: NodeId, job: "Callable[[], KeptSegment | None]"
    ) -> "tuple[KeptSegment | Future[KeptSegment | None], bool]":
        """Return a segment that is kept by now, or who reads it, and whether that is somebody else.

        Args:
            job: reads all of the segment and has it kept; run when nobody else is at it.
        """
        with self._lock:
            other = self._led.get(leaf)
            if other is not None:
                return other, True
            # Who was at it has had it kept before it was taken from here.
            kept = self.kept.peek(leaf)
            if kept is not None:
                return kept, True
            future = self._pool.submit(job)
            if not self.kept.is_filling:
                return future, False
            self._led[leaf] = future
        future.add_done_callback(lambda done: self._end_lead(leaf, done))
        return future, False

    def _end_lead(self, leaf: NodeId, future: "Future[KeptSegment | None]") -> None:
        with self._lock:
            if self._led.get(leaf) is future:
                del self._led[leaf]

    def close(self) -> None:
        """End the threads; jobs not begun are dropped, and streams that wait for them end with an error."""
        self._pool.shutdown(wait=True, cancel_futures=True)
