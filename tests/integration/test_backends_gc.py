"""Collections of a repository with several backends: each gives back its own, also beside one that is gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

import casimg
from casimg.backends import add_backend
from casimg.catalog import reading
from casimg.gc.plan import plan_collection
from casimg.gc.waste import RepackRules
from casimg.ids import PackId
from casimg.pack.keys import pack_key
from casimg.repository import Repository
from casimg.results.upkeep import GcReport
from casimg.testing.watched import Call, watch_parts
from tests.conftest import mixed_bytes
from tests.torture.truth import left_over

EAGER = RepackRules(unused_max=0.0, unused_pack_max=0.0, small_count=2)
KEPT = bytes(mixed_bytes(900_000, 7))
BACKENDS = ("local", "spare")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Repository]:
    """A repository with the backends local and spare, an image on each, and a deleted one on each."""
    casimg.create(tmp_path / "repository", chunk_size=4096).close()
    add_backend(tmp_path / "repository", "spare", tmp_path / "spare")
    with casimg.open(tmp_path / "repository") as opened:
        fill(opened)
        yield opened


def fill(repo: Repository) -> None:
    for name in BACKENDS:
        repo.put([KEPT], name=f"kept {name}", backend=name)
        repo.put([os.urandom(500_000)], name=f"gone {name}", backend=name)
        repo.delete(f"gone {name}")


def collect(repo: Repository, rules: RepackRules = EAGER) -> GcReport:
    return plan_collection(repo._wiring, rules).execute()


def stored(repo: Repository) -> dict[str, int]:
    return {item.name: item.stored_size for item in repo.backends()}


def is_sound(repo: Repository) -> None:
    for name in BACKENDS:
        with repo.open_image(f"kept {name}") as file:
            assert file.read() == KEPT
    assert repo.check(read_data=True).problems == ()
    assert left_over(repo._wiring) == []


def test_each_backend_gives_back_its_own(two: Repository) -> None:
    """A plan and a collection count both backends; objects go from the one they lie on, indexes forget their own."""
    before = stored(two)
    plan = two.plan_gc().plan
    assert (plan.content_count, plan.pack_count) == (2, 4)
    report = two.plan_gc().execute()
    assert (report.content_count, report.pack_count, report.size) == (2, 4, plan.size)
    after = stored(two)
    for name in BACKENDS:
        assert after[name] <= before[name] - 500_000
    for peer in two._wiring.peers:
        live = {row.pack_no for row in peer.catalog.all_packs(("live",))}
        assert set(peer.index.applied()) == live
    is_sound(two)


def test_packs_are_rewritten_where_they_lie(two: Repository) -> None:
    """Packs needed in part are rewritten into packs of their own backend, and no other's grow."""
    collect(two)
    half = bytearray(KEPT)
    for offset in range(0, len(half), 32_768):
        half[offset : offset + 16_384] = os.urandom(16_384)
    for name in BACKENDS:
        two.put([bytes(half)], name=f"half {name}", backend=name)
        two.delete(f"kept {name}")
    collect(two, RepackRules(unused_max=1.0))
    before = stored(two)
    report = collect(two)
    assert report.repack_pack_count >= 2
    after = stored(two)
    for name in BACKENDS:
        assert after[name] < 0.8 * before[name]
        with two.open_image(f"half {name}") as file:
            assert file.read() == half
    assert left_over(two._wiring) == []
    assert two.check(read_data=True).problems == ()


def test_orphans_are_each_backends_own(two: Repository, tmp_path: Path) -> None:
    """An object without a row goes from the backend it is on; a pack of one backend explains none of another."""
    collect(two)
    home, spare = two._wiring.peers
    row = home.catalog.all_packs(("live",))[0]
    key = pack_key(PackId(row.pack_id))
    data = home.backend.get_range(key, 0, row.size)
    # The same bytes on both, once without a row: a name alone explains nothing.
    stray = pack_key(PackId(bytes(32)))
    for peer in (home, spare):
        peer.backend.put(stray, BytesIO(data), len(data))
    if not any(found.key == key for found in spare.backend.list("packs/")):
        spare.backend.put(key, BytesIO(data), len(data))
    report = collect(two)
    assert report.orphan_count == 3
    assert home.backend.stat(key).size == row.size
    is_sound(two)


def test_a_backend_that_is_gone_is_left_for_later(two: Repository, tmp_path: Path) -> None:
    """With one not mounted the other is collected as far as is safe, and it is told; back again, the rest goes."""
    orphan = pack_key(PackId(bytes(32)))
    for peer in two._wiring.peers:
        peer.backend.put(orphan, BytesIO(b"x" * 1000), 1000)
    (tmp_path / "spare").rename(tmp_path / "elsewhere")
    with casimg.open(tmp_path / "repository") as repo:
        plan = repo.plan_gc().plan
        assert len(plan.unreachable) == 1
        report = collect(repo)
        assert len(report.unreachable) == 1
        assert "spare" in report.unreachable[0]
        assert (report.orphan_count, report.content_count) == (1, 1)
        with repo.open_image("kept local") as file:
            assert file.read() == KEPT
    (tmp_path / "elsewhere").rename(tmp_path / "spare")
    with casimg.open(tmp_path / "repository") as repo:
        report = collect(repo)
        assert report.unreachable == ()
        assert (report.orphan_count, report.content_count) == (1, 1)
        is_sound(repo)


def test_an_only_backend_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """Without another one there is nothing to collect: that is told as an error."""
    with casimg.create(tmp_path / "r") as repo:
        (tmp_path / "r" / "objects").rename(tmp_path / "elsewhere")
        with pytest.raises(casimg.errors.BackendUnavailableError):
            collect(repo)


KILLED = """
import os, signal, sys
import casimg
from casimg.testing.watched import watch_parts
from tests.integration.test_backends_gc import collect
with casimg.open(sys.argv[1]) as repo:
    left = int(sys.argv[2])
    def watch(call):
        global left
        if call.part == "backend" and call.verb == "delete" or call.what in ("condemn", "sweep", "mark_deleted"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    for peer in repo._wiring.peers:
        watch_parts(peer, watch)
    collect(repo)
"""


@pytest.mark.parametrize("number", [1, 4, 8, 13, 19, 25, 31])
def test_killed_between_backends(two: Repository, tmp_path: Path, number: int) -> None:
    """kill -9 anywhere in a collection, on either backend or between them: the next one does the rest."""
    two.close()
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "repository"), str(number)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with casimg.open(tmp_path / "repository") as repo:
        collect(repo)
        is_sound(repo)


def test_the_kills_are_on_both_backends(two: Repository) -> None:
    """A collection deletes objects of both backends, one after the other, so kills land in, before and between them."""
    seen: list[str] = []

    def watch_of(name: str) -> None:
        def watch(call: Call) -> None:
            if (call.part, call.verb, call.when) == ("backend", "delete", "before"):
                seen.append(name)

        watch_parts(two._wiring.named(name), watch)

    for name in BACKENDS:
        watch_of(name)
    collect(two)
    packs_of = [name for name, follower in zip(seen, [*seen[1:], ""], strict=True) if name != follower]
    assert set(seen) == set(BACKENDS)
    assert packs_of[-2:] == ["local", "spare"]
    assert two._wiring.catalog.read(lambda connection: reading.lease_count(connection, [])) == 0
