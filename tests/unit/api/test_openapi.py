"""The OpenAPI description says every route of the router and no other, and docs/openapi.json is what the code says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from casimg_api.app import ALL_ROUTES
from casimg_api.config import Config
from casimg_api.openapi import described, document
from casimg_api.openapi.__main__ import text
from casimg_api.openapi.document import OPEN
from tests.unit.api.test_api_routes import section

DOCUMENT = document(Config(), ALL_ROUTES)
FILE = Path(__file__).resolve().parents[3] / "docs" / "openapi.json"


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Go through method, path and operation of the document."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_route_is_described() -> None:
    """Each route of the router has an operation; to add one, see casimg_api/openapi/operations.py."""
    assert {f"{route.method} {route.full_path}" for route in ALL_ROUTES} - described() == set()


def test_nothing_else_is_described() -> None:
    """What has an operation and no route is answered before the router, or is known to be missing."""
    routed = {f"{route.method} {route.full_path}" for route in ALL_ROUTES}
    missing = {f"{method} /v2{path}" for method, path in section("Routes that are missing")}
    assert described() - routed - OPEN - missing == set()


def test_the_document_has_what_there_is() -> None:
    """The document has the routes that there are, and no others."""
    routed = {f"{route.method} {route.full_path}" for route in ALL_ROUTES}
    assert {f"{method} {path}" for method, path, _ in operations()} == routed | OPEN


def test_the_file_is_current() -> None:
    """docs/openapi.json is what `make docs` writes."""
    assert FILE.read_text() == text()


def test_references_lead_somewhere() -> None:
    """Every reference names a component, and every schema is named by something."""
    found = set(references(DOCUMENT))
    for name in found:
        at: Any = DOCUMENT
        for part in name.removeprefix("#/").split("/"):
            at = at[part]
    unused = {name for name in DOCUMENT["components"]["schemas"] if f"#/components/schemas/{name}" not in found}
    assert unused == set()


def test_operations_are_whole() -> None:
    """Ids are unique, parts of paths are parameters, and success is told besides errors."""
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)
    for method, path, operation in operations():
        parts = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
        assert parts == set(re.findall(r"\{(\w+)\}", path))
        statuses = {int(status) for status in operation["responses"]}
        assert f"{method} {path}" == "DELETE /v2/tasks/{task_id}" or min(statuses) < 400
        assert 500 not in statuses


def test_bodies_are_where_they_are_read() -> None:
    """A route that rejects bodies describes none; PATCH describes both dialects, data are octets."""
    for route in ALL_ROUTES:
        operation = DOCUMENT["paths"][route.full_path][route.method.lower()]
        if route.rejects_body or route.method == "GET":
            assert "requestBody" not in operation, route
    image = DOCUMENT["paths"]["/v2/images/{image_id}"]
    assert sorted(image["patch"]["requestBody"]["content"]) == [
        f"application/openstack-images-v2.{minor}-json-patch" for minor in (0, 1)
    ]
    assert list(DOCUMENT["paths"]["/v2/images/{image_id}/file"]["put"]["requestBody"]["content"]) == [
        "application/octet-stream"
    ]


def test_formats_are_the_servers() -> None:
    """The description of a server has the formats of its configuration."""
    config = Config.of({"images": {"disk_formats": ["raw", "luks"]}}, "here")
    image = json.loads(json.dumps(document(config, ALL_ROUTES)))["components"]["schemas"]["image"]
    assert image["properties"]["disk_format"]["enum"] == [None, "raw", "luks"]
