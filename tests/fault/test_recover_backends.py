"""`recover` of a repository with several backends: images, copies and metadata come back from all of them together."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import casimg
from casimg.backends import add_backend
from casimg.constants import KIND_DATA
from casimg.errors import BackendUnavailableError, RepositoryError
from casimg.formats.config import SITE_FILE
from casimg.ids import PackId
from casimg.pack.keys import pack_key
from casimg.records import flush_records
from casimg.repository import Repository
from tests.conftest import mixed_bytes
from tests.recover_making import CATALOG_FILES

DATA = bytes(mixed_bytes(1_500_000, 7))
OTHER = bytes(mixed_bytes(400_000, 8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with the backends local and spare: an image on each, one on both, a snapshot, a deleted image."""
    path = tmp_path / "repository"
    casimg.create(path, chunk_size=4096).close()
    add_backend(path, "spare", tmp_path / "spare")
    with casimg.open(path) as repo:
        repo.put([DATA], name="both", properties={"os": "debian"})
        repo.copy("both", "spare")
        repo.put([OTHER], name="here")
        repo.put([OTHER], name="there", backend="spare")
        repo.snapshot("there", name="snapshot there")
        repo.put([OTHER[:100_000]], name="gone", backend="spare")
        repo.delete("gone")
        repo.plan_gc().execute()
    return path


def lose_catalog(folder: Path) -> None:
    for name in CATALOG_FILES:
        (folder / name).unlink(missing_ok=True)
    for index in folder.glob("index*"):
        shutil.rmtree(index)


def state_of(repo: Repository) -> dict[str, object]:
    """Return what each image is, where it lies, and its bytes."""
    found: dict[str, object] = {}
    for image in repo.images():
        with repo.open_image(image.id) as file:
            found[image.name] = (image.id, image.properties, set(image.stores), image.parent_id, file.read())
    return found


def state_in(folder: Path) -> dict[str, object]:
    with casimg.open(folder) as repo:
        return state_of(repo)


def objects(folder: Path) -> dict[str, bytes]:
    roots = (folder / "objects", folder.parent / "spare")
    return {str(path): path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


def collects(repo: Repository) -> None:
    """See that a full check allows collections again, which remove nothing that is needed."""
    before = state_of(repo)
    assert repo.check(read_data=True).problems == ()
    assert repo.plan_gc().execute().disabled is None
    assert state_of(repo) == before
    assert repo.check(read_data=True).problems == ()


def test_everything_comes_back(folder: Path) -> None:
    """Images of every backend with metadata, lineage and copies; no backend changes, deleted images stay deleted."""
    before, kept = state_in(folder), objects(folder)
    assert set(before) == {"both", "here", "there", "snapshot there"}
    lose_catalog(folder)
    report = casimg.recover(folder)
    assert (report.problems, report.image_count, report.content_count) == ((), 4, 4)
    assert objects(folder) == kept
    assert state_in(folder) == before
    with casimg.open(folder) as repo:
        assert repo.image("both").stores == ("local", "spare")
        assert [item.image_count for item in repo.backends()] == [2, 3]
        collects(repo)
        repo.remove_copy("both", "local")
        repo.delete("there")
        repo.plan_gc().execute()
        assert repo.image("both").stores == ("spare",)
        assert repo.check(read_data=True).problems == ()


def test_a_sound_catalog_is_made_anew_when_forced(folder: Path) -> None:
    """Over a sound catalog with --force, twice: the same images, the same places."""
    before = state_in(folder)
    for _ in range(2):
        casimg.recover(folder, force=True)
        assert state_in(folder) == before
    with casimg.open(folder) as repo:
        collects(repo)


def test_a_backend_that_is_gone_is_named(folder: Path) -> None:
    """Without one of its backends recover changes nothing and says which; out of casimg.toml it goes on without."""
    lose_catalog(folder)
    (folder.parent / "spare").rename(folder.parent / "elsewhere")
    with pytest.raises(BackendUnavailableError, match=r"spare.*\[backends.spare\]"):
        casimg.recover(folder)
    assert not (folder / "catalog.sqlite").exists()
    site = folder / SITE_FILE
    whole = site.read_text()
    site.write_text(whole[: whole.index("[backends.spare]")])
    report = casimg.recover(folder)
    assert (report.problems, report.image_count) == ((), 2)
    with casimg.open(folder) as repo:
        assert {image.name for image in repo.images()} == {"both", "here"}
        assert repo.image("both").stores == ("local",)
    # Back again: nothing there may be taken for garbage before it is recovered too.
    (folder.parent / "elsewhere").rename(folder.parent / "spare")
    add_backend(folder, "spare", folder.parent / "spare")
    kept = objects(folder)
    with casimg.open(folder) as repo:
        assert not repo.check(read_data=True).clean
        assert repo.plan_gc().execute(trust_catalog=True).disabled is not None
    assert objects(folder) == kept
    casimg.recover(folder, force=True)
    assert set(state_in(folder)) == {"both", "here", "there", "snapshot there"}


def test_what_one_lost_is_read_from_the_other(folder: Path) -> None:
    """With the data of one backend gone its copies are told, the image is read from the other, a repair heals it."""
    with casimg.open(folder) as repo:
        rows = [row for row in repo._wiring.catalog.all_packs(("live",)) if row.kind == KIND_DATA]
        lost = [folder / "objects" / pack_key(PackId(row.pack_id)) for row in rows]
        repo.delete("here")
        repo.plan_gc().execute()
    before = state_in(folder)
    lose_catalog(folder)
    for path in lost:
        path.unlink(missing_ok=True)
    report = casimg.recover(folder)
    assert report.damaged_image_count == 0
    assert report.clean
    assert [(problem.kind, problem.backend) for problem in report.problems] == [("chunk-lost", "local")]
    assert state_in(folder) == before
    with casimg.open(folder) as repo:
        assert repo.image("both").stores == ("spare", "local")
        assert repo.check(read_data=True, repair=True).clean
        collects(repo)
        (folder.parent / "spare").rename(folder.parent / "elsewhere")
    with casimg.open(folder) as repo, repo.open_image("both") as file:
        assert file.read() == DATA


def test_the_newest_record_of_all_backends_counts(folder: Path) -> None:
    """Metadata changed while one backend was away come from the other; the record that is behind is written anew."""
    (folder.parent / "spare").rename(folder.parent / "elsewhere")
    with casimg.open(folder) as repo:
        repo.update("both", properties={"os": "alpine"})
    (folder.parent / "elsewhere").rename(folder.parent / "spare")
    lose_catalog(folder)
    report = casimg.recover(folder)
    assert report.clean
    with casimg.open(folder) as repo:
        assert repo.image("both").properties == {"os": "alpine"}
        assert repo.image("both").stores == ("local", "spare")
        assert flush_records(repo._wiring) == 0
        collects(repo)
    (folder / "objects" / "records").rename(folder.parent / "records")
    (folder / "objects" / "records").mkdir()
    lose_catalog(folder)
    casimg.recover(folder)
    with casimg.open(folder) as repo:
        assert repo.image("both").properties == {"os": "alpine"}
        assert repo.image("both").stores == ("spare",)


def test_records_of_one_backend_do(folder: Path) -> None:
    """With all records of one backend damaged an image that lies on both comes back from the other; others are told."""
    lose_catalog(folder)
    for path in (folder / "objects" / "records").rglob("*"):
        if path.is_file():
            path.write_bytes(b"nothing")
    report = casimg.recover(folder)
    assert {image for problem in report.problems for image in [problem.kind]} == {"record-damaged", "image-lost"}
    assert report.image_count == 3
    with casimg.open(folder) as repo:
        assert {image.name for image in repo.images()} == {"both", "there", "snapshot there"}
        assert repo.plan_gc().execute(trust_catalog=True).disabled is not None


KILLED = """
import os, signal, sys
import casimg, casimg.recovery as recovery
step, at = sys.argv[2], int(sys.argv[3])
count = 0
owner = recovery if hasattr(recovery, step) else recovery.rows
real = getattr(owner, step)
def call(*arguments, **named):
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
setattr(owner, step, call)
casimg.recover(sys.argv[1], force=True)
"""


@pytest.fixture
def killed(folder: Path) -> Iterator[Path]:
    before = state_in(folder)
    yield folder
    casimg.recover(folder, force=True)
    assert state_in(folder) == before
    assert sorted(path.name for path in folder.glob("index*")) == ["index", "index-spare"]


@pytest.mark.parametrize(
    ("step", "at"),
    [
        *(("insert_packs", number) for number in (1, 2)),
        *(("insert_content", number) for number in (1, 4)),
        *(("insert_image", number) for number in (1, 4)),
        ("finish", 1),
        *(("replace_index", number) for number in (1, 2)),
    ],
)
def test_killed_and_run_again(killed: Path, step: str, at: int) -> None:
    """kill -9 at any step, also between the indexes: the repository opens whole, or recover is run again."""
    command = [sys.executable, "-c", KILLED, str(killed), step, str(at)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    try:
        found = set(state_in(killed))
    except (RepositoryError, casimg.errors.DamageError):
        return
    assert found == {"both", "here", "there", "snapshot there"}
    assert (killed / "catalog.sqlite").exists()
