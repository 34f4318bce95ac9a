"""Routes of properties in a namespace of metadata definitions."""

from typing import Final

from casimg.errors import MetadefNotFoundError
from casimg.metadef_documents import parse_property
from casimg_api import metadef_access as access
from casimg_api.answers import send_json, send_nothing
from casimg_api.context import Call
from casimg_api.metadef_views import property_view
from casimg_api.routes import Route


def index(call: Call, namespace: str) -> None:
    access.namespace_for(call, namespace, "get_metadef_properties")
    rows = call.metadefs.properties(namespace, call.caller.viewer)
    send_json(call, {"properties": {row.name: row.definition for row in rows}})


def create(call: Call, namespace: str) -> None:
    new = access.body(call, parse_property, links=False)
    access.namespace_for(call, namespace, "add_metadef_property")
    send_json(call, property_view(call.metadefs.add_property(namespace, new, call.caller.viewer)), 201)


def delete_all(call: Call, namespace: str) -> None:
    access.namespace_for(call, namespace, "delete_metadef_namespace")
    call.metadefs.remove_properties(namespace, call.caller.viewer)
    send_nothing(call)


def show(call: Call, namespace: str, property_name: str) -> None:
    """Show a property; with a resource type in the query, named as it is for that type."""
    found = access.namespace_for(call, namespace, "get_metadef_property")
    wanted = access.fields(call).get("resource_type")
    if wanted:
        access.enforce(call, "get_metadef_resource_type", found)
        prefix = call.metadefs.association(namespace, wanted, call.caller.viewer).prefix
        if not prefix or not property_name.startswith(prefix):
            raise MetadefNotFoundError("property", property_name, namespace)
        property_name = property_name.removeprefix(prefix)
    send_json(call, property_view(call.metadefs.property(namespace, property_name, call.caller.viewer)))


def update(call: Call, namespace: str, property_name: str) -> None:
    """Give a property another definition, its name too."""
    new = access.body(call, parse_property, links=False)
    access.namespace_for(call, namespace, "modify_metadef_property")
    send_json(call, property_view(call.metadefs.change_property(namespace, property_name, new, call.caller.viewer)))


def delete(call: Call, namespace: str, property_name: str) -> None:
    access.namespace_for(call, namespace, "remove_metadef_property")
    call.metadefs.remove_property(namespace, property_name, call.caller.viewer)
    send_nothing(call)


_ALL: Final = "/metadefs/namespaces/{namespace}/properties"
_ONE: Final = f"{_ALL}/{{property_name}}"
ROUTES: Final = (
    Route("GET", _ALL, index, rejects_body=True),
    Route("POST", _ALL, create),
    Route("DELETE", _ALL, delete_all),
    Route("GET", _ONE, show),
    Route("PUT", _ONE, update),
    Route("DELETE", _ONE, delete),
)
