"""Metadata definitions as documents: what the Image API takes, and the JSON files of standard namespaces. Pure.

A namespace says which properties and tags some kinds of resources may carry, for programs that show forms. Documents
come from clients and files, so every word of them is looked at here; what is kept is what these values hold.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from casimg.errors import InputError

NAME_SIZE_MAX: Final = 80
"""Characters of a name, a display name, a prefix."""
DESCRIPTION_SIZE_MAX: Final = 500
"""Characters of a namespace's description."""
OWNER_SIZE_MAX: Final = 255

VISIBILITIES: Final = ("public", "private")
READ_ONLY: Final = ("self", "schema", "created_at", "updated_at")
"""Fields that documents given out carry; read back, they say nothing."""

TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")

Document = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NewObject:
    """A group of properties that belong together; None was not given."""

    name: str
    description: str | None = None
    required: tuple[str, ...] | None = None
    properties: Mapping[str, Document] | None = None


@dataclass(frozen=True, slots=True)
class NewProperty:
    """A property of a namespace by its name, and its definition, much like a JSON schema."""

    name: str
    definition: Document


@dataclass(frozen=True, slots=True)
class NewAssociation:
    """A resource type that a namespace is for; its properties carry the prefix there."""

    name: str
    prefix: str | None = None
    properties_target: str | None = None


@dataclass(frozen=True, slots=True)
class NewNamespace:
    """A namespace with all that is in it; None was not given. An owner of None is whoever brings it."""

    name: str
    display_name: str | None = None
    description: str | None = None
    visibility: str = "private"
    protected: bool = False
    owner: str | None = None
    objects: tuple[NewObject, ...] | None = None
    properties: tuple[NewProperty, ...] | None = None
    tags: tuple[str, ...] | None = None
    associations: tuple[NewAssociation, ...] | None = None


def parse_namespace(document: object) -> NewNamespace:
    """Return the namespace that a document describes. Raises: InputError, naming the field."""
    _check_words(document)
    fields = _fields(
        document,
        "the namespace",
        "namespace",
        *("display_name", "description", "visibility", "protected", "owner"),
        *("objects", "properties", "tags", "resource_type_associations"),
    )
    name = _name(fields["namespace"], "namespace")
    if "/" in name:
        raise InputError(f"namespace: {name!r} has a slash, so that no address could name it")
    visibility = fields.get("visibility", "private")
    if visibility not in VISIBILITIES:
        raise InputError(f"visibility: {visibility!r} is none of {', '.join(VISIBILITIES)}")
    return NewNamespace(
        name=name,
        display_name=_text(fields, "display_name", NAME_SIZE_MAX),
        description=_text(fields, "description", DESCRIPTION_SIZE_MAX),
        visibility=visibility,
        protected=_boolean(fields.get("protected", False), "protected"),
        owner=_text(fields, "owner", OWNER_SIZE_MAX),
        objects=_each(fields, "objects", _object),
        properties=_properties(fields),
        tags=_each(fields, "tags", _tag),
        associations=_each(fields, "resource_type_associations", _association),
    )


def parse_object(document: object) -> NewObject:
    """Return the object that a document describes. Raises: InputError, naming the field."""
    _check_words(document)
    return _object(document, "the object")


def parse_property(document: object) -> NewProperty:
    """Return the property that a document with its name describes. Raises: InputError, naming the field."""
    _check_words(document)
    definition = _definition(document, "the property")
    if "name" not in definition:
        raise InputError("name: it is missing")
    return NewProperty(_name(definition["name"], "name"), definition)


def parse_tag(document: object) -> str:
    """Return the name of the tag that a document describes. Raises: InputError, naming the field."""
    _check_words(document)
    return _tag(document, "the tag")


def parse_tags(document: object) -> tuple[str, ...]:
    """Return the names in a document `{"tags": [{"name": ...}, ...]}`. Raises: InputError, naming the field."""
    _check_words(document)
    fields = _fields(document, "the body", "tags", ignored=())
    items = [_fields(item, f"tags[{at}]", "name", ignored=()) for at, item in enumerate(_list(fields, "tags"))]
    return tuple(_tag(item, f"tags[{at}]") for at, item in enumerate(items))


def parse_association(document: object) -> NewAssociation:
    """Return the resource type that a document names for a namespace. Raises: InputError, naming the field."""
    _check_words(document)
    return _association(document, "the resource type")


def check_tag_name(name: str) -> str:
    """Return a name that can be a tag's. Raises: InputError."""
    _check_words(name)
    return _name(name, "name")


def _each(fields: Document, name: str, parse: Callable[[object, str], T]) -> tuple[T, ...] | None:
    """Return the entries of a list; None when there is no list."""
    if name not in fields:
        return None
    return tuple(parse(item, f"{name}[{at}]") for at, item in enumerate(_list(fields, name)))


def _properties(fields: Document) -> tuple[NewProperty, ...] | None:
    if "properties" not in fields:
        return None
    found = _definitions(fields["properties"], "properties")
    return tuple(NewProperty(name, definition) for name, definition in found.items())


def _object(document: object, where: str) -> NewObject:
    fields = _fields(document, where, "name", "description", "required", "properties")
    required = _words(fields["required"], f"{where}.required") if "required" in fields else None
    if required is not None and len(set(required)) != len(required):
        raise InputError(f"{where}.required: a name is there twice")
    properties = _definitions(fields["properties"], f"{where}.properties") if "properties" in fields else None
    return NewObject(_name(fields["name"], f"{where}.name"), _text(fields, "description"), required, properties)


def _tag(document: object, where: str) -> str:
    return _name(_fields(document, where, "name")["name"], f"{where}.name")


def _association(document: object, where: str) -> NewAssociation:
    fields = _fields(document, where, "name", "prefix", "properties_target")
    return NewAssociation(
        _name(fields["name"], f"{where}.name"),
        _text(fields, "prefix", NAME_SIZE_MAX),
        _text(fields, "properties_target", NAME_SIZE_MAX),
    )


def _definitions(value: object, where: str) -> dict[str, Document]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object of definitions by name")
    return {_name(name, where): _definition(item, f"{where}.{name}") for name, item in value.items()}


def _definition(document: object, where: str) -> Document:
    """Return a definition with its known fields; another field is an error, for it would be lost."""
    fields = _fields(document, where, "title", *(name for name in _FIELDS if name != "title"), ignored=())
    if "type" not in fields:
        raise InputError(f"{where}.type: it is missing")
    return {name: _FIELDS[name](value, f"{where}.{name}") for name, value in fields.items()}


def _items(value: object, where: str) -> Document:
    fields = _fields(value, where, "type", "enum", ignored=())
    found: dict[str, Any] = {"type": _type(fields["type"], f"{where}.type")}
    if "enum" in fields:
        found["enum"] = list(_words(fields["enum"], f"{where}.enum"))
    return found


def _fields(
    document: object, where: str, needed: str, *others: str, ignored: tuple[str, ...] = READ_ONLY
) -> dict[str, Any]:
    """Return the fields of a document, without those to ignore."""
    if not isinstance(document, dict):
        raise InputError(f"{where}: expected an object, found {_kind(document)}")
    unknown = sorted(set(document) - {needed, *others, *ignored})
    if unknown:
        raise InputError(f"{where}: the field {unknown[0]!r} is not known")
    if needed not in document:
        raise InputError(f"{where}: the field {needed!r} is missing")
    return {name: value for name, value in document.items() if name not in ignored}


def _name(value: object, where: str) -> str:
    name = _string(value, where)
    if not name:
        raise InputError(f"{where}: it is empty")
    return _at_most(name, NAME_SIZE_MAX, where)


def _text(fields: Document, name: str, size_max: int | None = None) -> str | None:
    if name not in fields:
        return None
    text = _string(fields[name], name)
    return text if size_max is None else _at_most(text, size_max, name)


def _at_most(text: str, size_max: int, where: str) -> str:
    if len(text) > size_max:
        raise InputError(f"{where}: {len(text)} characters, at most {size_max} can be kept")
    return text


def _list(fields: Document, name: str) -> list[Any]:
    value = fields.get(name, [])
    if not isinstance(value, list):
        raise InputError(f"{name}: expected a list, found {_kind(value)}")
    return value


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: expected a string, found {_kind(value)}")
    return value


def _words(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list, found {_kind(value)}")
    return tuple(_string(item, f"{where}[{at}]") for at, item in enumerate(value))


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{where}: expected true or false, found {_kind(value)}")
    return value


def _number(value: object, where: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{where}: expected a number, found {_kind(value)}")
    return value


def _count(value: object, where: str) -> int:
    number = _number(value, where)
    if number < 0 or number != int(number):
        raise InputError(f"{where}: expected a whole number, 0 or more")
    return int(number)


def _type(value: object, where: str) -> str:
    if value not in TYPES:
        raise InputError(f"{where}: {value!r} is none of {', '.join(TYPES)}")
    return str(value)


def _default(value: object, _where: str) -> str | None:
    """Defaults are kept as text, as the API always gave them: numbers by their digits, what has no text as none."""
    return str(value) if isinstance(value, (str, int, float)) else None


def _unique_words(value: object, where: str) -> list[str]:
    words = list(_words(value, where))
    if not words or len(set(words)) != len(words):
        raise InputError(f"{where}: it is empty, or a name is there twice")
    return words


_FIELDS: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "name": _name,
    "title": _string,
    "type": _type,
    "description": _string,
    "operators": lambda value, where: list(_words(value, where)),
    "required": _unique_words,
    "default": _default,
    "readonly": _boolean,
    "confidential": _boolean,
    "minimum": _number,
    "maximum": _number,
    "minLength": _count,
    "maxLength": _count,
    "pattern": _string,
    "enum": lambda value, where: list(_words(value, where)),
    "items": _items,
    "minItems": _count,
    "maxItems": _count,
    "uniqueItems": _boolean,
    "additionalItems": _boolean,
}
"""Fields of a definition and how each is read."""


def _kind(value: object) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def _check_words(document: object) -> None:
    """Refuse what no database or no answer can hold: NUL, halves of characters, numbers that are none."""
    rest = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest.extend(value)
            rest.extend(value.values())
        elif isinstance(value, list):
            rest.extend(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{value} is no number that can be kept")
        elif isinstance(value, str) and not is_storable(value):
            raise InputError(f"{value!r} holds a character that cannot be kept")


def is_storable(text: str) -> bool:
    """Tell whether every database keeps this text as it is."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
