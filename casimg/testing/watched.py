"""Watch every call that an open repository makes of its backend, catalog and index: to fail it, delay it or die in it.

A watch is told of a call before it acts, in the middle where there is one (half of an object's bytes written; the
statements of a transaction done and its COMMIT not yet), and after it acted, when only the answer can be lost. What
the watch raises goes to the caller as if the part had raised it. Nothing else of a part is changed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from sqlalchemy import Connection

from casimg import recovery
from casimg.backend.base import Backend, ListsPartials, ObjectStat, TakesFiles
from casimg.catalog import Catalog
from casimg.catalog.transaction import TRY_COUNT_MAX, Database
from casimg.index import Index
from casimg.index.place import Place
from casimg.wiring import Wiring

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One moment of one call.

    Attributes:
        part: "backend", "catalog" or "index"; "files" for what `recover` renames.
        verb: the method; "write" or "read" for the catalog.
        what: the key, prefix or, for the catalog, the name of the transaction.
        when: "before", "during" or "after".
    """

    part: str
    verb: str
    what: str
    when: str


Watch = Callable[[Call], None]


def watch_parts(wiring: Wiring, watch: Watch, *, takes_files: bool = True) -> None:
    """Put a watch around a backend, the catalog and the index of an open repository; of others nothing is told.

    Args:
        takes_files: False hides that a local backend can take over spool files, so that packs are put as bytes.
    """
    backend = wiring.backend
    taking = takes_files and isinstance(backend, TakesFiles)
    wiring.backend = WatchedTakingBackend(backend, watch) if taking else WatchedBackend(backend, watch)
    database = WatchedDatabase(wiring.catalog._database, watch)
    wiring.catalog = Catalog(cast(Database, database), wiring.backend_id)
    wiring.index = cast(Index, WatchedIndex(wiring.index, watch))


@contextmanager
def watch_recover(
    watch: Watch, *, takes_files: bool = True, around: Callable[[Backend], Backend] | None = None
) -> Iterator[None]:
    """Put a watch around everything that `casimg.recover` uses, which opens its parts itself: those of this process.

    Watched are the backend, the end of the old catalog, the new catalog from its first row to its last, the new index,
    and the renames that put both into place.

    Args:
        around: makes the backend that is watched from the real one.
    Threads: one; nobody else may recover meanwhile.
    """
    real = {name: getattr(recovery, name) for name in _OF_RECOVER}

    def open_backend(site: Any) -> Any:
        backend, config = real["open_backend"](site)
        backend = backend if around is None else around(backend)
        return (WatchedTakingBackend if takes_files else WatchedBackend)(backend, watch), config

    def rebuild(wiring: Wiring, progress: Any) -> Any:
        # In place: the caller ends the same catalog.
        wiring.catalog._database = cast(Database, WatchedDatabase(wiring.catalog._database, watch))
        wiring.index = cast(Index, WatchedIndex(wiring.index, watch))
        return real["rebuild"](wiring, progress)

    def renaming(name: str) -> Callable[[Path, Path], None]:
        def rename(one: Path, other: Path) -> None:
            what = one.name if name == "rename_durably" else "index"
            watch(Call("files", "rename", what, "before"))
            real[name](one, other)
            watch(Call("files", "rename", what, "after"))

        return rename

    watched: dict[str, Any] = {
        "open_backend": open_backend,
        "Database": lambda url: WatchedDatabase(real["Database"](url), watch),
        "rebuild": rebuild,
        "rename_durably": renaming("rename_durably"),
        "replace_index": renaming("replace_index"),
    }
    try:
        for name, value in watched.items():
            setattr(recovery, name, value)
        yield
    finally:
        for name, value in real.items():
            setattr(recovery, name, value)


_OF_RECOVER = ("open_backend", "Database", "rebuild", "rename_durably", "replace_index")


class WatchedBackend:
    """Pass calls on to `inner`, telling the watch. Threads: any."""

    def __init__(self, inner: Backend, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    @property
    def name(self) -> str:
        return self._inner.name

    def put(self, key: str, source: BinaryIO, size: int) -> None:
        def halfway() -> None:
            self._watch(Call("backend", "put", key, "during"))

        with self._telling("put", key):
            self._inner.put(key, cast(BinaryIO, _Halfway(source, size, halfway)), size)

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        with self._telling("get_range", key):
            return self._inner.get_range(key, offset, size)

    def stat(self, key: str) -> ObjectStat:
        with self._telling("stat", key):
            return self._inner.stat(key)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        with self._telling("list", prefix):
            found = list(self._inner.list(prefix))
        yield from found[: len(found) // 2]
        self._watch(Call("backend", "list", prefix, "during"))
        yield from found[len(found) // 2 :]

    def delete(self, key: str) -> None:
        with self._telling("delete", key):
            self._inner.delete(key)

    def list_partials(self) -> Iterator[ObjectStat]:
        with self._telling("list_partials", ""):
            yield from self._inner.list_partials() if isinstance(self._inner, ListsPartials) else ()

    def delete_partial(self, name: str) -> None:
        with self._telling("delete_partial", name):
            if isinstance(self._inner, ListsPartials):
                self._inner.delete_partial(name)

    def close(self) -> None:
        self._inner.close()

    @contextmanager
    def _telling(self, verb: str, key: str) -> Iterator[None]:
        self._watch(Call("backend", verb, key, "before"))
        yield
        self._watch(Call("backend", verb, key, "after"))


class WatchedTakingBackend(WatchedBackend):
    """The same for a backend that takes over files."""

    def take_file(self, key: str, path: Path) -> bool:
        with self._telling("take_file", key):
            return isinstance(self._inner, TakesFiles) and self._inner.take_file(key, path)


class _Halfway:
    """A source that says when half of it has been taken."""

    def __init__(self, source: BinaryIO, size: int, tell: Callable[[], None]) -> None:
        self._source = source
        self._left = size // 2
        self._tell: Callable[[], None] | None = tell

    def read(self, size: int = -1) -> bytes:
        if self._tell is None:
            return self._source.read(size)
        if self._left == 0:
            tell, self._tell = self._tell, None
            tell()
            return self._source.read(size)
        data = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left = self._left - len(data) if data else 0
        return data


class WatchedDatabase:
    """A catalog's database. Raising "during" a write rolls it back; "after" it, the commit stands. Threads: any."""

    def __init__(self, inner: Database, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    @property
    def label(self) -> str:
        return self._inner.label

    @property
    def sqlite_path(self) -> str | None:
        return self._inner.sqlite_path

    def write(self, work: Callable[[Connection], T], *, try_count: int = TRY_COUNT_MAX) -> T:
        what = _transaction_name(work)

        def watched(connection: Connection) -> T:
            result = work(connection)
            self._watch(Call("catalog", "write", what, "during"))
            return result

        self._watch(Call("catalog", "write", what, "before"))
        result = self._inner.write(watched, try_count=try_count)
        self._watch(Call("catalog", "write", what, "after"))
        return result

    def read(self, work: Callable[[Connection], T]) -> T:
        what = _transaction_name(work)
        self._watch(Call("catalog", "read", what, "before"))
        result = self._inner.read(work)
        self._watch(Call("catalog", "read", what, "after"))
        return result

    def close(self) -> None:
        self._inner.close()


def _transaction_name(work: Callable[..., Any]) -> str:
    """Name a transaction by the method of the catalog, or the function, that it is the work of."""
    while isinstance(work, partial):
        work = work.func
    return str(getattr(work, "__qualname__", work)).partition(".<locals>")[0].rpartition(".")[2]


class WatchedLookup:
    """As casimg.index.Lookup."""

    def __init__(self, inner: Any, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def places(self, chunk: bytes) -> list[Place]:
        self._watch(Call("index", "places", "", "before"))
        return cast(list[Place], self._inner.places(chunk))

    def first(self, chunk: bytes) -> Place | None:
        self._watch(Call("index", "first", "", "before"))
        return cast(Place | None, self._inner.first(chunk))


class WatchedIndex:
    """As casimg.index.Index; what it does not wrap is passed through. Threads: any."""

    def __init__(self, inner: Index, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    @contextmanager
    def reading(self) -> Iterator[WatchedLookup]:
        self._watch(Call("index", "reading", "", "before"))
        with self._inner.reading() as lookup:
            yield WatchedLookup(lookup, self._watch)

    def applied(self) -> dict[int, bytes]:
        with self._telling("applied"):
            return self._inner.applied()

    def add_packs(self, packs: Sequence[Any]) -> None:
        with self._telling("add_packs"):
            self._inner.add_packs(packs)

    def remove_packs(self, packs: Sequence[Any]) -> None:
        with self._telling("remove_packs"):
            self._inner.remove_packs(packs)

    def entry_count(self) -> int:
        with self._telling("entry_count"):
            return self._inner.entry_count()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def _telling(self, verb: str) -> Iterator[None]:
        self._watch(Call("index", verb, "", "before"))
        yield
        self._watch(Call("index", verb, "", "after"))
