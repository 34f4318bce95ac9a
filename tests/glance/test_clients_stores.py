"""The clients and several stores: told, imported to, copied to, preferred, left. The site has `local` and `spare`."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import glanceclient
import openstack
import pytest
from glanceclient import exc
from keystoneauth1 import session as sessions
from keystoneauth1.identity import v3

from tests.glance.cloud import Cloud

BOTH = ["local", "spare"]


def sdk(cloud: Cloud, user: str) -> Any:
    """Return a connection of openstacksdk."""
    return openstack.connect(
        **cloud.credentials(user), region_name=cloud.region, load_envvars=False, load_yaml_config=False
    )


def glance(cloud: Cloud, user: str) -> Any:
    """Return a client of python-glanceclient."""
    session = sessions.Session(auth=v3.Password(**cloud.credentials(user)))
    return glanceclient.Client("2", session=session, region_name=cloud.region)


@pytest.fixture
def image_id(cloud: Cloud, disk: Path) -> str:
    """An image of Alice's in the default store."""
    formats = ("--disk-format", "raw", "--container-format", "bare")
    made: str = cloud.openstack("alice", "image", "create", "--file", disk, *formats, "web")["id"]
    return made


def stores_of(connection: Any, image_id: str) -> list[str]:
    """Return the stores of an image as openstacksdk shows it, sorted."""
    return sorted(connection.image.get_image(image_id).properties["stores"].split(","))


def wait_for(found: Callable[[], Any], wanted: Any) -> None:
    """Ask until something is so. Raises: AssertionError."""
    give_up_s = time.monotonic() + 60
    while (now := found()) != wanted:
        assert time.monotonic() < give_up_s, now
        time.sleep(0.1)


def test_stores_are_told(cloud: Cloud) -> None:
    """`openstack image stores list` and the libraries tell the same stores, details to administrators."""
    told = cloud.openstack("alice", "image", "stores", "list")
    assert [store["ID"] for store in told] == BOTH
    assert [store.id for store in sdk(cloud, "alice").image.stores()] == BOTH
    details = list(sdk(cloud, "admin").image.stores(details=True))
    assert [(store.id, store.properties) for store in details] == [(one, {"thin_provisioning": True}) for one in BOTH]
    assert [store["id"] for store in glance(cloud, "alice").images.get_stores_info()["stores"]] == BOTH
    detail = glance(cloud, "admin").images.get_stores_info_detail()["stores"]
    assert {store["id"]: store["type"] for store in detail} == dict.fromkeys(BOTH, "file")


def test_copy_and_leave(cloud: Cloud, image_id: str, data: bytes, tmp_path: Path) -> None:
    """`openstack image import --method copy-image`, `save` with a preference, `delete --store`: the same bytes."""
    admin = sdk(cloud, "admin")
    options = ("--method", "copy-image", "--store", "spare", "--disallow-failure", "--wait")
    cloud.openstack("admin", "image", "import", image_id, *options)
    wait_for(lambda: stores_of(admin, image_id), BOTH)
    for store in BOTH:
        place = tmp_path / store
        cloud.openstack_silent("alice", "image", "save", "--store-preference", store, "--file", place, image_id)
        assert place.read_bytes() == data
    cloud.openstack_silent("admin", "image", "delete", "--store", "local", image_id)
    assert stores_of(admin, image_id) == ["spare"]
    assert admin.image.download_image(image_id).content == data
    assert "only store" in cloud.openstack_refused("admin", "image", "delete", "--store", "spare", image_id)


def test_members_do_not_copy(cloud: Cloud, image_id: str) -> None:
    """Copies are for administrators: a member is told so."""
    with pytest.raises(exc.HTTPForbidden):  # `openstack image import` does not look at the answer
        glance(cloud, "alice").images.image_import(image_id, "copy-image", all_stores=True)
    assert "403" in cloud.openstack_refused("alice", "image", "delete", "--store", "local", image_id)


def test_import_to_all_stores(cloud: Cloud, data: bytes, disk: Path) -> None:
    """Staged data, and those of a URL, come to all stores through openstacksdk."""
    alice = sdk(cloud, "alice")
    formats = {"disk_format": "raw", "container_format": "bare"}
    staged = alice.image.create_image("staged", **formats)
    alice.image.stage_image(staged, filename=str(disk))
    alice.image.import_image(staged, all_stores=True, all_stores_must_succeed=True)
    fetched = alice.image.create_image("fetched", **formats)
    alice.image.import_image(fetched, "web-download", uri=f"{cloud.web_url}/image.raw", stores=["spare", "local"])
    for image in (staged, fetched):
        wait_for(lambda: alice.image.get_image(image.id).status, "active")  # noqa: B023 - called in this turn alone
        assert stores_of(alice, image.id) == BOTH
    assert alice.image.download_image(staged, store_preferences=["spare"]).content == data
    assert alice.image.download_image(fetched, store_preferences=["spare", "local"]).content


def test_the_glance_library(cloud: Cloud, data: bytes) -> None:
    """images.upload to a store, image_import to others, delete_from_store, and a preferred download."""
    alice, admin = glance(cloud, "alice"), glance(cloud, "admin")
    image = alice.images.create(name="web", disk_format="raw", container_format="bare")
    alice.images.upload(image.id, io.BytesIO(data), backend="spare")
    assert alice.images.get(image.id).stores == "spare"
    admin.images.image_import(image.id, "copy-image", all_stores=True, allow_failure=False)
    wait_for(lambda: sorted(alice.images.get(image.id).stores.split(",")), BOTH)
    assert b"".join(alice.images.data(image.id, prefer=["local", "spare"])) == data
    admin.images.delete_from_store("spare", image.id)
    assert alice.images.get(image.id).stores == "local"
    assert b"".join(alice.images.data(image.id)) == data
