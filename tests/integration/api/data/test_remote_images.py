"""Imports from another service: its description and data come along, or neither does."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import casimg
from casimg.catalog.task_rows import NewTask, TaskRow
from casimg.ids import ImageId
from casimg.registry import ImageRow, NewEntry, Viewer
from casimg.repository import Repository
from casimg_api.config import Config
from casimg_api.import_data import Job
from casimg_api.import_marks import LOCK
from casimg_api.importing import Imports
from casimg_api.property_protection import May, everything
from casimg_api.remote_images import RemoteImage
from casimg_api.unified_limits import UnifiedLimits
from tests.conftest import mixed_bytes
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.serving import Server

DATA = bytes(mixed_bytes(2_000_000, 31))
ADMIN = Viewer(None, is_admin=True)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Repository]:
    """The repository that is imported into."""
    with casimg.create(tmp_path / "here") as repository:
        yield repository


def bring(here: Repository, remote: Server, image_id: str, may: May = everything) -> tuple[ImageRow, TaskRow]:
    """Import an image of another server; returns the image and its task when that has ended."""
    registry, tasks = here.registry(), here.tasks()
    rules = {"allowed_networks": ["127.0.0.0/8"], "allowed_ports": [remote.port]}
    imports = Imports(registry, tasks, Config.of({"import_filtering_opts": rules}, "test"), UnifiedLimits(registry))
    row = registry.create(
        NewEntry(disk_format="qcow2", container_format="bare", properties={"hw_own": "kept", "hw_bus": "old"})
    )
    task = tasks.create(NewTask("api_image_import", None, image_id=row.id))
    url = f"http://127.0.0.1:{remote.port}/v2/images/{image_id}"
    job = Job("glance-download", row.id, task.id, None, ("local",), remote=RemoteImage(url, "token"), may=may)
    imports.lock(job, "queued")
    imports.begin(job)
    give_up_s = time.monotonic() + 30
    while (task := tasks.show(task.id, ADMIN)).status in ("pending", "processing"):
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    imports.stop()
    return registry.show(ImageId(row.id), ADMIN), task


def test_an_image_comes_with_what_is_said_of_it(serve: Serve, here: Repository) -> None:
    """Formats, data and the properties of the configured beginnings come along; others, and its name, do not."""
    remote = serve()
    image_id = remote.create(name="there", hw_bus="virtio", os_type="linux", other="x")
    assert remote.upload(image_id, DATA).status == 204
    row, task = bring(here, remote, image_id)
    assert (task.status, row.status, row.disk_format, row.name) == ("success", "active", "raw", None), task
    assert {name: value for name, value in row.properties.items() if not name.startswith("os_glance")} == {
        "hw_own": "kept",
        "hw_bus": "virtio",
        "os_type": "linux",
    }
    with here.registry().open_image(row.id) as file:
        assert file.read() == DATA


def test_protected_properties_do_not_come_along(serve: Serve, here: Repository) -> None:
    """Properties that the caller may not create, or not update, are left out; what is there stays."""
    remote = serve()
    image_id = remote.create(hw_bus="virtio", hw_own="theirs", hw_new="x", os_type="linux")
    assert remote.upload(image_id, DATA).status == 204
    allowed = {("update", "hw_bus"), ("create", "os_type"), ("create", "hw_own"), ("update", "hw_new")}
    row, task = bring(here, remote, image_id, lambda operation, name: (operation, name) in allowed)
    assert (task.status, row.status) == ("success", "active"), task
    assert {name: value for name, value in row.properties.items() if not name.startswith("os_glance")} == {
        "hw_own": "kept",
        "hw_bus": "virtio",
        "os_type": "linux",
    }


def test_an_image_that_does_not_come_leaves_all_as_it_was(serve: Serve, here: Repository) -> None:
    """An image that is not there, has no data, or is not what it declares fails the task and changes nothing."""
    remote = serve("[data]\nrequire_image_format_match = false\n")
    queued, odd = remote.create(), remote.create(disk_format="vmdk", hw_bus="virtio", hw_new="x")
    assert remote.upload(odd, DATA).status == 204
    for image_id in (queued, odd, "00000000-0000-4000-8000-000000000000"):
        row, task = bring(here, remote, image_id)
        assert (task.status, row.status, row.disk_format) == ("failure", "queued", "qcow2"), task
        assert LOCK not in row.properties
        assert {name: value for name, value in row.properties.items() if name.startswith("hw_")} == {
            "hw_own": "kept",
            "hw_bus": "old",
        }
