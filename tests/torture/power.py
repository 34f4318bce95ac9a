"""Power cuts on real file systems: what the kernel has not written to the device is lost, journal and all.

A victim works on a file system on a loop device. It is stopped at a seeded call or moment; the file behind the device
is copied as it is, without a sync; the victim is ended; the copy is mounted, which recovers its journal, and must
hold every image whose commit was reported. The repository lives on in the copy through the cuts of a run. Mutants
that leave the flushes out must lose something, or the whole proves nothing.
"""

import multiprocessing
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import casimg
from casimg.catalog import engine
from casimg.testing.watched import Call, watch_parts
from tests.torture.mounts import FileSystem
from tests.torture.mounts import run as run_command
from tests.torture.operations import repack
from tests.torture.result import Result, replay_command
from tests.torture.truth import Truth, check_wrongs, collect_wrongs, digest, disk, evolve
from tests.torture.victim import small_packs

MUTANTS = ("no-fsync", "sqlite-off")
"""Victims that report what is not durable: os.fsync does nothing; the catalog's database does not flush."""

_MUTANT_TRIES = 10
_READY_TIMEOUT_S = 60.0
_COPY_TRIES = 20


def run(folder: Path, *, seed: int, count: int, system: FileSystem, mutants: bool = True) -> Result:
    """Cut the power `count` times on one kind of file system; then let each mutant lose."""
    result = Result("power", seed, replay_command("power", seed=seed, count=count, file_system=system.name))
    why_not = system.why_not()
    if why_not is not None:
        result.notes.append(f"power cuts on {system.name} skipped: {why_not}")
        return result
    folder.mkdir(parents=True, exist_ok=True)
    with result.timing():
        base = folder / "base.img"
        system.new(base)
        with system.mounted(base, folder / "mount"):
            casimg.create(folder / "mount" / "r", chunk_size=4096).close()
        rng = random.Random(seed)
        image, truth = folder / "live.img", Truth()
        shutil.copyfile(base, image)
        for number in range(count):
            wrongs = _cut(system, folder, image, truth, rng.randrange(1 << 30), None, result)
            result.counts[f"cuts on {system.name}"] += 1
            result.add_violations(f"{system.name}, seed {seed}, cut {number}", wrongs)
            if wrongs:
                break
        for mutant in MUTANTS if mutants else ():
            _catch(system, folder, base, mutant, rng, result)
    result.image_count, result.byte_count = truth.image_count, truth.byte_count
    return result


def _catch(system: FileSystem, folder: Path, base: Path, mutant: str, rng: random.Random, result: Result) -> None:
    """Let a mutant lose; that it does not is a violation of the test itself."""
    for number in range(1, _MUTANT_TRIES + 1):
        image = folder / "mutant.img"
        shutil.copyfile(base, image)
        wrongs = _cut(system, folder, image, Truth(), rng.randrange(1 << 30), mutant, Result("", 0, ""))
        if wrongs:
            result.counts["mutants caught"] += 1
            result.notes.append(f"{system.name}: mutant {mutant} lost at try {number}: {wrongs[0][:150]}")
            return
    result.violations.append(f"{system.name}: mutant {mutant} lost nothing in {_MUTANT_TRIES} cuts: this test is blind")


def _cut(
    system: FileSystem, folder: Path, image: Path, truth: Truth, seed: int, mutant: str | None, result: Result
) -> list[str]:
    """Let a victim work on `image`, cut the power, and look; `image` is then the device after the cut."""
    rng = random.Random(seed)
    said, copy, point = folder / "said", folder / "copy.img", folder / "mount"
    said.write_bytes(b"")
    stop_at = rng.randrange(1, 1200) if rng.random() < 0.7 else None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.torture.power"])
    with system.mounted(image, point):
        child = context.Process(target=_work, args=(str(point / "r"), seed, str(said), stop_at, mutant))
        child.start()
        try:
            _stop(child, said, None if stop_at else rng.uniform(0.0, 1.0))
            _copy_still(image, copy)
            landed = said.read_text()
        finally:
            child.kill()
            child.join()
    copy.replace(image)
    _learn(truth, landed)
    rewritten = [int(line.split()[2]) for line in landed.splitlines() if line.startswith("done repack")]
    result.counts["repacks"] += len(rewritten)
    result.counts["packs rewritten"] += sum(rewritten)
    result.histogram[f"{system.name}: {_where(landed)}"] += 1
    try:
        with system.mounted(image, point), casimg.open(point / "r") as repo:
            wrongs = truth.wrongs(repo) + check_wrongs(repo)
            if not wrongs:
                while len(truth.must) > 4:
                    name = rng.choice(sorted(truth.must))
                    repo.delete(name)
                    del truth.must[name]
                wrongs = collect_wrongs(repo) + truth.wrongs(repo)
    except Exception as error:
        wrongs = [f"{type(error).__name__}: {error}"]
    return wrongs


def _stop(child: BaseProcess, said: Path, after_s: float | None) -> None:
    """Wait until the victim has stopped itself, or stop it some seconds after its first operation began."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if not child.is_alive() or child.pid is None:
            raise RuntimeError(f"the victim ended with {child.exitcode}: {said.read_text()[-300:]}")
        if _is_stopped(child.pid):
            return
        if after_s is not None and said.stat().st_size:
            time.sleep(after_s)
            os.kill(child.pid, signal.SIGSTOP)
            after_s = None
        time.sleep(0.005)
    raise TimeoutError("the victim neither ended nor stopped")


def _is_stopped(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task")
    with suppress(OSError):
        return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir())
    return False


def _copy_still(image: Path, copy: Path) -> None:
    """Copy the file behind the device as of one moment: again when the kernel wrote to it meanwhile."""
    for _ in range(_COPY_TRIES):
        before = os.stat(image).st_mtime_ns
        run_command(["cp", "--sparse=always", str(image), str(copy)])
        if os.stat(image).st_mtime_ns == before:
            return
        time.sleep(0.2)
    raise RuntimeError("the device never came to rest")


def _learn(truth: Truth, said: str) -> None:
    """Bring the truth to what the victim had begun and had reported when the power went."""
    for line in said.splitlines():
        word, verb, name, expected = [*line.split(), "", "", "", ""][:4]
        if word == "begin" and verb == "save":
            truth.may[name] = expected
        elif word == "done" and verb == "save":
            truth.must[name] = truth.may.pop(name)
        elif word == "begin" and verb == "delete":
            truth.may[name] = truth.must.pop(name)
        elif word == "done" and verb == "delete":
            truth.may.pop(name)


def _where(said: str) -> str:
    last = (said.splitlines() or ["nothing begun"])[-1].split()
    return " ".join(["in" if last[0] == "begin" else "between,", *last[1:2]])


def _work(path: str, seed: int, said: str, stop_at: int | None, mutant: str | None) -> None:
    """Put, snapshot, delete, collect and repack without end; report each before and after; stop at a seeded call."""
    small_packs()
    if mutant is not None:
        _mutate(mutant)
    fd = os.open(said, os.O_WRONLY | os.O_APPEND)
    left = [stop_at or 0]

    def tell(text: str) -> None:
        os.write(fd, f"{text}\n".encode())

    def watch(call: Call) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGSTOP)

    rng = random.Random(seed)
    with casimg.open(path) as repo:
        disks: dict[str, bytes] = {}
        watch_parts(repo._wiring, watch, takes_files=rng.random() < 0.8)
        for number in range(10_000):
            names = [image.name for image in repo.images()]
            kind = (
                rng.choice(("put", "snapshot", "disk", "delete", "gc", "repack", "repack", "repack"))
                if names
                else "put"
            )
            name = f"{seed}-{number}"
            if kind in ("snapshot", "disk"):
                parent = rng.choice(names)
                if parent not in disks:
                    with repo.open_image(parent) as file:
                        disks[parent] = file.read_at(0, file.size)
            if kind == "put":
                data = disk(rng.randrange(1 << 30), 16)
                tell(f"begin save {name} {digest(data)}")
                repo.put([data], name=name)
            elif kind == "snapshot":
                data = disks[parent]
                tell(f"begin save {name} {digest(data)}")
                repo.snapshot(parent, name=name)
            elif kind == "disk":
                data, ranges = evolve(disks[parent], rng.randrange(1 << 30))
                source = Path(said).with_name("source.raw")
                source.write_bytes(data)
                tell(f"begin save {name} {digest(data)}")
                repo.snapshot(parent, name=name, source=source, changed=ranges)
            elif kind == "delete":
                name = rng.choice(names)
                tell(f"begin delete {name}")
                repo.delete(name)
                tell(f"done delete {name}")
                continue
            elif kind == "repack":
                tell("begin repack")
                report = repack(repo)
                tell(f"done repack {report.repack_pack_count}")
                continue
            else:
                tell("begin gc")
                repo.plan_gc().execute()
                tell("done gc")
                continue
            disks[name] = data
            tell(f"done save {name}")


def _mutate(mutant: str) -> None:
    """Take the flushes out of this process."""
    if mutant == "no-fsync":
        setattr(os, "fsync", lambda fd: None)  # noqa: B010
    else:
        configure = engine._configure_sqlite

        def configure_off(connection: Any, record: object) -> None:
            configure(connection, record)
            connection.execute("PRAGMA synchronous=OFF").close()

        setattr(engine, "_configure_sqlite", configure_off)  # noqa: B010
