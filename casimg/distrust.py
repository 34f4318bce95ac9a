"""Sizes of uploads for which a guess came to nothing, so that the next try does not go the same way."""

import threading
from typing import Final

_COUNT_MAX: Final = 64


class Distrust:
    """A few sizes, None among them for unknown ones; each is passed over once. Threads: any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[int | None, bool] = {}

    def add(self, size: int | None) -> None:
        """Remember a size, in the place of the oldest when there are many."""
        with self._lock:
            self._sizes[size] = True
            while len(self._sizes) > _COUNT_MAX:
                del self._sizes[next(iter(self._sizes))]

    def take(self, size: int | None) -> bool:
        """Tell whether a size is among them, and take it out."""
        with self._lock:
            return self._sizes.pop(size, False)
