"""A backend that fails where a test says: every call is counted and may be refused before or after it acts."""

import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

from casimg.backend.base import Backend, ObjectStat

Fail = Callable[[str, str, int], Exception | None]
"""Given verb, key and the number of the call (from 1), return what to raise instead of acting, or None."""


class FaultBackend:
    """Pass calls on to `inner` unless `fail` says otherwise. Threads: any."""

    def __init__(self, inner: Backend, fail: Fail) -> None:
        self._inner = inner
        self._fail = fail
        self._lock = threading.Lock()
        self.call_count = 0

    @property
    def name(self) -> str:
        return self._inner.name

    def put(self, key: str, source: BinaryIO, size: int) -> None:
        self._maybe("put", key)
        self._inner.put(key, source, size)

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        self._maybe("get_range", key)
        return self._inner.get_range(key, offset, size)

    def stat(self, key: str) -> ObjectStat:
        self._maybe("stat", key)
        return self._inner.stat(key)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        self._maybe("list", prefix)
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        self._maybe("delete", key)
        self._inner.delete(key)

    def close(self) -> None:
        self._inner.close()

    def _maybe(self, verb: str, key: str) -> None:
        with self._lock:
            self.call_count += 1
            number = self.call_count
        error = self._fail(verb, key, number)
        if error is not None:
            raise error
