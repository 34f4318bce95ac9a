"""Repack as users meet it: space comes back, bytes do not change, readers and writers do not notice."""

import contextlib
import io
import os
import random
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import casimg
from casimg import packing
from casimg.backend.fault import FaultBackend
from casimg.catalog import PackRow
from casimg.catalog import packs as pack_rows
from casimg.constants import KIND_DATA, KIND_METADATA
from casimg.errors import BackendUnavailableError, CasimgError, SessionFencedError
from casimg.gc import repack
from casimg.gc.plan import plan_collection
from casimg.gc.repack import RepackFigures, rewrite
from casimg.gc.waste import RepackRules, Victim, choose, measure
from casimg.ids import PackId
from casimg.pack.keys import pack_key
from casimg.repository import Repository
from casimg.results.upkeep import GcReport
from casimg.wiring import Wiring
from tests.conftest import needs_root

EAGER = RepackRules(unused_max=0.0, unused_pack_max=0.0, small_count=2)
"""Rewrites whatever could be smaller."""


def read(repo: Repository, ref: str) -> bytes:
    with repo.open_image(ref) as file:
        return file.read()


def collect(repo: Repository, rules: RepackRules = EAGER) -> GcReport:
    return plan_collection(repo._wiring, rules).execute()


def generations(repo: Repository, count: int, *, size: int = 6 << 20, edits: int = 40, seed: int = 1) -> list[bytes]:
    """Store a disk and snapshots of it, changed a little each time, as g0, g1, ...; returns their bytes."""
    rng = random.Random(seed)
    disk = bytearray(rng.randbytes(size))
    disk[size // 4 : size // 3] = bytes(size // 3 - size // 4)
    found = []
    for number in range(count):
        for _ in range(edits if number else 0):
            at = rng.randrange(size - 9000)
            disk[at : at + 3000] = rng.randbytes(3000)
        found.append(bytes(disk))
        if number:
            repo.snapshot(f"g{number - 1}", name=f"g{number}", source=io.BytesIO(found[-1]))
        else:
            repo.put([found[-1]], name="g0")
    return found


def stored(repo: Repository) -> int:
    stats = repo.stats()
    return stats.stored_size + stats.metadata_size


def test_space_of_deleted_generations_comes_back(tmp_path: Path) -> None:
    """After deleting half of 30 generations and gc the repository is within 10 % of one that never had them."""
    with (
        casimg.create(tmp_path / "r", chunk_size=4096) as repo,
        casimg.create(tmp_path / "n", chunk_size=4096) as never,
    ):
        found = generations(repo, 30)
        for number in range(0, 30, 2):
            repo.delete(f"g{number}")
        before = stored(repo)
        plan = repo.plan_gc().plan
        report = repo.plan_gc().execute()
        for number in range(1, 30, 2):
            never.put([found[number]], name=f"g{number}")
        assert stored(repo) <= 1.1 * stored(never)
        assert report.repack_pack_count > 0
        assert report.size - report.repack_new_size - report.gathered_size == before - stored(repo)
        assert plan.repack_size > 0
        for number in range(1, 30, 2):
            assert read(repo, f"g{number}") == found[number]
        assert repo.check(read_data=True).problems == ()
        assert collect(repo).repack_pack_count == 0


def test_a_plan_changes_nothing(repo: Repository) -> None:
    """A dry run tells what a rewrite would free and leaves catalog, packs and what is known of them alone."""
    generations(repo, 4)
    repo.delete("g0")
    before = repo._wiring.catalog.all_packs(("live", "condemned", "deleting", "deleted"))
    assert plan_collection(repo._wiring, EAGER).plan.repack_pack_count > 0
    assert repo._wiring.catalog.all_packs(("live", "condemned", "deleting", "deleted")) == before


def test_nothing_is_looked_at_twice(repo: Repository) -> None:
    """After a collection no pack is looked at again until a content goes."""
    generations(repo, 4)
    repo.delete("g0")
    collect(repo)
    wiring = repo._wiring
    calls: list[str] = []
    wiring.backend = FaultBackend(wiring.backend, lambda verb, key, _: calls.append(f"{verb} {key}"))
    measure(wiring, EAGER, None)
    assert calls == []


def test_small_packs_are_merged(repo: Repository) -> None:
    """Many small ingests end in few packs, data and nodes apart, and every image reads."""
    datas = {f"i{number}": os.urandom(30_000 + number) for number in range(9)}
    for name, data in datas.items():
        repo.put([data], name=name)
    assert repo.stats().pack_count == 18
    report = repo.plan_gc().execute()
    assert (report.repack_pack_count, repo.stats().pack_count) == (18, 2)
    assert {row.kind for row in repo._wiring.catalog.all_packs(("live",))} == {KIND_DATA, KIND_METADATA}
    assert {name: read(repo, name) for name in datas} == datas
    assert repo.check(read_data=True).problems == ()


def test_a_merged_pack_goes_when_its_images_go(repo: Repository) -> None:
    """Space of any image of a merged pack comes back when it is deleted."""
    for number in range(9):
        repo.put([os.urandom(100_000)], name=f"i{number}")
    repo.plan_gc().execute()
    for number in range(8):
        repo.delete(f"i{number}")
        collect(repo)
    assert stored(repo) < 130_000
    repo.delete("i8")
    collect(repo)
    assert (stored(repo), repo.stats().pack_count) == (0, 0)


def test_chunks_shared_by_some_contents_are_kept_for_each(repo: Repository) -> None:
    """Images that share parts of packs in every combination all read after their neighbours went."""
    rng = random.Random(4)
    parts = [rng.randbytes(200_000) for _ in range(6)]
    images = {}
    for mask in range(1, 64):
        data = b"".join(part.ljust(4 << 20, b"\0") for bit, part in enumerate(parts) if mask >> bit & 1)
        repo.put([data], name=f"m{mask}")
        images[f"m{mask}"] = data
    for name in rng.sample(sorted(images), 40):
        repo.delete(name)
        del images[name]
        if rng.random() < 0.2:
            collect(repo)
    collect(repo)
    for name, data in images.items():
        assert read(repo, name) == data
    assert repo.check(read_data=True).problems == ()


def test_a_new_pack_that_nothing_names_goes_at_once(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images with the same bytes in packs of their own, rewritten: no new pack is left without a name."""
    monkeypatch.setattr(packing, "PACK_SIZE_TARGET", 128 << 10)
    wiring = repo._wiring
    data = random.Random(8).randbytes(600_000)
    repo.put([data], name="one")
    first = wiring.catalog.all_packs(("live",))
    for row in first:
        wiring.catalog.transaction(partial(pack_rows.mark_damaged, pack_no=row.pack_no))
    repo.put([data], name="two")
    for row in first:
        wiring.catalog.mark_verified(row.pack_no)
    assert collect(repo).repack_pack_count > 0
    assert wiring.catalog.unreferenced() == []
    assert read(repo, "one") == read(repo, "two") == data


def victims(wiring: Wiring, kind: int = KIND_DATA) -> list[PackRow]:
    return [item.row for item in measure(wiring, EAGER, None) if item.row.kind == kind]


def store(repo: Repository, data: bytes) -> None:
    repo.put([data], name="back")


def interposed(wiring: Wiring, key_part: str, action: Callable[[], None]) -> None:
    """Do something once, just before the first object whose key has `key_part` is put."""
    done = threading.Event()

    def before(verb: str, key: str, _: int) -> Exception | None:
        if verb == "stat" and key_part in key and not done.is_set():
            done.set()
            action()
        return None

    wiring.backend = FaultBackend(wiring.backend, before)


def test_a_writer_that_uses_the_old_pack_meanwhile_keeps_it(tmp_path: Path) -> None:
    """An image stored between the marking and the switch, of data the rewrite drops, reads after every collection."""
    with casimg.create(tmp_path / "r", chunk_size=4096) as repo, casimg.open(tmp_path / "r") as other:
        first, second = generations(repo, 2, edits=200)
        repo.delete("g0")
        wiring = repo._wiring
        wiring.catalog.end_dead_saves()
        repo._wiring.catalog.forget_content(repo.images(include_deleted=True)[0].id)
        for content_id in wiring.catalog.dead_contents():
            wiring.catalog.reap_content(content_id)
        interposed(wiring, "packs/", lambda: store(other, first))
        assert rewrite(wiring, victims(wiring), RepackFigures(), None)
        for _ in range(2):
            collect(other)
            assert read(other, "back") == first
            assert read(other, "g1") == second
        assert other.check(read_data=True).clean


def test_an_open_file_reads_on_while_its_packs_are_rewritten(repo: Repository) -> None:
    """A reader opened before packs are rewritten and removed gives the right bytes to the end."""
    found = generations(repo, 6, edits=100)
    with repo.open_image("g5") as file:
        assert file.read(100_000) == found[5][:100_000]
        for number in range(5):
            repo.delete(f"g{number}")
        assert collect(repo).repack_pack_count > 0
        assert file.read() == found[5][100_000:]


def test_a_fenced_rewrite_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewrite that was fenced and whose new packs are gone says that, switches nothing, and can be run again."""
    with casimg.create(tmp_path / "r", chunk_size=4096) as repo, casimg.open(tmp_path / "r") as other:
        found = generations(repo, 3)
        repo.delete("g0")
        moves = repack._Rewrite._moves

        def fenced(self: repack._Rewrite, *arguments: Any) -> Any:
            monkeypatch.undo()
            repo._wiring.catalog.fence_stale(heartbeat_age_s=-1)
            assert collect(other, RepackRules(unused_max=1)).pack_count > 0
            return moves(self, *arguments)

        monkeypatch.setattr(repack._Rewrite, "_moves", fenced)
        with pytest.raises(SessionFencedError):
            collect(repo)
        assert collect(repo).repack_pack_count > 0
        assert [read(repo, name) for name in ("g1", "g2")] == found[1:]
        assert repo.check(read_data=True).problems == ()


def test_two_repacks_at_once(tmp_path: Path) -> None:
    """Collections of several processes' worth of handles, all rewriting, lose nothing and end small."""
    with casimg.create(tmp_path / "r", chunk_size=4096) as repo:
        found = generations(repo, 12, size=3 << 20)
        for number in range(0, 12, 3):
            repo.delete(f"g{number}")
        handles = [casimg.open(tmp_path / "r") for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(collect, handles))
        for handle in handles:
            handle.close()
        collect(repo)
        for number in range(12):
            if number % 3:
                assert read(repo, f"g{number}") == found[number]
        assert repo.check(read_data=True).problems == ()
        assert collect(repo).repack_pack_count == 0


def test_a_pack_with_damage_is_left_as_it_is(repo: Repository) -> None:
    """A pack that does not give back a needed chunk is not rewritten: its damage is neither spread nor made worse."""
    found = generations(repo, 3, edits=100)
    (image,) = [row for row in repo._wiring.catalog.all_packs(("live",)) if row.kind == KIND_DATA][:1]
    path = repo.path / "objects" / pack_key(PackId(image.pack_id))
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    repo.delete("g0")
    report = collect(repo)
    assert any(path.name in failure for failure in report.repack_failed)
    assert path.read_bytes() == data
    with pytest.raises(CasimgError):
        read(repo, "g1")
    data[5000] ^= 1
    path.write_bytes(data)
    repo._wiring.frames = type(repo._wiring.frames)()
    assert read(repo, "g2") == found[2]
    assert collect(repo).repack_failed == ()
    assert not path.exists()
    assert read(repo, "g2") == found[2]


def test_every_failing_backend_call_of_a_repack_loses_nothing(tmp_path: Path) -> None:
    """Failing the n-th backend call of a collection that rewrites, for every n: images read, the next one ends it."""
    number = 0
    while True:
        number += 1
        with casimg.create(tmp_path / f"r{number}", chunk_size=4096) as repo:
            found = generations(repo, 4, size=500_000, edits=20)
            repo.delete("g1")
            wiring = repo._wiring
            real = wiring.backend

            def fail(verb: str, key: str, count: int, at: int = number) -> Exception | None:
                return BackendUnavailableError("test", f"{verb} {key}") if count == at else None

            faulty = FaultBackend(real, fail)
            wiring.backend = faulty
            with contextlib.suppress(BackendUnavailableError):
                collect(repo)
            wiring.backend = real
            for name in (0, 2, 3):
                assert read(repo, f"g{name}") == found[name], number
            collect(repo)
            assert repo.check(read_data=True).problems == (), number
            assert plan_collection(wiring, EAGER).plan.pack_count == 0, number
            for name in (0, 2, 3):
                assert read(repo, f"g{name}") == found[name], number
        if faulty.call_count < number:
            break
    assert number > 25, "the loop must have reached into the rewrite"


def test_a_full_disk_stops_the_rewrite_and_nothing_else(tmp_path: Path) -> None:
    """Without room for new packs gc still frees whole packs, says what it left, and goes on when there is room."""
    needs_root()
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(mount)], check=True)
    try:
        with casimg.create(mount / "r", chunk_size=4096) as repo:
            found = generations(repo, 2, size=14 << 20, edits=1500)
            repo.put([os.urandom(1 << 20)], name="whole")
            filler = mount / "filler"
            room = os.statvfs(mount).f_bavail * os.statvfs(mount).f_frsize
            filler.write_bytes(bytes(room - (1 << 20)))
            repo.delete("g0")
            repo.delete("whole")
            report = collect(repo)
            assert report.repack_stopped is not None
            assert report.size >= 1 << 20
            assert read(repo, "g1") == found[1]
            filler.unlink()
            again = collect(repo)
            assert again.repack_stopped is None
            assert again.repack_pack_count > 0
            assert read(repo, "g1") == found[1]
            assert repo.check(read_data=True).clean
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_scattered_images_are_gathered(tmp_path: Path) -> None:
    """Thirty generations of a disk that changes much: gc lowers the newest one's decode amplification, for little."""
    with casimg.create(tmp_path / "r", chunk_size=4096) as repo:
        found = generations(repo, 30, size=4 << 20, edits=90)
        before = repo.stats("g29").usages[0].decode_amplification
        size = stored(repo)
        report = repo.plan_gc().execute()
        after = repo.stats("g29").usages[0].decode_amplification
        assert report.gathered_size > 0
        assert after < before
        assert after - 1 < 0.75 * (before - 1)
        assert stored(repo) < 1.1 * size
        for number in range(30):
            assert read(repo, f"g{number}") == found[number]
        assert repo.plan_gc().execute().gathered_size == 0
        for number in range(29):
            repo.delete(f"g{number}")
        collect(repo)
        with casimg.create(tmp_path / "n", chunk_size=4096) as never:
            never.put([found[29]], name="g29")
            assert stored(repo) < 1.1 * stored(never)
        assert read(repo, "g29") == found[29]
        assert repo.check(read_data=True).problems == ()


def victim(pack_no: int, size: int, live: int, kind: int = KIND_DATA) -> Victim:
    row = PackRow(pack_no, 1, PackId(bytes(32)), kind, 0, size, 0, size, 10, "live")
    return Victim(row, live)


def test_the_worst_packs_are_chosen_until_little_is_unused() -> None:
    """Packs go by their unused share, the worst first, until no more than the rule allows stays unused."""
    rules = RepackRules(unused_max=0.05, small_size=0)
    packs = [victim(1, 1000, 990), victim(2, 1000, 300), victim(3, 1000, 900), victim(4, 1000, 1000)]
    assert [item.row.pack_no for item in choose(packs, rules)] == [2]
    assert [item.row.pack_no for item in choose(packs, RepackRules(unused_max=0.02, small_size=0))] == [2, 3]
    assert choose(packs, RepackRules(unused_max=1.0, small_size=0)) == []
    assert [item.row.pack_no for item in choose(packs, RepackRules(unused_max=0.9, small_size=0))] == [2]


def test_small_packs_are_chosen_when_there_are_many() -> None:
    """Small packs are merged when there are enough of one kind."""
    rules = RepackRules(small_size=2000, small_count=3)
    packs = [victim(number, 1000, 1000) for number in range(2)] + [victim(5, 1000, 1000, KIND_METADATA)]
    assert choose(packs, rules) == []
    packs.append(victim(9, 1000, 1000))
    assert [item.row.pack_no for item in choose(packs, rules)] == [0, 1, 9]
