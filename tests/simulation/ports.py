"""Where an actor leaves its process: its database, its backend and its index. Each call is one step, and may fail.

What fails here is what fails in life. Databases: busy (nothing happened), or the answer is lost after the commit.
Backends: unavailable before or after the effect, or an effect that comes long after the error.
"""

import builtins
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import BinaryIO, TypeVar

from sqlalchemy import Connection

from casimg.backend.base import ObjectStat
from casimg.backend.memory import MemoryBackend
from casimg.errors import BackendUnavailableError, CatalogBusyError, NotFoundError
from casimg.index import Index, Lookup
from casimg.index.items import HasPlaces
from tests.simulation.database import MemoryDatabase
from tests.simulation.scheduler import Scheduler
from tests.simulation.violation import ViolationError

T = TypeVar("T")


@dataclass(slots=True)
class Faults:
    """How often what fails, from 0 to 1."""

    rng: random.Random = field(default_factory=random.Random)
    busy: float = 0.0
    """A transaction is rolled back and the caller told to try again."""
    lost: float = 0.0
    """The effect is there, the answer is not."""
    again: float = 0.0
    """The effect is there, the answer is not, and the same is sent once more; for what promises to bear that."""
    refused: float = 0.0
    """A backend call has no effect and fails."""
    late: float = 0.0
    """A put or delete fails, and takes effect long after."""

    def hits(self, rate: float) -> bool:
        return rate > 0 and self.rng.random() < rate


@dataclass(slots=True)
class Network:
    """What is shared by all backend ports: the objects, unfinished puts, and effects still on their way."""

    store: MemoryBackend
    partials: dict[str, int] = field(default_factory=dict)
    """Name -> process that is, or was, putting it."""
    late: list[Callable[[], None]] = field(default_factory=list)
    has_open_session: Callable[[int], bool] = lambda _: False
    changed: bool = False
    """Something was put or deleted since the invariants were looked at."""

    def arrive(self, number: int) -> None:
        """Let one late effect happen."""
        self.late.pop(number)()
        self.changed = True


def _name_of(work: object) -> str:
    """Return which method of the catalog made this closure: `Catalog.commit.<locals>.<lambda>` is `commit`."""
    if isinstance(work, partial):
        work = work.func
    name = str(getattr(work, "__qualname__", work))
    return name.split(".<locals>", maxsplit=1)[0].rpartition(".")[2]


_BEARS_REPEATS = ("insert_pack", "commit", "mark_deleted", "forget_content", "reap_content", "forget_orphan", "beat")


class DatabasePort:
    """The database as one process sees it. Stands in for casimg.catalog.transaction.Database."""

    label = "simulation"
    sqlite_path = None

    def __init__(self, scheduler: Scheduler, database: MemoryDatabase, faults: Faults) -> None:
        self._scheduler = scheduler
        self._database = database
        self._faults = faults

    def write(self, work: Callable[[Connection], T], *, try_count: int = 1) -> T:
        name = _name_of(work)
        scheduler, faults = self._scheduler, self._faults
        scheduler.step(f"write {name}")
        if faults.hits(faults.busy):
            self._database.write_in_vain(work)  # a closure must bear a run that is rolled back
            if faults.rng.random() < 0.5:
                raise CatalogBusyError(f"simulated, {name}")
        result = self._database.write(work)
        if faults.hits(faults.lost):
            scheduler.step(f"answer of {name} is lost")
            raise CatalogBusyError(f"simulated, the answer of {name} is lost")
        if name in _BEARS_REPEATS and faults.hits(faults.again):
            scheduler.step(f"{name} again")
            result = self._database.write(work)
        return result

    def read(self, work: Callable[[Connection], T]) -> T:
        self._scheduler.step(f"read {_name_of(work)}")
        return self._database.read(work)

    def close(self) -> None:
        """The database stays."""


SECOND = "second/"
"""What the objects of the second backend begin with, in the one store that all are kept in."""


def place_of(backend_id: int | None) -> str:
    """Return what the objects of a backend begin with."""
    return SECOND if backend_id == 2 else ""


class BackendPort:
    """A backend as one process sees it; unfinished puts show as partials.

    Args:
        place: what its objects begin with in the store.
    """

    def __init__(self, scheduler: Scheduler, network: Network, faults: Faults, place: str = "") -> None:
        self.name = place.rstrip("/") or "simulation"
        self._scheduler = scheduler
        self._network = network
        self._faults = faults
        self._place = place
        self._count = 0

    def put(self, key: str, source: BinaryIO, size: int) -> None:
        network = self._network
        data = source.read(size)
        actor = self._scheduler.current
        owner = -1 if actor is None else actor.number
        self._count += 1
        key = self._place + key
        unfinished = f"{self._place}{owner}-{self._count}"
        network.partials[unfinished] = owner
        self._scheduler.step(f"put {key} {size}")
        if network.partials.pop(unfinished, None) is None:
            raise BackendUnavailableError(self.name, f"the unfinished put of {key} was removed")

        def effect() -> None:
            network.store.put(key, BytesIO(data), size)

        self._do(f"put {key}", effect)

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        key = self._place + key
        self._scheduler.step(f"get {key} {offset}+{size}")
        self._maybe_refuse(key)
        return self._network.store.get_range(key, offset, size)

    def stat(self, key: str) -> ObjectStat:
        self._scheduler.step(f"stat {self._place}{key}")
        self._maybe_refuse(key)
        return ObjectStat(key, self._network.store.stat(self._place + key).size)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Yield in two pages: what is put or deleted between them may show or not, as on real servers."""
        prefix = self._place + prefix
        self._scheduler.step(f"list {prefix}")
        self._maybe_refuse(prefix)
        first = self._found(prefix)
        half = first[: len(first) // 2]
        yield from half
        if len(first) > 1:
            self._scheduler.step(f"list {prefix} on")
        after = half[-1].key if half else ""
        yield from (found for found in self._found(prefix) if found.key > after)

    def _found(self, prefix: str) -> "builtins.list[ObjectStat]":
        rows = sorted(self._network.store.list(prefix), key=lambda found: found.key)
        return [ObjectStat(found.key.removeprefix(self._place), found.size) for found in rows]

    def delete(self, key: str) -> None:
        key = self._place + key
        self._scheduler.step(f"delete {key}")
        self._do(f"delete {key}", lambda: self._network.store.delete(key))

    def list_partials(self) -> Iterator[ObjectStat]:
        self._scheduler.step("list partials")
        for name in sorted(self._network.partials):
            if name.startswith(SECOND) == bool(self._place):
                yield ObjectStat(name, 1)

    def delete_partial(self, name: str) -> None:
        self._scheduler.step(f"delete partial {name}")
        owner = self._network.partials.pop(name, None)
        if owner is None:
            raise NotFoundError(name)
        if owner >= 0 and self._network.has_open_session(owner):
            raise ViolationError("I7", f"the unfinished put {name} of a session that is open was removed")

    def close(self) -> None:
        """The objects stay."""

    def _maybe_refuse(self, key: str) -> None:
        if self._faults.hits(self._faults.refused):
            raise BackendUnavailableError(self.name, f"simulated, {key}")

    def _do(self, what: str, effect: Callable[[], None]) -> None:
        faults = self._faults
        self._maybe_refuse(what)
        if faults.hits(faults.late):
            self._network.late.append(effect)
            raise BackendUnavailableError(self.name, f"simulated, {what} will come late")
        effect()
        self._network.changed = True
        if faults.hits(faults.lost):
            self._scheduler.step(f"answer of {what} is lost")
            raise BackendUnavailableError(self.name, f"simulated, the answer of {what} is lost")


class IndexPort:
    """The index of a host as one process sees it."""

    was_reset = False

    def __init__(self, scheduler: Scheduler, index: Index, label: str) -> None:
        self._scheduler = scheduler
        self._index = index
        self._label = label

    @contextmanager
    def reading(self) -> Iterator[Lookup]:
        self._scheduler.step(f"index {self._label} read")
        with self._index.reading() as lookup:
            yield lookup

    def applied(self) -> dict[int, bytes]:
        self._scheduler.step(f"index {self._label} applied")
        return self._index.applied()

    def add_packs(self, packs: Sequence[tuple[int, bytes, HasPlaces]]) -> None:
        self._scheduler.step(f"index {self._label} add {[number for number, *_ in packs]}")
        self._index.add_packs(packs)

    def remove_packs(self, packs: Sequence[tuple[int, HasPlaces | None]]) -> None:
        self._scheduler.step(f"index {self._label} remove {[number for number, _ in packs]}")
        self._index.remove_packs(packs)

    def entry_count(self) -> int:
        return self._index.entry_count()

    def stored_size(self) -> int:
        return self._index.stored_size()

    def close(self) -> None:
        """The simulation closes it."""
