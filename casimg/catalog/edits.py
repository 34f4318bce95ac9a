"""Images made before their data, and changes of what an image is said to be. Functions take a connection.

Every change is counted in the image's revision. That of an image with a record puts a row into the outbox, in the same
transaction (rule U1); that of one still being saved is noticed by its commit, which knows what its record says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from casimg.catalog.engine import now_us
from casimg.catalog.image_rows import insert_image, is_stored
from casimg.catalog.listing import is_known
from casimg.catalog.locations import Located, set_located, size_elsewhere
from casimg.catalog.outbox import note_change
from casimg.catalog.rows import NewImage, UsageRow
from casimg.catalog.schema import STORED_STATUSES, contents, image_copies, image_properties, image_tags, images
from casimg.catalog.transaction import batches
from casimg.errors import (
    BadStatusError,
    ChangedMeanwhileError,
    ImageExistsError,
    ImageNotFoundError,
    TagNotFoundError,
)
from casimg.ids import ImageId

_FORMATS: Final = ("disk_format", "container_format")
_FORMLESS_STATUSES: Final = ("queued",)
_COLUMNS: Final = (
    *("name", "disk_format", "container_format", "owner", "visibility"),
    *("protected", "hidden", "min_disk", "min_ram"),
)


class Unset(Enum):
    """What leaves a field of an edit alone."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Edit:
    """What an image shall be; UNSET leaves a field alone, `tags` and `properties` replace the whole."""

    name: str | Unset | None = UNSET
    disk_format: str | Unset | None = UNSET
    container_format: str | Unset | None = UNSET
    owner: str | Unset | None = UNSET
    visibility: str | Unset = UNSET
    protected: bool | Unset = UNSET
    hidden: bool | Unset = UNSET
    min_disk: int | Unset = UNSET
    min_ram: int | Unset = UNSET
    tags: tuple[str, ...] | Unset = UNSET
    properties: Mapping[str, str] | Unset = UNSET
    located: Located | Unset = UNSET


@dataclass(frozen=True, slots=True)
class Held:
    """An image under its lock."""

    status: str
    disk_format: str | None
    container_format: str | None


def register(connection: Connection, new: NewImage) -> None:
    """Enter an image that has no data yet. Raises: ImageExistsError when the id was ever used."""
    if connection.execute(select(images.c.id).where(images.c.id == new.id)).first() is not None:
        raise ImageExistsError(new.id)
    try:
        insert_image(connection, new, now_us(connection), status="queued", registered=True)
    except IntegrityError:
        # Another one was faster; nothing else of a row can be refused.
        raise ImageExistsError(new.id) from None


def hold(connection: Connection, image_id: ImageId, *, revision: int | None = None, is_update: bool = True) -> Held:
    """Count a change of an image and lock it; return status and formats as they are under the lock.

    Args:
        revision: what it must be; None for a change that needs no look before.
        is_update: whether it counts as the image's last update; sharing it does not.
    Raises: ImageNotFoundError, ChangedMeanwhileError.
    """
    values: dict[str, Any] = {"revision": images.c.revision + 1}
    if is_update:
        values["updated_at"] = now_us(connection)
    wanted = [images.c.id == image_id, is_known()]
    if revision is not None:
        wanted.append(images.c.revision == revision)
    done = connection.execute(update(images).where(*wanted).values(values))
    # A new statement: under the lock, or to say why there is none.
    row = connection.execute(
        select(images.c.status, images.c.disk_format, images.c.container_format).where(
            images.c.id == image_id, is_known()
        )
    ).first()
    if row is None:
        raise ImageNotFoundError(image_id)
    if done.rowcount != 1:
        raise ChangedMeanwhileError(image_id)
    if row.status in STORED_STATUSES:
        note_change(connection, image_id)
    return Held(row.status, row.disk_format, row.container_format)


def edit_image(connection: Connection, image_id: ImageId, edit: Edit, revision: int) -> None:
    """Make an image what the edit says, all or nothing.

    Raises: ImageNotFoundError, ChangedMeanwhileError, BadStatusError for formats of an image that has its data, or
        locations of one that cannot have others.
    """
    row = hold(connection, image_id, revision=revision)
    values = {name: getattr(edit, name) for name in _COLUMNS if getattr(edit, name) is not UNSET}
    for name in _FORMATS:
        if name in values and values[name] != getattr(row, name) and row.status not in _FORMLESS_STATUSES:
            raise BadStatusError(image_id, row.status, f"its {name} cannot be changed any more")
    if values:
        connection.execute(update(images).where(images.c.id == image_id).values(values))
    if edit.properties is not UNSET:
        _set_properties(connection, image_id, edit.properties)
    if edit.tags is not UNSET:
        connection.execute(delete(image_tags).where(image_tags.c.image_id == image_id))
        for tags in batches(sorted(set(edit.tags))):
            connection.execute(insert(image_tags), [{"image_id": image_id, "tag": tag} for tag in tags])
    if edit.located is not UNSET:
        set_located(connection, image_id, row.status, edit.located)


def _set_properties(connection: Connection, image_id: ImageId, properties: Mapping[str, str]) -> None:
    """Make the properties these; ones that stay are not written."""
    rows = connection.execute(select(image_properties).where(image_properties.c.image_id == image_id))
    before = {row.name: row.value for row in rows}
    stale = [name for name, value in before.items() if properties.get(name) != value]
    for names in batches(sorted(stale)):
        connection.execute(
            delete(image_properties).where(image_properties.c.image_id == image_id, image_properties.c.name.in_(names))
        )
    new = [(name, value) for name, value in properties.items() if before.get(name) != value]
    for items in batches(new):
        connection.execute(
            insert(image_properties), [{"image_id": image_id, "name": name, "value": value} for name, value in items]
        )


def add_tag(connection: Connection, image_id: ImageId, tag: str) -> None:
    """Tag an image; again is harmless. Raises: ImageNotFoundError."""
    hold(connection, image_id)
    # Asked under the image's lock: no other tag comes in between.
    if tag not in _tags(connection, image_id):
        connection.execute(insert(image_tags).values(image_id=image_id, tag=tag))


def remove_tag(connection: Connection, image_id: ImageId, tag: str) -> None:
    """Take a tag away. Raises: ImageNotFoundError, TagNotFoundError."""
    hold(connection, image_id)
    if tag not in _tags(connection, image_id):
        raise TagNotFoundError(image_id, tag)
    connection.execute(delete(image_tags).where(image_tags.c.image_id == image_id, image_tags.c.tag == tag))


def _tags(connection: Connection, image_id: ImageId) -> set[str]:
    return set(connection.execute(select(image_tags.c.tag).where(image_tags.c.image_id == image_id)).scalars())


def set_active(connection: Connection, image_id: ImageId, *, is_active: bool) -> bool:
    """Let a stored image be downloaded, or no more; False when it is so already.

    Raises: ImageNotFoundError, BadStatusError when it has no data.
    """
    before, after = ("deactivated", "active") if is_active else ("active", "deactivated")
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.status == before)
        .values(status=after, revision=images.c.revision + 1, updated_at=now_us(connection))
    )
    if done.rowcount == 1:
        note_change(connection, image_id)
        return True
    row = connection.execute(select(images.c.status).where(images.c.id == image_id, is_known())).first()
    if row is None:
        raise ImageNotFoundError(image_id)
    if row.status != after:
        raise BadStatusError(image_id, row.status, f"it cannot become {after}")
    return False


def usage_of(connection: Connection, owner: str) -> UsageRow:
    """Return how many images an owner has, and their plain bytes. One plain read; nothing is decided by it."""
    mine = (images.c.owner == owner, is_known())
    by_status = connection.execute(select(images.c.status, func.count()).where(*mine).group_by(images.c.status)).all()
    counts = {row[0]: int(row[1]) for row in by_status}
    size = connection.execute(
        select(func.sum(contents.c.size))
        .select_from(images.join(contents, contents.c.content_id == images.c.content_id))
        .where(*mine, is_stored())
    ).scalar()
    copied = connection.execute(
        select(func.sum(contents.c.size))
        .select_from(images.join(image_copies, image_copies.c.image_id == images.c.id))
        .join(contents, contents.c.content_id == image_copies.c.content_id)
        .where(*mine, is_stored())
    ).scalar()
    staged = connection.execute(
        select(func.sum(contents.c.size))
        .select_from(images.join(contents, contents.c.content_id == images.c.staged_content_id))
        .where(*mine, images.c.status.in_(("uploading", "importing")))
    ).scalar()
    uploading = sum(counts.get(status, 0) for status in ("saving", "uploading", "importing"))
    # A sum of 64-bit integers is a decimal on servers.
    stored_size = int(size or 0) + int(copied or 0) + size_elsewhere(connection, *mine, is_stored())
    return UsageRow(sum(counts.values()), stored_size, uploading, int(staged or 0))


def owners(connection: Connection) -> list[str]:
    """Return the owners that have images, sorted by their names."""
    found = connection.execute(select(images.c.owner).where(images.c.owner.is_not(None), is_known()).distinct())
    return sorted(row[0] for row in found)


__all__ = [
    "UNSET",
    "Edit",
    "Unset",
    "add_tag",
    "edit_image",
    "hold",
    "owners",
    "register",
    "remove_tag",
    "set_active",
    "usage_of",
]
