"""Images: rules 4 (snapshot of a stored image), 6 (commit) and 11 (delete). Functions take a connection."""

from collections.abc import Collection

from sqlalchemy import Connection, or_, select, update

from casimg.catalog.contents import complete_content, insert_pending, name_packs
from casimg.catalog.engine import now_us
from casimg.catalog.image_rows import image_query, image_row, insert_image, is_stored, read_images
from casimg.catalog.outbox import note_change
from casimg.catalog.packs import hold_packs, lock_repo
from casimg.catalog.rows import ImageRow, NewContent, NewImage
from casimg.catalog.schema import (
    CLAIMED_STATUSES,
    content_packs,
    contents,
    image_copies,
    images,
)
from casimg.catalog.sessions import beat, close_session
from casimg.catalog.transaction import batches
from casimg.errors import (
    AmbiguousNameError,
    CatalogBusyError,
    CatalogDamagedError,
    ImageNotFoundError,
    NameTakenError,
    ProtectedImageError,
    SessionFencedError,
)
from casimg.ids import ContentId, ImageId, SessionId

_PREFIX_SIZE_MIN = 4


def begin_image(
    connection: Connection, session_id: SessionId, new: NewImage, content_id: ContentId, *, backend_id: int
) -> None:
    """Insert the image, claimed by the session, and its pending content. Raises: SessionFencedError."""
    beat(connection, session_id)
    now = now_us(connection)
    insert_pending(connection, session_id, content_id, backend_id, now)
    insert_image(connection, new, now, status="saving", session_id=session_id, staged_content_id=content_id)


def commit(
    connection: Connection,
    session_id: SessionId,
    image_id: ImageId,
    content: NewContent,
    pack_nos: Collection[int],
    *,
    unique_name: bool,
    virtual_size: int | None = None,
    recorded_revision: int | None = None,
    is_staged: bool = False,
) -> None:
    """K1 to K4: everything that makes an image active, in the caller's one transaction.

    Args:
        recorded_revision: what the record that was put says, for an image that may be edited while it is saved; when
            it is behind by now, the outbox says so.
        is_staged: the image keeps the content aside and is `uploading` without a session, for an import to finish.
    Raises: SessionFencedError, NameTakenError, PackGoneError, CatalogDamagedError; all mean roll back.
    """
    if not close_session(connection, session_id):
        raise SessionFencedError(session_id)
    now = now_us(connection)
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.status.in_(CLAIMED_STATUSES), images.c.session_id == session_id)
        .values(
            status="uploading" if is_staged else "active",
            content_id=None if is_staged else content.content_id,
            staged_content_id=content.content_id if is_staged else None,
            session_id=None if is_staged else session_id,
            updated_at=now,
        )
    )
    if done.rowcount != 1:
        raise ImageNotFoundError(image_id)
    if virtual_size is not None:
        connection.execute(update(images).where(images.c.id == image_id).values(virtual_size=virtual_size))
    if recorded_revision is not None:
        note_changes_since(connection, image_id, recorded_revision)
    complete_content(connection, session_id, content)
    if unique_name:
        check_name_free(connection, image_id)
    hold_packs(connection, pack_nos)
    name_packs(connection, content, pack_nos, content.hashes)


def note_changes_since(connection: Connection, image_id: ImageId, recorded_revision: int) -> None:
    """Q4: under the lock of a row that has just become active, say which changes its record does not have."""
    # An edit comes before the lock and is seen, or after it and finds the image active.
    revision = connection.execute(select(images.c.revision).where(images.c.id == image_id)).scalar_one()
    for _ in range(revision - recorded_revision):
        note_change(connection, image_id)


def check_name_free(connection: Connection, image_id: ImageId) -> None:
    """Raise NameTakenError when another active image has the name; the `repo` row makes committers take turns."""
    lock_repo(connection)
    name = connection.execute(select(images.c.name).where(images.c.id == image_id)).scalar_one()
    others = [] if name is None else named(connection, name, except_id=image_id)
    if others:
        raise NameTakenError(name, others)


def named(connection: Connection, name: str, except_id: ImageId | None = None) -> list[ImageId]:
    """Return ids of stored images with this exact name, oldest first."""
    rows = connection.execute(
        select(images.c.id, images.c.name)
        .where(images.c.name == name, is_stored(), images.c.id != (except_id or ""))
        .order_by(images.c.created_at, images.c.id)
    )
    # MariaDB takes "web" and "web " for equal; names here are exact.
    return [ImageId(row.id) for row in rows if row.name == name]


def snapshot_row(
    connection: Connection,
    session_id: SessionId,
    parent_id: ImageId,
    new: NewImage,
    *,
    unique_name: bool,
    recorded: ContentId | None = None,
) -> None:
    """Add an image to the parent's content, under the locks of both.

    Args:
        recorded: the content that the new image's record names.
    Raises: as commit; CatalogBusyError when the parent's content is another one by now.
    """
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
    if recorded not in (None, content_id):
        raise CatalogBusyError(f"image {parent_id} has just left a backend")
    done = connection.execute(
        update(contents)
        .where(contents.c.content_id == content_id, contents.c.state == "complete")
        .values(state="complete")
    )
    if done.rowcount != 1:
        raise CatalogDamagedError(f"content {content_id}", f"active image {parent_id} has no complete content")
    insert_image(connection, new, now_us(connection), status="active", session_id=session_id, content_id=content_id)
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


def list_images(connection: Connection, name: str | None, include_deleted: bool) -> list[ImageRow]:
    """Return images, oldest first; those without data yet are not shown."""
    query = image_query().order_by(images.c.created_at, images.c.id)
    query = query.where(or_(is_stored(), images.c.status == "deleted") if include_deleted else is_stored())
    if name is not None:
        query = query.where(images.c.name == name)
    # MariaDB takes "web" and "web " for equal.
    rows = [row for row in connection.execute(query) if name is None or row.name == name]
    return read_images(connection, rows)


def find_image(connection: Connection, ref: str) -> ImageRow:
    """Return the stored image with this id, else this name, else this unique beginning of an id.

    Raises: ImageNotFoundError, AmbiguousNameError.
    """
    stored = is_stored()
    rows = connection.execute(image_query().where(images.c.id == ref.lower(), stored)).all()
    if not rows:
        named_so = connection.execute(image_query().where(images.c.name == ref, stored))
        rows = [row for row in named_so if row.name == ref]
    prefix = ref.lower()
    if not rows and len(prefix) >= _PREFIX_SIZE_MIN and set(prefix) <= set("0123456789abcdef-"):
        rows = connection.execute(image_query().where(images.c.id.like(f"{prefix}%"), stored)).all()
    if not rows:
        raise ImageNotFoundError(ref)
    if len(rows) > 1:
        rows = sorted(rows, key=lambda row: (row.created_at, row.id))
        raise AmbiguousNameError(ref, [row.id for row in rows])
    return read_images(connection, rows)[0]


def image_by_id(connection: Connection, image_id: ImageId) -> ImageRow:
    """Return an image in any status. Raises: ImageNotFoundError."""
    row = connection.execute(image_query().where(images.c.id == image_id)).first()
    if row is None:
        raise ImageNotFoundError(image_id)
    return read_images(connection, [row])[0]


def children(connection: Connection, image_id: ImageId) -> list[ImageRow]:
    """Return the stored images whose parent is this one, oldest first."""
    query = image_query().where(images.c.parent_id == image_id, is_stored())
    return read_images(connection, connection.execute(query.order_by(images.c.created_at, images.c.id)).all())


def images_of_packs(connection: Connection, pack_nos: Collection[int]) -> list[ImageRow]:
    """Return the stored images whose content names one of these packs, without properties and tags."""
    found: dict[str, ImageRow] = {}
    for batch in batches(sorted(pack_nos)):
        users = select(content_packs.c.content_id).where(content_packs.c.pack_no.in_(batch))
        copied = select(image_copies.c.image_id).where(image_copies.c.content_id.in_(users))
        named = or_(images.c.content_id.in_(users), images.c.id.in_(copied))
        rows = connection.execute(image_query().where(is_stored(), named))
        found.update((row.id, image_row(row, {})) for row in rows)
    return list(found.values())
