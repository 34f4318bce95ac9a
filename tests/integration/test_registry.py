"""Images through the registry of an open repository: from queued to active, edited, recovered, seen by all faces."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import casimg
from casimg.errors import (
    BadStatusError,
    ImageExistsError,
    ImageNotFoundError,
    InputError,
    NotQueuedError,
    ProtectedImageError,
    SizeMismatchError,
)
from casimg.formats.record import ImageRecord, decode_record
from casimg.ids import ImageId
from casimg.registry import Edit, Filter, ImageRow, Inspected, NewEntry, Query, Registry, Viewer
from casimg.repository import Repository
from tests.conftest import mixed_bytes
from tests.recover_making import lose

ADMIN = Viewer(None, is_admin=True)


@pytest.fixture
def registry(repo: Repository) -> Registry:
    return repo.registry()


def records(repo: Repository, image_id: str) -> list[ImageRecord]:
    """What the backend says of an image, least revision first."""
    backend = repo._wiring.backend
    found = [backend.get_range(item.key, 0, item.size) for item in backend.list(f"records/{image_id}/")]
    return sorted((decode_record(data) for data in found), key=lambda record: record.revision)


def uploaded(registry: Registry, data: bytes = b"x" * 100_000, **fields: Any) -> ImageRow:
    """Make an image with data."""
    return registry.upload(registry.create(NewEntry(**({"owner": "p1"} | fields))).id, [data])


def parts(data: bytes, size: int = 70_000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def test_from_queued_to_active(repo: Repository, registry: Registry) -> None:
    """A registered image takes its data once, has the hashes of exactly these bytes, and gives them back."""
    data = bytes(mixed_bytes(9_000_000, 5))
    queued = registry.create(
        NewEntry(name="web", disk_format="raw", container_format="bare", owner="p1", tags=("b", "a"))
    )
    assert (queued.status, queued.size, queued.tags, queued.hashes) == ("queued", None, ("a", "b"), {})
    assert repo.images() == []
    row = registry.upload(queued.id, parts(data), size=len(data), inspect=lambda: Inspected(123))
    assert (row.status, row.size, row.virtual_size) == ("active", len(data), 123)
    assert row.hashes == {"md5": hashlib.md5(data).hexdigest(), "sha512": hashlib.sha512(data).hexdigest()}
    assert registry.show(row.id, Viewer("p1")) == row
    with registry.open_image(row.id) as file:
        assert file.read() == data
    assert [image.id for image in repo.images()] == [row.id]
    with pytest.raises(NotQueuedError):
        registry.upload(row.id, [b"again"])
    (record,) = records(repo, row.id)
    assert (record.tags, record.virtual_size, record.content.hashes) == (("a", "b"), 123, row.hashes)
    assert repo.check(read_data=True).problems == ()
    with pytest.raises(ImageExistsError):
        registry.create(NewEntry(id=row.id))


def test_an_empty_body_makes_an_active_image(registry: Registry) -> None:
    """Nothing at all is data too: size 0, with the hashes of nothing."""
    row = uploaded(registry, b"")
    assert (row.status, row.size, row.hashes["md5"]) == ("active", 0, hashlib.md5(b"").hexdigest())
    with registry.open_image(row.id) as file:
        assert file.read() == b""


def test_known_data_is_stored_once(repo: Repository, registry: Registry) -> None:
    """Data that a put has stored takes no packs when it is uploaded."""
    data = bytes(mixed_bytes(3_000_000, 6))
    repo.put([data], name="put")
    before = repo.stats().stored_size
    parent = repo.images()[0].id
    row = registry.upload(registry.create(NewEntry()).id, parts(data), parent_id=parent)
    assert repo.stats().stored_size == before
    assert row.parent_id == parent
    assert [node.id for node in repo.lineage("put").children] == [row.id]


@pytest.mark.parametrize("said", [10, 1_000_000])
def test_another_size_than_was_said_is_refused(repo: Repository, registry: Registry, said: int) -> None:
    """More or fewer bytes than announced: the image is queued again, has no record, and takes the right data after."""
    image_id = registry.create(NewEntry()).id
    with pytest.raises(SizeMismatchError):
        registry.upload(image_id, [b"x" * 100_000], size=said)
    row = registry.show(image_id, ADMIN)
    assert (row.status, row.size, records(repo, image_id)) == ("queued", None, [])
    assert registry.upload(image_id, [b"x" * 100_000], size=100_000).status == "active"
    assert repo.check().problems == ()


def test_what_inspection_refuses_is_not_kept(repo: Repository, registry: Registry) -> None:
    """What the inspection raises reaches the caller, and the image is queued again."""
    image_id = registry.create(NewEntry()).id
    seen: list[str] = []

    def source() -> Iterator[bytes]:
        yield b"x" * 5_000_000
        seen.append("last")

    def inspect() -> Inspected:
        seen.append("asked")
        raise ValueError("not what it says it is")

    with pytest.raises(ValueError, match="not what"):
        registry.upload(image_id, source(), inspect=inspect)
    assert seen == ["last", "asked"]
    assert (registry.show(image_id, ADMIN).status, records(repo, image_id)) == ("queued", [])
    repo.plan_gc().execute()
    assert repo.stats().stored_size == 0


def test_edits_reach_the_record_of_an_image_with_data(repo: Repository, registry: Registry) -> None:
    """The one record follows edits, tags, members and deactivation; that of a queued image is not there."""
    queued = registry.create(NewEntry(owner="p1"))
    registry.edit(queued.id, Edit(name="q"), revision=0)
    assert records(repo, queued.id) == []
    row = uploaded(registry, properties={"old": "1"})
    row = registry.edit(row.id, Edit(name="n", hidden=True, min_disk=3, properties={"a": "b"}), revision=row.revision)
    registry.add_tag(row.id, "t")
    registry.add_member(row.id, "p2")
    registry.set_member_status(row.id, "p2", "accepted")
    registry.deactivate(row.id)
    (record,) = records(repo, row.id)
    assert (record.name, record.hidden, record.min_disk, record.properties) == ("n", True, 3, {"a": "b"})
    assert (record.tags, record.status) == (("t",), "deactivated")
    assert [(member.member, member.status) for member in record.members] == [("p2", "accepted")]
    registry.remove_tag(row.id, "t")
    registry.remove_member(row.id, "p2")
    registry.reactivate(row.id)
    (record,) = records(repo, row.id)
    assert (record.tags, record.members, record.status) == ((), (), "active")
    assert repo.check(read_data=True).problems == ()
    assert repo.plan_gc().execute().orphan_count == 0


def test_an_edit_during_an_upload_is_kept(repo: Repository, registry: Registry) -> None:
    """What is edited while data come is what the image and its record say in the end."""
    image_id = registry.create(NewEntry(name="before")).id

    def source() -> Iterator[bytes]:
        yield b"x" * 100_000
        row = registry.show(image_id, ADMIN)
        assert row.status == "saving"
        registry.edit(image_id, Edit(name="during"), revision=row.revision)
        yield b"y" * 100_000

    def inspect() -> Inspected:
        registry.edit(image_id, Edit(min_ram=7), revision=registry.show(image_id, ADMIN).revision)
        return Inspected(None)

    row = registry.upload(image_id, source(), inspect=inspect)
    assert (row.name, row.min_ram) == ("during", 7)
    (record,) = records(repo, image_id)
    assert (record.name, record.min_ram, record.revision) == ("during", 7, row.revision)
    assert repo.check().problems == ()


def test_deactivated_images_are_looked_after(repo: Repository, registry: Registry) -> None:
    """A deactivated image keeps its data through a collection, and is shown and deleted as any other."""
    row = uploaded(registry, name="off")
    registry.deactivate(row.id)
    registry.deactivate(row.id)
    repo.plan_gc().execute()
    assert repo.image("off").status == "deactivated"
    assert repo.check(read_data=True).problems == ()
    with registry.open_image(row.id) as file:
        assert file.read() == b"x" * 100_000
    repo.delete("off")
    repo.plan_gc().execute()
    assert repo.stats().stored_size == 0


def test_recover_brings_back_what_was_said(tmp_path: Path) -> None:
    """Tags, members, sizes, hidden and deactivated images are there after `recover`; queued ones are not."""
    with casimg.create(tmp_path / "r") as repo:
        registry = repo.registry()
        row = uploaded(registry, name=None, tags=("x", "y"), hidden=True, min_disk=1, min_ram=2)
        other = registry.upload(registry.create(NewEntry(name="off")).id, [b"off"], inspect=lambda: Inspected(9))
        registry.add_member(row.id, "p2")
        registry.set_member_status(row.id, "p2", "rejected")
        registry.deactivate(other.id)
        queued = registry.create(NewEntry(name="queued"))
        before = [registry.show(image_id, ADMIN) for image_id in (row.id, other.id)]
        members = registry.members(row.id)
    lose(tmp_path / "r", "catalog", "index")
    assert casimg.recover(tmp_path / "r").image_count == 2
    with casimg.open(tmp_path / "r") as repo:
        registry = repo.registry()
        after = [registry.show(image_id, ADMIN) for image_id in (row.id, other.id)]
        assert [_said(image) for image in after] == [_said(image) for image in before]
        assert registry.members(row.id) == members
        with pytest.raises(ImageNotFoundError):
            registry.show(queued.id, ADMIN)
        assert repo.check(read_data=True).problems == ()


def _said(row: ImageRow) -> tuple[object, ...]:
    return (
        *(row.id, row.name, row.status, row.disk_format, row.container_format, row.owner, row.visibility, row.size),
        *(
            row.hidden,
            row.min_disk,
            row.min_ram,
            row.virtual_size,
            row.tags,
            row.hashes,
            row.properties,
            row.created_at,
        ),
    )


def test_images_without_a_name_are_found_by_id(repo: Repository, registry: Registry) -> None:
    """The command line lists, shows, changes, snapshots and deletes an image that nobody gave a name."""
    row = uploaded(registry)
    path = str(repo.path)

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "casimg", "--repo", path, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert row.id in run("ls")
    assert run("ls", "no-*").count(row.id) == 0
    assert json.loads(run("show", row.id[:8], "--json"))["name"] == ""
    assert "name" in run("show", row.id)
    run("set", row.id, "--property", "a=b")
    run("snapshot", "create", row.id, "--name", "snap")
    assert "snap" in run("snapshot", "ls", row.id)
    run("stats", row.id)
    run("rm", row.id)
    run("gc")
    assert [image.name for image in repo.images()] == ["snap"]


def test_what_a_put_stored_is_listed(repo: Repository, registry: Registry) -> None:
    """Images put by the command line or Python are private images of their owner."""
    image = repo.put([b"x"], name="put", owner="p1", properties={"os": "debian"})
    assert [row.id for row in registry.list(Query(), Viewer("p1"))] == [image.id]
    assert registry.list(Query(), Viewer("p2")) == []
    found = registry.list(Query(filters=(Filter("property:os", "eq", "debian"),)), ADMIN)
    assert [(row.id, row.visibility) for row in found] == [(image.id, "private")]


def test_an_image_is_never_taken_for_another(repo: Repository, registry: Registry) -> None:
    """An image named like the id of a queued one is not opened in its place."""
    queued = registry.create(NewEntry(owner="p1"))
    repo.put([b"not yours"], name=queued.id)
    with pytest.raises(BadStatusError):
        registry.open_image(queued.id)


def test_protected_images_stay(registry: Registry) -> None:
    """A protected image is not deleted before it is no longer protected."""
    row = registry.create(NewEntry(protected=True))
    with pytest.raises(ProtectedImageError):
        registry.delete(row.id)
    registry.edit(row.id, Edit(protected=False), revision=row.revision)
    registry.delete(row.id)
    with pytest.raises(ImageNotFoundError):
        registry.show(row.id, ADMIN)
    with pytest.raises(ImageNotFoundError):
        registry.delete(row.id)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "x" * 256},
        {"name": "a\0b"},
        {"name": "\ud800"},
        {"name": 7},
        {"owner": "x" * 256},
        {"disk_format": "x" * 21},
        {"visibility": "secret"},
        {"protected": "yes"},
        {"min_disk": -1},
        {"min_ram": 2**31},
        {"min_ram": True},
        {"tags": ("x" * 256,)},
        {"tags": ("\0",)},
        {"properties": {"": "x"}},
        {"properties": {"x" * 256: "x"}},
        {"properties": {"x": "ü" * 40_000}},
        {"properties": {"x": 7}},
    ],
)
def test_what_cannot_be_kept_is_refused(registry: Registry, fields: dict[str, Any]) -> None:
    """Values that a database would refuse or change are InputError, made or edited, and change nothing."""
    with pytest.raises(InputError):
        registry.create(NewEntry(**fields))
    row = registry.create(NewEntry())
    with pytest.raises(InputError):
        registry.edit(row.id, Edit(**fields), revision=0)
    assert registry.show(row.id, ADMIN) == row


@pytest.mark.parametrize("image_id", ["none", "", "a\0b", "\ud800", "x" * 300])
def test_ids_that_are_none(registry: Registry, image_id: str) -> None:
    """Whatever is asked of something that is no id: there is no such image."""
    strange = ImageId(image_id)
    for call in (
        lambda: registry.show(strange, ADMIN),
        lambda: registry.edit(strange, Edit(name="x"), revision=0),
        lambda: registry.delete(strange),
        lambda: registry.upload(strange, [b"x"]),
        lambda: registry.open_image(strange),
        lambda: registry.deactivate(strange),
        lambda: registry.add_tag(strange, "x"),
        lambda: registry.add_member(strange, "x"),
    ):
        with pytest.raises(ImageNotFoundError):
            call()
    assert registry.members(strange) == []


def test_put_images_belong_to_the_configured_owner(tmp_path: Path) -> None:
    """`owner` in `[images]` of casimg.toml is whose images a put makes, unless it is told otherwise."""
    casimg.create(tmp_path / "r").close()
    with (tmp_path / "r" / "casimg.toml").open("a") as file:
        file.write('[images]\nowner = "p1"\n')
    with casimg.open(tmp_path / "r") as repo:
        assert repo.put([b"x"], name="one").owner == "p1"
        assert repo.put([b"y"], name="other", owner="p2").owner == "p2"
        assert [row.name for row in repo.registry().list(Query(), Viewer("p1"))] == ["one"]


def test_staged_data_become_the_images(repo: Repository, registry: Registry) -> None:
    """Data kept aside outlive a collection, are looked into, and become the image's without being written again."""
    data = bytes(mixed_bytes(3_000_000, 8))
    image_id = registry.create(NewEntry(name="staged", owner="p1")).id
    row = registry.stage(image_id, parts(data), size=len(data))
    assert (row.status, row.size, records(repo, image_id)) == ("uploading", None, [])
    with pytest.raises(NotQueuedError):
        registry.upload(image_id, [b"other"])
    repo.plan_gc().execute()

    def refuse(_file: object) -> Inspected:
        raise ValueError("not what it says it is")

    with pytest.raises(ValueError, match="not what"):
        registry.import_staged(image_id, inspect=refuse)
    assert registry.show(image_id, ADMIN).status == "uploading"
    row = registry.import_staged(image_id, inspect=lambda file: Inspected(len(file.read(700))))
    assert (row.status, row.size, row.virtual_size) == ("active", len(data), 700)
    assert row.hashes["md5"] == hashlib.md5(data).hexdigest()
    with registry.open_image(image_id) as file:
        assert file.read() == data
    with pytest.raises(BadStatusError):
        registry.import_staged(image_id)
    assert repo.check(read_data=True).problems == ()
    assert len(records(repo, image_id)) == 1


def test_staged_data_are_given_up(repo: Repository, registry: Registry) -> None:
    """Unstaged or deleted, what was staged goes with the next collection."""
    first, second = registry.create(NewEntry()).id, registry.create(NewEntry()).id
    registry.stage(first, [b"x" * 100_000])
    registry.stage(second, [b"y" * 100_000])
    registry.unstage(first)
    registry.delete(second)
    assert registry.show(first, ADMIN).status == "queued"
    repo.plan_gc().execute()
    assert repo.stats().stored_size == 0
    assert registry.upload(first, [b"z"]).status == "active"


def test_hashes_of_put_images_are_computed_on_demand(repo: Repository, registry: Registry) -> None:
    """A put image has no md5 and sha512 until somebody asks; then all images of its content, and their records, do."""
    data = bytes(mixed_bytes(2_000_000, 9))
    image = repo.put([data], name="put")
    twin = repo.snapshot("put", name="twin")
    assert registry.show(image.id, ADMIN).hashes == {}
    row = registry.compute_hashes(image.id)
    assert row.hashes == {"md5": hashlib.md5(data).hexdigest(), "sha512": hashlib.sha512(data).hexdigest()}
    assert registry.show(twin.id, ADMIN).hashes == row.hashes
    assert [record.content.hashes for record in records(repo, twin.id)] == [row.hashes]
    assert registry.compute_hashes(twin.id).revision == registry.show(twin.id, ADMIN).revision
    assert repo.check(read_data=True).problems == ()
