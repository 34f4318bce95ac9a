"""openstacksdk: the library below the commands, Ansible's modules and Terraform-like tools of Python."""

import hashlib
import io
from pathlib import Path
from typing import Any

import openstack
import pytest
from openstack import exceptions

from tests.glance.cloud import Cloud


def connected(cloud: Cloud, user: str) -> Any:
    """Return a connection of a user."""
    return openstack.connect(
        **cloud.credentials(user), region_name=cloud.region, load_envvars=False, load_yaml_config=False
    )


@pytest.fixture(scope="module")
def alice(cloud: Cloud) -> Any:
    """Alice's connection."""
    return connected(cloud, "alice")


@pytest.fixture(scope="module")
def bob(cloud: Cloud) -> Any:
    """Bob's connection, of another project."""
    return connected(cloud, "bob")


@pytest.fixture(scope="module")
def admin(cloud: Cloud) -> Any:
    """The administrator's connection."""
    return connected(cloud, "admin")


def stored(connection: Any, disk: Path, **attributes: Any) -> Any:
    """Return a new image of a file."""
    usual = {"name": "web", "disk_format": "raw", "container_format": "bare", "validate_checksum": True}
    image = connection.image.create_image(filename=str(disk), wait=True, **{**usual, **attributes})
    return connection.image.get_image(image.id)


def test_upload_and_download(alice: Any, disk: Path, data: bytes, tmp_path: Path) -> None:
    """create_image from a file and download_image, at once, as a stream and into a file: the same bytes."""
    image = stored(alice, disk)
    assert (image.status, image.size, image.checksum) == ("active", len(data), hashlib.md5(data).hexdigest())
    assert (image.hash_algo, image.hash_value) == ("sha512", hashlib.sha512(data).hexdigest())
    assert alice.image.download_image(image).content == data
    with alice.image.download_image(image, stream=True) as answer:
        assert b"".join(answer.iter_content(70_001)) == data
    alice.image.download_image(image, output=str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == data


def test_data_from_memory(alice: Any, data: bytes) -> None:
    """create_image takes data of no file too, and nothing is needed but the formats."""
    image = alice.image.create_image("mem", data=io.BytesIO(data), disk_format="raw", container_format="bare")
    assert alice.image.download_image(image).content == data


def test_ranges(alice: Any, disk: Path, data: bytes) -> None:
    """A range of an image is exactly those bytes, from the beginning, the middle and the end."""
    image = stored(alice, disk)
    size = len(data)
    for asked, begin, end in (
        ("0-0", 0, 1),
        ("4096-8191", 4096, 8192),
        (f"{size - 10}-", size - 10, size),
        ("-7", size - 7, size),
    ):
        answer = alice.image.get(f"/images/{image.id}/file", headers={"Range": f"bytes={asked}"})
        assert answer.status_code == 206
        assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{size}"
        assert answer.content == data[begin:end]


def test_a_file_that_is_there_already_is_not_sent_again(alice: Any, disk: Path) -> None:
    """create_image finds by its own properties that an image of this name has this file."""
    first = stored(alice, disk)
    assert stored(alice, disk).id == first.id


def test_finding_and_listing(alice: Any, admin: Any, disk: Path) -> None:
    """find_image and images with filters: own and public ones, over several pages."""
    stored(alice, disk, name="a")
    alice.image.create_image("b", disk_format="qcow2", container_format="bare")
    stored(admin, disk, name="c", visibility="public")
    assert alice.image.find_image("b").status == "queued"
    assert alice.image.find_image("nothing") is None
    assert [image.name for image in alice.image.images(sort="name:asc", limit=1)] == ["a", "b", "c"]
    assert [image.name for image in alice.image.images(visibility="public")] == ["c"]
    assert [image.name for image in alice.image.images(status="queued")] == ["b"]
    assert [image.name for image in alice.image.images(size_min=1, sort="name:desc")] == ["c", "a"]


def test_updates_and_tags(alice: Any, disk: Path) -> None:
    """update_image, add_tag and remove_tag change what they name."""
    image = stored(alice, disk, tags=["a"])
    alice.image.update_image(image, name="db", min_disk=2, os_distro="debian", visibility="private")
    alice.image.add_tag(image, "b")
    alice.image.remove_tag(image, "a")
    found = alice.image.get_image(image.id)
    assert (found.name, found.min_disk, found.os_distro, found.visibility) == ("db", 2, "debian", "private")
    assert found.tags == ["b"]


def test_members(alice: Any, bob: Any, disk: Path, data: bytes) -> None:
    """Members are added, accept, and are removed."""
    image = stored(alice, disk)
    project = bob.current_project_id
    alice.image.add_member(image, member_id=project)
    assert bob.image.update_member(project, image.id, status="accepted").status == "accepted"
    assert [(member.member_id, member.status) for member in alice.image.members(image)] == [(project, "accepted")]
    assert bob.image.download_image(image.id).content == data
    with pytest.raises(exceptions.ForbiddenException):
        bob.image.update_image(image.id, name="mine")
    alice.image.remove_member(project, image.id)
    with pytest.raises(exceptions.NotFoundException):
        bob.image.get_image(image.id)


def test_deactivation(alice: Any, admin: Any, disk: Path, data: bytes) -> None:
    """deactivate_image and reactivate_image: data are withheld, then given."""
    image = stored(alice, disk)
    admin.image.deactivate_image(image.id)
    # The library takes the body of a refusal for data, and then finds that its hash is another.
    with pytest.raises(exceptions.InvalidResponse):
        alice.image.download_image(image)
    assert alice.image.get(f"/images/{image.id}/file").status_code == 403
    admin.image.reactivate_image(image.id)
    assert alice.image.download_image(image).content == data


def test_deletion(alice: Any, disk: Path) -> None:
    """A deleted image is not found; deleting it again is an error only when asked for."""
    image = stored(alice, disk)
    alice.image.delete_image(image)
    with pytest.raises(exceptions.NotFoundException):
        alice.image.get_image(image.id)
    with pytest.raises(exceptions.NotFoundException):
        alice.image.delete_image(image.id, ignore_missing=False)


def test_the_cloud_layer(alice: Any, disk: Path, data: bytes, tmp_path: Path) -> None:
    """create_image, get_image, download_image and delete_image of the connection itself, which Ansible uses."""
    made = alice.create_image("ansible", filename=str(disk), disk_format="raw", container_format="bare", wait=True)
    assert alice.get_image("ansible").id == made.id
    alice.download_image("ansible", output_path=str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == data
    assert alice.delete_image("ansible", wait=True)
    assert alice.get_image("ansible") is None


def test_schemas(alice: Any) -> None:
    """Every schema of images, members, tasks and metadata definitions is there."""
    for name in ("images", "image", "members", "member", "tasks", "task", "metadef_namespace", "metadef_namespaces"):
        assert getattr(alice.image, f"get_{name}_schema")().properties, name


def test_metadata_definitions(admin: Any, alice: Any) -> None:
    """Namespaces, objects, properties and resource types through the proxy."""
    namespace = "OS::Casimg::Sdk"
    admin.image.create_metadef_namespace(namespace=namespace, visibility="public")
    try:
        admin.image.create_metadef_object(namespace, name="cpu")
        admin.image.create_metadef_property(namespace, name="pinned", title="Pinned", type="boolean")
        admin.image.create_metadef_resource_type_association(namespace, name="OS::Glance::Image")
        assert alice.image.get_metadef_namespace(namespace).visibility == "public"
        assert [found.name for found in alice.image.metadef_objects(namespace)] == ["cpu"]
        assert [found.name for found in alice.image.metadef_properties(namespace)] == ["pinned"]
        found = alice.image.metadef_resource_type_associations(namespace)
        assert [one.name for one in found] == ["OS::Glance::Image"]
    finally:
        admin.image.delete_metadef_namespace(namespace)
    with pytest.raises(exceptions.NotFoundException):
        alice.image.get_metadef_namespace(namespace)
