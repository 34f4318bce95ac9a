"""Objects in a dict: the fake that passes the conformance suite, for tests and simulation."""

import threading
from collections.abc import Iterator
from typing import BinaryIO

from casimg.backend.base import ObjectStat
from casimg.backend.keys import check_key
from casimg.errors import InputError, ObjectDamagedError, ObjectNotFoundError


class MemoryBackend:
    """Keep objects in this process. Threads: any."""

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self._lock = threading.Lock()
        self.objects: dict[str, bytes] = {}

    @property
    def name(self) -> str:
        return self._name

    def put(self, key: str, source: BinaryIO, size: int) -> None:
        check_key(key)
        parts, left = [], size
        while left:
            part = source.read(left)
            if not part:
                raise InputError(f"the source of {key} ended {left} bytes early")
            parts.append(part)
            left -= len(part)
        with self._lock:
            self.objects[key] = b"".join(parts)

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        data = self._get(key)
        if offset + size > len(data):
            raise ObjectDamagedError(key, len(data), f"it ends {offset + size - len(data)} bytes early")
        return data[offset : offset + size]

    def stat(self, key: str) -> ObjectStat:
        return ObjectStat(key, len(self._get(key)))

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        with self._lock:
            found = [ObjectStat(key, len(data)) for key, data in self.objects.items() if key.startswith(prefix)]
        yield from found

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self.objects.pop(key, None)

    def close(self) -> None:
        """Nothing is held open."""

    def _get(self, key: str) -> bytes:
        check_key(key)
        with self._lock:
            if key not in self.objects:
                raise ObjectNotFoundError(key)
            return self.objects[key]
