"""What schemathesis is told beyond the description: paths that name things that are there, most of the time.

It runs in the venv of schemathesis, and knows the service by its URL alone. A thing that was changed is made anew, so
the next request finds it as it should be.
"""

import http.client
import json
import os
import urllib.parse
from collections import Counter
from collections.abc import Callable
from typing import Any

import schemathesis

URL = urllib.parse.urlsplit(os.environ["CASIMG_OPENAPI_URL"])
TOKEN = os.environ.get("CASIMG_OPENAPI_TOKEN", "")
DATA = bytes(range(256)) * 300
NAMESPACE = "openapi"
PATCH_TYPE = "application/openstack-images-{}-json-patch"

for version in ("v2.0", "v2.1"):
    schemathesis.serializer.alias(PATCH_TYPE.format(version), "application/json")


def ask(method: str, path: str, body: Any = None, media_type: str = "application/json") -> tuple[int, Any]:
    """Return status and document of one call."""
    connection = http.client.HTTPConnection(str(URL.hostname), URL.port, timeout=30)
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"X-Auth-Token": TOKEN, "Content-Type": media_type}
        connection.request(method, path, body=data, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else None
    finally:
        connection.close()


def queued() -> str:
    """Make an image without data, shared with a project and with a tag."""
    body = {"disk_format": "raw", "container_format": "bare", "visibility": "shared", "tags": ["tag"], "key": "value"}
    status, image = ask("POST", "/v2/images", body)
    assert status == 201, image
    ask("POST", f"/v2/images/{image['id']}/members", {"member": "p-bob"})
    return str(image["id"])


def active() -> str:
    image_id = queued()
    status, _ = ask("PUT", f"/v2/images/{image_id}/file", DATA, "application/octet-stream")
    assert status == 204
    return image_id


def deactivated() -> str:
    image_id = active()
    ask("POST", f"/v2/images/{image_id}/actions/deactivate")
    return image_id


def staged() -> str:
    image_id = queued()
    ask("PUT", f"/v2/images/{image_id}/stage", DATA, "application/octet-stream")
    return image_id


KINDS: dict[str, Callable[[], str]] = {"active": active, "queued": queued, "staged": staged, "deactivated": deactivated}
_made: dict[str, str] = {}
_turns: Counter[str] = Counter()
_used: dict[str, str] = {}


def image_of(kind: str) -> str:
    """Return an image of a kind that nobody has changed."""
    if kind not in _made:
        _made[kind] = KINDS[kind]()
    return _made[kind]


def furnish_namespace() -> None:
    """Have a namespace with one of everything, where the caller may make one."""
    body = {
        "namespace": NAMESPACE,
        "properties": {"p": {"title": "p", "type": "string"}},
        "objects": [{"name": "o"}],
        "tags": [{"name": "t"}],
        "resource_type_associations": [{"name": "r"}],
    }
    ask("DELETE", f"/v2/metadefs/namespaces/{NAMESPACE}")
    ask("POST", "/v2/metadefs/namespaces", body)
    _made["namespace"] = NAMESPACE


def task() -> str:
    """Return a task of an import."""
    image_id = staged()
    ask("POST", f"/v2/images/{image_id}/import", {"method": {"name": "glance-direct"}})
    _, found = ask("GET", f"/v2/images/{image_id}/tasks")
    tasks = (found or {}).get("tasks") or [{"id": "none"}]
    return str(tasks[0]["id"])


@schemathesis.hook  # type: ignore[untyped-decorator]  # not in the venv of mypy
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Let three of four requests name things that are there."""
    parts = case.path_parameters
    operation = f"{case.operation.method} {case.operation.path}"
    turn = _turns[operation]
    _turns[operation] += 1
    case_id = case.id
    if not isinstance(parts, dict) or turn % 4 == 3:
        return
    if "image_id" in parts:
        kind = list(KINDS)[(turn // 4 + turn) % len(KINDS)]
        parts["image_id"] = image_of(kind)
        _used[case_id] = kind
        if isinstance(case.query, dict) and "other" in case.query:
            case.query["other"] = image_of("active")
    if "namespace" in parts:
        if "namespace" not in _made:
            furnish_namespace()
        parts["namespace"] = NAMESPACE
        _used[case_id] = "namespace"
    if "task_id" in parts:
        parts["task_id"] = _made.setdefault("task", task())
    known = {"member_id": "p-bob", "tag_value": "tag", "store_id": "local", "property_name": "p", "object_name": "o"}
    for name, value in {**known, "tag_name": "t", "resource_type": "r"}.items():
        if name in parts and turn % 2 == 0:
            parts[name] = value


@schemathesis.hook  # type: ignore[untyped-decorator]  # as above
def after_call(context: Any, case: Any, response: Any) -> None:
    """Forget what a request has changed."""
    kind = _used.pop(case.id, None)
    if kind is not None and case.method.upper() != "GET" and response.status_code < 300:
        _made.pop(kind, None)
