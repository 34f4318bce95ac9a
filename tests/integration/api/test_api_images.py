"""Images on the wire: made, shown, changed, deleted, as Glance does it."""

import re
import uuid
from typing import Any

import pytest

from tests.api_serving import Client

V21 = "application/openstack-images-v2.1-json-patch"
V20 = "application/openstack-images-v2.0-json-patch"


def test_a_new_image(alice: Client) -> None:
    """201 with every attribute, null when not set, extra properties beside them, and the image's URL."""
    made = alice.post("/v2/images", {"name": "web", "os_distro": "debian", "tags": ["b", "a", "b"], "min_ram": 512})
    assert (made.status, made.header("Content-Type")) == (201, "application/json")
    image = made.json
    path = f"/v2/images/{image['id']}"
    assert made.header("Location") == f"http://127.0.0.1:{alice.port}{path}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", image["created_at"])
    assert image == {
        "name": "web",
        "os_distro": "debian",
        "tags": ["a", "b"],
        "min_ram": 512,
        "min_disk": 0,
        "status": "queued",
        "visibility": "shared",
        "protected": False,
        "os_hidden": False,
        "owner": "p-alice",
        **dict.fromkeys(("checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size")),
        **dict.fromkeys(("disk_format", "container_format")),
        "id": image["id"],
        "created_at": image["created_at"],
        "updated_at": image["created_at"],
        "self": path,
        "file": f"{path}/file",
        "schema": "/v2/schemas/image",
    }
    assert alice.get(path).json == image


def test_an_id_of_ones_own(alice: Client, bob: Client) -> None:
    """A client may choose the id; no id is used twice, by whomever, not even after a deletion."""
    chosen = str(uuid.uuid4())
    assert alice.image(id=chosen.upper())["id"] == chosen
    assert bob.post("/v2/images", {"id": chosen}).status == 409
    assert alice.delete(f"/v2/images/{chosen.upper()}").status == 204
    assert alice.post("/v2/images", {"id": chosen}).status == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "no uuid"}, 400),
        ({"id": "7f0c3c2e-0000-4000-8000-000000000001\n"}, 400),
        ({"name": "n" * 256}, 400),
        ({"name": 1}, 400),
        ({"visibility": "secret"}, 400),
        ({"disk_format": "floppy"}, 400),
        ({"min_disk": -1}, 400),
        ({"min_disk": 2**31}, 400),
        ({"min_disk": 10**40}, 400),
        ({"min_ram": True}, 400),
        ({"tags": "a"}, 400),
        ({"tags": ["t" * 256]}, 400),
        ({"extra": 1}, 400),
        ({"extra": None}, 400),
        ({"extra": {"a": "b"}}, 400),
        ({"x" * 256: "y"}, 400),
        ({"nul": "a\0b"}, 400),
        ({"half": "\ud800"}, 400),
        ({"kernel_id": "no uuid"}, 400),
        ([], 400),
        ("text", 400),
        (b"", 400),
        (b"{", 400),
        (b'{"min_ram": NaN}', 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        ({"huge": "x" * (1 << 20)}, 413),
        ({"size": 1}, 403),
        ({"status": "active"}, 403),
        ({"checksum": "0" * 32}, 403),
        ({"created_at": "2026-01-01"}, 403),
        ({"self": "/x"}, 403),
        ({"stores": "a"}, 403),
        ({"direct_url": "file:///etc/passwd"}, 403),
        ({"locations": []}, 403),
        ({"deleted": "true"}, 403),
        ({"location": "x"}, 403),
        ({"os_glance_import_task": "x"}, 403),
        ({"owner": "p-bob"}, 403),
        ({"visibility": "public"}, 403),
        ({f"k{n}": "v" for n in range(129)}, 413),
        ({"tags": [f"t{n}" for n in range(129)]}, 413),
    ],
)
def test_what_cannot_be_made(alice: Client, body: Any, status: int) -> None:
    """Malformed is 400, not for clients to set is 403, too much is 413."""
    assert alice.post("/v2/images", body).status == status


def test_what_just_fits(alice: Client) -> None:
    """Names and counts at their limits are taken."""
    body = {f"k{n}": "v" for n in range(127)} | {"p" * 255: "ü" * 300}
    image = alice.image(name="n" * 255, tags=[f"{n:0255}" for n in range(128)], **body)
    assert len(image["tags"]) == 128
    assert image["p" * 255] == "ü" * 300


def test_admins_create_for_others(admin: Client, alice: Client) -> None:
    """An administrator makes images for any project, public ones too."""
    image = admin.image(owner="p-alice", visibility="public")
    assert alice.get(image["self"]).json["owner"] == "p-alice"
    assert admin.image(owner=None)["owner"] is None


def test_readers_change_nothing(server: Client, alice: Client) -> None:
    """A reader sees its project's images, and is refused every change: 403."""
    path = alice.image(name="seen", visibility="private", tags=["a"])["self"]
    reader = server.as_("reader")
    assert reader.get(path).status == 200
    assert reader.post("/v2/images", {}).status == 403
    assert reader.patch(path, [{"op": "replace", "path": "/name", "value": "x"}]).status == 403
    assert reader.delete(path).status == 403
    assert reader.put(f"{path}/tags/x").status == 403
    assert reader.delete(f"{path}/tags/a").status == 403
    assert reader.post(f"{path}/actions/deactivate").status == 403
    assert server.as_("nobody").get(path).status == 404
    assert server.as_("nobody").get("/v2/images").status == 403


def test_patch_in_both_dialects(alice: Client) -> None:
    """Both media types change an image; an `add` of what is there is a conflict in the older one alone."""
    path = alice.image(name="a", os_distro="debian")["self"]
    done = alice.patch(path, [{"add": "/x", "value": "1"}, {"replace": "/name", "value": "b"}], "2.0")
    assert (done.status, done.json["x"], done.json["name"]) == (200, "1", "b")
    assert alice.patch(path, [{"add": "/x", "value": "2"}], "2.0").status == 409
    assert alice.patch(path, [{"op": "add", "path": "/x", "value": "2"}]).json["x"] == "2"
    done = alice.patch(path, [{"op": "remove", "path": "/os_distro"}, {"op": "replace", "path": "/tags", "value": []}])
    assert "os_distro" not in done.json
    assert alice.patch(path, []).json == done.json
    assert alice.get(path).json == done.json


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ([{"op": "add", "path": "x", "value": "1"}], 400),
        ([{"op": "add", "path": "/x"}], 400),
        ([{"op": "replace", "path": "/none", "value": "1"}], 409),
        ([{"op": "remove", "path": "/none"}], 409),
        ([{"op": "remove", "path": "/name"}], 403),
        ([{"op": "replace", "path": "/status", "value": "active"}], 403),
        ([{"op": "replace", "path": "/owner", "value": "p-bob"}], 403),
        ([{"op": "replace", "path": "/visibility", "value": "public"}], 403),
        ([{"op": "add", "path": "/locations/-", "value": {"url": "file:///etc/passwd", "metadata": {}}}], 403),
        ([{"op": "add", "path": f"/k{n}", "value": "v"} for n in range(129)], 413),
        ([{"op": "add", "path": "/k", "value": "\0"}], 400),
        ([{"op": "add", "path": "/k\0", "value": ""}], 400),
        ([{"op": "add", "path": "/", "value": ""}], 400),
        ([{"op": "replace", "path": "/min_disk", "value": 2**63}], 400),
        (b"[", 400),
        (b"", 400),
    ],
)
def test_patches_that_fail_change_nothing(alice: Client, body: Any, status: int) -> None:
    """A patch is refused whole."""
    image = alice.image(name="kept")
    if isinstance(body, list):
        body = [{"op": "add", "path": "/before", "value": "x"}, *body]
    assert alice.patch(image["self"], body).status == status
    assert alice.get(image["self"]).json == image


def test_patch_wants_its_media_type(alice: Client) -> None:
    """Any other type is 415, which names those that are taken."""
    path = alice.image()["self"]
    for headers in ({"Content-Type": "application/json"}, {"Content-Type": "application/json-patch+json"}):
        refused = alice.call("PATCH", path, [], headers)
        assert (refused.status, refused.header("Accept-Patch")) == (415, f"{V20}, {V21}")


def test_admins_give_images_away(admin: Client, alice: Client, bob: Client) -> None:
    """An administrator changes the owner; who had the image sees it no more."""
    path = alice.image(visibility="private")["self"]
    assert admin.patch(path, [{"op": "replace", "path": "/owner", "value": "p-bob"}]).status == 200
    assert (alice.get(path).status, bob.get(path).status) == (404, 200)


def test_protected(alice: Client) -> None:
    """A protected image is deleted when it is not protected any more."""
    path = alice.image(protected=True)["self"]
    assert alice.delete(path).status == 403
    assert alice.patch(path, [{"op": "replace", "path": "/protected", "value": False}]).status == 200
    assert alice.delete(path).status == 204
    assert alice.delete(path).status == 404
    assert alice.get(path).status == 404
    assert alice.patch(path, []).status == 404


def test_tags(alice: Client) -> None:
    """Tags are put and removed one by one: 204, 404 for one that is not there, 413 for too many."""
    image = alice.image(tags=[f"t{n}" for n in range(127)])
    path = f"{image['self']}/tags"
    assert alice.put(f"{path}/new%20%C3%BC").status == 204
    assert alice.put(f"{path}/new%20%C3%BC").status == 204
    assert alice.put(f"{path}/more").status == 413
    assert alice.put(f"{path}/{'t' * 256}").status == 400
    assert alice.put(f"{path}/a%00b").status == 400
    assert alice.call("PUT", f"{path}/t0", b"body").status == 400
    assert "new ü" in alice.get(image["self"]).json["tags"]
    assert alice.delete(f"{path}/t0").status == 204
    assert alice.delete(f"{path}/t0").status == 404


def test_actions_without_data(alice: Client) -> None:
    """An image that is not active is neither deactivated nor reactivated: 403."""
    path = alice.image()["self"]
    assert alice.post(f"{path}/actions/deactivate").status == 403
    assert alice.post(f"{path}/actions/reactivate").status == 403


def test_locations(server: Client, alice: Client, bob: Client) -> None:
    """Locations are for services, and there are none; nobody adds one."""
    path = alice.image(visibility="private")["self"]
    nova = server.as_("nova")
    assert alice.get(f"{path}/locations").status == 403
    assert bob.get(f"{path}/locations").status == 404
    assert nova.get(f"{path}/locations").status == 404
    shared = f"{alice.image(visibility='community')['self']}/locations"
    assert nova.get(shared).json == []
    assert alice.post(shared, {"url": "http://127.0.0.1/x"}).status == 403
    assert nova.post(shared, {"url": "http://127.0.0.1/x"}).status == 400
    assert nova.post(shared, {}).status == 400


def test_a_snapshot_as_nova_makes_it(alice: Client) -> None:
    """Registered without formats but with its base, then given formats: as nova does."""
    base = alice.image(name="base")
    made = alice.image(name="snap", visibility="private", base_image_ref=base["id"], image_type="snapshot")
    changes = [
        {"op": "add", "path": f"/{name}", "value": value}
        for name, value in {"disk_format": "qcow2", "container_format": "bare", "image_state": "available"}.items()
    ]
    done = alice.patch(made["self"], changes)
    assert (done.status, done.json["disk_format"], done.json["image_state"]) == (200, "qcow2", "available")


def test_concurrent_patches_are_all_kept(alice: Client) -> None:
    """Changes that meet are made one after the other: none is lost."""
    from concurrent.futures import ThreadPoolExecutor

    path = alice.image()["self"]

    def change(number: int) -> int:
        return alice.patch(path, [{"op": "add", "path": f"/k{number}", "value": "v"}]).status

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(change, range(12)))
    found = alice.get(path).json
    assert [statuses[number] == 200 for number in range(12)] == [f"k{number}" in found for number in range(12)]
    assert statuses.count(200) >= 10
