"""Objects that no row explains: removed when nobody can explain them, never before, never against the evidence."""

import io
import os
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

import casimg
from casimg.backend.fault import FaultBackend
from casimg.catalog import migrate
from casimg.catalog.migrate import REVISIONS
from casimg.ids import ImageId, PackId, new_image_id, new_session_id
from casimg.pack.keys import pack_key, record_key
from casimg.repository import Repository


def leave(repo: Repository, key: str, size: int = 1000) -> Path:
    """An object without a row."""
    repo._wiring.backend.put(key, io.BytesIO(os.urandom(size)), size)
    return repo.path / "objects" / key


def orphan_pack(repo: Repository) -> Path:
    """A pack that was put and never inserted."""
    return leave(repo, pack_key(PackId(os.urandom(32))))


def test_left_overs_of_dead_writers_go(repo: Repository) -> None:
    """Packs without a row, records of losers and unfinished files are removed; what is committed stays."""
    image = repo.put([os.urandom(100_000)], name="kept")
    left = [orphan_pack(repo), leave(repo, record_key(ImageId(image.id), new_session_id()))]
    partial = repo.path / "objects" / "tmp" / "1-abc"
    partial.write_bytes(b"half")
    plan = repo.plan_gc().plan
    assert (plan.orphan_count, plan.orphan_size) == (3, 2004)
    report = repo.plan_gc().execute()
    assert (report.orphan_count, report.orphan_size, report.orphans_refused) == (3, 2004, None)
    assert not any(path.exists() for path in [*left, partial])
    assert repo.check(read_data=True).problems == ()
    assert repo.plan_gc().execute().orphan_count == 0


def test_an_open_session_is_waited_for(repo: Repository) -> None:
    """What an older open session may yet insert waits; once the session ended it goes; its insert then is refused."""
    catalog = repo._wiring.catalog
    session = catalog.open_session("ingest")
    path = orphan_pack(repo)
    report = repo.plan_gc().execute()
    assert (report.orphan_count, report.orphan_waiting_count) == (0, 1)
    newer = catalog.open_session("ingest")
    assert repo.plan_gc().execute().orphan_waiting_count == 1
    assert path.exists()
    catalog.end_session(session.session_id)
    # A session opened after the epoch was noted does not hold it up.
    assert repo.plan_gc().execute().orphan_count == 1
    assert not path.exists()
    catalog.end_session(newer.session_id)


def test_a_pack_inserted_meanwhile_is_no_orphan(repo: Repository) -> None:
    """Remembered as an orphan, then inserted and committed: it stays and is forgotten."""
    catalog = repo._wiring.catalog
    repo.put([os.urandom(50_000)], name="image")
    (row,) = [row for row in catalog.all_packs(("live",)) if row.kind == 0]
    catalog.remember_orphans(1, [f"pack {pack_key(row.pack_id)}"])
    report = repo.plan_gc().execute()
    assert report.orphan_count == 0
    assert catalog.ripe_orphans(1) == ([], 0)
    assert repo.check(read_data=True).clean


def test_a_restored_catalog_is_noticed(tmp_path: Path) -> None:
    """With a catalog from before some images were stored nothing is removed, until told to trust it."""
    with casimg.create(tmp_path / "r") as repo:
        repo.put([b"old" * 10_000], name="old")
    saved = (tmp_path / "r" / "catalog.sqlite").read_bytes()
    with casimg.open(tmp_path / "r") as repo:
        repo.put([os.urandom(100_000)], name="new")
    for suffix in ("-wal", "-shm"):
        (tmp_path / "r" / f"catalog.sqlite{suffix}").unlink(missing_ok=True)
    (tmp_path / "r" / "catalog.sqlite").write_bytes(saved)
    with casimg.open(tmp_path / "r") as repo:
        report = repo.plan_gc().execute()
        assert report.orphan_count == 0
        assert report.orphans_refused is not None
        assert "catalog looks older" in report.orphans_refused
        assert repo.plan_gc().execute(trust_catalog=True).orphan_count == 3
        assert repo.check(read_data=True).problems == ()


def test_many_unexplained_packs_are_suspicious(repo: Repository) -> None:
    """More than 16 packs without a row, and more than 1 % of all, are not touched."""
    for _ in range(17):
        orphan_pack(repo)
    assert "have no row" in (repo.plan_gc().execute().orphans_refused or "")


def test_a_fenced_writer_whose_pack_was_swept_says_so(repo: Repository) -> None:
    """A put whose session was fenced and whose pack is gone before it is looked at fails as fenced, not as damaged."""
    wiring = repo._wiring
    real = wiring.backend

    def sweep(verb: str, key: str, _count: int) -> Exception | None:
        if verb == "stat" and key.startswith("packs/"):
            wiring.backend = real
            wiring.catalog.fence_stale(heartbeat_age_s=-1)
            repo.plan_gc().execute()
        return None

    wiring.backend = FaultBackend(real, sweep)
    with pytest.raises(casimg.errors.SessionFencedError):
        repo.put([os.urandom(100_000)], name="image")
    assert repo.images() == []
    assert repo.plan_gc().execute().orphan_count == 0


@pytest.mark.parametrize("key", ["packs/00/nonsense", "records/nonsense/x", "packs/00/" + "1" * 64])
def test_names_that_are_none_go_too(repo: Repository, key: str) -> None:
    """Files with names that no writer gives are unexplained as well."""
    path = leave(repo, key)
    assert repo.plan_gc().execute().orphan_count == 1
    assert not path.exists()


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_an_old_catalog_is_upgraded_on_request(tmp_path: Path, revision: str) -> None:
    """A catalog of an earlier revision is refused in one line; upgrade brings it up, and what it held is there."""
    with casimg.create(tmp_path / "r") as repo:
        repo.put([b"old" * 10_000], name="old")
    url = f"sqlite:///{tmp_path / 'r' / 'catalog.sqlite'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()
    with pytest.raises(casimg.errors.RepositoryError, match="older"):
        casimg.open(tmp_path / "r")
    assert casimg.catalog.Catalog.upgrade(url) == revision
    with casimg.open(tmp_path / "r") as repo:
        repo.put([b"x"], name="image")
        with repo.open_image("old") as file:
            assert file.read() == b"old" * 10_000
        assert repo.plan_gc().execute().orphans_refused is None
        assert repo.check(read_data=True).clean


def test_a_failed_snapshot_does_not_stop_collections(repo: Repository) -> None:
    """The record of a snapshot that was refused, or whose process died before its commit, is an orphan like others."""
    repo.put([b"x" * 100_000], name="image")
    with pytest.raises(casimg.errors.NameTakenError):
        repo.snapshot("image", name="image")
    dead = repo._wiring.catalog.open_session("snapshot")
    leave(repo, record_key(new_image_id(), dead.session_id))
    repo._wiring.catalog.end_session(dead.session_id)
    report = repo.plan_gc().execute()
    assert (report.orphan_count, report.orphans_refused) == (2, None)
    assert repo.check(read_data=True).problems == ()
