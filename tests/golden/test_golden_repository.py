"""The committed repository: read today as when it was made, and made today byte for byte as then.

A change of bytes that is meant makes it anew, `python -m tests.golden.make_repository`, while the format has version 0;
from version 1 on each version's repository is kept for ever.
"""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import casimg
from tests.golden.make_repository import DESCRIPTION, GOLDEN, describe, images, make, zstd_version

EXPECTED = json.loads(DESCRIPTION.read_text())


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy of the committed repository, its catalog made from its objects."""
    folder = tmp_path / "golden"
    shutil.copytree(GOLDEN, folder)
    (folder / "objects" / "tmp").mkdir()
    report = casimg.recover(folder)
    assert report.problems == ()
    return folder


def test_the_committed_repository_is_read(golden: Path) -> None:
    """Every image comes back bit for bit, with its metadata and lineage, and a full check finds nothing."""
    with casimg.open(golden) as repo:
        found = {image.name: image for image in repo.images()}
        assert sorted(found) == ["changed", "disk", "empty", "same", "zeros"]
        for name, image in found.items():
            with repo.open_image(image.id) as file:
                data = file.read()
            source = "disk" if name == "same" else name
            assert hashlib.sha256(data).hexdigest() == EXPECTED["images"][source], name
        assert found["disk"].protected
        assert found["disk"].properties == {"os": "debian"}
        assert found["empty"].disk_format == "qcow2"
        assert found["changed"].parent_id == found["same"].parent_id == found["disk"].id
        assert found["same"].content_id == found["disk"].content_id
        assert repo.check(read_data=True).problems == ()


def test_the_committed_repository_is_used_on(golden: Path) -> None:
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


def test_the_description_is_of_the_committed_bytes() -> None:
    """The description says what the committed objects are, so that a hand-made change of either is seen."""
    found = describe(GOLDEN)
    assert {key: EXPECTED[key] for key in found} == found
    assert {name: hashlib.sha256(data).hexdigest() for name, data in images().items()} == EXPECTED["images"]


def test_made_anew_it_says_the_same(tmp_path: Path) -> None:
    """Cuts, ids, frames, nodes, trailers, records and config come out as committed, whatever zstd made of payloads."""
    make(tmp_path / "r")
    found = describe(tmp_path / "r")
    assert {key: EXPECTED[key] for key in found} == found


@pytest.mark.skipif(zstd_version() != EXPECTED["zstd"], reason=f"committed bytes are of zstd {EXPECTED['zstd']}")
def test_made_anew_it_is_the_same_bytes(tmp_path: Path) -> None:
    """With the same libzstd every object has the same key and the same bytes."""
    make(tmp_path / "r")
    assert objects_of(tmp_path / "r") == objects_of(GOLDEN)


def objects_of(folder: Path) -> dict[str, bytes]:
    root = folder / "objects"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
