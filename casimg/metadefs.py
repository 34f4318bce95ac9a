"""Metadata definitions of a repository: namespaces and what is in them, as the Image API and the command line use them.

Each method is one transaction or one plain read of the catalog. Who may change what is the caller's matter; what a
viewer may not see is not there (`MetadefNotFoundError`). Threads: any.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row

from casimg.catalog import metadef_parts as parts
from casimg.catalog import metadefs as sql
from casimg.catalog.metadef_rows import (
    AssociationRow,
    NamespaceDetail,
    NamespaceQuery,
    NamespaceRow,
    ObjectRow,
    PropertyRow,
    TagQuery,
    TagRow,
)
from casimg.catalog.query import Viewer
from casimg.errors import CatalogBusyError, ProtectedMetadefError
from casimg.metadef_documents import NewAssociation, NewNamespace, NewObject, NewProperty
from casimg.opened import Opened

T = TypeVar("T")
_RACE_COUNT_MAX = 8
"""How often a transaction begins again because others made the resource types that it was about to make."""


class Metadefs:
    """The metadata definitions of an open repository."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    # Namespaces

    def namespaces(self, query: NamespaceQuery, viewer: Viewer) -> list[NamespaceDetail]:
        """Return namespaces with their resource types, not what else is in them. Raises: MetadefNotFoundError."""
        return self._read(lambda connection: sql.list_namespaces(connection, query, viewer))

    def namespace(self, name: str, viewer: Viewer) -> NamespaceRow:
        """Return a namespace. Raises: MetadefNotFoundError."""
        return self._read(lambda connection: sql.find_namespace(connection, name, viewer))

    def detail(self, name: str, viewer: Viewer) -> NamespaceDetail:
        """Return a namespace with all that is in it. Raises: MetadefNotFoundError."""
        return self._read(lambda connection: sql.detail(connection, name, viewer))

    def add_namespace(self, new: NewNamespace) -> NamespaceRow:
        """Make a namespace with all that is in it, or nothing. Raises: MetadefExistsError."""
        return self._write(lambda connection: sql.insert_namespace(connection, new))

    def replace_namespace(self, new: NewNamespace) -> bool:
        """Put a namespace in the place of one of its name, protected or not; returns whether there was one.

        Raises: MetadefExistsError when it names a part twice.
        """
        return self._write(lambda connection: sql.replace_namespace(connection, new))

    def change_namespace(self, name: str, new: NewNamespace, viewer: Viewer) -> NamespaceRow:
        """Give a namespace other fields, its name too; what is in it stays.

        Raises: MetadefNotFoundError, MetadefExistsError.
        """
        return self._write(lambda connection: sql.change_namespace(connection, name, new, viewer))

    def remove_namespace(self, name: str, viewer: Viewer) -> None:
        """Delete a namespace and all that is in it. Raises: MetadefNotFoundError, ProtectedMetadefError."""
        self._write(lambda connection: sql.remove_namespace(connection, name, viewer))

    # Objects

    def objects(self, namespace: str, viewer: Viewer) -> list[ObjectRow]:
        return self._of(namespace, viewer, parts.object_rows)

    def object(self, namespace: str, name: str, viewer: Viewer) -> ObjectRow:
        """Return an object. Raises: MetadefNotFoundError."""
        return parts.object_row(self._row(namespace, viewer, "object", name))

    def add_object(self, namespace: str, new: NewObject, viewer: Viewer) -> ObjectRow:
        """Raises: MetadefNotFoundError, MetadefExistsError."""

        def work(connection: Connection, found: NamespaceRow) -> ObjectRow:
            parts.insert_objects(connection, found, [new])
            return parts.object_row(parts.row_of(connection, found, "object", new.name))

        return self._in(namespace, viewer, work)

    def change_object(self, namespace: str, name: str, new: NewObject, viewer: Viewer) -> ObjectRow:
        """Give an object other fields, its name too. Raises: MetadefNotFoundError, MetadefExistsError."""

        def work(connection: Connection, found: NamespaceRow) -> ObjectRow:
            parts.change_object(connection, found, name, new)
            return parts.object_row(parts.row_of(connection, found, "object", new.name))

        return self._in(namespace, viewer, work)

    def remove_object(self, namespace: str, name: str, viewer: Viewer) -> None:
        """Raises: MetadefNotFoundError, ProtectedMetadefError."""
        self._remove(namespace, viewer, "object", name)

    def remove_objects(self, namespace: str, viewer: Viewer) -> None:
        """Delete all objects of a namespace. Raises: MetadefNotFoundError, ProtectedMetadefError."""
        self._remove_all(namespace, viewer, "object")

    # Properties

    def properties(self, namespace: str, viewer: Viewer) -> list[PropertyRow]:
        return self._of(namespace, viewer, parts.property_rows)

    def property(self, namespace: str, name: str, viewer: Viewer) -> PropertyRow:
        """Return a property. Raises: MetadefNotFoundError."""
        return parts.property_row(self._row(namespace, viewer, "property", name))

    def add_property(self, namespace: str, new: NewProperty, viewer: Viewer) -> PropertyRow:
        """Raises: MetadefNotFoundError, MetadefExistsError."""

        def work(connection: Connection, found: NamespaceRow) -> PropertyRow:
            parts.insert_properties(connection, found, [new])
            return parts.property_row(parts.row_of(connection, found, "property", new.name))

        return self._in(namespace, viewer, work)

    def change_property(self, namespace: str, name: str, new: NewProperty, viewer: Viewer) -> PropertyRow:
        """Give a property another definition, its name too. Raises: MetadefNotFoundError, MetadefExistsError."""

        def work(connection: Connection, found: NamespaceRow) -> PropertyRow:
            parts.change_property(connection, found, name, new)
            return parts.property_row(parts.row_of(connection, found, "property", new.name))

        return self._in(namespace, viewer, work)

    def remove_property(self, namespace: str, name: str, viewer: Viewer) -> None:
        """Raises: MetadefNotFoundError, ProtectedMetadefError."""
        self._remove(namespace, viewer, "property", name)

    def remove_properties(self, namespace: str, viewer: Viewer) -> None:
        """Delete all properties of a namespace. Raises: MetadefNotFoundError, ProtectedMetadefError."""
        self._remove_all(namespace, viewer, "property")

    # Tags

    def tags(self, namespace: str, query: TagQuery, viewer: Viewer) -> list[TagRow]:
        """Return tags. Raises: MetadefNotFoundError, for a marker too."""
        return self._of(namespace, viewer, lambda connection, found: parts.tag_rows(connection, found, query))

    def tag(self, namespace: str, name: str, viewer: Viewer) -> TagRow:
        """Return a tag. Raises: MetadefNotFoundError."""
        return parts.tag_row(self._row(namespace, viewer, "tag", name))

    def add_tag(self, namespace: str, name: str, viewer: Viewer) -> TagRow:
        """Raises: MetadefNotFoundError, MetadefExistsError."""

        def work(connection: Connection, found: NamespaceRow) -> TagRow:
            parts.insert_tags(connection, found, [name])
            return parts.tag_row(parts.row_of(connection, found, "tag", name))

        return self._in(namespace, viewer, work)

    def add_tags(self, namespace: str, names: Sequence[str], viewer: Viewer, *, append: bool) -> None:
        """Make tags, all or none, beside those that are there, or in their place; an empty list changes nothing.

        Raises: MetadefNotFoundError, MetadefExistsError.
        """

        def work(connection: Connection, found: NamespaceRow) -> None:
            if names and not append:
                parts.remove_all(connection, found, "tag")
            parts.insert_tags(connection, found, names)

        self._in(namespace, viewer, work)

    def change_tag(self, namespace: str, name: str, new_name: str, viewer: Viewer) -> TagRow:
        """Give a tag another name. Raises: MetadefNotFoundError, MetadefExistsError."""

        def work(connection: Connection, found: NamespaceRow) -> TagRow:
            parts.change_tag(connection, found, name, new_name)
            return parts.tag_row(parts.row_of(connection, found, "tag", new_name))

        return self._in(namespace, viewer, work)

    def remove_tag(self, namespace: str, name: str, viewer: Viewer) -> None:
        """Raises: MetadefNotFoundError, ProtectedMetadefError."""
        self._remove(namespace, viewer, "tag", name)

    def remove_tags(self, namespace: str, viewer: Viewer) -> None:
        """Delete all tags of a namespace. Raises: MetadefNotFoundError, ProtectedMetadefError."""
        self._remove_all(namespace, viewer, "tag")

    # Resource types

    def resource_types(self) -> list[TagRow]:
        """Return every resource type that some namespace was ever for."""
        return self._read(parts.list_resource_types)

    def associations(self, namespace: str, viewer: Viewer) -> tuple[AssociationRow, ...]:
        """Return the resource types of a namespace. Raises: MetadefNotFoundError."""

        def work(connection: Connection, found: NamespaceRow) -> tuple[AssociationRow, ...]:
            return parts.associations_of(connection, [found.namespace_id]).get(found.namespace_id, ())

        return self._of(namespace, viewer, work)

    def association(self, namespace: str, name: str, viewer: Viewer) -> AssociationRow:
        """Return a resource type of a namespace. Raises: MetadefNotFoundError."""
        return self._of(namespace, viewer, lambda connection, found: parts.check_association(connection, found, name))

    def associate(self, namespace: str, new: NewAssociation, viewer: Viewer) -> AssociationRow:
        """Say that a namespace is for a resource type. Raises: MetadefNotFoundError, MetadefExistsError."""

        def work(connection: Connection, found: NamespaceRow) -> AssociationRow:
            parts.insert_associations(connection, found, [new])
            return parts.check_association(connection, found, new.name)

        return self._in(namespace, viewer, work)

    def disassociate(self, namespace: str, name: str, viewer: Viewer) -> None:
        """Say that a namespace is not for a resource type. Raises: MetadefNotFoundError, ProtectedMetadefError."""

        def work(connection: Connection, found: NamespaceRow) -> None:
            parts.check_association(connection, found, name)
            if found.protected:
                raise ProtectedMetadefError("resource type", name, found.name)
            parts.remove_association(connection, found, name)

        self._in(namespace, viewer, work)

    # Inner

    def _row(self, namespace: str, viewer: Viewer, kind: str, name: str) -> Row[Any]:
        return self._of(namespace, viewer, lambda connection, found: parts.row_of(connection, found, kind, name))

    def _remove(self, namespace: str, viewer: Viewer, kind: str, name: str) -> None:
        def work(connection: Connection, found: NamespaceRow) -> None:
            parts.row_of(connection, found, kind, name)
            if found.protected:
                raise ProtectedMetadefError(kind, name, found.name)
            parts.remove(connection, found, kind, name)

        self._in(namespace, viewer, work)

    def _remove_all(self, namespace: str, viewer: Viewer, kind: str) -> None:
        def work(connection: Connection) -> None:
            parts.remove_all(connection, sql.unprotected(connection, namespace, viewer), kind)

        self._write(work)

    def _of(self, namespace: str, viewer: Viewer, work: Callable[[Connection, NamespaceRow], T]) -> T:
        """Read in a namespace."""
        return self._read(lambda connection: work(connection, sql.find_namespace(connection, namespace, viewer)))

    def _in(self, namespace: str, viewer: Viewer, work: Callable[[Connection, NamespaceRow], T]) -> T:
        """Change a namespace, locked."""
        return self._write(
            lambda connection: work(connection, sql.find_namespace(connection, namespace, viewer, lock=True))
        )

    def _read(self, work: Callable[[Connection], T]) -> T:
        self._opened.check_open()
        return self._opened.catalog.read(work)

    def _write(self, work: Callable[[Connection], T]) -> T:
        self._opened.check_open()
        for _ in range(_RACE_COUNT_MAX):
            try:
                return self._opened.catalog.transaction(work)
            except parts.ResourceTypeRaceError:
                continue
        raise CatalogBusyError("many make resource types of metadata definitions at once")
