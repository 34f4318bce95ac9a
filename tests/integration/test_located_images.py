"""Images whose data lie elsewhere, through the registry and the command line: said, refused, checked, repaired."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import casimg
from casimg.errors import BadStatusError, DataElsewhereError, ImageNotFoundError, InputError
from casimg.ids import ImageId
from casimg.locations import Located, Location
from casimg.registry import Edit, ImageRow, NewEntry, Registry, Viewer
from casimg.repository import Repository

ADMIN = Viewer(None, is_admin=True)
PLACE = Location("https://example.com/disk.raw", {"foo": "bar"})
SIZE = 1 << 30


@pytest.fixture
def registry(repo: Repository) -> Registry:
    return repo.registry()


def located(registry: Registry, **more: Any) -> ImageRow:
    """Return a new image with data elsewhere."""
    image = registry.create(NewEntry(name="far", disk_format="raw", container_format="bare", owner="p"))
    return registry.locations().begin(image.id, Located((PLACE,), size=SIZE, **more))


def test_what_cannot_be_said_of_a_location(registry: Registry) -> None:
    """What no column holds is refused, and changes nothing."""
    image = registry.create(NewEntry(name="far", disk_format="raw", container_format="bare"))
    deep: dict[str, Any] = {"a": float("nan")}
    for wrong in (
        Located((Location(""),), size=1),
        Located((Location("x" * 9000),), size=1),
        Located((Location("http://\0/"),), size=1),
        Located((Location("http://x/", {"a": "b" * 70_000}),), size=1),
        Located((Location("http://x/", deep),), size=1),
        Located((PLACE,), size=0),
        Located((PLACE,), size=1 << 63),
        Located((PLACE,), size=True),
        Located((PLACE,), size=1, hash_value="x" * 200),
        Located((PLACE,), size=1, hash_algo="\0"),
    ):
        with pytest.raises(InputError):
            registry.locations().begin(image.id, wrong)
        with pytest.raises(InputError):
            registry.edit(image.id, Edit(located=wrong), revision=image.revision)
    assert registry.show(image.id, ADMIN) == image
    with pytest.raises(ImageNotFoundError):
        registry.locations().begin(ImageId("none"), Located((PLACE,), size=1))


def test_what_only_own_data_can_do(repo: Repository, registry: Registry, tmp_path: Path) -> None:
    """Reading, snapshots, comparing: refused in words that say why; lists and figures go on."""
    row = located(registry)
    own = repo.put([b"x" * 100_000], name="own")
    for attempt in (
        lambda: repo.get("far", tmp_path / "copy"),
        lambda: repo.open_image("far"),
        lambda: repo.snapshot("far", name="s"),
        lambda: repo.diff("far", "own"),
        lambda: registry.open_image(row.id),
        lambda: registry.snapshot(row, NewEntry(name="s")),
        lambda: registry.stream(row),
    ):
        with pytest.raises(DataElsewhereError, match=f"the data of image {row.id} lie elsewhere"):
            attempt()
    assert registry.compute_hashes(row.id) == row
    with pytest.raises(BadStatusError):
        registry.figures().image_usage(row)
    assert not (tmp_path / "copy").exists()
    assert {image.id for image in repo.images()} == {row.id, own.id}
    assert repo.image("far").locations == (PLACE.url,)
    assert repo.stats().virtual_size == 100_000
    assert registry.usage("p").size == SIZE
    repo.update("far", properties={"a": "b"})
    assert repo.plan_gc().execute().content_count == 0
    assert repo.check().problems == ()
    repo.delete("far")
    assert [image.id for image in repo.images()] == [own.id]


def test_what_the_command_line_says(repo: Repository, registry: Registry) -> None:
    """`show` has the location, as text and as JSON; `get` says why not, on one line."""
    located(registry)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "casimg", "--repo", str(repo.path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert PLACE.url in run("show", "far").stdout
    assert json.loads(run("--json", "show", "far").stdout)["locations"] == [PLACE.url]
    failed = run("get", "far", "-")
    assert (failed.returncode != 0, failed.stdout) == (True, "")
    assert "lie elsewhere" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_a_lost_record_is_made_anew(repo: Repository, registry: Registry) -> None:
    """A check misses the record of an image whose data are elsewhere, and a repair puts it again, the same."""
    row = located(registry, hash_algo="sha256", hash_value="ab" * 32, checksum="cd" * 16)
    backend = repo._wiring.backend
    (key,) = [item.key for item in backend.list(f"records/{row.id}/")]
    before = backend.get_range(key, 0, backend.stat(key).size)
    backend.delete(key)
    found = repo.check()
    assert [problem.kind for problem in found.problems] == ["record-missing"]
    repo.check(repair=True)
    assert backend.get_range(key, 0, backend.stat(key).size) == before
    assert repo.check().problems == ()


def test_a_hash_is_kept_across_a_recover(tmp_path: Path) -> None:
    """Of any algorithm; members, tags and the order of locations too."""
    with casimg.create(tmp_path / "repository") as repo:
        registry = repo.registry()
        row = located(registry, hash_algo="sha256", hash_value="ab" * 32, checksum="cd" * 16)
        plain = located(registry)
        registry.add_member(row.id, "p2")
        registry.add_tag(row.id, "t")
        others = (Location("http://b/"), PLACE, Location("http://a/"))
        now = registry.show(row.id, ADMIN)
        registry.edit(row.id, Edit(located=Located(others)), revision=now.revision)
        registry.deactivate(plain.id)
        before = {image.id: registry.show(image.id, ADMIN) for image in (row, plain)}
    (tmp_path / "repository" / "catalog.sqlite").unlink()
    assert casimg.recover(tmp_path / "repository").image_count == 2
    with casimg.open(tmp_path / "repository") as repo:
        for image_id, image in before.items():
            again = repo.registry().show(image_id, ADMIN)
            for name in (
                "status",
                "size",
                "hashes",
                "hash_algo",
                "locations",
                "tags",
                "revision",
                "owner",
                "content_id",
            ):
                assert getattr(again, name) == getattr(image, name), name
        assert [one.member for one in repo.registry().members(row.id)] == ["p2"]
