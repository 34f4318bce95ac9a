"""Threads and segment buffers that work of one kind shares in a process: all ingests, or all streams.

One ingest alone uses all cores and as many buffers as keep them busy. Sixty-four at once use the same cores, and each
may hold one buffer whatever the others do: so what the process takes grows by a segment for each, not by a pipeline,
and slow ones do not slow down a fast one.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from casimg.constants import SEGMENT_SIZE

EXTRA_COUNT: Final = 20
"""Buffers beside the first of each holder: 80 MiB, what the pipeline of eight threads goes through."""
_KEPT_COUNT: Final = 8


class SegmentBuffers:
    """Buffers of one segment, given out and taken back. Threads: any.

    Args:
        extra_count: how many all holders together may have beside their first, which is never refused.
    """

    def __init__(self, extra_count: int = EXTRA_COUNT) -> None:
        self._extra_count = extra_count
        self._lock = threading.Lock()
        self._free: list[bytearray] = []
        self.extra_used_count = 0

    def take(self, own_count: int, *, must: bool = False) -> bytearray | None:
        """Return a buffer of any content; None when it would be an extra one and there are no more.

        Args:
            own_count: how many the asker holds.
            must: the asker has nothing that it could give back first.
        """
        with self._lock:
            if own_count:
                if self.extra_used_count >= self._extra_count and not must:
                    return None
                self.extra_used_count += 1
            if self._free:
                return self._free.pop()
        return bytearray(SEGMENT_SIZE)

    def give(self, buffer: bytearray, left_count: int) -> None:
        """Take a buffer back from a holder that has so many left."""
        with self._lock:
            self.extra_used_count -= left_count > 0
            # The kernel zeroes every page of a fresh one: as many are kept as one pipeline goes through.
            if len(self._free) < _KEPT_COUNT:
                self._free.append(buffer)

    def forget(self, count: int) -> None:
        """Count the buffers of a holder no more: they died with it."""
        with self._lock:
            self.extra_used_count -= max(0, count - 1)


class Workers:
    """Threads of a process for work of one kind, and the buffers that it is done in. Threads: any.

    Args:
        kind: names the threads.
        threads: how many.
    """

    def __init__(self, kind: str, threads: int, buffers: SegmentBuffers | None = None) -> None:
        self.threads = threads
        self.buffers = buffers or SegmentBuffers()
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix=f"casimg-{kind}")

    def close(self) -> None:
        """End the threads; jobs not begun are dropped."""
        self.pool.shutdown(wait=True, cancel_futures=True)
