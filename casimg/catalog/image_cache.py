"""What servers have in their caches of whole images, in SQL. Functions take a connection.

Rows tell; what may be sent is decided by the file itself and by the image. A row is entered only while its image is
there, under the image's lock (docs/protocol.md, rules Y1 and Y2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from casimg.catalog.cache_schema import cached_images
from casimg.catalog.engine import now_us
from casimg.catalog.schema import STORED_STATUSES, images
from casimg.catalog.sessions import time_of
from casimg.errors import ImageNotFoundError
from casimg.ids import ImageId

State = Literal["queued", "cached"]
NODE_COUNT_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class CachedImage:
    """An image in the cache of a node, or in its queue; sizes in bytes."""

    image_id: ImageId
    state: State
    size: int
    stored_size: int
    """What the file takes, without holes."""
    hits: int
    created_at: datetime
    accessed_at: datetime


def enqueue(connection: Connection, node: str, image_id: ImageId) -> bool:
    """Y1: ask a node to fetch an active image; False when it has it, or was asked. Raises: ImageNotFoundError."""
    _hold(connection, image_id, ("active",))
    if _state(connection, node, image_id) is not None:
        return False
    _insert(connection, node, image_id, "queued", 0, 0)
    return True


def keep(
    connection: Connection, node: str, image_id: ImageId, size: int, stored_size: int, *, only_queued: bool
) -> bool:
    """Y2: tell that a node has an image whole.

    Args:
        only_queued: whether nobody wants it any more once it was taken from the queue; then False.
    Raises: ImageNotFoundError when it was deleted: the file goes.
    """
    _hold(connection, image_id, STORED_STATUSES)
    state = _state(connection, node, image_id)
    if only_queued and state is None:
        return False
    if state is None:
        _insert(connection, node, image_id, "cached", size, stored_size)
        return True
    now = now_us(connection)
    values: dict[str, Any] = {"state": "cached", "size": size, "stored_size": stored_size, "accessed_at": now}
    if state == "queued":
        values["created_at"] = now
    connection.execute(update(cached_images).where(*_key(node, image_id)).values(values))
    return True


def count_hits(connection: Connection, node: str, hits: Mapping[ImageId, int]) -> None:
    """Add downloads to what a node has; images that it has no more are left out."""
    now = now_us(connection)
    for image_id, count in sorted(hits.items()):
        connection.execute(
            update(cached_images)
            .where(*_key(node, image_id), cached_images.c.state == "cached")
            .values(hits=cached_images.c.hits + count, accessed_at=now)
        )


def drop(connection: Connection, node: str, image_id: ImageId, state: State | None = None) -> bool:
    """Take an image from a node's cache, or only from its queue; whether it was there."""
    wanted = _key(node, image_id)
    if state is not None:
        wanted = (*wanted, cached_images.c.state == state)
    return connection.execute(delete(cached_images).where(*wanted)).rowcount > 0


def rows(connection: Connection, node: str, state: State | None = None) -> list[CachedImage]:
    """Return what a node has and shall have, oldest first; images that are deleted too, until it has looked."""
    query = select(cached_images).where(cached_images.c.node == node)
    if state is not None:
        query = query.where(cached_images.c.state == state)
    query = query.order_by(cached_images.c.created_at, cached_images.c.image_id)
    return [_cached_image(row) for row in connection.execute(query)]


def gone(connection: Connection, node: str) -> list[ImageId]:
    """Return the images of a node that are stored no more."""
    query = (
        select(cached_images.c.image_id)
        .outerjoin(images, images.c.id == cached_images.c.image_id)
        .where(cached_images.c.node == node, func.coalesce(images.c.status, "").not_in(STORED_STATUSES))
    )
    return [ImageId(image_id) for image_id in connection.execute(query).scalars()]


def nodes(connection: Connection, image_id: ImageId) -> list[str]:
    """Return the nodes that have an image whole, by name."""
    query = select(cached_images.c.node).where(cached_images.c.image_id == image_id, cached_images.c.state == "cached")
    return list(connection.execute(query.order_by(cached_images.c.node)).scalars())


def _hold(connection: Connection, image_id: ImageId, statuses: tuple[str, ...]) -> None:
    """Lock an image that is in one of these statuses, so that nobody else enters its rows or deletes it meanwhile."""
    done = connection.execute(
        update(images).where(images.c.id == image_id, images.c.status.in_(statuses)).values(status=images.c.status)
    )
    if done.rowcount != 1:
        raise ImageNotFoundError(image_id)


def _state(connection: Connection, node: str, image_id: ImageId) -> str | None:
    return connection.execute(select(cached_images.c.state).where(*_key(node, image_id))).scalar()


def _key(node: str, image_id: ImageId) -> tuple[Any, ...]:
    return cached_images.c.node == node, cached_images.c.image_id == image_id


def _insert(connection: Connection, node: str, image_id: ImageId, state: State, size: int, stored_size: int) -> None:
    now = now_us(connection)
    connection.execute(
        insert(cached_images).values(
            node=node,
            image_id=image_id,
            state=state,
            size=size,
            stored_size=stored_size,
            hits=0,
            created_at=now,
            accessed_at=now,
        )
    )


def _cached_image(row: Row[Any]) -> CachedImage:
    return CachedImage(
        image_id=ImageId(row.image_id),
        state=row.state,
        size=row.size,
        stored_size=row.stored_size,
        hits=row.hits,
        created_at=time_of(row.created_at),
        accessed_at=time_of(row.accessed_at),
    )
