"""Rows of locations: where data of images lie that the repository does not keep. Functions take a connection.

An image has its data in a content, at locations, or both; its own content is always read first. What is said of data
that lie elsewhere alone (size, hashes) stands in the image's row. Everything here is called under the image's lock.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from casimg.catalog.outbox import note_change
from casimg.catalog.rows import Location
from casimg.catalog.schema import content_hashes, contents, image_copies, image_locations, images
from casimg.errors import BadStatusError, InputError
from casimg.ids import ImageId

_NOTHING_SAID: dict[str, Any] = {
    "located_size": None,
    "located_hash_algo": None,
    "located_hash_value": None,
    "located_checksum": None,
}


@dataclass(frozen=True, slots=True)
class Located:
    """Where an image's data shall lie beside its content.

    Attributes:
        locations: all of them, in the order in which they are read.
        keeps_content: False takes its own data away from an active image; the locations are all it has then.
        size, hash_algo, hash_value, checksum: of the data, for an image that has none yet; hashes when they are known.
    """

    locations: tuple[Location, ...]
    keeps_content: bool = True
    size: int | None = None
    hash_algo: str | None = None
    hash_value: str | None = None
    checksum: str | None = None


def set_located(connection: Connection, image_id: ImageId, status: str, located: Located) -> None:
    """A1: make the locations of a queued image, which is active then, or of an active one, these.

    Raises: BadStatusError, InputError when an image would be without data, or of unknown size; both mean roll back.
    """
    if status == "queued":
        enter(connection, image_id, located, "active")
        return
    if status != "active":
        raise BadStatusError(image_id, status, "its locations cannot be changed")
    content_id = connection.execute(select(images.c.content_id).where(images.c.id == image_id)).scalar()
    if content_id is not None and not located.keeps_content:
        _leave_content(connection, image_id, content_id)
        content_id = None
    if content_id is None and not located.locations:
        raise InputError(f"image {image_id} would be without data")
    put_rows(connection, image_id, located.locations)


def enter(connection: Connection, image_id: ImageId, located: Located, status: str) -> None:
    """Give a queued image data that lie elsewhere, and a status; what an attempt before left goes.

    Raises: InputError, BadStatusError for an image without formats; both mean roll back.
    """
    if not located.locations or located.size is None:
        raise InputError(f"image {image_id}: data that lie elsewhere have a location and a size")
    row = connection.execute(
        select(images.c.status, images.c.disk_format, images.c.container_format).where(images.c.id == image_id)
    ).one()
    if row.status != "queued" or not row.disk_format or not row.container_format:
        raise BadStatusError(image_id, row.status, "only a queued image with both formats can be given locations")
    put_rows(connection, image_id, located.locations)
    say(connection, image_id, located)
    connection.execute(update(images).where(images.c.id == image_id).values(status=status))
    if status == "active":
        note_change(connection, image_id)


def say(connection: Connection, image_id: ImageId, located: Located) -> None:
    """Keep what is known of data that lie elsewhere alone."""
    connection.execute(
        update(images)
        .where(images.c.id == image_id)
        .values(
            located_size=located.size,
            located_hash_algo=located.hash_algo,
            located_hash_value=located.hash_value,
            located_checksum=located.checksum,
        )
    )


def put_rows(connection: Connection, image_id: ImageId, locations: Sequence[Location]) -> None:
    """Make the rows of an image these."""
    connection.execute(delete(image_locations).where(image_locations.c.image_id == image_id))
    if locations:
        connection.execute(
            insert(image_locations),
            [
                {"image_id": image_id, "position": position, "url": one.url, "metadata": json.dumps(one.metadata)}
                for position, one in enumerate(locations)
            ],
        )
    connection.execute(update(images).where(images.c.id == image_id).values(location_count=len(locations)))


def forget(connection: Connection, image_id: ImageId) -> None:
    """Take away what attempts left at an image whose data come now in another way."""
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.location_count > 0)
        .values(location_count=0, **_NOTHING_SAID)
    )
    if done.rowcount:
        connection.execute(delete(image_locations).where(image_locations.c.image_id == image_id))


def unsaid(connection: Connection, image_id: ImageId, status: str) -> None:
    """Give an image a status without anything said of its data; the rows stay."""
    connection.execute(update(images).where(images.c.id == image_id).values(status=status, **_NOTHING_SAID))


def size_elsewhere(connection: Connection, *mine: Any) -> int:
    """Return the bytes at locations, of images that meet these conditions; each location counts.

    Cost: only images that have some are looked at.
    """
    size = func.sum(func.coalesce(contents.c.size, images.c.located_size) * images.c.location_count)
    joined = images.outerjoin(contents, contents.c.content_id == images.c.content_id)
    found = connection.execute(select(size).select_from(joined).where(*mine, images.c.location_count > 0)).scalar()
    return int(found or 0)


def _leave_content(connection: Connection, image_id: ImageId, content_id: str) -> None:
    """Take its content from an active image; what is known of its bytes stays true.

    Until its record says so, the content is kept as one that is aside: a record never names what is gone.
    """
    copied = select(image_copies.c.backend_id).where(image_copies.c.image_id == image_id)
    if connection.execute(copied).first() is not None:
        raise InputError(f"image {image_id} lies on several backends: leave them one by one")
    size = connection.execute(select(contents.c.size).where(contents.c.content_id == content_id)).scalar_one()
    rows = connection.execute(select(content_hashes).where(content_hashes.c.content_id == content_id))
    hashes = {row.algo: row.value for row in rows}
    connection.execute(
        update(images)
        .where(images.c.id == image_id)
        .values(
            content_id=None,
            staged_content_id=content_id,
            located_size=size,
            located_hash_algo="sha512" if "sha512" in hashes else None,
            located_hash_value=hashes.get("sha512"),
            located_checksum=hashes.get("md5"),
        )
    )


__all__ = ["Located", "enter", "forget", "put_rows", "say", "set_located", "size_elsewhere", "unsaid"]
