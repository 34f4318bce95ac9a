"""What any place for objects can do. One small contract per verb; a further power is a further Protocol.

Keys are relative paths of lower-case letters, digits, `-`, `.`, `_` and `/`: `packs/ab/abcd...`,
`records/<image id>/<session>`, `casimg.json`. Buffers and files are not kept after a call returns.
Every method may be called from any thread.
Foreign exceptions (OSError, client errors) are translated here, never above.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a backend says of an object without reading it."""

    key: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of the medium that objects lie on: all of it, and what can still be written."""

    total_size: int
    free_size: int


class Backend(Protocol):
    """Where objects live."""

    @property
    def name(self) -> str:
        """Name for messages and for `packs.backend_id`; never holds credentials."""
        ...

    def put(self, key: str, source: BinaryIO, size: int) -> None:
        """Store `size` bytes read from `source` under `key`, durably, whole or not at all.

        Putting the same key again replaces the object (a repeated put after a lost answer is the same bytes).

        Raises:
            NoSpaceError, BackendUnavailableError
            InputError: the source ended before `size` bytes.
        """
        ...

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes at `offset`.

        Raises:
            ObjectNotFoundError: no such object.
            ObjectDamagedError: the object ends before `offset + size`, or the medium fails (EIO).
        """
        ...

    def stat(self, key: str) -> ObjectStat:
        """Return the size of an object. Raises: ObjectNotFoundError."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Yield every whole object whose key starts with `prefix`, in any order; unfinished puts never show."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object durably; absence is success."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class TakesFiles(Protocol):
    """A backend on this machine that can take over a finished file without copying it."""

    def take_file(self, key: str, path: Path) -> bool:
        """Move the file at `path` in as `key`, durably; True when done, False when only a copy can do it."""
        ...


@runtime_checkable
class ListsPartials(Protocol):
    """A backend whose unfinished puts can be seen and removed; they are not in `list`."""

    def list_partials(self) -> Iterator[ObjectStat]:
        """Yield what unfinished puts left behind; names mean something only to `delete_partial`."""
        ...

    def delete_partial(self, name: str) -> None: ...


@runtime_checkable
class TellsSpace(Protocol):
    """A backend that knows how much still fits; None when it cannot be known now."""

    def space(self) -> Space | None: ...


def space_of(backend: Backend) -> Space | None:
    """Return the space of a backend, None when it cannot be known."""
    return backend.space() if isinstance(backend, TellsSpace) else None
