"""Namespaces of metadata definitions. Functions take a connection.

Whoever changes what is in a namespace locks its row first, so changes of one namespace take turns, and what a later
statement sees there stays until the commit. The name of a namespace itself is decided by its unique index.
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, true, update

from casimg.catalog import metadef_parts as parts
from casimg.catalog.engine import now_us
from casimg.catalog.keyset import page
from casimg.catalog.metadef_rows import NamespaceDetail, NamespaceQuery, NamespaceRow, TagQuery
from casimg.catalog.metadef_schema import associations, namespaces, objects, properties, resource_types, tags
from casimg.catalog.query import Viewer
from casimg.catalog.sessions import time_of
from casimg.errors import MetadefExistsError, MetadefNotFoundError, ProtectedMetadefError
from casimg.metadef_documents import NewNamespace, is_storable


def find_namespace(connection: Connection, name: str, viewer: Viewer, *, lock: bool = False) -> NamespaceRow:
    """Return a namespace that the viewer sees; with `lock`, held until the transaction ends.

    Raises: MetadefNotFoundError: gone or invisible.
    """
    row = None
    if is_storable(name):
        query = select(namespaces).where(namespaces.c.name == name, _visible(viewer))
        row = connection.execute(query.with_for_update() if lock else query).first()
    # MariaDB takes "web" and "web " for equal.
    if row is None or row.name != name:
        raise MetadefNotFoundError("namespace", name)
    return _namespace_row(row)


def detail(connection: Connection, name: str, viewer: Viewer) -> NamespaceDetail:
    """Return a namespace with all that is in it. Raises: MetadefNotFoundError."""
    found = find_namespace(connection, name, viewer)
    return NamespaceDetail(
        namespace=found,
        objects=tuple(parts.object_rows(connection, found)),
        properties=tuple(parts.property_rows(connection, found)),
        tags=tuple(parts.tag_rows(connection, found, TagQuery())),
        associations=parts.associations_of(connection, [found.namespace_id]).get(found.namespace_id, ()),
    )


def list_namespaces(connection: Connection, query: NamespaceQuery, viewer: Viewer) -> list[NamespaceDetail]:
    """Return namespaces with their resource types and nothing else that is in them.

    Raises: MetadefNotFoundError for a marker that the viewer does not see.
    """
    wanted = select(namespaces).where(_visible(viewer))
    if query.visibility is not None:
        wanted = wanted.where(namespaces.c.visibility == query.visibility)
    if query.resource_types is not None:
        names = [name for name in query.resource_types if is_storable(name)]
        fitting = (
            select(associations.c.namespace_id)
            .join(resource_types, resource_types.c.resource_type_id == associations.c.resource_type_id)
            .where(resource_types.c.name.in_(names))
        )
        wanted = wanted.where(namespaces.c.namespace_id.in_(fitting))
    keys = _sort_keys(query.sort_key)
    after = None
    if query.marker is not None:
        marker = find_namespace(connection, query.marker, viewer)
        values = select(*keys).where(namespaces.c.namespace_id == marker.namespace_id)
        after = tuple(connection.execute(values).one())
    rows = connection.execute(page(wanted, keys, after, query.ascending, query.limit)).all()
    found = parts.associations_of(connection, [row.namespace_id for row in rows])
    return [NamespaceDetail(_namespace_row(row), (), (), (), found.get(row.namespace_id, ())) for row in rows]


def insert_namespace(connection: Connection, new: NewNamespace) -> NamespaceRow:
    """Enter a namespace with all that is in it.

    Raises: MetadefExistsError, ResourceTypeRaceError.
    """
    now = now_us(connection)
    with parts.taken_as(MetadefExistsError("namespace", new.name)):
        connection.execute(insert(namespaces).values(**_values(new), created_at=now, updated_at=now))
    row = connection.execute(select(namespaces).where(namespaces.c.name == new.name)).one()
    made = _namespace_row(row)
    parts.insert_associations(connection, made, new.associations or ())
    parts.insert_objects(connection, made, new.objects or ())
    parts.insert_properties(connection, made, new.properties or ())
    parts.insert_tags(connection, made, new.tags or ())
    return made


def replace_namespace(connection: Connection, new: NewNamespace) -> bool:
    """Enter a namespace in the place of one of its name, protected or not; returns whether there was one.

    Raises: MetadefExistsError, ResourceTypeRaceError.
    """
    row = connection.execute(select(namespaces).where(namespaces.c.name == new.name).with_for_update()).first()
    if row is not None:
        _remove(connection, row.namespace_id)
    insert_namespace(connection, new)
    return row is not None


def change_namespace(connection: Connection, name: str, new: NewNamespace, viewer: Viewer) -> NamespaceRow:
    """Give a namespace these fields, its name too; what is in it stays, and what the change holds of that is ignored.

    Raises: MetadefNotFoundError, MetadefExistsError.
    """
    found = find_namespace(connection, name, viewer, lock=True)
    change = update(namespaces).where(namespaces.c.namespace_id == found.namespace_id)
    with parts.taken_as(MetadefExistsError("namespace", new.name)):
        connection.execute(change.values(**_values(new), updated_at=now_us(connection)))
    row = connection.execute(select(namespaces).where(namespaces.c.namespace_id == found.namespace_id)).one()
    return _namespace_row(row)


def remove_namespace(connection: Connection, name: str, viewer: Viewer) -> None:
    """Delete a namespace and all that is in it. Raises: MetadefNotFoundError, ProtectedMetadefError."""
    _remove(connection, unprotected(connection, name, viewer).namespace_id)


def unprotected(connection: Connection, name: str, viewer: Viewer) -> NamespaceRow:
    """Return a namespace, locked, whose contents may be deleted.

    Raises: MetadefNotFoundError, ProtectedMetadefError.
    """
    found = find_namespace(connection, name, viewer, lock=True)
    if found.protected:
        raise ProtectedMetadefError("namespace", found.name, found.name)
    return found


def _remove(connection: Connection, namespace_id: int) -> None:
    for table in (objects, properties, tags, associations, namespaces):
        connection.execute(delete(table).where(table.c.namespace_id == namespace_id))


def _visible(viewer: Viewer) -> ColumnElement[bool]:
    if viewer.is_admin:
        return true()
    seen = or_(namespaces.c.visibility == "public", namespaces.c.owner.is_(None))
    return seen if viewer.project_id is None else or_(seen, namespaces.c.owner == viewer.project_id)


def _sort_keys(name: str) -> list[ColumnElement[Any]]:
    """Return what to sort by, so that no two namespaces are equal; what is not there sorts as empty text."""
    named: dict[str, ColumnElement[Any]] = {"id": namespaces.c.namespace_id, "namespace": namespaces.c.name}
    key = named.get(name, namespaces.c.get(name, namespaces.c.created_at))
    keys = [key, *(other for other in (namespaces.c.created_at, namespaces.c.namespace_id) if other is not key)]
    return [func.coalesce(column, "") if getattr(column, "nullable", False) else column for column in keys]


def _values(new: NewNamespace) -> dict[str, Any]:
    return {
        "name": new.name,
        "display_name": new.display_name,
        "description": new.description,
        "visibility": new.visibility,
        "protected": new.protected,
        "owner": new.owner,
    }


def _namespace_row(row: Row[Any]) -> NamespaceRow:
    return NamespaceRow(
        namespace_id=row.namespace_id,
        name=row.name,
        display_name=row.display_name,
        description=row.description,
        visibility=row.visibility,
        protected=row.protected,
        owner=row.owner,
        created_at=time_of(row.created_at),
        updated_at=time_of(row.updated_at),
    )
