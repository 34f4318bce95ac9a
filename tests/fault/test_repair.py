"""Repair: what still is somewhere comes back, what is nowhere is named and its last trace kept, whatever interrupts."""

import io
import random
import subprocess
import sys
from pathlib import Path

import pytest

import casimg
from casimg.backend.fault import FaultBackend
from casimg.catalog.schema import content_packs
from casimg.errors import DamageError
from casimg.repository import Repository
from tests.fault.damage import HARMLESS, KINDS, SIZE, collect, damage, packs_of, put, quarantined, read_all, second_copy


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
