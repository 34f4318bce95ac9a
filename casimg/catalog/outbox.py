"""The outbox: images whose record on the backend does not say what the catalog says. Functions take a connection.

A row is inserted in the transaction that changes an image, and deleted when a record of at least that change is on the
backend, or, for a deleted image, when its records are gone. Rows are followed by their number, never counted.
"""

from sqlalchemy import Connection, delete, func, insert, select

from casimg.catalog.engine import now_us
from casimg.catalog.schema import outbox
from casimg.ids import ImageId


def note_change(connection: Connection, image_id: ImageId) -> None:
    """Say, in the transaction that changes an image, that its record is behind."""
    connection.execute(insert(outbox).values(image_id=image_id, created_at=now_us(connection)))


def behind(connection: Connection) -> list[ImageId]:
    """Return the images whose records are behind, the longest waiting first."""
    rows = connection.execute(select(outbox.c.image_id).group_by(outbox.c.image_id).order_by(func.min(outbox.c.seq)))
    return [ImageId(row.image_id) for row in rows]


def last_change(connection: Connection, image_id: ImageId) -> int | None:
    """Return the number of the newest row of an image, None when its record is not behind."""
    found: int | None = connection.execute(
        select(func.max(outbox.c.seq)).where(outbox.c.image_id == image_id)
    ).scalar_one()
    return found


def forget_changes(connection: Connection, image_id: ImageId, seq: int) -> None:
    """Say that the backend is as far as row `seq`; younger rows stay."""
    connection.execute(delete(outbox).where(outbox.c.image_id == image_id, outbox.c.seq <= seq))
