"""Who sees what: members on the wire, and images of other projects under every verb."""

from typing import Any

import pytest

from tests.api_serving import Client

SUFFIXES = {
    "GET": ("", "/members", "/members/p-alice", "/locations", "/tasks"),
    "PATCH": ("",),
    "DELETE": ("", "/tags/a", "/members/p-bob"),
    "PUT": ("/tags/b", "/members/p-bob"),
    "POST": ("/members", "/actions/deactivate", "/actions/reactivate", "/locations"),
}
BODIES = {
    ("PATCH", ""): [{"op": "replace", "path": "/name", "value": "stolen"}],
    ("PUT", "/members/p-bob"): {"status": "accepted"},
    ("POST", "/members"): {"member": "p-bob"},
    ("POST", "/locations"): {"url": "http://127.0.0.1/"},
}
CALLS = [(method, suffix) for method, suffixes in SUFFIXES.items() for suffix in suffixes]


@pytest.mark.parametrize(("method", "suffix"), CALLS)
@pytest.mark.parametrize("visibility", ["private", "shared"])
def test_another_projects_image(alice: Client, bob: Client, method: str, suffix: str, visibility: str) -> None:
    """An image that the caller may not see is 404 under every verb, and stays as it was: never 403."""
    image = alice.image(name="hers", visibility=visibility, tags=["a"])
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"} if method == "PATCH" else {}
    answer = bob.call(method, image["self"] + suffix, BODIES.get((method, suffix)), headers)
    assert answer.status == 404
    assert b"hers" not in answer.body
    assert alice.get(image["self"]).json == image


def test_another_projects_public_image(admin: Client, bob: Client) -> None:
    """One that the caller sees but may not change is 403."""
    image = admin.image(visibility="public", name="for all")
    path = image["self"]
    assert bob.get(path).json["name"] == "for all"
    assert bob.patch(path, [{"op": "replace", "path": "/name", "value": "x"}]).status == 403
    assert bob.delete(path).status == 403
    assert bob.put(f"{path}/tags/x").status == 403
    assert bob.post(f"{path}/actions/deactivate").status == 403
    assert bob.post(f"{path}/members", {"member": "p-bob"}).status == 403
    assert admin.get(path).json == image


def test_sharing(alice: Client, bob: Client) -> None:
    """Shared: pending, seen by name at once, listed when accepted; POST answers 200, and only members answer."""
    image = alice.image(name="shared one")
    path, members = image["self"], f"{image['self']}/members"
    assert bob.get(path).status == 404
    made = alice.post(members, {"member": "p-bob"})
    assert (made.status, made.json["status"], made.json["member_id"]) == (200, "pending", "p-bob")
    assert made.json == {**made.json, "image_id": image["id"], "schema": "/v2/schemas/member"}
    assert alice.post(members, {"member": "p-bob"}).status == 409
    assert bob.get(path).status == 200

    def listed(query: str) -> bool:
        return image["id"] in [found["id"] for found in bob.get(f"/v2/images?limit=1000{query}").json["images"]]

    assert [listed(""), listed("&member_status=pending"), listed("&member_status=all")] == [False, True, True]
    assert alice.put(f"{members}/p-bob", {"status": "accepted"}).status == 403
    accepted = bob.put(f"{members}/p-bob", {"status": "accepted"})
    assert (accepted.status, accepted.json["status"]) == (200, "accepted")
    assert [listed(""), listed("&member_status=pending"), listed("&visibility=shared")] == [True, False, True]
    assert bob.put(f"{members}/p-bob", {"status": "perhaps"}).status == 400
    assert bob.put(f"{members}/p-bob", {"status": 1}).status == 400
    assert bob.put(f"{members}/p-bob", {}).status == 400
    assert bob.patch(path, [{"op": "replace", "path": "/name", "value": "x"}]).status == 403
    assert bob.delete(path).status == 403
    assert bob.delete(f"{members}/p-bob").status == 403
    assert alice.delete(f"{members}/p-bob").status == 204
    assert alice.delete(f"{members}/p-bob").status == 404
    assert bob.get(path).status == 404


def test_members_see_themselves_alone(admin: Client, alice: Client, bob: Client) -> None:
    """The owner sees all members, a member its own entry only."""
    members = f"{alice.image()['self']}/members"
    for name in ("p-bob", "p-other"):
        assert alice.post(members, {"member": name}).status == 200
    assert [found["member_id"] for found in alice.get(members).json["members"]] == ["p-bob", "p-other"]
    assert [found["member_id"] for found in bob.get(members).json["members"]] == ["p-bob"]
    assert bob.get(members).json["schema"] == "/v2/schemas/members"
    assert bob.get(f"{members}/p-bob").status == 200
    assert bob.get(f"{members}/p-other").status == 404
    assert bob.put(f"{members}/p-other", {"status": "accepted"}).status == 404
    assert bob.post(members, {"member": "p-friend"}).status == 403
    assert len(admin.get(members).json["members"]) == 2
    assert alice.get(f"{members}/p-none").status == 404


def test_what_is_no_member(alice: Client) -> None:
    """Malformed members are 400, members of images that are not shared 403."""
    members = f"{alice.image()['self']}/members"
    bodies: tuple[Any, ...] = ({}, {"member": ""}, {"member": 1}, {"member": "m" * 256}, [], {"member": "a\0"}, b"{")
    for body in bodies:
        assert alice.post(members, body).status == 400
    private = f"{alice.image(visibility='private')['self']}/members"
    assert alice.post(private, {"member": "p-bob"}).status == 403
    assert alice.get(private).status == 403
    assert alice.get(f"{private}/p-bob").status == 404


def test_member_quota(alice: Client) -> None:
    """The 129th member is 413."""
    members = f"{alice.image()['self']}/members"
    assert {alice.post(members, {"member": f"m{n}"}).status for n in range(128)} == {200}
    assert alice.post(members, {"member": "one more"}).status == 413


def test_community(alice: Client, bob: Client) -> None:
    """Community images are found by name, not in others' lists unless they ask."""
    image = alice.image(visibility="community", name="for the curious")

    def listed(query: str) -> bool:
        return image["id"] in [found["id"] for found in bob.get(f"/v2/images?limit=1000{query}").json["images"]]

    assert bob.get(image["self"]).status == 200
    assert [listed(""), listed("&visibility=community"), listed("&visibility=all")] == [False, True, True]
