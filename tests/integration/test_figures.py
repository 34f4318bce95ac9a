"""Snapshots of registered images, and what images and projects share, through the library."""

import pytest

from casimg.errors import BadStatusError, ImageNotFoundError
from casimg.registry import ImageRow, NewEntry, Registry, Viewer
from casimg.repository import Repository
from tests.conftest import mixed_bytes

ADMIN = Viewer(None, is_admin=True)
SEGMENT = 4 << 20


def uploaded(registry: Registry, data: bytes, owner: str | None) -> ImageRow:
    entry = NewEntry(disk_format="raw", container_format="bare", owner=owner)
    return registry.upload(registry.create(entry).id, [data])


def test_a_snapshot_keeps_what_it_is_said_to_be(repo: Repository) -> None:
    """A snapshot through the registry has its own name, tags and flags, the parent's data, and a record of all that."""
    registry = repo.registry()
    parent = uploaded(registry, bytes(mixed_bytes(200_000, 1)), "p1")
    new = NewEntry(
        name="s", owner="p2", protected=True, hidden=True, min_disk=3, tags=("b", "a"), properties={"k": "v"}
    )
    row = registry.snapshot(parent, new)
    assert (row.status, row.name, row.owner, row.protected, row.hidden, row.min_disk) == (
        *("active", "s", "p2", True, True, 3),
    )
    assert (row.tags, row.properties, row.parent_id) == (("a", "b"), {"k": "v"}, parent.id)
    assert (row.content_id, row.hashes, row.disk_format) == (parent.content_id, parent.hashes, "raw")
    assert repo.check(read_data=True).problems == ()
    registry.delete(parent.id)
    repo.plan_gc().execute()
    with registry.open_image(row.id) as file:
        assert file.read() == bytes(mixed_bytes(200_000, 1))
    with pytest.raises(ImageNotFoundError):
        registry.snapshot(parent, new)


def test_projects_own_and_share(repo: Repository) -> None:
    """What only one project reaches is its own; what two reach is neither's; what one has twice counts once."""
    registry = repo.registry()
    a, b = bytes(mixed_bytes(SEGMENT, 2)), bytes(mixed_bytes(SEGMENT, 3))
    uploaded(registry, a, "p1")
    uploaded(registry, a + b, "p1")
    uploaded(registry, a, "p2")
    uploaded(registry, b"", None)
    nobody, one, two = registry.figures().project_usages()
    assert (nobody.owner, one.owner, two.owner) == (None, "p1", "p2")
    assert (nobody.unique_size, nobody.own_stored_size, nobody.shared_stored_size) == (0, 0, 0)
    assert one.unique_size - one.own_size == two.unique_size
    assert two.own_size == two.own_stored_size == 0
    assert one.own_stored_size > 0
    assert abs(one.shared_stored_size - two.shared_stored_size) <= 1
    logical = registry.figures().logical_usages()
    assert {owner: (usage.image_count, usage.size) for owner, usage in logical.items()} == {
        "p1": (2, 3 * SEGMENT),
        "p2": (1, SEGMENT),
    }


def test_figures_of_images_without_data(repo: Repository) -> None:
    """What has no data has no usage and is compared with nothing."""
    registry = repo.registry()
    queued = registry.create(NewEntry())
    stored = uploaded(registry, b"x" * 10_000, "p1")
    with pytest.raises(BadStatusError):
        registry.figures().image_usage(queued)
    with pytest.raises(BadStatusError):
        registry.figures().diff(stored, queued)
    assert registry.figures().diff(stored, stored).changed_size == 0
