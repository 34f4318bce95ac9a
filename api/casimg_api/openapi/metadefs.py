"""Operations of metadata definitions."""

from typing import Final

from casimg.catalog.metadef_rows import NAMESPACE_SORT_KEYS, TAG_SORT_KEYS
from casimg.metadef_documents import VISIBILITIES
from casimg_api.openapi.operations import (
    DONE,
    LIMIT,
    SORT_DIR,
    TEXT,
    Answer,
    Operation,
    Operations,
    Parameter,
    Schema,
    header,
    one_of,
    record,
    ref,
    several,
)

_ALL: Final = "/v2/metadefs/namespaces"
_ONE: Final = f"{_ALL}/{{namespace}}"
_FOR: Final = Parameter("resource_type", "Names as they are on resources of this type.")
_NAMED: Final = several(record({"name": TEXT}))
_MARKER: Final = Parameter("marker", "Entries after this one: its name.")


def _json(schema: Schema) -> dict[str, Schema]:
    return {"application/json": schema}


def _made(what: str) -> dict[int, Answer]:
    return {201: Answer("As it was made.", ref(what))}


def _shown(what: str) -> dict[int, Answer]:
    return {200: Answer("As it is.", ref(what))}


OPERATIONS: Final[Operations] = {
    "GET /v2/metadefs/resource_types": Operation(
        "Types of resources that any namespace was ever for.",
        {200: Answer("Types.", record({"resource_types": _NAMED}))},
    ),
    f"GET {_ALL}": Operation(
        "List namespaces, by pages.",
        {200: Answer("A page of namespaces.", ref("metadef_namespaces"))},
        parameters=(
            LIMIT,
            _MARKER,
            SORT_DIR,
            Parameter("sort_key", "What to sort by.", one_of(*NAMESPACE_SORT_KEYS)),
            Parameter("visibility", "Namespaces of this visibility.", one_of(*VISIBILITIES)),
            Parameter("resource_types", "Namespaces for one of these types, separated by commas."),
        ),
    ),
    f"POST {_ALL}": Operation(
        "Make a namespace with all that is in it.",
        {201: Answer("As it was made.", ref("metadef_namespace"), headers={"Location": "URL of the namespace."})},
        errors=(409, 413),
        body=_json(ref("new_metadef_namespace")),
    ),
    f"GET {_ONE}": Operation(
        "Show a namespace with all that is in it.", _shown("metadef_namespace"), parameters=(_FOR,)
    ),
    f"PUT {_ONE}": Operation(
        "Give a namespace other fields.",
        _shown("metadef_namespace"),
        errors=(409, 413),
        body=_json(ref("new_metadef_namespace")),
    ),
    f"DELETE {_ONE}": Operation("Delete a namespace with all that is in it.", DONE),
    f"GET {_ONE}/resource_types": Operation(
        "Types of resources that a namespace is for.",
        {200: Answer("Types.", record({"resource_type_associations": several(ref("metadef_resource_type"))}))},
    ),
    f"POST {_ONE}/resource_types": Operation(
        "Say that a namespace is for a type of resources.",
        _made("metadef_resource_type"),
        errors=(409, 413),
        body=_json(ref("new_metadef_resource_type")),
    ),
    f"DELETE {_ONE}/resource_types/{{resource_type}}": Operation(
        "Say that a namespace is not for a type of resources.", DONE
    ),
    f"GET {_ONE}/properties": Operation(
        "Properties of a namespace.",
        {
            200: Answer(
                "Definitions by name.",
                record({"properties": {"type": "object", "additionalProperties": ref("metadef_definition")}}),
            )
        },
    ),
    f"POST {_ONE}/properties": Operation(
        "Make a property.", _made("metadef_property"), errors=(409, 413), body=_json(ref("metadef_property"))
    ),
    f"DELETE {_ONE}/properties": Operation("Delete all properties.", DONE),
    f"GET {_ONE}/properties/{{property_name}}": Operation(
        "Show a property.", _shown("metadef_property"), parameters=(_FOR,)
    ),
    f"PUT {_ONE}/properties/{{property_name}}": Operation(
        "Give a property another definition.",
        _shown("metadef_property"),
        errors=(409, 413),
        body=_json(ref("metadef_property")),
    ),
    f"DELETE {_ONE}/properties/{{property_name}}": Operation("Delete a property.", DONE),
    f"GET {_ONE}/objects": Operation(
        "Objects of a namespace.", {200: Answer("Objects.", record({"objects": several(ref("metadef_object"))}))}
    ),
    f"POST {_ONE}/objects": Operation(
        "Make an object.", _made("metadef_object"), errors=(409, 413), body=_json(ref("new_metadef_object"))
    ),
    f"DELETE {_ONE}/objects": Operation("Delete all objects.", DONE),
    f"GET {_ONE}/objects/{{object_name}}": Operation("Show an object.", _shown("metadef_object")),
    f"PUT {_ONE}/objects/{{object_name}}": Operation(
        "Give an object other fields.",
        _shown("metadef_object"),
        errors=(409, 413),
        body=_json(ref("new_metadef_object")),
    ),
    f"DELETE {_ONE}/objects/{{object_name}}": Operation("Delete an object.", DONE),
    f"GET {_ONE}/tags": Operation(
        "Tags of a namespace.",
        {200: Answer("Tags.", record({"tags": _NAMED}))},
        parameters=(LIMIT, _MARKER, SORT_DIR, Parameter("sort_key", "What to sort by.", one_of(*TAG_SORT_KEYS))),
    ),
    f"POST {_ONE}/tags": Operation(
        "Make tags in the place of those that are there.",
        {201: Answer("Tags.", record({"tags": _NAMED}))},
        errors=(409, 413),
        parameters=(header("X-OpenStack-Append", "Keep those that are there.", one_of("true", "false")),),
        body=_json(record({"tags": several(ref("new_metadef_tag"))})),
    ),
    f"DELETE {_ONE}/tags": Operation("Delete all tags.", DONE),
    f"GET {_ONE}/tags/{{tag_name}}": Operation("Show a tag.", _shown("metadef_tag")),
    f"POST {_ONE}/tags/{{tag_name}}": Operation("Make a tag.", _made("metadef_tag"), errors=(409,)),
    f"PUT {_ONE}/tags/{{tag_name}}": Operation(
        "Give a tag another name.", _shown("metadef_tag"), errors=(409, 413), body=_json(ref("new_metadef_tag"))
    ),
    f"DELETE {_ONE}/tags/{{tag_name}}": Operation("Delete a tag.", DONE),
}
