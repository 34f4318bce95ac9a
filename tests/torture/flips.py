"""Damage in every kind of file: flipped bits, zeroed pages, cut ends, deleted files, two files swapped.

Each damage is done to a fresh copy of a repository, in which a process of its own then opens, checks with every byte
and reads all images. Packs and records: check must see it. No kind of file may ever lead to wrong bytes. A change of
the catalog that a record contradicts must be seen too; one that no record can contradict is counted, not hidden.
"""

import json
import multiprocessing
import random
import shutil
import sqlite3
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import casimg
from casimg.errors import CasimgError
from tests.torture.operations import World
from tests.torture.result import Result, replay_command
from tests.torture.truth import Truth, check_wrongs, digest
from tests.torture.victim import small_packs

KINDS = ("data pack", "metadata pack", "record", "index", "catalog", "catalog -wal", "casimg.json", "casimg.toml")
HOWS = ("flip", "zero page", "truncate", "delete", "swap")
ALWAYS_SEEN = ("data pack", "metadata pack", "record")
_LOOK_TIMEOUT_S = 60
_METADATA_KIND = 1


@dataclass(slots=True)
class Look:
    """What a process saw in a damaged repository.

    Attributes:
        refused: why it cannot be opened.
        problems: kinds of problems that check found.
        wrong: names of images that gave wrong bytes; never.
        failed: names of images that gave an error instead of bytes.
        absent: names of images that are not there.
        strange: names that no image was given.
        uncured: what is still wrong after a rebuild of the index.
        broke: an exception that is none of casimg's.
    """

    refused: str = ""
    problems: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    uncured: list[str] = field(default_factory=list)
    broke: str = ""

    @property
    def seen(self) -> bool:
        return bool(self.refused or self.problems)


def run(folder: Path, *, seed: int, count: int, kinds: tuple[str, ...] = KINDS) -> Result:
    """Do `count` damages, kinds and ways in turn."""
    result = Result("flips", seed, replay_command("flips", seed=seed, count=count))
    with result.timing():
        small_packs()
        rng = random.Random(seed)
        world = World(folder / "made", rng)
        world.folder.mkdir(parents=True)
        _make(world)
        pristine = _dump(world.path)
        ways = [(kind, how) for kind in kinds for how in HOWS if (kind, how) not in _MEANINGLESS]
        for number in range(count):
            kind, how = ways[number % len(ways)]
            copy = folder / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(world.path, copy, ignore=shutil.ignore_patterns("reserve"))
            path = rng.choice(files(copy, kind))
            other = None if how != "swap" else rng.choice([item for item in files(copy, kind) if item != path])
            what = damage(path, how, rng, other)
            _judge(world, copy, kind, how, f"damage {number}: {how} {path.relative_to(copy)} {what}", pristine, result)
            result.counts[f"{kind} damaged"] += 1
        with casimg.open(world.path) as repo:
            result.add_violations("the original at the end", world.truth.wrongs(repo) + check_wrongs(repo))
        result.image_count += world.truth.image_count
        result.byte_count += world.truth.byte_count
    return result


_MEANINGLESS = {
    *((kind, "swap") for kind in ("index", "catalog", "catalog -wal", "casimg.json", "casimg.toml")),
    ("catalog -wal", "delete"),  # then the last commits are gone, as restoring an older backup would do
    ("catalog -wal", "truncate"),
}


def _make(world: World) -> None:
    """Make a repository with images that share, one deleted and collected, and commits still in the catalog's log."""
    with casimg.create(world.path, chunk_size=4096) as repo:
        for _ in range(4):
            world.put(repo)
        world.delete(repo, sorted(world.truth.must)[0])
        repo.plan_gc().execute()
        parent = sorted(world.truth.must)[0]
        repo.snapshot(parent, name="snap")
        world.disks["snap"] = world.disks[parent]
        world.truth.must["snap"] = digest(world.disks[parent])
        # Closing would fold the log into the database; a copy taken now has both, as after a crash.
        for name in ("catalog.sqlite", "catalog.sqlite-wal"):
            shutil.copyfile(world.path / name, world.folder / name)
    for name in ("catalog.sqlite", "catalog.sqlite-wal"):
        shutil.copyfile(world.folder / name, world.path / name)


def files(root: Path, kind: str) -> list[Path]:
    """Return the files of a kind in a repository."""
    packs = [path for path in sorted((root / "objects" / "packs").rglob("*")) if path.is_file()]
    found = {
        "data pack": [path for path in packs if path.read_bytes()[10] != _METADATA_KIND],
        "metadata pack": [path for path in packs if path.read_bytes()[10] == _METADATA_KIND],
        "record": [path for path in sorted((root / "objects" / "records").rglob("*")) if path.is_file()],
        "index": [root / "index" / "data.mdb"],
        "catalog": [root / "catalog.sqlite"],
        "catalog -wal": [root / "catalog.sqlite-wal"],
        "casimg.json": [root / "objects" / "casimg.json"],
        "casimg.toml": [root / "casimg.toml"],
    }
    return found[kind]


def damage(path: Path, how: str, rng: random.Random, other: Path | None) -> str:
    """Damage a file and say where."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    if how == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif how == "zero page":
        low = at // 4096 * 4096
        if not any(data[low : low + 4096]):
            low = 0
        data[low : low + 4096] = bytes(len(data[low : low + 4096]))
    elif how == "truncate":
        del data[at:]
    elif other is not None:
        data, swapped = bytearray(other.read_bytes()), data
        other.write_bytes(swapped)
    if how == "delete":
        path.unlink()
    else:
        path.write_bytes(data)
    return f"at byte {at}"


def _judge(world: World, copy: Path, kind: str, how: str, where: str, pristine: list[str], result: Result) -> None:
    changed = set(_dump(copy)) ^ set(pristine) if kind.startswith("catalog") and how != "delete" else set()
    look = _look_apart(copy, world.truth.must, cure=kind == "index")
    if look is None:
        result.counts[f"{kind}: the process ended"] += 1
        result.notes.append(f"{where}: the process that looked was ended by a signal")
        if kind != "index":
            result.violations.append(f"{where}: the process that looked was killed")
        return
    result.image_count += len(world.truth.must) - len(look.failed) - len(look.absent)
    # A log that ends early is an older catalog: what was deleted since is there again, and check must say so.
    if look.wrong or (look.strange and not (kind == "catalog -wal" and look.seen)):
        result.violations.append(f"WRONG BYTES: {where}: {look}")
    if look.broke:
        result.violations.append(f"{where}: not one of casimg's errors: {look.broke}")
    if kind in ALWAYS_SEEN and not look.seen:
        result.violations.append(f"{where}: check saw nothing")
    if kind == "index" and (look.failed or look.absent or look.refused):
        result.violations.append(f"{where}: a damaged cache cost images: {look}")
    if kind == "index" and look.uncured:
        result.violations.append(f"{where}: not cured by a rebuild: {look.uncured}")
    if look.seen:
        result.counts[f"{kind}: seen"] += 1
    elif changed:
        tables = sorted({line.split('"')[1] for line in changed if line.startswith('INSERT INTO "')})
        result.counts[f"{kind}: changed a row, not seen"] += 1
        result.histogram[f"not seen in {', '.join(tables)}"] += 1
        if look.absent or look.failed:
            result.violations.append(f"{where}: images {look.absent + look.failed} are gone and check saw nothing")
    else:
        result.counts[f"{kind}: harmless"] += 1


def _look_apart(copy: Path, must: dict[str, str], *, cure: bool) -> Look | None:
    """Look in another process: a damaged memory map may end the one that reads it. None when it did."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.torture.flips"])
    said = copy.with_name("look.json")
    said.unlink(missing_ok=True)
    child = context.Process(target=_look, args=(str(copy), dict(must), str(said), cure))
    child.start()
    child.join(_LOOK_TIMEOUT_S)
    if child.is_alive():
        child.kill()
        child.join()
        return Look(broke=f"it hung for {_LOOK_TIMEOUT_S} s")
    return Look(**json.loads(said.read_text())) if said.exists() else None


def _look(path: str, must: dict[str, str], said: str, cure: bool) -> None:
    small_packs()
    look = Look()
    try:
        with casimg.open(path) as repo:
            look.problems = [f"{problem.kind}: {problem.what}"[:200] for problem in repo.check(read_data=True).problems]
            there = {image.name for image in repo.images()}
            look.absent = sorted(must.keys() - there)
            look.strange = sorted(there - must.keys())
            for name in sorted(must.keys() & there):
                try:
                    with repo.open_image(name) as file:
                        data = file.read_at(0, file.size)
                except CasimgError:
                    look.failed.append(name)
                    continue
                if digest(data) != must[name]:
                    look.wrong.append(name)
            if cure:
                repo.rebuild_index()
                look.uncured = Truth(dict(must)).wrongs(repo) + [problem.what for problem in repo.check().problems]
    except CasimgError as error:
        look.refused = f"{type(error).__name__}: {error}"
    except Exception:
        look.broke = traceback.format_exc()[-800:]
    part = Path(f"{said}.part")
    part.write_text(json.dumps({name: getattr(look, name) for name in Look.__slots__}))
    part.replace(said)


def _dump(root: Path) -> list[str]:
    """Return the rows of a catalog as SQL; what cannot be read is left out."""
    rows: list[str] = []
    copy = root.with_name("dump")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for path in root.glob("catalog.sqlite*"):  # looking at the log itself would fold it in
        shutil.copyfile(path, copy / path.name)
    database = sqlite3.connect(copy / "catalog.sqlite")
    database.text_factory = lambda data: data.decode(errors="replace")
    try:
        rows.extend(database.iterdump())
    except (sqlite3.Error, UnicodeError) as error:
        rows.append(f"unreadable: {error}")
    finally:
        database.close()
    return rows
