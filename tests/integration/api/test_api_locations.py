"""Who may see and change locations, by Glance's rules and by those of an operator."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_serving import Client, serving, site
from tests.integration.api.data.web import Page, Web, web

DATA = b"some data" * 1000


def _config(source: Web, more: str = "") -> str:
    return (
        f'[import_filtering_opts]\nallowed_hosts = ["127.0.0.1"]\nallowed_ports = [{source.port}]\n'
        f"[http_store]\nenabled = true\n[images]\nshow_multiple_locations = true\n{more}"
    )


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
    """A web server with an image."""
    with web() as found:
        found.pages["/image"] = Page(DATA)
        yield found


@pytest.fixture(scope="module")
def client(source: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with tokens that takes locations."""
    folder = tmp_path_factory.mktemp("rights")
    with serving("--config", str(site(folder, _config(source)))) as found:
        yield found


def _image(client: Client, **more: Any) -> str:
    return str(client.image(disk_format="raw", container_format="bare", **more)["self"])


def _add(url: str, where: str = "-") -> list[dict[str, Any]]:
    return [{"op": "add", "path": f"/locations/{where}", "value": {"url": url, "metadata": {}}}]


def test_who_may_set_locations(client: Client, source: Web) -> None:
    """Members of the owner's project and administrators add; others are 404 or 403; administrators alone remove."""
    alice, bob, reader, admin = (client.as_(name) for name in ("alice", "bob", "reader", "admin"))
    own, url = _image(alice), source.url("/image")
    assert bob.patch(own, _add(url)).status == 404
    assert reader.patch(own, _add(url)).status == 403
    assert alice.patch(own, _add(url)).status == 200
    assert admin.patch(own, _add(f"{url}#2")).status == 200
    seen = _image(alice, visibility="community")
    assert bob.patch(seen, _add(url)).status == 403
    remove = [{"op": "remove", "path": "/locations/0"}]
    assert alice.patch(own, remove).status == 403
    assert admin.patch(own, remove).status == 200
    assert [one["url"] for one in alice.get(own).json["locations"]] == [f"{url}#2"]


def test_who_may_say_where_data_are(client: Client, source: Web) -> None:
    """By the newer way members of the project and services add, services alone ask; what is told is the same."""
    alice, bob, reader, nova = (client.as_(name) for name in ("alice", "bob", "reader", "nova"))
    url = source.url("/image")
    for caller, status in ((alice, 202), (reader, 403), (bob, 404)):
        assert caller.post(f"{_image(alice)}/locations", {"url": url}).status == status
    seen = _image(alice, visibility="community")
    assert bob.post(f"{seen}/locations", {"url": url}).status == 403
    assert nova.post(f"{seen}/locations", {"url": "rbd://fsid/pool/image/snap"}).status == 400
    assert alice.post(f"{seen}/locations", {"url": "rbd://fsid/pool/image/snap"}).status == 403
    assert nova.post(f"{seen}/locations", {"url": url}).status == 202
    for caller, status in ((alice, 403), (bob, 403), (nova, 200)):
        assert caller.get(f"{seen}/locations").status == status
    for _ in range(200):
        if client.as_("admin").get(seen).json["status"] == "active":
            break
    assert nova.get(f"{seen}/locations").json == [{"url": url, "metadata": {}}]


def test_rules_are_the_operators(source: Web, tmp_path: Path) -> None:
    """A policy file lets whom it names do each of it: set, delete, fetch, add."""
    rules = {
        "set_image_location": "role:admin",
        "delete_image_location": "role:member",
        "fetch_image_location": "role:reader",
        "add_image_location": "role:admin",
    }
    (tmp_path / "policy.yaml").write_text("".join(f'"{name}": "{check}"\n' for name, check in rules.items()))
    policy = '[policy]\npolicy_file = "policy.yaml"\n'
    with serving("--config", str(site(tmp_path, _config(source, policy)))) as client:
        alice, admin = client.as_("alice"), client.as_("admin")
        own, url = _image(alice), source.url("/image")
        assert alice.patch(own, _add(url)).status == 403
        assert alice.post(f"{own}/locations", {"url": url}).status == 403
        assert admin.patch(own, _add(url)).status == 200
        assert admin.patch(own, _add(f"{url}#2")).status == 200
        assert alice.patch(own, [{"op": "remove", "path": "/locations/0"}]).status == 200
        assert alice.get(f"{own}/locations").json == [{"url": f"{url}#2", "metadata": {}}]


def test_a_snapshot_of_nova(client: Client, source: Web) -> None:
    """What Nova does for a disk that is elsewhere: an image, formats, a location; versions say that it can."""
    alice = client.as_("alice")
    versions = [one["id"] for one in client.get("/versions").json["versions"]]
    assert "v2.17" in versions
    path = str(alice.image(name="snapshot", visibility="private")["self"])
    changes = [
        {"op": "add", "path": f"/{name}", "value": value} for name, value in (("disk_format", "raw"), ("a", "b"))
    ]
    assert alice.patch(path, [*changes, {"op": "add", "path": "/container_format", "value": "bare"}]).status == 200
    assert alice.post(f"{path}/locations", {"url": source.url("/image"), "validation_data": {}}).status == 202
    for _ in range(500):
        image = alice.get(path).json
        if image["os_hash_value"]:
            break
    assert (image["status"], image["size"]) == ("active", len(DATA))
    assert alice.get(f"{path}/file").body == DATA
