"""What the service can do: versions and health for everybody, `/v2/info` for callers.

There are no microversions: every route is always there, and `/versions` only tells. Clients look for exact numbers, so
a number is told when its routes do what they say.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from casimg_api.answers import send_json
from casimg_api.config import Config
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.routes import Route
from casimg_api.stores import Store
from casimg_api.urls import base_url

_WITH_CACHE: Final = ("v2.18", "v2.17", "v2.16", "v2.15", "v2.14")
_ALWAYS: Final = ("v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0")
_STORES: Final = ("v2.13", "v2.12", "v2.11", "v2.10", "v2.9", "v2.8")


def versions(config: Config) -> tuple[str, ...]:
    """Return the versions to tell, in Glance's order."""
    stores = _STORES if config.store.multi_store else ("v2.9",)
    if config.cache.image_cache_dir:
        return (*_WITH_CACHE, *stores, *_ALWAYS)
    return ("v2.15", *stores, "v2.17", *_ALWAYS)


def current_version(config: Config) -> str:
    """Return the newest version whose routes all are there."""
    return "v2.18" if config.cache.image_cache_dir else "v2.17"


def prefixes(config: Config) -> frozenset[str]:
    """Return the first parts of paths that all mean /v2."""
    return frozenset({"v2", *versions(config)})


def versions_document(environ: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return the document of `/` and `/versions`."""
    href = f"{base_url(environ, config.server)}/v2/"
    current = current_version(config)
    return {
        "versions": [
            {
                "id": version,
                "status": "CURRENT" if version == current else "SUPPORTED",
                "links": [{"rel": "self", "href": href}],
            }
            for version in versions(config)
        ]
    }


def is_disabled(config: Config) -> bool:
    """Return whether the operator has taken the server out of service."""
    path = config.health.disable_by_file_path
    return bool(path) and Path(path).exists()


def import_methods(call: Call) -> None:
    """GET /info/import: the methods that are enabled."""
    value = list(call.config.image_import.enabled_import_methods)
    methods = {"description": "Import methods available.", "type": "array", "value": value}
    send_json(call, {"import-methods": methods})


def stores(call: Call) -> None:
    """GET /info/stores."""
    send_json(call, {"stores": [_store(store) for store in _shown(call)]})


def stores_detail(call: Call) -> None:
    """GET /info/stores/detail, for administrators and services."""
    found = _shown(call)
    call.policy.enforce(call.caller, "stores_info_detail", {})
    details = [{"type": store.kind, "weight": store.weight, "properties": _properties(store)} for store in found]
    send_json(call, {"stores": [{**_store(store), **detail} for store, detail in zip(found, details, strict=True)]})


def _shown(call: Call) -> Sequence[Store]:
    if not call.stores.is_shown:
        raise HttpError(404, "Multi backend is not supported at this site.")
    return call.stores.all


def _store(store: Store) -> dict[str, str]:
    """Return a store as clients see it; true is a text on this wire."""
    view = {"id": store.name}
    if store.description:
        view["description"] = store.description
    if store.is_default:
        view["default"] = "true"
    if store.is_read_only:
        view["read-only"] = "true"
    return view


def _properties(store: Store) -> dict[str, Any]:
    """Return what Glance tells of a store of this kind, as far as it means something here."""
    return {"thin_provisioning": True} if store.kind == "file" else {}


def usage(call: Call) -> None:
    """GET /info/usage: what the caller's project has and may have; empty without limits of Keystone."""
    found = call.limits.figures(call.caller.project_id)
    send_json(call, {"usage": {name: {"usage": has, "limit": may} for name, (has, may) in found.items()}})


ROUTES: Final = (
    Route("GET", "/info/import", import_methods, rejects_body=True),
    Route("GET", "/info/stores", stores, rejects_body=True),
    Route("GET", "/info/stores/detail", stores_detail, rejects_body=True),
    Route("GET", "/info/usage", usage),
)
