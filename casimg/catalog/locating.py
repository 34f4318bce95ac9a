"""Images on their way to data that lie elsewhere: looked at in the background, hashed, or given up.

Functions take a connection; each locks the image first.
"""

from sqlalchemy import Connection, select, update

from casimg.catalog import locations
from casimg.catalog.edits import hold
from casimg.catalog.locations import Located
from casimg.catalog.outbox import note_change
from casimg.catalog.schema import STORED_STATUSES, images
from casimg.errors import BadStatusError
from casimg.ids import ImageId


def begin(connection: Connection, image_id: ImageId, located: Located, *, is_checked: bool) -> None:
    """A2: a queued image has its data elsewhere now: active, or `importing` until they have been checked.

    Raises: ImageNotFoundError, BadStatusError, InputError; all mean roll back.
    """
    hold(connection, image_id)
    locations.enter(connection, image_id, located, "importing" if is_checked else "active")


def finish(connection: Connection, image_id: ImageId, algo: str, value: str, checksum: str) -> None:
    """A3: keep the hashes that were computed of data elsewhere; an image that waited for them is active.

    Raises: ImageNotFoundError, BadStatusError when nobody waits for them; both mean roll back.
    """
    status = hold(connection, image_id).status
    if status not in (*STORED_STATUSES, "importing"):
        raise BadStatusError(image_id, status, "its data are not elsewhere")
    done = connection.execute(
        update(images)
        .where(
            images.c.id == image_id,
            images.c.content_id.is_(None),
            images.c.located_size.is_not(None),
            images.c.located_hash_algo == algo,
            images.c.located_hash_value.is_(None),
        )
        .values(located_hash_value=value, located_checksum=checksum)
    )
    if done.rowcount != 1:
        raise BadStatusError(image_id, status, f"nobody waits for a {algo} of it")
    if status == "importing":
        connection.execute(update(images).where(images.c.id == image_id).values(status="active"))
        note_change(connection, image_id)


def give_up(connection: Connection, image_id: ImageId, *, only_waiting: bool) -> bool:
    """A4: no hash will be computed: an image that waited for it is queued again, others go on without one.

    Args:
        only_waiting: others are left as they are; somebody will compute it later.
    Returns: False when nothing changed. Raises: ImageNotFoundError.
    """
    status = hold(connection, image_id).status
    row = connection.execute(
        select(
            images.c.located_hash_algo, images.c.located_hash_value, images.c.session_id, images.c.located_size
        ).where(images.c.id == image_id)
    ).one()
    if row.located_size is None or row.located_hash_algo is None or row.located_hash_value is not None:
        return False
    if status == "importing":
        locations.unsaid(connection, image_id, "queued")
        return True
    if not only_waiting:
        connection.execute(update(images).where(images.c.id == image_id).values(located_hash_algo=None))
    return not only_waiting


def unhashed(connection: Connection) -> list[ImageId]:
    """Return the images in use whose hash is still to be computed, oldest first."""
    query = select(images.c.id).where(
        images.c.status.in_(STORED_STATUSES),
        images.c.location_count > 0,
        images.c.located_hash_algo.is_not(None),
        images.c.located_hash_value.is_(None),
    )
    return [ImageId(found) for found in connection.execute(query.order_by(images.c.created_at, images.c.id)).scalars()]


__all__ = ["begin", "finish", "give_up", "unhashed"]
