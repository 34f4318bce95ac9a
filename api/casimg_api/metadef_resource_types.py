"""Routes of resource types: all that are known, and those that a namespace of metadata definitions is for."""

from typing import Final

from casimg.metadef_documents import parse_association
from casimg_api import metadef_access as access
from casimg_api.answers import send_json, send_nothing
from casimg_api.context import Call
from casimg_api.metadef_views import association_view, tag_view
from casimg_api.routes import Route


def index(call: Call) -> None:
    """List every resource type that a namespace was ever for."""
    access.enforce(call, "list_metadef_resource_types")
    send_json(call, {"resource_types": [tag_view(row) for row in call.metadefs.resource_types()]})


def show(call: Call, namespace: str) -> None:
    """List the resource types of a namespace."""
    found = access.namespace_for(call, namespace, "list_metadef_resource_types")
    rows = call.metadefs.associations(namespace, call.caller.viewer)
    shown = rows if access.allows(call, "get_metadef_resource_type", found) else ()
    send_json(call, {"resource_type_associations": [association_view(row) for row in shown]})


def create(call: Call, namespace: str) -> None:
    """Say that a namespace is for a resource type."""
    new = access.body(call, parse_association, links=False)
    access.namespace_for(call, namespace, "add_metadef_resource_type_association")
    send_json(call, association_view(call.metadefs.associate(namespace, new, call.caller.viewer)), 201)


def delete(call: Call, namespace: str, resource_type: str) -> None:
    """Say that a namespace is not for a resource type."""
    access.namespace_for(call, namespace, "remove_metadef_resource_type_association")
    call.metadefs.disassociate(namespace, resource_type, call.caller.viewer)
    send_nothing(call)


_ALL: Final = "/metadefs/namespaces/{namespace}/resource_types"
ROUTES: Final = (
    Route("GET", "/metadefs/resource_types", index, rejects_body=True),
    Route("GET", _ALL, show, rejects_body=True),
    Route("POST", _ALL, create),
    Route("DELETE", f"{_ALL}/{{resource_type}}", delete, rejects_body=True),
)
