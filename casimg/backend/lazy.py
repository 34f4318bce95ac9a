"""A backend that need not be there when the repository is opened: asked for only when something of it is wanted.

One file system that is not mounted must not keep what lies on the others from being read.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from casimg.backend.base import Backend, ListsPartials, ObjectStat, Space, TakesFiles, space_of
from casimg.errors import BackendUnavailableError, RepositoryError


class LazyBackend:
    """Open a backend with the first call that needs it, and try again with each until it is there.

    Args:
        name: of the backend.
        open_backend: opens it and holds its identity against the repository's. Raises: as the verbs.
    Threads: any. Implements Backend, TakesFiles, ListsPartials and TellsSpace, as far as what it opens does.
    """

    def __init__(self, name: str, open_backend: Callable[[], Backend]) -> None:
        self._name = name
        self._open_backend = open_backend
        self._lock = threading.Lock()
        self._opened: Backend | None = None

    @property
    def name(self) -> str:
        return self._name

    def opened(self) -> Backend:
        """Return the backend. Raises: BackendUnavailableError, also for one that is not the repository's."""
        found = self._opened
        if found is None:
            with self._lock:
                found = self._opened
                if found is None:
                    try:
                        found = self._opened = self._open_backend()
                    except RepositoryError as error:
                        raise BackendUnavailableError(self._name, str(error)) from None
        return found

    def put(self, key: str, source: BinaryIO, size: int) -> None:
        """As Backend.put."""
        self.opened().put(key, source, size)

    def take_file(self, key: str, path: Path) -> bool:
        """As TakesFiles.take_file; False when the backend takes none."""
        backend = self.opened()
        return isinstance(backend, TakesFiles) and backend.take_file(key, path)

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        """As Backend.get_range."""
        return self.opened().get_range(key, offset, size)

    def stat(self, key: str) -> ObjectStat:
        """As Backend.stat."""
        return self.opened().stat(key)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """As Backend.list."""
        return self.opened().list(prefix)

    def delete(self, key: str) -> None:
        """As Backend.delete."""
        self.opened().delete(key)

    def list_partials(self) -> Iterator[ObjectStat]:
        """As ListsPartials.list_partials; none when the backend shows none."""
        backend = self.opened()
        return backend.list_partials() if isinstance(backend, ListsPartials) else iter(())

    def delete_partial(self, name: str) -> None:
        """As ListsPartials.delete_partial."""
        backend = self.opened()
        if isinstance(backend, ListsPartials):
            backend.delete_partial(name)

    def space(self) -> Space | None:
        """As TellsSpace.space."""
        return space_of(self.opened())

    def close(self) -> None:
        """Close what was opened; again is harmless."""
        if self._opened is not None:
            self._opened.close()
