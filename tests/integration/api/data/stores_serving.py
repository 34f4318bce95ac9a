"""A repository of several backends, and short ways to import to its stores."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import casimg
from tests.integration.api.data.serving import OCTETS, Answer, Server

FAILED = "os_glance_failed_import"
LEFT = "os_glance_importing_to_stores"
LOCK = "os_glance_import_task"


def make_repository(folder: Path, *names: str) -> Path:
    """Make a repository with further backends in folders beside it; return its path."""
    repository = folder / "repository"
    casimg.create(repository).close()
    for name in names:
        add_backend(repository, name, folder / name)
    return repository


def add_backend(repository: Path, name: str, place: Path) -> None:
    """Give a repository a further backend, as operators do."""
    command = [sys.executable, "-m", "casimg", "backend", "add", str(repository), name, str(place)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def configured(more: str = "", *, methods: str = '"glance-direct", "web-download", "copy-image"') -> str:
    """Return the configuration of a server that shows its stores."""
    return f"[image_import]\nenabled_import_methods = [{methods}]\n[store]\nmulti_store = true\n{more}"


def ask_import(server: Server, image_id: str, name: str, headers: dict[str, str] | None = None, **body: Any) -> Answer:
    """Ask for an import; `uri` goes into the method."""
    method = {"name": name, **({"uri": body.pop("uri")} if "uri" in body else {})}
    document = json.dumps({"method": method, **body}).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    return server.ask("POST", f"/v2/images/{image_id}/import", document, sent)


def stage(server: Server, image_id: str, data: bytes) -> None:
    answer = server.ask("PUT", f"/v2/images/{image_id}/stage", data, {"Content-Type": OCTETS})
    assert answer.status == 204, answer


def tasks(server: Server, image_id: str) -> list[Any]:
    found: list[Any] = server.ask("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]
    return found


def ended(server: Server, image_id: str, time_max_s: float = 60.0) -> Any:
    """Wait until the last task of an image has ended and return it."""
    give_up_s = time.monotonic() + time_max_s
    while (task := tasks(server, image_id)[-1])["status"] in ("pending", "processing"):
        assert time.monotonic() < give_up_s, f"{task}: {server.log.read_text()[-3000:]}"
        time.sleep(0.05)
    return task


def stores(server: Server, image_id: str) -> str | None:
    """Return what an image tells of its stores."""
    found: str | None = server.show(image_id).get("stores")
    return found


def stored(server: Server, data: bytes, store: str | None = None) -> str:
    """Return a new image with data in a store."""
    image_id = server.create()
    answer = server.upload(image_id, data, {} if store is None else {"X-Image-Meta-Store": store})
    assert answer.status == 204, answer
    return image_id
