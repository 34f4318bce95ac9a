"""A server that lets in whoever has no token: public images are read, and nothing else."""

from collections.abc import Iterator

import pytest

from tests.api_serving import Client, serving, site

AUTH = '[auth]\nmode = "tokens"\ntokens_file = "tokens.toml"\nallow_anonymous_access = true\n'
OCTETS = {"Content-Type": "application/octet-stream"}
FORMATS = {"disk_format": "raw", "container_format": "bare"}


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The server, called without a token."""
    with serving("--config", str(site(tmp_path_factory.mktemp("open"), AUTH))) as client:
        yield client


@pytest.fixture(scope="module")
def images(open_server: Client) -> dict[str, str]:
    """The path of an image with data of each visibility, and of a public one without an owner."""
    admin = open_server.as_("admin")
    found = {one: admin.image(name=one, visibility=one, **FORMATS)["self"] for one in ("public", "private", "shared")}
    found["community"] = admin.image(name="community", visibility="community", **FORMATS)["self"]
    found["ownerless"] = admin.image(name="ownerless", visibility="shared", owner=None, **FORMATS)["self"]
    for path in found.values():
        assert admin.call("PUT", f"{path}/file", b"data", OCTETS).status == 204
    return found


def test_public_images_are_read(open_server: Client, images: dict[str, str]) -> None:
    """Without a token public images are listed, shown and downloaded, and the schemas that describe them."""
    assert open_server.get(images["public"]).json["name"] == "public"
    assert open_server.get(f"{images['public']}/file").body == b"data"
    assert open_server.get("/v2/schemas/image").status == 200
    assert open_server.call("GET", "/v2/info/usage").json == {"usage": {}}
    for query in ("", "?visibility=public", "?visibility=all", "?visibility=all&limit=1", "?name=public"):
        assert [one["name"] for one in open_server.get(f"/v2/images{query}").json["images"]] == ["public"]


def test_other_images_are_not_there(open_server: Client, images: dict[str, str]) -> None:
    """Images that are not public are 404 in every respect, community images and those of nobody too."""
    for name in ("private", "shared", "community", "ownerless"):
        for part in ("", "/file", "/members", "/tasks", "/locations"):
            assert open_server.get(f"{images[name]}{part}").status == 404, (name, part)
    for name in ("private", "shared", "community"):
        assert open_server.get(f"/v2/images?visibility={name}").json["images"] == []


def test_nothing_is_changed(open_server: Client, images: dict[str, str]) -> None:
    """Every change is 403, of public images too."""
    path = images["public"]
    before = open_server.get(path).json
    done = [
        open_server.post("/v2/images", {}),
        open_server.patch(path, [{"op": "replace", "path": "/name", "value": "n"}]),
        open_server.patch(path, []),
        open_server.delete(path),
        open_server.put(f"{path}/tags/t"),
        open_server.post(f"{path}/members", {"member": "p-bob"}),
        open_server.post(f"{path}/actions/deactivate"),
        open_server.post(f"{path}/import", {"method": {"name": "glance-direct"}}),
        open_server.call("PUT", f"{path}/file", b"x", OCTETS),
        open_server.post("/v2/tasks", {}),
        open_server.post("/v2/metadefs/namespaces", {"namespace": "n"}),
        open_server.post(f"/casimg/v1/images/{before['id']}/snapshot", {}),
    ]
    assert [answer.status for answer in done] == [403] * len(done)
    assert open_server.get(path).json == before


def test_nothing_else_is_read(open_server: Client, images: dict[str, str]) -> None:
    """What is not an image is refused: tasks, metadata definitions, figures; tasks of a public image are not told."""
    image_id = images["public"].rpartition("/")[2]
    for path in ("/v2/tasks", "/casimg/v1/stats", "/casimg/v1/usage", "/casimg/v1/dedup"):
        assert open_server.get(path).status == 403, path
    assert open_server.get("/v2/metadefs/namespaces").status == 404
    assert open_server.get(f"{images['public']}/locations").status == 403
    assert open_server.get(f"/casimg/v1/images/{image_id}/usage").status == 403
    assert open_server.get(f"{images['public']}/tasks").json == {"tasks": []}


def test_a_token_counts(open_server: Client, images: dict[str, str]) -> None:
    """Who has a token is who it says; one that is not valid is 401, not a stranger."""
    assert open_server.as_("admin").get(images["private"]).status == 200
    for name in ("X-Auth-Token", "X-Storage-Token", "X-Service-Token"):
        assert open_server.call("GET", "/v2/images", headers={name: "wrong"}).status == 401
    assert open_server.get("/casimg/v1/openapi.json").json["security"] == [{"token": []}, {}]


def test_without_it_a_token_is_wanted(server: Client) -> None:
    """As shipped nobody comes in without a token."""
    assert server.get("/v2/images").status == 401
