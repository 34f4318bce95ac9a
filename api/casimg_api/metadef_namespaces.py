"""Routes of namespaces of metadata definitions."""

from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from casimg.catalog.metadef_rows import NAMESPACE_SORT_KEYS, NamespaceQuery
from casimg.metadef_documents import parse_namespace
from casimg_api import metadef_access as access
from casimg_api import metadef_views as views
from casimg_api.answers import send_json, send_nothing
from casimg_api.context import Call
from casimg_api.routes import Route
from casimg_api.urls import absolute_url


def index(call: Call) -> None:
    """List the namespaces that the caller sees, by pages."""
    asked = access.fields(call)
    images = call.config.images
    wanted = access.limit(asked)
    query = NamespaceQuery(
        visibility=access.check_visibility(asked, "public", "private"),
        resource_types=tuple(asked["resource_types"].split(",")) if "resource_types" in asked else None,
        sort_key=access.sort_key(asked, NAMESPACE_SORT_KEYS),
        ascending=access.ascending(asked),
        marker=asked.pop("marker", None) or None,
        limit=min(images.api_limit_max, images.limit_param_default if wanted is None else wanted),
    )
    access.enforce(call, "get_metadef_namespaces")
    access.enforce(call, "list_metadef_resource_types")
    found = call.metadefs.namespaces(query, call.caller.viewer)
    shown = [item for item in found if access.allows(call, "get_metadef_namespace", item.namespace)]
    document: dict[str, Any] = {
        "namespaces": [views.listed_view(item) for item in shown],
        "first": _page(asked),
        "schema": "/v2/schemas/metadefs/namespaces",
    }
    if found and len(found) == query.limit:
        document["next"] = _page({**asked, "marker": found[-1].namespace.name})
    send_json(call, document)


def create(call: Call) -> None:
    """Make a namespace with all that the body says is in it, or nothing."""
    new = access.body(call, parse_namespace)
    access.enforce(call, "add_metadef_namespace")
    for part, rule in (
        (new.associations, "add_metadef_resource_type_association"),
        (new.objects, "add_metadef_object"),
        (new.properties, "add_metadef_property"),
        (new.tags, "add_metadef_tag"),
    ):
        if part:
            access.enforce(call, rule)
    made = call.metadefs.add_namespace(replace(new, owner=new.owner or call.caller.project_id))
    call.resp.location = absolute_url(call.req.env, call.config.server, views.namespace_href(made.name))
    send_json(call, views.made_view(made, new), 201)


def show(call: Call, namespace: str) -> None:
    """Show a namespace with all that is in it; names of properties as the resource type asked for has them."""
    found = call.metadefs.detail(namespace, call.caller.viewer)
    for rule in (
        "get_metadef_namespace",
        "list_metadef_resource_types",
        "get_metadef_objects",
        "get_metadef_properties",
        "get_metadef_tags",
    ):
        access.enforce(call, rule, found.namespace)
    wanted = access.fields(call).get("resource_type")
    prefixes = {item.name: item.prefix or "" for item in found.associations}
    send_json(call, views.detail_view(found, prefixes.get(wanted or "", "")))


def update(call: Call, namespace: str) -> None:
    """Give a namespace other fields, its name too; what is in it stays."""
    new = access.body(call, parse_namespace)
    access.namespace_for(call, namespace, "modify_metadef_namespace")
    new = replace(new, owner=new.owner or call.caller.project_id)
    send_json(call, views.namespace_view(call.metadefs.change_namespace(namespace, new, call.caller.viewer)))


def delete(call: Call, namespace: str) -> None:
    access.namespace_for(call, namespace, "delete_metadef_namespace")
    call.metadefs.remove_namespace(namespace, call.caller.viewer)
    send_nothing(call)


def _page(asked: dict[str, str]) -> str:
    return f"{views.ROOT}?{urlencode(asked)}" if asked else views.ROOT


_ONE: Final = "/metadefs/namespaces/{namespace}"
ROUTES: Final = (
    Route("GET", "/metadefs/namespaces", index),
    Route("POST", "/metadefs/namespaces", create),
    Route("GET", _ONE, show, rejects_body=True),
    Route("PUT", _ONE, update),
    Route("DELETE", _ONE, delete, rejects_body=True),
)
