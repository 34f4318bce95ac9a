"""Catalog and index lost, damaged or in use: `recover` brings every committed image back from the objects alone."""

import io
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import casimg
from casimg.backend.base import Backend
from casimg.backend.fault import FaultBackend
from casimg.errors import BackendUnavailableError, CatalogBusyError, NoRepositoryError, RepositoryError
from casimg.formats.config import RepositoryConfig, SiteConfig
from casimg.opening import open_backend
from tests.catalog_making import SERVER_URL, database_url
from tests.recover_making import State, lose, objects, sha256, state_of

KILLED = """
import os, signal, sys
import casimg, casimg.recovery as recovery, casimg.recovering as recovering
step, at = sys.argv[2], int(sys.argv[3])
count = 0
def wrap(function, after):
    def call(*arguments, **named):
        global count
        count += 1
        if count == at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(*arguments, **named)
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return call
after = step.endswith("+")
owner = recovery.rows if step.strip("+") in ("insert_packs", "insert_content", "insert_image", "finish") else recovery
setattr(owner, step.strip("+"), wrap(getattr(owner, step.strip("+")), after))
casimg.recover(sys.argv[1], force=True)
print("done")
"""


@pytest.mark.parametrize("parts", [("catalog",), ("catalog", "index"), ("catalog", "index", "site", "spool")])
def test_what_was_lost_comes_back(folder: Path, state: State, parts: tuple[str, ...]) -> None:
    """Bytes, metadata, lineage and names of all images; the backend is not touched; deleted images stay deleted."""
    before = objects(folder)
    lose(folder, *parts)
    report = casimg.recover(folder)
    assert (report.problems, report.image_count, report.content_count) == ((), len(state.images), 6)
    assert report.site_written == ("site" in parts)
    assert objects(folder) == before
    with casimg.open(folder) as repo:
        assert state_of(repo) == state
        assert repo.images("gone") == repo.images("later") == []
        assert repo.check(read_data=True).problems == ()
        repo.put([b"new"], name="new")
        repo.update("new", protected=True)


def test_a_lost_index_needs_no_recovery(folder: Path, state: State) -> None:
    """Without the index everything reads as before, and recover says that there is nothing to recover."""
    lose(folder, "index")
    with pytest.raises(RepositoryError, match="nothing to recover"):
        casimg.recover(folder)
    with casimg.open(folder) as repo:
        assert state_of(repo) == state


def test_a_sound_catalog_is_kept_unless_forced(folder: Path, state: State) -> None:
    """Recover refuses a catalog that opens; forced it sets it aside whole, under a name that says so; again as well."""
    lose(folder, "catalog")
    casimg.recover(folder)
    with pytest.raises(RepositoryError, match="--force"):
        casimg.recover(folder)
    names = set()
    for _ in range(2):
        report = casimg.recover(folder, force=True)
        assert report.old_catalog is not None
        names.add(report.old_catalog)
        assert ".old-" in report.old_catalog
        with sqlite3.connect(report.old_catalog) as old:
            assert old.execute("SELECT count(*) FROM images").fetchone() == (len(state.images),)
    assert len(names) == 2
    with casimg.open(folder) as repo:
        assert state_of(repo) == state


def test_nothing_is_collected_before_a_full_check(folder: Path, state: State) -> None:
    """After recover gc frees nothing and says what to do, plan included; a full check without loss allows it."""
    lose(folder, "catalog")
    casimg.recover(folder)
    with casimg.open(folder) as repo:
        repo.delete(repo.images("twin")[0].id)
        before = objects(folder)
        for trust in (False, True):
            report = repo.plan_gc().execute(trust_catalog=trust)
            assert report.disabled is not None
            assert "check --read-data" in report.disabled
        assert repo.plan_gc().plan.disabled == report.disabled
        assert objects(folder) == before
        assert repo.check().clean
        assert repo.plan_gc().execute().disabled is not None
        assert repo.check(read_data=True).clean
        report = repo.plan_gc().execute()
        assert (report.disabled, report.content_count) == (None, 1)
        # What gc took beside it are packs that only the images deleted before had needed.
        assert repo.check(read_data=True).problems == ()
        for image in repo.images():
            assert sha256(repo, image.id) == state.hashes[image.id]


def test_an_unreadable_record_keeps_the_latch_on(folder: Path) -> None:
    """An image whose only record is damaged is reported, and gc stays off: its packs have no other name."""
    with casimg.open(folder) as repo:
        image = repo.images("zeros")[0]
        twin = repo.images("twin")[0]
    for ref in (image.id, twin.id):
        (path,) = (folder / "objects" / "records" / ref).iterdir()
        path.write_bytes(path.read_bytes()[:-1])
    lose(folder, "catalog")
    report = casimg.recover(folder)
    assert sorted(problem.kind for problem in report.problems) == ["image-lost"] * 2 + ["record-damaged"] * 2
    with casimg.open(folder) as repo:
        found = repo.check(read_data=True)
        assert {problem.kind for problem in found.problems} == {"record-unknown"}
        assert repo.plan_gc().execute().disabled is not None
        for ref in (image.id, twin.id):
            shutil.rmtree(folder / "objects" / "records" / ref)
        assert repo.check(read_data=True).clean
        assert repo.plan_gc().execute().disabled is None


@pytest.mark.parametrize("place", ["folder", "file"])
def test_a_lost_site_file_is_written(folder: Path, state: State, place: str) -> None:
    """casimg.toml alone lost: recover --force writes one for the backend in its default place."""
    lose(folder, "site")
    report = casimg.recover(folder if place == "folder" else folder / "casimg.toml", force=True)
    assert report.site_written
    with casimg.open(folder) as repo:
        assert state_of(repo) == state


def test_no_backend_no_recovery(tmp_path: Path) -> None:
    """A folder without objects, an empty one and none at all are refused, and nothing is written there."""
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(NoRepositoryError):
            casimg.recover(path)
    assert list((tmp_path / "empty").iterdir()) == []


STEPS = [
    *(("_end_old", 1), ("_end_old+", 1), ("insert_packs+", 1), ("insert_content", 3), ("insert_image+", 4)),
    *(("finish", 1), ("finish+", 1), ("_into_place", 1), ("rename_durably", 1), ("rename_durably+", 1)),
    *(("rename_durably+", 2), ("replace_index", 1), ("replace_index+", 1)),
]


@pytest.mark.parametrize(("step", "at"), STEPS)
def test_killed_and_run_again(folder: Path, state: State, step: str, at: int) -> None:
    """kill -9 at any point: either the old or the new catalog is there, or none that opens; again, all is there."""
    command = [sys.executable, "-c", KILLED, str(folder), step, str(at)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if (step, at) != ("rename_durably+", 2):  # there may be only the new catalog to rename
        assert done.returncode == -signal.SIGKILL, done.stderr
    try:
        with casimg.open(folder) as repo:
            assert state_of(repo) == state
    except (casimg.errors.RepositoryError, casimg.errors.CatalogDamagedError) as error:
        assert "recover" in str(error)  # noqa: PT017 - both outcomes are right, by where it was cut off
        casimg.recover(folder)
    with casimg.open(folder) as repo:
        assert state_of(repo) == state
        assert repo.check(read_data=True).clean
    left = {path.name for path in folder.iterdir() if ".old-" not in path.name}
    assert {"catalog.sqlite", "objects", "index", "spool", "casimg.toml"} <= left
    casimg.recover(folder, force=True)
    assert not [path for path in folder.iterdir() if ".new" in path.name]


def test_every_failing_backend_call(folder: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th backend call failing, for every n: recover says so, no half catalog opens, and again all is there."""
    lose(folder, "catalog", "index")
    number = 0
    while True:
        number += 1
        faulty: list[FaultBackend] = []

        def failing(
            site: SiteConfig, at: int = number, made: list[FaultBackend] = faulty
        ) -> tuple[Backend, RepositoryConfig]:
            backend, config = open_backend(site)

            def fail(verb: str, key: str, count: int) -> Exception | None:
                return BackendUnavailableError("test", f"{verb} {key}") if count == at else None

            made.append(FaultBackend(backend, fail))
            return made[0], config

        monkeypatch.setattr("casimg.recovery.open_backend", failing)
        try:
            casimg.recover(folder)
        except BackendUnavailableError:
            with pytest.raises(RepositoryError, match="recover"):
                casimg.open(folder)
            continue
        break
    assert number == faulty[0].call_count + 1 > 20
    with casimg.open(folder) as repo:
        assert state_of(repo) == state
        assert repo.check(read_data=True).clean


def test_a_put_killed_before_its_commit(folder: Path, state: State) -> None:
    """A put killed between record and commit may come back whole; what was committed does in any case."""
    script = (
        "import casimg, os, signal, sys\n"
        "repo = casimg.open(sys.argv[1])\n"
        "repo._wiring.catalog.commit = lambda *rest, **named: os.kill(os.getpid(), signal.SIGKILL)\n"
        "repo.put([b'late' * 50_000], name='late')\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(folder)], check=False).returncode == -signal.SIGKILL
    lose(folder, "catalog")
    assert casimg.recover(folder).clean
    with casimg.open(folder) as repo:
        (late,) = repo.images("late")
        sink = io.BytesIO()
        repo.get(late.id, sink)
        assert sink.getvalue() == b"late" * 50_000
        repo.delete("late")
        assert state_of(repo) == state


def test_the_newest_record_counts(folder: Path) -> None:
    """Killed between the new record and the end of the old one: the greater revision is recovered, damaged or not."""
    with casimg.open(folder) as repo:
        image = repo.image("empty")
        (old,) = (folder / "objects" / "records" / image.id).iterdir()
        saved = old.read_bytes()
        repo.update("empty", name="newer")
    old.write_bytes(saved)
    lose(folder, "catalog")
    assert casimg.recover(folder).clean
    with casimg.open(folder) as repo:
        assert repo.image(image.id).name == "newer"
        assert repo.check(read_data=True).clean
        assert repo.plan_gc().execute().orphan_count >= 1
        assert not old.exists()
        (newest,) = (folder / "objects" / "records" / image.id).iterdir()
    old.write_bytes(saved)
    newest.write_bytes(newest.read_bytes()[::-1])
    lose(folder, "catalog")
    report = casimg.recover(folder)
    assert [problem.kind for problem in report.problems] == ["record-damaged"]
    with casimg.open(folder) as repo:
        assert repo.image(image.id).name == "empty"


@pytest.mark.parametrize("seed", range(12))
def test_a_catalog_of_flipped_bytes(folder: Path, state: State, seed: int) -> None:
    """Bytes of catalog.sqlite flipped, cut off or zeroed anywhere: recover, forced when need be, brings all back."""
    rng = random.Random(seed)
    path = folder / "catalog.sqlite"
    data = bytearray(path.read_bytes())
    for _ in range(1 + 40 * (seed % 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    if seed % 6 == 5:
        data = data[: rng.randrange(len(data))]
    if seed % 6 == 4:
        data[:4096] = bytes(4096)
    path.write_bytes(data)
    try:
        report = casimg.recover(folder)
    except RepositoryError as refused:
        assert "--force" in str(refused)  # noqa: PT017 - what is flipped may be a value that nobody can know
        report = casimg.recover(folder, force=True)
    assert report.clean
    assert report.old_catalog is not None
    with casimg.open(folder) as repo:
        assert state_of(repo) == state


def test_left_over_journals_do_not_harm(folder: Path, state: State) -> None:
    """A -wal and -shm of a catalog that is gone are set aside: beside the new catalog they would pass for its own."""
    with casimg.open(folder) as repo:
        repo.update("zeros", properties={"x": "y"})
        wal = (folder / "catalog.sqlite-wal").read_bytes()
        repo.update("zeros", unset=["x"])
        shm = (folder / "catalog.sqlite-shm").read_bytes()
        expected = state_of(repo)
    lose(folder, "catalog")
    (folder / "catalog.sqlite-wal").write_bytes(wal)
    (folder / "catalog.sqlite-shm").write_bytes(shm)
    assert casimg.recover(folder).clean
    with casimg.open(folder) as repo:
        assert state_of(repo) == expected
    assert [path.read_bytes() for path in folder.iterdir() if "old-" in path.name and path.name.endswith("-wal")] == [
        wal
    ]


def test_the_command_recover(folder: Path) -> None:
    """casimg recover says in plain words what it did and what comes next, or as JSON; refusals have their exit code."""

    def run(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "casimg", "--repo", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert "nothing to recover" in run("recover", code=6)
    lose(folder, "catalog")
    assert "casimg recover" in run("ls", code=6)
    said = run("recover")
    assert "recovered 7 images (6 contents)" in said
    assert "gc removes nothing until" in said
    assert "nothing was freed" in run("gc")
    assert "frees nothing" in run("gc", "--dry-run")
    assert "no problem found" in run("check", "--read-data")
    assert "freed" in run("gc")
    document = json.loads(run("recover", "--force", "--json"))
    assert document["image_count"] == 7
    assert Path(document["old_catalog"]).exists()
    pack = max((folder / "objects" / "packs").rglob("*"), key=lambda path: path.stat().st_size)
    pack.unlink()
    said = run("recover", "--force", code=10)
    assert "PROBLEM chunk-lost" in said
    assert "touches base" in said


@pytest.mark.skipif(not SERVER_URL, reason="needs CASIMG_TEST_CATALOG_SERVER")
def test_a_catalog_on_a_server(folder: Path, state: State) -> None:
    """Into an empty database of a server all comes back; one that holds anything is refused, half filled ones too."""
    with database_url(folder) as url:
        site = folder / "casimg.toml"
        site.write_text(site.read_text().replace("sqlite:///catalog.sqlite", url))
        script = KILLED.replace("force=True", "force=False")
        command = [sys.executable, "-c", script, str(folder), "insert_image+", "2"]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        with pytest.raises(casimg.errors.CatalogDamagedError, match="recover"):
            casimg.open(folder)
        with pytest.raises(RepositoryError, match="empty"):
            casimg.recover(folder)
    with database_url(folder) as url:
        site.write_text(re.sub('url = ".*"', f'url = "{url}"', site.read_text()))
        assert casimg.recover(folder).clean
        with casimg.open(folder) as repo:
            assert state_of(repo) == state
            repo.put([os.urandom(100_000)], name="new")
            assert repo.check(read_data=True).clean
            assert repo.plan_gc().execute().disabled is None
        for force in (False, True):
            with pytest.raises(RepositoryError, match=r"empty|nothing to recover"):
                casimg.recover(folder, force=force)


def test_a_catalog_from_a_backup(tmp_path: Path) -> None:
    """With a catalog from before some images were stored, recover --force brings back both the old and the new ones."""
    folder = tmp_path / "r"
    with casimg.create(folder) as repo:
        repo.put([os.urandom(100_000)], name="old")
    saved = (folder / "catalog.sqlite").read_bytes()
    with casimg.open(folder) as repo:
        repo.put([os.urandom(100_000)], name="new")
        state = state_of(repo)
    lose(folder, "catalog")
    (folder / "catalog.sqlite").write_bytes(saved)
    casimg.recover(folder, force=True)
    with casimg.open(folder) as repo:
        assert state_of(repo) == state
        assert repo.check(read_data=True).clean
        assert repo.plan_gc().execute().orphan_count == 0


def test_packs_that_vanish_meanwhile_are_noticed(folder: Path, state: State) -> None:
    """A collection that is still at work while recover lists: recover says so, and run again it is right."""
    lose(folder, "catalog")
    stray = folder / "objects" / "packs" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    shutil.copyfile(max((folder / "objects" / "packs").rglob("*"), key=lambda path: path.stat().st_size), stray)

    def collect(report: casimg.Progress) -> None:
        if report.done_size == report.total_size:
            stray.unlink(missing_ok=True)

    with pytest.raises(CatalogBusyError, match="vanished"):
        casimg.recover(folder, progress=collect)
    assert casimg.recover(folder).clean
    with casimg.open(folder) as repo:
        assert state_of(repo) == state


def test_a_folder_with_a_difficult_name(tmp_path: Path) -> None:
    """Names that a URL would read otherwise are the names of files."""
    folder = tmp_path / "a?b%20#c"
    with casimg.create(folder) as repo:
        repo.put([b"x"], name="image")
    lose(folder, "catalog")
    assert casimg.recover(folder).image_count == 1
    with casimg.open(folder) as repo:
        assert len(repo.images()) == 1
