"""Images deleted and collected while they are read: right bytes to the end, and the space comes back afterwards."""

import gc
import io
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import casimg
from casimg.leasing import ReadLease
from casimg.repository import Repository
from casimg.results.upkeep import GcReport
from tests.conftest import mixed_bytes

SIZE = 9_000_000


def collect(repo: Repository) -> GcReport:
    """Run a garbage collection."""
    return repo.plan_gc().execute()


def lease_count(repo: Repository) -> int:
    """How many leases the catalog holds."""
    with sqlite3.connect(repo.path / "catalog.sqlite") as db:
        return int(db.execute("SELECT count(*) FROM leases").fetchone()[0])


def stored(repo: Repository, name: str = "victim") -> bytes:
    """Put an image and return its bytes."""
    data = bytes(mixed_bytes(SIZE))
    repo.put(io.BytesIO(data), name=name)
    return data


class Sink(io.BytesIO):
    """A target that deletes and collects the image when its first bytes arrive."""

    def __init__(self, repo: Repository) -> None:
        super().__init__()
        self.repo = repo
        self.reports: list[GcReport] = []

    def write(self, data: object) -> int:
        if not self.reports:
            self.repo.delete("victim")
            self.reports.append(collect(self.repo))
        return super().write(data)  # type: ignore[arg-type]


def test_a_restore_outlives_its_image(repo: Repository) -> None:
    """rm and gc in the middle of a get: every byte comes and is right; the next gc gives the space back."""
    data = stored(repo)
    sink = Sink(repo)
    repo.get("victim", sink)
    assert sink.getvalue() == data
    assert (sink.reports[0].lease_count, sink.reports[0].content_count, sink.reports[0].pack_count) == (1, 0, 0)
    assert lease_count(repo) == 0
    report = collect(repo)
    assert (report.lease_count, report.content_count) == (0, 1)
    assert repo.stats().stored_size == 0


def test_an_open_image_outlives_its_image(repo: Repository) -> None:
    """rm and gc under an open ImageFile: reads stay right until close; then the space comes back."""
    data = stored(repo)
    file = repo.open_image("victim")
    assert file.read_at(0, 100) == data[:100]
    repo.delete("victim")
    assert collect(repo).lease_count == 1
    assert file.read_at(0, SIZE) == data
    file.close()
    file.close()
    assert lease_count(repo) == 0
    assert collect(repo).content_count == 1
    assert repo.stats().stored_size == 0


def test_verify_and_snapshot_take_leases_too(repo: Repository, tmp_path: Path) -> None:
    """verify of an image deleted meanwhile ends equal; no lease is left behind by verify, snapshot, or failed reads."""
    data = stored(repo)
    path = tmp_path / "disk"
    path.write_bytes(data)
    once = threading.Event()

    def progress(_report: object) -> None:
        if not once.is_set():
            once.set()
            assert lease_count(repo) == 1
            repo.delete("victim")
            collect(repo)

    assert repo.verify("victim", path, progress=progress).equal
    assert once.is_set()
    stored(repo, "parent")
    repo.snapshot("parent", name="child", source=path, changed=[casimg.ByteRange(0, 4096)])
    with pytest.raises(casimg.errors.TargetError):
        repo.get("child", tmp_path / "no" / "such" / "folder")
    assert lease_count(repo) == 0


def test_an_expired_lease_holds_nothing(repo: Repository) -> None:
    """When a lease has expired, gc gives the space back, and the reader is told that the image was deleted."""
    stored(repo)
    file = repo.open_image("victim")
    with sqlite3.connect(repo.path / "catalog.sqlite") as db:
        db.execute("UPDATE leases SET expires_at = 1")
    repo.delete("victim")
    report = collect(repo)
    assert (report.lease_count, report.content_count) == (0, 1)
    with pytest.raises(casimg.errors.ImageNotFoundError, match="deleted while it was read"):
        file.read_at(0, SIZE)
    file.close()


def test_progress_renews_a_lease(repo: Repository) -> None:
    """Before half of a lease is over nothing is written; after it, progress moves its end, or takes it again."""
    image = repo.image(repo.put([b"x" * 10_000], name="victim").id)
    assert image.content_id is not None
    now_s = 0.0
    catalog = repo._wiring.catalog
    lease = ReadLease(catalog, image.content_id, "victim", duration_s=1000, clock=lambda: now_s)

    def expiry() -> list[int]:
        with sqlite3.connect(repo.path / "catalog.sqlite") as db:
            return [row[0] for row in db.execute("SELECT expires_at FROM leases")]

    with sqlite3.connect(repo.path / "catalog.sqlite") as db:
        db.execute("UPDATE leases SET expires_at = 5")
    now_s = 499.0
    lease.touch()
    assert expiry() == [5]
    now_s = 501.0
    lease.touch()
    assert expiry()[0] > 5
    with sqlite3.connect(repo.path / "catalog.sqlite") as db:
        db.execute("DELETE FROM leases")
    now_s = 1200.0
    lease.touch()
    assert len(expiry()) == 1
    lease.end()
    now_s = 9000.0
    lease.touch()
    assert expiry() == []


def test_a_killed_readers_lease_goes_with_its_process(tmp_path: Path) -> None:
    """kill -9 of a reader: gc drops its lease at once, without waiting for the hour."""
    with casimg.create(tmp_path / "r") as repo:
        stored(repo)
        script = (
            "import casimg, sys\n"
            "repo = casimg.open(sys.argv[1])\n"
            "file = repo.open_image('victim')\n"
            "print(len(file.read_at(0, 10)), flush=True)\n"
            "sys.stdin.read()\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(repo.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"10\n"
        repo.delete("victim")
        assert collect(repo).lease_count == 1
        child.send_signal(signal.SIGKILL)
        child.communicate()
        report = collect(repo)
        assert (report.lease_count, report.content_count) == (0, 1)
        assert repo.stats().stored_size == 0


def test_a_read_needs_no_lease(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a catalog that takes no writes (full, busy or read-only) every byte is read all the same."""
    data = stored(repo)
    transaction = repo._wiring.catalog.transaction
    for error in (
        casimg.errors.NoSpaceError("here"),
        casimg.errors.CatalogBusyError("now"),
        casimg.errors.RepositoryError("here", "read-only"),
    ):

        def refuse(_work: object, *, try_count: int = 12, error: Exception = error) -> None:
            assert try_count == 1, "a read must not wait for what it does not need"
            raise error

        monkeypatch.setattr(repo._wiring.catalog, "transaction", refuse, raising=True)
        sink = io.BytesIO()
        repo.get("victim", sink)
        assert sink.getvalue() == data
        with repo.open_image("victim") as file:
            assert file.read_at(0, SIZE) == data
    monkeypatch.setattr(repo._wiring.catalog, "transaction", transaction)
    assert lease_count(repo) == 0


def test_a_busy_catalog_delays_a_read_by_seconds_only(repo: Repository) -> None:
    """While another holds the catalog's only writer, a read goes on after one try."""
    data = stored(repo)
    holder = sqlite3.connect(repo.path / "catalog.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with repo.open_image("victim") as file:
            assert file.read_at(5, 1000) == data[5:1005]
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def test_a_file_nobody_closed_writes_nothing_when_it_dies(repo: Repository) -> None:
    """The garbage collector of Python ends no lease: it may run inside any transaction; expiry and gc do."""
    stored(repo)
    file = repo.open_image("victim")
    del file
    gc.collect()
    assert lease_count(repo) == 1
