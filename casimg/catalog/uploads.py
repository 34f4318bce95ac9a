"""Data for an image that is there already: claimed before, given back when the save fails. Functions take a connection.

A claim is one counted update, so of two uploads one wins. It counts as a change: of the records that saves of one image
may leave, each has a revision of its own, and the last one's is the greatest.
"""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from casimg.catalog.engine import now_us
from casimg.catalog.schema import contents, images, sessions
from casimg.catalog.sessions import beat, close_session
from casimg.errors import ImageDeletedError, ImageNotFoundError, NotQueuedError
from casimg.ids import ContentId, ImageId, SessionId

_DELETED = "image {} was deleted while its data came"


def claim_queued(
    connection: Connection, session_id: SessionId, image_id: ImageId, content_id: ContentId, parent_id: ImageId | None
) -> None:
    """Q1: a queued image is now being saved by the session, with a pending content.

    Args:
        parent_id: what it was made from; None leaves what it says.
    Raises: SessionFencedError, ImageNotFoundError, NotQueuedError.
    """
    beat(connection, session_id)
    now = now_us(connection)
    connection.execute(
        insert(contents).values(
            content_id=content_id, state="pending", session_id=session_id, size=None, hole_size=0, created_at=now
        )
    )
    values: dict[str, Any] = {} if parent_id is None else {"parent_id": parent_id}
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.status == "queued")
        .values(
            status="saving",
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
    """Raise ImageDeletedError when an image is no longer being saved by the session; the commit decides for good."""
    claimed = select(images.c.id).where(
        images.c.id == image_id, images.c.status == "saving", images.c.session_id == session_id
    )
    if connection.execute(claimed).first() is None:
        raise ImageDeletedError(image_id, _DELETED)


def release(connection: Connection, session_id: SessionId, image_id: ImageId) -> bool:
    """Q2: end a failed save and make its image queued again; its content is left for a collection.

    Returns: False when the image is not this session's any more: deleted, or given back by a collection.
    """
    close_session(connection, session_id)
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.status == "saving", images.c.session_id == session_id)
        .values(status="queued", session_id=None, staged_content_id=None, updated_at=now_us(connection))
    )
    return bool(done.rowcount == 1)


def end_dead_saves(connection: Connection) -> int:
    """Q3: end what sessions no longer open were saving: registered images are queued again, others deleted."""
    now = now_us(connection)
    over = select(sessions.c.session_id).where(sessions.c.state != "open")
    dead = (images.c.status == "saving", images.c.session_id.in_(over))
    queued = connection.execute(
        update(images)
        .where(*dead, images.c.registered)
        .values(status="queued", session_id=None, staged_content_id=None, updated_at=now)
    )
    # Decided anew: none of those that were registered is being saved now.
    deleted = connection.execute(
        update(images)
        .where(*dead, images.c.registered.is_(False))
        .values(status="deleted", deleted_at=now, updated_at=now)
    )
    return int(queued.rowcount) + int(deleted.rowcount)


__all__ = ["beat_upload", "check_claimed", "check_queued", "claim_queued", "end_dead_saves", "release"]
