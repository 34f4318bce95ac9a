"""Put the description together: the operations of the routes that there are, with what all of them share."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import casimg
from casimg_api.config import Config
from casimg_api.errors import EXPLANATIONS
from casimg_api.openapi import images, metadefs, others
from casimg_api.openapi.components import components
from casimg_api.openapi.operations import Answer, Operation, Operations, Parameter
from casimg_api.routes import Route

DESCRIBED: Final[Operations] = {**images.OPERATIONS, **metadefs.OPERATIONS, **others.OPERATIONS}
"""By "METHOD /path"; those of routes that are not there yet are left out of the document."""
OPEN: Final = frozenset({"GET /", "GET /versions", "GET /healthcheck"})
"""What is answered before the router."""
REQUEST_ID: Final = "x-openstack-request-id"

_EVERY: Final = (400, 401, 403, 404, 431, 503)
_EVERY_OPEN: Final = (400, 431, 503)
_PART: Final = re.compile(r"\{(\w+)\}")
_UUIDS: Final = frozenset({"image_id", "task_id"})
_ABOUT: Final = (
    "The OpenStack Image API v2 as casimg serves it, and what it has beside it below /casimg/v1. /v2.0 and the other "
    "versions that /versions tells are aliases of /v2. Errors are HTML, JSON or plain text, by the Accept header. "
    "Every request may bring an id of its own in x-openstack-request-id."
)


def described() -> frozenset[str]:
    """Return the routes that have a description, as "METHOD /path"."""
    return frozenset(DESCRIBED)


def document(config: Config, routes: Iterable[Route]) -> dict[str, Any]:
    """Return the description of these routes, and of what is answered before the router, in OpenAPI 3.1."""
    names = [*sorted(OPEN), *(f"{route.method} {route.full_path}" for route in routes)]
    paths: dict[str, dict[str, Any]] = {}
    for name in names:
        method, path = name.split(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(name, path, DESCRIBED[name])
    return {
        "openapi": "3.1.0",
        "info": {"title": "casimg", "version": casimg.__version__, "description": _ABOUT},
        "security": [{"token": []}, *([{}] if config.auth.allow_anonymous_access else [])],
        "paths": paths,
        "components": {
            "schemas": components(config),
            "responses": {f"error_{status}": _error(status) for status in EXPLANATIONS},
            "headers": {REQUEST_ID: {"description": "Id of the request.", "schema": {"type": "string"}}},
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
        },
    }


def _operation(name: str, path: str, operation: Operation) -> dict[str, Any]:
    errors = {*(_EVERY_OPEN if operation.is_open else _EVERY), *operation.errors}
    if operation.body and set(operation.body) != {"application/octet-stream"}:
        errors.add(413)
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", name.replace("{", "").replace("}", "")).strip("_").lower(),
        "summary": operation.summary,
        "parameters": [*(_part(part) for part in _PART.findall(path)), *map(_parameter, operation.parameters)],
        "responses": {
            **{str(status): _answer(answer) for status, answer in operation.answers.items()},
            **{str(status): {"$ref": f"#/components/responses/error_{status}"} for status in sorted(errors)},
        },
    }
    if operation.is_open:
        found["security"] = []
    if operation.body:
        content = {media_type: {"schema": schema} for media_type, schema in operation.body.items()}
        found["requestBody"] = {"required": operation.body_required, "content": content}
    return found


def _part(name: str) -> dict[str, Any]:
    schema = {"type": "string", "format": "uuid"} if name in _UUIDS else {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _parameter(given: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {"name": given.name, "in": given.place, "description": given.about, "schema": given.schema}
    return {**found, "required": True} if given.required else found


def _answer(answer: Answer) -> dict[str, Any]:
    told: dict[str, Mapping[str, Any]] = {
        name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers.items()
    }
    told[REQUEST_ID] = {"$ref": f"#/components/headers/{REQUEST_ID}"}
    found: dict[str, Any] = {"description": answer.about, "headers": told}
    if answer.schema is not None:
        found["content"] = {
            media_type: {"schema": answer.schema if media_type != "text/plain" else {"type": "string"}}
            for media_type in answer.media_type.split(", ")
        }
    return found


def _error(status: int) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    return {
        "description": EXPLANATIONS[status],
        "headers": {REQUEST_ID: {"$ref": f"#/components/headers/{REQUEST_ID}"}},
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/error"}},
            "text/html": text,
            "text/plain": text,
        },
    }
