"""Rule 14: contents of an image on further backends. Functions take the connection of a transaction.

`images.content_id` is the first content, rows of `image_copies` are the others: the same bytes, each with a record of
its own beside its packs. They are alive as the first one is, and any of them may take its place.
"""

from collections.abc import Collection

from sqlalchemy import Connection, delete, insert, select, update

from casimg.catalog.contents import complete_content, content_row, insert_pending, name_packs
from casimg.catalog.engine import now_us
from casimg.catalog.image_rows import copies_of, is_stored
from casimg.catalog.images import note_changes_since
from casimg.catalog.packs import hold_packs
from casimg.catalog.rows import CopyRow, ImageRow, NewContent
from casimg.catalog.schema import backends, contents, image_copies, images, sessions
from casimg.catalog.sessions import beat, close_session
from casimg.errors import (
    CatalogDamagedError,
    CopyExistsError,
    CopyNotFoundError,
    ImageDeletedError,
    ImageNotFoundError,
    LastCopyError,
    SessionFencedError,
)
from casimg.ids import ContentId, ImageId, SessionId


def begin_copy(
    connection: Connection, session_id: SessionId, image_id: ImageId, content_id: ContentId, backend_id: int
) -> None:
    """X1: insert the content that the session will complete.

    Raises: SessionFencedError, ImageNotFoundError, CopyExistsError; the commit decides for good.
    """
    beat(connection, session_id)
    first = _first(connection, image_id)
    if backend_id in _places(connection, image_id, first):
        raise CopyExistsError(image_id, _store(connection, backend_id))
    insert_pending(connection, session_id, content_id, backend_id, now_us(connection))


def beat_copy(connection: Connection, session_id: SessionId, image_id: ImageId) -> None:
    """H, for a copy whose image may be deleted meanwhile. Raises: SessionFencedError, ImageDeletedError."""
    beat(connection, session_id)
    if connection.execute(select(images.c.id).where(images.c.id == image_id, is_stored())).first() is None:
        raise ImageDeletedError(image_id, "image {} was deleted while it was copied")


def commit_copy(
    connection: Connection,
    session_id: SessionId,
    image_id: ImageId,
    content: NewContent,
    backend_id: int,
    pack_nos: Collection[int],
    recorded_revision: int,
) -> None:
    """X2: the content is complete and the image's on this backend, with the hashes of the first one.

    Args:
        recorded_revision: of the image, as the record says that was put.
    Raises: SessionFencedError, ImageNotFoundError, CopyExistsError, PackGoneError, CatalogDamagedError when the bytes
        are not those of the image; all mean roll back.
    """
    if not close_session(connection, session_id):
        raise SessionFencedError(session_id)
    first = _hold(connection, image_id)
    # Its lock too: hashes that are computed meanwhile come before this, or find the copy.
    held = connection.execute(
        update(contents).where(contents.c.content_id == first, contents.c.state == "complete").values(state="complete")
    )
    if held.rowcount != 1:
        raise CatalogDamagedError(f"content {first}", f"image {image_id} has no complete content")
    if backend_id in _places(connection, image_id, first):
        raise CopyExistsError(image_id, _store(connection, backend_id))
    original = content_row(connection, first)
    if set(original.trees) != set(content.trees):
        raise CatalogDamagedError(f"content {content.content_id}", f"it is no copy of content {first}")
    complete_content(connection, session_id, content)
    hold_packs(connection, pack_nos)
    name_packs(connection, content, pack_nos, original.hashes)
    add_copy(connection, session_id, image_id, content.content_id, backend_id)
    note_changes_since(connection, image_id, recorded_revision)


def add_copy(
    connection: Connection, session_id: SessionId, image_id: ImageId, content_id: ContentId, backend_id: int
) -> None:
    """Insert a copy, in the transaction that completes its content and holds its image."""
    connection.execute(
        insert(image_copies).values(
            image_id=image_id,
            backend_id=backend_id,
            content_id=content_id,
            session_id=session_id,
            created_at=now_us(connection),
        )
    )


def is_copied(connection: Connection, session_id: SessionId, content_id: ContentId) -> bool:
    """K5: tell whether the session of a copy did commit; only its commit makes the content complete."""
    # Its lock waits for a commit whose answer was lost.
    connection.execute(select(sessions.c.state).where(sessions.c.session_id == session_id).with_for_update()).first()
    query = select(contents.c.content_id).where(
        contents.c.content_id == content_id, contents.c.session_id == session_id, contents.c.state == "complete"
    )
    return connection.execute(query).first() is not None


def remove_copy(connection: Connection, image_id: ImageId, backend_id: int) -> SessionId | None:
    """X3: the image lies on this backend no more; when its first content did, the oldest copy takes its place.

    Returns: the session of the record there, which is to go.
    Raises: ImageNotFoundError, CopyNotFoundError, LastCopyError.
    """
    first = _hold(connection, image_id)
    row = connection.execute(
        select(contents.c.backend_id, images.c.session_id)
        .join(images, images.c.content_id == contents.c.content_id)
        .where(images.c.id == image_id, contents.c.content_id == first)
    ).one()
    copies = copies_of(connection, [image_id]).get(image_id, [])
    going: CopyRow | None = next((copy for copy in copies if copy.backend_id == backend_id), None)
    if going is not None:
        _forget(connection, image_id, going)
        return going.session_id
    if row.backend_id != backend_id:
        raise CopyNotFoundError(image_id, _store(connection, backend_id))
    if not copies:
        raise LastCopyError(image_id, _store(connection, backend_id))
    heir = copies[0]
    connection.execute(
        update(images).where(images.c.id == image_id).values(content_id=heir.content_id, session_id=heir.session_id)
    )
    _forget(connection, image_id, heir)
    return None if row.session_id is None else SessionId(row.session_id)


def written_copies(
    connection: Connection, image: ImageRow, session_id: SessionId, backend_ids: Collection[int | None]
) -> bool:
    """U3, for the records on further backends: the session's are theirs now; False when copies are not as read."""
    for copy in image.copies:
        done = connection.execute(
            update(image_copies)
            .where(
                image_copies.c.image_id == image.id,
                image_copies.c.backend_id == copy.backend_id,
                image_copies.c.content_id == copy.content_id,
                image_copies.c.session_id == copy.session_id,
            )
            .values(session_id=session_id if copy.backend_id in backend_ids else copy.session_id)
        )
        if done.rowcount != 1:
            return False
    return True


def record_places(connection: Connection, image_id: ImageId) -> set[int | None]:
    """Return the backends where records of an image in any status may be; None is the default one."""
    named = select(contents.c.backend_id).join(
        images, (images.c.content_id == contents.c.content_id) | (images.c.staged_content_id == contents.c.content_id)
    )
    found = set(connection.execute(named.where(images.c.id == image_id)).scalars())
    copied = select(image_copies.c.backend_id).where(image_copies.c.image_id == image_id)
    found.update(connection.execute(copied).scalars())
    elsewhere = select(images.c.id).where(images.c.id == image_id, images.c.location_count > 0)
    if not found or connection.execute(elsewhere).first() is not None:
        found.add(None)  # what is said of data that lie elsewhere alone is there
    return found


def _hold(connection: Connection, image_id: ImageId) -> ContentId:
    """Lock a stored image and return its first content. Raises: ImageNotFoundError."""
    done = connection.execute(
        update(images).where(images.c.id == image_id, is_stored()).values(updated_at=images.c.updated_at)
    )
    if done.rowcount != 1:
        raise ImageNotFoundError(image_id)
    return _first(connection, image_id)


def _first(connection: Connection, image_id: ImageId) -> ContentId:
    query = select(images.c.content_id).where(images.c.id == image_id, is_stored())
    found = connection.execute(query).scalar()
    if found is None:
        raise ImageNotFoundError(image_id)
    return ContentId(found)


def _places(connection: Connection, image_id: ImageId, first: ContentId) -> set[int]:
    query = select(contents.c.backend_id).where(contents.c.content_id == first)
    copied = select(image_copies.c.backend_id).where(image_copies.c.image_id == image_id)
    return {*connection.execute(query).scalars(), *connection.execute(copied).scalars()}


def _forget(connection: Connection, image_id: ImageId, copy: CopyRow) -> None:
    connection.execute(
        delete(image_copies).where(image_copies.c.image_id == image_id, image_copies.c.backend_id == copy.backend_id)
    )


def _store(connection: Connection, backend_id: int) -> str:
    return str(connection.execute(select(backends.c.name).where(backends.c.backend_id == backend_id)).scalar_one())


__all__ = [
    "add_copy",
    "beat_copy",
    "begin_copy",
    "commit_copy",
    "is_copied",
    "record_places",
    "remove_copy",
    "written_copies",
]
