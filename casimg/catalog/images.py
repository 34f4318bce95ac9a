"""Images: rules 4 (snapshot of a stored image), 6 (commit) and 11 (delete). Functions take a connection."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from casimg.catalog.engine import now_us
from casimg.catalog.outbox import note_change
from casimg.catalog.packs import hold_packs, lock_repo
from casimg.catalog.rows import ImageRow, NewContent, NewImage
from casimg.catalog.schema import (
    content_hashes,
    content_packs,
    content_trees,
    contents,
    image_properties,
    images,
)
from casimg.catalog.sessions import beat, close_session, micros_of, time_of
from casimg.catalog.transaction import batches
from casimg.errors import (
    AmbiguousNameError,
    CatalogDamagedError,
    ImageNotFoundError,
    NameTakenError,
    ProtectedImageError,
    SessionFencedError,
)
from casimg.ids import ContentId, ImageId, SessionId

_PREFIX_SIZE_MIN = 4


def begin_image(connection: Connection, session_id: SessionId, new: NewImage, content_id: ContentId) -> None:
    """Insert the image, claimed by the session, and its pending content. Raises: SessionFencedError."""
    beat(connection, session_id)
    now = now_us(connection)
    connection.execute(
        insert(contents).values(
            content_id=content_id, state="pending", session_id=session_id, size=None, hole_size=0, created_at=now
        )
    )
    _insert_image(connection, session_id, new, now, status="saving", staged_content_id=content_id)


def commit(
    connection: Connection,
    session_id: SessionId,
    image_id: ImageId,
    content: NewContent,
    pack_nos: Collection[int],
    *,
    unique_name: bool,
) -> None:
    """K1 to K4: everything that makes an image active, in the caller's one transaction.

    Raises: SessionFencedError, NameTakenError, PackGoneError, CatalogDamagedError; all mean roll back.
    """
    if not close_session(connection, session_id):
        raise SessionFencedError(session_id)
    now = now_us(connection)
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.status == "saving", images.c.session_id == session_id)
        .values(status="active", content_id=content.content_id, staged_content_id=None, updated_at=now)
    )
    if done.rowcount != 1:
        raise ImageNotFoundError(image_id)
    done = connection.execute(
        update(contents)
        .where(
            contents.c.content_id == content.content_id,
            contents.c.state == "pending",
            contents.c.session_id == session_id,
        )
        .values(state="complete", size=content.size, hole_size=content.hole_size)
    )
    if done.rowcount != 1:
        raise CatalogDamagedError(f"content {content.content_id}", "it is not pending for this session")
    if unique_name:
        check_name_free(connection, image_id)
    hold_packs(connection, pack_nos)
    for batch in batches(sorted(set(pack_nos))):
        connection.execute(
            insert(content_packs), [{"content_id": content.content_id, "pack_no": pack_no} for pack_no in batch]
        )
    for tree in content.trees:
        connection.execute(
            insert(content_trees).values(content_id=content.content_id, role=tree.role, root=tree.root, size=tree.size)
        )
    for algo, value in content.hashes.items():
        connection.execute(insert(content_hashes).values(content_id=content.content_id, algo=algo, value=value))


def check_name_free(connection: Connection, image_id: ImageId) -> None:
    """Raise NameTakenError when another active image has the name; the `repo` row makes committers take turns."""
    lock_repo(connection)
    name = connection.execute(select(images.c.name).where(images.c.id == image_id)).scalar_one()
    others = named(connection, name, except_id=image_id)
    if others:
        raise NameTakenError(name, others)


def named(connection: Connection, name: str, except_id: ImageId | None = None) -> list[ImageId]:
    """Return ids of active images with this exact name, oldest first."""
    rows = connection.execute(
        select(images.c.id, images.c.name)
        .where(images.c.name == name, images.c.status == "active", images.c.id != (except_id or ""))
        .order_by(images.c.created_at, images.c.id)
    )
    # MariaDB takes "web" and "web " for equal; names here are exact.
    return [ImageId(row.id) for row in rows if row.name == name]


def snapshot_row(
    connection: Connection, session_id: SessionId, parent_id: ImageId, new: NewImage, *, unique_name: bool
) -> None:
    """Add an image to the parent's content, under the locks of both. Raises: as commit."""
    if not close_session(connection, session_id):
        raise SessionFencedError(session_id)
    done = connection.execute(
        update(images)
        .where(images.c.id == parent_id, images.c.status == "active")
        .values(updated_at=images.c.updated_at)
    )
    if done.rowcount != 1:
        raise ImageNotFoundError(parent_id)
    content_id = connection.execute(select(images.c.content_id).where(images.c.id == parent_id)).scalar_one()
    done = connection.execute(
        update(contents)
        .where(contents.c.content_id == content_id, contents.c.state == "complete")
        .values(state="complete")
    )
    if done.rowcount != 1:
        raise CatalogDamagedError(f"content {content_id}", f"active image {parent_id} has no complete content")
    _insert_image(connection, session_id, new, now_us(connection), status="active", content_id=content_id)
    if unique_name:
        check_name_free(connection, new.id)


def delete_image(connection: Connection, image_id: ImageId) -> None:
    """Rule 11: one status update, and word that its records must go.

    Raises: ImageNotFoundError, ProtectedImageError.
    """
    now = now_us(connection)
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.status != "deleted", images.c.protected.is_(False))
        .values(status="deleted", deleted_at=now, updated_at=now)
    )
    if done.rowcount != 1:
        row = connection.execute(select(images.c.status).where(images.c.id == image_id)).first()
        if row is None or row.status == "deleted":
            raise ImageNotFoundError(image_id)
        raise ProtectedImageError(image_id)
    note_change(connection, image_id)


def _images() -> Select[Any]:
    return select(images, contents.c.size, contents.c.hole_size).outerjoin(
        contents, contents.c.content_id == images.c.content_id
    )


def list_images(connection: Connection, name: str | None, include_deleted: bool) -> list[ImageRow]:
    """Return images, oldest first; those still being saved are not shown."""
    query = _images().order_by(images.c.created_at, images.c.id)
    query = query.where(images.c.status.in_(["active", "deleted"] if include_deleted else ["active"]))
    if name is not None:
        query = query.where(images.c.name == name)
    # MariaDB takes "web" and "web " for equal.
    rows = [row for row in connection.execute(query) if name is None or row.name == name]
    properties = _properties(connection, [row.id for row in rows])
    return [_image_row(row, properties.get(row.id, {})) for row in rows]


def find_image(connection: Connection, ref: str) -> ImageRow:
    """Return the active image with this id, else this name, else this unique beginning of an id.

    Raises: ImageNotFoundError, AmbiguousNameError.
    """
    active = images.c.status == "active"
    rows = connection.execute(_images().where(images.c.id == ref.lower(), active)).all()
    if not rows:
        rows = [row for row in connection.execute(_images().where(images.c.name == ref, active)) if row.name == ref]
    prefix = ref.lower()
    if not rows and len(prefix) >= _PREFIX_SIZE_MIN and set(prefix) <= set("0123456789abcdef-"):
        rows = connection.execute(_images().where(images.c.id.like(f"{prefix}%"), active)).all()
    if not rows:
        raise ImageNotFoundError(ref)
    if len(rows) > 1:
        rows = sorted(rows, key=lambda row: (row.created_at, row.id))
        raise AmbiguousNameError(ref, [row.id for row in rows])
    return _image_row(rows[0], _properties(connection, [rows[0].id]).get(rows[0].id, {}))


def image_by_id(connection: Connection, image_id: ImageId) -> ImageRow:
    """Return an image in any status. Raises: ImageNotFoundError."""
    row = connection.execute(_images().where(images.c.id == image_id)).first()
    if row is None:
        raise ImageNotFoundError(image_id)
    return _image_row(row, _properties(connection, [image_id]).get(image_id, {}))


def children(connection: Connection, image_id: ImageId) -> list[ImageRow]:
    """Return the active images whose parent is this one, oldest first."""
    query = _images().where(images.c.parent_id == image_id, images.c.status == "active")
    rows = connection.execute(query.order_by(images.c.created_at, images.c.id)).all()
    properties = _properties(connection, [row.id for row in rows])
    return [_image_row(row, properties.get(row.id, {})) for row in rows]


def images_of_packs(connection: Connection, pack_nos: Collection[int]) -> list[ImageRow]:
    """Return the active images whose content names one of these packs."""
    found: dict[str, ImageRow] = {}
    for batch in batches(sorted(pack_nos)):
        users = select(content_packs.c.content_id).where(content_packs.c.pack_no.in_(batch))
        rows = connection.execute(_images().where(images.c.status == "active", images.c.content_id.in_(users)))
        found.update((row.id, _image_row(row, {})) for row in rows)
    return list(found.values())


def _insert_image(
    connection: Connection,
    session_id: SessionId,
    new: NewImage,
    now: int,
    *,
    status: str,
    content_id: ContentId | None = None,
    staged_content_id: ContentId | None = None,
) -> None:
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
            min_disk=0,
            min_ram=0,
            created_at=now if new.created_at is None else micros_of(new.created_at),
            updated_at=now,
        )
    )
    if new.properties:
        connection.execute(
            insert(image_properties),
            [{"image_id": new.id, "name": name, "value": value} for name, value in new.properties.items()],
        )


def _properties(connection: Connection, image_ids: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for batch in batches(image_ids):
        rows = connection.execute(select(image_properties).where(image_properties.c.image_id.in_(batch)))
        for row in rows:
            found.setdefault(row.image_id, {})[row.name] = row.value
    return found


def _image_row(row: Row[Any], properties: dict[str, str]) -> ImageRow:
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
        size=row.size,
        hole_size=row.hole_size or 0,
        properties=properties,
        revision=row.revision,
    )
