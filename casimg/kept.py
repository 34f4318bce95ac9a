"""Segments whose bytes were verified, kept in memory for whoever reads them next.

What many ask for (one golden image for a fleet of hosts) is read, decoded and checked once, and sent from here
afterwards. A segment is known by the id of its leaf, which says what its bytes are: so images share what they have in
common, and nothing here is ever out of date.

Who may read what is decided before, by the catalog. Memory is bounded, and given back when the machine runs short of
it. Of more than fits, what is asked for more often stays: reading through a thousand cold images drives nothing out.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import Final

from casimg.constants import SEGMENT_SIZE
from casimg.ids import NodeId

_LOOK_EVERY_S: Final = 1.0
_FREE_SHARE_MIN: Final = 8
"""So large a part of the machine's memory, an eighth, is left to others."""
_COUNTS_PER_SEGMENT: Final = 16
_COUNT_WINDOW_MIN: Final = 1024


class KeptSegments:
    """Verified segments in memory. Threads: any. Fork: a child keeps nothing for its parent, so it needs its own.

    Memory is shared anonymous memory (`RssShmem`), 4 MiB each, and goes when the last view of a segment does.

    Args:
        size_max: bytes; 0 keeps nothing.
        free_size: asked now and then: bytes that the machine could still give, and all it has.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        size_max: int = 0,
        *,
        free_size: "Callable[[], tuple[int, int]] | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.size = 0
        self.size_max = size_max
        self._free_size = free_size or free_memory
        self._clock = clock
        self._looked_s = float("-inf")
        self._is_short = False
        self._lock = threading.Lock()
        self._segments: OrderedDict[NodeId, memoryview] = OrderedDict()
        self._asked: dict[NodeId, int] = {}
        self._asked_count = 0

    def find(self, leaf: NodeId) -> memoryview | None:
        """Return the bytes of a segment, which stay as they are while somebody has them; None when it is not kept."""
        if not self.size_max:
            return None
        with self._lock:
            self._count(leaf)
            found = self._segments.get(leaf)
            if found is not None:
                self._segments.move_to_end(leaf)
            self._look()
        return found

    def offer(self, leaf: NodeId, plain: memoryview) -> bool:
        """Keep a copy of a segment, all of which was verified, if there is room or it is asked for more than others.

        Returns: whether it is kept. Cost: one copy.
        """
        size = len(plain)
        with self._lock:
            if leaf in self._segments:
                return True
            if not self._make_room(leaf, size):
                return False
            self.size += size
        try:
            memory = mmap(-1, size)
        except (OSError, ValueError):  # the machine has none to give
            with self._lock:
                self.size -= size
                self._is_short = True
            return False
        memory[:] = plain
        with self._lock:
            if leaf in self._segments:  # another thread was at it too
                self.size -= size
            else:
                self._segments[leaf] = memoryview(memory).toreadonly()
        return True

    def resize(self, size_max: int) -> None:
        """Keep at most so many bytes from now on."""
        with self._lock:
            self.size_max = size_max
            self._shrink(size_max)

    def _count(self, leaf: NodeId) -> None:
        """Count who is asked for; what was asked for long ago counts less and less."""
        self._asked[leaf] = self._asked.get(leaf, 0) + 1
        self._asked_count += 1
        if self._asked_count > max(_COUNT_WINDOW_MIN, _COUNTS_PER_SEGMENT * self.size_max // SEGMENT_SIZE):
            self._asked = {leaf: count // 2 for leaf, count in self._asked.items() if count > 1}
            self._asked_count = sum(self._asked.values())

    def _make_room(self, leaf: NodeId, size: int) -> bool:
        self._look()
        if size > self.size_max or self._is_short:
            return False
        # By more than one: of images that are read in turn, and do not all fit, some stay instead of none.
        asked = self._asked.get(leaf, 0) - 1
        going: list[NodeId] = []
        left = self.size
        for other, view in self._segments.items():
            if left + size <= self.size_max:
                break
            if self._asked.get(other, 0) >= asked:
                return False
            going.append(other)
            left -= len(view)
        if left + size > self.size_max:
            return False
        for other in going:
            self.size -= len(self._segments.pop(other))
        return True

    def _look(self) -> None:
        """Give half back when the machine runs short of memory; asked once a second at most."""
        now_s = self._clock()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        free, whole = self._free_size()
        self._is_short = free * _FREE_SHARE_MIN < whole
        if self._is_short:
            self._shrink(self.size // 2)

    def _shrink(self, size: int) -> None:
        while self.size > size and self._segments:
            self.size -= len(self._segments.popitem(last=False)[1])


def usual_size(process_count: int = 1) -> int:
    """Return what each of so many processes may keep when nobody says: a quarter of the memory together."""
    return free_memory()[1] // 4 // process_count


def free_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Return the bytes that this machine, or the container, can still give and all it has; (0, 0) if nobody knows."""
    try:
        lines = (line.split() for line in (proc / "meminfo").read_text().splitlines())
        found = {line[0]: int(line[1]) << 10 for line in lines if len(line) > 1}
        free, whole = found["MemAvailable:"], found["MemTotal:"]
    except (OSError, ValueError, KeyError):
        return 0, 0
    try:
        own = cgroup / (proc / "self/cgroup").read_text().strip().rpartition("::/")[2]
        limit = int((own / "memory.max").read_text())
        used = int((own / "memory.current").read_text())
        counts = dict(line.split() for line in (own / "memory.stat").read_text().splitlines())
        # What is cached of files goes first.
        used -= int(counts["inactive_file"]) + int(counts["active_file"])
    except (OSError, ValueError, KeyError):  # no limit, or an old kernel
        return free, whole
    return min(free, limit - used), min(whole, limit)
