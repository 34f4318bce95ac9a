"""The schemas that operations name, made from those that the service serves and checks bodies against."""

from collections.abc import Mapping
from typing import Any, Final

from casimg_api.config import Config
from casimg_api.metadef_schemas import SCHEMAS
from casimg_api.openapi.operations import FLAG, TEXT, Schema, one_of, record, several
from casimg_api.openapi.others import IMAGE_USAGE
from casimg_api.patch import OPERATIONS as PATCH_OPERATIONS
from casimg_api.schemas import Schemas

_ALWAYS: Final = (
    *("id", "name", "status", "visibility", "protected", "os_hidden", "checksum", "os_hash_algo", "os_hash_value"),
    *("owner", "size", "virtual_size", "container_format", "disk_format", "created_at", "updated_at", "tags"),
    *("min_ram", "min_disk", "self", "file", "schema"),
)
"""What every image is told with."""
_SET_BY_SERVER: Final = frozenset({"stores", "direct_url", "locations"})
_OF_PARENT: Final = frozenset({"id", "disk_format", "container_format"})
_STUB: Final = ("id", "type", "status", "owner", "created_at", "updated_at", "self", "schema")
_HYPER: Final = frozenset({"name", "links", "definitions"})
"""What schemas of OpenStack have beside what a JSON schema has."""

PATCH: Final[Schema] = several(
    record({"op": one_of(*PATCH_OPERATIONS), "path": {"type": "string", "pattern": "^/"}}, more={"value": {}})
)
PATCH_V20: Final[Schema] = several(
    {
        "oneOf": [
            record({op: {"type": "string", "pattern": "^/"}, **({} if op == "remove" else {"value": {}})})
            for op in PATCH_OPERATIONS
        ]
    }
)
_STORES: Final[Schema] = several(TEXT)
IMPORT: Final[Schema] = record(
    {
        "method": {
            "type": "object",
            "properties": {
                "name": one_of("glance-direct", "web-download", "glance-download", "copy-image"),
                "uri": {"type": "string", "description": "For web-download."},
                "glance_region": {"type": "string", "description": "For glance-download."},
                "glance_image_id": {"type": "string", "format": "uuid", "description": "For glance-download."},
                "glance_service_interface": TEXT,
            },
            "required": ["name"],
        }
    },
    more={"stores": _STORES, "all_stores": FLAG, "all_stores_must_succeed": FLAG},
)
LOCATION: Final[Schema] = record({"url": TEXT, "metadata": {"type": "object"}})
ERROR: Final[Schema] = record({"message": TEXT, "code": TEXT, "title": TEXT})


def components(config: Config) -> dict[str, Schema]:
    """Return the schemas by name, as a server with this configuration means them."""
    documents = Schemas(config.images).documents
    image = {**_plain(documents["image"]), "required": list(_ALWAYS)}
    task = {**_plain(documents["task"]), "required": list(_STUB)}
    found: dict[str, Schema] = {
        "error": ERROR,
        "image": image,
        "images": _paged("images", "image"),
        "new_image": _settable(image, _SET_BY_SERVER),
        "new_snapshot": _settable(image, _SET_BY_SERVER | _OF_PARENT),
        "member": {**_plain(documents["member"]), "required": ["member_id", "image_id", "status"]},
        "members": record({"members": several(_ref("member")), "schema": TEXT}),
        "task": task,
        "tasks": _paged("tasks", "task"),
        "image_task": _task_of_image(task),
        "patch": PATCH,
        "patch_v20": PATCH_V20,
        "import": IMPORT,
        "location": LOCATION,
        "image_usage": IMAGE_USAGE,
    }
    for name, document in SCHEMAS.items():
        found[f"metadef_{name}"] = _plain(document)
    for name in ("namespace", "object", "tag", "resource_type"):
        shown = found[f"metadef_{name}"]
        found[f"new_metadef_{name}"] = _settable(shown, required=tuple(shown["required"]))
    found["metadef_namespaces"] = record(
        {"namespaces": several(_ref("metadef_namespace")), "first": TEXT, "schema": TEXT}, more={"next": TEXT}
    )
    found["metadef_definition"] = found["metadef_properties"]["properties"]["properties"]["additionalProperties"]
    for name in ("properties", "objects", "tags", "resource_types"):
        del found[f"metadef_{name}"]
    return found


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _paged(name: str, item: str) -> Schema:
    return record({name: several(_ref(item)), "first": TEXT, "schema": TEXT}, more={"next": TEXT})


def _settable(schema: Schema, without: frozenset[str] = frozenset(), required: tuple[str, ...] = ()) -> Schema:
    """Return a schema of what clients send: without what only the server says."""
    properties = {
        name: value for name, value in schema["properties"].items() if not value.get("readOnly") and name not in without
    }
    return {**schema, "properties": properties, "required": list(required)}


def _task_of_image(task: Schema) -> Schema:
    """Return the schema of a task as images tell it: Glance's row of it."""
    properties = {name: schema for name, schema in task["properties"].items() if name not in ("self", "schema")}
    nullable = {"type": ["null", "string"]}
    more = {"deleted": FLAG, "deleted_at": nullable, "user_id": nullable, "request_id": nullable, "owner": nullable}
    return {"type": "object", "properties": {**properties, **more}, "required": ["id", "type", "status", "image_id"]}


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema of OpenStack as a JSON schema of an object: without links, its references resolved."""
    kept = {key: value for key, value in document.items() if key not in _HYPER}
    found: dict[str, Any] = _resolved(kept, document.get("definitions", {}))
    return {"type": "object", **found}


def _resolved(value: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        if isinstance(name := value.get("$ref"), str):
            return _resolved(definitions[name.rpartition("/")[2]], definitions)
        return {key: _resolved(item, definitions) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(item, definitions) for item in value]
    return value
