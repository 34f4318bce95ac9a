"""The clients and limits in Keystone: set with `openstack limit`, met by who creates and uploads, told by `glance`."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import glanceclient
import pytest
from glanceclient import exc
from keystoneauth1 import session as sessions
from keystoneauth1.identity import v3

from tests.glance.cloud import Cloud

MIB = 1 << 20
SetLimit = Callable[[str, int], None]


@pytest.fixture
def limit(cloud: Cloud) -> Iterator[SetLimit]:
    """Sets limits of Bob's project, which go again."""
    made: dict[str, str] = {}
    where = ("--project", "red", "--service", "glance", "--region", cloud.region)

    def set_to(resource: str, value: int) -> None:
        if resource in made:
            cloud.openstack("admin", "limit", "set", "--resource-limit", value, made[resource])
        else:
            words = ("limit", "create", *where, "--resource-limit", value, resource)
            made[resource] = cloud.openstack("admin", *words)["id"]

    yield set_to
    for one in made.values():
        cloud.openstack_silent("admin", "limit", "delete", one)


@pytest.fixture
def bob(cloud: Cloud) -> Any:
    """Bob's python-glanceclient."""
    session = sessions.Session(auth=v3.Password(**cloud.credentials("bob")))
    return glanceclient.Client("2", session=session, region_name=cloud.region)


def test_a_limit_of_images(cloud: Cloud, limit: SetLimit) -> None:
    """`openstack image create` is refused with 413 by the limit that `openstack limit` made, until that is raised."""
    limit("image_count_total", 1)
    cloud.openstack("bob", "image", "create", "one")
    assert "image_count_total is over limit of 1" in cloud.openstack_refused("bob", "image", "create", "two")
    cloud.openstack("alice", "image", "create", "hers")
    limit("image_count_total", 2)
    cloud.openstack("bob", "image", "create", "two")


def test_a_limit_of_bytes(bob: Any, limit: SetLimit) -> None:
    """Uploads, stages and imports of the library end with HTTPOverLimit when the project is beyond its MiB."""
    limit("image_size_total", 1)
    formats = {"disk_format": "raw", "container_format": "bare"}
    whole = bob.images.create(name="whole", **formats)
    bob.images.upload(whole.id, io.BytesIO(bytes(2 * MIB)))
    more = bob.images.create(name="more", **formats)
    with pytest.raises(exc.HTTPOverLimit):
        bob.images.upload(more.id, io.BytesIO(b"x"))
    bob.images.stage(more.id, io.BytesIO(b"x"))
    with pytest.raises(exc.HTTPOverLimit):
        bob.images.image_import(more.id)
    assert bob.images.get(more.id).status == "uploading"
    limit("image_stage_total", 0)
    limit("image_count_uploading", 1)
    last = bob.images.create(name="last", **formats)
    with pytest.raises(exc.HTTPOverLimit):
        bob.images.stage(last.id, io.BytesIO(b"x"))


def test_usage_is_told(cloud: Cloud, bob: Any, limit: SetLimit) -> None:
    """The library and `glance usage` tell usage and limit of the own project."""
    limit("image_count_total", 7)
    image = bob.images.create(name="two", disk_format="raw", container_format="bare")
    bob.images.upload(image.id, io.BytesIO(bytes(2 * MIB)))
    usage = bob.info.get_usage()
    assert usage["image_count_total"] == {"usage": 1, "limit": 7}
    assert usage["image_size_total"] == {"usage": 2, "limit": 100_000}
    told = cloud.run("bob", "glance", "usage")
    assert (told.code, b"| image_count_total     | 7      | 1     |" in told.output) == (0, True), told
