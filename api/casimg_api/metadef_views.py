"""Metadata definitions as JSON: names of fields and which of them are there, as Glance answers. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from casimg.catalog.metadef_rows import AssociationRow, NamespaceDetail, NamespaceRow, ObjectRow, PropertyRow, TagRow
from casimg.metadef_documents import NewAssociation, NewNamespace, NewObject
from casimg_api.views import time_text

T = TypeVar("T")
ROOT = "/v2/metadefs/namespaces"


def namespace_href(name: str) -> str:
    return f"{ROOT}/{name}"


def namespace_view(row: NamespaceRow) -> dict[str, Any]:
    """Return a namespace, without what is in it."""
    return given(
        namespace=row.name,
        display_name=row.display_name,
        description=row.description,
        visibility=row.visibility,
        protected=row.protected,
        owner=row.owner,
        created_at=time_text(row.created_at),
        updated_at=time_text(row.updated_at),
        self=namespace_href(row.name),
        schema="/v2/schemas/metadefs/namespace",
    )


def listed_view(detail: NamespaceDetail) -> dict[str, Any]:
    """Return a namespace as lists have it: with its resource types."""
    return given(
        **namespace_view(detail.namespace),
        resource_type_associations=[association_view(item) for item in detail.associations] or None,
    )


def made_view(row: NamespaceRow, new: NewNamespace) -> dict[str, Any]:
    """Return a namespace just made, with what it was made with; empty lists too, when they were given."""
    return given(
        **namespace_view(row),
        resource_type_associations=_each(new.associations, _association),
        properties=None if new.properties is None else {item.name: item.definition for item in new.properties},
        objects=_each(new.objects, _fields),
        tags=_each(new.tags, lambda name: {"name": name}),
    )


def detail_view(detail: NamespaceDetail, prefix: str = "") -> dict[str, Any]:
    """Return a namespace with all that is in it.

    Args:
        prefix: what names of properties begin with for the resource type that was asked for.
    """
    row = detail.namespace
    return given(
        **listed_view(detail),
        properties={prefix + item.name: item.definition for item in detail.properties} or None,
        objects=[object_view(row.name, item, prefix) for item in detail.objects] or None,
        tags=[{"name": tag.name} for tag in detail.tags] or None,
    )


def object_view(namespace: str, row: ObjectRow, prefix: str = "") -> dict[str, Any]:
    return given(
        name=row.name,
        description=row.description,
        required=[prefix + name for name in row.required],
        properties=_prefixed(row.properties, prefix),
        created_at=time_text(row.created_at),
        updated_at=time_text(row.updated_at),
        self=f"{namespace_href(namespace)}/objects/{row.name}",
        schema="/v2/schemas/metadefs/object",
    )


def changed_object_view(namespace: str, row: ObjectRow, new: NewObject) -> dict[str, Any]:
    """Return an object just made or changed: what was not given is not told."""
    unset = {name for name in ("required", "properties") if getattr(new, name) is None}
    return {name: value for name, value in object_view(namespace, row).items() if name not in unset}


def property_view(row: PropertyRow) -> dict[str, Any]:
    return {**row.definition, "name": row.name}


def tag_view(row: TagRow) -> dict[str, Any]:
    """Return a tag, or a resource type, with its times."""
    return {"name": row.name, "created_at": time_text(row.created_at), "updated_at": time_text(row.updated_at)}


def association_view(row: AssociationRow) -> dict[str, Any]:
    return given(
        name=row.name,
        prefix=row.prefix,
        properties_target=row.properties_target,
        created_at=time_text(row.created_at),
        updated_at=time_text(row.updated_at),
    )


def given(**values: Any) -> dict[str, Any]:
    """Return a document without the fields that are not set."""
    return {name: value for name, value in values.items() if value is not None}


def _prefixed(definitions: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + name: definition for name, definition in definitions.items()}


def _each(items: tuple[T, ...] | None, view: Callable[[T], dict[str, Any]]) -> list[dict[str, Any]] | None:
    return None if items is None else [view(item) for item in items]


def _association(new: NewAssociation) -> dict[str, Any]:
    return given(name=new.name, prefix=new.prefix, properties_target=new.properties_target)


def _fields(new: NewObject) -> dict[str, Any]:
    return given(
        name=new.name,
        description=new.description,
        required=None if new.required is None else list(new.required),
        properties=new.properties,
    )
