"""Routes of objects: groups of properties in a namespace of metadata definitions."""

from typing import Final

from casimg.metadef_documents import parse_object
from casimg_api import metadef_access as access
from casimg_api.answers import send_json, send_nothing
from casimg_api.context import Call
from casimg_api.metadef_views import changed_object_view, object_view
from casimg_api.routes import Route


def index(call: Call, namespace: str) -> None:
    """List all objects; limits, markers and orders are read and change nothing, as they never did."""
    asked = access.fields(call)
    access.ascending(asked)
    access.limit(asked, lowest=1)
    access.check_visibility(asked, "public", "private", "shared")
    found = access.namespace_for(call, namespace, "get_metadef_objects")
    rows = call.metadefs.objects(namespace, call.caller.viewer)
    shown = rows if access.allows(call, "get_metadef_object", found) else []
    # without a slash in front: clients got it so for ten years
    document = {
        "objects": [object_view(namespace, row) for row in shown],
        "schema": "v2/schemas/metadefs/objects",
    }
    send_json(call, document)


def create(call: Call, namespace: str) -> None:
    new = access.body(call, parse_object)
    access.namespace_for(call, namespace, "add_metadef_object")
    made = call.metadefs.add_object(namespace, new, call.caller.viewer)
    send_json(call, changed_object_view(namespace, made, new), 201)


def delete_all(call: Call, namespace: str) -> None:
    access.namespace_for(call, namespace, "delete_metadef_namespace")
    call.metadefs.remove_objects(namespace, call.caller.viewer)
    send_nothing(call)


def show(call: Call, namespace: str, object_name: str) -> None:
    access.namespace_for(call, namespace, "get_metadef_object")
    send_json(call, object_view(namespace, call.metadefs.object(namespace, object_name, call.caller.viewer)))


def update(call: Call, namespace: str, object_name: str) -> None:
    """Give an object other fields, its name too."""
    new = access.body(call, parse_object)
    access.namespace_for(call, namespace, "modify_metadef_object")
    changed = call.metadefs.change_object(namespace, object_name, new, call.caller.viewer)
    send_json(call, changed_object_view(namespace, changed, new))


def delete(call: Call, namespace: str, object_name: str) -> None:
    access.namespace_for(call, namespace, "delete_metadef_object")
    call.metadefs.remove_object(namespace, object_name, call.caller.viewer)
    send_nothing(call)


_ALL: Final = "/metadefs/namespaces/{namespace}/objects"
_ONE: Final = f"{_ALL}/{{object_name}}"
ROUTES: Final = (
    Route("GET", _ALL, index),
    Route("POST", _ALL, create),
    Route("DELETE", _ALL, delete_all),
    Route("GET", _ONE, show, rejects_body=True),
    Route("PUT", _ONE, update),
    Route("DELETE", _ONE, delete, rejects_body=True),
)
