"""Check and repair of several backends: each is read, each is told, and each is mended from the others."""

import array
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import casimg
from casimg.backends import add_backend
from casimg.catalog import PackRow
from casimg.constants import KIND_DATA, KIND_METADATA
from casimg.errors import BackendUnavailableError
from casimg.findings import here
from casimg.formats.pack import PACK_HEADER_SIZE, PackTrailer
from casimg.ids import PackId
from casimg.image_file import ImageFile
from casimg.pack.keys import pack_key, record_key
from casimg.repository import Repository
from casimg.results.upkeep import CheckReport
from casimg.wiring import Wiring
from tests.conftest import mixed_bytes
from tests.torture.truth import left_over

DATA = bytes(mixed_bytes(5_000_000, 7))
BACKENDS = ("local", "spare")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Repository]:
    """A repository with an image on the backends local and spare."""
    casimg.create(tmp_path / "repository", chunk_size=4096).close()
    add_backend(tmp_path / "repository", "spare", tmp_path / "spare")
    with casimg.open(tmp_path / "repository") as opened:
        opened.put([DATA], name="image")
        opened.copy("image", "spare")
        yield opened


def folder_of(repo: Repository, name: str) -> Path:
    return repo.path / "objects" if name == "local" else repo.path.parent / name


def packs_of(repo: Repository, name: str, kind: int = KIND_DATA) -> list[PackRow]:
    rows = repo._wiring.named(name).catalog.all_packs(("live",))
    return [row for row in rows if row.kind == kind]


def file_of(repo: Repository, name: str, row: PackRow) -> Path:
    return folder_of(repo, name) / pack_key(PackId(row.pack_id))


def flip(repo: Repository, name: str, at: float, kind: int = KIND_DATA) -> None:
    """Damage a byte of each pack of a kind on a backend, at a share of its frames."""
    for row in packs_of(repo, name, kind):
        path = file_of(repo, name, row)
        data = bytearray(path.read_bytes())
        data[PACK_HEADER_SIZE + int(at * (row.trailer_offset - PACK_HEADER_SIZE))] ^= 0x10
        path.write_bytes(data)


def check(repo: Repository, *, repair: bool = False) -> CheckReport:
    return repo.check(read_data=True, repair=repair)


def is_whole(repo: Repository) -> None:
    """See that a check finds nothing once the packs that no image needs any more are collected."""
    assert check(repo).clean
    repo.plan_gc().execute()
    assert check(repo).problems == ()
    assert left_over(repo._wiring) == []
    for each in BACKENDS:
        reads_from(repo, each)


def reads_from(repo: Repository, name: str) -> None:
    """Read the image from one backend alone."""
    wiring: Wiring = repo._wiring.named(name)
    row = repo._wiring.catalog.find("image")
    image = here(row, wiring)
    assert image is not None
    assert image.content_id is not None
    with ImageFile(repo._wiring.reader(image.content_id), lambda: None, lambda: None) as file:
        assert file.read() == DATA


@pytest.mark.parametrize("name", BACKENDS)
def test_damage_on_one_is_mended_from_the_other(two: Repository, name: str) -> None:
    """A flipped bit is found on the backend it is on, and repaired with what the other one has; reads never notice."""
    flip(two, name, 0.4)
    with two.open_image("image") as file:
        assert file.read() == DATA
    found = check(two)
    assert not found.clean
    assert {problem.backend for problem in found.problems} == {name}
    assert all("image" in label for problem in found.problems for label in problem.images)
    mended = check(two, repair=True)
    assert mended.clean
    assert mended.repair is not None
    assert (mended.repair.lost, mended.repair.refused) == ((), None)
    assert len(mended.repair.healed) == 1
    is_whole(two)


@pytest.mark.parametrize("kind", [KIND_DATA, KIND_METADATA], ids=["data", "metadata"])
@pytest.mark.parametrize("name", BACKENDS)
def test_packs_that_are_gone_are_made_anew(two: Repository, name: str, kind: int) -> None:
    """With every data or metadata pack of a backend gone, a repair brings all of it over from the other."""
    for row in packs_of(two, name, kind):
        file_of(two, name, row).unlink()
    assert not check(two).clean
    mended = check(two, repair=True)
    assert mended.clean
    assert mended.repair is not None
    assert mended.repair.saved_count > 0
    is_whole(two)


def test_each_mends_the_other(two: Repository) -> None:
    """Damage of different places on both backends is mended on both, in one repair."""
    flip(two, "local", 0.2)
    flip(two, "spare", 0.8)
    flip(two, "local", 0.5, KIND_METADATA)
    mended = check(two, repair=True)
    assert mended.clean
    is_whole(two)


def test_what_is_lost_on_both_is_told(two: Repository) -> None:
    """The same place damaged on both backends is lost, and told for each; nothing is given up, new data heal it."""
    lost = [packs_of(two, name)[0] for name in BACKENDS]
    for name, row in zip(BACKENDS, lost, strict=True):
        file_of(two, name, row).unlink()
    mended = check(two, repair=True)
    assert not mended.clean
    assert mended.repair is not None
    assert len(mended.repair.lost) == 2
    assert mended.repair.lost[0].size == mended.repair.lost[1].size > 0
    two.put([DATA], name="again")
    mended = check(two, repair=True)
    assert mended.clean
    is_whole(two)


def test_equal_data_of_other_images_mend_too(two: Repository) -> None:
    """A chunk is a chunk: what another image on another backend has of it counts."""
    other = os.urandom(500_000) + DATA[: 4 << 20]
    two.put([other], name="here only")
    two.put([DATA[: 4 << 20] + other[:500_000]], name="there only", backend="spare")
    rng = random.Random(3)
    for row in packs_of(two, "local"):
        path = file_of(two, "local", row)
        data = bytearray(path.read_bytes())
        for _ in range(3):
            data[rng.randrange(PACK_HEADER_SIZE, row.trailer_offset)] ^= 1
        path.write_bytes(data)
    mended = check(two, repair=True)
    assert mended.repair is not None
    with two.open_image("there only") as file:
        assert file.read() == DATA[: 4 << 20] + other[:500_000]
    reads_from(two, "local")


def test_a_record_of_a_copy_is_written_anew(two: Repository) -> None:
    """Each copy has a record of its own beside it; a check misses it, a repair writes it."""
    row = two._wiring.catalog.find("image")
    (copy,) = row.copies
    spare = two._wiring.named("spare")
    spare.backend.delete(record_key(row.id, copy.session_id))
    (problem,) = check(two).problems
    assert (problem.kind, problem.backend) == ("record-missing", "spare")
    mended = check(two, repair=True)
    assert mended.clean
    assert mended.repair is not None
    assert mended.repair.record_count == 1
    assert check(two).problems == ()


def test_a_backend_that_is_gone_is_no_damage(two: Repository, tmp_path: Path) -> None:
    """Not mounted it is told and not checked, nothing of it counts as damaged, and the rest is checked and mended."""
    two.put([b"only there" * 50_000], name="only there", backend="spare")
    (tmp_path / "spare").rename(tmp_path / "elsewhere")
    with casimg.open(tmp_path / "repository") as repo:
        flip_one = packs_of(repo, "local")[0]
        found = check(repo)
        assert not found.clean
        (problem,) = found.problems
        assert (problem.kind, problem.backend) == ("backend-unreachable", "spare")
        assert [label.partition(" (")[0] for label in problem.images] == ["only there"]
        file_of(repo, "local", flip_one).unlink()
        mended = check(repo, repair=True)
        assert mended.repair is not None
        assert mended.repair.lost != ()
        assert not any(row.damaged for row in packs_of(repo, "spare"))
    (tmp_path / "elsewhere").rename(tmp_path / "spare")
    with casimg.open(tmp_path / "repository") as repo:
        mended = check(repo, repair=True)
        assert mended.clean
        is_whole(repo)


def test_an_only_backend_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """What cannot be reached is not damaged: without another backend there is nothing to check."""
    with casimg.create(tmp_path / "r") as repo:
        (tmp_path / "r" / "objects").rename(tmp_path / "elsewhere")
        with pytest.raises(BackendUnavailableError):
            repo.check()


def test_a_subset_is_of_all_backends(two: Repository) -> None:
    """A part of the data is read, wherever it was verified least recently; over time all of it is."""
    packs = {row.pack_no for name in BACKENDS for row in two._wiring.named(name).catalog.all_packs(("live",))}
    for _ in packs:
        assert two.check(read_data=True, subset=1).problems == ()
    report = two.check()
    assert (
        report.verified_size
        == report.stored_size
        == sum(row.size for name in BACKENDS for row in two._wiring.named(name).catalog.all_packs(("live",)))
    )
    assert (report.pack_count, report.image_count) == (len(packs), 1)


def test_an_index_of_one_backend_is_made_anew(two: Repository) -> None:
    """An index that lost its entries, or all of it, of one backend: told with its name, mended by a repair."""
    spare = two._wiring.named("spare")
    rows = spare.catalog.all_packs(("live",))
    spare.index.remove_packs([(row.pack_no, spare.load_trailer(row)) for row in rows])
    spare.index.add_packs(
        [(row.pack_no, row.pack_id, PackTrailer(KIND_DATA, 0, bytes(16), [], array.array("I"), b"")) for row in rows]
    )
    found = [problem for problem in check(two).problems if problem.kind == "index-wrong"]
    assert [problem.backend for problem in found] == ["spare"]
    mended = check(two, repair=True)
    assert mended.repair is not None
    assert mended.repair.index_rebuilt
    assert check(two).problems == ()
    assert set(spare.index.applied()) == {row.pack_no for row in rows}


def test_space_of_copies_comes_back(two: Repository) -> None:
    """A copy that is removed gives back its backend's space and no other's; a deleted image that of all."""
    before = {item.name: item.stored_size for item in two.backends()}
    two.remove_copy("image", "local")
    two.plan_gc().execute()
    after = {item.name: item.stored_size for item in two.backends()}
    assert after["local"] == 0
    assert after["spare"] == pytest.approx(before["spare"], rel=0.01)
    reads_from(two, "spare")
    two.copy("image", "local")
    two.delete("image")
    two.plan_gc().execute()
    assert [item.stored_size for item in two.backends()] == [0, 0]
    assert left_over(two._wiring) == []
