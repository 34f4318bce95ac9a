"""Repair: what still is somewhere comes back, what is nowhere is named and its last trace kept, whatever interrupts."""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

import casimg
from casimg.backend.fault import FaultBackend
from casimg.catalog import packs as pack_rows
from casimg.catalog.schema import content_packs
from casimg.errors import BackendUnavailableError, DamageError, NoSpaceError
from casimg.repository import Repository
from tests.fault.damage import HARMLESS, KINDS, SIZE, damage, packs_of, put, read_all


def collect(repo: Repository) -> None:
    """Run a garbage collection."""
    repo.plan_gc().execute()


def second_copy(repo: Repository, name: str, data: bytes) -> None:
    """Store the data of "victim" once more in packs of their own, as another image."""
    pack_nos = [pack_no for kind in (0, 1) for pack_no in packs_of(repo, "victim", kind)]
    for pack_no in pack_nos:
        repo._wiring.catalog.transaction(partial(pack_rows.mark_damaged, pack_no=pack_no))
    repo.put(io.BytesIO(data), name=name)
    for pack_no in pack_nos:
        repo._wiring.catalog.transaction(partial(pack_rows.mark_verified, pack_no=pack_no))
    assert not set(packs_of(repo, "victim", 0)) & set(packs_of(repo, name, 0))


def quarantined(repo: Repository) -> list[str]:
    """Names of the packs kept aside."""
    return sorted(path.name for path in (repo.path / "objects" / "quarantine").rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", [0, 1], ids=["data", "metadata"])
@pytest.mark.parametrize("how", KINDS)
def test_with_a_second_copy_everything_heals(repo: Repository, how: str, kind: int) -> None:
    """Any damage of any pack heals from copies in other packs; the damaged object is kept aside, gc takes the rest."""
    data = put(repo, "victim")
    bystander = put(repo, "bystander", seed=2)
    second_copy(repo, "copy", data)
    (path,) = packs_of(repo, "victim", kind).values()
    damage(path, how, random.Random(kind))
    is_there = path.exists()
    report = repo.check(read_data=True, repair=True)
    assert report.problems
    assert report.repair is not None
    assert report.repair.lost == ()
    assert report.clean, report.problems
    assert quarantined(repo) == ([path.name] if is_there else [])
    assert read_all(repo, "victim") == data
    collect(repo)
    assert not path.exists()
    assert read_all(repo, "victim") == data
    assert read_all(repo, "copy") == data
    assert read_all(repo, "bystander") == bystander
    after = repo.check(read_data=True)
    assert after.problems == ()
    assert quarantined(repo) == ([path.name] if is_there else []), "gc must not touch what is kept aside"


@pytest.mark.parametrize("kind", [0, 1], ids=["data", "metadata"])
@pytest.mark.parametrize("how", KINDS)
def test_without_a_copy_nothing_more_is_lost_and_the_same_data_heals(repo: Repository, how: str, kind: int) -> None:
    """What is nowhere is named with its range, all else reads, nothing is removed; the same data again heals."""
    data = put(repo, "victim")
    put(repo, "bystander", seed=2)
    (path,) = packs_of(repo, "victim", kind).values()
    damage(path, how, random.Random(7))
    report = repo.check(read_data=True, repair=True)
    assert report.repair is not None
    if how in HARMLESS:
        assert report.clean
        assert report.repair.lost == ()
        collect(repo)
        assert not path.exists()
        assert read_all(repo, "victim") == data
        assert repo.check(read_data=True).problems == ()
        return
    assert not report.clean
    (lost,) = report.repair.lost
    assert "victim" in lost.images[0]
    assert lost.size == sum(item.size for item in lost.ranges)
    assert 0 < lost.size <= SIZE
    there = path.read_bytes() if path.exists() else None
    collect(repo)
    collect(repo)
    assert (path.read_bytes() if path.exists() else None) == there, "the last copy is never touched"
    with pytest.raises(DamageError):
        read_all(repo, "victim")
    at = 0
    with repo.open_image("victim") as file:
        for item in (*lost.ranges, casimg.ByteRange(SIZE, 0)):
            assert file.read_at(at, item.offset - at) == data[at : item.offset], "all but the lost ranges must read"
            at = item.offset + item.size
    again = repo.check(repair=True)
    assert again.repair is not None
    assert again.repair.lost == (lost,), "a second repair finds the same and loses nothing"

    repo.put(io.BytesIO(data), name="again")
    healed = repo.check(repair=True)
    assert healed.clean, healed.problems
    assert healed.repair is not None
    assert any("victim" in label for label in healed.repair.healed)
    assert read_all(repo, "victim") == data
    collect(repo)
    assert not path.exists()
    assert repo.check(read_data=True).problems == ()
    assert read_all(repo, "victim") == data


def test_other_images_keep_what_they_share(repo: Repository) -> None:
    """Of two images on one damaged pack one that needs only whole frames is healed; the other keeps its name."""
    data = put(repo, "victim")
    repo.put(io.BytesIO(data[: SIZE // 3]), name="begin")
    (path,) = packs_of(repo, "victim", 0).values()
    assert set(packs_of(repo, "begin", 0)) & set(packs_of(repo, "victim", 0))
    bad = bytearray(path.read_bytes())
    trailer_start = len(bad) * 8 // 10
    bad[trailer_start] ^= 255
    path.write_bytes(bad)
    report = repo.check(read_data=True, repair=True)
    assert report.repair is not None
    assert [("begin" in label, "victim" in label) for label in report.repair.healed] == [(True, False)]
    repo.delete("victim")
    collect(repo)
    assert not path.exists(), "the image that was healed does not need it"
    assert read_all(repo, "begin") == data[: SIZE // 3]
    assert repo.check(read_data=True).problems == ()


def test_every_pack_damaged_at_once(repo: Repository) -> None:
    """Flips in all packs of several images: after putting one of them again the others still have what they had."""
    images = {f"image-{seed}": put(repo, f"image-{seed}", seed=seed) for seed in range(3)}
    rng = random.Random(5)
    for name in images:
        for kind in (0, 1):
            for path in packs_of(repo, name, kind).values():
                damage(path, "flip", rng)
    report = repo.check(read_data=True, repair=True)
    assert report.repair is not None
    for name, data in images.items():
        repo.put(io.BytesIO(data), name=f"again-{name}")
    assert repo.check(read_data=True, repair=True).clean
    for name, data in images.items():
        assert read_all(repo, name) == data
    collect(repo)
    assert repo.check(read_data=True).problems == ()


def test_a_chunk_that_no_pack_of_its_content_holds(repo: Repository) -> None:
    """A content whose row for a pack is missing is reported, and healed from the pack that was not named."""
    data = put(repo, "victim")
    put(repo, "bystander", seed=2)
    second_copy(repo, "copy", data)
    (pack_no,) = packs_of(repo, "victim", 0)
    content_id = repo.image("victim").content_id
    repo._wiring.catalog.transaction(
        lambda connection: connection.execute(
            content_packs.delete().where(content_packs.c.content_id == content_id, content_packs.c.pack_no == pack_no)
        )
    )
    assert {problem.kind for problem in repo.check().problems} == {"chunk-lost"}
    assert repo.check(repair=True).clean
    assert repo.check(read_data=True).problems == ()
    assert read_all(repo, "victim") == data


REPAIR = (
    "import casimg, os, signal, sys\n"
    "from casimg.backend.fault import FaultBackend\n"
    "count = 0\n"
    "def step(*_):\n"
    "    global count\n"
    "    count += 1\n"
    "    if count == int(sys.argv[2]):\n"
    "        os.kill(os.getpid(), signal.SIGKILL)\n"
    "with casimg.open(sys.argv[1]) as repo:\n"
    "    wiring = repo._wiring\n"
    "    wiring.backend = FaultBackend(wiring.backend, step)\n"
    "    transaction = wiring.catalog.transaction\n"
    "    def counted(work, **options):\n"
    "        step()\n"
    "        done = transaction(work, **options)\n"
    "        step()\n"
    "        return done\n"
    "    wiring.catalog.transaction = counted\n"
    "    print(repo.check(repair=True).clean, count)\n"
)


def test_a_killed_repair_is_run_again(tmp_path: Path) -> None:
    """kill -9 at many points of a repair, again and again on one repository: no byte is lost, the last run heals."""
    with casimg.create(tmp_path / "r") as repo:
        data = put(repo, "victim", size=1_500_000)
        second_copy(repo, "copy", data)
        for kind in (0, 1):
            for path in packs_of(repo, "victim", kind).values():
                damage(path, "flip", random.Random(3))
        repo.check(read_data=True)
    number, killed = 3, 0
    while True:
        child = subprocess.run(
            [sys.executable, "-c", REPAIR, str(tmp_path / "r"), str(number)],
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode != -signal.SIGKILL:
            break
        killed += 1
        with casimg.open(tmp_path / "r") as repo:
            assert read_all(repo, "copy") == data
            if killed % 3 == 0:
                collect(repo)
        number += max(4, number // 5)
    assert child.stdout.startswith("True"), child.stderr
    assert killed >= 5
    with casimg.open(tmp_path / "r") as repo:
        assert read_all(repo, "victim") == data
        collect(repo)
        assert read_all(repo, "victim") == data
        assert repo.check(read_data=True).problems == ()


def test_every_backend_call_of_a_repair_may_fail(tmp_path: Path) -> None:
    """With call n of the backend failing, for every n: a repair costs no byte, and the next one heals."""
    with casimg.create(tmp_path / "base") as repo:
        data = put(repo, "victim", size=200_000)
        second_copy(repo, "copy", data)
        for kind in (0, 1):
            for path in packs_of(repo, "victim", kind).values():
                damage(path, "flip", random.Random(3))
        repo.check(read_data=True)
    number = 0
    outcomes: set[object] = set()
    while True:
        number += 1
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "base", folder)

        def fail(_verb: str, key: str, call: int, number: int = number) -> Exception | None:
            return BackendUnavailableError("test", key) if call == number else None

        with casimg.open(folder) as repo:
            inner = repo._wiring.backend
            backend = repo._wiring.backend = FaultBackend(inner, fail)
            try:
                outcomes.add(repo.check(repair=True).clean)
            except BackendUnavailableError:
                outcomes.add("refused")
            repo._wiring.backend = inner
            assert repo.sessions() == [], "a repair that failed leaves no session open"
            assert read_all(repo, "copy") == data
            collect(repo)
            assert repo.check(repair=True).clean
            assert read_all(repo, "victim") == data
            assert repo.check(read_data=True).clean
        shutil.rmtree(folder)
        if backend.call_count < number:
            break
    assert number > 40
    assert outcomes == {True, "refused"}


def test_a_medium_that_fails_in_places(repo: Repository) -> None:
    """EIO in some ranges of a pack: all other chunks are saved, and the copy kept aside has zeros there."""
    data = put(repo, "victim")
    second_copy(repo, "copy", data)
    (path,) = packs_of(repo, "victim", 0).values()
    inner = repo._wiring.backend
    bad_start = path.stat().st_size // 2

    class BadSector(FaultBackend):
        def get_range(self, key: str, offset: int, size: int) -> bytes:
            if key.endswith(path.name) and key.startswith("packs/") and offset <= bad_start < offset + size:
                raise casimg.errors.ObjectDamagedError(key, offset, "input/output error")
            return super().get_range(key, offset, size)

    repo._wiring.backend = BadSector(inner, lambda *_: None)
    report = repo.check(read_data=True, repair=True)
    assert report.clean, report.problems
    assert report.repair is not None
    assert report.repair.saved_count > 50
    assert quarantined(repo) == [path.name]
    assert read_all(repo, "victim") == data
    kept = (repo.path / "objects" / report.repair.set_aside[0]).read_bytes()
    good = path.read_bytes()
    wrong = [at for at in range(len(good)) if good[at] != kept[at]]
    assert len(kept) == len(good)
    assert wrong
    assert wrong[-1] - wrong[0] < 4096


def test_a_full_disk_stops_a_repair_unharmed(repo: Repository) -> None:
    """No space for the new packs: the repair says so, everything is as before, and it works when there is space."""
    data = put(repo, "victim")
    second_copy(repo, "copy", data)
    (path,) = packs_of(repo, "victim", 0).values()
    damage(path, "flip", random.Random(1))
    inner = repo._wiring.backend
    repo._wiring.backend = FaultBackend(inner, lambda verb, _key, _n: NoSpaceError("test") if verb == "put" else None)
    with pytest.raises(NoSpaceError):
        repo.check(read_data=True, repair=True)
    repo._wiring.backend = inner
    assert repo.sessions() == []
    assert path.exists()
    assert repo.check(repair=True).clean
    assert read_all(repo, "victim") == data


CHURN = (
    "import casimg, io, os, sys\n"
    "from tests.conftest import mixed_bytes\n"
    "with casimg.open(sys.argv[1]) as repo:\n"
    "    print('ready', flush=True)\n"
    "    for number in range(1000):\n"
    "        name = f'churn-{number}'\n"
    "        data = bytes(mixed_bytes(700_000, seed=number % 3)) + os.urandom(1000)\n"
    "        repo.put(io.BytesIO(data), name=name)\n"
    "        sink = io.BytesIO()\n"
    "        repo.get(name, sink)\n"
    "        assert sink.getvalue() == data\n"
    "        if number % 2:\n"
    "            repo.delete(name)\n"
    "            repo.plan_gc().execute()\n"
    "        print(number, flush=True)\n"
)


def test_repair_while_another_process_puts_and_collects(tmp_path: Path) -> None:
    """Damage, repair, put and gc at once: the other process never fails, and everything is right in the end."""
    with casimg.create(tmp_path / "r") as repo:
        images = {f"image-{seed}": put(repo, f"image-{seed}", seed=seed, size=700_000) for seed in range(3)}
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        child = subprocess.Popen(
            [sys.executable, "-c", CHURN, str(tmp_path / "r")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            rng = random.Random(11)
            for _ in range(4):
                child.stdout.readline()
                name, data = rng.choice(sorted(images.items()))
                for path in packs_of(repo, name, rng.randrange(2)).values():
                    # Frames stay whole: what the other process reads meanwhile must not be lost by the test itself.
                    damage(path, rng.choice(HARMLESS), rng)
                report = repo.check(read_data=True, repair=True)
                assert report.repair is not None
                assert report.repair.lost == ()
                assert read_all(repo, name) == data
            assert child.poll() is None, child.stderr.read() if child.stderr else ""
        finally:
            child.kill()
            child.communicate()
        collect(repo)
        for name, data in images.items():
            assert read_all(repo, name) == data
        assert repo.check(read_data=True, repair=True).clean
        assert repo.check(read_data=True).clean


def test_no_writer_relies_on_a_damaged_pack(repo: Repository, tmp_path: Path) -> None:
    """When a check found a pack damaged, put, dry run and snapshot store its chunks anew; verified it counts again."""
    data = put(repo, "victim")
    bad_packs = set(packs_of(repo, "victim", 0)) | set(packs_of(repo, "victim", 1))
    goods = {path: path.read_bytes() for kind in (0, 1) for path in packs_of(repo, "victim", kind).values()}
    for path in goods:
        damage(path, "flip", random.Random(1))
    assert repo.put_report(io.BytesIO(data), name="before", dry_run=True).new_size == 0
    repo.check(read_data=True)
    assert repo.put_report(io.BytesIO(data), name="dry", dry_run=True).new_size > 0
    repo.put(io.BytesIO(data), name="fresh")
    disk = tmp_path / "disk"
    disk.write_bytes(data)
    repo.snapshot("victim", name="read", source=disk)
    for name in ("fresh", "read"):
        assert not (set(packs_of(repo, name, 0)) | set(packs_of(repo, name, 1))) & bad_packs
        assert read_all(repo, name) == data
    for path, good in goods.items():
        path.write_bytes(good)
    assert repo.check().problems == (), "objects brought back are read whole, and right"
    repo.put(io.BytesIO(data), name="after")
    row = {row.pack_no: row for row in repo._wiring.catalog.all_packs(("live",))}
    assert not any(row[pack_no].damaged for pack_no in bad_packs)


def test_two_repairs_at_once(repo: Repository) -> None:
    """Two repairs of the same damage: both end, one of them may do it all, and nothing is lost."""
    data = put(repo, "victim")
    second_copy(repo, "copy", data)
    for path in packs_of(repo, "victim", 0).values():
        damage(path, "flip", random.Random(1))
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with casimg.open(repo.path) as own:
                own.check(read_data=True, repair=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert read_all(repo, "victim") == data
    collect(repo)
    assert repo.check(read_data=True).problems == ()


@pytest.mark.parametrize("how", ["truncate", "delete", "grow", "trailer"])
def test_repair_without_reading_data(repo: Repository, how: str) -> None:
    """What sizes and entry lists show is repaired without reading the data of sound packs."""
    data = put(repo, "victim")
    second_copy(repo, "copy", data)
    for kind in (0, 1):
        for path in packs_of(repo, "victim", kind).values():
            damage(path, how, random.Random(1))
    assert repo.check(repair=True).clean
    assert read_all(repo, "victim") == data
    collect(repo)
    assert repo.check(read_data=True).problems == ()


def test_a_snapshot_with_a_map_of_a_damaged_parent_heals_with_it(repo: Repository, tmp_path: Path) -> None:
    """A map takes subtrees over unread and may name a damaged pack; putting the data again heals parent and child."""
    data = put(repo, "victim", size=12_000_000)
    for kind in (0, 1):
        for path in packs_of(repo, "victim", kind).values():
            damage(path, "flip", random.Random(2))
    repo.check(read_data=True)
    disk = tmp_path / "disk"
    changed = b"new" * 1000 + data[3000:]
    disk.write_bytes(changed)
    repo.put(io.BytesIO(data), name="again")
    assert repo.check(read_data=True, repair=True).clean
    repo.snapshot("victim", name="child", source=disk, changed=[casimg.ByteRange(0, 4096)])
    assert read_all(repo, "child") == changed
    for path in packs_of(repo, "victim", 0).values():
        damage(path, "flip", random.Random(3))
    repo.check(read_data=True)
    repo.snapshot("victim", name="late", source=disk, changed=[casimg.ByteRange(0, 4096)])
    assert set(packs_of(repo, "late", 0)) & set(packs_of(repo, "victim", 0))
    disk.write_bytes(data)
    repo.put(disk, name="once more")
    assert repo.check(read_data=True, repair=True).clean
    for name, bytes_of in (("victim", data), ("child", changed), ("late", changed), ("once more", data)):
        assert read_all(repo, name) == bytes_of
    collect(repo)
    assert repo.check(read_data=True).problems == ()


def test_an_image_deleted_while_it_is_repaired(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image goes, and a collection runs, between the walk and the commit of a repair: nothing of it stays."""
    data = put(repo, "victim")
    put(repo, "bystander", seed=2)
    second_copy(repo, "copy", data)
    paths = list(packs_of(repo, "victim", 0).values())
    damage(paths[0], "flip", random.Random(1))
    transaction = repo._wiring.catalog.transaction

    def delete_first(work: object, **options: int) -> object:
        if getattr(getattr(work, "func", None), "__name__", "") == "switch":
            monkeypatch.undo()
            with casimg.open(repo.path) as other:
                other.delete("victim")
                other.plan_gc().execute()
        return transaction(work, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(repo._wiring.catalog, "transaction", delete_first)
    repo.check(read_data=True, repair=True)
    collect(repo)
    assert not paths[0].exists()
    assert read_all(repo, "copy") == data
    assert repo.check(read_data=True).problems == ()
    repo.delete("copy")
    repo.delete("bystander")
    collect(repo)
    assert repo.stats().stored_size == 0


def test_the_command_line_tells_what_was_lost_and_healed(repo: Repository) -> None:
    """check --repair prints lost ranges and what to do, exits 10; when the data was put again it exits 0."""
    data = put(repo, "victim")
    (path,) = packs_of(repo, "victim", 0).values()
    damage(path, "flip", random.Random(1))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "casimg", "check", "--repo", str(repo.path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run("--read-data", "--subset", "100%", "--repair")
    assert done.returncode == 10, done.stderr
    assert "LOST" in done.stdout
    assert "again" in done.stdout
    repo.put(io.BytesIO(data), name="again")
    done = run("--repair")
    assert done.returncode == 0, done.stdout
    assert "whole again: victim" in done.stdout
    assert "quarantine/" in done.stdout
    assert run("--json").returncode == 0
