"""The schemas of metadata definitions say what is taken: nothing that they refuse is taken, and what is told fits."""

from collections.abc import Callable, Mapping
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casimg.errors import InputError
from casimg.metadef_documents import parse_association, parse_namespace, parse_object, parse_property, parse_tag
from casimg_api.metadef_schemas import SCHEMAS

PARSERS: Mapping[str, Callable[[object], object]] = {
    "namespace": parse_namespace,
    "object": parse_object,
    "property": parse_property,
    "tag": parse_tag,
    "resource_type": parse_association,
}
CHECKS = {name: fastjsonschema.compile({"type": "object", **SCHEMAS[name]}) for name in PARSERS}

_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), max_size=82)
_words = st.lists(st.text(max_size=4), max_size=3)
_counts = st.integers(-1, 5) | st.just(1.5)
_anything = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.none(), max_size=1)
_types = st.sampled_from(["array", "boolean", "integer", "number", "object", "string", "null", "text"])


def _mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Right values, and now and then another."""
    return st.integers(0, 9).flatmap(lambda dice: _anything if dice == 0 else usual)


_definitions = st.fixed_dictionaries(
    {"title": _mostly(st.text(max_size=3)), "type": _mostly(_types)},
    optional={
        "name": _mostly(_names),
        "description": _mostly(st.text(max_size=3)),
        "operators": _mostly(_words),
        "required": _mostly(_words),
        "default": _anything,
        "readonly": _mostly(st.booleans()),
        "minimum": _mostly(_counts),
        "maxLength": _mostly(_counts),
        "pattern": _mostly(st.just("^a")),
        "enum": _mostly(_words),
        "items": _mostly(st.fixed_dictionaries({"type": _types}, optional={"enum": _words})),
        "minItems": _mostly(_counts),
        "uniqueItems": _mostly(st.booleans()),
    },
)
_objects = st.fixed_dictionaries(
    {"name": _mostly(_names)},
    optional={
        "description": _mostly(st.text(max_size=3)),
        "required": _mostly(_words),
        "properties": _mostly(st.dictionaries(_names, _definitions, max_size=2)),
    },
)
_associations = st.fixed_dictionaries(
    {"name": _mostly(_names)}, optional={"prefix": _mostly(_names), "properties_target": _mostly(_names)}
)
_tags = st.fixed_dictionaries({"name": _mostly(_names)})
_namespaces = st.fixed_dictionaries(
    {"namespace": _mostly(_names)},
    optional={
        "display_name": _mostly(_names),
        "description": _mostly(st.text(max_size=3)),
        "visibility": _mostly(st.sampled_from(["public", "private", "shared"])),
        "protected": _mostly(st.booleans()),
        "owner": _mostly(_names),
        "objects": _mostly(st.lists(_objects, max_size=2)),
        "properties": _mostly(st.dictionaries(_names, _definitions, max_size=2)),
        "tags": _mostly(st.lists(_tags, max_size=2)),
        "resource_type_associations": _mostly(st.lists(_associations, max_size=2)),
    },
)
DOCUMENTS = {
    "namespace": _namespaces,
    "object": _objects,
    "property": _definitions,
    "tag": _tags,
    "resource_type": _associations,
}


@pytest.mark.parametrize("name", list(PARSERS))
def test_what_a_schema_refuses_is_refused(name: str) -> None:
    """A document that is taken fits the schema that the API tells of it."""

    @given(DOCUMENTS[name])
    def check(document: dict[str, Any]) -> None:
        try:
            PARSERS[name](document)
        except InputError:
            return
        CHECKS[name](document)

    check()


@pytest.mark.parametrize("name", list(PARSERS))
def test_schemas_refuse_something(name: str) -> None:
    """The checks of these tests can fail: no schema takes an empty document or one with an unknown field."""
    for document in ({}, {"name": "x", "namespace": "x", "title": "t", "type": "string", "bogus": 1}):
        with pytest.raises(fastjsonschema.JsonSchemaValueException):
            CHECKS[name](document)
        with pytest.raises(InputError):
            PARSERS[name](document)
