"""Go through a recipe: build what is missing, skip what is finished, keep the manifest.

Every file is made under `.new` and renamed; then its entry is written. Nothing half-finished has both.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.images.build import Builder
from benchmarks.images.change import apply
from benchmarks.images.containers import convert
from benchmarks.images.family import MANIFEST, Family, Image, file_facts, load_family, save_family
from benchmarks.images.programs import first_line, run, step
from benchmarks.images.recipe import EPOCH_S, SEED, SUITE, Change, Recipe, generation_name

_WORK = ".work"
_INSTALLED = ".installed.raw"
"""The instance disk before its first use, kept until that succeeded: it is the longest step of a build."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A disk to make: its fields in the manifest, and how."""

    name: str
    role: str
    generation: int
    parent: str
    """In the manifest; `source` is what must exist and be older."""
    source: str
    made: str
    containers: tuple[str, ...]
    make: Callable[[Path], str]
    """Writes the raw image and returns the list of packages."""


def make_family(recipe: Recipe, folder: Path) -> Family:
    """Build in `folder` what is missing of a family, and return it.

    Downloaded packages are kept in `debs` beside the folder, for all families.

    Raises:
        ProgramFailedError: a program failed; run again to go on from the last finished file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / _WORK
    _clear(folder)
    work.mkdir()
    try:
        return _Maker(recipe, folder, work).make()
    finally:
        _clear(folder)


def _clear(folder: Path) -> None:
    """Remove what an interrupted run left. Nothing is mounted below: mounts ended with that run's namespace."""
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    for path in folder.glob("*.new"):
        path.unlink()


class _Maker:
    def __init__(self, recipe: Recipe, folder: Path, work: Path) -> None:
        self._recipe, self._folder, self._work = recipe, folder, work
        self._builder = Builder(recipe, work, folder.parent / "debs")
        self._remade: set[str] = set()
        if (folder / MANIFEST).exists():
            self._family = load_family(folder)
        else:
            self._family = Family(recipe.name, SEED, EPOCH_S, SUITE)
        if self._family.name != recipe.name:
            raise ValueError(f"{folder} holds the {self._family.name} family: give another --folder")
        self._family = Family(recipe.name, SEED, EPOCH_S, SUITE, _tools(), self._family.images)

    def make(self) -> Family:
        tasks = self._tasks()
        for task in tasks:
            self._raw(task)
        for task in tasks:
            for ending in task.containers:
                self._container(task, ending)
        return self._family

    def _tasks(self) -> list[_Task]:
        """Return every disk to make, in order."""
        recipe = self._recipe
        own = f"mmdebstrap {recipe.variant}, mke2fs -d"
        tasks = []
        for disk in recipe.goldens:
            parent = "" if disk is recipe.goldens[0] else recipe.goldens[0].name
            build = partial(self._builder.build, disk)
            tasks.append(_Task(disk.name, disk.role, 0, parent, "", own, disk.containers, build))
        before, role = "", recipe.instance.role
        for change in recipe.changes:
            name = generation_name(recipe.instance, change)
            use = partial(self._use, change, before)
            made = f"{f'copy of {before}' if before else own}, used through a mount"
            tasks.append(_Task(name, role, change.generation, before, before, made, change.containers, use))
            before = name
        return tasks

    def _use(self, change: Change, before: str, image: Path) -> str:
        """Write the instance disk after a change: from packages for the first, from a copy of the one before."""
        installed = self._folder / _INSTALLED
        if not before and not installed.exists():
            new = installed.with_name(installed.name + ".new")
            with step("packages of the instance"):
                self._builder.build(self._recipe.instance, new)
            new.replace(installed)
        source = self._folder / f"{before}.raw" if before else installed
        run(["cp", "--sparse=always", source, image])
        packages = apply(self._recipe, change, image, self._builder.later(change.generation), self._work)
        installed.unlink(missing_ok=True)
        return packages

    def _raw(self, task: _Task) -> None:
        if task.source not in self._remade and self._finished(task.name, "raw"):
            return
        self._remade.add(task.name)
        self._family = self._family.without(task.name)
        save_family(self._family, self._folder)
        path = self._folder / f"{task.name}.raw"
        new = path.with_name(path.name + ".new")
        with step(path.name):
            packages = task.make(new)
            (self._folder / f"{task.name}.packages.txt").write_text(packages)
            self._keep(task, new, path, "raw", task.made)

    def _container(self, task: _Task, ending: str) -> None:
        if self._finished(task.name, ending):
            return
        path = self._folder / f"{task.name}.{ending}"
        new = path.with_name(path.name + ".new")
        with step(path.name):
            convert(self._folder / f"{task.name}.raw", new, ending)
            self._keep(task, new, path, ending, "qemu-img convert")

    def _finished(self, name: str, ending: str) -> bool:
        image = self._family.find(name, ending)
        if image is None or not image.path.exists():
            return False
        return image.path.stat().st_size == image.file_size

    def _keep(self, task: _Task, new: Path, path: Path, ending: str, made: str) -> None:
        """Give a finished file its name, then its entry."""
        new.replace(path)
        image = Image(
            path=path,
            name=task.name,
            role=task.role,
            generation=task.generation,
            parent=task.parent,
            format=ending,
            size=self._recipe.disk_size,
            made=made,
            packages=f"{task.name}.packages.txt",
            **file_facts(path),  # type: ignore[arg-type]
        )
        self._family = self._family.with_image(image)
        save_family(self._family, self._folder)


def _tools() -> dict[str, str]:
    return {
        "mmdebstrap": first_line(["mmdebstrap", "--version"]),
        "mke2fs": first_line(["mke2fs", "-V"]),
        "qemu-img": first_line(["qemu-img", "--version"]),
        "kernel": first_line(["uname", "-sr"]),
    }
