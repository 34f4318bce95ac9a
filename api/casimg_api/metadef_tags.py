"""Routes of tags in a namespace of metadata definitions."""

from typing import Final

from casimg.catalog.metadef_rows import TAG_SORT_KEYS, TagQuery
from casimg.metadef_documents import check_tag_name, parse_tag, parse_tags
from casimg_api import metadef_access as access
from casimg_api.answers import send_json, send_nothing
from casimg_api.context import Call
from casimg_api.metadef_views import tag_view
from casimg_api.routes import Route

_TRUE: Final = frozenset({"1", "t", "true", "on", "y", "yes"})


def index(call: Call, namespace: str) -> None:
    """List tags by their names alone; all of them unless a limit is given."""
    asked = {key: value for key, value in access.fields(call).items() if value or key not in ("limit", "marker")}
    query = TagQuery(
        sort_key=access.sort_key(asked, TAG_SORT_KEYS),
        ascending=access.ascending(asked),
        marker=asked.get("marker"),
        limit=access.limit(asked),
    )
    access.check_visibility(asked, "public", "private", "shared")
    access.namespace_for(call, namespace, "get_metadef_tags")
    rows = call.metadefs.tags(namespace, query, call.caller.viewer)
    send_json(call, {"tags": [{"name": row.name} for row in rows]})


def create_many(call: Call, namespace: str) -> None:
    """Make tags in the place of those that are there, or beside them when X-OpenStack-Append says so."""
    names = access.body(call, parse_tags, links=False)
    access.namespace_for(call, namespace, "add_metadef_tags")
    append = (call.req.get_header("X-OpenStack-Append") or "").strip().lower() in _TRUE
    call.metadefs.add_tags(namespace, names, call.caller.viewer, append=append)
    send_json(call, {"tags": [{"name": name} for name in names]}, 201)


def delete_all(call: Call, namespace: str) -> None:
    access.namespace_for(call, namespace, "delete_metadef_namespace", "delete_metadef_tags")
    call.metadefs.remove_tags(namespace, call.caller.viewer)
    send_nothing(call)


def show(call: Call, namespace: str, tag_name: str) -> None:
    access.namespace_for(call, namespace, "get_metadef_tag")
    send_json(call, tag_view(call.metadefs.tag(namespace, tag_name, call.caller.viewer)))


def create(call: Call, namespace: str, tag_name: str) -> None:
    found = access.namespace_for(call, namespace)
    check_tag_name(tag_name)
    access.enforce(call, "add_metadef_tag", found)
    send_json(call, tag_view(call.metadefs.add_tag(namespace, tag_name, call.caller.viewer)), 201)


def update(call: Call, namespace: str, tag_name: str) -> None:
    """Give a tag another name."""
    new = access.body(call, parse_tag, links=False)
    access.namespace_for(call, namespace, "modify_metadef_tag")
    send_json(call, tag_view(call.metadefs.change_tag(namespace, tag_name, new, call.caller.viewer)))


def delete(call: Call, namespace: str, tag_name: str) -> None:
    access.namespace_for(call, namespace, "delete_metadef_tag")
    call.metadefs.remove_tag(namespace, tag_name, call.caller.viewer)
    send_nothing(call)


_ALL: Final = "/metadefs/namespaces/{namespace}/tags"
_ONE: Final = f"{_ALL}/{{tag_name}}"
ROUTES: Final = (
    Route("GET", _ALL, index),
    Route("POST", _ALL, create_many),
    Route("DELETE", _ALL, delete_all),
    Route("GET", _ONE, show, rejects_body=True),
    Route("POST", _ONE, create, rejects_body=True),
    Route("PUT", _ONE, update),
    Route("DELETE", _ONE, delete, rejects_body=True),
)
