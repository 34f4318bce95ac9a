"""Fail every call, one at a time: each backend, index and catalog call of each operation, before, in and after it.

A repository is made once and copied for each fault. After the fault the repository is opened again: committed images
are read and compared, every byte is checked, the operation is done again, and a collection leaves nothing that no
image needs. Backends that answer wrongly (flipped, short, long, of another place) are tried the same way.
"""

import itertools
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import casimg
from casimg.backend.base import Backend
from casimg.errors import (
    BackendUnavailableError,
    CasimgError,
    CatalogBusyError,
    IndexDamagedError,
    NoSpaceError,
    ObjectDamagedError,
)
from casimg.repository import Repository
from casimg.testing.watched import Call, WatchedTakingBackend, watch_parts
from tests.torture.operations import OPERATIONS, Task, World, again
from tests.torture.result import Result, replay_command
from tests.torture.truth import Truth, check_wrongs, collect_wrongs
from tests.torture.victim import small_packs

_FAILED = {
    "backend": (BackendUnavailableError("test", "it failed"), NoSpaceError("test")),
    "catalog": (CatalogBusyError("the connection was lost"), NoSpaceError("test")),
    "index": (IndexDamagedError("test", "it failed"), NoSpaceError("test")),
}
_LIES = ("flipped", "short", "zeros", "elsewhere")
READS = ("get", "check")


def run(folder: Path, *, seed: int, step: int = 1, operations: tuple[str, ...] | None = None) -> Result:
    """Fail every `step`-th moment of every call, and let every `step`-th read of the backend answer wrongly."""
    result = Result("faults", seed, replay_command("faults", seed=seed, step=step))
    with result.timing():
        small_packs()
        names = [name for name in (*OPERATIONS, *READS) if name in READS or OPERATIONS[name].available()]
        for name in names if operations is None else operations:
            scene = _Scene(folder / name, name, seed)
            for number in itertools.count(1 + seed % step, step):
                if not scene.fail(number, result):
                    break
            for number in itertools.count(1 + seed % step, step):
                if not scene.lie(number, result):
                    break
    return result


@dataclass(slots=True)
class _Fault:
    """Raise at one moment; tells whether it came to that."""

    number: int
    seen: int = 0
    at: Call | None = None

    def __call__(self, call: Call) -> None:
        if call.verb in ("places", "first") and self.seen > 40:
            return  # every look-up is a moment; thousands of them are alike
        self.seen += 1
        if self.seen == self.number:
            self.at = call
            kinds = _FAILED[call.part]
            raise kinds[self.number % 7 == 0]


class _LyingBackend(WatchedTakingBackend):
    """A local backend of which the `number`-th range is not what is stored there."""

    def __init__(self, inner: Backend, number: int) -> None:
        super().__init__(inner, lambda call: None)
        self._number = number
        self.lied = ""

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        data = super().get_range(key, offset, size)
        self._number -= 1
        if self._number or not data:
            return data
        rng = random.Random(offset + size)
        self.lied = rng.choice(_LIES)
        if self.lied == "flipped":
            at = rng.randrange(len(data))
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        if self.lied == "short":
            return data[: rng.randrange(len(data))]
        if self.lied == "zeros":
            return bytes(len(data))
        return data[1:] + data[:1]


class _Scene:
    """An operation about to be done on a repository that is copied for each fault."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        self._folder = folder
        self._name = name
        (folder / "made").mkdir(parents=True)
        world = World(folder / "made", random.Random(seed))
        with casimg.create(world.path, chunk_size=4096) as repo:
            for _ in range(3):
                world.put(repo)
            self._task = Task(name, world.pick(repo)) if name in READS else OPERATIONS[name].ready(world, repo)
        self._world = world

    def fail(self, number: int, result: Result) -> bool:
        """Fail moment `number` of the operation; False when it has fewer."""
        fault = _Fault(number)
        with self._copy() as world:
            with casimg.open(world.path) as repo:
                watch_parts(repo._wiring, fault, takes_files=bool(number % 2))
                error = self._attempt(repo, world)
            if fault.at is None:
                return False
            result.counts["faults"] += 1
            result.counts["raised to the caller" if error else "borne silently"] += 1
            result.histogram[f"{self._name}: {fault.at.part} {fault.at.when}"] += 1
            self._settle(world, result, f"fault {number} in {self._name} ({fault.at})", error)
        return True

    def lie(self, number: int, result: Result) -> bool:
        """Let read `number` of the operation answer wrongly; False when it has fewer."""
        with self._copy() as world:
            with casimg.open(world.path) as repo:
                liar = repo._wiring.backend = _LyingBackend(repo._wiring.backend, number)
                error = self._attempt(repo, world)
            if not liar.lied:
                return False
            result.counts["wrong answers"] += 1
            result.counts["wrong answers raised" if error else "wrong answers borne"] += 1
            self._settle(world, result, f"read {number} in {self._name} {liar.lied}", error)
        return True

    def _attempt(self, repo: Repository, world: World) -> Exception | None:
        """Do the operation; what it returns without an error must be true."""
        try:
            if self._name == "get":
                wrong = Truth(dict(world.truth.must)).wrongs(repo)
                real = [text for text in wrong if "WRONG" in text or "not in the catalog" in text]
                return AssertionError(real[0]) if real else ObjectDamagedError("", None, wrong[0]) if wrong else None
            if self._name == "check":
                repo.check(read_data=True)
            else:
                OPERATIONS[self._name].run(repo, self._task)
        except Exception as error:
            return error
        return None

    def _settle(self, world: World, result: Result, where: str, error: Exception | None) -> None:
        if error is not None and not isinstance(error, CasimgError):
            result.violations.append(f"{where}: {type(error).__name__}: {error}")
        try:
            with casimg.open(world.path) as repo:
                wrongs = world.truth.wrongs(repo) + check_wrongs(repo)
                if self._name not in READS:
                    again(world, repo, self._task)
                wrongs += collect_wrongs(repo) + world.truth.wrongs(repo)
        except Exception as second:
            wrongs = [f"{type(second).__name__}: {second}"]
        result.add_violations(f"{where} after {error!r}", wrongs)
        result.image_count += world.truth.image_count
        result.byte_count += world.truth.byte_count

    def _copy(self) -> "_Copy":
        return _Copy(self._folder / "copy", self._world)


class _Copy:
    """A copy of a world, removed at the end."""

    def __init__(self, folder: Path, made: World) -> None:
        self._folder = folder
        self._made = made

    def __enter__(self) -> World:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._made.folder, self._folder, ignore=shutil.ignore_patterns("reserve"))
        truth = Truth(dict(self._made.truth.must), dict(self._made.truth.may))
        return World(self._folder, random.Random(1), truth, dict(self._made.disks), self._made.number)

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def moments(folder: Path, name: str, seed: int) -> Iterator[Call]:
    """Yield every moment of one operation without failing any; for tests that the sweep reaches them all."""
    seen: list[Call] = []
    scene = _Scene(folder, name, seed)
    with scene._copy() as world, casimg.open(world.path) as repo:
        watch_parts(repo._wiring, seen.append)
        scene._attempt(repo, world)
    yield from seen
