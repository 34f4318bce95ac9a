"""The application: all routes in one place, and what is done around every handler.

`make_app` wires the repository's registry, the policy and the configuration; what stands before the router is, from
outside: the access log, CORS, request ids and versions, authentication.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import falcon
from falcon.constants import COMBINED_METHODS

from casimg.errors import CasimgError
from casimg.kept import usual_size
from casimg_api import (
    cache,
    discovery,
    extension_figures,
    extension_images,
    image_actions,
    image_data,
    image_import,
    image_locations,
    image_members,
    image_stage,
    image_tags,
    images,
    metadefs,
    schemas,
    task_creation,
    tasks,
)
from casimg_api.access import AccessLog
from casimg_api.answers import send_json
from casimg_api.auth import guarded
from casimg_api.caching import Caching, node_of
from casimg_api.config import Config
from casimg_api.context import CALLER_KEY, REQUEST_ID_KEY, Call, Services
from casimg_api.cors import Cors
from casimg_api.errors import HttpError, error_body, http_error_of
from casimg_api.front import Front
from casimg_api.http_store import open_elsewhere
from casimg_api.importing import Imports, end_dead
from casimg_api.location_work import go_on_hashing
from casimg_api.openapi import document
from casimg_api.places import Places
from casimg_api.policy import Policy
from casimg_api.property_protection import PropertyProtection
from casimg_api.requests import check_path, check_text, has_body
from casimg_api.routes import EXTENSION, V2, Route
from casimg_api.schemas import Schemas
from casimg_api.stopping import at_stop
from casimg_api.stores import Stores
from casimg_api.unified_limits import limits_of_config
from casimg_api.upkeep import Collector, rules_of

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from casimg.metadefs import Metadefs
    from casimg.repository import Repository
    from casimg.tasks import Tasks
    from casimg_api.ports import RegistryPort

_log = logging.getLogger("casimg_api.app")

ROUTES: Final[tuple[Route, ...]] = (
    *images.ROUTES,
    *image_data.ROUTES,
    *image_stage.ROUTES,
    *image_import.ROUTES,
    *image_members.ROUTES,
    *image_tags.ROUTES,
    *image_actions.ROUTES,
    *image_locations.ROUTES,
    *schemas.ROUTES,
    *discovery.ROUTES,
    *tasks.ROUTES,
    *task_creation.ROUTES,
    *cache.ROUTES,
    *metadefs.ROUTES,
)
"""Every route below /v2: a module of handlers lists its own, and is added here."""


def _describe(call: Call) -> None:
    """GET /openapi.json: what this server takes and answers."""
    send_json(call, document(call.config, ALL_ROUTES))


EXTENSION_ROUTES: Final[tuple[Route, ...]] = (
    *extension_images.ROUTES,
    *extension_figures.ROUTES,
    Route("GET", "/openapi.json", _describe, rejects_body=True, root=EXTENSION),
)
"""Every route that Glance does not have."""
ALL_ROUTES: Final = (*ROUTES, *EXTENSION_ROUTES)

WITHOUT_REJECTION: Final = frozenset({"/images/{image_id}/tasks", "/info/usage"})
"""Paths where Glance answers a wrong method with 404, not 405."""
_IMPLEMENTED: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"})

METHOD_KEY: Final = "casimg.method"
"""Where a method is kept that the framework does not know."""

Responder = Callable[..., None]


def make_app(
    repository: "Repository", config: Config, *, is_serving: bool = True, process_count: int = 0
) -> "WSGIApplication":
    """Return the service over an open repository; ends what servers were at that are gone. Raises: ConfigError.

    Args:
        is_serving: False only to see whether it can be made: nothing begins in the background.
        process_count: how many processes of the machine serve it; 0 when nobody knows.
    """
    registry = repository.registry()
    if is_serving:
        registry.keep(_memory_size(config, process_count))
    work = repository.tasks(config.task.task_time_to_live * 3600.0)
    end_dead(registry, work)
    caching = None
    if config.cache.image_cache_dir:
        rows = repository.image_cache(node_of(config.cache))
        caching = Caching(registry, rows, config.cache, registry.kept)
        if is_serving:
            caching.begin()
            at_stop(caching.stop)
    if is_serving and rules_of(config.upkeep) is not None:
        collector = Collector(repository, config)
        collector.begin()
        at_stop(collector.stop, collector.hurry)
    return app_over(registry, repository.metadefs(), work, config, caching, is_serving=is_serving)


def _memory_size(config: Config, process_count: int) -> int:
    """Return the bytes that this process may keep of what is downloaded."""
    size = config.cache.memory_size_max
    if size < 0:
        return usual_size(process_count) if process_count else 0
    return size // (process_count or config.server.workers)


def app_over(
    registry: "RegistryPort",
    definitions: "Metadefs",
    work: "Tasks",
    config: Config,
    caching: Caching | None = None,
    *,
    is_serving: bool = True,
) -> "WSGIApplication":
    """Return the service over a registry, metadata definitions and tasks. Raises: ConfigError."""
    policy = Policy(Path(config.policy.policy_file) if config.policy.policy_file else None)
    protection = PropertyProtection(config.policy, policy)
    limits = limits_of_config(registry, config.quota)
    imports = Imports(registry, work, config, limits)
    at_stop(imports.stop)
    if caching is not None:
        caching.elsewhere = partial(open_elsewhere, imports.http_store)
    stores = Stores(config, registry.stores(), {config.http_store.name: "http"} if config.http_store.enabled else {})
    places = Places(config.images, stores, registry.locations().own_url)
    known = Schemas(config.images)
    services = Services(
        registry, definitions, work, config, policy, known, imports, stores, limits, places, protection, caching
    )
    if is_serving:
        go_on_hashing(registry, work, imports)
    app: WSGIApplication = Front(guarded(_AnyMethod(router(services)), config.auth, policy), config)
    if config.cors.allowed_origin:
        app = Cors(app, config.cors)
    return AccessLog(app) if config.log.access else app


def router(
    services: Services, routes: Iterable[Route] = (*ROUTES, *EXTENSION_ROUTES)
) -> "falcon.App[falcon.Request, falcon.Response]":
    """Return the application that knows all routes, and callers from the environ."""
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App()
    app.req_options.strip_url_path_trailing_slash = False  # no path of Glance ends in one
    app.add_error_handler(Exception, _on_error)
    app.add_error_handler(falcon.HTTPError, _on_error)
    by_path: dict[str, dict[str, Route]] = {}
    for route in ALL_ROUTES if routes is None else routes:
        if by_path.setdefault(route.full_path, {}).setdefault(route.method, route) is not route:
            raise ValueError(f"two routes for {route.method} {route.full_path}")
    for path, methods in by_path.items():
        app.add_route(path, _Resource(services, path, methods))
    app.add_sink(_unknown_path, "/")
    return app


class _Resource:
    """One path, as the framework wants it: a responder for every method there is."""

    def __init__(self, services: Services, path: str, methods: dict[str, Route]) -> None:
        wrong = _unknown_path if path.removeprefix(V2) in WITHOUT_REJECTION else _not_allowed(", ".join(methods))
        for method in COMBINED_METHODS:
            route = methods.get(method)
            setattr(self, f"on_{method.lower()}", wrong if route is None else _responder(services, route))


def _responder(services: Services, route: Route) -> Responder:
    def respond(req: falcon.Request, resp: falcon.Response, **parts: str) -> None:
        check_path(req.env)
        if not all(parts.values()):  # the path ended in a slash
            _unknown_path(req, resp)
        for part in parts.values():
            check_text(part)
        if route.rejects_body and has_body(req):
            raise HttpError(400, "A body is not expected with this request.")
        call = Call(services, req.env[CALLER_KEY], req.env[REQUEST_ID_KEY], req, resp)
        if call.caller.is_anonymous and route.method != "GET":
            raise HttpError(403, "Read-only access")
        route.handler(call, **parts)

    return respond


def _not_allowed(allowed: str) -> Responder:
    def respond(req: falcon.Request, resp: falcon.Response, **parts: str) -> None:
        if not all(parts.values()):  # the path ended in a slash
            _unknown_path(req, resp)
        raise HttpError(405, "", headers={"Allow": allowed})

    return respond


def _unknown_path(req: falcon.Request, resp: falcon.Response, **_parts: Any) -> None:  # noqa: ARG001 - the framework's names
    raise HttpError(404 if req.method in _IMPLEMENTED else 501)


def _on_error(req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    """Tell a client of an error; what is the server's fault goes into the log with its trace."""
    found = _http_error(error)
    if found is None:
        request_id = req.env[REQUEST_ID_KEY]
        _log.error("request.failed request_id=%s method=%s path=%s", request_id, req.method, req.path, exc_info=error)
        found = HttpError(500)
    body = error_body(found, req.get_header("Accept", default=""), req.env.get(METHOD_KEY, req.method))
    resp.status = body.status_line
    resp.stream = None
    resp.data = body.data
    resp.content_type = body.content_type
    for name, value in found.headers.items():
        resp.set_header(name, value)


def _http_error(error: Exception) -> HttpError | None:
    if isinstance(error, HttpError):
        return error
    if isinstance(error, CasimgError):
        return http_error_of(error)
    if isinstance(error, falcon.HTTPError) and error.status_code < 500:
        return HttpError(error.status_code if error.status_code in (404, 413) else 400, error.description)
    return None


class _AnyMethod:
    """Let methods that the framework does not know be told like those that it knows and no route has."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in _FRAMEWORK_METHODS:
            environ[METHOD_KEY] = environ["REQUEST_METHOD"]
            environ["REQUEST_METHOD"] = "TRACE"
        return self._app(environ, start_response)


_FRAMEWORK_METHODS: Final = frozenset(COMBINED_METHODS) - {"WEBSOCKET"}
