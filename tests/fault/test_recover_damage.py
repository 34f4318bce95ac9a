"""Objects damaged, missing or misnamed when the catalog is lost: the rest comes back, what is lost is named."""

import errno
import shutil
from pathlib import Path

import pytest

import casimg
from casimg import recovery
from casimg.backend.local import LocalBackend
from casimg.constants import KIND_DATA, KIND_METADATA
from casimg.errors import DamageError, RepositoryError
from casimg.ids import ContentId
from casimg.repository import Repository
from tests.recover_making import State, lose, objects, sha256, state_of


def packs_of(folder: Path, name: str, kind: int) -> list[Path]:
    """Pack files of an image."""
    with casimg.open(folder) as repo:
        (row,) = [row for row in repo._wiring.catalog.images() if row.name == name]
        assert row.content_id is not None
        found = [pack for pack in repo._wiring.catalog.content_packs(row.content_id) if pack.kind == kind]
        return [_pack_file(folder, pack.pack_id.hex()) for pack in found]


def _pack_file(folder: Path, pack_id: str) -> Path:
    return folder / "objects" / "packs" / pack_id[:2] / pack_id


def sound(repo: Repository, state: State) -> set[str]:
    """Names of the images that read as they were; of others an error comes, never wrong bytes."""
    names = set()
    for image in repo.images():
        try:
            assert sha256(repo, image.id) == state.hashes[image.id]
        except DamageError:
            continue
        names.add(image.name)
    return names


@pytest.mark.parametrize("how", ["flip", "cut", "grow"])
@pytest.mark.parametrize("kind", [KIND_DATA, KIND_METADATA])
def test_a_damaged_trailer_is_made_anew(folder: Path, state: State, how: str, kind: int) -> None:
    """A trailer flipped, cut off or hidden behind other bytes is salvaged from the frames: nothing is lost."""
    path = packs_of(folder, "base", kind)[0]
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[-100] ^= 1
    path.write_bytes({"flip": data, "cut": data[:-7], "grow": data + b"tail"}[how])
    lose(folder, "catalog")
    report = casimg.recover(folder)
    assert [problem.kind for problem in report.problems] == ["pack-damaged"]
    assert report.damaged_image_count == 0
    with casimg.open(folder) as repo:
        assert state_of(repo) == state
        assert [row.damaged for row in repo._wiring.catalog.all_packs(["live"])].count(True) == 1
        assert not repo.check(read_data=True).clean
        assert repo.plan_gc().execute().disabled is not None


def test_a_damaged_header_costs_nothing(folder: Path, state: State) -> None:
    """The header of a pack flipped: its trailer says all that is needed, and the pack is named."""
    path = packs_of(folder, "base", KIND_DATA)[0]
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    lose(folder, "catalog")
    assert [problem.kind for problem in casimg.recover(folder).problems] == ["pack-damaged"]
    with casimg.open(folder) as repo:
        assert state_of(repo) == state


def test_a_damaged_frame_loses_only_its_images(folder: Path, state: State) -> None:
    """Bytes of a frame flipped: with its trailer whole the pack is listed whole, and only reading tells, with names."""
    (path,) = packs_of(folder, "base", KIND_DATA)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    lose(folder, "catalog")
    assert casimg.recover(folder).problems == ()
    with casimg.open(folder) as repo:
        names = {image.name for image in repo.images()}
        assert {"empty", "zeros", "twin"} <= sound(repo, state) <= names - {"base", "renamed"}
        assert any("base" in str(problem.images) for problem in repo.check(read_data=True).problems)
        assert repo.plan_gc().execute().disabled is not None


@pytest.mark.parametrize("kind", [KIND_DATA, KIND_METADATA])
def test_a_missing_pack_damages_its_images_only(folder: Path, state: State, kind: int) -> None:
    """A pack that is gone: its images are recovered, named as damaged and fail to read; all others are whole."""
    for path in packs_of(folder, "base", kind):
        path.unlink()
    before = objects(folder)
    lose(folder, "catalog")
    report = casimg.recover(folder)
    touched = {label.split(" ")[0] for problem in report.problems for label in problem.images}
    assert {"base", "renamed"} <= touched
    assert {problem.kind for problem in report.problems} == {"chunk-lost"}
    assert report.damaged_image_count == len(touched)
    assert report.image_count == len(state.images)
    assert objects(folder) == before
    with casimg.open(folder) as repo:
        assert sound(repo, state) == {image.name for image in repo.images()} - touched
        found = repo.check(read_data=True)
        assert {label.split(" ")[0] for problem in found.problems for label in problem.images} == touched
        assert repo.plan_gc().execute().disabled is not None
        # Given up for lost, they no longer hold the collection up.
        repo.update("renamed", protected=False)
        for name in touched:
            repo.delete(name)
        assert repo.check(read_data=True).clean
        assert repo.plan_gc().execute().disabled is None
        assert sound(repo, state) == {image.name for image in repo.images()}


def test_what_a_lost_pack_shared_stays_named(folder: Path, state: State) -> None:
    """With one node lost, the packs of everything beside it stay the content's, so that it can be read and repaired."""
    with casimg.open(folder) as repo:
        repo.put([bytes(range(256)) * 70_000, b"tail" * 10], name="wide")
        repo.snapshot("wide", name="edited", source=[bytes(range(256)) * 70_000, b"TAIL" * 10])
        wide = {row.pack_no for row in repo._wiring.catalog.content_packs(_content(repo, "wide"))}
        edited = {row.pack_no for row in repo._wiring.catalog.content_packs(_content(repo, "edited"))}
        own = [row for row in repo._wiring.catalog.packs(edited - wide) if row.kind == KIND_DATA]
        kept = {row.pack_id for row in repo._wiring.catalog.packs(edited)} - {row.pack_id for row in own}
    for row in own:
        _pack_file(folder, row.pack_id.hex()).unlink()
    lose(folder, "catalog")
    report = casimg.recover(folder)
    assert report.damaged_image_count == 1
    with casimg.open(folder) as repo:
        found = {row.pack_id for row in repo._wiring.catalog.content_packs(_content(repo, "edited"))}
        assert found == kept
        with repo.open_image("edited") as file:
            assert file.read(1 << 20) == (bytes(range(256)) * 4096)


def _content(repo: Repository, name: str) -> ContentId:
    content_id = repo._wiring.catalog.find(name).content_id
    assert content_id is not None
    return content_id


def test_stale_pack_ids_of_a_record_do_not_matter(folder: Path, state: State) -> None:
    """Packs under other names than records say, as after a repack, are found by what they hold."""
    names = [path for path in (folder / "objects" / "packs").rglob("*") if path.is_file()]
    for path in names:
        other = path.name[::-1]
        target = _pack_file(folder, other)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    lose(folder, "catalog")
    assert casimg.recover(folder).problems == ()
    with casimg.open(folder) as repo:
        assert state_of(repo) == state


def test_two_copies_of_chunks_are_no_trouble(folder: Path, state: State) -> None:
    """Every pack there twice: contents name the packs of their records, and all reads."""
    with casimg.open(folder) as repo:
        before = {row.pack_id for row in repo._wiring.catalog.content_packs(_content(repo, "base"))}
    for path in [path for path in (folder / "objects" / "packs").rglob("*") if path.is_file()]:
        target = _pack_file(folder, path.name[::-1])
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    lose(folder, "catalog")
    assert casimg.recover(folder).problems == ()
    with casimg.open(folder) as repo:
        assert {row.pack_id for row in repo._wiring.catalog.content_packs(_content(repo, "base"))} == before
        assert state_of(repo) == state


@pytest.mark.parametrize("data", [b"", b"x", b"CASIMGpk", bytes(1000), b"CASIMGpk" + bytes(100_000)])
def test_a_pack_of_nonsense_is_named_and_left_alone(folder: Path, state: State, data: bytes) -> None:
    """Objects with the name of a pack that are none, of any size, are reported and not removed."""
    path = _pack_file(folder, "ab" * 32)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    (folder / "objects" / "packs" / "stray").write_bytes(data)
    (folder / "objects" / "records" / "stray").write_bytes(data)
    lose(folder, "catalog")
    report = casimg.recover(folder)
    assert sorted(problem.kind for problem in report.problems) == ["pack-name", "pack-unusable", "record-name"]
    assert path.read_bytes() == data
    with casimg.open(folder) as repo:
        assert state_of(repo) == state


def test_every_byte_of_a_record(folder: Path, state: State) -> None:
    """A record cut off anywhere or with any byte flipped costs its image, with words, and no other."""
    with casimg.open(folder) as repo:
        image = repo.image("empty")
    (path,) = (folder / "objects" / "records" / image.id).iterdir()
    data = path.read_bytes()
    lose(folder, "catalog")
    for at in range(0, len(data), 41):
        flipped = bytearray(data)
        flipped[at] ^= 0x20
        for bad in (flipped, data[:at]):
            path.write_bytes(bad)
            report = casimg.recover(folder, force=True)
            assert [problem.kind for problem in report.problems] == ["record-damaged", "image-lost"], at
            assert image.id in report.problems[1].what
            assert report.image_count == len(state.images) - 1
    path.write_bytes(data)
    casimg.recover(folder, force=True)
    with casimg.open(folder) as repo:
        assert state_of(repo) == state


def test_a_record_under_anothers_name_is_damage(folder: Path) -> None:
    """A record copied to another image's key does not become that image."""
    with casimg.open(folder) as repo:
        one, two = repo.image("empty"), repo.image("zeros")
    (source,) = (folder / "objects" / "records" / one.id).iterdir()
    (target,) = (folder / "objects" / "records" / two.id).iterdir()
    target.write_bytes(source.read_bytes())
    lose(folder, "catalog")
    report = casimg.recover(folder)
    assert [problem.kind for problem in report.problems] == ["record-damaged", "image-lost"]
    with casimg.open(folder) as repo:
        assert repo.images("zeros") == []
        assert len(repo.images("empty")) == 1


def test_one_wrong_answer_costs_no_image(folder: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is read wrongly once is read again, before its image is left out."""
    lose(folder, "catalog")
    get_range = LocalBackend.get_range
    lied: set[str] = set()

    def lie(self: LocalBackend, key: str, offset: int, size: int) -> bytes:
        data = get_range(self, key, offset, size)
        if not key.startswith("records/") or key in lied:
            return data
        lied.add(key)
        return data[1:] + data[:1]

    monkeypatch.setattr(LocalBackend, "get_range", lie)
    assert casimg.recover(folder).problems == ()
    assert len(lied) >= len(state.images)
    with casimg.open(folder) as repo:
        assert sound(repo, state) == {image.name for image in state.images}


def test_a_rename_that_fails_is_told_as_an_error_of_casimg(
    folder: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own error does not reach the caller, and recover can be run again."""

    def fail(old: Path, new: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "rename_durably", fail)
        with pytest.raises(RepositoryError, match="recover again"):
            casimg.recover(folder, force=True)
    assert casimg.recover(folder).problems == ()
    with casimg.open(folder) as repo:
        assert sound(repo, state) == {image.name for image in state.images}
