"""Tasks over a socket: for administrators, by pages, of an image, and ended when their server is gone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import casimg
from casimg.catalog.query import Viewer
from casimg.catalog.task_rows import NewTask
from casimg.ids import ImageId
from casimg.repository import Repository
from tests.api_serving import Client, serving, site

ADMIN = Viewer(None, is_admin=True)
MAKE = """
import sys, casimg
from casimg.catalog.task_rows import NewTask
with casimg.open(sys.argv[1]) as repo:
    tasks = repo.tasks()
    made = tasks.create(NewTask("api_image_import", "p-alice"))
    tasks.begin(made.id)
    print(made.id)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    site(folder)
    return folder


@pytest.fixture(scope="module")
def dead(place: Path) -> str:
    """A task whose process has ended before the server starts."""
    command = [sys.executable, "-c", MAKE, str(place / "repository")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def client(place: Path, dead: str) -> Iterator[Client]:
    with serving("--config", str(place / "server.toml")) as found:
        yield found


@pytest.fixture
def repository(place: Path) -> Iterator[Repository]:
    with casimg.open(place / "repository") as opened:
        yield opened


def test_tasks_of_a_dead_server_have_ended(client: Client, dead: str) -> None:
    """A server that starts ends what a process that is gone was working at."""
    found = client.as_("admin").get(f"/v2/tasks/{dead}").json
    assert found["status"] == "failure"
    assert found["message"]


def test_a_task_is_told(client: Client, repository: Repository) -> None:
    """Administrators see a task whole, and in lists as a stub; others those of their project, at an image they see."""
    alice, admin = client.as_("alice"), client.as_("admin")
    image = alice.image(name="x")
    tasks = repository.tasks()
    task = tasks.create(
        NewTask("api_image_import", "p-alice", "alice", "req-1", ImageId(image["id"]), {"image_id": image["id"]})
    )
    foreign = tasks.create(NewTask("api_image_import", "p-admin", image_id=ImageId(image["id"])))
    tasks.begin(task.id)
    whole = admin.get(f"/v2/tasks/{task.id}").json
    assert {key: whole[key] for key in ("id", "type", "status", "owner", "message", "result", "input")} == {
        "id": task.id,
        "type": "api_image_import",
        "status": "processing",
        "owner": "p-alice",
        "message": "",
        "result": None,
        "input": {"image_id": image["id"]},
    }
    assert (whole["image_id"], whole["request_id"], whole["user_id"]) == (image["id"], "req-1", "alice")
    assert (whole["self"], whole["schema"]) == (f"/v2/tasks/{task.id}", "/v2/schemas/task")
    assert "expires_at" not in whole
    tasks.succeed(task.id, {"image_id": image["id"]})
    ended = admin.get(f"/v2/tasks/{task.id}").json
    assert ended["result"] == {"image_id": image["id"]}
    assert len(ended["expires_at"]) == len("2014-05-05T17:15:10Z")
    stub = next(item for item in admin.get("/v2/tasks").json["tasks"] if item["id"] == task.id)
    assert set(stub) == {"id", "type", "status", "owner", "created_at", "updated_at", "expires_at", "self", "schema"}
    own = alice.get(f"/v2/images/{image['id']}/tasks").json["tasks"]
    assert [(item["id"], item["status"], item["deleted"]) for item in own] == [(task.id, "success", False)]
    assert set(own[0]) == (set(stub) | {"input", "result", "message", "image_id", "request_id", "user_id"}) - {
        *("self", "schema"),
    } | {"deleted", "deleted_at"}
    both = admin.get(f"/v2/images/{image['id']}/tasks").json["tasks"]
    assert {item["id"] for item in both} == {task.id, foreign.id}
    assert client.as_("bob").get(f"/v2/images/{image['id']}/tasks").status == 404


def test_only_administrators_ask(client: Client, repository: Repository) -> None:
    """Members are refused, whatever they ask, also to have something done; nobody deletes a task."""
    task = repository.tasks().create(NewTask("import", "p-alice"))
    for who in ("alice", "reader", "nobody"):
        for method, path in (("GET", "/v2/tasks"), ("GET", f"/v2/tasks/{task.id}"), ("DELETE", f"/v2/tasks/{task.id}")):
            assert client.as_(who).call(method, path).status == 403
        # Refused before anything of the body is looked at.
        assert client.as_(who).post("/v2/tasks", {"type": "import", "input": {}}).status == 403
        assert client.as_(who).post("/v2/tasks", []).status == 403
    admin = client.as_("admin")
    assert admin.delete(f"/v2/tasks/{task.id}").status == 405
    assert admin.get("/v2/tasks/7f0c3c2e-0000-4000-8000-000000000001").status == 404
    assert admin.get("/v2/tasks/%00").status in (400, 404)


def test_pages_of_tasks(client: Client, repository: Repository) -> None:
    """Pages lead to each other; filters are exact; what cannot be asked is 400."""
    admin = client.as_("admin")
    tasks = repository.tasks()
    made = [tasks.create(NewTask("import", "p-pages")).id for _ in range(5)]
    found: list[str] = []
    path = "/v2/tasks?owner=p-pages&limit=2&sort_dir=asc"
    while path:
        page = admin.get(path).json
        found += [item["id"] for item in page["tasks"]]
        assert page["first"] == "/v2/tasks?owner=p-pages&limit=2&sort_dir=asc"
        path = page.get("next", "")
    assert sorted(found) == sorted(made)
    assert admin.get("/v2/tasks?owner=p-pages&status=success").json["tasks"] == []
    assert len(admin.get("/v2/tasks?owner=p-pages&type=import&unknown=1").json["tasks"]) == 5
    missing = "7f0c3c2e-0000-4000-8000-000000000001"
    for query in ("limit=x", "limit=-1", "sort_dir=up", "sort_key=input", "status=done", "type=export", "marker=x"):
        assert admin.get(f"/v2/tasks?{query}").status == 400, query
    assert admin.get(f"/v2/tasks?marker={missing}").status == 400
    assert json.dumps(admin.get("/v2/tasks").json).count(made[0]) == 2
