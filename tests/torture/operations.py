"""What is attacked: each operation made ready by the driver, done by a victim, settled in the driver's truth.

`ready` puts the repository in a state in which the operation has something to do and returns the task; `run` does it
and may be run again after an interruption; `settle` says what then must be there. A task is plain data, so that it
goes to another process. Operations that this casimg does not have yet are not `available` and are left out.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import casimg
from casimg.errors import ImageNotFoundError
from casimg.repository import Repository
from casimg.results import ByteRange
from tests.torture.truth import Truth, digest, disk, evolve

PACK_SIZE = 256 << 10
"""Packs of the attacked repositories: small, so that an image has several."""


@dataclass(slots=True)
class World:
    """A repository under attack and what its driver knows. `folder` holds `r`, the repository, and source files."""

    folder: Path
    rng: random.Random
    truth: Truth = field(default_factory=Truth)
    disks: dict[str, bytes] = field(default_factory=dict)
    number: int = 0

    @property
    def path(self) -> Path:
        return self.folder / "r"

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

    def put(self, repo: Repository) -> str:
        """Commit a new image."""
        name, data = self.new_name("put"), disk(self.rng.randrange(1 << 30))
        repo.put([data], name=name)
        self.disks[name] = data
        self.truth.must[name] = digest(data)
        return name

    def delete(self, repo: Repository, name: str) -> None:
        repo.delete(name)
        self.truth.must.pop(name)
        self.disks.pop(name)

    def thin(self, repo: Repository, count_max: int) -> None:
        """Delete images, picked at random, until at most so many are left."""
        while len(self.truth.must) > count_max:
            self.delete(repo, self.rng.choice(sorted(self.truth.must)))


@dataclass(frozen=True, slots=True)
class Task:
    """What a victim does. `data` stays with the driver."""

    operation: str
    name: str = ""
    parent: str = ""
    source: str = ""
    ranges: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be interrupted."""

    name: str
    ready: Callable[[World, Repository], Task]
    run: Callable[[Repository, Task], object]
    available: Callable[[], bool] = lambda: True


def _ready_put(world: World, repo: Repository) -> Task:
    data = disk(world.rng.randrange(1 << 30))
    return _expecting(world, data, Task("put", world.new_name("put"), source=world.source(data)))


def _ready_snapshot(world: World, repo: Repository) -> Task:
    parent = world.pick(repo)
    return _expecting(world, world.disks[parent], Task("snapshot", world.new_name("snap"), parent))


def _ready_snapshot_disk(world: World, repo: Repository) -> Task:
    parent = world.pick(repo)
    data, ranges = evolve(world.disks[parent], world.rng.randrange(1 << 30))
    plain = tuple((item.offset, item.size) for item in ranges)
    task = Task("snapshot-disk", world.new_name("disk"), parent, world.source(data), plain)
    return _expecting(world, data, task)


def _ready_delete(world: World, repo: Repository) -> Task:
    name = world.pick(repo)
    world.truth.may[name] = world.truth.must.pop(name)
    return Task("delete", name)


def _ready_collection(world: World, repo: Repository) -> Task:
    if len(world.truth.must) < 3:
        world.put(repo)
    world.put(repo)
    world.delete(repo, world.rng.choice(sorted(world.truth.must)))
    return Task("gc")


def _expecting(world: World, data: bytes, task: Task) -> Task:
    world.disks[task.name] = data
    world.truth.may[task.name] = digest(data)
    return task


def _run_put(repo: Repository, task: Task) -> object:
    return repo.put(task.source, name=task.name)


def _run_snapshot(repo: Repository, task: Task) -> object:
    return repo.snapshot(task.parent, name=task.name)


def _run_snapshot_disk(repo: Repository, task: Task) -> object:
    changed = [ByteRange(offset, size) for offset, size in task.ranges or ()]
    return repo.snapshot(task.parent, name=task.name, source=task.source, changed=changed)


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
    plan: Any = getattr(repo, "plan_repack")()  # noqa: B009
    return plan.execute()


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("put", _ready_put, _run_put),
        Operation("snapshot", _ready_snapshot, _run_snapshot),
        Operation("snapshot-disk", _ready_snapshot_disk, _run_snapshot_disk),
        Operation("delete", _ready_delete, _run_delete),
        Operation("gc", _ready_collection, _run_gc),
        Operation("index", lambda world, repo: Task("index"), _run_index),
        Operation(
            "repack",
            lambda world, repo: Task("repack", _ready_collection(world, repo).name),
            _run_repack,
            lambda: hasattr(casimg.Repository, "plan_repack"),
        ),
    )
}


def again(world: World, repo: Repository, task: Task) -> None:
    """Do an interrupted task again, unless it turned out to be done, and settle the truth."""
    there = {image.name for image in repo.images()}
    if task.operation in ("put", "snapshot", "snapshot-disk"):
        if task.name not in there and (not task.parent or task.parent in there):
            OPERATIONS[task.operation].run(repo, task)
            world.truth.must[task.name] = digest(world.disks[task.name])
    else:
        OPERATIONS[task.operation].run(repo, task)
        if task.operation == "delete":
            world.truth.must.pop(task.name, None)
            world.disks.pop(task.name, None)
