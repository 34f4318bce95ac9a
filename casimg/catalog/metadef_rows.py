"""Rows of metadata definitions as frozen values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class NamespaceRow:
    """A namespace, without what is in it."""

    namespace_id: int
    name: str
    display_name: str | None
    description: str | None
    visibility: str
    protected: bool
    owner: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """A group of properties that belong together."""

    name: str
    description: str | None
    required: tuple[str, ...]
    properties: Mapping[str, Mapping[str, Any]]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PropertyRow:
    """A property of a namespace."""

    name: str
    definition: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag of a namespace; also a resource type, which is a name and its times too."""

    name: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AssociationRow:
    """A resource type that a namespace is for."""

    name: str
    prefix: str | None
    properties_target: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NamespaceDetail:
    """A namespace with all that is in it, each in the order of its making; tags newest first."""

    namespace: NamespaceRow
    objects: tuple[ObjectRow, ...]
    properties: tuple[PropertyRow, ...]
    tags: tuple[TagRow, ...]
    associations: tuple[AssociationRow, ...]


@dataclass(frozen=True, slots=True)
class NamespaceQuery:
    """Which namespaces to list, and in what order; created_at and the order of making break ties.

    Args:
        visibility: one of the two, None for both.
        resource_types: those for any of these, None for all.
        sort_key: one of `NAMESPACE_SORT_KEYS`.
        marker: list what comes after the namespace of this name.
    """

    visibility: str | None = None
    resource_types: tuple[str, ...] | None = None
    sort_key: str = "created_at"
    ascending: bool = False
    marker: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class TagQuery:
    """Which tags of a namespace to list, and in what order; as NamespaceQuery."""

    sort_key: str = "created_at"
    ascending: bool = False
    marker: str | None = None
    limit: int | None = None


NAMESPACE_SORT_KEYS = (
    *("created_at", "updated_at", "id", "namespace", "display_name", "description"),
    *("visibility", "protected", "owner"),
)
TAG_SORT_KEYS = ("created_at", "updated_at", "id", "name")
