"""Uploads that fail, die, race or are overtaken by a delete: the image is queued again, and nothing leaks."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

import casimg
from casimg.catalog.schema import sessions
from casimg.errors import (
    BackendUnavailableError,
    BadStatusError,
    CancelledError,
    CasimgError,
    CatalogBusyError,
    ImageDeletedError,
    NotQueuedError,
    SessionFencedError,
)
from casimg.ids import ImageId
from casimg.registry import Edit, NewEntry, Registry, Viewer
from casimg.repository import Repository
from casimg.testing.watched import Call, Watch, watch_parts
from tests.conftest import mixed_bytes

ADMIN = Viewer(None, is_admin=True)
DATA = bytes(mixed_bytes(5_000_000, 11))
STEP = 9
"""How many moments are passed over: every one of a hundred would take minutes."""


def parts(data: bytes = DATA) -> Iterator[bytes]:
    for start in range(0, len(data), 500_000):
        yield data[start : start + 500_000]


def status(registry: Registry, image_id: ImageId) -> str:
    return registry.show(image_id, ADMIN).status


def nothing_is_kept(repo: Repository) -> None:
    """After a collection there are no packs, no records and no unfinished files."""
    repo.plan_gc().execute()
    assert repo.stats().stored_size == repo.stats().metadata_size == 0
    left = [path for path in (repo.path / "objects").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["casimg.json"]
    assert repo.sessions() == []


def watched_upload(folder: Path, watch: Watch) -> tuple[ImageId, CasimgError | None]:
    """Upload to a new image of the repository, every call of its parts watched; returns it and what was raised."""
    with casimg.open(folder) as repo:
        registry = repo.registry()
        image_id = registry.create(NewEntry(name="image")).id
        watch_parts(repo._wiring, watch)
        try:
            registry.upload(image_id, parts())
        except CasimgError as error:
            return image_id, error
        return image_id, None


def test_whichever_call_fails_the_image_is_queued_again(tmp_path: Path) -> None:
    """With any one call failing, before, in or after acting: queued and retried, or active; whole, and no leftovers."""
    casimg.create(tmp_path / "r", chunk_size=4096).close()
    seen: list[Call] = []
    watched_upload(tmp_path / "r", seen.append)
    names = {call.what for call in seen if call.part == "catalog" and call.verb == "write"}
    assert {"open_session", "claim_queued", "insert_pack", "commit"} <= names
    statuses: set[str] = set()
    for number in range(1, len(seen), STEP):
        left = [number]

        def fail(call: Call, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise CatalogBusyError("test") if call.part == "catalog" else BackendUnavailableError("test", "test")

        image_id, error = watched_upload(tmp_path / "r", fail)
        with casimg.open(tmp_path / "r") as repo:
            registry = repo.registry()
            found = status(registry, image_id)
            statuses.add(found)
            assert found in (("active",) if error is None else ("queued", "active"))
            if found == "queued":
                assert list(repo._wiring.backend.list(f"records/{image_id}/")) == []
                registry.upload(image_id, parts(), size=len(DATA))
            with registry.open_image(image_id) as file:
                assert file.read() == DATA
            assert repo.check(read_data=True).problems == ()
    assert statuses == {"queued", "active"}
    with casimg.open(tmp_path / "r") as repo:
        for image in repo.images():
            repo.delete(image.id)
        nothing_is_kept(repo)


UPLOAD = (
    "import casimg, sys, os\n"
    "from casimg.registry import NewEntry\n"
    "def source():\n"
    "    while True:\n"
    "        yield os.urandom(1 << 20)\n"
    "        print('part', flush=True)\n"
    "with casimg.open(sys.argv[1]) as repo:\n"
    "    repo.registry().upload(sys.argv[2], source())\n"
)


@pytest.mark.parametrize("asked", [False, True], ids=["collection", "asked for"])
def test_a_killed_upload_is_queued_again(repo: Repository, asked: bool) -> None:
    """After kill -9 the image is queued again when somebody asks, or by a collection, which takes what had come."""
    registry = repo.registry()
    image_id = registry.create(NewEntry(name="image")).id
    command = [sys.executable, "-c", UPLOAD, str(repo.path), image_id]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(100):
        child.stdout.readline()
    child.kill()
    child.wait()
    child.stdout.close()
    assert child.returncode == -signal.SIGKILL
    assert status(registry, image_id) == "saving"
    with pytest.raises(NotQueuedError):
        registry.upload(image_id, [b"too early"])
    if asked:
        assert registry.end_dead_uploads() == 1
        assert status(registry, image_id) == "queued"
    nothing_is_kept(repo)
    assert registry.end_dead_uploads() == 0
    assert status(registry, image_id) == "queued"
    assert registry.upload(image_id, parts()).status == "active"
    assert repo.check(read_data=True).problems == ()


def test_deleted_while_its_data_come(repo: Repository) -> None:
    """The upload fails with ImageDeletedError, the image stays deleted, and a collection gives everything back."""
    registry = repo.registry()
    image_id = registry.create(NewEntry(name="image")).id

    def source() -> Iterator[bytes]:
        yield from parts()
        registry.delete(image_id)
        yield from parts(os.urandom(1_000_000))

    with pytest.raises(ImageDeletedError) as caught:
        registry.upload(image_id, source())
    assert caught.value.ref == image_id
    assert repo._wiring.catalog.image(image_id).status == "deleted"
    nothing_is_kept(repo)


def test_a_delete_is_noticed_before_the_last_byte(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload without an end stops soon after its image was deleted: space is not taken for nothing."""
    monkeypatch.setattr("casimg.ingest._HEARTBEAT_EVERY_S", 0.0)
    registry = repo.registry()
    image_id = registry.create(NewEntry()).id

    def source() -> Iterator[bytes]:
        yield bytes(5_000_000)
        registry.delete(image_id)
        while True:
            yield bytes(5_000_000)

    with pytest.raises(ImageDeletedError):
        registry.upload(image_id, source())


def test_a_slow_client_is_not_taken_for_dead(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part that comes may say that the session lives, long before a segment is full."""
    monkeypatch.setattr("casimg.uploading._HEARTBEAT_EVERY_S", 0.0)
    registry = repo.registry()
    image_id = registry.create(NewEntry()).id
    registry.upload(image_id, iter([b"x"] * 5))
    beats = repo._wiring.catalog.read(lambda connection: connection.execute(select(sessions.c.beats)).scalar_one())
    assert beats > 5

    def deleted() -> Iterator[bytes]:
        yield b"x"
        registry.delete(second)
        yield b"x"
        yield b"x"
        raise AssertionError("the delete was not noticed")

    second = registry.create(NewEntry()).id
    with pytest.raises(ImageDeletedError):
        registry.upload(second, deleted())


def test_of_two_uploads_the_second_is_told_at_once(repo: Repository) -> None:
    """While one upload is at work another is refused before it reads anything; the first ends well."""
    registry = repo.registry()
    image_id = registry.create(NewEntry()).id
    begun, go_on = threading.Event(), threading.Event()
    ended: list[str] = []

    def slow() -> Iterator[bytes]:
        yield DATA[:1_000_000]
        begun.set()
        assert go_on.wait(60)
        yield DATA[1_000_000:]

    def untouched() -> Iterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    thread = threading.Thread(target=lambda: ended.append(registry.upload(image_id, slow()).status))
    thread.start()
    assert begun.wait(60)
    with pytest.raises(NotQueuedError):
        registry.upload(image_id, untouched())
    go_on.set()
    thread.join()
    assert ended == ["active"]
    with registry.open_image(image_id) as file:
        assert file.read() == DATA


def test_racing_uploads_have_one_winner(repo: Repository) -> None:
    """Of uploads that begin at the same moment one wins, the others are told, and its bytes are the image's."""
    registry = repo.registry()
    image_id = registry.create(NewEntry()).id
    gate = threading.Barrier(4)
    told: list[bytes | None] = []

    def upload(data: bytes) -> None:
        gate.wait()
        try:
            registry.upload(image_id, [data])
            told.append(data)
        except NotQueuedError:
            told.append(None)

    threads = [threading.Thread(target=upload, args=(bytes([65 + number]) * 300_000,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [data for data in told if data is not None]
    assert len(told) == 4
    with registry.open_image(image_id) as file:
        assert file.read() == winner
    assert repo.check(read_data=True).problems == ()


def test_many_uploads_at_once(repo: Repository) -> None:
    """Uploads to images of their own, and edits of them beside, do not disturb each other."""
    registry = repo.registry()
    rows = [registry.create(NewEntry(name=f"{number}")) for number in range(6)]

    def upload(number: int) -> None:
        registry.upload(rows[number].id, parts(DATA[number:]))
        registry.add_tag(rows[number].id, "done")

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, row in enumerate(rows):
        found = registry.show(row.id, ADMIN)
        assert (found.status, found.tags) == ("active", ("done",))
        with registry.open_image(row.id) as file:
            assert file.read() == DATA[number:]
    assert repo.check(read_data=True).problems == ()
    assert threading.active_count() < 20


def test_an_upload_taken_for_dead(repo: Repository) -> None:
    """An upload whose session a collection fenced cannot commit: the image is queued, and may have another's data."""
    registry = repo.registry()
    image_id = registry.create(NewEntry()).id
    catalog = repo._wiring.catalog

    def source() -> Iterator[bytes]:
        yield DATA[:1_000_000]
        catalog.fence_stale(heartbeat_age_s=-1.0)
        catalog.end_dead_saves()
        registry.edit(image_id, Edit(name="still here"), revision=registry.show(image_id, ADMIN).revision)
        registry.upload(image_id, [b"another's"])

    with pytest.raises(SessionFencedError):
        registry.upload(image_id, source())
    with registry.open_image(image_id) as file:
        assert file.read() == b"another's"
    repo.plan_gc().execute()
    assert repo.check(read_data=True).problems == ()


def test_a_cancelled_upload(repo: Repository) -> None:
    """A cancel from another thread ends the upload; the image is queued again."""
    registry = repo.registry()
    image_id = registry.create(NewEntry()).id
    cancel = threading.Event()

    def source() -> Iterator[bytes]:
        yield bytes(5_000_000)
        cancel.set()
        yield bytes(5_000_000)

    with pytest.raises(CancelledError):
        registry.upload(image_id, source(), cancel=cancel)
    assert status(registry, image_id) == "queued"
    nothing_is_kept(repo)


def test_a_backend_that_is_gone_leaves_the_image_to_a_collection(repo: Repository) -> None:
    """With every call of the backend failing the image is queued again all the same; later the upload works."""
    registry = repo.registry()
    image_id = registry.create(NewEntry()).id
    real = repo._wiring.backend

    def refuse(call: Call) -> None:
        if call.part == "backend":
            raise BackendUnavailableError("test", "gone")

    catalog, index = repo._wiring.catalog, repo._wiring.index
    watch_parts(repo._wiring, refuse)
    with pytest.raises(BackendUnavailableError):
        registry.upload(image_id, parts())
    repo._wiring.backend, repo._wiring.catalog, repo._wiring.index = real, catalog, index
    assert status(registry, image_id) == "queued"
    assert registry.upload(image_id, parts()).status == "active"
    assert repo.check(read_data=True).problems == ()


def test_whichever_call_of_an_import_fails_what_was_staged_is_there(tmp_path: Path) -> None:
    """With any one call of an import failing, before, in or after acting, the data are staged still, or the image's."""
    casimg.create(tmp_path / "r", chunk_size=4096).close()
    statuses: list[str] = []
    number = 1
    while True:
        left = [number]

        def fail(call: Call, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise CatalogBusyError("test") if call.part == "catalog" else BackendUnavailableError("test", "test")

        with casimg.open(tmp_path / "r") as repo:
            image_id = repo.registry().create(NewEntry()).id
            repo.registry().stage(image_id, parts())
        error = None
        with casimg.open(tmp_path / "r") as repo:
            watch_parts(repo._wiring, fail)
            try:
                repo.registry().import_staged(image_id)
            except CasimgError as caught:
                error = caught
        with casimg.open(tmp_path / "r") as repo:
            registry = repo.registry()
            registry.end_dead_uploads()
            found = status(registry, image_id)
            statuses.append(found)
            assert found in (("active",) if error is None else ("uploading", "importing", "active"))
            repo.plan_gc().execute()
            if status(registry, image_id) == "uploading":
                registry.import_staged(image_id)
            with registry.open_image(image_id) as file:
                assert file.read() == DATA
            assert repo.check(read_data=True).problems == ()
        if left[0] > 0:
            break
        number += 1
    assert set(statuses) >= {"uploading", "active"}


IMPORT = (
    "import casimg, sys, time\n"
    "def wait(file):\n"
    "    print('claimed', flush=True)\n"
    "    time.sleep(600)\n"
    "with casimg.open(sys.argv[1]) as repo:\n"
    "    repo.registry().import_staged(sys.argv[2], inspect=wait)\n"
)


def test_a_killed_import_leaves_what_was_staged(repo: Repository) -> None:
    """After kill -9 the data are staged as before, also for collections; they can be imported or given up."""
    registry = repo.registry()
    image_id = registry.create(NewEntry(name="image")).id
    registry.stage(image_id, parts())
    command = [sys.executable, "-c", IMPORT, str(repo.path), image_id]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "claimed\n"
    assert status(registry, image_id) == "importing"
    with pytest.raises(BadStatusError):
        registry.import_staged(image_id)
    with pytest.raises(BadStatusError):
        registry.unstage(image_id)
    child.kill()
    child.wait()
    child.stdout.close()
    repo.plan_gc().execute()
    assert status(registry, image_id) == "uploading"
    assert registry.import_staged(image_id).status == "active"
    with registry.open_image(image_id) as file:
        assert file.read() == DATA
    assert repo.check(read_data=True).problems == ()
