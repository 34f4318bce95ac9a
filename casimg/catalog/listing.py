"""Lists of images: who sees what (Glance's rules), filters, order and pages, all in SQL. Functions take a connection.

A page is found by the sort values of the last image of the page before, never by counting rows, so its cost does not
grow with its number. Missing values are a key of their own: the three databases do not agree where NULL comes.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Integer,
    String,
    and_,
    case,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
)

from casimg.catalog.image_rows import image_query, is_stored, read_images
from casimg.catalog.query import FILTER_OPS, PROPERTY_PREFIX, Filter, Query, Viewer, is_text
from casimg.catalog.rows import ImageRow
from casimg.catalog.schema import (
    MEMBER_STATUSES,
    content_hashes,
    contents,
    image_members,
    image_properties,
    image_tags,
    images,
)
from casimg.catalog.sessions import micros_of
from casimg.errors import ImageNotFoundError, InputError, MarkerNotFoundError
from casimg.ids import ImageId

Clause = ColumnElement[bool]
_TIMES: Final = ("created_at", "updated_at")
_COLUMNS: Final[dict[str, ColumnElement[Any]]] = {
    **{
        name: images.c[name]
        for name in (
            *("id", "name", "status", "owner", "visibility", "disk_format", "container_format", "protected", "hidden"),
            *("min_disk", "min_ram", "virtual_size", "created_at", "updated_at"),
        )
    },
    "size": func.coalesce(contents.c.size, images.c.located_size),
}
_NULLABLE: Final = frozenset({"name", "owner", "disk_format", "container_format", "size", "virtual_size"})
_HASHES: Final = {"checksum": "md5", "os_hash_value": "sha512"}
_HASHES_ELSEWHERE: Final = {
    "checksum": images.c.located_checksum,
    "os_hash_algo": images.c.located_hash_algo,
    "os_hash_value": images.c.located_hash_value,
}
_INT_MAX: Final = 2**63 - 1
_SECOND_US: Final = 1_000_000


def list_page(connection: Connection, query: Query, viewer: Viewer) -> list[ImageRow]:
    """Return one page. Raises: MarkerNotFoundError, InputError for a field, operator or value that cannot be."""
    wanted = image_query().where(*_conditions(connection, query, viewer))
    keys = _sort_keys(query.sort)
    if query.marker is not None:
        wanted = wanted.where(_after(connection, keys, query.marker, viewer))
    for name, ascending in keys:
        for part in _key_parts(connection, name):
            wanted = wanted.order_by(part.asc() if ascending else part.desc())
    return read_images(connection, connection.execute(wanted.limit(query.limit)).all())


def show(connection: Connection, image_id: ImageId, viewer: Viewer) -> ImageRow:
    """Return an image that the viewer may see. Raises: ImageNotFoundError for all others."""
    if not is_text(image_id):
        raise ImageNotFoundError(repr(image_id))
    wanted = image_query().where(images.c.id == image_id, is_known(), *_shown_to(connection, viewer))
    row = connection.execute(wanted).first()
    if row is None or row.id != image_id:
        raise ImageNotFoundError(image_id)
    return read_images(connection, [row])[0]


def is_known() -> Clause:
    """Return the condition that an image is there for an API: not deleted, and not a save that may end deleted."""
    return and_(images.c.status != "deleted", or_(is_stored(), images.c.registered))


# Who sees what


def _shown_to(connection: Connection, viewer: Viewer) -> list[Clause]:
    """Return the conditions to see one image: sharing counts whatever the member has answered."""
    if viewer.is_admin:
        return []
    seen: list[Clause] = [images.c.owner.is_(None), images.c.visibility.in_(("public", "community"))]
    if viewer.project_id is not None and is_text(viewer.project_id):
        seen.append(_equals(connection, images.c.owner, viewer.project_id))
        seen.append(and_(images.c.visibility == "shared", _is_member(connection, viewer.project_id, "all")))
    return [or_(*seen)]


def _listed_to(connection: Connection, query: Query, viewer: Viewer) -> list[Clause]:
    """Return the conditions to find an image in a list."""
    project = viewer.project_id if viewer.project_id is not None and is_text(viewer.project_id) else None
    own = false() if project is None else _equals(connection, images.c.owner, project)
    found: list[Clause] = []
    if not viewer.is_admin:
        seen = [images.c.visibility.in_(("public", "community")), own]
        if project is not None:
            shared = _is_member(connection, project, query.member_status)
            seen.append(and_(images.c.visibility == "shared", shared))
        found.append(or_(*seen))
    if query.visibility is None:
        found.append(or_(images.c.visibility != "community", own))
    elif query.visibility != "all":
        found.append(images.c.visibility == query.visibility)
    return found


def _is_member(connection: Connection, project_id: str, status: str) -> Clause:
    wanted = [image_members.c.image_id == images.c.id, _equals(connection, image_members.c.member, project_id)]
    if status != "all":
        wanted.append(image_members.c.status == status)
    return exists().where(*wanted)


# Filters


def _conditions(connection: Connection, query: Query, viewer: Viewer) -> list[Clause]:
    if query.member_status not in (*MEMBER_STATUSES, "all"):
        raise InputError(f"the member status {query.member_status!r} is none")
    found = [is_known(), images.c.hidden.is_(query.hidden), *_listed_to(connection, query, viewer)]
    found += [_filter(connection, item) for item in query.filters]
    for tag in query.tags:
        _check_text("tags", tag)
        tagged = (image_tags.c.image_id == images.c.id, _equals(connection, image_tags.c.tag, tag))
        found.append(exists().where(*tagged))
    return found


def _filter(connection: Connection, item: Filter) -> Clause:
    if item.op not in FILTER_OPS:
        raise InputError(f"the operator {item.op!r} is none")
    if item.field.startswith(PROPERTY_PREFIX):
        name = item.field.removeprefix(PROPERTY_PREFIX)
        _check_text(item.field, name)
        met = _compare_text(connection, item, image_properties.c.value)
        named = _equals(connection, image_properties.c.name, name)
        # Asked of each image by the primary key: 10,000 images take some 50 ms so, and no less with an index on values,
        # which PostgreSQL refuses for long ones and MariaDB makes of their beginnings only.
        return exists().where(image_properties.c.image_id == images.c.id, named, met)
    if item.field in _HASHES or item.field == "os_hash_algo":
        column = content_hashes.c.algo if item.field == "os_hash_algo" else content_hashes.c.value
        met = _compare_text(connection, item, column)
        algo = content_hashes.c.algo == _HASHES.get(item.field, "sha512")
        kept = exists().where(content_hashes.c.content_id == images.c.content_id, algo, met)
        return or_(kept, _compare_text(connection, item, _HASHES_ELSEWHERE[item.field]))
    column_of = _COLUMNS.get(item.field)
    if column_of is None:
        raise InputError(f"{item.field!r} is nothing to filter by")
    if item.field in _TIMES:
        return _compare_time(item, column_of)
    if isinstance(column_of.type, String):
        return _compare_text(connection, item, column_of)
    if isinstance(column_of.type, Boolean):
        if not isinstance(item.value, bool) or item.op not in ("eq", "neq"):
            raise InputError(f"{item.field} is true or false")
        return column_of.is_(item.value if item.op == "eq" else not item.value)
    if isinstance(item.value, bool) or not isinstance(item.value, int):
        raise InputError(f"{item.field} is a number, not {item.value!r}")
    # What no column can hold is still larger, or smaller, than what it holds.
    return _ordered(item.op, column_of, max(-_INT_MAX - 1, min(_INT_MAX, item.value)))


def _compare_text(connection: Connection, item: Filter, column: ColumnElement[Any]) -> Clause:
    if item.op == "in":
        if not isinstance(item.value, tuple):
            raise InputError(f"{item.field}: `in` takes a list")
        for value in item.value:
            _check_text(item.field, value)
        if connection.dialect.name in ("mysql", "mariadb"):
            return or_(false(), *(_equals(connection, column, value) for value in item.value))
        return column.in_(item.value)
    if not isinstance(item.value, str):
        raise InputError(f"{item.field} is a text, not {item.value!r}")
    _check_text(item.field, item.value)
    equal = _equals(connection, column, item.value)
    if item.op == "eq":
        return equal
    if item.op == "neq":
        return and_(column.is_not(None), not_(equal))
    return _ordered(item.op, _by_bytes(connection, column), item.value)


def _compare_time(item: Filter, column: ColumnElement[Any]) -> Clause:
    """Compare in whole seconds: the second shown is the image's, whatever comes after its point."""
    if not isinstance(item.value, datetime) or item.value.tzinfo is None or item.op == "in":
        raise InputError(f"{item.field} is a time with a zone, not {item.value!r}")
    first = micros_of(item.value) // _SECOND_US * _SECOND_US
    end = first + _SECOND_US
    within = and_(column >= first, column < end)
    clauses: dict[str, Clause] = {
        "eq": within,
        "neq": or_(column < first, column >= end),
        "gt": column >= end,
        "gte": column >= first,
        "lt": column < first,
        "lte": column < end,
    }
    return clauses[item.op]


def _ordered(op: str, column: ColumnElement[Any], value: object) -> Clause:
    clauses: dict[str, Clause] = {
        "eq": column == value,
        "neq": column != value,
        "gt": column > value,
        "gte": column >= value,
        "lt": column < value,
        "lte": column <= value,
    }
    if op not in clauses:
        raise InputError("`in` is for texts")
    return clauses[op]


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, str) or not is_text(value):
        raise InputError(f"{field}: {value!r} is not a text that can be kept")


def _equals(connection: Connection, column: ColumnElement[Any], value: str) -> Clause:
    """Return the condition that a text is exactly this; MariaDB takes "web" and "web " for equal."""
    if connection.dialect.name in ("mysql", "mariadb"):
        return and_(column == value, func.length(column) == len(value.encode()))
    return column == value


# Order and pages


def _sort_keys(sort: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    keys: list[tuple[str, bool]] = []
    for name, ascending in sort:
        if name not in _COLUMNS or isinstance(_COLUMNS[name].type, Boolean):
            raise InputError(f"{name!r} is nothing to sort by")
        if name not in [key for key, _ in keys]:
            keys.append((name, ascending))
    direction = keys[0][1] if len(keys) == 1 else False
    keys += [(name, direction) for name in ("created_at", "id") if name not in [key for key, _ in keys]]
    # The id decides for good; what comes after it says nothing.
    return keys[: [key for key, _ in keys].index("id") + 1]


def _key_parts(connection: Connection, name: str) -> list[ColumnElement[Any]]:
    """Return what to order by for one key, ascending: first whether there is a value, then the value."""
    column = _by_bytes(connection, _COLUMNS[name])
    return [_is_there(column), column] if name in _NULLABLE else [column]


def _is_there(column: ColumnElement[Any]) -> ColumnElement[int]:
    return case((column.is_(None), literal(0, Integer)), else_=literal(1, Integer))


def _by_bytes(connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column that is ordered by its bytes on PostgreSQL too, where the database has a language."""
    if connection.dialect.name == "postgresql" and isinstance(column.type, String):
        return column.collate("C")
    return column


def _after(connection: Connection, keys: Sequence[tuple[str, bool]], marker: ImageId, viewer: Viewer) -> Clause:
    """Return the condition that an image comes after the marker in this order."""
    row = None
    if is_text(marker):
        asked = select(*(_COLUMNS[name].label(name) for name, _ in keys)).select_from(
            images.outerjoin(contents, contents.c.content_id == images.c.content_id)
        )
        asked = asked.where(images.c.id == marker, is_known(), *_shown_to(connection, viewer))
        row = connection.execute(asked).first()
    if row is None:
        raise MarkerNotFoundError(marker)
    values = row._mapping
    after: list[Clause] = []
    equal: list[Clause] = []
    for name, ascending in keys:
        value = values[name]
        column = _by_bytes(connection, _COLUMNS[name])
        if name in _NULLABLE:
            there, mine = _is_there(column), 0 if value is None else 1
            after.append(and_(*equal, there > mine if ascending else there < mine))
            equal.append(column.is_(None) if value is None else column.is_not(None))
        if value is None:
            continue
        after.append(and_(*equal, column > value if ascending else column < value))
        equal.append(column == value)
    first, ascending = keys[0]
    if first in _NULLABLE:
        return or_(*after)
    # Said once more for the first key alone, so that an index on it is entered at the right place.
    column, value = _by_bytes(connection, _COLUMNS[first]), values[first]
    return and_(column >= value if ascending else column <= value, or_(*after))
