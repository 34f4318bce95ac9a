"""Decoded frames on the read path: what is in them, and the few held for the next read. Pure but for a lock."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from itertools import accumulate, pairwise

from casimg.chunker import chunk_ids
from casimg.constants import ID_SIZE, MIB
from casimg.formats.frame import FrameHeader

_FRAME_CACHE_SIZE = 16 * MIB


class FrameCache:
    """Decoded frames, least recently used out first, bounded by plain bytes. Threads: any."""

    def __init__(self, size_max: int = _FRAME_CACHE_SIZE) -> None:
        self._size_max = size_max
        self._size = 0
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[int, int], DecodedFrame] = OrderedDict()

    def get(self, key: tuple[int, int]) -> "DecodedFrame | None":
        with self._lock:
            frame = self._frames.get(key)
            if frame is not None:
                self._frames.move_to_end(key)
            return frame

    def put(self, key: tuple[int, int], frame: "DecodedFrame") -> None:
        with self._lock:
            if key in self._frames:
                return
            self._frames[key] = frame
            self._size += len(frame.plain)
            while self._size > self._size_max and len(self._frames) > 1:
                _, old = self._frames.popitem(last=False)
                self._size -= len(old.plain)

    def drop(self, key: tuple[int, int]) -> None:
        """Forget a frame with a wrong chunk: what was read may be wrong, not what is stored."""
        with self._lock:
            frame = self._frames.pop(key, None)
            if frame is not None:
                self._size -= len(frame.plain)


class DecodedFrame:
    """Plain bytes of a frame and where each of its chunks begins; chunks are not yet checked."""

    __slots__ = ("_verified", "ends", "plain")

    def __init__(self, header: FrameHeader, plain: bytes) -> None:
        self.plain = memoryview(plain)
        self.ends = list(accumulate(header.chunk_sizes, initial=0))
        self._verified: dict[int, bytes] = {}

    def chunk(self, position: int) -> memoryview | None:
        if position + 1 >= len(self.ends):
            return None
        return self.plain[self.ends[position] : self.ends[position + 1]]

    def hash_all(self) -> None:
        """Hash every chunk at once, which costs a part of what hashing them one by one does."""
        sizes = [end - start for start, end in pairwise(self.ends)]
        ids = chunk_ids(self.plain, sizes)
        self._verified = {number: ids[number * ID_SIZE : (number + 1) * ID_SIZE] for number in range(len(sizes))}

    def holds(self, position: int, chunk: bytes, hash_of: Callable[[memoryview], bytes]) -> bool:
        """Tell whether the chunk at `position` has this id. A frame is shared: each chunk is hashed once per decode."""
        if self._verified.get(position) == chunk:
            return True
        view = self.chunk(position)
        if view is None or hash_of(view) != chunk:
            return False
        self._verified[position] = chunk
        return True
