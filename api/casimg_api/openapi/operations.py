"""What the description of a route is made of: what it takes, and what it answers. Pure.

To describe a new route, add an `Operation` under "METHOD /path" to the table of its group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
Schema = Mapping[str, Any]

TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
BYTES: Final[Schema] = {"type": "integer", "minimum": 0, "description": "Bytes."}
RATIO: Final[Schema] = {"type": "number", "minimum": 0}
FLAG: Final[Schema] = {"type": "boolean"}
DATA: Final[Schema] = {"type": "string", "format": "binary"}
ANY: Final[Schema] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a route takes in its query or headers."""

    name: str
    about: str
    schema: Schema = field(default_factory=lambda: TEXT)
    place: str = "query"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back when it is done; no schema: no body."""

    about: str
    schema: Schema | None = None
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names, and what they say."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Args:
        answers: by status, those of success.
        errors: statuses beyond those of every route.
        body: schemas by media type.
    """

    summary: str
    answers: Mapping[int, Answer]
    errors: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, Schema] = field(default_factory=dict)
    body_required: bool = True
    is_open: bool = False
    """Needs no token."""


Operations = Mapping[str, Operation]


def ref(name: str) -> Schema:
    """Return a reference to a schema among the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(fields: Mapping[str, Schema], *optional: str, more: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object that always has some fields and may have more.

    Args:
        optional: of the fields, those that may be absent.
        more: further fields that may be absent.
    """
    required = [name for name in fields if name not in optional]
    return {"type": "object", "properties": {**fields, **(more or {})}, "required": required}


def several(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def header(name: str, about: str, schema: Schema | None = None) -> Parameter:
    return Parameter(name, about, schema or TEXT, "header")


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


DONE: Final = {204: Answer("Done.")}
LIMIT: Final = Parameter("limit", "Entries at most.", COUNT)
MARKER: Final = Parameter("marker", "Entries after this one: its id.")
SORT_DIR: Final = Parameter("sort_dir", "Upwards or downwards.", one_of("asc", "desc"))
