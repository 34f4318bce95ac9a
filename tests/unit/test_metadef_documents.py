"""Documents of metadata definitions: what is taken, what is kept of it, and what is refused, naming the field."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casimg.errors import InputError
from casimg.metadef_documents import (
    NewAssociation,
    NewNamespace,
    NewObject,
    NewProperty,
    check_tag_name,
    parse_association,
    parse_namespace,
    parse_object,
    parse_property,
    parse_tag,
    parse_tags,
)

P = {"title": "T", "type": "string"}
PARSERS: list[Callable[[object], object]] = [
    *(parse_namespace, parse_object, parse_property, parse_tag, parse_tags, parse_association),
]


def test_least_and_most() -> None:
    """A name is all that is needed; fields that answers carry are ignored; everything else is kept."""
    assert parse_namespace({"namespace": "n"}) == NewNamespace("n")
    assert parse_object({"name": "o"}) == NewObject("o")
    assert parse_tag({"name": "t"}) == "t"
    assert parse_tags({"tags": []}) == ()
    assert parse_association({"name": "r", "created_at": "x"}) == NewAssociation("r")
    found = parse_namespace(
        {
            "namespace": "n",
            "display_name": "N",
            "description": "d",
            "visibility": "public",
            "protected": True,
            "owner": "o",
            "self": "/v2/x",
            "schema": "/v2/y",
            "created_at": "1970",
            "updated_at": "1970",
            "objects": [{"name": "o", "required": ["p"], "description": "d", "properties": {"p": P}, "self": "x"}],
            "properties": {"p": P},
            "tags": [{"name": "a"}, {"name": "b"}],
            "resource_type_associations": [{"name": "r", "prefix": "x_", "properties_target": "image"}],
        }
    )
    assert found == NewNamespace(
        *("n", "N", "d", "public", True, "o"),
        (NewObject("o", "d", ("p",), {"p": P}),),
        (NewProperty("p", P),),
        ("a", "b"),
        (NewAssociation("r", "x_", "image"),),
    )


def test_definitions_are_kept_field_by_field() -> None:
    """Every field of a definition is kept; whole numbers as such, defaults as text, defaults without text as none."""
    definition = {
        **P,
        "name": "p",
        "description": "d",
        "operators": ["<or>"],
        "required": ["a"],
        "readonly": True,
        "confidential": False,
        "minimum": -1.5,
        "maximum": 10**30,
        "minLength": 0,
        "maxLength": 5,
        "pattern": "^a",
        "enum": ["x"],
        "items": {"type": "string", "enum": ["y"]},
        "minItems": 1,
        "maxItems": 2,
        "uniqueItems": True,
        "additionalItems": False,
        "default": "x",
    }
    assert parse_property(definition) == NewProperty("p", definition)
    assert parse_property({**P, "name": "p", "maxLength": 5.0}).definition["maxLength"] == 5
    for default, kept in ((5, "5"), (1.5, "1.5"), (True, "True"), ("", ""), ([1], None), ({}, None), (None, None)):
        assert parse_property({**P, "name": "p", "default": default}).definition["default"] == kept


BAD_NAMESPACES: list[tuple[Any, str]] = [
    ({}, "namespace"),
    ({"namespace": ""}, "empty"),
    ({"namespace": None}, "null"),
    ({"namespace": 5}, "a number"),
    ({"namespace": "a/b"}, "slash"),
    ({"namespace": "x" * 81}, "at most 80"),
    ({"namespace": "n", "display_name": "x" * 81}, "at most 80"),
    ({"namespace": "n", "description": "x" * 501}, "at most 500"),
    ({"namespace": "n", "owner": "x" * 256}, "at most 255"),
    ({"namespace": "n", "owner": None}, "owner"),
    ({"namespace": "n", "visibility": "shared"}, "shared"),
    ({"namespace": "n", "visibility": []}, "visibility"),
    ({"namespace": "n", "protected": "true"}, "protected"),
    ({"namespace": "n", "protected": 1}, "protected"),
    ({"namespace": "n", "bogus": 1}, "bogus"),
    ({"namespace": "n", "objects": {}}, "objects"),
    ({"namespace": "n", "objects": [5]}, r"objects\[0\]"),
    ({"namespace": "n", "objects": [{"description": "x"}]}, "name"),
    ({"namespace": "n", "objects": [{"name": "o", "required": ["a", "a"]}]}, "twice"),
    ({"namespace": "n", "objects": [{"name": "o", "required": [5]}]}, "required"),
    ({"namespace": "n", "objects": [{"name": "o", "properties": []}]}, "properties"),
    ({"namespace": "n", "objects": [{"name": "o" * 81}]}, "at most 80"),
    ({"namespace": "n", "properties": []}, "properties"),
    ({"namespace": "n", "properties": {"p": {"type": "string"}}}, "title"),
    ({"namespace": "n", "properties": {"p": {"title": "t"}}}, "type"),
    ({"namespace": "n", "properties": {"": P}}, "empty"),
    ({"namespace": "n", "properties": {"p" * 81: P}}, "at most 80"),
    ({"namespace": "n", "tags": [{}]}, "name"),
    ({"namespace": "n", "tags": [{"name": "t", "x": 1}]}, "'x'"),
    ({"namespace": "n", "tags": [{"name": "t" * 81}]}, "at most 80"),
    ({"namespace": "n", "resource_type_associations": [{}]}, "name"),
    ({"namespace": "n", "resource_type_associations": [{"name": "r", "prefix": "x" * 81}]}, "at most 80"),
    ({"namespace": "n\0"}, "cannot be kept"),
    ({"namespace": "n", "description": "\ud800"}, "cannot be kept"),
    ({"namespace": "n", "properties": {"p": {**P, "default": {"deep": ["\0"]}}}}, "cannot be kept"),
]


@pytest.mark.parametrize(("document", "word"), BAD_NAMESPACES)
def test_bad_namespaces(document: Any, word: str) -> None:
    """A namespace that breaks a rule is refused with words that tell which."""
    with pytest.raises(InputError, match=word):
        parse_namespace(document)


BAD_FIELDS: list[dict[str, Any]] = [
    {"type": "null"},
    {"type": None},
    {"type": []},
    {"title": 5},
    {"name": ""},
    {"minimum": "1"},
    {"minimum": True},
    {"maximum": float("nan")},
    {"maximum": float("inf")},
    {"minLength": -1},
    {"maxLength": 1.5},
    {"maxItems": "2"},
    {"enum": [1]},
    {"enum": "x"},
    {"operators": [None]},
    {"items": []},
    {"items": {"enum": ["x"]}},
    {"items": {"type": "string", "other": 1}},
    {"uniqueItems": 1},
    {"readonly": None},
    {"pattern": 5},
    {"required": ["a", "a"]},
    {"required": []},
    {"bogus": 1},
    {"self": "x"},
    {"items": {"type": "string", "schema": "x"}},
]


@pytest.mark.parametrize("fields", BAD_FIELDS, ids=json.dumps)
def test_bad_definitions(fields: dict[str, Any]) -> None:
    """A definition that breaks a rule is refused wherever it stands."""
    definition = {**P, **fields}
    for attempt in (
        lambda: parse_property({"name": "p", **definition}),
        lambda: parse_object({"name": "o", "properties": {"p": definition}}),
        lambda: parse_namespace({"namespace": "n", "properties": {"p": definition}}),
    ):
        with pytest.raises(InputError):
            attempt()


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: str(parse.__name__))
def test_what_is_no_object_is_refused(parse: Callable[[object], object]) -> None:
    """A list, a word, a number, null and an empty object are refused by every parser."""
    documents: tuple[object, ...] = ([], [{}], "x", 5, None, True, {})
    for document in documents:
        with pytest.raises(InputError):
            parse(document)


def test_names_of_tags_in_addresses() -> None:
    """A tag's name that comes from an address is held to the same rules."""
    assert check_tag_name("t" * 80) == "t" * 80
    for name in ("", "t" * 81, "\0", "\ud800"):
        with pytest.raises(InputError):
            check_tag_name(name)


_WORDS = st.sampled_from(
    [
        *("namespace", "name", "title", "type", "objects", "properties", "tags", "resource_type_associations"),
        *("protected", "visibility", "required", "enum", "items", "default", "minimum", "maxLength", "prefix", "owner"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from(PARSERS))
def test_any_document_is_taken_or_refused(document: object, parse: Callable[[object], object]) -> None:
    """Whatever a client sends is parsed or an InputError; what is parsed is JSON that every database keeps."""
    try:
        parse(document)
    except InputError:
        return
