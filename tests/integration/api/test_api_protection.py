"""A server with protected properties: what is created, seen, changed and asked for by whom, on the wire."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_serving import Client, serving, site

PROTECTIONS = """
[^x_secret]
create = admin
read = admin
update = admin
delete = admin

[^x_license]
create = admin
read = @
update = admin
delete = admin

[^x_draft]
create = member
read = member
update = !
delete = !

[^x_blind]
create = member
read = admin
update = admin
delete = admin

[kernel_id]
create = member
read = member
update = member
delete = admin

[.*]
create = member
read = @
update = member
delete = member
"""
FORMATS = {"disk_format": "raw", "container_format": "bare"}
UUID = "7f0c3c2e-0000-4000-8000-00000000000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with the protections above."""
    folder = tmp_path_factory.mktemp("protected")
    (folder / "protections.conf").write_text(PROTECTIONS)
    (folder / "policy.yaml").write_text('"tasks_api_access": "role:member"\n')
    policy = '[policy]\nproperty_protection_file = "protections.conf"\npolicy_file = "policy.yaml"\n'
    settings = f'{policy}[import_filtering_opts]\nallowed_hosts = ["localhost"]\n'
    with serving("--config", str(site(folder, settings))) as client:
        yield client


@pytest.fixture
def alice(server: Client) -> Client:
    return server.as_("alice")


@pytest.fixture
def admin(server: Client) -> Client:
    return server.as_("admin")


@pytest.fixture
def image(admin: Client) -> str:
    """The path of an image of Alice's project with a property of each kind, made by the administrator."""
    properties = {
        "x_secret": "1",
        "x_license": "L",
        "x_draft": "d",
        "x_blind": "b",
        "free": "f",
        "kernel_id": f"{UUID}1",
    }
    path: str = admin.image(owner="p-alice", **FORMATS, **properties)["self"]
    return path


def shown(client: Client, path: str) -> dict[str, str]:
    """Return the properties of an image that a client sees."""
    found = client.get(path).json
    return {name: value for name, value in found.items() if name.startswith("x_") or name in ("free", "kernel_id")}


def replaced(client: Client, path: str, name: str, value: Any = "new", op: str = "replace") -> int:
    return client.patch(path, [{"op": op, "path": f"/{name}", "value": value}]).status


def removed(client: Client, path: str, name: str) -> int:
    return client.patch(path, [{"op": "remove", "path": f"/{name}"}]).status


def test_what_is_created(alice: Client, admin: Client) -> None:
    """A property that the caller may not create is 403 for the whole image, for `add` too."""
    before = len(alice.get("/v2/images?name=refused").json["images"])
    for name in ("x_secret", "x_license"):
        refused = alice.post("/v2/images", {"name": "refused", name: "1"})
        assert (refused.status, "is reserved" in refused.json["message"]) == (403, True)
    assert len(alice.get("/v2/images?name=refused").json["images"]) == before
    made = alice.image(x_draft="d", x_blind="b", free="f")
    assert (made["x_draft"], made["free"], "x_blind" in made) == ("d", "f", False)
    assert replaced(alice, made["self"], "x_license", op="add") == 403
    assert replaced(alice, made["self"], "x_draft2", op="add") == 200
    assert shown(admin, made["self"]) == {"x_draft": "d", "x_draft2": "new", "x_blind": "b", "free": "f"}


def test_what_is_seen(alice: Client, admin: Client, image: str) -> None:
    """What may not be read is not there: shown, listed, answered to a change; the administrator sees it."""
    seen = {"x_license": "L", "x_draft": "d", "free": "f", "kernel_id": f"{UUID}1"}
    assert shown(alice, image) == seen
    assert shown(admin, image) == {**seen, "x_secret": "1", "x_blind": "b"}
    listed = next(one for one in alice.get("/v2/images?limit=1000").json["images"] if one["self"] == image)
    assert "x_secret" not in listed
    assert listed["x_license"] == "L"
    changed = alice.patch(image, [{"op": "replace", "path": "/name", "value": "n"}]).json
    assert (changed["name"], "x_secret" in changed) == ("n", False)
    assert shown(admin, image)["x_secret"] == "1"
    assert shown(alice.as_("reader"), image) == {"x_license": "L", "free": "f"}


def test_what_is_changed(alice: Client, admin: Client, image: str) -> None:
    """What may be seen but not changed is 403; what may not be seen is as if it were not there, and stays."""
    before = shown(admin, image)
    assert replaced(alice, image, "x_license") == replaced(alice, image, "x_draft") == 403
    assert replaced(alice, image, "x_license", op="add") == 403
    assert removed(alice, image, "x_license") == removed(alice, image, "x_draft") == 403
    assert replaced(alice, image, "x_secret") == removed(alice, image, "x_secret") == 409
    assert replaced(alice, image, "x_secret", op="add") == 403
    assert replaced(alice, image, "x_blind", op="add") == 403
    assert alice.patch(image, [{"add": "/x_license", "value": "v"}], "2.0").status == 409
    assert replaced(alice, image, "kernel_id", None) == 403
    assert shown(admin, image) == before
    assert replaced(alice, image, "kernel_id", f"{UUID}2") == replaced(alice, image, "free") == 200
    assert removed(alice, image, "free") == 200
    assert replaced(admin, image, "x_license") == removed(admin, image, "x_secret") == 200
    assert shown(admin, image) == {"x_license": "new", "x_draft": "d", "x_blind": "b", "kernel_id": f"{UUID}2"}


def test_what_is_asked_for(alice: Client, admin: Client, image: str) -> None:
    """A list by a property that may not be read is empty, so that its value is not found out."""
    for query in ("x_secret=1", "x_blind=b", "x_secret=1&free=f"):
        assert alice.get(f"/v2/images?{query}").json["images"] == []
        assert image in {one["self"] for one in admin.get(f"/v2/images?{query}").json["images"]}
    assert image in {one["self"] for one in alice.get("/v2/images?x_license=L&limit=1000").json["images"]}


def test_snapshots_keep_protected_properties(alice: Client, admin: Client, image: str) -> None:
    """A snapshot has the protected properties of its parent; its maker neither sees nor says what it may not."""
    body = {"Content-Type": "application/octet-stream"}
    assert alice.call("PUT", f"{image}/file", b"data", body).status == 204
    path = f"/casimg/v1{image.removeprefix('/v2')}/snapshot"
    assert alice.post(path, {"x_license": "mine"}).status == 403
    made = alice.post(path, {"free": "mine"})
    assert (made.status, "x_secret" in made.json, made.json["x_license"]) == (201, False, "L")
    assert shown(admin, made.json["self"]) == {**shown(admin, image), "free": "mine"}


def test_tasks_do_not_tell(alice: Client, admin: Client) -> None:
    """What a task was given for an image shows no property that may not be read."""
    properties = {**FORMATS, "name": "n", "x_blind": "b", "x_draft": "d"}
    given = {"import_from": "http://localhost/x", "import_from_format": "raw", "image_properties": properties}
    made = alice.post("/v2/tasks", {"type": "import", "input": given})
    assert made.status == 201
    seen = {name: value for name, value in properties.items() if name != "x_blind"}
    path = f"/v2/tasks/{made.json['id']}"
    assert made.json["input"]["image_properties"] == alice.get(path).json["input"]["image_properties"] == seen
    assert admin.get(path).json["input"] == given


def test_rules_of_a_policy(tmp_path: Path) -> None:
    """With the other format the rules of the policy file decide."""
    (tmp_path / "policy.yaml").write_text('"license": "project_id:p-alice"\n')
    section = "[^x_]\ncreate = license\nread = default\nupdate = !\ndelete = @\n[.*]\n"
    rest = "".join(f"{name} = @\n" for name in ("create", "read", "update", "delete"))
    (tmp_path / "protections.conf").write_text(section + rest)
    policy = '[policy]\npolicy_file = "policy.yaml"\nproperty_protection_file = "protections.conf"\n'
    with serving("--config", str(site(tmp_path, f'{policy}property_protection_rule_format = "policies"\n'))) as client:
        alice, bob = client.as_("alice"), client.as_("bob")
        assert bob.post("/v2/images", {"x_1": "1"}).status == 403
        path = alice.image(x_1="1", other="2", visibility="community")["self"]
        assert bob.get(path).json["x_1"] == "1"
        assert replaced(alice, path, "x_1") == 403
        assert removed(alice, path, "x_1") == 200
