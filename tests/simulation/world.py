"""A repository in memory and the processes that use it: templates made once, worlds that begin from them at no cost."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TypeVar, cast
from unittest import mock

from casimg.assemble import Patience
from casimg.backend.base import Backend
from casimg.backend.memory import MemoryBackend
from casimg.catalog import Catalog
from casimg.catalog.transaction import Database
from casimg.constants import MIB
from casimg.copying import copy_image, leave
from casimg.formats.config import CONFIG_KEY, RepositoryConfig, SiteConfig, encode_repository_config
from casimg.formats.pack import PackTrailer
from casimg.index import Index
from casimg.registry import NewEntry
from casimg.reserve import Reserve
from casimg.results.images import ByteRange
from casimg.saving import ImageFields, SaveOptions, put, snapshot_of_disk, snapshot_of_image
from casimg.wiring import Wiring
from tests.simulation.database import MemoryDatabase
from tests.simulation.environment import BLOCK_SIZE, ENVIRONMENT
from tests.simulation.invariants import Invariants
from tests.simulation.ports import SECOND, BackendPort, DatabasePort, Faults, IndexPort, Network
from tests.simulation.scheduler import Scheduler
from tests.simulation.truth import PROPERTY, Spec, bytes_of, decode_spec, encode_spec

T = TypeVar("T")
HOST_COUNT = 3
_UUID = "00000000-0000-4000-8000-000000000001"
_CONFIG = RepositoryConfig(_UUID, "2026-11-01T00:00:00+00:00", "fixed", BLOCK_SIZE)
OPTIONS = SaveOptions(threads=1, level=1)


class _NoReserve:
    """A disk that is never full."""

    def keep(self) -> None:
        """There is room."""

    def spend(self, work: Callable[[], T]) -> T:
        return work()


@dataclass(slots=True)
class Template:
    """How a schedule begins: a database, its objects, and the entry lists of its packs."""

    database: MemoryDatabase
    objects: dict[str, bytes]
    packs: list[tuple[int, bytes, PackTrailer]] = field(default_factory=list)


@dataclass(slots=True)
class World:
    """Everything that is shared in one schedule."""

    rng: random.Random
    scheduler: Scheduler
    database: MemoryDatabase
    network: Network
    faults: Faults
    indexes: list[Index]
    folder: Path
    invariants: Invariants
    seconds: list[Index]
    """Indexes of the second backend, where there is one."""
    file_count: int = 0

    def wiring(self, host: int) -> Wiring:
        """Return the parts of a process on a host."""
        database = DatabasePort(self.scheduler, self.database, self.faults)
        home = Wiring(
            path=self.folder,
            site=SiteConfig(folder=self.folder, repository_uuid=_UUID, level=1, threads=1),
            config=_CONFIG,
            backend=cast(Backend, BackendPort(self.scheduler, self.network, self.faults)),
            backend_id=1,
            catalog=Catalog(cast(Database, database), 1),
            index=cast(Index, IndexPort(self.scheduler, self.indexes[host], str(host))),
            spool=self.folder / "spool",
            reserve=cast(Reserve, _NoReserve()),
            patience=Patience(0.4, lambda seconds: self.scheduler.step(f"waits {seconds:.2f} s")),
        )
        if self.seconds:
            Wiring(
                path=home.path,
                site=home.site,
                config=home.config,
                backend=cast(Backend, BackendPort(self.scheduler, self.network, self.faults, SECOND)),
                backend_id=2,
                catalog=home.catalog.scoped(2),
                index=cast(Index, IndexPort(self.scheduler, self.seconds[host], f"{host} second")),
                spool=home.spool,
                reserve=home.reserve,
                frames=home.frames,
                patience=home.patience,
                shared=home.shared,
                peers=home.peers,
            )
        return home

    def file(self, spec: Spec) -> Path:
        """Return a disk with these blocks."""
        self.file_count += 1
        path = self.folder / f"disk-{self.file_count}"
        path.write_bytes(bytes_of(spec))
        return path

    def has_open_session(self, process: int) -> bool:
        query = "SELECT 1 FROM sessions WHERE state = 'open' AND pid = ?"
        return self.database.raw.execute(query, (1000 + process,)).fetchone() is not None

    def status_of(self, image_id: str) -> str:
        """Return the status of an image as the truth has it now; no step."""
        row = self.database.raw.execute("SELECT status FROM images WHERE id = ?", (image_id,)).fetchone()
        return "absent" if row is None else str(row[0])

    def unstepped(self, work: Callable[[], T]) -> T:
        """Do work at once, as if nothing ran beside it and nothing failed."""
        current, self.scheduler.current = self.scheduler.current, None
        rates = self.faults
        saved = (rates.busy, rates.lost, rates.again, rates.refused, rates.late)
        rates.busy = rates.lost = rates.again = rates.refused = rates.late = 0.0
        try:
            return work()
        finally:
            self.scheduler.current = current
            rates.busy, rates.lost, rates.again, rates.refused, rates.late = saved


def fields_of(name: str, spec: Spec) -> ImageFields:
    """Return what is said of an image: its truth too. Names that begin with `own-` are unique."""
    return ImageFields(name, properties={PROPERTY: encode_spec(spec)}, same_name=not name.startswith("own-"))


def new_entry(name: str, spec: Spec) -> NewEntry:
    """Return what is said of an image before it has data: its truth too. No name is unique."""
    return NewEntry(name=name.replace("own-", "any-"), properties={PROPERTY: encode_spec(spec)})


def store(wiring: Wiring, name: str, spec: Spec) -> str:
    """Put an image; returns its id."""
    report = put(wiring, BytesIO(bytes_of(spec)), fields_of(name, spec), OPTIONS)
    assert report.image is not None
    return report.image.id


def snapshot_disk(world: World, wiring: Wiring, parent_id: str, name: str, spec: Spec, changed: list[int]) -> None:
    """Snapshot an image as a disk on which the blocks `changed` differ; without any, the disk is read whole."""
    row = wiring.catalog.find(parent_id)
    ranges = [ByteRange(place * BLOCK_SIZE, BLOCK_SIZE) for place in changed] or None
    snapshot_of_disk(wiring, world.file(spec), row, ranges, fields_of(name, spec), OPTIONS)


def snapshot_row(wiring: Wiring, parent_id: str, name: str) -> None:
    """Snapshot a stored image: one row."""
    row = wiring.catalog.find(parent_id)
    snapshot_of_image(wiring, row, fields_of(name, decode_spec(row.properties[PROPERTY])))


class Arena:
    """What schedules of one process of ours share: a folder, open indexes, templates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "spool").mkdir()
        self._templates: dict[str, Template] = {}
        self._indexes = [
            Index.open(folder / f"index-{host}", _UUID, "one", map_size=16 * MIB) for host in range(HOST_COUNT)
        ]
        self._seconds = [
            Index.open(folder / f"second-{host}", _UUID, "one", map_size=16 * MIB) for host in range(HOST_COUNT)
        ]

    def close(self) -> None:
        for index in (*self._indexes, *self._seconds):
            index.close()

    def world(self, seed: int, template_name: str, faults: Faults, make: Callable[[random.Random], Scheduler]) -> World:
        """Begin a schedule."""
        template = self.template(template_name)
        rng = random.Random(f"{seed}/{template_name}")
        ENVIRONMENT.reset(random.Random(rng.randrange(1 << 60)))
        template.database.forget()
        world = self._world(template, rng, make(rng), faults, self._seconds if template_name in _SPREAD else [])
        for index in world.seconds:
            _empty(index)
        for host, index in enumerate(self._indexes):
            _empty(index)
            # One host has followed, one is new, one has followed some of it.
            known = (template.packs, [], template.packs[::2])[host]
            if known:
                index.add_packs(known)
        return world

    def template(self, name: str) -> Template:
        """Return how schedules of a kind begin; made when first asked for, by the code as it is then."""
        if name not in self._templates:
            self._templates[name] = self._make(name)
        return self._templates[name]

    def _world(
        self, template: Template, rng: random.Random, scheduler: Scheduler, faults: Faults, seconds: list[Index]
    ) -> World:
        backend = MemoryBackend("simulation")
        backend.objects.update(template.objects)
        network = Network(backend)
        database = template.database
        world = World(
            rng=rng,
            scheduler=scheduler,
            database=database,
            network=network,
            faults=faults,
            indexes=self._indexes,
            folder=self.folder,
            invariants=Invariants(database.raw, network),
            seconds=seconds,
        )
        network.has_open_session = world.has_open_session

        def current() -> tuple[int, int]:
            actor = scheduler.current
            return (-1, 0) if actor is None else (actor.number, actor.host)

        ENVIRONMENT.process_number = lambda: current()[0]
        ENVIRONMENT.host = lambda: current()[1]
        ENVIRONMENT.is_dead = lambda number: 0 <= number < len(scheduler.actors) and scheduler.actors[number].dead
        return world

    def _make(self, name: str) -> Template:
        database = MemoryDatabase(lambda: ENVIRONMENT.clock_us)
        ENVIRONMENT.reset(random.Random(name))
        with mock.patch("casimg.catalog.catalog._database", return_value=database):
            Catalog.create("", _UUID, "simulation", "memory")
        # A second one for the mutant that forgets that the id of a pack is unique.
        database.raw.execute("INSERT INTO backends (name, kind) VALUES ('second', 'memory')")
        data = encode_repository_config(_CONFIG)
        template = Template(database, {CONFIG_KEY: data})
        rng = random.Random(name)
        scheduler = Scheduler.idle()
        world = self._world(template, rng, scheduler, Faults(), self._seconds if name in _SPREAD else [])
        for index in (*self._indexes, *self._seconds):
            _empty(index)
        if world.seconds:
            template.objects[SECOND + CONFIG_KEY] = data
            world.network.store.objects[SECOND + CONFIG_KEY] = data
        wiring = world.wiring(0)
        _FILLINGS[name](world, wiring)
        template.objects = dict(world.network.store.objects)
        rows = wiring.catalog.all_packs(("live", "condemned"))
        template.packs = [(row.pack_no, row.pack_id, wiring.load_trailer(row)) for row in rows]
        database.keep()
        return template


@contextmanager
def arena() -> Iterator[Arena]:
    """Give an arena in a folder in memory, where there is one."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="casimg-simulation-", dir=shm if shm.is_dir() else None) as folder:
        opened = Arena(Path(folder))
        try:
            yield opened
        finally:
            opened.close()
            shutil.rmtree(Path(folder) / "spool", ignore_errors=True)


def _empty(index: Index) -> None:
    """Forget everything in an index; opening one anew costs more than a schedule."""
    with index._env.begin(write=True) as txn:
        txn.drop(index._places, delete=False)
        txn.drop(index._packs, delete=False)


BASE: Spec = (1, 2, 3, 4, 5, 6, 7, 8)
GONE: Spec = (5, 6, 11, 12, 9, 9, 0, 10)


def _bare(world: World, wiring: Wiring) -> None:
    """Nothing stored."""


def _one(world: World, wiring: Wiring) -> None:
    """One image."""
    store(wiring, "base", BASE)


def _garbage(world: World, wiring: Wiring) -> None:
    """One image, deleted and reaped: its packs are live and named by nothing."""
    store(wiring, "gone", GONE)
    _drop(world, wiring, "gone")


def _stocked(world: World, wiring: Wiring) -> None:
    """Images that share, a snapshot of each kind, one deleted and not reaped, and packs that nothing names."""
    _garbage(world, wiring)
    base = store(wiring, "base", BASE)
    store(wiring, "second", (1, 2, 3, 4, 9, 10))
    snapshot_disk(world, wiring, base, "changed", (1, 2, 3, 4, 5, 11, 7, 8), [5])
    snapshot_row(wiring, base, "row")
    deleted = store(wiring, "deleted", (11, 12, 0, 0, 7, 8))
    wiring.catalog.delete_image(wiring.catalog.find(deleted).id)


def _wasteful(world: World, wiring: Wiring) -> None:
    """Images that need packs in part only, since others that needed the rest have been deleted and reaped."""
    store(wiring, "first", (1, 2, 3, 4, *GONE))
    store(wiring, "kept", (1, 2, 5, 6, 0, 9))
    store(wiring, "also", (3, 3, 11, 0, 0, 10))
    _drop(world, wiring, "first")


def _doubled(world: World, wiring: Wiring) -> None:
    """Chunks in several packs, of which one image names more than one."""
    first, second = (1, 2, 3, 4, 5, 6), (1, 7, 3, 8, 5, 9)
    store(wiring, "first", first)
    with mock.patch.object(Catalog, "live_packs", return_value=[]):
        store(wiring, "second", second)
        store(wiring, "third", (2, 4, 6, 10))
    store(wiring, "both", (1, 2, 3, 4, 5, 6, 7, 8, 9))
    store(wiring, "mixed", (9, 8, 7, 10, 6, 4, 2))
    _drop(world, wiring, "first")
    _drop(world, wiring, "second")


def _copies(world: World, wiring: Wiring) -> None:
    """The same image twice, each with packs of its own."""
    store(wiring, "first", BASE)
    with mock.patch.object(Catalog, "live_packs", return_value=[]):
        store(wiring, "second", BASE)


def _relied(world: World, wiring: Wiring) -> None:
    """One image, whose chunk 1 lies in two packs and moves into a third that is chosen last.

    Readers take 1 from (1, 2), as newer than (1, 3), and 2 from (2, 4). Written anew, 1 is alone in its frame, and then
    (1, 3) is taken. So a repack of (1, 3) that marked before relies on (1, 2), and one of the new pack on (1, 3).
    """
    with mock.patch.object(Catalog, "live_packs", return_value=[]):
        for number, spec in enumerate(((1, 3, 5), (1, 2, 9), (2, 4, 6))):
            store(wiring, f"part-{number}", spec)
    store(wiring, "whole", (1, 2, 3, 4, 5, 6))
    for number in range(3):
        _drop(world, wiring, f"part-{number}")


def _drop(world: World, wiring: Wiring, name: str) -> None:
    """Delete an image and reap its content."""
    image = wiring.catalog.find(name)
    wiring.catalog.delete_image(image.id)
    for found in list(world.network.store.list(f"records/{image.id}")):
        world.network.store.delete(found.key)
    wiring.catalog.forget_content(image.id)
    for content_id in wiring.catalog.dead_contents():
        wiring.catalog.reap_content(content_id)


def _spread(world: World, wiring: Wiring) -> None:
    """Two backends: images on the first, on the second, and on both; one that has left the first."""
    second = wiring.peers[1]
    store(wiring, "first", BASE)
    store(second, "second", (1, 2, 3, 4, 9, 10))
    for name in ("both", "moved"):
        image_id = wiring.catalog.find(store(wiring, name, (5, 6, 7, 8, 11, 12))).id
        copy_image(second, image_id, OPTIONS)
        if name == "moved":
            leave(wiring, image_id)


_SPREAD = frozenset({"spread"})
"""Templates with a second backend."""

_FILLINGS: dict[str, Callable[[World, Wiring], None]] = {
    "bare": _bare,
    "one": _one,
    "garbage": _garbage,
    "stocked": _stocked,
    "wasteful": _wasteful,
    "doubled": _doubled,
    "copies": _copies,
    "relied": _relied,
    "spread": _spread,
}
