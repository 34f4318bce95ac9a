"""Data for an image that is there already: claimed before, given back when the save fails. Functions take a connection.

A claim is one counted update, so of two uploads one wins. It counts as a change: of the records that saves of one image
may leave, each has a revision of its own, and the last one's is the greatest. The image names the session that claimed
it and shows in its status for what: to save data, to keep them aside for an import, or to import them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, select, update

from casimg.catalog.contents import complete_content, insert_pending, name_packs
from casimg.catalog.copies import add_copy
from casimg.catalog.engine import now_us
from casimg.catalog.images import note_changes_since
from casimg.catalog.locations import forget
from casimg.catalog.packs import hold_packs
from casimg.catalog.rows import NewContent
from casimg.catalog.schema import CLAIMED_STATUSES, contents, images, sessions
from casimg.catalog.sessions import beat, close_session
from casimg.errors import (
    BadStatusError,
    ImageDeletedError,
    ImageNotFoundError,
    NotQueuedError,
    SessionFencedError,
)
from casimg.ids import ContentId, ImageId, SessionId

_DELETED = "image {} was deleted while its data came"

ClaimedStatus = Literal["saving", "uploading", "importing"]


@dataclass(frozen=True, slots=True)
class Place:
    """A content on a backend, and the packs it names; of one that was staged before these are known already."""

    backend_id: int
    content: NewContent
    pack_nos: frozenset[int] = frozenset()


def claim_queued(
    connection: Connection,
    session_id: SessionId,
    image_id: ImageId,
    content_id: ContentId,
    parent_id: ImageId | None,
    status: ClaimedStatus = "saving",
    *,
    backend_id: int,
) -> None:
    """Q1: a queued image is now the session's, with a pending content.

    Args:
        parent_id: what it was made from; None leaves what it says.
        status: what it shows meanwhile.
        backend_id: where its data will lie.
    Raises: SessionFencedError, ImageNotFoundError, NotQueuedError.
    """
    beat(connection, session_id)
    now = now_us(connection)
    insert_pending(connection, session_id, content_id, backend_id, now)
    values: dict[str, Any] = {} if parent_id in (None, image_id) else {"parent_id": parent_id}
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.status == "queued")
        .values(
            status=status,
            session_id=session_id,
            staged_content_id=content_id,
            revision=images.c.revision + 1,
            updated_at=now,
            **values,
        )
    )
    if done.rowcount != 1:
        check_queued(connection, image_id)
        raise NotQueuedError(image_id, "claimed by another upload")
    forget(connection, image_id)


def check_queued(connection: Connection, image_id: ImageId) -> None:
    """Raise NotQueuedError or ImageNotFoundError when an image takes no data now; the claim decides for good."""
    status = connection.execute(select(images.c.status).where(images.c.id == image_id)).scalar()
    if status is None or status == "deleted":
        raise ImageNotFoundError(image_id)
    if status != "queued":
        raise NotQueuedError(image_id, status)


def beat_upload(connection: Connection, session_id: SessionId, image_id: ImageId) -> None:
    """H, for a save whose image may be deleted meanwhile. Raises: SessionFencedError, ImageDeletedError."""
    beat(connection, session_id)
    check_claimed(connection, session_id, image_id)


def check_claimed(connection: Connection, session_id: SessionId, image_id: ImageId) -> None:
    """Raise ImageDeletedError when an image is not the session's any more; the commit decides for good."""
    claimed = select(images.c.id).where(_is_claimed(image_id, session_id))
    if connection.execute(claimed).first() is None:
        raise ImageDeletedError(image_id, _DELETED)


def release(connection: Connection, session_id: SessionId, image_id: ImageId) -> bool:
    """Q2: end a failed save and make its image queued again; its content is left for a collection.

    Returns: False when the image is not this session's any more: deleted, or given back by a collection.
    """
    close_session(connection, session_id)
    done = connection.execute(
        update(images)
        .where(_is_claimed(image_id, session_id))
        .values(status="queued", session_id=None, staged_content_id=None, updated_at=now_us(connection))
    )
    return bool(done.rowcount == 1)


def _is_claimed(image_id: ImageId, session_id: SessionId) -> ColumnElement[bool]:
    return (images.c.id == image_id) & images.c.status.in_(CLAIMED_STATUSES) & (images.c.session_id == session_id)


def staged_content(connection: Connection, image_id: ImageId) -> ContentId:
    """Return the content that an image keeps aside. Raises: ImageNotFoundError, BadStatusError when there is none."""
    columns = (images.c.status, images.c.session_id, images.c.staged_content_id)
    row = connection.execute(select(*columns).where(images.c.id == image_id)).first()
    if row is None or row.status == "deleted":
        raise ImageNotFoundError(image_id)
    if row.status != "uploading" or row.session_id is not None or row.staged_content_id is None:
        raise BadStatusError(image_id, row.status, "nothing is staged for it")
    return ContentId(row.staged_content_id)


def has_staged(connection: Connection, session_id: SessionId, image_id: ImageId) -> bool:
    """Tell whether what an image keeps aside was kept by the session, whoever imports it by now."""
    kept = (
        select(contents.c.content_id)
        .join(images, images.c.staged_content_id == contents.c.content_id)
        .where(images.c.id == image_id, contents.c.session_id == session_id, contents.c.state == "complete")
    )
    return connection.execute(kept).first() is not None


def claim_staged(connection: Connection, session_id: SessionId, image_id: ImageId) -> ContentId:
    """Q5: an image that keeps data aside is now being imported by the session; returns their content.

    Raises: SessionFencedError, ImageNotFoundError, BadStatusError.
    """
    beat(connection, session_id)
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, _is_staged())
        .values(
            status="importing",
            session_id=session_id,
            revision=images.c.revision + 1,
            updated_at=now_us(connection),
        )
    )
    if done.rowcount != 1:
        staged_content(connection, image_id)
        raise BadStatusError(image_id, "importing", "claimed by another import")
    found = connection.execute(select(images.c.staged_content_id).where(images.c.id == image_id)).scalar_one()
    return ContentId(found)


def begin_place(connection: Connection, session_id: SessionId, content_id: ContentId, backend_id: int) -> None:
    """Insert a content for what was staged on another backend, completed by Q7. Raises: SessionFencedError."""
    beat(connection, session_id)
    insert_pending(connection, session_id, content_id, backend_id, now_us(connection))


def put_back_staged(connection: Connection, session_id: SessionId, image_id: ImageId) -> bool:
    """Q6: end a failed import; what was staged stays so.

    Returns: False when the image is not this session's any more.
    """
    close_session(connection, session_id)
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.status == "importing", images.c.session_id == session_id)
        .values(status="uploading", session_id=None, updated_at=now_us(connection))
    )
    return bool(done.rowcount == 1)


def adopt_staged(
    connection: Connection,
    session_id: SessionId,
    image_id: ImageId,
    content_id: ContentId,
    virtual_size: int | None,
    recorded_revision: int,
    places: Sequence[Place] = (),
) -> None:
    """Q7: what was staged becomes the image's, which is active; closes the session that claimed it.

    Args:
        content_id: what was staged.
        places: where its bytes shall lie, first the one that is read first; the staged content need not be among
            them. None is the staged content alone.
    Raises: SessionFencedError, ImageNotFoundError when it was deleted meanwhile; both mean roll back.
    """
    if not close_session(connection, session_id):
        raise SessionFencedError(session_id)
    done = connection.execute(
        update(images)
        .where(
            images.c.id == image_id,
            images.c.status == "importing",
            images.c.session_id == session_id,
            images.c.staged_content_id == content_id,
        )
        .values(
            status="active",
            content_id=places[0].content.content_id if places else content_id,
            staged_content_id=None,
            virtual_size=virtual_size,
            updated_at=now_us(connection),
        )
    )
    if done.rowcount != 1:
        raise ImageNotFoundError(image_id)
    new = [place for place in places if place.content.content_id != content_id]
    for place in new:
        complete_content(connection, session_id, place.content)
    hold_packs(connection, {pack_no for place in new for pack_no in place.pack_nos})
    for place in new:
        name_packs(connection, place.content, place.pack_nos, place.content.hashes)
    for place in places[1:]:
        add_copy(connection, session_id, image_id, place.content.content_id, place.backend_id)
    note_changes_since(connection, image_id, recorded_revision)


def unstage(connection: Connection, image_id: ImageId) -> None:
    """Q8: give up what was staged; the image is queued again. Raises: ImageNotFoundError, BadStatusError."""
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, _is_staged())
        .values(status="queued", staged_content_id=None, updated_at=now_us(connection))
    )
    if done.rowcount != 1:
        staged_content(connection, image_id)


def _is_staged() -> ColumnElement[bool]:
    return (images.c.status == "uploading") & images.c.session_id.is_(None)


def end_dead_saves(connection: Connection) -> int:
    """Q3: end what sessions no longer open were saving: registered images are queued again, others deleted.

    What they were importing had come before, and is staged as it was.
    """
    now = now_us(connection)
    over = select(sessions.c.session_id).where(sessions.c.state != "open")
    dead = (images.c.status.in_(CLAIMED_STATUSES), images.c.session_id.in_(over))
    whole = select(contents.c.content_id).where(contents.c.state == "complete")
    staged = connection.execute(
        update(images)
        .where(*dead, images.c.staged_content_id.in_(whole))
        .values(status="uploading", session_id=None, updated_at=now)
    )
    queued = connection.execute(
        update(images)
        .where(*dead, images.c.registered)
        .values(status="queued", session_id=None, staged_content_id=None, updated_at=now)
    )
    # What the first statement has queued is not being saved any more.
    deleted = connection.execute(
        update(images)
        .where(*dead, images.c.registered.is_(False))
        .values(status="deleted", deleted_at=now, updated_at=now)
    )
    return int(staged.rowcount) + int(queued.rowcount) + int(deleted.rowcount)


__all__ = [
    "ClaimedStatus",
    "Place",
    "adopt_staged",
    "beat_upload",
    "begin_place",
    "check_claimed",
    "check_queued",
    "claim_queued",
    "claim_staged",
    "end_dead_saves",
    "has_staged",
    "put_back_staged",
    "release",
    "staged_content",
    "unstage",
]
