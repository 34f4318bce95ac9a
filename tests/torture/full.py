"""Full disks for real: a small file system, filled to a seeded level, on which each operation then runs.

Whatever happens, the error says that there is no space, committed images are whole, and `rm` and `gc` give space back
while the disk is still full.
"""

import os
import random
from contextlib import AbstractContextManager
from pathlib import Path

import casimg
from casimg.errors import NoSpaceError
from tests.torture.faults import Copy
from tests.torture.mounts import EXT4, memory
from tests.torture.operations import OPERATIONS, Task, World, again, make_ready
from tests.torture.result import Result, replay_command
from tests.torture.truth import check_wrongs, collect_wrongs
from tests.torture.victim import small_packs

_SIZE = 40 << 20
_LEVELS = (0, 4096, 20_000, 100_000, 300_000, 700_000, 1_500_000, 3_000_000)
"""Bytes left free, at most."""


def run(folder: Path, *, seed: int, count: int) -> Result:
    """Fill a disk `count` times, operations in turn; every third on ext4, the others in memory."""
    result = Result("full", seed, replay_command("full", seed=seed, count=count))
    if os.geteuid() != 0:
        result.notes.append("full disks skipped: needs root: mounts")
        return result
    small_packs()
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    names = [name for name, operation in OPERATIONS.items() if operation.mend is None]
    scenes: dict[str, tuple[World, Task]] = {}
    with result.timing():
        for number in range(count):
            name = names[number % len(names)]
            if name not in scenes:
                scenes[name] = _scene(folder / name, name, seed)
            world, task = scenes[name]
            free = rng.randrange(rng.choice(_LEVELS) + 1)
            on_ext4 = number % 3 == 0 and EXT4.why_not() is None
            image = folder / "disk.img"
            if on_ext4:
                EXT4.new(image)
            mounted: AbstractContextManager[Path] = (
                EXT4.mounted(image, folder / "mount") if on_ext4 else memory(folder / "mount", _SIZE)
            )
            where = f"seed {seed}, full disk {number}, {name}, {free} bytes free, {'ext4' if on_ext4 else 'tmpfs'}"
            with mounted as point, Copy(point / "w", world) as copy:
                _one(copy, point, task, free, where, result)
    return result


def _scene(folder: Path, name: str, seed: int) -> tuple[World, Task]:
    world = World(folder, random.Random(seed))
    folder.mkdir()
    with world.make() as repo:
        for _ in range(3):
            world.put(repo)
    return world, make_ready(world, name)


def _one(world: World, point: Path, task: Task, free: int, where: str, result: Result) -> None:
    wrongs: list[str] = []
    result.counts["operations on a full disk"] += 1
    try:
        with casimg.open(world.path) as repo:  # which takes the reserve
            _fill(point / "ballast", free)
            try:
                run = OPERATIONS[task.operation].run
                if run is not None:
                    run(repo, task)
                result.counts["succeeded"] += 1
            except NoSpaceError:
                result.counts["said that there is no space"] += 1
        # Opened anew on the full disk: even that needs a few pages beside the catalog, which the reserve gives.
        with casimg.open(world.path) as repo:
            wrongs += world.truth.wrongs(repo) + check_wrongs(repo)
            victim = min(world.truth.must.keys() - {task.name, task.parent})
            before = _used(world.path / "objects")
            world.delete(repo, victim)
            plan = repo.plan_gc()
            report = plan.execute()
            if plan.plan.size and not report.size:
                wrongs.append("rm and gc gave no pack back that nothing needs")
            if _used(world.path / "objects") < before:
                result.counts["rm and gc gave space back"] += 1
            else:
                wrongs.append("rm and gc gave no space back")
        (point / "ballast").unlink()
        wrongs += again(world, task)
        with casimg.open(world.path) as repo:
            wrongs += world.truth.wrongs(repo) + check_wrongs(repo) + collect_wrongs(repo)
    except Exception as error:
        wrongs.append(f"{type(error).__name__}: {error}")
    result.add_violations(where, wrongs)
    result.image_count += world.truth.image_count
    result.byte_count += world.truth.byte_count


def _fill(path: Path, free: int) -> None:
    """Write a file until nothing fits, then give `free` bytes back."""
    with path.open("wb", buffering=0) as file:
        for step in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"x" * step)
            except OSError:
                continue
        file.truncate(max(0, os.fstat(file.fileno()).st_size - free))
        os.fsync(file.fileno())


def _used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
