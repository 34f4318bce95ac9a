"""Segments whose bytes were verified, kept in memory for whoever reads them next.

What many ask for (one golden image for a fleet of hosts) is read, decoded and checked once, and sent from here
afterwards. A segment is known by the id of its leaf, which says what its bytes are: so images share what they have in
common, and nothing here is ever out of date.

Who may read what is decided before, by the catalog. Memory is bounded, and given back when the machine runs short of
it. Of more than fits, what is asked for more often stays: reading through a thousand cold images drives nothing out.
"""

import contextlib
import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from mmap import MADV_REMOVE, mmap
from pathlib import Path
from typing import Final

from casimg.constants import SEGMENT_SIZE
from casimg.ids import NodeId

_log = logging.getLogger("casimg.kept")

_LOOK_EVERY_S: Final = 1.0
_FREE_SHARE_MIN: Final = 8
"""So large a part of the machine's memory, an eighth, is left to others."""
_COUNTS_PER_SEGMENT: Final = 16
_COUNT_WINDOW_MIN: Final = 1024


class _Arena:
    """Slots for segments in one file in memory, which are written as a file and read as memory. Threads: any.

    Writing a fresh page takes half of what touching it in a mapping does.
    """

    def __init__(self, slot_count: int, slot_size: int) -> None:
        self.slot_size = slot_size
        self.free = deque(range(slot_count))
        self._fd = -1
        self._fd = os.memfd_create("casimg-kept", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, slot_count * slot_size)
        self._memory = mmap(self._fd, slot_count * slot_size)
        self._view = memoryview(self._memory).toreadonly()

    def write(self, slot: int, plain: memoryview) -> memoryview:
        """Put bytes into a slot and return them there. Raises: OSError when the machine has no memory to give."""
        offset, done = slot * self.slot_size, 0
        while done < len(plain):
            done += os.pwrite(self._fd, plain[done:], offset + done)
        return self._view[offset : offset + len(plain)]

    def give_back(self, slot: int) -> None:
        """Let the machine have the memory of a free slot."""
        with contextlib.suppress(OSError):
            self._memory.madvise(MADV_REMOVE, slot * self.slot_size, self.slot_size)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class KeptSegment:
    """One segment: `view` are its bytes as long as somebody has this."""

    __slots__ = ("_arena", "_slot", "is_given_back", "view")

    def __init__(self, arena: _Arena, slot: int, view: memoryview) -> None:
        self._arena = arena
        self._slot = slot
        self.view = view
        self.is_given_back = False
        """Whether its memory shall not be used for another one."""

    def __del__(self) -> None:
        if self.is_given_back:
            self._arena.give_back(self._slot)
        self._arena.free.append(self._slot)


class KeptSegments:
    """Verified segments in memory. Threads: any. Fork: a child needs its own.

    Memory is a file without a name (`memfd`), 4 MiB for each segment.

    Args:
        size_max: bytes; less than a segment keeps nothing.
        free_size: asked now and then: bytes that the machine could still give, and all it has.
        clock: monotonic seconds.
        slot_size: bytes of the largest segment.
    """

    def __init__(
        self,
        size_max: int = 0,
        *,
        free_size: "Callable[[], tuple[int, int]] | None" = None,
        clock: Callable[[], float] = time.monotonic,
        slot_size: int = SEGMENT_SIZE,
    ) -> None:
        self._slot_size = slot_size
        self._slot_count = size_max // slot_size
        self._arena: _Arena | None = None
        self._free_size = free_size or free_memory
        self._clock = clock
        self._looked_s = float("-inf")
        self._is_short = False
        self._lock = threading.Lock()
        self._segments: OrderedDict[NodeId, KeptSegment] = OrderedDict()
        self._asked: dict[NodeId, int] = {}
        self._asked_count = 0

    @property
    def size(self) -> int:
        """Bytes of memory that the kept segments take."""
        return len(self._segments) * self._slot_size

    @property
    def is_on(self) -> bool:
        """Whether anything is kept at all."""
        return self._slot_count > 0

    @property
    def is_filling(self) -> bool:
        """Whether there is room, so that what is offered will be kept."""
        return len(self._segments) < self._slot_count and not self._is_short

    def find(self, leaf: NodeId) -> KeptSegment | None:
        """Return a segment; None when it is not kept."""
        if not self._slot_count:
            return None
        with self._lock:
            self._count(leaf)
            found = self._segments.get(leaf)
            if found is not None:
                self._segments.move_to_end(leaf)
            gone = self._look()
        del gone  # not under the lock: what goes with the last of its views takes time
        return found

    def peek(self, leaf: NodeId) -> KeptSegment | None:
        """Return a segment as `find` does, without counting that it was asked for."""
        with self._lock:
            return self._segments.get(leaf)

    def offer(self, leaf: NodeId, plain: memoryview, *, only_free: bool = False) -> KeptSegment | None:
        """Keep a copy of a segment, all of which was verified, if there is room or it is asked for more than others.

        Args:
            only_free: drive nothing out for it.
        Returns: it, if it is kept. Cost: one copy, and once the memory for it.
        """
        if not self._slot_count:
            return None
        with self._lock:
            found = self._segments.get(leaf)
            gone = self._make_room(leaf, only_free=only_free) if found is None else []
        if found is not None or gone is None:
            return found
        gone.clear()
        arena = self._arena
        try:
            slot = None if arena is None else arena.free.popleft()
        except IndexError:  # what was driven out is still on its way to somebody
            return None
        if arena is None or slot is None:
            return None
        try:
            view = arena.write(slot, plain)
        except OSError:
            self._is_short = True
            arena.give_back(slot)
            arena.free.append(slot)
            return None
        made = KeptSegment(arena, slot, view)
        with self._lock:
            # Another thread may have been at it too.
            return self._segments.setdefault(leaf, made) if arena is self._arena else None

    def resize(self, size_max: int) -> None:
        """Forget everything, and keep at most so many bytes from now on, of those that the machine has."""
        slot_count = min(size_max, self._free_size()[1]) // self._slot_size
        with self._lock:
            self._slot_count = slot_count
            gone, self._segments, self._arena = self._segments, OrderedDict(), None
            self._asked.clear()
            self._asked_count = 0
        gone.clear()

    def _count(self, leaf: NodeId) -> None:
        """Count who is asked for; what was asked for long ago counts less and less."""
        self._asked[leaf] = self._asked.get(leaf, 0) + 1
        self._asked_count += 1
        if self._asked_count > max(_COUNT_WINDOW_MIN, _COUNTS_PER_SEGMENT * self._slot_count):
            self._asked = {leaf: count // 2 for leaf, count in self._asked.items() if count > 1}
            self._asked_count = sum(self._asked.values())

    def _make_room(self, leaf: NodeId, *, only_free: bool) -> list[KeptSegment] | None:
        """Return what has to go for one more; None when it shall not be kept."""
        gone = self._look()
        if self._is_short:
            return None
        if self._arena is None:
            try:
                self._arena = _Arena(self._slot_count, self._slot_size)
            except OSError as error:
                _log.warning("kept.no_memory size=%d why=%s", self._slot_count * self._slot_size, error)
                self._slot_count = 0
                return None
        if len(self._segments) < self._slot_count:
            return gone
        oldest = next(iter(self._segments))
        # By more than one: of images that are read in turn, and do not all fit, some stay instead of none.
        if only_free or self._asked.get(oldest, 0) >= self._asked.get(leaf, 0) - 1:
            return None
        return [*gone, self._segments.pop(oldest)]

    def _look(self) -> list[KeptSegment]:
        """Return what has to go, half of all, because the machine runs short of memory; asked once a second at most."""
        now_s = self._clock()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return []
        self._looked_s = now_s
        free, whole = self._free_size()
        self._is_short = free * _FREE_SHARE_MIN < whole
        gone = []
        for _ in range(len(self._segments) // 2 if self._is_short else 0):
            segment = self._segments.popitem(last=False)[1]
            segment.is_given_back = True
            gone.append(segment)
        return gone


def usual_size(process_count: int = 1) -> int:
    """Return what each of so many processes may keep when nobody says: a quarter of the memory together."""
    return free_memory()[1] // 4 // process_count


def free_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Return the bytes that this machine, or the container, can still give and all it has; (0, 0) if nobody knows."""
    try:
        lines = (line.split() for line in (proc / "meminfo").read_text().splitlines())
        found = {line[0]: int(line[1]) << 10 for line in lines if len(line) > 1}
        free, whole = found["MemAvailable:"], found["MemTotal:"]
        groups = (proc / "self/cgroup").read_text().splitlines()
    except (OSError, ValueError, KeyError):
        return 0, 0
    for number, controllers, path in (group.split(":", 2) for group in groups):
        if number == "0":
            limit = _group_memory(cgroup / path.lstrip("/"), "memory.max", "memory.current", "")
        elif controllers == "memory":  # of an older kernel, or an older configuration
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
            # In a container its own group is the root of what is mounted.
            limit = _group_memory(cgroup / "memory" / path.lstrip("/"), *files) or _group_memory(
                cgroup / "memory", *files
            )
        else:
            continue
        if limit is not None:
            free, whole = min(free, limit[0]), min(whole, limit[1])
    return free, whole


def _group_memory(group: Path, limit_name: str, used_name: str, prefix: str) -> tuple[int, int] | None:
    """Return what a control group may still take and its limit; None when there is none."""
    try:
        limit = int((group / limit_name).read_text())
        used = int((group / used_name).read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # What is cached of files goes first.
        used -= int(counts[f"{prefix}inactive_file"]) + int(counts[f"{prefix}active_file"])
    except (OSError, ValueError, KeyError):
        return None
    return limit - used, limit
