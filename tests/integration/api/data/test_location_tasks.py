"""Locations by `POST /v2/images/{id}/locations`: tasks that look at data elsewhere, and hash them in the background."""

import hashlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import casimg
from tests.conftest import mixed_bytes
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.locating import add, configured, locations, patch, post, serving_located
from tests.integration.api.data.serving import Server, start
from tests.integration.api.data.stores_serving import LOCK, ask_import, ended, make_repository, tasks
from tests.integration.api.data.web import Page, Web, web

DATA = bytes(mixed_bytes(1_200_000, 43))
SHA512, SHA256 = hashlib.sha512(DATA).hexdigest(), hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
    """A web server with an image."""
    with web() as found:
        found.pages |= {"/image": Page(DATA), "/same": Page(DATA), "/empty": Page(), "/other": Page(DATA[::-1])}
        found.pages["/hidden"] = Page(status=302, location=f"http://0x7f000001:{found.port}/image")
        yield found


@pytest.fixture(scope="module")
def server(source: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may ask the web server."""
    with serving_located(source, tmp_path_factory.mktemp("located")) as served:
        yield served


def hashes(image: Any) -> tuple[Any, ...]:
    return image["os_hash_algo"], image["os_hash_value"], image["checksum"]


def test_a_location_is_hashed(server: Server, source: Web) -> None:
    """Without a hash to check the image is active, and gets md5 and sha512 by one task, which tells what was asked."""
    image_id, url = server.create(), source.url("/image")
    answer = post(server, image_id, url)
    assert (answer.status, answer.data) == (202, b"")
    task = ended(server, image_id)
    image = server.show(image_id)
    assert (task["status"], task["type"], image["status"]) == ("success", "location_import", "active"), task
    assert task["input"] == {"image_id": image_id, "loc_url": url, "validation_data": {}}
    assert task["result"] == {"image_id": image_id}
    assert task["request_id"].startswith("req-")
    assert hashes(image) == ("sha512", SHA512, MD5)
    assert (image["size"], LOCK in image) == (len(DATA), False)
    assert image["locations"] == locations(server, image_id) == [{"url": url, "metadata": {}}]
    assert not [name for name in image if name.startswith("os_glance")]
    assert server.download(image_id).data == DATA
    assert post(server, image_id, url).status == 409
    assert len(tasks(server, image_id)) == 1


@pytest.mark.parametrize("algo", ["md5", "sha1", "sha256", "sha512"])
def test_what_is_said_is_checked(server: Server, source: Web, algo: str) -> None:
    """With a hash of any of four algorithms the data are held against it before the image is active."""
    image_id = server.create()
    value = hashlib.new(algo, DATA).hexdigest()
    assert (
        post(server, image_id, source.url("/image"), {"os_hash_algo": algo, "os_hash_value": value.upper()}).status
        == 202
    )
    assert ended(server, image_id)["status"] == "success"
    image = server.show(image_id)
    assert (image["status"], *hashes(image)) == ("active", algo, value, MD5)
    assert server.download(image_id).data == DATA


def test_other_data_than_was_said(server: Server, source: Web) -> None:
    """Data of another hash leave the image queued, the location told, as in Glance; the next one takes its place."""
    image_id = server.create()
    said = {"os_hash_algo": "sha512", "os_hash_value": SHA512}
    assert post(server, image_id, source.url("/other"), said).status == 202
    task = ended(server, image_id)
    assert (task["status"], "not matched" in task["message"]) == ("failure", True), task
    image = server.show(image_id)
    assert (image["status"], *hashes(image)) == ("queued", None, None, None)
    assert image["size"] is None
    assert [one["url"] for one in image["locations"]] == [source.url("/other")]
    assert server.download(image_id).status == 204
    assert post(server, image_id, source.url("/image"), said).status == 202
    assert ended(server, image_id)["status"] == "success"
    assert [one["url"] for one in server.show(image_id)["locations"]] == [source.url("/image")]
    assert server.download(image_id).data == DATA


@pytest.mark.parametrize("way", ["upload", "patch"])
def test_what_a_try_left_goes(server: Server, source: Web, way: str) -> None:
    """A location that a failed try has left is nothing that is ever read: an upload or a patch takes its place."""
    image_id = server.create()
    wrong = {"os_hash_algo": "md5", "os_hash_value": "0" * 32}
    assert post(server, image_id, source.url("/other"), wrong).status == 202
    assert ended(server, image_id)["status"] == "failure"
    if way == "upload":
        assert server.upload(image_id, DATA).status == 204
    else:
        assert add(server, image_id, source.url("/image")).status == 200
    image = server.show(image_id)
    (location,) = image["locations"]
    assert location["url"] != source.url("/other")
    assert (image["status"], image["size"]) == ("active", len(DATA))
    assert server.download(image_id).data == DATA


def test_what_is_asked_must_be_right(server: Server, source: Web) -> None:
    """Malformed bodies, hashes that are none, URLs that may not be asked, images without formats: 400, and no task."""
    image_id, url = server.create(), source.url("/image")
    for validation in (
        {"os_hash_algo": "sha512", "os_hash_value": "dbc9e0f80d131e64b94913a7b40bb5"},
        {"os_hash_value": SHA512},
        {"os_hash_algo": "sha512"},
        {"os_hash_algo": "sha123", "os_hash_value": SHA512},
        {"os_hash_algo": "sha512", "os_hash_value": SHA256},
        {"os_hash_algo": "sha256", "os_hash_value": "x" * 64},
        {"os_hash_algo": "sha256", "os_hash_value": SHA256, "checksum": MD5},
        {"os_hash_algo": "sha256", "os_hash_value": 1},
        {"os_hash_algo": ["sha256"], "os_hash_value": SHA256},
    ):
        assert post(server, image_id, url, validation).status == 400, validation
    hosts = (f"http://127.1:{source.port}/image", f"http://localhost:{source.port}/image", "http://169.254.169.254/")
    for wrong in (*hosts, "http:", "http://", "http://a b/", None, 1, ["x"], "http://x/" + "y" * 9000):
        assert post(server, image_id, wrong).status == 400, wrong
    for other in ("rbd://a/b/c/d", "file:///etc/passwd", "casimg://x/local/y", "", "http", "ftp://x/", "httpx://y/"):
        assert post(server, image_id, other).status == 403, other  # of no service; 400 of one
    for body in (b"", b"[]", b"x", b"{}"):
        answer = server.ask("POST", f"/v2/images/{image_id}/locations", body, {"Content-Type": "application/json"})
        assert answer.status == 400
    assert post(server, server.create(disk_format=None), url).status == 400
    assert post(server, "00000000-0000-4000-8000-000000000000", url).status == 404
    assert tasks(server, image_id) == []
    assert server.show(image_id)["status"] == "queued"


@pytest.mark.parametrize("path", ["/none", "/empty", "/hidden"])
def test_what_only_a_look_tells(server: Server, source: Web, path: str) -> None:
    """What is not there, is empty, or leads where nobody may ask, fails the task; the image is queued as it was."""
    image_id = server.create()
    assert post(server, image_id, source.url(path)).status == 202
    task = ended(server, image_id)
    image = server.show(image_id)
    assert (task["status"], "Invalid location" in task["message"]) == ("failure", True), task
    assert (image["status"], image["locations"], LOCK in image) == ("queued", [], False)
    assert server.upload(image_id, b"x").status == 204


def test_one_at_a_time(serve: Serve, source: Web) -> None:
    """While a task works at an image, another one is 409; one that waits for its hash takes no data and no changes."""
    server = serve(configured(source))
    source.pages["/slow"] = Page(DATA, drip_s=0.2)
    image_id = server.create()
    said = {"os_hash_algo": "sha256", "os_hash_value": SHA256}
    assert post(server, image_id, source.url("/slow"), said).status == 202
    server.wait_for_status(image_id, "importing")
    image = server.show(image_id)
    assert (image[LOCK], hashes(image)) == (tasks(server, image_id)[0]["id"], ("sha256", None, None))
    assert post(server, image_id, source.url("/image")).status == 409
    assert server.upload(image_id, DATA).status == 409
    assert add(server, image_id, source.url("/image")).status == 409
    assert server.download(image_id).status == 204
    assert ended(server, image_id)["status"] == "success"
    assert server.show(image_id)["status"] == "active"


def test_it_is_used_while_it_is_hashed(serve: Serve, source: Web) -> None:
    """An image is active, told of its algorithm, and downloaded, before its hash is known."""
    server = serve(configured(source))
    source.pages["/slow"] = Page(DATA, drip_s=0.2)
    image_id = server.create()
    assert post(server, image_id, source.url("/slow")).status == 202
    server.wait_for_status(image_id, "active")
    assert hashes(server.show(image_id)) == ("sha512", None, None)
    assert server.download(image_id, {"Range": "bytes=0-9"}).data == DATA[:10]
    assert ended(server, image_id)["status"] == "success"
    assert hashes(server.show(image_id)) == ("sha512", SHA512, MD5)


def test_a_deleted_image_is_hashed_no_more(serve: Serve, source: Web) -> None:
    """When the image is deleted its task ends, long before the data do, and its server is asked no more."""
    server = serve(configured(source))
    source.pages["/endless"] = Page(DATA, drip_s=3600)
    image_id = server.create()
    assert post(server, image_id, source.url("/endless")).status == 202
    server.wait_for_status(image_id, "active")
    source.pages["/endless"] = Page(DATA, drip_s=0.3)
    other = server.create()
    assert post(server, other, source.url("/endless")).status == 202
    server.wait_for_status(other, "active")
    assert server.ask("DELETE", f"/v2/images/{other}").status == 204
    give_up_s = time.monotonic() + 20
    while f"import.failed image={other}" not in server.log.read_text():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    assert server.ask("GET", f"/v2/images/{other}").status == 404


def test_a_server_that_fails_is_asked_again(serve: Serve, source: Web) -> None:
    """A hash is tried anew http_retries times; then the image goes on without one, and waits for no one."""
    server = serve(configured(source))
    source.pages["/failing"] = Page(DATA, cut_at=1000)
    image_id = server.create()
    assert post(server, image_id, source.url("/failing")).status == 202
    assert ended(server, image_id)["status"] == "success"
    image = server.show(image_id)
    assert (image["status"], *hashes(image)) == ("active", None, None, None)
    assert server.log.read_text().count("location.not_hashed") == 2
    checked = server.create()
    assert post(server, checked, source.url("/failing"), {"os_hash_algo": "md5", "os_hash_value": MD5}).status == 202
    task = ended(server, checked)
    assert (task["status"], server.show(checked)["status"]) == ("failure", "queued"), task
    assert "Hash calculation failed" in task["message"]


def test_without_hashes(serve: Serve, source: Web) -> None:
    """Without do_secure_hash nothing is read: hashes are those that were said, or none."""
    server = serve(configured(source, images="do_secure_hash = false\n"))
    image_id = server.create()
    before = source.methods.count("GET")
    said = {"os_hash_algo": "sha256", "os_hash_value": "ab" * 32}
    assert post(server, image_id, source.url("/image"), said).status == 202
    assert ended(server, image_id)["status"] == "success"
    image = server.show(image_id)
    assert (image["status"], image["size"], *hashes(image)) == ("active", len(DATA), "sha256", "ab" * 32, None)
    plain = server.create()
    assert post(server, plain, source.url("/image")).status == 202
    assert ended(server, plain)["status"] == "success"
    assert hashes(server.show(plain)) == (None, None, None)
    assert source.methods.count("GET") == before
    assert server.download(plain).data == DATA


def test_a_killed_server_goes_on(serve: Serve, source: Web) -> None:
    """A hash that died with its server is computed by the next one; what waited for a check is queued again."""
    server = serve(configured(source))
    source.pages["/stopping"] = Page(DATA, drip_s=-1)
    used, checked = server.create(), server.create()
    assert post(server, used, source.url("/stopping")).status == 202
    said = {"os_hash_algo": "md5", "os_hash_value": MD5}
    assert post(server, checked, source.url("/stopping"), said).status == 202
    server.wait_for_status(used, "active")
    server.wait_for_status(checked, "importing")
    _kill(server)
    source.pages["/stopping"] = Page(DATA)
    server = serve(configured(source))
    task = ended(server, used)
    first = tasks(server, used)[0]
    assert (first["status"], first["message"]) == ("failure", "the process that worked at it has ended")
    assert task["status"] == "success"
    image = server.show(used)
    assert (image["status"], LOCK in image, *hashes(image)) == ("active", False, "sha512", SHA512, MD5)
    image = server.show(checked)
    assert (image["status"], LOCK in image, *hashes(image)) == ("queued", False, None, None, None)
    assert post(server, checked, source.url("/stopping"), said).status == 202
    assert ended(server, checked)["status"] == "success"


def test_a_stopped_server_gives_back(serve: Serve, source: Web) -> None:
    """A server that is stopped ends its tasks; what was not hashed is hashed by the next one, by one of its workers."""
    server = serve(configured(source))
    source.pages["/quiet"] = Page(DATA, drip_s=0.5)
    used, checked = server.create(), server.create()
    assert post(server, used, source.url("/quiet")).status == 202
    assert post(server, checked, source.url("/quiet"), {"os_hash_algo": "md5", "os_hash_value": MD5}).status == 202
    server.wait_for_status(used, "active")
    server.wait_for_status(checked, "importing")
    server.stop()
    source.pages["/quiet"] = Page(DATA)
    server = serve(configured(source), "--workers", "2")
    assert server.show(checked)["status"] == "queued"
    give_up_s = time.monotonic() + 30
    while server.show(used)["os_hash_value"] is None:
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    while "success" not in (statuses := [task["status"] for task in tasks(server, used)]):
        assert time.monotonic() < give_up_s, statuses
        time.sleep(0.05)
    assert (statuses[0], statuses.count("success")) == ("failure", 1)


def test_a_foreign_task_that_died(serve: Serve, source: Web) -> None:
    """A task of another machine that was silent for an hour holds its image no more."""
    server = serve(configured(source))
    source.pages["/silent"] = Page(DATA, drip_s=-1)
    image_id = server.create()
    said = {"os_hash_algo": "md5", "os_hash_value": MD5}
    assert post(server, image_id, source.url("/silent"), said).status == 202
    server.wait_for_status(image_id, "importing")
    _kill(server)
    _of_another_machine(server.log.parent / "repository" / "catalog.sqlite")
    server = serve(configured(source))
    assert server.show(image_id)["status"] == "importing"
    assert post(server, image_id, source.url("/image"), said).status == 202
    assert ended(server, image_id)["status"] == "success"
    assert server.show(image_id)["status"] == "active"


def _kill(server: Server) -> None:
    """End all processes of a server at once."""
    for pid in server.pids():
        os.kill(pid, signal.SIGKILL)
    server.process.wait()


def _of_another_machine(path: Path) -> None:
    """Make the tasks of a catalog those of a machine that was silent for two hours."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tasks SET node = 'far', updated_at = updated_at - 7200 * 1000000")
    connection.close()


def test_stores_tell_of_web_servers(serve: Serve, source: Web) -> None:
    """Shown as a store the web servers are read-only; images tell it, and it can be preferred, left, and not put to."""
    more = "[store]\nmulti_store = true\n[stores.web]\nweight = 3\nstore_description = 'elsewhere'\n"
    server = serve(configured(source, more, store='name = "web"\n'))
    stores = server.ask("GET", "/v2/info/stores").json()["stores"]
    assert {"id": "web", "description": "elsewhere", "read-only": "true"} in stores
    detail = server.ask("GET", "/v2/info/stores/detail").json()["stores"]
    assert [(one["type"], one["weight"]) for one in detail if one["id"] == "web"] == [("http", 3)]
    failed = server.create()
    wrong = {"os_hash_algo": "md5", "os_hash_value": "0" * 32}
    assert post(server, failed, source.url("/image"), wrong).status == 202
    assert ended(server, failed)["status"] == "failure"
    assert server.show(failed)["stores"] == "web"
    image_id = server.create()
    assert post(server, image_id, source.url("/image")).status == 202
    assert ended(server, image_id)["status"] == "success"
    image = server.show(image_id)
    assert (image["stores"], image["locations"][0]["metadata"]) == ("web", {"store": "web"})
    assert server.ask("DELETE", f"/v2/stores/web/{image_id}").status == 403
    assert server.upload(server.create(), DATA, {"X-Image-Meta-Store": "web"}).status == 410
    both = server.create()
    assert server.upload(both, DATA).status == 204
    assert add(server, both, source.url("/image"), metadata={"store": "fake"}).status == 200
    image = server.show(both)
    assert image["stores"] == "web,local"
    assert [one["metadata"] for one in image["locations"]] == [{"store": "local"}, {"store": "web"}]
    assert image["direct_url"] == source.url("/image")
    asked = len(source.asked)
    assert server.download(both).data == DATA
    assert len(source.asked) == asked + 1
    answer = server.ask("GET", f"/v2/images/{both}/file?prefer=local")
    assert (answer.data, len(source.asked)) == (DATA, asked + 1)
    assert server.ask("DELETE", f"/v2/stores/local/{both}").status == 204
    assert server.show(both)["stores"] == "web"
    assert server.ask("DELETE", f"/v2/stores/local/{both}").status == 403
    assert add(server, both, source.url("/same")).status == 200
    assert server.ask("DELETE", f"/v2/stores/local/{both}").status == 404
    assert server.ask("DELETE", f"/v2/stores/web/{both}").status == 204
    assert [one["url"] for one in server.show(both)["locations"]] == [source.url("/same")]
    assert server.download(both).data == DATA


def test_a_name_that_a_backend_has(tmp_path: Path, source: Web) -> None:
    """An http store that is named as a backend is a mistake that stops the start, in one line."""
    casimg.create(tmp_path / "repository").close()
    with pytest.raises(AssertionError, match=r"http_store.name is 'local'"):
        start(tmp_path / "repository", tmp_path / "server.log", configured(source, store='name = "local"\n'))


def test_the_body_is_json(server: Server) -> None:
    """A body that is no JSON of an object is 400, of whatever type it says it is."""
    image_id = server.create()
    for body in (b"null", b'"x"', json.dumps([{"url": "x"}]).encode(), b"\xff"):
        assert server.ask("POST", f"/v2/images/{image_id}/locations", body).status == 400


def test_two_backends_and_a_web_server(tmp_path: Path, source: Web) -> None:
    """An image on two backends and a web server leaves each of them, one by one, and is read from what is left."""
    repository = make_repository(tmp_path, "spare")
    methods = '[image_import]\nenabled_import_methods = ["glance-direct", "copy-image"]\n[store]\nmulti_store = true\n'
    server = start(repository, tmp_path / "server.log", configured(source, methods))
    try:
        image_id = server.create()
        assert server.upload(image_id, DATA).status == 204
        assert ask_import(server, image_id, "copy-image", stores=["spare"]).status == 202
        assert ended(server, image_id)["status"] == "success"
        assert add(server, image_id, source.url("/image")).status == 200
        image = server.show(image_id)
        assert image["stores"] == "local,spare,http"
        assert [one["metadata"]["store"] for one in image["locations"]] == ["local", "spare", "http"]
        both = [{"op": "remove", "path": "/locations/0"}] * 2
        assert patch(server, image_id, *both).status == 409
        assert server.show(image_id)["stores"] == "local,spare,http"
        assert patch(server, image_id, both[0]).status == 200
        assert server.show(image_id)["stores"] == "spare,http"
        assert server.download(image_id).data == DATA
        assert server.ask("DELETE", f"/v2/stores/spare/{image_id}").status == 204
        image = server.show(image_id)
        assert (image["stores"], image["os_hash_value"]) == ("http", SHA512)
        assert server.download(image_id).data == DATA
        assert server.ask("DELETE", f"/v2/stores/http/{image_id}").status == 403
        assert server.ask("DELETE", f"/v2/images/{image_id}").status == 204
    finally:
        server.stop()
    with casimg.open(repository) as repo:
        assert repo.check().problems == ()
        for wiring in (repo._wiring.home, *repo._wiring.peers):
            assert list(wiring.backend.list("records/")) == []
