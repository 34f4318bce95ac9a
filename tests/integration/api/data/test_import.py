"""Imports over a socket: data that were staged, data from a web server, and whatever goes wrong with either."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import casimg
from tests.conftest import mixed_bytes
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.serving import OCTETS, Answer, Server, start
from tests.integration.api.data.web import Page, Web, web

DATA = bytes(mixed_bytes(3_000_000, 21))
LOCK = "os_glance_import_task"
FAILED = "os_glance_failed_import"
QCOW2 = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (1 << 30).to_bytes(8, "big") + bytes(72) + bytes(100_000)


def rules(source: Web, more: str = "") -> str:
    return f'[import_filtering_opts]\nallowed_hosts = ["127.0.0.1"]\nallowed_ports = [{source.port}]\n{more}'


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
    """A web server with some images."""
    with web() as found:
        found.pages |= {
            "/image": Page(DATA),
            "/unsaid": Page(DATA, announced=-1),
            "/cut": Page(DATA, announced=len(DATA) + 1),
            "/empty": Page(),
            "/qcow2": Page(QCOW2),
            "/error": Page(status=503),
            "/lost": Page(status=302),
            "/once": Page(status=302, location="/image"),
            "/far": Page(status=301, location=found.url("/image")),
            "/inside": Page(status=307, location=found.url("/image", "localhost")),
            "/hidden": Page(status=302, location="http://2130706433/image"),
            "/file": Page(status=302, location="file:///etc/passwd"),
            "/ring": Page(status=302, location="/ring"),
            "/slow": Page(DATA, drip_s=0.1),
            "/halting": Page(DATA, drip_s=-1),
            "/endless": Page(DATA, announced=-1, drip_s=-1),
        }
        yield found


@pytest.fixture(scope="module")
def server(source: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may fetch from the web server; image_size_cap is 8 MiB."""
    folder = tmp_path_factory.mktemp("imports")
    casimg.create(folder / "repository").close()
    served = start(folder / "repository", folder / "server.log", rules(source, "[data]\nimage_size_cap = 8388608\n"))
    yield served
    served.stop()


def ask_import(server: Server, image_id: str, method: dict[str, Any], **body: Any) -> Answer:
    document = json.dumps({"method": method, **body}).encode()
    return server.ask("POST", f"/v2/images/{image_id}/import", document, {"Content-Type": "application/json"})


def fetch(server: Server, image_id: str, uri: str) -> Answer:
    return ask_import(server, image_id, {"name": "web-download", "uri": uri})


def stage(server: Server, image_id: str, data: bytes = DATA) -> Answer:
    return server.ask("PUT", f"/v2/images/{image_id}/stage", data, {"Content-Type": OCTETS})


def tasks(server: Server, image_id: str) -> list[Any]:
    found: list[Any] = server.ask("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]
    return found


def ended(server: Server, image_id: str, time_max_s: float = 30.0) -> Any:
    """Wait until the last task of an image has ended and return it."""
    give_up_s = time.monotonic() + time_max_s
    while (task := tasks(server, image_id)[-1])["status"] in ("pending", "processing"):
        assert time.monotonic() < give_up_s, f"{task}: {server.log.read_text()[-3000:]}"
        time.sleep(0.05)
    return task


def refused(server: Server, image_id: str, uri: str) -> str:
    """Import from a URL, which must fail in the background; return what the task says."""
    answer = fetch(server, image_id, uri)
    assert answer.status == 202, answer
    task = ended(server, image_id)
    image = server.show(image_id)
    assert (task["status"], image["status"], image["size"], LOCK in image) == ("failure", "queued", None, False)
    return str(task["message"])


def test_staged_data_are_imported(server: Server) -> None:
    """Staged, the image is uploading; imported, it is active with size and hashes, and its task says so."""
    image_id = server.create()
    assert stage(server, image_id).status == 204
    assert server.show(image_id)["status"] == "uploading"
    assert server.download(image_id).status == 204
    assert ask_import(server, image_id, {"name": "glance-direct"}).status == 202
    task = ended(server, image_id)
    image = server.show(image_id)
    assert (task["status"], image["status"]) == ("success", "active"), (task, image)
    assert (image["size"], image["virtual_size"]) == (len(DATA), len(DATA))
    assert image["os_hash_value"] == hashlib.sha512(DATA).hexdigest()
    assert image["checksum"] == hashlib.md5(DATA).hexdigest()
    assert server.download(image_id).data == DATA
    assert (LOCK in image, image[FAILED], image["os_glance_importing_to_stores"]) == (False, "", "")
    assert task["type"] == "api_image_import"
    assert task["result"] == {"image_id": image_id}
    assert task["input"] == {
        "image_id": image_id,
        "import_req": {"method": {"name": "glance-direct"}},
        "backend": [None],
    }
    assert task["request_id"].startswith("req-")


def test_what_is_taken_on_is_no_json(server: Server) -> None:
    """The 202 of an import has an empty body, and no type that clients would read it by; a 204 has no type at all."""
    image_id = server.create()
    staged = stage(server, image_id)
    taken = ask_import(server, image_id, {"name": "glance-direct"})
    answers = [(one.status, one.data, one.headers.get("content-type")) for one in (staged, taken)]
    assert answers == [(204, b"", None), (202, b"", "text/html; charset=UTF-8")]
    assert ended(server, image_id)["status"] == "success"


def test_what_is_staged_is_staged_once(server: Server) -> None:
    """An image that has staged data takes no other ones, neither staged nor uploaded, and has one import."""
    image_id = server.create()
    assert stage(server, image_id).status == 204
    assert stage(server, image_id).status == 409
    assert server.upload(image_id, DATA).status == 409
    assert fetch(server, image_id, "http://127.0.0.1/").status == 409
    assert ask_import(server, image_id, {"name": "glance-direct"}).status == 202
    ended(server, image_id)
    assert ask_import(server, image_id, {"name": "glance-direct"}).status == 409
    assert fetch(server, image_id, "http://127.0.0.1/").status == 409


def test_an_import_needs_what_it_imports(server: Server) -> None:
    """Without staged data, formats, a known method or a whole body an import is refused, and leaves no task."""
    queued = server.create()
    assert ask_import(server, queued, {"name": "glance-direct"}).status == 409
    documents: list[dict[str, Any]] = [
        {},
        {"method": {}},
        {"method": "glance-direct"},
        {"method": {"name": "glance-download"}},
    ]
    for document in documents:
        body = json.dumps(document).encode()
        assert server.ask("POST", f"/v2/images/{queued}/import", body).status == 400
    assert ask_import(server, queued, {"name": "copy-image"}).status == 400
    assert ask_import(server, queued, {"name": "web-download"}, all_stores="yes").status == 400
    assert ask_import(server, queued, {"name": "web-download"}, all_stores_must_succeed=False).status == 400
    assert ask_import(server, queued, {"name": "web-download"}).status == 400
    formless = server.create(disk_format=None)
    assert stage(server, formless).status == 204
    assert ask_import(server, formless, {"name": "glance-direct"}).status == 409
    nobody = "00000000-0000-4000-8000-000000000000"
    assert ask_import(server, nobody, {"name": "glance-direct"}).status == 404
    assert stage(server, nobody).status == 404
    assert server.ask("PUT", f"/v2/images/{queued}/stage", DATA, {"Content-Type": "text/plain"}).status == 415
    assert tasks(server, queued) == []


def test_staged_data_that_are_something_else_are_refused(server: Server) -> None:
    """An import of staged data that are not what the image declares fails; the image is queued and takes others."""
    image_id = server.create(disk_format="qcow2")
    assert stage(server, image_id).status == 204
    assert ask_import(server, image_id, {"name": "glance-direct"}).status == 202
    task = ended(server, image_id)
    assert (task["status"], "qcow2" in task["message"]) == ("failure", True), task
    image = server.show(image_id)
    assert (image["status"], LOCK in image) == ("queued", False)
    assert stage(server, image_id, QCOW2).status == 204
    assert ask_import(server, image_id, {"name": "glance-direct"}).status == 202
    assert ended(server, image_id)["status"] == "success"
    assert server.show(image_id)["virtual_size"] == 1 << 30


def test_too_much_is_not_staged(server: Server) -> None:
    """Data beyond the cap, announced or not, are refused while they come; the image is queued again."""
    image_id = server.create()
    assert stage(server, image_id, bytes(9 << 20)).status == 413
    parts = (bytes(1 << 20) for _ in range(9))
    answer = server.ask("PUT", f"/v2/images/{image_id}/stage", parts, {"Content-Type": OCTETS})
    assert (answer.status, server.show(image_id)["status"]) == (413, "queued")


def test_an_image_is_deleted_with_what_is_staged(server: Server) -> None:
    """A deleted image is gone whatever it keeps aside."""
    image_id = server.create()
    assert stage(server, image_id).status == 204
    assert server.ask("DELETE", f"/v2/images/{image_id}").status == 204
    assert ask_import(server, image_id, {"name": "glance-direct"}).status == 404


@pytest.mark.parametrize("path", ["/image", "/unsaid", "/once", "/far", "/empty"])
def test_a_url_is_imported(server: Server, source: Web, path: str) -> None:
    """What is at a URL becomes the image's data, also over a redirect and without a length; no secrets go out."""
    image_id = server.create()
    source.asked.clear()
    answer = fetch(server, image_id, source.url(f"{path}?signature=s3cret"))
    assert answer.status == 202, answer
    task = ended(server, image_id)
    assert task["status"] == "success", task
    image = server.show(image_id)
    data = b"" if path == "/empty" else DATA
    assert (image["status"], image["size"]) == ("active", len(data))
    assert image["os_hash_value"] == hashlib.sha512(data).hexdigest()
    assert server.download(image_id).data == data or not data
    first, headers = source.asked[0]
    assert first == f"{path}?signature=s3cret"
    assert headers["host"] == f"127.0.0.1:{source.port}"
    assert not {"cookie", "authorization", "x-auth-token"} & set(headers)
    assert "s3cret" not in server.log.read_text()


def test_what_cannot_be_fetched_leaves_a_queued_image(server: Server, source: Web) -> None:
    """Errors, cut data, other formats and endless redirects fail the task; the image is queued and can be imported."""
    image_id = server.create()
    assert "503" in refused(server, image_id, source.url("/error"))
    assert "404" in refused(server, image_id, source.url("/nothing"))
    assert "cut" in refused(server, image_id, source.url("/cut"))
    assert "redirect" in refused(server, image_id, source.url("/ring"))
    assert "redirect" in refused(server, image_id, source.url("/lost"))
    other = server.create(disk_format="qcow2")
    assert "qcow2" in refused(server, other, source.url("/image"))
    assert fetch(server, image_id, source.url("/image")).status == 202
    assert ended(server, image_id)["status"] == "success"


@pytest.mark.parametrize("path", ["/inside", "/hidden", "/file"])
def test_a_redirect_goes_nowhere_that_is_forbidden(server: Server, source: Web, path: str) -> None:
    """Each hop is checked anew: one to another host, a hidden address or another scheme ends the import."""
    image_id = server.create()
    source.asked.clear()
    assert "does not pass filtering" in refused(server, image_id, source.url(path))
    assert [asked for asked, _ in source.asked] == [path]


@pytest.mark.parametrize(
    "uri",
    [
        *("http://localhost/image", "http://127.1/image", "http://0x7f000001/image", "http://2130706433/image"),
        *("http://[::1]/image", "http://[::ffff:127.0.0.1]/image", "file:///etc/passwd", "http://127.0.0.1:22/"),
        *("http://user:secret@127.0.0.1/", "", "http://", "http://169.254.169.254/latest/meta-data"),
    ],
)
def test_forbidden_urls_are_refused_at_once(server: Server, uri: str) -> None:
    """What can be told from the URL is 400, and its secrets are not repeated."""
    image_id = server.create()
    answer = fetch(server, image_id, uri)
    assert (answer.status, b"secret" in answer.data) == (400, False)
    image = server.show(image_id)
    assert (image["status"], LOCK in image, tasks(server, image_id)) == ("queued", False, [])


def test_one_import_at_a_time(server: Server, source: Web) -> None:
    """While an import works the image shows it, and another one is a conflict; so is a change of its format."""
    image_id = server.create()
    assert fetch(server, image_id, source.url("/slow")).status == 202
    server.wait_for_status(image_id, "importing")
    image = server.show(image_id)
    assert image[LOCK] == tasks(server, image_id)[0]["id"]
    assert fetch(server, image_id, source.url("/image")).status == 409
    assert server.upload(image_id, DATA).status == 409
    patch = json.dumps([{"op": "replace", "path": "/disk_format", "value": "qcow2"}]).encode()
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    assert server.ask("PATCH", f"/v2/images/{image_id}", patch, headers).status == 403
    assert ended(server, image_id)["status"] == "success"
    assert LOCK not in server.show(image_id)


def test_an_image_is_deleted_while_it_is_imported(server: Server, source: Web) -> None:
    """A delete in the middle of an import is a delete; the task fails."""
    image_id = server.create()
    assert fetch(server, image_id, source.url("/slow")).status == 202
    server.wait_for_status(image_id, "importing")
    task_id = tasks(server, image_id)[0]["id"]
    assert server.ask("DELETE", f"/v2/images/{image_id}").status == 204
    assert server.ask("GET", f"/v2/images/{image_id}").status == 404
    give_up_s = time.monotonic() + 30
    while (task := server.ask("GET", f"/v2/tasks/{task_id}").json())["status"] == "processing":
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    assert task["status"] == "failure"


def test_methods_are_told(server: Server) -> None:
    """The methods that are enabled stand in /info/import and beside every new image."""
    found = server.ask("GET", "/v2/info/import").json()
    assert found["import-methods"]["value"] == ["glance-direct", "web-download"]
    answer = server.ask("POST", "/v2/images", b'{"name": "x"}', {"Content-Type": "application/json"})
    assert answer.headers["openstack-image-import-methods"] == "glance-direct,web-download"


def test_methods_can_be_switched_off(serve: Serve) -> None:
    """Without a method its routes answer as Glance's, and nothing is told of it."""
    served = serve("[image_import]\nenabled_import_methods = []\n")
    image_id = served.create()
    assert stage(served, image_id).status == 404
    assert ask_import(served, image_id, {"name": "web-download", "uri": "http://a.example/"}).status == 400
    answer = served.ask("POST", "/v2/images", b'{"name": "x"}', {"Content-Type": "application/json"})
    assert "openstack-image-import-methods" not in answer.headers


def test_there_is_no_second_store(serve: Serve) -> None:
    """With stores shown, others are unknown, a copy has nowhere to go, and a failure names the store."""
    methods = 'enabled_import_methods = ["copy-image", "web-download"]'
    served = serve(f"[store]\nmulti_store = true\n[image_import]\n{methods}\n")
    image_id = served.create()
    method = {"name": "web-download", "uri": "http://does-not.invalid/image"}
    assert ask_import(served, image_id, {"name": "copy-image"}).status == 409
    assert ask_import(served, image_id, method, stores=["other"]).status == 409
    assert ask_import(served, image_id, method, stores=["local"], all_stores=True).status == 400
    assert ask_import(served, image_id, method, stores=["local"]).status == 202
    assert ended(served, image_id)["status"] == "failure"
    assert served.show(image_id)[FAILED] == "local"
    assert served.upload(image_id, DATA).status == 204
    assert ask_import(served, image_id, {"name": "copy-image"}, stores=["local"]).status == 400
    assert ask_import(served, image_id, {"name": "copy-image"}, all_stores=True).status == 202
    assert ask_import(served, image_id, method).status == 409


def test_a_killed_import_is_given_back(serve: Serve, source: Web) -> None:
    """After kill -9 of all its processes the next server has the image queued, without a lock, and its task failed."""
    served = serve(rules(source))
    image_id = served.create()
    assert fetch(served, image_id, source.url("/halting")).status == 202
    served.wait_for_status(image_id, "importing")
    for pid in served.pids():
        os.kill(pid, signal.SIGKILL)
    served.process.wait()
    again = serve(rules(source))
    image = again.show(image_id)
    assert (image["status"], LOCK in image) == ("queued", False)
    assert tasks(again, image_id)[0]["status"] == "failure"
    assert fetch(again, image_id, source.url("/image")).status == 202
    assert ended(again, image_id)["status"] == "success"
    assert again.download(image_id).data == DATA


def test_a_killed_worker_gives_its_import_back(serve: Serve, source: Web) -> None:
    """A worker that is killed alone is followed by another, which ends what it was at."""
    served = serve(rules(source))
    image_id = served.create()
    assert fetch(served, image_id, source.url("/halting")).status == 202
    served.wait_for_status(image_id, "importing")
    for pid in served.pids()[1:]:
        os.kill(pid, signal.SIGKILL)
    give_up_s = time.monotonic() + 60
    while True:
        try:
            image = served.show(image_id)
            if image["status"] == "queued" and LOCK not in image:
                break
        except OSError:
            pass
        assert time.monotonic() < give_up_s, served.log.read_text()[-3000:]
        time.sleep(0.1)
    assert tasks(served, image_id)[0]["status"] == "failure"


@pytest.mark.parametrize("path", ["/slow", "/halting", "/endless"])
def test_a_server_that_is_stopped_gives_back_what_it_has_not_finished(serve: Serve, source: Web, path: str) -> None:
    """A stop amid an import ends it at once, also one that waits: the image is queued before anybody asks."""
    served = serve(rules(source))
    image_id = served.create()
    assert fetch(served, image_id, source.url(path)).status == 202
    served.wait_for_status(image_id, "importing")
    began_s = time.monotonic()
    assert served.stop() == 0
    assert time.monotonic() - began_s < 15
    again = serve(rules(source))
    assert server_says(again, image_id) == ("queued", "failure", "the server was stopped")


def server_says(server: Server, image_id: str) -> tuple[str, str, str]:
    task = tasks(server, image_id)[-1]
    return server.show(image_id)["status"], task["status"], task["message"]


def test_a_stage_that_is_cut_leaves_a_queued_image(server: Server) -> None:
    """A client that goes away while it stages leaves the image queued; meanwhile it is uploading, and not imported."""
    image_id = server.create()
    head = (
        f"PUT /v2/images/{image_id}/stage HTTP/1.1\r\nHost: here\r\nContent-Type: {OCTETS}\r\n"
        f"Content-Length: {len(DATA)}\r\n\r\n"
    )
    with closing(server.connect()) as connection:
        connection.connect()
        connection.sock.sendall(head.encode() + DATA[:100_000])
        server.wait_for_status(image_id, "uploading")
        assert ask_import(server, image_id, {"name": "glance-direct"}).status == 409
    server.wait_for_status(image_id, "queued")
    assert stage(server, image_id).status == 204


def test_collections_keep_what_is_staged_alone(serve: Serve, tmp_path: Path) -> None:
    """A collection keeps staged data of living images, takes those of deleted ones, and the repository is whole."""
    served = serve()
    kept, gone = served.create(), served.create()
    other = bytes(mixed_bytes(2_000_000, 22))
    assert stage(served, kept).status == stage(served, gone, other).status == 204
    assert served.ask("DELETE", f"/v2/images/{gone}").status == 204
    with casimg.open(tmp_path / "repository") as repo:
        before = repo.stats().stored_size
        repo.plan_gc().execute()
        assert 0 < repo.stats().stored_size < before
        assert repo.check(read_data=True).problems == ()
    assert ask_import(served, kept, {"name": "glance-direct"}).status == 202
    assert ended(served, kept)["status"] == "success"
    assert served.download(kept).data == DATA
