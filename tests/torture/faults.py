"""Fail every call, one at a time: each backend, index and catalog call of each operation, before, in and after it.

A repository is made once and copied for each fault. After the fault the repository is opened again: committed images
are read and compared, every byte is checked, the operation is done again, and a collection leaves nothing that no
image needs. Backends that answer wrongly (flipped, short, long, of another place) are tried the same way.
"""

import errno
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from casimg.results.upkeep import RecoverReport
from casimg.testing.watched import Call, Watch, WatchedTakingBackend, watch_parts
from tests.torture.operations import OPERATIONS, Task, World, again, do, make_ready, mend, reported
from tests.torture.result import Result, replay_command
from tests.torture.truth import Truth, check_wrongs, collect_wrongs
from tests.torture.victim import small_packs

_FAILED = {
    "backend": (BackendUnavailableError("test", "it failed"), NoSpaceError("test")),
    "catalog": (CatalogBusyError("the connection was lost"), NoSpaceError("test")),
    "index": (IndexDamagedError("test", "it failed"), NoSpaceError("test")),
    "files": (NoSpaceError("test"), NoSpaceError("test")),
}
_LIES = ("flipped", "short", "zeros", "elsewhere")
_SYSTEM_CALLS = (("pread", "EIO"), ("pread", "short"), ("fsync", "EIO"), ("fsync", "ENOSPC"), ("rename", "EIO"))
READS = ("get", "check")


def run(folder: Path, *, seed: int, step: int = 1, operations: tuple[str, ...] | None = None) -> Result:
    """Fail every `step`-th moment of every call, and let every `step`-th read of the backend answer wrongly."""
    result = Result("faults", seed, replay_command("faults", seed=seed, step=step))
    with result.timing():
        small_packs()
        for name in (*OPERATIONS, *READS) if operations is None else operations:
            scene = _Scene(folder / name, name, seed)
            scene.disturb_nothing(result)
            for number in itertools.count(1 + seed % step, step):
                if not scene.fail(number, result):
                    break
            for number in itertools.count(1 + seed % step, step):
                if not scene.lie(number, result):
                    break
            for function, how in _SYSTEM_CALLS:
                for number in itertools.count(1 + seed % step, step):
                    if not scene.fail_system(function, how, number, result):
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
        self._problem_count = 0
        self._did = True
        (folder / "made").mkdir(parents=True)
        world = World(folder / "made", random.Random(seed))
        with world.make() as repo:
            for _ in range(3):
                world.put(repo)
        self._task = Task(name) if name in READS else make_ready(world, name)
        self._world = world

    def disturb_nothing(self, result: Result) -> None:
        """Do the operation whole: it must do what it is attacked for, or the faults prove nothing."""
        with self._copy() as world:
            error = self._attempt(world)
            if error is not None or not self._did:
                result.violations.append(f"undisturbed, {self._name} did not do its work: {error!r}")
            self._settle(world, result, f"undisturbed {self._name}", error)

    def fail(self, number: int, result: Result) -> bool:
        """Fail moment `number` of the operation; False when it has fewer."""
        fault = _Fault(number)
        with self._copy() as world:
            error = self._attempt(world, fault, takes_files=bool(number % 2))
            if fault.at is None:
                return False
            result.counts["faults"] += 1
            result.counts["raised to the caller" if error else "borne silently"] += 1
            result.histogram[f"{self._name}: {fault.at.part} {fault.at.when}"] += 1
            self._settle(world, result, f"fault {number} in {self._name} ({fault.at})", error)
        return True

    def lie(self, number: int, result: Result) -> bool:
        """Let read `number` of the operation answer wrongly; False when it has fewer."""
        liars: list[_LyingBackend] = []

        def around(backend: Backend) -> Backend:
            liars.append(_LyingBackend(backend, number))
            return liars[-1]

        with self._copy() as world:
            error = self._attempt(world, around=around)
            liar = liars[-1]
            if not liar.lied:
                return False
            result.counts["wrong answers"] += 1
            result.counts["wrong answers raised" if error else "wrong answers borne"] += 1
            if self._name == "check" and error is None and not self._problem_count:
                result.notes.append(f"check bore read {number}, {liar.lied}, and found all right at the next try")
            self._settle(world, result, f"read {number} in {self._name} {liar.lied}", error)
        return True

    def fail_system(self, function: str, how: str, number: int, result: Result) -> bool:
        """Fail call `number` of a function of `os`, as a dying disk does; False when there are fewer."""
        real = getattr(os, function)
        count = 0

        def failing(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count != number:
                return real(*arguments, **named)
            if how == "short":
                return real(*arguments, **named)[:-1]
            raise OSError(getattr(errno, how), os.strerror(getattr(errno, how)))

        with self._copy() as world:
            error = self._attempt(world, begun=lambda: setattr(os, function, failing))
            setattr(os, function, real)
            if count < number:
                return False
            result.counts[f"{function} {how}"] += 1
            self._settle(world, result, f"{function} {number} in {self._name}: {how}", error)
        return True

    def _attempt(
        self,
        world: World,
        watch: Watch = lambda call: None,
        *,
        takes_files: bool = True,
        around: Callable[[Backend], Backend] = lambda backend: backend,
        begun: Callable[[], None] = lambda: None,
    ) -> Exception | None:
        """Do the operation; what it returns without an error must be true.

        Args:
            begun: called when the repository is open.
        """

        def watched(backend: Backend) -> Backend:
            begun()
            return around(backend)

        try:
            if self._name in READS:
                with casimg.open(world.path) as repo:
                    repo._wiring.backend = watched(repo._wiring.backend)
                    watch_parts(repo._wiring, watch, takes_files=takes_files)
                    return self._read(repo, world)
            report = do(world.path, self._task, watch, takes_files=takes_files, around=watched)
            self._did = OPERATIONS[self._name].did(report)
            if isinstance(report, RecoverReport) and report.problems:
                # It said what it could not use; a user who is told does it again.
                casimg.recover(world.path, force=True)
                return ObjectDamagedError("", None, report.problems[0].what)
            reported(world, self._task)
        except Exception as error:
            return error
        return None

    def _read(self, repo: Repository, world: World) -> Exception | None:
        if self._name == "check":
            self._problem_count = len(repo.check(read_data=True).problems)
            return None
        wrong = Truth(dict(world.truth.must)).wrongs(repo)
        real = [text for text in wrong if "WRONG" in text or "not in the catalog" in text]
        return AssertionError(real[0]) if real else ObjectDamagedError("", None, wrong[0]) if wrong else None

    def _settle(self, world: World, result: Result, where: str, error: Exception | None) -> None:
        if error is not None and not isinstance(error, CasimgError):
            result.violations.append(f"{where}: {type(error).__name__}: {error}")
        try:
            wrongs = mend(world, self._task)
            with casimg.open(world.path) as repo:
                wrongs += world.truth.wrongs(repo) + check_wrongs(repo)
            if self._name not in READS:
                wrongs += again(world, self._task)
            with casimg.open(world.path) as repo:
                wrongs += collect_wrongs(repo) + world.truth.wrongs(repo)
        except Exception as second:
            wrongs = [f"{type(second).__name__}: {second}"]
        result.add_violations(f"{where} after {error!r}", wrongs)
        result.image_count += world.truth.image_count
        result.byte_count += world.truth.byte_count

    def _copy(self) -> "Copy":
        return Copy(self._folder / "copy", self._world)


class Copy:
    """A copy of a world, removed at the end."""

    def __init__(self, folder: Path, made: World) -> None:
        self._folder = folder
        self._made = made

    def __enter__(self) -> World:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._made.folder, self._folder, ignore=shutil.ignore_patterns("reserve"))
        return self._made.copy(self._folder)

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def moments(folder: Path, name: str, seed: int) -> Iterator[Call]:
    """Yield every moment of one operation without failing any; for tests that the sweep reaches them all."""
    seen: list[Call] = []
    scene = _Scene(folder, name, seed)
    with scene._copy() as world:
        scene._attempt(world, seen.append)
    yield from seen
