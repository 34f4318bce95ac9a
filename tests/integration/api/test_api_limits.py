"""A server whose projects have limits in Keystone: who is refused what on the wire, and what imports become."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.api_serving import Answer, Client, serving, site
from tests.fake_limits import FakeLimits, serving_limits
from tests.integration.api.data.stores_serving import add_backend

MIB = 1 << 20
OCTETS = {"Content-Type": "application/octet-stream"}
FORMATS = {"disk_format": "raw", "container_format": "bare"}
FREE = {"image_size_total": 100, "image_stage_total": 100, "image_count_total": 100, "image_count_uploading": 100}


@dataclass(frozen=True)
class Site:
    keystone: FakeLimits
    alice: Client
    bob: Client

    def limit(self, **limits: int) -> None:
        """Set limits of Alice's project."""
        for name, value in limits.items():
            self.keystone.of_projects["p-alice", name] = value


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server and its Keystone."""
    with serving_limits() as keystone:
        folder = tmp_path_factory.mktemp("limited")
        (folder / "policy.yaml").write_text('"copy_image": "role:member"\n')
        options = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keystone.options.items())
        hosts = '[import_filtering_opts]\nallowed_hosts = ["localhost"]\n'
        imports = '[image_import]\nenabled_import_methods = ["glance-direct", "web-download", "copy-image"]\n'
        stores = '[store]\nmulti_store = true\n[policy]\npolicy_file = "policy.yaml"\n'
        config = f"{hosts}{imports}{stores}[quota]\nuse_keystone_limits = true\n[quota.oslo_limit]\n{options}"
        path = site(folder, config)
        for name in ("second", "third"):
            add_backend(folder / "repository", name, folder / name)
        with serving("--config", str(path)) as client:
            yield Site(keystone, client.as_("alice"), client.as_("bob"))


@pytest.fixture
def limited(running: Site) -> Iterator[Site]:
    """The same for each test: every limit is far away, and Alice has no image."""
    running.keystone.registered.update(FREE)
    yield running
    running.keystone.of_projects.clear()
    for image in running.alice.get("/v2/images?limit=1000").json["images"]:
        assert running.alice.delete(image["self"]).status == 204


def put(client: Client, what: str, size: int, image: str | None = None, headers: Any = None) -> Answer:
    """Send data for an image, a new one when none is named: `file` or `stage`."""
    path = image or client.image(**FORMATS)["self"]
    return client.call("PUT", f"{path}/{what}", bytes(size), {**OCTETS, **(headers or {})})


def usage(client: Client) -> dict[str, tuple[int, int]]:
    found = client.get("/v2/info/usage").json["usage"]
    return {name: (one["usage"], one["limit"]) for name, one in found.items()}


def ended(client: Client, image: str) -> Any:
    """Return the newest task of an image when it has ended."""
    give_up_s = time.monotonic() + 30
    while True:
        task = max(client.get(f"{image}/tasks").json["tasks"], key=lambda one: one["created_at"])
        if task["status"] in ("success", "failure"):
            return task
        assert time.monotonic() < give_up_s, task
        time.sleep(0.05)


def bring(client: Client, image: str, method: dict[str, str], **more: Any) -> Answer:
    return client.post(f"{image}/import", {"method": method, **more})


def test_images_are_counted(limited: Site) -> None:
    """Who has as many images as it may creates no further one, by no way, until one is deleted; others do."""
    limited.limit(image_count_total=2)
    first = limited.alice.image()["self"]
    active = limited.alice.image(**FORMATS)
    assert put(limited.alice, "file", 5, active["self"]).status == 204
    refused = limited.alice.post("/v2/images", {})
    assert refused.status == 413
    assert "image_count_total is over limit of 2 due to current usage 2 and delta 1" in refused.json["message"]
    assert limited.alice.post(f"/casimg/v1/images/{active['id']}/snapshot", {}).status == 413
    assert len(limited.alice.get("/v2/images").json["images"]) == 2
    assert limited.bob.post("/v2/images", {}).status == 201
    assert limited.alice.delete(first).status == 204
    assert limited.alice.post(f"/casimg/v1/images/{active['id']}/snapshot", {}).status == 201


def test_bytes_are_counted(limited: Site) -> None:
    """Data whose size is announced must fit, others may pass the limit once; then nothing more comes in by any way."""
    limited.limit(image_size_total=5)
    image = limited.alice.image(**FORMATS)
    known = {"x-openstack-image-size": str(3 * MIB)}
    assert put(limited.alice, "file", 3 * MIB, image["self"], known).status == 204
    over = put(limited.alice, "file", 3 * MIB, None, known)
    assert over.status == 413
    assert "image_size_total is over limit of 5 due to current usage 3 and delta 3" in over.json["message"]
    assert limited.alice.post(f"/casimg/v1/images/{image['id']}/snapshot", {}).status == 413
    assert put(limited.alice, "file", 3 * MIB).status == 413
    chunked = limited.alice.image(**FORMATS)["self"]
    assert limited.alice.chunked(f"{chunked}/file", bytes(3 * MIB)).status == 204
    queued = limited.alice.image(**FORMATS)["self"]
    assert put(limited.alice, "file", 1, queued).status == 413
    assert bring(limited.alice, queued, {"name": "web-download", "uri": "http://localhost/x"}).status == 413
    assert limited.alice.get(queued).json["status"] == "queued"
    assert usage(limited.alice)["image_size_total"] == (6, 5)
    assert limited.alice.delete(image["self"]).status == 204
    assert put(limited.alice, "file", 1, queued).status == 204


def test_staged_bytes_are_counted(limited: Site) -> None:
    """What is kept aside has a limit of its own, for fetched data too, whose task says so; an import frees it."""
    limited.limit(image_stage_total=2)
    staged = limited.alice.image(**FORMATS)["self"]
    assert limited.alice.chunked(f"{staged}/stage", bytes(3 * MIB)).status == 204
    other = limited.alice.image(**FORMATS)["self"]
    assert put(limited.alice, "stage", 1, other).status == 413
    assert bring(limited.alice, other, {"name": "web-download", "uri": "http://localhost/x"}).status == 202
    task = ended(limited.alice, other)
    assert (task["status"], "image_stage_total is over limit of 2" in task["message"]) == ("failure", True)
    found = limited.alice.get(other).json
    assert (found["status"], "os_glance_import_task" in found) == ("queued", False)
    assert usage(limited.alice)["image_stage_total"] == (3, 2)
    assert bring(limited.alice, staged, {"name": "glance-direct"}).status == 202
    assert ended(limited.alice, staged)["status"] == "success"
    assert usage(limited.alice)["image_stage_total"] == (0, 2)
    assert put(limited.alice, "stage", MIB, other).status == 204


def test_an_import_that_would_go_beyond(limited: Site) -> None:
    """Staged data that do not fit any more are no image's: the task says why, and the image is queued again."""
    limited.limit(image_size_total=5)
    assert put(limited.alice, "file", 3 * MIB).status == 204
    staged = limited.alice.image(**FORMATS)["self"]
    assert put(limited.alice, "stage", 3 * MIB, staged).status == 204
    assert bring(limited.alice, staged, {"name": "glance-direct"}).status == 202
    task = ended(limited.alice, staged)
    assert task["status"] == "failure"
    assert "image_size_total is over limit of 5 due to current usage 3 and delta 3" in task["message"]
    assert limited.alice.get(staged).json["status"] == "queued"
    assert usage(limited.alice)["image_stage_total"] == (0, 100)


def test_images_on_their_way_are_counted(limited: Site) -> None:
    """Images whose data are on their way, or kept aside, have a limit for uploads, stages and fetches alike."""
    limited.limit(image_count_uploading=1)
    staged = limited.alice.image(**FORMATS)["self"]
    assert put(limited.alice, "stage", 5, staged).status == 204
    assert usage(limited.alice)["image_count_uploading"] == (1, 1)
    queued = limited.alice.image(**FORMATS)["self"]
    assert put(limited.alice, "stage", 5, queued).status == 413
    assert put(limited.alice, "file", 5, queued).status == 413
    assert bring(limited.alice, queued, {"name": "web-download", "uri": "http://localhost/x"}).status == 202
    assert "image_count_uploading is over limit" in ended(limited.alice, queued)["message"]
    assert bring(limited.alice, staged, {"name": "glance-direct"}).status == 202
    assert ended(limited.alice, staged)["status"] == "success"
    assert put(limited.alice, "file", 5, queued).status == 204


def test_copies_are_counted(limited: Site) -> None:
    """Each copy counts: one more may pass the limit, the next is refused; who has an image on its way copies none."""
    limited.limit(image_size_total=5)
    image = limited.alice.image(**FORMATS)["self"]
    assert put(limited.alice, "file", 3 * MIB, image).status == 204
    assert bring(limited.alice, image, {"name": "copy-image"}, stores=["second"]).status == 202
    assert ended(limited.alice, image)["status"] == "success"
    assert usage(limited.alice)["image_size_total"] == (6, 5)
    assert bring(limited.alice, image, {"name": "copy-image"}, stores=["third"]).status == 413
    limited.limit(image_size_total=20, image_count_uploading=1, image_stage_total=1)
    staged = limited.alice.image(**FORMATS)["self"]
    assert put(limited.alice, "stage", 5, staged).status == 204
    assert bring(limited.alice, image, {"name": "copy-image"}, stores=["third"]).status == 202
    task = ended(limited.alice, image)
    assert (task["status"], "image_count_uploading is over limit" in task["message"]) == ("failure", True)
    found = limited.alice.get(image).json
    assert (found["status"], found["os_glance_failed_import"]) == ("active", "third")
    assert limited.alice.delete(staged).status == 204
    assert bring(limited.alice, image, {"name": "copy-image"}, stores=["third"]).status == 202
    assert ended(limited.alice, image)["status"] == "success"
    assert usage(limited.alice)["image_size_total"] == (9, 20)


def test_usage_is_told(limited: Site) -> None:
    """GET /info/usage has usage and limit of the caller's project; what is not registered has the limit 0."""
    limited.limit(image_count_total=7)
    assert put(limited.alice, "file", 2 * MIB + 5).status == 204
    told = {**dict.fromkeys(FREE, (0, 100)), "image_size_total": (2, 100), "image_count_total": (1, 7)}
    assert usage(limited.alice) == told
    del limited.keystone.registered["image_stage_total"]
    assert usage(limited.alice)["image_stage_total"] == (0, 0)
    assert limited.alice.as_(None).get("/v2/info/usage").status == 401
