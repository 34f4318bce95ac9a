"""Many processes on one repository: four write, two read, one collects, one repacks, one deletes, and one is stopped.

Every name ends with the digest of the image's bytes, so that any process can judge any image. Now and then a writer is
stopped (SIGSTOP), its session's heartbeat is made old in the database, a collection fences it, and it goes on
(SIGCONT): it must fail as fenced, or have committed before. At the end all that should be there is compared, all is
deleted, and a collection must leave nothing.

Allowed, and counted: a busy catalog, a fenced session (only when one was fenced), a parent or image that is not found
after its deletion. Anything else a process raises is a violation.
"""

import contextlib
import io
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import casimg
from casimg.errors import CatalogBusyError, DamageError, ImageNotFoundError, SessionFencedError
from casimg.repository import Repository
from tests.torture.operations import repack
from tests.torture.result import Result, replay_command
from tests.torture.truth import Truth, check_wrongs, collect_wrongs, digest, disk, evolve
from tests.torture.victim import small_packs

_IMAGE_COUNT_MAX = 24
_JOIN_TIMEOUT_S = 120.0
_STOPPED_TIME_MAX_S = 4.0
_AGE_US = 3600 * 1_000_000


def run(folder: Path, *, seed: int, seconds: float) -> Result:
    """Let all of them work for so long, then look."""
    result = Result("fleet", seed, replay_command("fleet", seed=seed, seconds=seconds))
    folder.mkdir(parents=True, exist_ok=True)
    small_packs()
    with result.timing():
        path = folder / "r"
        casimg.create(path, chunk_size=4096).close()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.torture.fleet"])
        roles = ["writer"] * 4 + ["reader"] * 2 + ["collector", "repacker", "deleter"]
        until = time.time() + seconds
        children = [
            context.Process(target=_live, args=(role, str(path), seed * 100 + number, str(folder), until))
            for number, role in enumerate(roles)
        ]
        for child in children:
            child.start()
        try:
            _fence_now_and_then(path, children[:4], random.Random(seed), until, result)
        finally:
            for child in children:
                child.join(_JOIN_TIMEOUT_S)
                if child.is_alive():
                    result.violations.append(f"seed {seed}: {child.name} hung")
                    child.kill()
                    child.join()
        truth = _truth(folder, [seed * 100 + number for number in range(len(roles))], result)
        _look(path, truth, result)
    return result


def _look(path: Path, truth: Truth, result: Result) -> None:
    where = f"seed {result.seed}, at the end"
    with casimg.open(path) as repo:
        result.counts["images at the end"] += len(repo.images())
        result.add_violations(where, truth.wrongs(repo) + check_wrongs(repo))
        result.add_violations(where, collect_wrongs(repo) + truth.wrongs(repo))
        for image in repo.images():
            repo.delete(image.id)
        result.add_violations(f"{where}, all deleted", collect_wrongs(repo))
        objects = [found.key for found in repo._wiring.backend.list("") if found.key != "casimg.json"]
        result.add_violations(f"{where}, all deleted", [f"{key} is left" for key in objects])
    result.image_count += truth.image_count
    result.byte_count += truth.byte_count


def _truth(folder: Path, numbers: list[int], result: Result) -> Truth:
    """Join what the processes said: what must be there, what may be, and what they counted."""
    saves: dict[str, str] = {}
    saved: set[str] = set()
    condemned: set[str] = set()
    deleted: set[str] = set()
    for number in numbers:
        report = json.loads((folder / f"{number}.json").read_text()) if (folder / f"{number}.json").exists() else {}
        result.counts += Counter(report.get("counts", {}))
        result.violations += report.get("violations", [f"process {number} left no report"])
        result.image_count += report.get("image_count", 0)
        result.byte_count += report.get("byte_count", 0)
        said = folder / f"{number}.said"
        for line in said.read_text().splitlines() if said.exists() else ():
            what, name = line.split(" ", 1)
            if what == "save":
                saves[name] = name.rpartition("-")[2]
            {"saved": saved, "delete": condemned, "deleted": deleted}.get(what, set()).add(name)
    must = {name: saves[name] for name in saved - condemned}
    return Truth(must, {name: expected for name, expected in saves.items() if name not in must and name not in deleted})


def _fence_now_and_then(
    path: Path, writers: Sequence[BaseProcess], rng: random.Random, until: float, result: Result
) -> None:
    with casimg.open(path) as repo:
        while time.time() < until - 0.5:
            time.sleep(rng.uniform(0.2, 1.5))
            writer = rng.choice(writers)
            if writer.pid is None or not writer.is_alive():
                continue
            os.kill(writer.pid, signal.SIGSTOP)
            # It may hold the lock of the index's one writer, on which the collection here would wait for ever.
            wake = threading.Timer(_STOPPED_TIME_MAX_S, os.kill, (writer.pid, signal.SIGCONT))
            wake.start()
            try:
                if _age_session(path, writer.pid, result):
                    result.counts["writers stopped beyond the fence"] += 1
                    result.counts["sessions fenced"] += repo.plan_gc().execute().fenced_count
            except CatalogBusyError:
                result.counts["busy"] += 1
            finally:
                wake.cancel()
                with contextlib.suppress(ProcessLookupError):  # woken before, and done
                    os.kill(writer.pid, signal.SIGCONT)


def _age_session(path: Path, pid: int, result: Result) -> bool:
    """Make the heartbeat of a stopped writer's session old; False when it has none, or holds the database."""
    database = sqlite3.connect(path / "catalog.sqlite", timeout=0.3, isolation_level=None)
    try:
        done = database.execute(
            "UPDATE sessions SET heartbeat = heartbeat - ? WHERE pid = ? AND state = 'open'", (_AGE_US, pid)
        )
        return done.rowcount > 0
    except sqlite3.OperationalError:
        result.counts["stopped inside a transaction"] += 1
        return False
    finally:
        database.close()


class _Process:
    """What each process of the fleet has."""

    def __init__(self, repo: Repository, number: int, folder: Path) -> None:
        self.repo = repo
        self.number = number
        self.folder = folder
        self.rng = random.Random(number)
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.image_count = 0
        self.byte_count = 0
        self.turn = 0
        self.last: tuple[str, bytes] | None = None
        self._said = os.open(folder / f"{number}.said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(self, what: str, name: str) -> None:
        os.write(self._said, f"{what} {name}\n".encode())

    def report(self) -> None:
        fields = ("counts", "violations", "image_count", "byte_count")
        text = json.dumps({name: getattr(self, name) for name in fields})
        (self.folder / f"{self.number}.json").write_text(text)


def _live(role: str, path: str, number: int, folder: str, until: float) -> None:
    small_packs()
    turn: Callable[[_Process], None] = {
        "writer": _write,
        "reader": _read,
        "collector": _collect,
        "repacker": _repack,
        "deleter": _delete,
    }[role]
    with casimg.open(path) as repo:
        process = _Process(repo, number, Path(folder))
        while time.time() < until:
            process.turn += 1
            try:
                turn(process)
            except CatalogBusyError:
                process.counts["busy"] += 1
            except SessionFencedError:
                process.counts["fenced, as it should be"] += 1
                process.last = None
            except Exception:
                process.violations.append(f"{role} {number}, turn {process.turn}: {traceback.format_exc()[-1500:]}")
                if len(process.violations) > 3:
                    break
        process.report()


def _write(process: _Process) -> None:
    rng, repo = process.rng, process.repo
    if len(repo.images()) >= _IMAGE_COUNT_MAX:
        time.sleep(0.05)
        return
    kind = rng.choice(("put", "snapshot", "disk", "disk")) if process.last else "put"
    if process.last is None or kind == "put":
        data = disk(rng.randrange(1 << 30), 24)
        name = _name(process, data)
        process.tell("save", name)
        repo.put([data], name=name)
    else:
        parent, data = process.last
        try:
            if kind == "snapshot":
                name = _name(process, data)
                process.tell("save", name)
                repo.snapshot(parent, name=name)
            else:
                data, ranges = evolve(data, rng.randrange(1 << 30))
                source = process.folder / f"{process.number}.raw"
                source.write_bytes(data)
                name = _name(process, data)
                process.tell("save", name)
                repo.snapshot(parent, name=name, source=source, changed=ranges)
        except ImageNotFoundError:
            process.last = None
            process.counts["parent deleted meanwhile"] += 1
            return
    process.tell("saved", name)
    process.counts[f"committed: {kind}"] += 1
    process.last = name, data


def _name(process: _Process, data: bytes) -> str:
    return f"w{process.number}-{process.turn}-{digest(data)}"


def _read(process: _Process) -> None:
    repo = process.repo
    images = repo.images()
    if not images:
        time.sleep(0.05)
        return
    image = process.rng.choice(images)
    try:
        if process.rng.random() < 0.5:
            with repo.open_image(image.id) as file:
                data = file.read_at(0, file.size)
        else:
            sink = io.BytesIO()
            repo.get(image.id, sink)
            data = sink.getvalue()
    except (ImageNotFoundError, DamageError) as error:
        if any(other.id == image.id for other in repo.images()):
            raise
        process.counts[f"read of an image deleted meanwhile: {type(error).__name__}"] += 1
        return
    if digest(data) != image.name.rpartition("-")[2]:
        process.violations.append(f"WRONG BYTES: {image.name}")
    process.counts["reads compared"] += 1
    process.image_count += 1
    process.byte_count += len(data)


def _collect(process: _Process) -> None:
    report = process.repo.plan_gc().execute()
    process.counts["collections"] += 1
    process.counts["packs freed"] += report.pack_count
    process.counts["sessions fenced"] += report.fenced_count
    if report.orphans_refused is not None:
        process.violations.append(f"orphans refused: {report.orphans_refused}")
    time.sleep(process.rng.uniform(0, 0.2))


def _repack(process: _Process) -> None:
    report = repack(process.repo)
    process.counts["repacks"] += 1
    process.counts["packs rewritten"] += report.repack_pack_count
    process.counts["packs a repack left as they were"] += len(report.repack_failed)
    process.counts["packs freed"] += report.pack_count
    process.counts["sessions fenced"] += report.fenced_count
    if report.orphans_refused is not None:
        process.violations.append(f"orphans refused: {report.orphans_refused}")


def _delete(process: _Process) -> None:
    repo, rng = process.repo, process.rng
    images = repo.images()
    if len(images) < _IMAGE_COUNT_MAX // 2:
        time.sleep(0.05)
        return
    image = rng.choice(images)
    if rng.random() < 0.2:
        decisions = repo.prune_snapshots(image.id, keep_last=1, dry_run=True)
        for decision in decisions:
            process.tell("delete", decision.image.name)
        # The decision may take in snapshots made since; only those it tells of are gone for sure.
        for decision in repo.prune_snapshots(image.id, keep_last=1):
            if not decision.kept:
                process.tell("delete", decision.image.name)
                process.tell("deleted", decision.image.name)
                process.counts["pruned"] += 1
        return
    process.tell("delete", image.name)
    repo.delete(image.id)
    process.tell("deleted", image.name)
    process.counts["deleted"] += 1
