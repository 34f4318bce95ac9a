"""Images on several backends: copied, read where one backend fails, changed, left, deleted; kills in the middle."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import casimg
from casimg.backends import add_backend
from casimg.catalog.query import Viewer
from casimg.errors import (
    CancelledError,
    ChunkLostError,
    CopyExistsError,
    CopyNotFoundError,
    ImageNotFoundError,
    LastCopyError,
    StoreNotFoundError,
)
from casimg.formats.record import ImageRecord, decode_record
from casimg.ids import ContentId
from casimg.progress import Progress
from casimg.repository import Repository
from tests.conftest import mixed_bytes

DATA = bytes(mixed_bytes(9_000_000, 6)) + bytes(20_000_000) + bytes(mixed_bytes(2_000_000, 7))
ADMIN = Viewer(None, is_admin=True)


def add(folder: Path, *names: str) -> None:
    for name in names:
        add_backend(folder / "repository", name, folder / name)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    """A repository with the backends local, spare and third."""
    casimg.create(tmp_path / "repository").close()
    add(tmp_path, "spare", "third")
    with casimg.open(tmp_path / "repository") as opened:
        yield opened


def run(*arguments: str | Path, code: int = 0) -> str:
    """Run the command line and return what it says."""
    command = [sys.executable, "-m", "casimg", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def records(repo: Repository, backend: str, image_id: str) -> list[ImageRecord]:
    """What a backend says of an image."""
    found = repo._wiring.named(backend).backend
    data = [found.get_range(item.key, 0, item.size) for item in found.list(f"records/{image_id}/")]
    return [decode_record(item) for item in data]


def objects(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "packs").rglob("*") if path.is_file())


def flip(folder: Path, step: int = 50_000) -> None:
    """Damage every pack of a backend, from its first frame to its entry list."""
    for path in objects(folder):
        data = bytearray(path.read_bytes())
        for at in range(100, len(data), step):
            data[at] ^= 0xFF
        data[-40:] = bytes(40)
        path.write_bytes(data)


def test_a_copy_is_made_and_told(repo: Repository, tmp_path: Path) -> None:
    """A copy has the original's bytes on another backend; a second one stores nothing that is there already."""
    image = repo.put([DATA], name="a")
    said: list[Progress] = []
    copied = repo.copy("a", "spare", progress=said.append)
    assert copied.stores == ("local", "spare")
    assert said[-1].done_size == len(DATA)
    assert [item.image_count for item in repo.backends()] == [1, 1, 0]
    stored = repo.backends()[1].stored_size
    twin = repo.put([DATA], name="b")
    assert repo.copy("b", "spare").stores == ("local", "spare")
    assert repo.backends()[1].stored_size - stored < 10_000
    assert repo.copy("a", "third").stores == ("local", "spare", "third")
    contents = [repo._wiring.catalog.content(content_id) for content_id in _contents(repo, image.id)]
    assert len({content.trees for content in contents}) == 1
    assert len({content.content_id for content in contents}) == 3
    for name in ("a", "b"):
        repo.get(name, tmp_path / name)
        assert (tmp_path / name).read_bytes() == DATA
    assert repo.image(twin.id).stores == ("local", "spare")


def _contents(repo: Repository, image_id: str) -> list[ContentId]:
    row = repo.registry().show(repo.image(image_id).id, ADMIN)
    assert row.content_id is not None
    return [row.content_id, *(copy.content_id for copy in row.copies)]


@pytest.mark.parametrize("data", [b"", bytes(30_000_000), b"x", bytes(4 << 20) + b"y", b"z" * (4 << 20) + bytes(5000)])
def test_copies_of_odd_images(repo: Repository, data: bytes) -> None:
    """Nothing, nothing but zeros, one byte, and segments of zeros at both ends are copied and read from the copy."""
    repo.put([data], name="a")
    repo.copy("a", "spare")
    repo.remove_copy("a", "local")
    assert repo.open_image("a").read() == data
    assert repo.image("a").size == len(data)


def test_what_cannot_be_copied(repo: Repository) -> None:
    """Unknown backends and images, copies that are there and removals of what is not, or is the last, are refused."""
    repo.put([DATA], name="a")
    for ask in (repo.copy, repo.remove_copy):
        with pytest.raises(StoreNotFoundError):
            ask("a", "fast")
        with pytest.raises(ImageNotFoundError):
            ask("b", "spare")
    with pytest.raises(CopyExistsError):
        repo.copy("a", "local")
    with pytest.raises(LastCopyError):
        repo.remove_copy("a", "local")
    with pytest.raises(CopyNotFoundError):
        repo.remove_copy("a", "spare")
    repo.copy("a", "spare")
    with pytest.raises(CopyExistsError):
        repo.copy("a", "spare")
    assert repo.sessions() == []


def test_any_copy_may_go(repo: Repository, tmp_path: Path) -> None:
    """The first content may go too: a copy takes its place, is read, shared, moved on, and survives collections."""
    repo.put([DATA], name="a")
    repo.copy("a", "spare")
    assert repo.remove_copy("a", "local").stores == ("spare",)
    repo.plan_gc().execute()
    assert repo.backends()[0].stored_size == 0
    assert objects(tmp_path / "repository" / "objects") == []
    assert repo.open_image("a").read() == DATA
    child = repo.snapshot("a", name="child")
    assert child.stores == ("spare",)
    repo.copy("a", "third")
    repo.remove_copy("a", "spare")
    repo.plan_gc().execute()
    assert repo.open_image("child").read() == DATA
    assert repo.open_image("a").read() == DATA
    assert repo.check(read_data=True).problems == ()


def test_a_read_that_has_begun_ends_although_its_copy_goes(repo: Repository) -> None:
    """A stream of a content that its image leaves meanwhile goes on, and so does a row read before."""
    registry = repo.registry()
    row = registry.show(repo.put([DATA], name="a").id, ADMIN)
    repo.copy("a", "spare")
    stream = registry.stream(row)
    first = next(stream)
    repo.remove_copy("a", "local")
    repo.plan_gc().execute()
    assert first + b"".join(stream) == DATA
    stream.close()
    repo.plan_gc().execute()
    with registry.open_image(row.id) as file:
        assert file.read() == DATA
    late = registry.stream(row)  # names a content that is gone
    assert b"".join(late) == DATA
    late.close()


def test_damage_on_one_backend_is_read_from_the_other(repo: Repository, tmp_path: Path) -> None:
    """With every pack of the first backend damaged, or gone, all ways of reading give the right bytes."""
    repo.put([DATA], name="a")
    repo.copy("a", "spare")
    flip(tmp_path / "repository" / "objects")
    out, disk = tmp_path / "out", tmp_path / "disk"
    disk.write_bytes(DATA)
    for _ in range(2):
        with casimg.open(tmp_path / "repository") as fresh:
            fresh.get("a", out)
            assert out.read_bytes() == DATA
            assert fresh.open_image("a").read() == DATA
            assert fresh.verify("a", disk).equal
            registry = fresh.registry()
            row = registry.show(fresh.image("a").id, ADMIN)
            for stores in ((), ("local",), ("spare", "local"), ("third",)):
                for start, end in ((0, None), (5_000_000, 5_000_100)):
                    stream = registry.stream(row, start, end, stores=stores)
                    assert b"".join(stream) == DATA[start:end]
                    stream.close()
        for path in objects(tmp_path / "repository" / "objects"):
            path.unlink()
    with casimg.open(tmp_path / "repository") as fresh:
        fresh.remove_copy("a", "spare")
        fresh.plan_gc().execute()
        with pytest.raises(ChunkLostError):
            fresh.open_image("a").read()


def test_the_preferred_backend_is_read(repo: Repository, tmp_path: Path) -> None:
    """A stream reads from the backend that is preferred, as long as that one is there."""
    registry = repo.registry()
    image_id = repo.put([DATA], name="a").id
    repo.copy("a", "spare")
    (tmp_path / "repository" / "objects" / "packs").rename(tmp_path / "hidden")
    with casimg.open(tmp_path / "repository") as fresh:
        registry = fresh.registry()
        stream = registry.stream(registry.show(image_id, ADMIN), stores=("spare",))
        assert b"".join(stream) == DATA
        stream.close()
    (tmp_path / "hidden").rename(tmp_path / "repository" / "objects" / "packs")
    (tmp_path / "spare").rename(tmp_path / "elsewhere")
    with casimg.open(tmp_path / "repository") as fresh:
        registry = fresh.registry()
        stream = registry.stream(registry.show(image_id, ADMIN), stores=("spare",))
        assert b"".join(stream) == DATA
        stream.close()


def test_changes_reach_the_record_on_every_backend(repo: Repository, tmp_path: Path) -> None:
    """Each copy has a record beside its packs; a change reaches all of them, later where a backend is away."""
    image = repo.put([DATA], name="a")
    repo.copy("a", "spare")
    repo.update("a", properties={"os": "one"})
    for backend in ("local", "spare"):
        (record,) = records(repo, backend, image.id)
        assert record.properties == {"os": "one"}
    ids = {records(repo, backend, image.id)[0].content.content_id for backend in ("local", "spare")}
    assert ids == set(_contents(repo, image.id))
    (tmp_path / "spare").rename(tmp_path / "elsewhere")
    repo.update("a", properties={"os": "two"})
    assert records(repo, "local", image.id)[-1].properties == {"os": "two"}
    assert repo.plan_gc().execute().record_behind_count == 1
    (tmp_path / "elsewhere").rename(tmp_path / "spare")
    assert repo.plan_gc().execute().record_behind_count == 0
    for backend in ("local", "spare"):
        (record,) = records(repo, backend, image.id)
        assert (record.properties, record.revision) == ({"os": "two"}, records(repo, "local", image.id)[0].revision)
    repo.remove_copy("a", "local")
    assert records(repo, "local", image.id) == []
    repo.update("a", name="other")
    assert [record.name for record in records(repo, "spare", image.id)] == ["other"]
    assert repo.check().problems == ()


def test_a_deleted_image_goes_from_every_backend(repo: Repository, tmp_path: Path) -> None:
    """Its records go from all; a backend that is away keeps what lies there until it is back, and nothing else."""
    image, other = repo.put([DATA], name="a"), repo.put([DATA[:5000]], name="b")
    for ref in (image.id, other.id):
        repo.copy(ref, "spare")
    (tmp_path / "spare").rename(tmp_path / "elsewhere")
    repo.delete(image.id)
    assert repo.plan_gc().execute().content_count == 0
    (tmp_path / "elsewhere").rename(tmp_path / "spare")
    assert repo.plan_gc().execute().content_count == 2
    for backend in ("local", "spare"):
        assert records(repo, backend, image.id) == []
        assert len(records(repo, backend, other.id)) == 1
    assert repo.open_image("b").read() == DATA[:5000]


def test_hashes_come_to_every_copy(repo: Repository) -> None:
    """Hashes of before a copy come with it, those computed later reach it: they stay when the first content goes."""
    registry = repo.registry()
    first, second = repo.put([DATA], name="a"), repo.put([DATA], name="b")
    hashes = registry.compute_hashes(first.id).hashes
    assert set(hashes) == {"md5", "sha512"}
    repo.copy("a", "spare")
    repo.copy("b", "spare")
    registry.compute_hashes(second.id)
    for image in (first, second):
        repo.remove_copy(image.id, "local")
        assert registry.show(image.id, ADMIN).hashes == hashes
        assert records(repo, "spare", image.id)[0].content.hashes == hashes


def test_a_copy_that_is_cancelled(repo: Repository) -> None:
    """It leaves the image as it was, no session and no record; what was stored is found by the next try."""
    image = repo.put([os.urandom(1 << 20) for _ in range(200)], name="a")
    cancel = threading.Event()
    for asked in (cancel.set, cancel.clear):
        asked()
        with pytest.raises(CancelledError):
            repo.copy("a", "spare", progress=lambda _: cancel.set(), cancel=cancel)
        assert repo.image("a").stores == ("local",)
        assert repo.sessions() == []
        assert records(repo, "spare", image.id) == []
    assert repo.copy("a", "spare").stores == ("local", "spare")


def test_a_killed_copy_is_made_again(tmp_path: Path) -> None:
    """After kill -9 at any moment the image reads, gc keeps what it names, and the copy is made by the next try."""
    casimg.create(tmp_path / "repository").close()
    add(tmp_path, "spare")
    with casimg.open(tmp_path / "repository") as repo:
        repo.put([bytes(mixed_bytes(40_000_000, 8))], name="a")
    for number in range(6):
        command = ["-m", "casimg", "--repo", str(tmp_path / "repository"), "copy", "a", "--to", "spare"]
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.25 + 0.1 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with casimg.open(tmp_path / "repository") as repo:
            repo.plan_gc().execute()
            if "spare" not in repo.image("a").stores:
                repo.copy("a", "spare")
            assert repo.check(read_data=True).problems == ()
            repo.remove_copy("a", ("local", "spare")[number % 2])
            assert len(repo.open_image("a").read()) == 40_000_000
            if number % 2 == 0:
                repo.copy("a", "local")
                repo.remove_copy("a", "spare")
            repo.plan_gc().execute()


def test_the_command(tmp_path: Path) -> None:
    """`casimg copy` copies, removes, moves, and says where the image lies then."""
    disk = tmp_path / "disk"
    disk.write_bytes(DATA)
    run("init", tmp_path / "repository")
    add(tmp_path, "spare")
    at = ("--repo", tmp_path / "repository")
    run(*at, "put", disk, "--name", "a")
    run(*at, "copy", "a", code=2)
    assert "lies on local, spare" in run(*at, "copy", "a", "--to", "spare")
    assert "backends          local, spare" in run(*at, "show", "a")
    assert "lies on spare" in run(*at, "copy", "a", "--remove-from", "local")
    assert "lies on local" in run(*at, "copy", "a", "--to", "local", "--remove-from", "spare")
    assert "last one" in run(*at, "copy", "a", "--remove-from", "local", code=4)
