"""How image rows are read and inserted: one query for the rows, one more each for properties, tags, hashes, copies.

What reads images in whichever way shares this. Functions take a connection.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, insert, select

from casimg.catalog.rows import CopyRow, ImageRow, Location, NewImage
from casimg.catalog.schema import (
    STORED_STATUSES,
    backends,
    content_hashes,
    contents,
    image_copies,
    image_locations,
    image_properties,
    image_tags,
    images,
)
from casimg.catalog.sessions import micros_of, time_of
from casimg.catalog.transaction import batches
from casimg.errors import CatalogDamagedError
from casimg.ids import ContentId, ImageId, SessionId

_PROPERTIES = select(image_properties.c.image_id, image_properties.c.name, image_properties.c.value)
_TAGS = select(image_tags.c.image_id, image_tags.c.tag)
_HASHES = select(content_hashes.c.content_id, content_hashes.c.algo, content_hashes.c.value)
_COPIES = (
    select(*(image_copies.c[name] for name in ("image_id", "backend_id", "content_id", "session_id")), backends.c.name)
    .join(backends, backends.c.backend_id == image_copies.c.backend_id)
    .order_by(image_copies.c.created_at, image_copies.c.backend_id)
)


def is_stored() -> ColumnElement[bool]:
    """Return the condition that an image has data, here or elsewhere, whether it may be downloaded or not."""
    return images.c.status.in_(STORED_STATUSES)


def image_query() -> Select[Any]:
    """Return the query of image rows with the sizes of their contents, and where these lie."""
    return (
        select(images, contents.c.size, contents.c.hole_size, contents.c.backend_id, backends.c.name.label("store"))
        .outerjoin(contents, contents.c.content_id == images.c.content_id)
        .outerjoin(backends, backends.c.backend_id == contents.c.backend_id)
    )


def read_images(connection: Connection, rows: Sequence[Row[Any]]) -> list[ImageRow]:
    """Return the images of rows of `image_query`, in their order, with all that belongs to them."""
    ids = [row.id for row in rows]
    properties: dict[str, dict[str, str]] = {}
    tags: dict[str, list[str]] = {}
    hashes: dict[str, dict[str, str]] = {}
    # Fetched whole and taken apart by position: of a page of 1,000 images these are ten thousand rows.
    for batch in batches(ids):
        found = connection.execute(_PROPERTIES.where(image_properties.c.image_id.in_(batch))).all()
        for image_id, name, value in found:
            properties.setdefault(image_id, {})[name] = value
    for batch in batches(ids):
        for image_id, tag in connection.execute(_TAGS.where(image_tags.c.image_id.in_(batch))).all():
            tags.setdefault(image_id, []).append(tag)
    for batch in batches(sorted({row.content_id for row in rows if row.content_id is not None})):
        found = connection.execute(_HASHES.where(content_hashes.c.content_id.in_(batch))).all()
        for content_id, algo, value in found:
            hashes.setdefault(content_id, {})[algo] = value
    copies = copies_of(connection, ids)
    places = _locations(connection, [row.id for row in rows if row.location_count])
    return [
        image_row(
            row,
            properties.get(row.id, {}),
            tuple(sorted(tags.get(row.id, ()))),
            hashes.get(row.content_id, {}),
            tuple(copies.get(row.id, ())),
            tuple(places.get(row.id, ())),
        )
        for row in rows
    ]


def copies_of(connection: Connection, image_ids: Sequence[str]) -> dict[str, list[CopyRow]]:
    """Return the further contents of images that have some, by image, the oldest first."""
    found: dict[str, list[CopyRow]] = {}
    for batch in batches(image_ids):
        for row in connection.execute(_COPIES.where(image_copies.c.image_id.in_(batch))).all():
            copy = CopyRow(row.backend_id, row.name, ContentId(row.content_id), SessionId(row.session_id))
            found.setdefault(row.image_id, []).append(copy)
    return found


def _locations(connection: Connection, image_ids: Sequence[str]) -> dict[str, list[Location]]:
    found: dict[str, list[Location]] = {}
    for batch in batches(image_ids):
        query = select(image_locations).where(image_locations.c.image_id.in_(batch))
        query = query.order_by(image_locations.c.image_id, image_locations.c.position)
        for row in connection.execute(query):
            found.setdefault(row.image_id, []).append(Location(row.url, _metadata(row.image_id, row.metadata)))
    return found


def _metadata(image_id: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CatalogDamagedError(f"image {image_id}", "the metadata of a location are no JSON object")
    return found


def image_row(
    row: Row[Any],
    properties: dict[str, str],
    tags: tuple[str, ...] = (),
    hashes: dict[str, str] | None = None,
    copies: tuple[CopyRow, ...] = (),
    locations: tuple[Location, ...] = (),
) -> ImageRow:
    """Return the value of one row of `image_query`."""
    is_there = row.content_id is not None and row.status in STORED_STATUSES
    is_elsewhere = row.content_id is None and row.located_size is not None
    if is_elsewhere:
        said = (("md5", row.located_checksum), (row.located_hash_algo, row.located_hash_value))
        hashes = {algo: value for algo, value in said if algo is not None and value is not None}
    return ImageRow(
        id=ImageId(row.id),
        name=row.name,
        status=row.status,
        content_id=None if row.content_id is None else ContentId(row.content_id),
        session_id=None if row.session_id is None else SessionId(row.session_id),
        parent_id=None if row.parent_id is None else ImageId(row.parent_id),
        disk_format=row.disk_format,
        container_format=row.container_format,
        owner=row.owner,
        visibility=row.visibility,
        protected=row.protected,
        created_at=time_of(row.created_at),
        updated_at=time_of(row.updated_at),
        deleted_at=None if row.deleted_at is None else time_of(row.deleted_at),
        size=row.located_size if is_elsewhere else row.size,
        hole_size=row.hole_size or 0,
        properties=properties,
        revision=row.revision,
        hidden=row.hidden,
        min_disk=row.min_disk,
        min_ram=row.min_ram,
        virtual_size=row.virtual_size,
        tags=tags,
        hashes=hashes or {},
        registered=row.registered,
        stores=(row.store, *(copy.store for copy in copies)) if is_there and row.store is not None else (),
        backend_id=row.backend_id,
        copies=copies if is_there else (),
        locations=locations,
        hash_algo=row.located_hash_algo if is_elsewhere else None,
    )


def insert_image(
    connection: Connection,
    new: NewImage,
    now: int,
    *,
    status: str,
    session_id: SessionId | None = None,
    content_id: ContentId | None = None,
    staged_content_id: ContentId | None = None,
    updated_at: int | None = None,
    revision: int = 0,
    registered: bool = False,
) -> None:
    """Insert an image with its properties and tags.

    Args:
        now: microseconds; of its creation when `new` does not say, and of its last change when `updated_at` is None.
    Raises: IntegrityError of SQLAlchemy when the id was ever used.
    """
    connection.execute(
        insert(images).values(
            id=new.id,
            name=new.name,
            status=status,
            content_id=content_id,
            staged_content_id=staged_content_id,
            session_id=session_id,
            parent_id=new.parent_id,
            disk_format=new.disk_format,
            container_format=new.container_format,
            owner=new.owner,
            visibility=new.visibility,
            protected=new.protected,
            hidden=new.hidden,
            min_disk=new.min_disk,
            min_ram=new.min_ram,
            virtual_size=new.virtual_size,
            created_at=now if new.created_at is None else micros_of(new.created_at),
            updated_at=now if updated_at is None else updated_at,
            revision=revision,
            registered=registered,
        )
    )
    for items in batches(new.properties.items()):
        connection.execute(
            insert(image_properties), [{"image_id": new.id, "name": name, "value": value} for name, value in items]
        )
    for tags in batches(sorted(set(new.tags))):
        connection.execute(insert(image_tags), [{"image_id": new.id, "tag": tag} for tag in tags])


__all__ = ["copies_of", "image_query", "image_row", "insert_image", "is_stored", "read_images"]
