"""The committed repositories: read today as when they were made, and made today byte for byte as then."""

import hashlib
import shutil
from pathlib import Path

import pytest

import casimg
from casimg.chunker import KINDS
from casimg.constants import FORMAT_VERSION
from casimg.formats.record import ContentRecord, ImageRecord, MemberRecord, TreeRecord, decode_record, encode_record
from tests.golden.make_repository import CURRENT, describe, expected, images, make, repositories, zstd_version

EVERY_FIELD = ImageRecord(
    image_id="5f0f7c3e-0000-4000-8000-000000000001",
    name=None,
    status="deactivated",
    disk_format=None,
    container_format=None,
    owner="a project",
    visibility="shared",
    protected=True,
    parent_id="5f0f7c3e-0000-4000-8000-000000000002",
    created_at="2026-11-24T00:00:00+00:00",
    updated_at="2026-11-25T00:00:00.123000+00:00",
    revision=3,
    properties={"größe": "klein"},
    content=ContentRecord("0" * 32, 10, 0, (TreeRecord("plain", "ab" * 32, 10),), ("cd" * 32,), {"md5": "x"}),
    tags=("a", "ü"),
    hidden=True,
    min_disk=1,
    min_ram=2,
    virtual_size=0,
    members=(MemberRecord("b project", "accepted", "2026-11-24T00:00:01+00:00", "2026-11-24T00:00:02+00:00"),),
)
ZSTD = {kind: expected(CURRENT / kind)["zstd"] for kind in KINDS}


@pytest.fixture(params=repositories(), ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def committed(request: pytest.FixtureRequest) -> Path:
    """Each committed repository, of every format version."""
    folder: Path = request.param
    return folder


@pytest.fixture
def golden(committed: Path, tmp_path: Path) -> Path:
    """A copy of a committed repository, its catalog made from its objects."""
    folder = tmp_path / "golden"
    shutil.copytree(committed, folder)
    (folder / "objects" / "tmp").mkdir()
    report = casimg.recover(folder)
    assert report.problems == ()
    return folder


def test_every_version_has_its_repositories() -> None:
    """From version 1 on there are repositories of each format version, one for each chunker."""
    there = {(folder.parent.name, folder.name) for folder in repositories()}
    assert there == {(f"format-{version}", kind) for version in range(1, FORMAT_VERSION + 1) for kind in KINDS}


def test_a_committed_repository_is_read(committed: Path, golden: Path) -> None:
    """Every image comes back bit for bit, with its metadata and lineage, and a full check finds nothing."""
    hashes = expected(committed)["images"]
    with casimg.open(golden) as repo:
        found = {image.name: image for image in repo.images()}
        assert sorted(found) == ["changed", "disk", "empty", "same", "zeros"]
        for name, image in found.items():
            with repo.open_image(image.id) as file:
                data = file.read()
            source = "disk" if name == "same" else name
            assert hashlib.sha256(data).hexdigest() == hashes[source], name
        assert found["disk"].protected
        assert found["disk"].properties == {"os": "debian"}
        assert found["empty"].disk_format == "qcow2"
        assert found["changed"].parent_id == found["same"].parent_id == found["disk"].id
        assert found["same"].content_id == found["disk"].content_id
        assert repo.check(read_data=True).problems == ()


def test_a_committed_repository_is_used_on(golden: Path) -> None:
    """What it holds is known to a put, and a collection with its rewrite loses nothing."""
    data = images()
    with casimg.open(golden) as repo:
        assert repo.check(read_data=True).clean
        assert repo.put_report([data["changed"]], name="again").new_size == 0
        repo.delete("changed")
        repo.plan_gc(unused_max=0.0).execute()
        for name, source in (("disk", "disk"), ("again", "changed"), ("zeros", "zeros")):
            with repo.open_image(name) as file:
                assert file.read() == data[source]


def test_the_description_is_of_the_committed_bytes(committed: Path) -> None:
    """The description says what the committed objects are, so that a hand-made change of either is seen."""
    found, said = describe(committed), expected(committed)
    assert {key: said[key] for key in found} == found
    assert {name: hashlib.sha256(data).hexdigest() for name, data in images().items()} == said["images"]


@pytest.mark.parametrize("kind", KINDS)
def test_made_anew_it_says_the_same(kind: str, tmp_path: Path) -> None:
    """Cuts, ids, frames, nodes, trailers, records and config come out as committed, whatever zstd made of payloads."""
    make(tmp_path / "r", kind)
    found, said = describe(tmp_path / "r"), expected(CURRENT / kind)
    assert {key: said[key] for key in found} == found


@pytest.mark.skipif(set(ZSTD.values()) != {zstd_version()}, reason=f"committed bytes are of zstd {ZSTD}")
@pytest.mark.parametrize("kind", KINDS)
def test_made_anew_it_is_the_same_bytes(kind: str, tmp_path: Path) -> None:
    """With the same libzstd every object has the same key and the same bytes."""
    make(tmp_path / "r", kind)
    assert objects_of(tmp_path / "r") == objects_of(CURRENT / kind)


def test_a_committed_record_of_every_field_is_read() -> None:
    """A record that uses every optional field is read as when it was committed, and made anew it is the same bytes."""
    committed = (CURRENT / "every-field.record").read_bytes()
    assert decode_record(committed) == EVERY_FIELD
    assert encode_record(EVERY_FIELD) == committed


def objects_of(folder: Path) -> dict[str, bytes]:
    root = folder / "objects"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
