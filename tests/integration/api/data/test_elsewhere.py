"""Data of images on web servers, passed on over sockets: whole, in part, and whatever web servers do instead."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import mixed_bytes
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.locating import add, configured, located, serving_located
from tests.integration.api.data.serving import Server
from tests.integration.api.data.web import Page, Web, web

DATA = bytes(mixed_bytes(1_500_000, 41))
SHA512 = hashlib.sha512(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()
HASHES = {"os_hash_algo": "sha512", "os_hash_value": SHA512, "checksum": MD5}


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
    """A web server with an image in several places."""
    with web() as found:
        found.pages |= {path: Page(DATA) for path in ("/image", "/same")}
        found.pages["/ungenerous"] = Page(DATA, has_ranges=False)
        yield found


@pytest.fixture(scope="module")
def server(source: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that shows locations and may ask the web server."""
    with serving_located(source, tmp_path_factory.mktemp("located")) as served:
        yield served


def test_data_are_passed_on(server: Server, source: Web) -> None:
    """A download comes from the web server byte for byte, without a tag that nobody could promise; ranges too."""
    image_id = located(server, source.url("/image"))
    answer = server.download(image_id)
    assert (answer.status, answer.data) == (200, DATA)
    assert answer.headers["content-length"] == str(len(DATA))
    assert "etag" not in answer.headers
    for asked, start_at, end in (("0-0", 0, 1), ("1000-70000", 1000, 70001), ("-10", len(DATA) - 10, len(DATA))):
        part = server.download(image_id, {"Range": f"bytes={asked}"})
        assert (part.status, part.data) == (206, DATA[start_at:end])
        assert part.headers["content-range"] == f"bytes {start_at}-{end - 1}/{len(DATA)}"
    assert server.download(image_id, {"Range": f"bytes={len(DATA)}-"}).status == 416
    assert server.download(image_id, {"Range": "bytes=0-9", "If-Range": '"x"'}).status == 200


def test_a_server_without_ranges(server: Server, source: Web) -> None:
    """A range from a server that gives all or nothing is 400, as of Glance's stores that cannot; all of it is 200."""
    image_id = located(server, source.url("/ungenerous"))
    assert server.download(image_id, {"Range": "bytes=5-9"}).status == 400
    assert server.download(image_id).data == DATA


def test_data_that_changed_are_not_passed_off(server: Server, source: Web) -> None:
    """Other bytes than the hash says are cut before their end, another size is 503; so is a server that has none."""
    source.pages |= {"/changing": Page(DATA), "/tiny": Page(DATA[:5000])}
    image_id = located(server, source.url("/changing"), validation_data=HASHES)
    tiny = DATA[:5000]
    said = {"os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(tiny).hexdigest()}
    small = located(server, source.url("/tiny"), validation_data=said)
    assert server.download(image_id).data == DATA
    source.pages |= {"/changing": Page(DATA[::-1]), "/tiny": Page(tiny[::-1])}
    head, body = _download(server, image_id)
    assert head.startswith(b"HTTP/1.1 200")
    assert len(body) < len(DATA)
    assert server.download(small).status == 503
    for page in (Page(DATA[:-1]), Page(DATA + b"x"), Page(status=404), Page(status=302, location="/none")):
        source.pages["/changing"] = page
        assert server.download(image_id).status == 503
        assert server.download(image_id, {"Range": "bytes=10-19"}).status == 503
    source.pages["/changing"] = Page(DATA)
    assert server.download(image_id).status == 200


def _download(server: Server, image_id: str) -> tuple[bytes, bytes]:
    """Return head and body of a download as they come, also when the connection is cut."""
    request = f"GET /v2/images/{image_id}/file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request.encode())
        received = b""
        while part := connection.recv(1 << 20):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    ("page", "status"),
    [
        (Page(DATA, cut_at=1_000_000), 0),
        (Page(DATA, announced=-1, cut_at=1_000_000), 0),
        (Page(DATA + b"more", announced=-1), 0),
        (Page(DATA, announced=len(DATA) + 5), 503),
        (Page(DATA, announced=100), 503),
        (Page(DATA, announced=-1), 200),
    ],
)
def test_servers_that_lie(serve: Serve, source: Web, page: Page, status: int) -> None:
    """Whatever a web server announces and sends, a client gets the image's size, or a cut connection, or 503."""
    server = serve(configured(source))
    source.pages["/lying"] = Page(DATA)
    image_id = located(server, source.url("/lying"))
    source.pages["/lying"] = page
    head, body = _download(server, image_id)
    if status == 503:
        assert head.startswith(b"HTTP/1.1 503")
    else:
        assert head.startswith(b"HTTP/1.1 200")
        assert f"content-length: {len(DATA)}".encode() in head.lower()
        assert (body == DATA) == (status == 200)
        assert DATA.startswith(body)
    assert server.ask("GET", "/healthcheck").status == 200


def test_a_slow_server(serve: Serve, source: Web) -> None:
    """A server that stands still longer than the timeout ends the download; the next location is used instead."""
    server = serve(configured(source, store="read_timeout_s = 1\n"))
    source.pages["/halting"] = Page(DATA)
    image_id = located(server, source.url("/halting"))
    source.pages["/halting"] = Page(DATA, drip_s=-1)
    assert len(_download(server, image_id)[1]) < len(DATA)
    source.pages["/halting"] = Page(DATA[:1], announced=len(DATA), drip_s=-1)
    assert server.download(image_id).status == 503
    assert add(server, image_id, source.url("/same")).status == 200
    assert server.download(image_id).data == DATA


def test_the_next_location_is_asked(server: Server, source: Web) -> None:
    """When the first location fails before its first byte, the next one gives the data."""
    source.pages["/vanishing"] = Page(DATA)
    image_id = located(server, source.url("/vanishing"))
    assert add(server, image_id, source.url("/same")).status == 200
    source.pages["/vanishing"] = Page(status=410)
    assert server.download(image_id).data == DATA
    assert server.download(image_id, {"Range": "bytes=3-7"}).data == DATA[3:8]


def test_an_image_is_deleted_while_it_is_passed_on(server: Server, source: Web) -> None:
    """A download that goes on comes to its end; the image is gone at once."""
    source.pages["/dripping"] = Page(DATA)
    image_id = located(server, source.url("/dripping"))
    source.pages["/dripping"] = Page(DATA, drip_s=0.05)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(server.download(image_id).data))
    before = len(source.asked)
    thread.start()
    while len(source.asked) == before:
        thread.join(0.01)
    assert server.ask("DELETE", f"/v2/images/{image_id}").status == 204
    assert server.ask("GET", f"/v2/images/{image_id}").status == 404
    thread.join(60)
    assert got == [DATA]
    assert server.download(image_id).status == 404


def test_no_web_servers(serve: Serve, source: Web) -> None:
    """Without an http store no URL is a location, and data that are on one cannot be had: 503; it costs no image."""
    server = serve(configured(source))
    image_id = located(server, source.url("/image"))
    server.stop()
    server = serve(configured(source).replace("enabled = true", "enabled = false"))
    assert server.download(image_id).status == 503
    assert add(server, server.create(), source.url("/image")).status == 400
    assert server.show(image_id)["locations"][0]["url"] == source.url("/image")


def test_urls_are_not_logged(serve: Serve, source: Web) -> None:
    """Logs name hosts, never URLs: they may hold signatures."""
    server = serve(configured(source))
    source.pages["/failing"] = Page(DATA)
    image_id = located(server, source.url("/failing?signature=verysecret"))
    source.pages["/failing"] = Page(status=500)
    assert server.download(image_id).status == 503
    assert add(server, server.create(), source.url("/none?signature=verysecret")).status == 400
    text = server.log.read_text()
    assert "location.failed" in text
    assert "verysecret" not in text


def test_the_cache_leaves_alone_what_may_change(serve: Serve, source: Web) -> None:
    """Data of no known hash are not cached: downloads are passed on each time, and asking for it is 400."""
    server = serve(configured(source, '[cache]\nimage_cache_dir = "cache"\n'))
    image_id = located(server, source.url("/image"))
    assert server.download(image_id).data == DATA
    assert server.download(image_id, {"Range": "bytes=0-9"}).data == DATA[:10]
    assert server.ask("PUT", f"/v2/cache/{image_id}").status == 400
    assert server.ask("GET", "/v2/cache").json() == {"cached_images": [], "queued_images": []}


@pytest.mark.parametrize("way", ["download", "fetch"])
def test_the_cache_keeps_what_has_a_hash(serve: Serve, source: Web, way: str) -> None:
    """Data of a known hash are cached, and given when their server is gone; other bytes never get in."""
    server = serve(configured(source, '[cache]\nimage_cache_dir = "cache"\n'))
    source.pages["/kept"] = Page(DATA)
    image_id = located(server, source.url("/kept"), validation_data=HASHES)

    def fill() -> None:
        if way == "download":
            server.download(image_id)
        else:
            assert server.ask("PUT", f"/v2/cache/{image_id}").status == 202

    source.pages["/kept"] = Page(DATA[::-1])
    if way == "download":
        assert len(_download(server, image_id)[1]) < len(DATA)
        assert server.ask("GET", "/v2/cache").json()["cached_images"] == []
    source.pages["/kept"] = Page(DATA)
    fill()
    give_up_s = time.monotonic() + 30
    while not (cached := server.ask("GET", "/v2/cache").json()["cached_images"]):
        assert time.monotonic() < give_up_s, server.log.read_text()[-3000:]
        time.sleep(0.05)
    assert [(one["image_id"], one["size"]) for one in cached] == [(image_id, len(DATA))]
    source.pages["/kept"] = Page(status=500)
    assert server.download(image_id).data == DATA
    assert server.download(image_id, {"Range": "bytes=5-9"}).data == DATA[5:10]
    assert server.ask("DELETE", f"/v2/images/{image_id}").status == 204
    assert server.ask("GET", "/v2/cache").json() == {"cached_images": [], "queued_images": []}
