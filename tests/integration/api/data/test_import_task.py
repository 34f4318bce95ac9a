"""`POST /v2/tasks` over a socket: a task that makes an image of what is at a URL, or leaves nothing behind."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

import casimg
from tests.conftest import mixed_bytes
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.serving import Answer, Server, start
from tests.integration.api.data.web import Page, Web, web

DATA = bytes(mixed_bytes(2_000_000, 23))
LOCK = "os_glance_import_task"
FORMATS = {"disk_format": "raw", "container_format": "bare"}


def rules(source: Web) -> str:
    return f'[import_filtering_opts]\nallowed_hosts = ["127.0.0.1"]\nallowed_ports = [{source.port}]\n'


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
    """A web server with some images."""
    with web() as found:
        found.pages |= {
            "/image": Page(DATA),
            "/error": Page(status=503),
            "/cut": Page(DATA, announced=len(DATA) + 1),
            "/inside": Page(status=307, location=found.url("/image", "localhost")),
            "/slow": Page(DATA, drip_s=0.1),
            "/halting": Page(DATA, drip_s=-1),
        }
        yield found


@pytest.fixture(scope="module")
def server(source: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may fetch from the web server."""
    folder = tmp_path_factory.mktemp("import-tasks")
    casimg.create(folder / "repository").close()
    served = start(folder / "repository", folder / "server.log", rules(source))
    yield served
    served.stop()


def given(uri: object, **properties: Any) -> dict[str, Any]:
    return {"import_from": uri, "import_from_format": "raw", "image_properties": {**FORMATS, **properties}}


def post(server: Server, document: object) -> Answer:
    body = json.dumps(document).encode()
    return server.ask("POST", "/v2/tasks", body, {"Content-Type": "application/json"})


def begin(server: Server, uri: str, **properties: Any) -> Any:
    """Have an image made; return the task."""
    answer = post(server, {"type": "import", "input": given(uri, **properties)})
    assert answer.status == 201, answer
    return answer.json()


def ended(server: Server, task_id: str) -> Any:
    """Wait until a task has ended and return it."""
    give_up_s = time.monotonic() + 30
    while (task := server.ask("GET", f"/v2/tasks/{task_id}").json())["status"] in ("pending", "processing"):
        assert time.monotonic() < give_up_s, f"{task}: {server.log.read_text()[-3000:]}"
        time.sleep(0.05)
    return task


def wait_for_data(server: Server, task: Any) -> None:
    """Wait until the data of a task's image come; a moment before there is no image."""
    give_up_s = time.monotonic() + 30
    while server.ask("GET", f"/v2/images/{task['image_id']}").status == 404:
        assert time.monotonic() < give_up_s, server.log.read_text()[-3000:]
        time.sleep(0.02)
    server.wait_for_status(task["image_id"], "importing")


def images(server: Server, name: str) -> list[Any]:
    found: list[Any] = server.ask("GET", f"/v2/images?name={name}").json()["images"]
    return found


def test_a_task_makes_an_image(server: Server, source: Web) -> None:
    """The answer is the task as it is told later; in the end there is an image that is all that was asked for."""
    properties = {"name": "made", "visibility": "public", "tags": ["x"], "min_ram": 3, "os_distro": "debian"}
    answer = post(server, {"type": "import", "input": given(source.url("/image"), **properties)})
    assert answer.status == 201
    task = answer.json()
    assert (task["type"], task["status"], task["message"], task["result"]) == ("import", "pending", "", None)
    assert task["input"] == given(source.url("/image"), **properties)
    assert (task["self"], task["schema"]) == (f"/v2/tasks/{task['id']}", "/v2/schemas/task")
    assert answer.headers["location"].endswith(f"/v2/tasks/{task['id']}")
    whole = ended(server, task["id"])
    assert whole["status"] == "success", whole
    image = server.show(whole["result"]["image_id"])
    assert {**properties, **FORMATS}.items() <= image.items()
    assert (image["status"], image["os_hash_value"]) == ("active", hashlib.sha512(DATA).hexdigest())
    assert not [name for name in image if name.startswith("os_glance")]
    assert server.download(image["id"]).data == DATA
    assert [item["id"] for item in server.ask("GET", f"/v2/images/{image['id']}/tasks").json()["tasks"]] == [task["id"]]


@pytest.mark.parametrize("path", ["/error", "/nothing", "/cut", "/inside"])
def test_what_cannot_be_fetched_leaves_no_image(server: Server, source: Web, path: str) -> None:
    """The task says why it failed, and the image that it made is gone, also when it was protected."""
    name = f"gone{path[1:]}"
    task = ended(server, begin(server, source.url(path), name=name, protected=True)["id"])
    assert (task["status"], task["result"]) == ("failure", None)
    assert task["message"]
    assert images(server, name) == []


def test_data_that_are_something_else_leave_no_image(server: Server, source: Web) -> None:
    """What comes is inspected as uploads are."""
    task = ended(server, begin(server, source.url("/image"), name="other", disk_format="qcow2")["id"])
    assert (task["status"], "qcow2" in task["message"]) == ("failure", True)
    assert images(server, "other") == []


def test_an_id_that_is_taken_stays_whose_it_is(server: Server, source: Web) -> None:
    """A task that asks for the id of another image fails and does not touch that."""
    taken = server.create(name="taken")
    task = ended(server, begin(server, source.url("/image"), id=taken)["id"])
    assert task["status"] == "failure"
    assert (server.show(taken)["name"], server.show(taken)["status"]) == ("taken", "queued")


@pytest.mark.parametrize(
    "uri",
    [
        *("http://localhost/image", "http://127.1/image", "http://[::1]/image", "file:///etc/passwd"),
        *("http://127.0.0.1:22/", "http://user:secret@127.0.0.1/", "ftp://example.org/x", "", None, 5, ["x"]),
    ],
)
def test_forbidden_urls_are_refused_at_once(server: Server, uri: object) -> None:
    """What can be told from the URL is 400, repeats no secrets, and enters no task."""
    before = server.ask("GET", "/v2/tasks?limit=1000").json()["tasks"]
    answer = post(server, {"type": "import", "input": given(uri)})
    assert (answer.status, b"secret" in answer.data) == (400, False)
    assert server.ask("GET", "/v2/tasks?limit=1000").json()["tasks"] == before


def test_what_is_no_task_is_refused(server: Server, source: Web) -> None:
    """Missing keys, unknown types, and images that nobody may create are 400 or 403, and nothing is entered."""
    whole = given(source.url("/image"), name="refused")
    bodies: list[Any] = [{}, {"type": "import"}, {"input": whole}, [], {"type": "export", "input": whole}]
    bodies += [{"type": kind, "input": whole} for kind in ("api_image_import", "location_import", None, 5)]
    odd: list[Any] = [None, [], "x", {}]
    bodies += [{"type": "import", "input": value} for value in odd]
    bodies += [{"type": "import", "input": {key: whole[key] for key in whole if key != gone}} for gone in whole]
    bodies += [{"type": "import", "input": {**whole, "image_properties": value}} for value in odd]
    bodies += [{"type": "import", "input": {**whole, "import_from_format": 5}}]
    wrong: list[dict[str, Any]] = [{"visibility": "x"}, {"disk_format": "x"}, {"min_ram": -1}, {"id": "x"}, {"x": 5}]
    bodies += [{"type": "import", "input": given(source.url("/image"), name="refused", **more)} for more in wrong]
    for body in bodies:
        assert post(server, body).status == 400, body
    wrong = [{"status": "active"}, {"os_glance_import_task": "x"}, {"stores": "x"}, {"locations": []}]
    for more in wrong:
        body = {"type": "import", "input": given(source.url("/image"), name="refused", **more)}
        assert post(server, body).status == 403, body
    assert images(server, "refused") == []


def test_an_image_is_deleted_while_its_data_come(server: Server, source: Web) -> None:
    """While a task works its image shows it; when it is deleted then, the task fails."""
    task = begin(server, source.url("/slow"), name="slow")
    wait_for_data(server, task)
    assert server.show(task["image_id"])[LOCK] == task["id"]
    assert server.ask("DELETE", f"/v2/images/{task['image_id']}").status == 204
    assert ended(server, task["id"])["status"] == "failure"
    assert images(server, "slow") == []


def test_a_killed_task_leaves_no_image(serve: Serve, source: Web) -> None:
    """After kill -9 the next server ends the task, and the image that it made is gone."""
    served = serve(rules(source))
    task = begin(served, source.url("/halting"), name="halting")
    wait_for_data(served, task)
    for pid in served.pids():
        os.kill(pid, signal.SIGKILL)
    served.process.wait()
    again = serve(rules(source))
    assert ended(again, task["id"])["status"] == "failure"
    assert images(again, "halting") == []
    assert again.ask("GET", f"/v2/images/{task['image_id']}").status == 404


def test_a_server_that_is_stopped_leaves_no_image(serve: Serve, source: Web) -> None:
    """A stop in the middle ends the task before anybody asks again."""
    served = serve(rules(source))
    task = begin(served, source.url("/slow"), name="stopped")
    wait_for_data(served, task)
    assert served.stop() == 0
    again = serve(rules(source))
    found = again.ask("GET", f"/v2/tasks/{task['id']}").json()
    assert (found["status"], found["message"], images(again, "stopped")) == ("failure", "the server was stopped", [])
