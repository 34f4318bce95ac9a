"""`/v2/cache` of a server that has one, and who may use it; downloads are as without it, for everybody."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api_serving import Client, serving, site

DATA = b"0123456789" * 100_000
NONE = "00000000-0000-4000-8000-000000000000"
VERSIONS = ("v2.18", "v2.17", "v2.16", "v2.15", "v2.14", "v2.9", *(f"v2.{minor}" for minor in range(7, -1, -1)))


@pytest.fixture(scope="module")
def caching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with a cache, called by nobody in particular; the folder is beside its configuration."""
    config = '[cache]\nimage_cache_dir = "cache"\nworker_self_reference_url = "http://glance-1:9292"\n'
    with serving("--config", str(site(tmp_path_factory.mktemp("site"), config))) as client:
        yield client


@pytest.fixture
def admin(caching: Client) -> Client:
    return caching.as_("admin")


@pytest.fixture
def alice(caching: Client) -> Client:
    return caching.as_("alice")


@pytest.fixture
def bob(caching: Client) -> Client:
    return caching.as_("bob")


def stored(who: Client, **fields: object) -> str:
    """Make an image with data and return its id."""
    made = who.image(disk_format="raw", container_format="bare", **fields)["id"]
    path = f"/v2/images/{made}/file"
    assert who.call("PUT", path, DATA, {"Content-Type": "application/octet-stream"}).status == 204
    return str(made)


def cached(admin: Client, image_id: str) -> str:
    """Have an image fetched, and return its id when it was."""
    assert admin.put(f"/v2/cache/{image_id}").status == 202
    give_up_s = time.monotonic() + 30
    while not find(admin, image_id):
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    return image_id


def find(admin: Client, image_id: str) -> list[dict[str, object]]:
    return [image for image in admin.get("/v2/cache").json["cached_images"] if image["image_id"] == image_id]


def download(who: Client, image_id: str) -> tuple[int, bytes]:
    answer = who.get(f"/v2/images/{image_id}/file")
    return answer.status, answer.body


def test_versions(caching: Client, admin: Client) -> None:
    """The versions that came with the cache are told, in Glance's order, and are prefixes that mean /v2."""
    told = caching.get("/versions").json["versions"]
    assert tuple(version["id"] for version in told) == VERSIONS
    assert [version["id"] for version in told if version["status"] == "CURRENT"] == ["v2.18"]
    for version in VERSIONS:
        assert admin.get(f"/{version}/cache").status == 200


def test_what_is_told_of_an_image(admin: Client, alice: Client) -> None:
    """An entry has what Glance's has, and counts the downloads; its nodes are told by the name that was configured."""
    before = time.time() - 1
    image_id = cached(admin, stored(alice))
    (entry,) = find(admin, image_id)
    assert set(entry) == {"image_id", "hits", "last_accessed", "last_modified", "size"}
    assert (entry["size"], entry["hits"]) == (len(DATA), 0)
    assert before < float(str(entry["last_modified"])) <= float(str(entry["last_accessed"])) < time.time() + 1
    for _ in range(2):
        assert download(alice, image_id) == (200, DATA)
    assert find(admin, image_id)[0]["hits"] == 2
    assert admin.get(f"/v2/cache/nodes/{image_id}").json == ["http://glance-1:9292"]


def test_who_may_manage_it(admin: Client, alice: Client, bob: Client) -> None:
    """Administrators alone; an image that somebody does not see is not there."""
    image_id = cached(admin, stored(alice))
    calls = [("GET", ""), ("DELETE", ""), ("GET", f"/nodes/{image_id}"), ("POST", "/clean"), ("POST", "/prune")]
    for method, path in calls:
        assert alice.call(method, f"/v2/cache{path}").status == 403
    for method in ("PUT", "DELETE"):
        assert alice.call(method, f"/v2/cache/{image_id}").status == 403
        assert bob.call(method, f"/v2/cache/{image_id}").status == 404
    assert find(admin, image_id)


@pytest.mark.parametrize("image_id", [NONE, "x", "..", "%2e%2e%2fsecret"])
def test_images_that_are_not_there(admin: Client, image_id: str) -> None:
    """What does not exist is neither cached nor queued, nor anywhere."""
    for method, path in (("PUT", ""), ("DELETE", ""), ("GET", "/nodes")):
        assert admin.call(method, f"/v2/cache{path}/{image_id}").status == 404


def test_an_image_leaves_by_its_id(admin: Client, alice: Client) -> None:
    """DELETE takes one image from the cache and leaves others; again is harmless while the image is there."""
    image_id, other = cached(admin, stored(alice)), cached(admin, stored(alice))
    for _ in range(2):
        assert admin.delete(f"/v2/cache/{image_id.upper()}").status == 204
    assert (find(admin, image_id), len(find(admin, other))) == ([], 1)
    assert admin.get(f"/v2/cache/nodes/{image_id}").json == []
    assert download(alice, image_id) == (200, DATA)


@pytest.mark.parametrize(("target", "left"), [("queue", True), ("cache", False), ("CACHE", False), ("", False)])
def test_targets_of_clearing(admin: Client, alice: Client, target: str, left: bool) -> None:
    """The header says what is cleared, in any case; without it both are."""
    image_id = cached(admin, stored(alice))
    headers = {"x-image-cache-clear-target": target}
    assert admin.call("DELETE", "/v2/cache", headers=headers).status == 204
    assert bool(find(admin, image_id)) == left


def test_a_cached_image_is_for_those_who_may_have_it(admin: Client, alice: Client, bob: Client) -> None:
    """The cache gives nobody what the repository would not: another project's, a deactivated, a deleted image."""
    image_id = cached(admin, stored(alice, visibility="private"))
    assert download(bob, image_id)[0] == 404
    assert download(alice.as_("reader"), image_id)[0] == 403
    assert download(alice, image_id) == (200, DATA)
    hits = find(admin, image_id)[0]["hits"]
    assert admin.post(f"/v2/images/{image_id}/actions/deactivate").status == 204
    assert download(alice, image_id)[0] == 403
    assert download(admin, image_id) == (200, DATA)
    assert find(admin, image_id)[0]["hits"] == hits == 1
    assert admin.put(f"/v2/cache/{image_id}").status == 400
    assert admin.post(f"/v2/images/{image_id}/actions/reactivate").status == 204
    assert download(alice, image_id) == (200, DATA)
    assert alice.delete(f"/v2/images/{image_id}").status == 204
    assert download(alice, image_id)[0] == download(admin, image_id)[0] == 404
    assert find(admin, image_id) == []
    assert admin.delete(f"/v2/cache/{image_id}").status == 404


def test_headers_are_the_same_from_the_cache(admin: Client, alice: Client) -> None:
    """A client cannot tell where its bytes come from."""
    image_id = stored(alice)

    def heads(**asked: str) -> list[tuple[str, str]]:
        headers = alice.get(f"/v2/images/{image_id}/file", **asked).headers
        return sorted(
            (name, value) for name, value in headers if name.lower() not in ("date", "x-openstack-request-id")
        )

    before = heads(), heads(Range="bytes=5-9"), heads(Range="bytes=9999999-")
    cached(admin, image_id)
    assert (heads(), heads(Range="bytes=5-9"), heads(Range="bytes=9999999-")) == before


def test_cleaning_and_pruning(admin: Client) -> None:
    """Both answer as Glance's, and leave what is good and small enough."""
    image_id = cached(admin, stored(admin))
    answer = admin.post("/v2/cache/clean")
    assert (answer.status, answer.body) == (200, b"")
    assert admin.post("/v2/cache/prune").json == {"total_files_pruned": 0, "total_bytes_pruned": 0}
    assert find(admin, image_id)


def test_where_the_folder_is(admin: Client, alice: Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A relative path is taken from the folder of the configuration."""
    image_id = cached(admin, stored(alice))
    places = [path for path in tmp_path_factory.getbasetemp().rglob(image_id) if path.parent.name == "cache"]
    assert [(path.parent / "incomplete").is_dir() for path in places] == [True]


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """The server says in a line why it does not start."""
    path = site(tmp_path, '[cache]\nimage_cache_dir = "server.toml"\n')
    with (
        pytest.raises(AssertionError, match=r"image_cache_dir: .*server\.toml cannot be used"),
        serving("--config", str(path)),
    ):
        pass
