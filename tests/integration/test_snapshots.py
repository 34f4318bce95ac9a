"""Snapshots: of stored images, of disks, with maps; lineage and diff."""

import json
import os
from pathlib import Path

import pytest

import casimg
from casimg.constants import SEGMENT_SIZE
from casimg.repository import Repository
from casimg.results.comparing import LineageNode
from casimg.results.images import ByteRange
from tests.conftest import mixed_bytes


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk of 600 segments, mostly holes, with data here and there: two levels of manifest."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        for number in range(0, 600, 7):
            file.seek(number * SEGMENT_SIZE + number * 4096)
            file.write(mixed_bytes(150_000, number))
        file.truncate(600 * SEGMENT_SIZE)
    return path


def test_a_snapshot_of_a_stored_image_is_one_row(repo: Repository) -> None:
    """It shares its parent's content, adds no object but its record, and reads the same bytes."""
    parent = repo.put([b"parent" * 10_000], name="parent")
    before = repo.stats()
    report = repo.snapshot_report("parent", name="child")
    assert report.image is not None
    assert (report.image.content_id, report.image.parent_id) == (parent.content_id, parent.id)
    assert (report.read_size, report.new_size, report.stored_size) == (0, 0, 0)
    after = repo.stats()
    assert (after.stored_size, after.pack_count) == (before.stored_size, before.pack_count)
    repo.delete("parent")
    repo.plan_gc().execute()
    with repo.open_image("child") as file:
        assert file.read() == b"parent" * 10_000


def test_a_map_reads_only_the_change(repo: Repository, disk: Path, tmp_path: Path) -> None:
    """With a map the bytes read follow the change, and the result is the same as reading everything."""
    repo.put(disk, name="parent")
    changes = [(14 * SEGMENT_SIZE + 14 * 4096 + 70_000, b"changed" * 10), (555 * SEGMENT_SIZE, b"new")]
    with disk.open("r+b") as file:
        for offset, data in changes:
            file.seek(offset)
            file.write(data)
    changed = tmp_path / "map.json"
    entries = [{"offset": 0, "length": 4096, "description": "clean", "type": 0}]
    entries += [{"offset": at, "length": len(data), "description": "dirty", "type": 1} for at, data in changes]
    changed.write_text(json.dumps(entries))
    mapped = repo.snapshot_report("parent", name="mapped", source=disk, changed=changed)
    whole = repo.snapshot_report("parent", name="whole", source=disk)
    assert (mapped.root, mapped.hole_size, mapped.size) == (whole.root, whole.hole_size, whole.size)
    assert mapped.read_size < 400_000
    assert mapped.new_size < 100_000
    assert repo.verify("mapped", disk).equal


@pytest.mark.parametrize("size", [600 * SEGMENT_SIZE + 5, 598 * SEGMENT_SIZE, 3 * SEGMENT_SIZE + 1000, 1, 0])
def test_a_disk_that_grew_or_shrank(repo: Repository, disk: Path, size: int) -> None:
    """A map without the new end is enough: what the parent does not have is read anyway."""
    repo.put(disk, name="parent")
    os.truncate(disk, size)
    mapped = repo.snapshot_report("parent", name="mapped", source=disk, changed=[])
    whole = repo.put_report(disk, name="whole", dry_run=True)
    assert (mapped.root, mapped.hole_size, mapped.size) == (whole.root, whole.hole_size, whole.size)


def test_diff_names_what_changed(repo: Repository, disk: Path) -> None:
    """Ranges cover the change; exact ones are its blocks; nothing is found between an image and its snapshot."""
    repo.put(disk, name="a")
    offset = 21 * SEGMENT_SIZE + 21 * 4096 + 50_000
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(b"!" * 5000)
    repo.put(disk, name="b")
    rough, exact = repo.diff("a", "b"), repo.diff("a", "b", exact=True)
    assert len(rough.ranges) == 1
    assert rough.ranges[0].offset <= offset
    assert rough.ranges[0].offset + rough.ranges[0].size >= offset + 5000
    first = offset // 4096 * 4096
    assert exact.ranges == (ByteRange(first, -(-(offset + 5000) // 4096) * 4096 - first),)
    assert repo.diff("a", "a").ranges == ()
    repo.snapshot("a", name="c")
    assert repo.diff("a", "c").changed_size == 0


def test_diff_of_different_sizes(repo: Repository) -> None:
    """The tail that only one has is part of the difference, zeros too."""
    repo.put([b"x" * 5000], name="short")
    repo.put([b"x" * 5000 + bytes(3 * SEGMENT_SIZE)], name="long")
    ranges = repo.diff("short", "long", exact=True).ranges
    assert ranges[-1].offset + ranges[-1].size == 5000 + 3 * SEGMENT_SIZE
    assert ranges[0].offset <= 5000


def test_lineage_shows_deleted_parents_as_gone(repo: Repository) -> None:
    """A tree of three generations stays whole when its middle is deleted, and its bytes stay too."""
    a = repo.put([b"a" * 9000], name="a")
    b = repo.snapshot("a", name="b")
    c = repo.snapshot("b", name="c")
    d = repo.snapshot("a", name="d")
    repo.delete("b")
    repo.plan_gc().execute()
    root = repo.lineage("c")

    def shape(node: LineageNode) -> object:
        return (node.id, node.gone, node.asked, [shape(child) for child in node.children])

    assert shape(root) == (
        a.id,
        False,
        False,
        [(b.id, True, False, [(c.id, False, True, [])]), (d.id, False, False, [])],
    )
    with repo.open_image("c") as file:
        assert file.read() == b"a" * 9000


def test_a_deep_lineage_is_shown_whole(repo: Repository) -> None:
    """Sixty snapshots of snapshots are shown like three."""
    repo.put([b"x"], name="0")
    for number in range(1, 60):
        repo.snapshot(str(number - 1), name=str(number))
    node, depth = repo.lineage("59"), 0
    while node.children:
        node, depth = node.children[0], depth + 1
    assert depth == 59


def test_stats_tell_shared_from_own(repo: Repository) -> None:
    """What two images share and what one owns add up; deleting it and gc give back about what it owned."""
    common, own = os.urandom(3_000_000), os.urandom(2_000_000)
    repo.put([common], name="base")
    repo.put([common, own], name="derived")
    (usage,) = repo.stats("derived").usages
    assert usage.unique_size == 5_000_000
    assert 1_900_000 < usage.own_size < 2_100_000
    assert usage.shared_size + usage.own_size == usage.unique_size
    before = repo.stats()
    repo.delete("derived")
    repo.plan_gc().execute()
    freed = before.stored_size - repo.stats().stored_size
    assert abs(freed - usage.own_stored_size) < 100_000
    assert {item.image.name: item.own_size for item in repo.stats(usages=True).usages} == {"base": 3_000_000}


def test_snapshot_needs_a_free_name(repo: Repository) -> None:
    """A name that is taken is refused for snapshots as for puts, unless allowed."""
    repo.put([b"x"], name="taken")
    with pytest.raises(casimg.errors.NameTakenError):
        repo.snapshot("taken", name="taken")
    assert repo.snapshot("taken", name="taken", same_name=True).name == "taken"
