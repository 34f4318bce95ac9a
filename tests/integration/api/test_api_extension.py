"""Routes that Glance does not have, below /casimg/v1: snapshots at once, differences, figures; who may see them."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.api_serving import Client, serving, site
from tests.conftest import mixed_bytes

V1 = "/casimg/v1"
SEGMENT = 4 << 20
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of its own, so that figures are those of this module's images."""
    with serving("--config", str(site(tmp_path_factory.mktemp("extension")))) as client:
        yield client


def stored(client: Client, data: bytes, **attributes: Any) -> dict[str, Any]:
    """Make an image with data; return it as the server tells it."""
    image = client.image(**{"disk_format": "raw", "container_format": "bare", "visibility": "private", **attributes})
    answer = client.call("PUT", f"/v2/images/{image['id']}/file", data, OCTETS)
    assert answer.status == 204, answer.body
    found: dict[str, Any] = client.get(f"/v2/images/{image['id']}").json
    return found


def bytes_of(client: Client, image_id: str) -> bytes:
    answer = client.get(f"/v2/images/{image_id}/file")
    assert answer.status == 200
    return answer.body


def test_a_snapshot_is_an_image_with_the_same_bytes(alice: Client) -> None:
    """A snapshot is made at once, as POST /v2/images answers, with the parent's data, formats and properties."""
    data = bytes(mixed_bytes(300_000, 91))
    parent = stored(alice, data, name="web", min_ram=512, os_distro="debian", flavour="small", tags=["a"])
    body = {"name": "web-1", "flavour": "large", "tags": ["b"], "visibility": "shared", "os_hidden": True}
    made = alice.post(f"{V1}/images/{parent['id']}/snapshot", body)
    assert made.status == 201
    image = made.json
    assert made.header("Location") is not None
    assert str(made.header("Location")).endswith(f"/v2/images/{image['id']}")
    assert (image["status"], image["name"], image["owner"], image["visibility"]) == (
        *("active", "web-1", "p-alice", "shared"),
    )
    assert (image["os_distro"], image["flavour"], image["tags"], image["min_ram"]) == ("debian", "large", ["b"], 512)
    assert image["os_hidden"] is True
    same = ("size", "checksum", "os_hash_value", "disk_format", "container_format", "virtual_size")
    assert {name: image[name] for name in same} == {name: parent[name] for name in same}
    assert alice.get(f"/v2/images/{image['id']}").json == image
    assert alice.delete(f"/v2/images/{parent['id']}").status == 204
    assert bytes_of(alice, image["id"]) == data


def test_who_may_make_a_snapshot(admin: Client, alice: Client, bob: Client) -> None:
    """Of an image that a caller sees it may make its own snapshot if it may download it; of others it is 404."""
    data = bytes(mixed_bytes(10_000, 92))
    image = stored(alice, data)
    path = f"{V1}/images/{image['id']}/snapshot"
    assert bob.post(path, {}).status == 404
    assert bob.as_(None).post(path, {}).status == 401
    assert bob.as_("reader").post(path, {}).status == 403  # sees it, may not download it
    assert bob.as_("nobody").post(path, {}).status == 404
    assert alice.post(f"/v2/images/{image['id']}/members", {"member": "p-bob"}).status == 403
    shared = alice.patch(f"/v2/images/{image['id']}", [{"op": "replace", "path": "/visibility", "value": "shared"}])
    assert shared.status == 200
    assert alice.post(f"/v2/images/{image['id']}/members", {"member": "p-bob"}).status == 200
    made = bob.post(path, {"name": "bobs"})
    assert (made.status, made.json["owner"]) == (201, "p-bob")
    assert bytes_of(bob, made.json["id"]) == data
    assert bob.post(path, {"visibility": "public"}).status == 403
    assert bob.post(path, {"owner": "p-alice"}).status == 403
    assert admin.post(path, {"owner": "p-alice", "visibility": "public"}).json["owner"] == "p-alice"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": str(uuid.uuid4())}, 403),
        ({"disk_format": "raw"}, 403),
        ({"size": 5}, 403),
        ({"os_glance_x": "y"}, 403),
        ({"locations": []}, 403),
        ({"name": 5}, 400),
        ({"min_disk": -1}, 400),
        ({"tags": [str(n) for n in range(129)]}, 413),
        ([], 400),
        (b"{", 400),
        (None, 400),
    ],
)
def test_what_a_snapshot_cannot_be(alice: Client, body: Any, status: int) -> None:
    """What POST /v2/images refuses is refused here too, and so is what comes from the parent."""
    image = stored(alice, b"x" * 5000)
    assert alice.post(f"{V1}/images/{image['id']}/snapshot", body).status == status


def test_only_active_images_have_snapshots(alice: Client) -> None:
    """An image without data, or one that was deactivated, is 409; one that is no image 404."""
    queued = alice.image(name="queued")
    assert alice.post(f"{V1}/images/{queued['id']}/snapshot", {}).status == 409
    image = stored(alice, b"y" * 5000)
    assert alice.post(f"/v2/images/{image['id']}/actions/deactivate").status == 204
    assert alice.post(f"{V1}/images/{image['id']}/snapshot", {}).status == 409
    assert alice.post(f"{V1}/images/{uuid.uuid4()}/snapshot", {}).status == 404


def test_a_snapshot_counts_for_the_quota(tmp_path: Path) -> None:
    """A snapshot adds its whole size to what the project has, though it stores nothing: 413 when that is too much."""
    config = '[data]\nuser_storage_quota = "25KB"\n'
    with serving("--config", str(site(tmp_path, config))) as client:
        alice = client.as_("alice")
        image = stored(alice, bytes(mixed_bytes(10 << 10, 93)))
        path = f"{V1}/images/{image['id']}/snapshot"
        assert alice.post(path, {}).status == 201
        refused = alice.post(path, {})
        assert refused.status == 413
        assert "quota" in refused.json["message"]


def test_where_images_differ(alice: Client) -> None:
    """The ranges cover every byte that differs and no segment that is the same; pages follow each other."""
    data = bytes(mixed_bytes(5 * SEGMENT, 94))
    changed = bytearray(data)
    places = (100, SEGMENT + 7, 3 * SEGMENT + 5)
    for at in places:
        changed[at] ^= 255
    a, b = stored(alice, data), stored(alice, bytes(changed) + b"more")
    path = f"{V1}/images/{a['id']}/diff?other={b['id']}"
    found = alice.get(path).json
    assert (found["size"], found["other_size"]) == (len(data), len(data) + 4)
    assert found["same_size"] + found["different_size"] == len(data) + 4
    assert 0 < found["only_in_other_size"] <= found["different_size"]
    ranges = [(one["offset"], one["offset"] + one["size"]) for one in found["ranges"]]
    assert sum(end - start for start, end in ranges) == found["different_size"]
    for at in (*places, len(data)):
        assert any(start <= at < end for start, end in ranges)
    assert not any(start < 3 * SEGMENT and end > 2 * SEGMENT for start, end in ranges)
    assert "next" not in found
    paged, link = [], f"{path}&limit=1"
    while link:
        page = alice.get(link).json
        assert len(page["ranges"]) == 1
        paged += page["ranges"]
        link = page.get("next", "")
    assert paged == found["ranges"]
    same = alice.get(f"{V1}/images/{a['id']}/diff?other={a['id']}").json
    assert (same["different_size"], same["ranges"]) == (0, [])


def test_who_may_compare(admin: Client, alice: Client, bob: Client) -> None:
    """Both images must be the caller's own: what others share with it tells about them. Administrators see all."""
    mine, shared = stored(bob, b"a" * 9000), stored(alice, b"b" * 9000, visibility="shared")
    assert alice.post(f"/v2/images/{shared['id']}/members", {"member": "p-bob"}).status == 200
    path = f"{V1}/images/{mine['id']}/diff?other={shared['id']}"
    assert bob.get(path).status == 403
    assert bob.get(f"{V1}/images/{shared['id']}/diff?other={mine['id']}").status == 403
    assert bob.get(f"{V1}/images/{mine['id']}/diff?other={uuid.uuid4()}").status == 404
    assert alice.get(path).status == 404
    assert admin.get(path).status == 200
    queued = bob.image(name="queued")
    assert bob.get(f"{V1}/images/{mine['id']}/diff?other={queued['id']}").status == 409


@pytest.mark.parametrize("query", ["", "?other=", "?other=x", "?limit=x", "?marker=-1", "?marker=" + "9" * 20])
def test_comparisons_that_cannot_be(alice: Client, query: str) -> None:
    """Queries that name no image, no number or no place are 400 or 404, never a fault."""
    image = stored(alice, b"c" * 9000)
    if "other" not in query and query:
        query += f"&other={image['id']}"
    answer = alice.get(f"{V1}/images/{image['id']}/diff{query}")
    assert answer.status == (404 if query == "?other=x" else 400)


def test_figures(own_server: Client) -> None:
    """Totals, an image's share, lineages and projects add up, and only administrators see what is shared."""
    admin, alice, bob = (own_server.as_(who) for who in ("admin", "alice", "bob"))
    data, more = bytes(mixed_bytes(SEGMENT, 95)), bytes(mixed_bytes(SEGMENT, 96))
    first = stored(alice, data)
    second = stored(bob, data + more)
    child = alice.post(f"{V1}/images/{first['id']}/snapshot", {}).json
    alice.image(name="queued")

    totals = admin.get(f"{V1}/stats").json
    assert (totals["image_count"], totals["content_count"], totals["virtual_size"]) == (3, 2, 4 * SEGMENT)
    assert totals["unique_size"] <= 2 * SEGMENT + (64 << 10)
    assert totals["dedup_ratio"] > 1.3
    assert (totals["last_gc"], totals["gc_running_since"], totals["gc_failure"]) == (None, None, None)
    assert datetime.fromisoformat(totals["next_gc_at"]) > datetime.now(UTC) + timedelta(hours=23)
    assert [space["name"] for space in totals["spaces"]] == ["local", "spool"]

    usage = admin.get(f"{V1}/images/{second['id']}/usage").json
    assert (usage["image_id"], usage["owner"], usage["size"]) == (second["id"], "p-bob", 2 * SEGMENT)
    assert usage["own_size"] + usage["shared_size"] == usage["unique_size"]
    assert 0 < usage["own_size"] < 2 * SEGMENT

    report = admin.get(f"{V1}/dedup").json
    by_id = {one["image_id"]: one for one in report["images"]}
    assert set(by_id) == {first["id"], second["id"], child["id"]}
    assert by_id[child["id"]]["parent_id"] == first["id"]
    assert by_id[first["id"]]["own_size"] == 0
    assert by_id[second["id"]] == usage
    roots = {one["root_id"]: one["image_count"] for one in report["lineages"]}
    assert roots == {first["id"]: 2, second["id"]: 1}

    projects = {one["project_id"]: one for one in admin.get(f"{V1}/usage?stored=true").json["projects"]}
    assert set(projects) == {"p-alice", "p-bob"}
    assert (projects["p-alice"]["image_count"], projects["p-alice"]["size"]) == (3, 2 * SEGMENT)
    assert projects["p-alice"]["own_size"] == 0
    assert projects["p-alice"]["unique_size"] <= projects["p-bob"]["unique_size"]
    assert projects["p-bob"]["own_stored_size"] > 0
    logical = admin.get(f"{V1}/usage").json["projects"]
    assert [sorted(one) for one in logical] == [
        ["image_count", "project_id", "size", "staged_size", "uploading_count"]
    ] * 2

    assert bob.get(f"{V1}/usage").json["projects"] == [one for one in logical if one["project_id"] == "p-bob"]
    assert bob.get(f"{V1}/usage?stored=true").status == 403
    assert admin.get(f"{V1}/usage?stored=maybe").status == 400
    for path in ("stats", "dedup", f"images/{second['id']}/usage"):
        assert bob.get(f"{V1}/{path}").status == 403
    assert alice.get(f"{V1}/images/{second['id']}/usage").status == 404
    assert own_server.as_("nobody").get(f"{V1}/usage").status == 403


def test_the_extension_is_like_the_rest(alice: Client) -> None:
    """Errors, request ids and refusals of methods and tokens are those of /v2; no version stands before the path."""
    answer = alice.get(f"{V1}/stats", **{"X-OpenStack-Request-ID": "req-mine"})
    assert answer.status == 403
    assert answer.header("x-openstack-request-id") == "req-mine"
    assert answer.json["code"] == "403 Forbidden"
    wrong = alice.delete(f"{V1}/stats")
    assert (wrong.status, wrong.header("Allow")) == (405, "GET")
    assert alice.get(f"{V1}/nothing").status == 404
    assert alice.get("/casimg/v9/stats").status == 404
    assert alice.get("/casimg").status == 404
    assert alice.get(f"/v2{V1}/stats").status == 404
    assert alice.as_(None).get(f"{V1}/stats").status == 401
    assert alice.as_("forged").get(f"{V1}/stats").status == 401
    media_type = {"Accept": "application/vnd.openstack.images-v2.1"}
    assert alice.call("GET", f"{V1}/usage", None, media_type).status == 200


def test_the_description_is_served(alice: Client) -> None:
    """Whoever has a token gets the description of the service; it has the path that it came from."""
    answer = alice.get(f"{V1}/openapi.json")
    assert (answer.status, answer.header("Content-Type")) == (200, "application/json")
    assert answer.json["openapi"] == "3.1.0"
    assert "get" in answer.json["paths"][f"{V1}/openapi.json"]
    assert alice.as_(None).get(f"{V1}/openapi.json").status == 401
