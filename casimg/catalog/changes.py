"""Changes of metadata, and the records that follow them (rule 15). Functions take the connection of a transaction."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, update

from casimg.catalog.contents import content_row
from casimg.catalog.copies import written_copies
from casimg.catalog.engine import now_us
from casimg.catalog.image_rows import is_stored
from casimg.catalog.images import check_name_free, image_by_id
from casimg.catalog.members import members_of
from casimg.catalog.outbox import forget_changes, last_change, note_change
from casimg.catalog.packs import packs_of_content
from casimg.catalog.rows import ContentRow, ImageChange, ImageRow, MemberRow, PackRow
from casimg.catalog.schema import STORED_STATUSES, image_properties, images
from casimg.catalog.sessions import close_session
from casimg.catalog.transaction import batches
from casimg.errors import ImageNotFoundError, SessionFencedError
from casimg.ids import ImageId, SessionId


class OutdatedRecordError(Exception):
    """The image is no longer what the record says: roll back, read it again, put another record."""


@dataclass(frozen=True, slots=True)
class ImageBehind:
    """An image whose record is behind, read so that `written` notices every change after it.

    Attributes:
        image: None when it has no row any more.
        content, packs, members: of a stored image; no content when its data lie elsewhere alone.
        copies: of its contents on further backends, in the order of `image.copies`: what they are, and their packs.
        seq: newest outbox row that this state answers.
    """

    image: ImageRow | None
    content: ContentRow | None
    packs: tuple[PackRow, ...]
    seq: int
    members: tuple[MemberRow, ...] = ()
    copies: tuple[tuple[ContentRow, tuple[PackRow, ...]], ...] = ()

    @property
    def has_record(self) -> bool:
        """Whether the image has data, here or elsewhere; else its records must go."""
        return self.content is not None or _is_elsewhere(self.image)


def change_image(connection: Connection, image_id: ImageId, change: ImageChange, *, unique_name: bool) -> None:
    """U1: change a stored image, count the change, and say that its record is behind; all or nothing.

    Raises: ImageNotFoundError, NameTakenError.
    """
    values: dict[str, Any] = {"updated_at": now_us(connection), "revision": images.c.revision + 1}
    for column in ("name", "protected", "visibility"):
        if getattr(change, column) is not None:
            values[column] = getattr(change, column)
    done = connection.execute(update(images).where(images.c.id == image_id, is_stored()).values(values))
    if done.rowcount != 1:
        raise ImageNotFoundError(image_id)
    if change.name is not None and unique_name:
        check_name_free(connection, image_id)
    _change_properties(connection, image_id, change.properties, change.unset)
    note_change(connection, image_id)


def _change_properties(
    connection: Connection, image_id: ImageId, properties: Mapping[str, str], unset: tuple[str, ...]
) -> None:
    for names in batches(sorted({*properties, *unset})):
        connection.execute(
            delete(image_properties).where(image_properties.c.image_id == image_id, image_properties.c.name.in_(names))
        )
    for items in batches(properties.items()):
        connection.execute(
            insert(image_properties), [{"image_id": image_id, "name": name, "value": value} for name, value in items]
        )


def image_behind(connection: Connection, image_id: ImageId) -> ImageBehind | None:
    """U2: return the image if its record is behind.

    The number is read first and the image's row before its properties: a change in between leaves an outbox row
    younger than `seq`, or a revision that `written` does not accept.
    """
    seq = last_change(connection, image_id)
    if seq is None:
        return None
    try:
        image = image_by_id(connection, image_id)
    except ImageNotFoundError:
        return ImageBehind(None, None, (), seq)
    if _is_elsewhere(image):
        return ImageBehind(image, None, (), seq, tuple(members_of(connection, image_id)))
    if image.status not in STORED_STATUSES or image.content_id is None:
        # Only stored and deleted images ever have a row in the outbox: there is no save whose record could go here.
        return ImageBehind(image, None, (), seq)
    content = content_row(connection, image.content_id)
    found = tuple(packs_of_content(connection, image.content_id))
    copies = tuple(
        (content_row(connection, copy.content_id), tuple(packs_of_content(connection, copy.content_id)))
        for copy in image.copies
    )
    return ImageBehind(image, content, found, seq, tuple(members_of(connection, image_id)), copies)


def _is_elsewhere(image: ImageRow | None) -> bool:
    return image is not None and image.status in STORED_STATUSES and image.content_id is None and bool(image.locations)


def written(
    connection: Connection,
    session_id: SessionId,
    behind: ImageBehind,
    backend_ids: Collection[int | None] | None = None,
) -> None:
    """U3: the session's records become the image's, if the image is still what they say.

    Args:
        backend_ids: where they were put, None everywhere; the image is behind until they are on all of its backends.

    Raises: SessionFencedError, OutdatedRecordError; both mean roll back.
    """
    image = behind.image
    if image is None:
        raise OutdatedRecordError
    places = {image.backend_id, *(copy.backend_id for copy in image.copies)}
    put = places if backend_ids is None else places.intersection(backend_ids)
    values: dict[str, Any] = {"session_id": session_id if image.backend_id in put else image.session_id}
    if image.content_id is None:
        values["staged_content_id"] = None  # what it left may go now: no record names it any more
    if not close_session(connection, session_id):
        raise SessionFencedError(session_id)
    done = connection.execute(
        update(images)
        .where(
            images.c.id == image.id,
            images.c.status == image.status,
            images.c.revision == image.revision,
            images.c.session_id == image.session_id,
        )
        .values(values)
    )
    if done.rowcount != 1 or not written_copies(connection, image, session_id, put):
        raise OutdatedRecordError
    if put == places:
        forget_changes(connection, image.id, behind.seq)
