"""What is in a namespace of metadata definitions: objects, properties, tags, resource types.

Functions take a connection. Those that change anything expect the namespace's row to be locked by the same transaction.
Names are compared by the database and once more here: MariaDB takes "web" and "web " for equal.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from casimg.catalog.engine import now_us
from casimg.catalog.keyset import page
from casimg.catalog.metadef_rows import AssociationRow, NamespaceRow, ObjectRow, PropertyRow, TagQuery, TagRow
from casimg.catalog.metadef_schema import associations, objects, properties, resource_types, tags
from casimg.catalog.sessions import time_of
from casimg.catalog.transaction import batches
from casimg.errors import CatalogDamagedError, MetadefExistsError, MetadefNotFoundError
from casimg.metadef_documents import NewAssociation, NewObject, NewProperty, is_storable

KINDS = {"object": objects, "property": properties, "tag": tags}
"""Tables whose rows have a name in a namespace, by what such a row is called."""


class ResourceTypeRaceError(Exception):
    """Another transaction made a resource type at the same time: begin again, it is there now."""


@contextmanager
def taken_as(error: Exception) -> Iterator[None]:
    """Raise `error` when a statement would break a unique index."""
    try:
        yield
    except IntegrityError:
        raise error from None


def remove(connection: Connection, namespace: NamespaceRow, kind: str, name: str) -> None:
    """Delete an object, property or tag. Raises: MetadefNotFoundError."""
    row = row_of(connection, namespace, kind, name)
    table = KINDS[kind]
    key = table.primary_key.columns[0]
    connection.execute(delete(table).where(key == row[0]))


def remove_all(connection: Connection, namespace: NamespaceRow, kind: str) -> None:
    """Delete all objects, properties or tags of a namespace."""
    table = KINDS[kind]
    connection.execute(delete(table).where(table.c.namespace_id == namespace.namespace_id))


def row_of(connection: Connection, namespace: NamespaceRow, kind: str, name: str) -> Row[Any]:
    """Return the row of an object, property or tag, its key first. Raises: MetadefNotFoundError."""
    table = KINDS[kind]
    found = None
    if is_storable(name):
        query = select(table).where(table.c.namespace_id == namespace.namespace_id, table.c.name == name)
        found = connection.execute(query).first()
    if found is None or found.name != name:
        raise MetadefNotFoundError(kind, name, namespace.name)
    return found


def _rows_of(connection: Connection, namespace: NamespaceRow, kind: str) -> Iterable[Row[Any]]:
    table = KINDS[kind]
    query = select(table).where(table.c.namespace_id == namespace.namespace_id)
    return connection.execute(query.order_by(table.primary_key.columns[0]))


def _insert(connection: Connection, namespace: NamespaceRow, kind: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that have distinct free names. Raises: MetadefExistsError."""
    table = KINDS[kind]
    names = [row["name"] for row in rows]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    taken = set(
        connection.execute(select(table.c.name).where(table.c.namespace_id == namespace.namespace_id)).scalars()
    )
    for name in names:
        if name in taken or name in twice:
            raise MetadefExistsError(kind, name, namespace.name)
    now = now_us(connection)
    common = {"namespace_id": namespace.namespace_id, "created_at": now, "updated_at": now}
    for batch in batches(rows):
        with taken_as(MetadefExistsError(kind, names[0] if len(names) == 1 else "in the list", namespace.name)):
            connection.execute(insert(table), [{**common, **row} for row in batch])


def _change(connection: Connection, namespace: NamespaceRow, kind: str, name: str, values: dict[str, Any]) -> None:
    """Change a row, its name too. Raises: MetadefNotFoundError, MetadefExistsError."""
    table = KINDS[kind]
    row = row_of(connection, namespace, kind, name)
    change = update(table).where(table.primary_key.columns[0] == row[0])
    with taken_as(MetadefExistsError(kind, values["name"], namespace.name)):
        connection.execute(change.values(**values, updated_at=now_us(connection)))


# Objects


def insert_objects(connection: Connection, namespace: NamespaceRow, new: Sequence[NewObject]) -> None:
    _insert(connection, namespace, "object", [_object_values(item) for item in new])


def change_object(connection: Connection, namespace: NamespaceRow, name: str, new: NewObject) -> None:
    _change(connection, namespace, "object", name, _object_values(new))


def object_rows(connection: Connection, namespace: NamespaceRow) -> list[ObjectRow]:
    return [object_row(row) for row in _rows_of(connection, namespace, "object")]


def object_row(row: Row[Any]) -> ObjectRow:
    return ObjectRow(
        name=row.name,
        description=row.description,
        required=tuple(_json(row.required, list, "object", row.name)),
        properties=_json(row.properties, dict, "object", row.name),
        created_at=time_of(row.created_at),
        updated_at=time_of(row.updated_at),
    )


def _object_values(new: NewObject) -> dict[str, Any]:
    return {
        "name": new.name,
        "description": new.description,
        "required": json.dumps(list(new.required or ())),
        "properties": json.dumps(dict(new.properties or {})),
    }


# Properties


def insert_properties(connection: Connection, namespace: NamespaceRow, new: Sequence[NewProperty]) -> None:
    _insert(connection, namespace, "property", [_property_values(item) for item in new])


def change_property(connection: Connection, namespace: NamespaceRow, name: str, new: NewProperty) -> None:
    _change(connection, namespace, "property", name, _property_values(new))


def property_rows(connection: Connection, namespace: NamespaceRow) -> list[PropertyRow]:
    return [property_row(row) for row in _rows_of(connection, namespace, "property")]


def property_row(row: Row[Any]) -> PropertyRow:
    definition = _json(row.definition, dict, "property", row.name)
    return PropertyRow(row.name, definition, time_of(row.created_at), time_of(row.updated_at))


def _property_values(new: NewProperty) -> dict[str, Any]:
    return {"name": new.name, "definition": json.dumps(dict(new.definition))}


def _json(text: str, kind: type[Any], what: str, name: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, kind):
        raise CatalogDamagedError(f"metadata definitions, {what} {name!r}", "its row holds no JSON of its kind")
    return found


# Tags


def insert_tags(connection: Connection, namespace: NamespaceRow, names: Sequence[str]) -> None:
    _insert(connection, namespace, "tag", [{"name": name} for name in names])


def change_tag(connection: Connection, namespace: NamespaceRow, name: str, new_name: str) -> None:
    _change(connection, namespace, "tag", name, {"name": new_name})


def tag_rows(connection: Connection, namespace: NamespaceRow, query: TagQuery) -> list[TagRow]:
    """Return tags of a namespace. Raises: MetadefNotFoundError for a marker that is none."""
    key = {"id": tags.c.tag_id}.get(query.sort_key, tags.c.get(query.sort_key, tags.c.created_at))
    keys = [key, *(other for other in (tags.c.created_at, tags.c.tag_id) if other is not key)]
    after = None
    if query.marker is not None:
        row = row_of(connection, namespace, "tag", query.marker)
        after = [row._mapping[key] for key in keys]
    wanted = page(
        select(tags).where(tags.c.namespace_id == namespace.namespace_id), keys, after, query.ascending, query.limit
    )
    return [tag_row(row) for row in connection.execute(wanted)]


def tag_row(row: Row[Any]) -> TagRow:
    return TagRow(row.name, time_of(row.created_at), time_of(row.updated_at))


# Resource types


def list_resource_types(connection: Connection) -> list[TagRow]:
    """Return every resource type that was ever named, in the order of their making."""
    rows = connection.execute(select(resource_types).order_by(resource_types.c.resource_type_id))
    return [tag_row(row) for row in rows]


def insert_associations(connection: Connection, namespace: NamespaceRow, new: Sequence[NewAssociation]) -> None:
    """Name resource types for a namespace, and make those that are new.

    Raises: MetadefExistsError, ResourceTypeRaceError.
    """
    for item in new:
        now = now_us(connection)
        values = {
            "namespace_id": namespace.namespace_id,
            "resource_type_id": _resource_type_id(connection, item.name, now),
            "prefix": item.prefix,
            "properties_target": item.properties_target,
            "created_at": now,
            "updated_at": now,
        }
        with taken_as(MetadefExistsError("resource type", item.name, namespace.name)):
            connection.execute(insert(associations).values(values))


def _resource_type_id(connection: Connection, name: str, now: int) -> int:
    query = select(resource_types.c.resource_type_id).where(resource_types.c.name == name)
    found = connection.execute(query).scalar()
    if found is None:
        with taken_as(ResourceTypeRaceError()):
            connection.execute(insert(resource_types).values(name=name, created_at=now, updated_at=now))
        found = connection.execute(query).scalar_one()
    return int(found)


def remove_association(connection: Connection, namespace: NamespaceRow, name: str) -> None:
    """Take a resource type from a namespace; the type itself stays. Raises: MetadefNotFoundError."""
    check_association(connection, namespace, name)
    wanted = select(resource_types.c.resource_type_id).where(resource_types.c.name == name).scalar_subquery()
    connection.execute(
        delete(associations).where(
            associations.c.namespace_id == namespace.namespace_id, associations.c.resource_type_id == wanted
        )
    )


def check_association(connection: Connection, namespace: NamespaceRow, name: str) -> AssociationRow:
    """Return a resource type of a namespace. Raises: MetadefNotFoundError."""
    for row in associations_of(connection, [namespace.namespace_id]).get(namespace.namespace_id, ()):
        if row.name == name:
            return row
    raise MetadefNotFoundError("resource type", name, namespace.name)


def associations_of(connection: Connection, namespace_ids: Iterable[int]) -> dict[int, tuple[AssociationRow, ...]]:
    """Return the resource types of namespaces, by their numbers; those without any are absent."""
    found: dict[int, list[AssociationRow]] = {}
    for batch in batches(namespace_ids):
        query = (
            select(associations, resource_types.c.name)
            .join(resource_types, resource_types.c.resource_type_id == associations.c.resource_type_id)
            .where(associations.c.namespace_id.in_(batch))
            .order_by(associations.c.created_at, associations.c.resource_type_id)
        )
        for row in connection.execute(query):
            item = AssociationRow(
                row.name, row.prefix, row.properties_target, time_of(row.created_at), time_of(row.updated_at)
            )
            found.setdefault(row.namespace_id, []).append(item)
    return {namespace_id: tuple(rows) for namespace_id, rows in found.items()}
