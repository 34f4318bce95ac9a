"""python-glanceclient: its library, which checks hashes of what it downloads, and its command `glance`."""

import hashlib
import io
from pathlib import Path
from typing import Any

import glanceclient
import pytest
from glanceclient import exc
from keystoneauth1 import session as sessions
from keystoneauth1.identity import v3

from tests.glance.cloud import Cloud


def client(cloud: Cloud, user: str) -> Any:
    """Return a client of a user."""
    session = sessions.Session(auth=v3.Password(**cloud.credentials(user)))
    return glanceclient.Client("2", session=session, region_name=cloud.region)


@pytest.fixture(scope="module")
def alice(cloud: Cloud) -> Any:
    """Alice's client."""
    return client(cloud, "alice")


@pytest.fixture(scope="module")
def bob(cloud: Cloud) -> Any:
    """Bob's client, of another project."""
    return client(cloud, "bob")


@pytest.fixture(scope="module")
def admin(cloud: Cloud) -> Any:
    """The administrator's client."""
    return client(cloud, "admin")


def stored(glance: Any, data: bytes, **attributes: Any) -> Any:
    """Return a new image with data."""
    usual = {"name": "web", "disk_format": "raw", "container_format": "bare"}
    image = glance.images.create(**{**usual, **attributes})
    glance.images.upload(image.id, io.BytesIO(data))
    return glance.images.get(image.id)


def test_upload_and_download(alice: Any, data: bytes) -> None:
    """What images.data gives is what images.upload took; the client itself checks the sha512 on the way."""
    image = stored(alice, data)
    assert (image.status, image.size, image.checksum) == ("active", len(data), hashlib.md5(data).hexdigest())
    assert (image.os_hash_algo, image.os_hash_value) == ("sha512", hashlib.sha512(data).hexdigest())
    assert b"".join(alice.images.data(image.id)) == data


def test_an_image_without_data_has_none(alice: Any) -> None:
    """A queued image is shown and gives no data."""
    image = alice.images.create(name="empty")
    assert (image.status, image.size, image.disk_format) == ("queued", None, None)
    assert b"".join(alice.images.data(image.id) or ()) == b""


def test_data_are_taken_once(alice: Any, data: bytes) -> None:
    """A second upload is a conflict and changes nothing."""
    image = stored(alice, data)
    with pytest.raises(exc.HTTPConflict):
        alice.images.upload(image.id, io.BytesIO(b"other"))
    assert b"".join(alice.images.data(image.id)) == data


def test_updates(alice: Any, data: bytes) -> None:
    """images.update changes attributes, adds properties and removes them."""
    image = stored(alice, data, colour="red", shape="round")
    changed = alice.images.update(
        image.id, remove_props=["colour"], name="db", min_ram=512, shape="square", size_note="s"
    )
    assert (changed.name, changed.min_ram, changed.shape, changed.size_note) == ("db", 512, "square", "s")
    assert "colour" not in changed
    with pytest.raises(exc.HTTPForbidden):
        alice.http_client.patch(
            f"/v2/images/{image.id}",
            headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
            data='[{"op": "replace", "path": "/status", "value": "queued"}]',
        )


def test_lists_go_over_pages(alice: Any) -> None:
    """images.list follows the pages to the end; filters and sorting are the server's."""
    for number in range(7):
        alice.images.create(name=f"n{number}", even=str(number % 2 == 0))
    listed = [image.name for image in alice.images.list(page_size=3, sort="name:asc")]
    assert listed == [f"n{number}" for number in range(7)]
    assert len(list(alice.images.list(limit=2))) == 2
    assert {image.name for image in alice.images.list(filters={"even": "True"})} == {"n0", "n2", "n4", "n6"}
    assert [image.name for image in alice.images.list(filters={"name": "n3"})] == ["n3"]


def test_tags(alice: Any) -> None:
    """image_tags puts tags on and takes them off; a missing one is not found."""
    image = alice.images.create(name="web", tags=["a"])
    alice.image_tags.update(image.id, "b")
    assert sorted(alice.images.get(image.id).tags) == ["a", "b"]
    assert [found.id for found in alice.images.list(filters={"tag": ["a", "b"]})] == [image.id]
    alice.image_tags.delete(image.id, "a")
    assert alice.images.get(image.id).tags == ["b"]
    with pytest.raises(exc.HTTPNotFound):
        alice.image_tags.delete(image.id, "a")


def test_members(alice: Any, bob: Any, data: bytes) -> None:
    """image_members: invited, pending, accepted, removed, each as both sides see it."""
    image = stored(alice, data)
    project = bob.http_client.session.get_project_id()
    with pytest.raises(exc.HTTPNotFound):
        bob.images.get(image.id)
    assert alice.image_members.create(image.id, project).status == "pending"
    with pytest.raises(exc.HTTPConflict):
        alice.image_members.create(image.id, project)
    assert [found.id for found in bob.images.list(filters={"member_status": "pending", "visibility": "shared"})] == [
        image.id
    ]
    assert bob.image_members.update(image.id, project, "accepted").status == "accepted"
    assert [(found.member_id, found.status) for found in alice.image_members.list(image.id)] == [(project, "accepted")]
    assert b"".join(bob.images.data(image.id)) == data
    with pytest.raises(exc.HTTPForbidden):
        bob.images.delete(image.id)
    alice.image_members.delete(image.id, project)
    with pytest.raises(exc.HTTPNotFound):
        bob.images.get(image.id)


def test_deactivation(alice: Any, admin: Any, data: bytes) -> None:
    """A deactivated image gives its owner no data until it is active again."""
    image = stored(alice, data)
    admin.images.deactivate(image.id)
    with pytest.raises(exc.HTTPForbidden):
        alice.images.data(image.id)
    admin.images.reactivate(image.id)
    assert b"".join(alice.images.data(image.id)) == data


def test_deletion(alice: Any, data: bytes) -> None:
    """A deleted image is not found, its id never comes back, and a protected one is not deleted."""
    image = stored(alice, data, protected=True)
    with pytest.raises(exc.HTTPForbidden):
        alice.images.delete(image.id)
    alice.images.update(image.id, protected=False)
    alice.images.delete(image.id)
    with pytest.raises(exc.HTTPNotFound):
        alice.images.get(image.id)
    with pytest.raises(exc.HTTPConflict):
        alice.images.create(id=image.id)


@pytest.mark.parametrize("name", ["image", "images", "member", "members", "task", "tasks"])
def test_schemas(alice: Any, name: str) -> None:
    """The client's model reads every schema of images, members and tasks."""
    assert alice.schemas.get(name).name == name


def test_metadata_definitions(admin: Any, alice: Any) -> None:
    """A namespace with an object, a property, tags and a resource type is made, read by others, and deleted."""
    namespace = "OS::Casimg::Client"
    admin.metadefs_namespace.create(namespace=namespace, visibility="public", display_name="Client")
    try:
        admin.metadefs_object.create(namespace, name="cpu", properties={"cores": {"title": "Cores", "type": "integer"}})
        admin.metadefs_property.create(namespace, name="pinned", title="Pinned", type="boolean")
        admin.metadefs_tag.create(namespace, "fast")
        admin.metadefs_resource_type.associate(namespace, name="OS::Glance::Image", prefix="hw_")
        assert alice.metadefs_namespace.get(namespace).display_name == "Client"
        assert [found.name for found in alice.metadefs_object.list(namespace)] == ["cpu"]
        assert [found.name for found in alice.metadefs_property.list(namespace)] == ["pinned"]
        assert [found.name for found in alice.metadefs_tag.list(namespace)] == ["fast"]
        assert [found.name for found in alice.metadefs_resource_type.get(namespace)] == ["OS::Glance::Image"]
        with pytest.raises(exc.HTTPForbidden):
            alice.metadefs_namespace.delete(namespace)
    finally:
        admin.metadefs_namespace.delete(namespace)
    with pytest.raises(exc.HTTPNotFound):
        alice.metadefs_namespace.get(namespace)


def test_the_command(cloud: Cloud, disk: Path, data: bytes, tmp_path: Path) -> None:
    """glance image-create, image-list, image-download and image-delete, as scripts call them."""
    formats = ("--disk-format", "raw", "--container-format", "bare")
    made = cloud.run("alice", "glance", "image-create", "--name", "web", *formats, "--file", disk)
    assert made.code == 0, made.errors
    listed = cloud.run("alice", "glance", "image-list").output.decode()
    image_id = next(line.split("|")[1].strip() for line in listed.splitlines() if " web " in line)
    saved = cloud.run("alice", "glance", "image-download", "--file", tmp_path / "copy", image_id)
    assert saved.code == 0, saved.errors
    assert (tmp_path / "copy").read_bytes() == data
    assert cloud.run("alice", "glance", "image-delete", image_id).code == 0
    assert image_id not in cloud.run("alice", "glance", "image-list").output.decode()
