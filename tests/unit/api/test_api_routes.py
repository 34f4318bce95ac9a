"""The router and docs/http-api.md say the same, and together with what is missing they are Glance's routes."""

import re
from pathlib import Path

from casimg_api.app import EXTENSION_ROUTES, ROUTES

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "http-api.md"
ROW = re.compile(r"^\| ([A-Z ]+) \| (/\S+) \|", re.MULTILINE)
NAMESPACE = "/metadefs/namespaces/{namespace}"
GLANCE = {
    **{f"/schemas/{name}": "GET" for name in ("image", "images", "member", "members", "task", "tasks")},
    **{
        f"/schemas/metadefs/{name}": "GET"
        for name in (
            *("namespace", "namespaces", "resource_type", "resource_types", "property", "properties"),
            *("object", "objects", "tag", "tags"),
        )
    },
    "/metadefs/resource_types": "GET",
    "/metadefs/namespaces": "GET POST",
    NAMESPACE: "GET PUT DELETE",
    f"{NAMESPACE}/resource_types": "GET POST",
    f"{NAMESPACE}/resource_types/{{resource_type}}": "DELETE",
    f"{NAMESPACE}/properties": "GET POST DELETE",
    f"{NAMESPACE}/properties/{{property_name}}": "GET PUT DELETE",
    f"{NAMESPACE}/objects": "GET POST DELETE",
    f"{NAMESPACE}/objects/{{object_name}}": "GET PUT DELETE",
    f"{NAMESPACE}/tags": "GET POST DELETE",
    f"{NAMESPACE}/tags/{{tag_name}}": "GET POST PUT DELETE",
    "/images": "GET POST",
    "/images/{image_id}": "GET PATCH DELETE",
    "/images/{image_id}/tasks": "GET",
    "/images/{image_id}/import": "POST",
    "/images/{image_id}/stage": "PUT",
    "/images/{image_id}/file": "GET PUT",
    "/images/{image_id}/locations": "POST GET",
    "/images/{image_id}/actions/deactivate": "POST",
    "/images/{image_id}/actions/reactivate": "POST",
    "/images/{image_id}/tags/{tag_value}": "PUT DELETE",
    "/images/{image_id}/members": "GET POST",
    "/images/{image_id}/members/{member_id}": "GET PUT DELETE",
    "/stores/{store_id}/{image_id}": "DELETE",
    "/tasks": "GET POST",
    "/tasks/{task_id}": "GET DELETE",
    "/info/import": "GET",
    "/info/stores": "GET",
    "/info/stores/detail": "GET",
    "/info/usage": "GET",
    "/cache": "GET DELETE",
    "/cache/{image_id}": "DELETE PUT",
    "/cache/nodes/{image_id}": "GET",
    "/cache/clean": "POST",
    "/cache/prune": "POST",
}
"""Glance's router, version 33."""


def pairs(routes: dict[str, str]) -> set[tuple[str, str]]:
    return {(method, path) for path, methods in routes.items() for method in methods.split()}


def section(heading: str) -> set[tuple[str, str]]:
    """Return the routes of a table of the document."""
    text = DOCUMENT.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return {(method, path) for methods, path in ROW.findall(text) for method in methods.split()}


def test_document_says_every_route() -> None:
    """Every route of the router stands in the document, and no other."""
    assert section("Routes") == {(route.method, route.path) for route in ROUTES}


def test_document_says_every_route_of_the_extension() -> None:
    """Every route that Glance does not have stands in the document's other table, below its own path."""
    assert section("Extension") == {(route.method, route.path) for route in EXTENSION_ROUTES}
    assert {route.root for route in EXTENSION_ROUTES} == {"/casimg/v1"}
    assert {route.root for route in ROUTES} == {"/v2"}


def test_nothing_of_glance_is_forgotten() -> None:
    """Glance's 81 routes are in the router, or in the list of those that are missing; and no other is in either."""
    glance = pairs(GLANCE)
    assert len(glance) == 81
    assert section("Routes") | section("Routes that are missing") == glance
    assert section("Routes") & section("Routes that are missing") == set()


def test_methods_stand_in_glances_order() -> None:
    """Wrong methods are answered with the methods of a path in Glance's order."""
    by_path: dict[str, list[str]] = {}
    for route in ROUTES:
        by_path.setdefault(route.path, []).append(route.method)
    whole = {path: methods.split() for path, methods in GLANCE.items() if path in by_path}
    assert {path: by_path[path] for path in whole} == whole
