"""Collections on a full disk: what a rewrite without room wrote goes in the same run, and objects never grow."""

import array
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import casimg
from casimg.backend.base import Space
from casimg.backend.local import LocalBackend
from casimg.catalog.transaction import Database
from casimg.constants import KIB, KIND_DATA, MIB
from casimg.errors import IndexDamagedError, NoSpaceError
from casimg.formats.pack import FrameSpan, PackTrailer
from casimg.gc import waste
from casimg.gc.plan import plan_collection
from casimg.gc.waste import RepackRules
from casimg.index import Index
from casimg.repository import Repository
from casimg.results.upkeep import GcReport
from casimg.testing.watched import Call, watch_parts
from tests.conftest import needs_root
from tests.torture import mounts
from tests.torture.truth import left_over
from tests.torture.victim import small_packs

EAGER = RepackRules(unused_max=0.0, unused_pack_max=0.0, small_count=2)
"""Rewrites whatever could be smaller."""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    needs_root()
    with mounts.memory(tmp_path / "small", 48 * MIB) as point:
        yield point


def test_what_a_stopped_rewrite_wrote_goes_in_the_same_run(small: Path) -> None:
    """With room for some new packs only, a collection leaves fewer bytes than it found, and nothing of its own."""
    small_packs()
    with casimg.create(small / "r", chunk_size=4096) as repo:
        data = _half_needed(repo)
        _leave_free(small, 900 * KIB)
        before = _used(repo)
        report = _collect(repo)
        assert report.repack_stopped is not None
        assert _used(repo) <= before
        assert left_over(repo._wiring) == []
        assert _read(repo) == data
        (small / "ballast").unlink()
        assert _collect(repo).repack_stopped is None
        assert _used(repo) < 0.7 * before
        assert _read(repo) == data


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_object_that_got_no_row_goes_in_the_same_run(tmp_path: Path, number: int) -> None:
    """When the catalog has no room for the row of a new pack, its object goes too, and so do those before it."""
    small_packs()
    with casimg.create(tmp_path / "r", chunk_size=4096) as repo:
        data = _half_needed(repo)
        before = _used(repo)
        inserted = 0

        def watch(call: Call) -> None:
            nonlocal inserted
            if (call.what, call.when) == ("insert_pack", "before"):
                inserted += 1
                if inserted >= number:
                    raise NoSpaceError("test")

        watch_parts(repo._wiring, watch)
        report = _collect(repo)
        assert report.repack_stopped is not None
        assert report.size == 0, "what a collection wrote itself is not freed by it"
        assert inserted >= number
        assert _used(repo) <= before
        assert left_over(repo._wiring) == []
        assert _read(repo) == data


def test_a_second_lack_of_room_does_not_hide_what_was_freed(tmp_path: Path) -> None:
    """When even giving back finds no room, the report is there all the same, and the next collection does it."""
    small_packs()
    with casimg.create(tmp_path / "r", chunk_size=4096) as repo:
        data = _half_needed(repo)
        repo.put([random.Random(5).randbytes(300_000)], name="whole")
        repo.delete("whole")
        stopped = False

        def watch(call: Call) -> None:
            nonlocal stopped
            if (call.what, call.when) == ("switch", "before"):
                stopped = True
            if stopped and call.part == "catalog" and call.verb == "write":
                raise NoSpaceError("test")

        wiring = repo._wiring
        database = wiring.catalog._database
        watch_parts(wiring, watch)
        report = _collect(repo)
        assert report.repack_stopped is not None
        assert report.size >= 300_000
        wiring.catalog._database = database
        assert isinstance(database, Database)
        for session in wiring.catalog.sessions(ended=False):
            wiring.end_session(session.session_id)
        assert _collect(repo).repack_stopped is None
        assert left_over(wiring) == []
        assert _read(repo) == data


def test_nothing_is_gathered_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are stored once more for speed only where there is room; the next collection with room does it."""
    with casimg.create(tmp_path / "r", chunk_size=4096) as repo:
        rng = random.Random(3)
        disk = bytearray(rng.randbytes(4 * MIB))
        for number in range(30):
            for _ in range(90):
                at = rng.randrange(len(disk) - 3000)
                disk[at : at + 3000] = rng.randbytes(3000)
            repo.put([bytes(disk)], name=f"g{number}")
        with monkeypatch.context() as patch:
            patch.setattr(LocalBackend, "space", lambda _: Space(1000 * MIB, 100 * MIB))
            assert repo.plan_gc().execute().gathered_size == 0
        assert repo.plan_gc().execute().gathered_size > 0


def test_a_round_takes_no_more_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tight disk a round rewrites half of what is free, and at least one full pack."""
    asked: list[int] = []
    real = waste.rounds

    def spying(victims: Any, rules: RepackRules) -> Any:
        asked.append(rules.round_size)
        return real(victims, rules)

    monkeypatch.setattr("casimg.gc.plan.rounds", spying)
    with casimg.create(tmp_path / "r", chunk_size=4096) as repo:
        _half_needed(repo)
        for free in (10 * MIB, 300 * MIB, 10_000 * MIB):
            monkeypatch.setattr(LocalBackend, "space", lambda _, free=free: Space(20_000 * MIB, free))
            _collect(repo)
    assert asked == [64 * MIB, 150 * MIB, 512 * MIB]


@pytest.mark.parametrize("system", mounts.FILE_SYSTEMS, ids=lambda system: system.name)
def test_a_full_disk_is_no_damaged_index(tmp_path: Path, system: mounts.FileSystem) -> None:
    """LMDB's short writes are told as a lack of room; the index reads on, and writes when there is room again."""
    why_not = system.why_not()
    if why_not is not None:
        pytest.skip(why_not)
    rng = random.Random(1)
    for free in (0, 4096, 400 * KIB, 3 * MIB):
        system.new(tmp_path / "disk.img")
        with system.mounted(tmp_path / "disk.img", tmp_path / "mount") as point:
            index = Index.open(point / "index", "uuid", "incarnation")
            index.add_packs([(1, bytes(32), _trailer(rng))])
            _fill(point / "ballast", free)
            count = _add_until_full(index, rng)
            assert sorted(index.applied()) == list(range(1, count))
            (point / "ballast").unlink()
            index.add_packs([(count, bytes([count]) * 32, _trailer(rng))])
            assert sorted(index.applied()) == list(range(1, count + 1))
            index.close()


def test_a_failing_disk_with_room_is_a_damaged_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO is told as a lack of room only where there is none."""
    import lmdb

    index = Index.open(tmp_path / "index", "uuid", "incarnation")
    with pytest.raises(IndexDamagedError), index._translating():
        raise lmdb.Error("mdb_txn_commit: Input/output error")

    def refuse(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(NoSpaceError), index._translating():
        raise lmdb.Error("mdb_txn_commit: Input/output error")
    index.close()


def _half_needed(repo: Repository) -> bytes:
    """Leave an image that needs every second chunk of many packs, and return its bytes."""
    rng = random.Random(1)
    data = bytearray(rng.randbytes(6 * MIB))
    repo.put([bytes(data)], name="gone")
    for offset in range(0, len(data), 64 * KIB):
        data[offset : offset + 32 * KIB] = rng.randbytes(32 * KIB)
    repo.put([bytes(data)], name="kept")
    repo.delete("gone")
    repo.plan_gc(unused_max=1).execute()
    return bytes(data)


def _collect(repo: Repository) -> GcReport:
    return plan_collection(repo._wiring, EAGER).execute()


def _read(repo: Repository) -> bytes:
    with repo.open_image("kept") as file:
        return file.read()


def _used(repo: Repository) -> int:
    return sum(path.stat().st_size for path in (repo.path / "objects").rglob("*") if path.is_file())


def _leave_free(folder: Path, free: int) -> None:
    """Take all room but `free` bytes."""
    found = os.statvfs(folder)
    (folder / "ballast").write_bytes(bytes(found.f_bavail * found.f_frsize - free))


def _fill(path: Path, free: int) -> None:
    """Write a file until nothing fits, then give `free` bytes back."""
    with path.open("wb", buffering=0) as file:
        for step in (MIB, 4096):
            try:
                while True:
                    file.write(bytes(step))
            except OSError:
                continue
        file.truncate(max(0, os.fstat(file.fileno()).st_size - free))
        os.fsync(file.fileno())


def _add_until_full(index: Index, rng: random.Random) -> int:
    """Add packs 2, 3, ... until one finds no room, and return its number."""
    for number in range(2, 100):
        try:
            index.add_packs([(number, bytes([number]) * 32, _trailer(rng))])
        except NoSpaceError:
            return number
    raise AssertionError("the disk did not become full")


def _trailer(rng: random.Random) -> PackTrailer:
    count = 8000
    sizes = array.array("I", [4096] * count)
    return PackTrailer(KIND_DATA, 0, bytes(16), [FrameSpan(16, 100, 0, count)], sizes, rng.randbytes(32 * count))
