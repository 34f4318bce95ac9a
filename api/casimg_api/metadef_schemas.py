"""The JSON schemas of metadata definitions that the API serves, and their routes.

They say what `casimg.metadef_documents` takes; Horizon and python-glanceclient read names, types and enums.
"""

from collections.abc import Mapping
from typing import Any, Final

from casimg.metadef_documents import DESCRIPTION_SIZE_MAX, NAME_SIZE_MAX, OWNER_SIZE_MAX, TYPES, VISIBILITIES
from casimg_api.answers import send_json
from casimg_api.context import Call
from casimg_api.routes import Route

_TEXT: Final = {"type": "string"}
_NAME: Final = {"type": "string", "maxLength": NAME_SIZE_MAX}
_BOOLEAN: Final = {"type": "boolean"}
_COUNT: Final = {"$ref": "#/definitions/positiveInteger"}
_COUNT_OR_0: Final = {"$ref": "#/definitions/positiveIntegerDefault0"}
_WORDS: Final = {"$ref": "#/definitions/stringArray"}
_DEFINITIONS: Final = {"$ref": "#/definitions/property"}
_LINK: Final = {"readOnly": True, "type": "string"}
_TYPE: Final = {"type": "string", "enum": [*TYPES, None]}


def _times(what: str) -> dict[str, Any]:
    time = {"type": "string", "readOnly": True, "format": "date-time"}
    return {
        "created_at": {**time, "description": f"Date and time when the {what} was made."},
        "updated_at": {**time, "description": f"Date and time when the {what} was last changed."},
    }


_PROPERTY_FIELDS: Final[Mapping[str, Any]] = {
    "name": _NAME,
    "title": _TEXT,
    "description": _TEXT,
    "operators": {"type": "array", "items": _TEXT},
    "type": _TYPE,
    "required": _WORDS,
    "minimum": {"type": "number"},
    "maximum": {"type": "number"},
    "maxLength": _COUNT,
    "minLength": _COUNT_OR_0,
    "pattern": {"type": "string", "format": "regex"},
    "enum": {"type": "array"},
    "readonly": _BOOLEAN,
    "default": {},
    "items": {"type": "object", "properties": {"type": _TYPE, "enum": {"type": "array"}}},
    "maxItems": _COUNT,
    "minItems": _COUNT_OR_0,
    "uniqueItems": {"type": "boolean", "default": False},
    "additionalItems": _BOOLEAN,
}

_COUNTS: Final = {
    "positiveInteger": {"type": "integer", "minimum": 0},
    "positiveIntegerDefault0": {"allOf": [_COUNT, {"default": 0}]},
}
_PROPERTY_DEFINITIONS: Final = {
    **_COUNTS,
    "stringArray": {"type": "array", "items": _TEXT, "minItems": 1, "uniqueItems": True},
}
_NAMESPACE_DEFINITIONS: Final = {
    **_COUNTS,
    "stringArray": {"type": "array", "items": _TEXT, "uniqueItems": True},
    "property": {
        "type": "object",
        "additionalProperties": {"type": "object", "required": ["title", "type"], "properties": _PROPERTY_FIELDS},
    },
}

_NAMESPACE_FIELDS: Final[Mapping[str, Any]] = {
    "namespace": {**_NAME, "description": "Name of the namespace; no other has it."},
    "display_name": {**_NAME, "description": "Name of the namespace for people."},
    "description": {
        "type": "string",
        "description": "What the namespace is about, for people.",
        "maxLength": DESCRIPTION_SIZE_MAX,
    },
    "visibility": {"type": "string", "description": "Who can see the namespace.", "enum": list(VISIBILITIES)},
    "protected": {"type": "boolean", "description": "If true, the namespace cannot be deleted."},
    "owner": {"type": "string", "description": "Project that owns the namespace.", "maxLength": OWNER_SIZE_MAX},
    **_times("namespace"),
    "schema": _LINK,
    "self": _LINK,
    "resource_type_associations": {
        "type": "array",
        "items": {"type": "object", "properties": {"name": _TEXT, "prefix": _TEXT, "properties_target": _TEXT}},
    },
    "properties": _DEFINITIONS,
    "objects": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"name": _TEXT, "description": _TEXT, "required": _WORDS, "properties": _DEFINITIONS},
        },
    },
    "tags": {"type": "array", "items": {"type": "object", "properties": {"name": _TEXT}}},
}

_OBJECT_FIELDS: Final[Mapping[str, Any]] = {
    "name": _NAME,
    "description": _TEXT,
    "required": _WORDS,
    "properties": _DEFINITIONS,
    "schema": _LINK,
    "self": _LINK,
    **_times("object"),
}

_ASSOCIATION_FIELDS: Final[Mapping[str, Any]] = {
    "name": {**_NAME, "description": "Name of the resource type, where there is one the one that Heat gives it."},
    "prefix": {
        **_NAME,
        "description": "What names of the namespace's properties begin with on resources of this type, its separator "
        "included (a colon, say).",
    },
    "properties_target": {
        **_NAME,
        "description": "Which of several sets of metadata of a resource is meant, like image or user for a volume.",
    },
    **_times("association"),
}


def _item(
    name: str, fields: Mapping[str, Any], required: list[str], definitions: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    document = {"name": name, "properties": fields, "additionalProperties": False, "required": required}
    return document if definitions is None else {**document, "definitions": definitions}


def _collection(name: str, item: Mapping[str, Any], *, by_name: bool = False) -> dict[str, Any]:
    inner = {key: value for key, value in item.items() if key != "definitions"}
    listed = {"type": "object", "additionalProperties": inner} if by_name else {"type": "array", "items": inner}
    document = {
        "name": name,
        "properties": {name: listed, "first": _TEXT, "next": _TEXT, "schema": _TEXT},
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    }
    return {**document, "definitions": item["definitions"]} if "definitions" in item else document


_NAMESPACE: Final = _item("namespace", _NAMESPACE_FIELDS, ["namespace"], _NAMESPACE_DEFINITIONS)
_ASSOCIATION: Final = _item("resource_type_association", _ASSOCIATION_FIELDS, ["name"])
_OBJECT: Final = _item("object", _OBJECT_FIELDS, ["name"], _NAMESPACE_DEFINITIONS)
_TAG: Final = _item("tag", {"name": _NAME, **_times("tag")}, ["name"])
_PROPERTY: Final = _item("property", _PROPERTY_FIELDS, ["type", "title", "name"], _PROPERTY_DEFINITIONS)
# in a collection its name is the key
_UNNAMED: Final = _item("property", _PROPERTY_FIELDS, ["type", "title"], _PROPERTY_DEFINITIONS)

SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    "namespace": _NAMESPACE,
    "namespaces": _collection("namespaces", _NAMESPACE),
    "resource_type": _ASSOCIATION,
    "resource_types": _collection("resource_type_associations", _ASSOCIATION),
    "property": _PROPERTY,
    "properties": _collection("properties", _UNNAMED, by_name=True),
    "object": _OBJECT,
    "objects": _collection("objects", _OBJECT),
    "tag": _TAG,
    "tags": _collection("tags", _TAG),
}


def _show(name: str) -> Route:
    def handler(call: Call) -> None:
        send_json(call, SCHEMAS[name])

    return Route("GET", f"/schemas/metadefs/{name}", handler, rejects_body=True)


ROUTES: Final = tuple(_show(name) for name in SCHEMAS)
