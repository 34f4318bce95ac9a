"""Segment buffers of an ingest, and what many ingests of one process may have of them together.

One ingest keeps every core busy with several segments at once. Many at once need not: the cores are busy anyway, so
each is sure of one buffer only, and takes more from a budget that all share. Without that, 64 slow clients would hold
64 times what one fast one needs.
"""

import threading
from collections import deque
from collections.abc import Callable

from casimg.constants import SEGMENT_SIZE


class BufferBudget:
    """How many buffers ingests may have together, beyond one each. Threads: any."""

    def __init__(self, count: int) -> None:
        self._left = threading.Semaphore(count)

    def take(self) -> bool:
        """Take one if there is one left; never waits."""
        return self._left.acquire(blocking=False)

    def give(self) -> None:
        self._left.release()


class SegmentBuffers:
    """Buffers of one ingest, used again; all have the size of a segment.

    Args:
        budget: where buffers after the first come from; None is without a limit, and all are kept.
    Threads: one.
    """

    def __init__(self, budget: BufferBudget | None = None) -> None:
        self._budget = budget
        self._free: deque[bytearray] = deque()
        self._count = 0
        self._borrowed_count = 0

    def take(self, free_one: Callable[[], bool]) -> bytearray:
        """Return a buffer of unknown content.

        Args:
            free_one: finishes the oldest work that holds a buffer; False when there is none.
        """
        while not self._free:
            if self._budget is None or not self._count:
                break
            if self._budget.take():
                self._borrowed_count += 1
                break
            if not free_one():
                break  # the source itself holds what we have
        if self._free:
            return self._free.popleft()
        self._count += 1
        return bytearray(SEGMENT_SIZE)

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back; a borrowed one is dropped, so that others may have theirs."""
        if self._budget is None or not self._borrowed_count:
            self._free.append(buffer)
            return
        self._borrowed_count -= 1
        self._count -= 1
        self._budget.give()

    def clear(self) -> None:
        """Forget all buffers, those at work too."""
        if self._budget is not None:
            for _ in range(self._borrowed_count):
                self._budget.give()
        self._count = self._borrowed_count = 0
        self._free.clear()
