"""What is attacked: each operation made ready by the driver, done by a victim, settled in the driver's truth.

`make_ready` puts the repository in a state in which the operation has something to do and returns the task; `do` does
it, watched; `mend` makes the repository usable again where an interruption may leave it unusable; `again` does the
task once more. A task is plain data, so that it goes to another process.
"""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import casimg
from casimg.backend.base import Backend
from casimg.backend.fault import FaultBackend
from casimg.backends import add_backend
from casimg.catalog import packs as pack_rows
from casimg.constants import KIND_DATA
from casimg.errors import (
    BackendUnavailableError,
    CatalogDamagedError,
    CopyExistsError,
    ImageNotFoundError,
    RepositoryError,
)
from casimg.formats.config import SITE_FILE
from casimg.formats.pack import PACK_HEADER_SIZE
from casimg.formats.record import decode_record
from casimg.gc.plan import plan_collection
from casimg.gc.waste import RepackRules
from casimg.ids import ImageId, PackId
from casimg.pack.keys import pack_key
from casimg.registry import NewEntry
from casimg.repository import Repository
from casimg.results.images import ByteRange, Image
from casimg.results.upkeep import CheckReport, GcReport
from casimg.testing.watched import Watch, watch_parts, watch_recover
from tests.torture.truth import BLOCK, Truth, check_wrongs, digest, disk, evolve

PACK_SIZE = 256 << 10
"""Packs of the attacked repositories: small, so that an image has several."""

REPACK_RULES = RepackRules(unused_max=0.0, unused_pack_max=0.0, small_count=2)
"""Rewrite whatever could be smaller."""


@dataclass(slots=True)
class World:
    """A repository under attack and what its driver knows.

    Attributes:
        folder: holds `r`, the repository, and source files.
        begun: digests of all images that there ever were, or that were only begun.
        ghosts: names, by id, of the images that `recover` may bring back: their record is there, their row is not.
    """

    folder: Path
    rng: random.Random
    truth: Truth = field(default_factory=Truth)
    disks: dict[str, bytes] = field(default_factory=dict)
    number: int = 0
    begun: dict[str, str] = field(default_factory=dict)
    ghosts: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.folder / "r"

    def make(self) -> Repository:
        """Make the repository, with a second backend, and open it."""
        casimg.create(self.path, chunk_size=4096).close()
        spare = (self.path / "spare").resolve()
        add_backend(self.path, "spare", spare)
        # A relative path: copies of the folder have backends of their own.
        site = self.path / SITE_FILE
        site.write_text(site.read_text().replace(json.dumps(str(spare)), '"spare"'))
        return casimg.open(self.path)

    def copy(self, folder: Path) -> "World":
        """Return what is known of a copy of the folder."""
        known = self.truth.copy(), dict(self.disks), self.number, dict(self.begun), dict(self.ghosts)
        return World(folder, random.Random(1), *known)

    def new_name(self, kind: str) -> str:
        self.number += 1
        return f"{kind}-{self.number}"

    def source(self, data: bytes) -> str:
        """Write a source file and return its path."""
        path = self.folder / "source.raw"
        path.write_bytes(data)
        return str(path)

    def pick(self, repo: Repository) -> str:
        """Return the name of a committed image, making one when there is none."""
        if not self.truth.must:
            self.put(repo)
        return self.rng.choice(sorted(self.truth.must))

    def put(self, repo: Repository, data: bytes | None = None) -> str:
        """Commit a new image."""
        name = self.new_name("put")
        data = disk(self.rng.randrange(1 << 30)) if data is None else data
        repo.put([data], name=name)
        self.disks[name] = data
        self.truth.must[name] = self.begun[name] = digest(data)
        return name

    def delete(self, repo: Repository, name: str) -> None:
        repo.delete(name)
        self.truth.must.pop(name)
        self.disks.pop(name)

    def delete_but_record(self, repo: Repository, name: str) -> None:
        """Delete an image while the backend refuses deletions: its record stays until a collection."""
        wiring = repo._wiring
        backend, refused = wiring.backend, BackendUnavailableError("test", "no deletions")
        wiring.backend = FaultBackend(backend, lambda verb, _key, _n: refused if verb == "delete" else None)
        self.delete(repo, name)
        wiring.backend = backend

    def thin(self, repo: Repository, count_max: int) -> None:
        """Delete images, picked at random, until at most so many are left."""
        while len(self.truth.must) > count_max:
            self.delete(repo, self.rng.choice(sorted(self.truth.must)))

    def find_ghosts(self, repo: Repository) -> None:
        """Learn which images `recover` may bring back: begun or deleted, and their record is there all the same."""
        there = {image.id for image in repo.images()}
        self.ghosts = {}
        for peer in repo._wiring.peers:
            for found in peer.backend.list("records/"):
                image_id = found.key.split("/")[1]
                if image_id not in there:
                    record = decode_record(peer.backend.get_range(found.key, 0, found.size))
                    self.ghosts[image_id] = record.name or ""

    def bury_ghosts(self, repo: Repository) -> list[str]:
        """Compare the images that came back though they were not there before, and delete them."""
        wrongs = []
        for image in repo.images():
            name = self.ghosts.get(image.id)
            if name is None:
                continue
            with repo.open_image(image.id) as file:
                data = file.read_at(0, file.size)
            if digest(data) != self.begun.get(name):
                wrongs.append(f"WRONG BYTES: {name}, which came back")
            repo.delete(image.id)
        return wrongs


@dataclass(frozen=True, slots=True)
class Task:
    """What a victim does. `data` stays with the driver; `lost` are parts that the driver removes before."""

    operation: str
    name: str = ""
    parent: str = ""
    source: str = ""
    ranges: tuple[tuple[int, int], ...] | None = None
    value: str = ""
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be interrupted.

    Attributes:
        run: done on an open repository; None for `recover`, which needs none.
        mend: what must be done, and always works, before an interrupted repository is held against the truth.
        did: tells by what `run` returned whether it did what it is attacked for.
    """

    name: str
    ready: Callable[[World, Repository], Task]
    run: Callable[[Repository, Task], object] | None
    mend: Callable[[World], list[str]] | None = None
    did: Callable[[object], bool] = lambda _: True


def _ready_put(world: World, repo: Repository) -> Task:
    data = disk(world.rng.randrange(1 << 30))
    return _expecting(world, data, Task("put", world.new_name("put"), source=world.source(data)))


def _ready_upload(world: World, repo: Repository) -> Task:
    """Register an image; its id is the task's value."""
    data, name = disk(world.rng.randrange(1 << 30)), world.new_name("upload")
    queued = repo.registry().create(NewEntry(name=name))
    return _expecting(world, data, Task("upload", name, source=world.source(data), value=queued.id))


def _ready_snapshot(world: World, repo: Repository) -> Task:
    parent = world.pick(repo)
    return _expecting(world, world.disks[parent], Task("snapshot", world.new_name("snap"), parent))


def _ready_snapshot_disk(world: World, repo: Repository) -> Task:
    parent = world.pick(repo)
    data, ranges = evolve(world.disks[parent], world.rng.randrange(1 << 30))
    plain = tuple((item.offset, item.size) for item in ranges)
    task = Task("snapshot-disk", world.new_name("disk"), parent, world.source(data), plain)
    return _expecting(world, data, task)


def _ready_copy(world: World, repo: Repository) -> Task:
    return Task("copy", world.put(repo))


def _ready_delete(world: World, repo: Repository) -> Task:
    name = world.pick(repo)
    world.truth.may[name] = world.truth.must.pop(name)
    return Task("delete", name)


def _ready_collection(world: World, repo: Repository) -> Task:
    if len(world.truth.must) < 3:
        world.put(repo)
    world.put(repo)
    world.delete_but_record(repo, world.rng.choice(sorted(world.truth.must)))
    return Task("gc")


def _ready_repack(world: World, repo: Repository) -> Task:
    """Leave packs of which an image needs every second block, and reap what needed the rest."""
    whole = world.put(repo)
    half = bytearray(world.disks[whole])
    for offset in range(0, len(half) - BLOCK, 2 * BLOCK):
        half[offset : offset + BLOCK] = world.rng.randbytes(BLOCK)
    world.put(repo, bytes(half))
    world.delete(repo, whole)
    repo.plan_gc(unused_max=1.0).execute()
    return Task("repack")


def _ready_set(world: World, repo: Repository) -> Task:
    name, value = world.pick(repo), world.new_name("mark")
    world.truth.marks[name] = {repo.image(name).properties.get("mark"), value}
    return Task("set", name, value=value)


def _ready_repair(world: World, repo: Repository) -> Task:
    """Store an image twice, in packs of their own, and flip a byte in one data pack of the first."""
    catalog = repo._wiring.catalog
    before = {row.pack_no for row in catalog.all_packs(("live",))}
    name = world.put(repo)
    rows = [row for row in catalog.all_packs(("live",)) if row.pack_no not in before]
    # A put relies on nothing in a pack that is marked.
    for row in rows:
        catalog.transaction(partial(pack_rows.mark_damaged, pack_no=row.pack_no))
    world.put(repo, world.disks[name])
    for row in rows:
        catalog.mark_verified(row.pack_no)
    victim = world.rng.choice([row for row in rows if row.kind == KIND_DATA])
    path = repo.path / "objects" / pack_key(PackId(victim.pack_id))
    data = bytearray(path.read_bytes())
    data[world.rng.randrange(PACK_HEADER_SIZE, victim.trailer_offset)] ^= 1 << world.rng.randrange(8)
    path.write_bytes(data)
    world.truth.hurt = {name}
    return Task("repair", name)


def _ready_recover(world: World, repo: Repository, *, over: bool) -> Task:
    """Leave, now and then, the record of a deleted image; say what is lost."""
    if len(world.truth.must) < 2:
        world.put(repo)
    if world.rng.random() < 0.5:
        world.delete_but_record(repo, world.pick(repo))
    world.find_ghosts(repo)
    lost: tuple[str, ...] = ("index",) if world.rng.random() < 0.5 else ()
    return Task("recover-over", lost=lost) if over else Task("recover", lost=("catalog", *lost))


def _expecting(world: World, data: bytes, task: Task) -> Task:
    world.disks[task.name] = data
    world.truth.may[task.name] = world.begun[task.name] = digest(data)
    return task


def _run_put(repo: Repository, task: Task) -> object:
    return repo.put(task.source, name=task.name)


def _run_upload(repo: Repository, task: Task) -> object:
    return repo.registry().upload(ImageId(task.value), task.source)


def _run_snapshot(repo: Repository, task: Task) -> object:
    return repo.snapshot(task.parent, name=task.name)


def _run_snapshot_disk(repo: Repository, task: Task) -> object:
    changed = [ByteRange(offset, size) for offset, size in task.ranges or ()]
    return repo.snapshot(task.parent, name=task.name, source=task.source, changed=changed)


def _run_copy(repo: Repository, task: Task) -> object:
    try:
        return repo.copy(task.name, "spare")
    except CopyExistsError:
        return repo.image(task.name)


def _run_delete(repo: Repository, task: Task) -> object:
    try:
        return repo.delete(task.name)
    except ImageNotFoundError:
        return None


def _run_gc(repo: Repository, task: Task) -> object:
    return repo.plan_gc().execute()


def _run_index(repo: Repository, task: Task) -> object:
    return repo.rebuild_index()


def _run_repack(repo: Repository, task: Task) -> object:
    return repack(repo)


def repack(repo: Repository) -> GcReport:
    """Collect, and rewrite whatever could be smaller."""
    return plan_collection(repo._wiring, REPACK_RULES).execute()


def _run_set(repo: Repository, task: Task) -> object:
    return repo.update(task.name, properties={"mark": task.value})


def _run_repair(repo: Repository, task: Task) -> object:
    return repo.check(read_data=True, repair=True)


def _mend_repair(world: World) -> list[str]:
    """Before a repair only the damaged image may be refused; after the next one nothing is."""
    with casimg.open(world.path) as repo:
        wrongs = world.truth.wrongs(repo)
        report = repo.check(read_data=True, repair=True)
    world.truth.hurt.clear()
    return wrongs + [
        f"not healed: {problem.kind}: {problem.what}"
        for problem in report.problems
        if problem.lossy and not problem.healed
    ]


def _mend_recover(world: World) -> list[str]:
    """Interrupted there is a whole catalog or none that opens; then `recover` needs no force."""
    try:
        casimg.open(world.path).close()
    except (RepositoryError, CatalogDamagedError):
        casimg.recover(world.path)
    with casimg.open(world.path) as repo:
        return world.bury_ghosts(repo)


def _repacked(report: object) -> bool:
    return isinstance(report, GcReport) and report.repack_pack_count > 0


def _repaired(report: object) -> bool:
    return isinstance(report, CheckReport) and report.repair is not None and bool(report.repair.healed)


def _copied(image: object) -> bool:
    return isinstance(image, Image) and image.stores == ("local", "spare")


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("put", _ready_put, _run_put),
        Operation("upload", _ready_upload, _run_upload),
        Operation("snapshot", _ready_snapshot, _run_snapshot),
        Operation("snapshot-disk", _ready_snapshot_disk, _run_snapshot_disk),
        Operation("copy", _ready_copy, _run_copy, did=_copied),
        Operation("delete", _ready_delete, _run_delete),
        Operation("gc", _ready_collection, _run_gc),
        Operation("index", lambda world, repo: Task("index"), _run_index),
        Operation("repack", _ready_repack, _run_repack, did=_repacked),
        Operation("set", _ready_set, _run_set),
        Operation("repair", _ready_repair, _run_repair, _mend_repair, _repaired),
        Operation("recover", partial(_ready_recover, over=False), None, _mend_recover),
        Operation("recover-over", partial(_ready_recover, over=True), None, _mend_recover),
    )
}


def make_ready(world: World, name: str) -> Task:
    """Bring a closed repository to where the operation has something to do; it is closed again, and parts are lost."""
    with casimg.open(world.path) as repo:
        task = OPERATIONS[name].ready(world, repo)
    if "catalog" in task.lost:
        for suffix in ("", "-wal", "-shm"):
            (world.path / f"catalog.sqlite{suffix}").unlink(missing_ok=True)
    if "index" in task.lost:
        shutil.rmtree(world.path / "index")
    return task


def do(
    path: Path,
    task: Task,
    watch: Watch = lambda call: None,
    *,
    takes_files: bool = True,
    around: Callable[[Backend], Backend] | None = None,
) -> object:
    """Do a task on a closed repository, every call watched.

    Args:
        around: makes the backend that is used from the real one.
    """
    run = OPERATIONS[task.operation].run
    if run is None:
        with watch_recover(watch, takes_files=takes_files, around=around):
            return casimg.recover(path, force=task.operation == "recover-over")
    with casimg.open(path) as repo:
        if around is not None:
            repo._wiring.backend = around(repo._wiring.backend)
        for peer in repo._wiring.peers:
            watch_parts(peer, watch, takes_files=takes_files)
        return run(repo, task)


def mend(world: World, task: Task) -> list[str]:
    """Make an interrupted repository one that can be held against the truth; returns what is wrong on the way."""
    operation = OPERATIONS.get(task.operation)
    return [] if operation is None or operation.mend is None else operation.mend(world)


def reported(world: World, task: Task) -> None:
    """Settle the truth: the task came to its end."""
    truth = world.truth
    if task.name in truth.may:
        expected = truth.may.pop(task.name)
        if task.operation != "delete":
            truth.must[task.name] = expected
    if task.operation == "set":
        truth.marks[task.name] = {task.value}


def again(world: World, task: Task) -> list[str]:
    """Do an interrupted task again, unless it turned out to be done, and settle the truth; returns what is wrong."""
    if OPERATIONS[task.operation].run is None:
        casimg.recover(world.path, force=True)
        for path in world.path.glob("catalog.sqlite.old-*"):
            path.unlink()
        with casimg.open(world.path) as repo:
            wrongs = world.bury_ghosts(repo)
            return wrongs + world.truth.wrongs(repo) + check_wrongs(repo)  # which allows collection again
    with casimg.open(world.path) as repo:
        there = {image.name for image in repo.images()}
    if task.operation == "upload" and task.name not in there:
        with casimg.open(world.path) as repo:
            repo.plan_gc().execute()  # which makes the image of a dead upload queued
    if task.operation in ("put", "upload", "snapshot", "snapshot-disk"):
        if task.name in there or (task.parent and task.parent not in there):
            return []
        world.truth.must[task.name] = digest(world.disks[task.name])
    if task.operation == "set" and task.name not in there:
        return []
    do(world.path, task)
    if task.operation == "delete":
        world.truth.must.pop(task.name, None)
        world.disks.pop(task.name, None)
    reported(world, task)
    return []
