"""Locations that clients give images by patches, and data that are passed on from web servers, over sockets."""

import hashlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import casimg
from casimg.errors import DataElsewhereError
from tests.conftest import mixed_bytes
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.locating import V20, add, configured, located, locations, patch, serving_located
from tests.integration.api.data.serving import Server
from tests.integration.api.data.web import Page, Web, web

DATA = bytes(mixed_bytes(1_500_000, 41))
SHA512 = hashlib.sha512(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()
HASHES = {"os_hash_algo": "sha512", "os_hash_value": SHA512, "checksum": MD5}


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
    """A web server with an image, and what else web servers do."""
    with web() as found:
        found.pages |= {
            "/image": Page(DATA),
            "/same": Page(DATA),
            "/other": Page(DATA[::-1]),
            "/small": Page(DATA[:1000]),
            "/ungenerous": Page(DATA, has_ranges=False),
            "/unsaid": Page(DATA, announced=-1),
            "/signed": Page(DATA, head=403),
            "/empty": Page(),
            "/error": Page(status=500),
            "/moved": Page(status=302, location="/image"),
            "/inside": Page(status=302, location=found.url("/image", "localhost")),
            "/hidden": Page(status=302, location=f"http://2130706433:{found.port}/image"),
            "/file": Page(status=302, location="file:///etc/passwd"),
            "/ring": Page(status=302, location="/ring"),
            "/cut": Page(DATA, cut_at=1_000_000),
            "/liar": Page(DATA, announced=len(DATA) + 5),
        }
        yield found


@pytest.fixture(scope="module")
def server(source: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that shows locations and may ask the web server."""
    with serving_located(source, tmp_path_factory.mktemp("located")) as served:
        yield served


def test_a_location_makes_an_image_active(server: Server, source: Web) -> None:
    """A queued image with a location is active, without hashes, told with its location and its size; as in Glance."""
    image_id = server.create()
    assert server.show(image_id)["locations"] == []
    assert "direct_url" not in server.show(image_id)
    url = source.url("/image")
    answer = add(server, image_id, url, metadata={"foo": "bar"})
    assert answer.status == 200, answer
    image = answer.json()
    assert (image["status"], image["size"]) == ("active", len(DATA))
    assert image["locations"] == [{"url": url, "metadata": {"foo": "bar"}}]
    assert image["direct_url"] == url
    assert [image[name] for name in ("checksum", "os_hash_algo", "os_hash_value")] == [None] * 3
    assert server.show(image_id) == image
    assert locations(server, image_id) == image["locations"]
    listed = server.ask("GET", f"/v2/images?size_min={len(DATA)}&id={image_id}").json()["images"]
    assert listed == [image]


@pytest.mark.parametrize("path", ["/moved", "/signed", "/image#part"])
def test_where_data_may_be(server: Server, source: Web, path: str) -> None:
    """Redirects are followed, servers that know no HEAD are asked by GET, fragments are the client's."""
    image_id = located(server, source.url(path))
    assert server.show(image_id)["size"] == len(DATA)
    assert server.download(image_id).data == DATA


REFUSED = [
    *(
        "file:///etc/passwd",
        "swift://u:p@host/c/o",
        "rbd://fsid/pool/image/snap",
        "swift+config://ref/c/o",
        "cinder://x",
    ),
    *("gopher://info.cern.ch", "", "http:", "http://", "no url", "/etc/passwd", "HTTP:/x", "casimg://x/local/y"),
    *("http://127.1:{port}/image", "http://0x7f000001:{port}/image", "http://2130706433:{port}/image"),
    *("http://[::ffff:127.0.0.1]:{port}/image", "http://localhost:{port}/image", "http://127.0.0.1:1/image"),
    *("http://user:secret@127.0.0.1:{port}/image", "http://127.0.0.1:{port}/none", "http://127.0.0.1:{port}/error"),
    *("http://127.0.0.1:{port}/empty", "http://127.0.0.1:{port}/unsaid", "http://127.0.0.1:{port}/inside"),
    *("http://127.0.0.1:{port}/hidden", "http://127.0.0.1:{port}/file", "http://127.0.0.1:{port}/ring"),
    *("http://127.0.0.1:{port}/\\..\\image", "http://169.254.169.254/latest/meta-data/"),
]


@pytest.mark.parametrize("url", REFUSED)
def test_where_data_may_not_be(server: Server, source: Web, url: str) -> None:
    """Other schemes, hosts and ports, addresses that hide, redirects to them, and what has no size: 400, and queued."""
    image_id = server.create()
    answer = add(server, image_id, url.format(port=source.port))
    assert answer.status == 400, answer
    assert b"secret" not in answer.data
    image = server.show(image_id)
    assert (image["status"], image["locations"], image["size"]) == ("queued", [], None)


def test_several_locations(server: Server, source: Web) -> None:
    """Locations stand where they were put; one of another size, and one that is there, is 400; eleven are 413."""
    image_id = located(server, source.url("/image"))
    assert add(server, image_id, source.url("/same"), "0").status == 200
    assert add(server, image_id, source.url("/moved"), "1").status == 200
    assert add(server, image_id, source.url("/image#2"), "99").status == 200
    urls = [source.url(path) for path in ("/same", "/moved", "/image", "/image#2")]
    assert [one["url"] for one in server.show(image_id)["locations"]] == urls
    assert server.show(image_id)["direct_url"] == urls[0]
    assert add(server, image_id, source.url("/image")).status == 400
    assert add(server, image_id, source.url("/image"), metadata={"a": 1}).status == 200
    assert add(server, image_id, source.url("/small")).status == 400
    for where in ("x", "-1", "1.0", "²", "٣", "99999999", " "):
        assert add(server, image_id, source.url("/image#new"), where).status == 400, where
    for number in range(5):
        assert add(server, image_id, source.url(f"/image#n{number}")).status == 200
    answer = add(server, image_id, source.url("/image#n9"))
    assert answer.status == 413, answer
    assert len(server.show(image_id)["locations"]) == 10


def test_locations_are_removed(server: Server, source: Web) -> None:
    """Any may be removed but the last: 403; one that is not there is 400; the data of the others are still there."""
    image_id = located(server, source.url("/image"))
    assert add(server, image_id, source.url("/same")).status == 200
    for where in ("2", "x", "-1"):
        assert patch(server, image_id, {"op": "remove", "path": f"/locations/{where}"}).status == 400
    assert patch(server, image_id, {"op": "remove", "path": "/locations"}).status == 400
    assert patch(server, image_id, {"remove": "/locations/0"}, media_type=V20).status == 200
    assert [one["url"] for one in server.show(image_id)["locations"]] == [source.url("/same")]
    for where in ("0", "-"):
        assert patch(server, image_id, {"op": "remove", "path": f"/locations/{where}"}).status == 403
    assert server.download(image_id).data == DATA
    queued = server.create()
    assert patch(server, queued, {"op": "remove", "path": "/locations/0"}).status == 409


def test_locations_are_replaced(server: Server, source: Web) -> None:
    """All at once: of a queued image by any, of another one only what is said of them and their order; none is 403."""

    def replace(image_id: str, *value: dict[str, Any]) -> int:
        return patch(server, image_id, {"op": "replace", "path": "/locations", "value": list(value)}).status

    first, second = ({"url": source.url(path), "metadata": {}} for path in ("/image", "/same"))
    image_id = server.create()
    assert replace(image_id) == 403
    assert replace(image_id, first, first) == 400
    assert replace(image_id, first, {**second, "url": source.url("/small")}) == 400
    assert replace(image_id, {"url": source.url("/image")}) == 400
    assert server.show(image_id)["status"] == "queued"
    assert replace(image_id, first, second) == 200
    assert server.show(image_id)["locations"] == [first, second]
    assert replace(image_id, first, second) == 200
    dated = {**first, "metadata": {"date": "2015-10-15", "deep": {"a": [1, None]}}}
    assert replace(image_id, second, dated) == 200
    assert replace(image_id, dated) == 400
    assert replace(image_id, dated, {**second, "url": source.url("/image#3")}) == 400
    assert server.show(image_id)["locations"] == [second, dated]


def test_what_clients_say_of_data(server: Server, source: Web) -> None:
    """Hashes that come with the first location are the image's; others later, or what are none, are 409."""
    url = source.url("/image")
    for wrong in (
        {**HASHES, "os_hash_algo": "sha256"},
        {**HASHES, "os_hash_value": "a" * 64},
        {**HASHES, "os_hash_value": "x" * 128},
        {**HASHES, "checksum": "x" * 32},
    ):
        assert add(server, server.create(), url, validation_data=wrong).status == 409
    empty: dict[str, str] = {}
    for malformed in (empty, {"os_hash_algo": "sha512"}, {**HASHES, "checksum": "1"}, {**HASHES, "more": "1"}):
        assert add(server, server.create(), url, validation_data=malformed).status == 400
    image_id = located(server, url, validation_data=HASHES)
    image = server.show(image_id)
    assert [image[name] for name in HASHES] == list(HASHES.values())
    assert "validation_data" not in image["locations"][0]
    assert server.download(image_id).headers["content-md5"] == MD5
    assert add(server, image_id, source.url("/same"), validation_data=HASHES).status == 200
    for name, value in (("checksum", "2" * 32), ("os_hash_value", "b" * 128), ("os_hash_algo", "sha256")):
        assert add(server, image_id, source.url("/image#x"), validation_data={**HASHES, name: value}).status == 409
    plain = located(server, url)
    assert add(server, plain, source.url("/same"), validation_data=HASHES).status == 409
    found = server.ask("GET", f"/v2/images?os_hash_value={SHA512}&checksum={MD5}").json()["images"]
    assert [one["id"] for one in found] == [image_id]


def test_a_patch_is_all_or_nothing(server: Server, source: Web) -> None:
    """Formats may come in the same patch; what is refused in it takes everything with it; formats first."""
    formless = server.create(disk_format=None)
    value = {"url": source.url("/image"), "metadata": {}}
    location = {"op": "add", "path": "/locations/-", "value": value}
    assert patch(server, formless, location).status == 400
    formats = {"op": "add", "path": "/disk_format", "value": "raw"}
    refused = {"op": "add", "path": "/locations/-", "value": {**value, "url": source.url("/none")}}
    assert patch(server, formless, formats, location, refused).status == 400
    assert server.show(formless)["disk_format"] is None
    again = {"op": "add", "path": "/locations/-", "value": {**value, "url": source.url("/same")}}
    answer = patch(server, formless, formats, location, again, {"op": "remove", "path": "/locations/0"})
    assert answer.status == 200, answer
    assert [one["url"] for one in answer.json()["locations"]] == [source.url("/same")]
    assert answer.json()["disk_format"] == "raw"


def test_one_request_asks_few_servers(server: Server, source: Web) -> None:
    """A patch with very many new URLs is 413, and few of them were asked."""
    image_id = located(server, source.url("/image"))
    before = len(source.asked)
    changes: list[dict[str, Any]] = []
    for number in range(500):
        value = {"url": source.url(f"/image?{number}"), "metadata": {}}
        changes += [{"op": "add", "path": "/locations/-", "value": value}, {"op": "remove", "path": "/locations/-"}]
    assert patch(server, image_id, *changes).status == 413
    assert len(source.asked) - before <= 32


def test_own_data_have_a_name(server: Server, source: Web) -> None:
    """Data in the repository are told under a name of its own, which no other image can be given, and no path."""
    image_id = server.create()
    assert server.upload(image_id, DATA).status == 204
    image = server.show(image_id)
    (own,) = image["locations"]
    assert own["url"].startswith("casimg://")
    assert own["url"].endswith(f"/local/{image_id}")
    assert image["direct_url"] == own["url"]
    assert own["metadata"] == {}
    other = server.create()
    assert add(server, other, own["url"]).status == 400
    assert add(server, image_id, own["url"]).status == 400
    value = [{**own, "metadata": {"a": "b"}}]
    assert patch(server, image_id, {"op": "replace", "path": "/locations", "value": value}).status == 400
    assert patch(server, image_id, {"op": "replace", "path": "/locations", "value": [own]}).status == 200
    assert patch(server, image_id, {"op": "remove", "path": "/locations/0"}).status == 403
    assert add(server, image_id, source.url("/image"), "0").status == 200
    assert [one["url"] for one in server.show(image_id)["locations"]] == [own["url"], source.url("/image")]
    assert server.download(image_id).headers["etag"]


def test_own_data_can_be_left(serve: Serve, source: Web) -> None:
    """An image whose own data are removed has those elsewhere, with its hashes, and its space comes back."""
    server = serve(configured(source))
    image_id = server.create()
    assert server.upload(image_id, DATA).status == 204
    assert add(server, image_id, source.url("/image")).status == 200
    assert patch(server, image_id, {"op": "remove", "path": "/locations/0"}).status == 200
    image = server.show(image_id)
    assert (image["os_hash_value"], image["checksum"], image["size"]) == (SHA512, MD5, len(DATA))
    assert image["direct_url"] == source.url("/image")
    assert server.download(image_id).data == DATA
    repository = server.log.parent / "repository"
    with casimg.open(repository) as repo:
        report = repo.plan_gc().execute()
        assert (report.content_count, report.size > 0) == (1, True)
        assert repo.check().problems == ()
        with pytest.raises(DataElsewhereError, match="elsewhere"):
            repo.get(image_id, server.log.parent / "copy")
    assert server.download(image_id).data == DATA


def test_they_are_images_like_others(server: Server, source: Web) -> None:
    """Deactivated, hidden, shared, protected, listed: whatever an image may be, one with a location may be too."""
    image_id = located(server, source.url("/image"))
    path = f"/v2/images/{image_id}"
    assert server.ask("POST", f"{path}/actions/deactivate").status == 204
    assert server.show(image_id)["status"] == "deactivated"
    assert patch(server, image_id, {"op": "remove", "path": "/locations/0"}).status == 409
    assert add(server, image_id, source.url("/same")).status == 409
    assert server.ask("POST", f"{path}/actions/reactivate").status == 204
    for field, value in (("os_hidden", True), ("protected", True), ("name", "x"), ("os_distro", "y")):
        assert patch(server, image_id, {"op": "add", "path": f"/{field}", "value": value}).status == 200
    assert server.ask("DELETE", path).status == 403
    hidden = server.ask("GET", "/v2/images?os_hidden=true").json()["images"]
    assert [one["id"] for one in hidden] == [image_id]
    for way, body in (("PUT", b"x"), ("PUT", b"")):
        assert server.ask(way, f"{path}/file", body, {"Content-Type": "application/octet-stream"}).status == 409
    assert patch(server, image_id, {"op": "replace", "path": "/disk_format", "value": "qcow2"}).status == 403
    snapshot = server.ask("POST", f"/casimg/v1/images/{image_id}/snapshot", b"{}", {"Content-Type": "application/json"})
    assert snapshot.status == 409
    assert b"elsewhere" in snapshot.data
    assert server.ask("GET", f"/casimg/v1/images/{image_id}/usage").status == 409
    assert server.ask("GET", f"/casimg/v1/images/{image_id}/diff?other={image_id}").status == 409
    assert server.ask("GET", "/casimg/v1/stats").status == 200


def test_quotas_count_them(serve: Serve, source: Web) -> None:
    """Each location counts as much as the data: what is too much is 413, as in Glance."""
    server = serve(configured(source, f'[data]\nuser_storage_quota = "{2 * len(DATA) + 10}"\n'))
    image_id = located(server, source.url("/image"))
    assert add(server, image_id, source.url("/same")).status == 200
    assert add(server, image_id, source.url("/moved")).status == 413
    assert add(server, server.create(), source.url("/image")).status == 413
    assert server.upload(server.create(), DATA).status == 413
    (usage,) = server.ask("GET", "/casimg/v1/usage").json()["projects"]
    assert usage["size"] == 2 * len(DATA)
    assert patch(server, image_id, {"op": "remove", "path": "/locations/0"}).status == 200
    assert server.upload(server.create(), DATA).status == 204


def test_invisible_locations(serve: Serve, source: Web) -> None:
    """Without show_multiple_locations nobody sees or changes any; services are told them all the same."""
    server = serve(configured(source).replace("show_multiple_locations = true", "show_multiple_locations = false"))
    image_id = server.create()
    assert add(server, image_id, source.url("/image")).status == 403
    assert server.upload(image_id, DATA).status == 204
    image = server.show(image_id)
    assert "locations" not in image
    assert image["direct_url"].startswith("casimg://")
    assert locations(server, image_id) == [{"url": image["direct_url"], "metadata": {}}]


def test_they_are_recovered(serve: Serve, source: Web) -> None:
    """A catalog made anew from the backend knows locations, with what is said of the data."""
    server = serve(configured(source))
    image_id = located(server, source.url("/image"), metadata={"a": "b"}, validation_data=HASHES)
    both = server.create()
    assert server.upload(both, DATA).status == 204
    assert add(server, both, source.url("/same")).status == 200
    before = {name: server.show(name) for name in (image_id, both)}
    server.stop()
    repository = server.log.parent / "repository"
    (repository / "catalog.sqlite").unlink()
    report = casimg.recover(repository)
    assert (report.image_count, report.problems) == (2, ())
    server = serve(configured(source))
    after = {name: server.show(name) for name in before}
    assert after == before
    assert server.download(image_id).data == DATA
    with casimg.open(repository) as repo:
        assert repo.check().problems == ()


def test_patches_race(server: Server, source: Web) -> None:
    """Of many who add a location at the same time each gets one, and the list has them all."""
    image_id = located(server, source.url("/image"))
    statuses: list[int] = []

    def one(number: int) -> None:
        statuses.append(add(server, image_id, source.url(f"/image#{number}")).status)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 409}
    assert len(server.show(image_id)["locations"]) == 1 + statuses.count(200)


def test_bodies_that_are_none(server: Server) -> None:
    """Malformed locations are 400 whatever is wrong with them, and never the server's fault."""
    image_id = server.create()
    values: list[Any] = [None, 1, "x", [], {}, {"url": 1, "metadata": {}}, {"url": "http://x/", "metadata": []}]
    values += [{"url": "http://x/" + "y" * 300, "metadata": {}}, {"url": "http://x/\0", "metadata": {}}]
    values += [{"url": "http://x/\ud800", "metadata": {}}, {"url": "http://x/", "metadata": None}]
    for value in values:
        for path, given in (("/locations/-", value), ("/locations", [value])):
            op = "add" if path.endswith("-") else "replace"
            answer = server.ask(
                "PATCH",
                f"/v2/images/{image_id}",
                json.dumps([{"op": op, "path": path, "value": given}]).encode(),
                {"Content-Type": "application/openstack-images-v2.1-json-patch"},
            )
            assert answer.status == 400, (value, answer)
