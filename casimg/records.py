"""Records on the backend: put beside a commit, and brought up to date after a change (DESIGN section 8, rule 15).

A change of metadata is committed with a row of the outbox, and the record follows: at once when the backend is there,
else by the next collection. A record is never overwritten: each session puts its own, and the image's row says which
one is the image's. What a crash leaves beside it is an orphan, which `gc` sweeps.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from typing import Final

from casimg.catalog import STORED_STATUSES, ContentRow, ImageRow, MemberRow, NewContent, NewImage, PackRow
from casimg.catalog import outbox as outbox_rows
from casimg.catalog.changes import ImageBehind, OutdatedRecordError, image_behind, written
from casimg.errors import CasimgError, CatalogBusyError, TryAgainError
from casimg.formats.record import ContentRecord, ImageRecord, MemberRecord, TreeRecord, encode_record
from casimg.ids import ImageId, SessionId
from casimg.pack.keys import RECORD_PREFIX, record_key
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.records")
_TRY_COUNT_MAX: Final = 20  # each failed try is a change that somebody else completed


def put_record(
    wiring: Wiring,
    session_id: SessionId,
    image: NewImage | ImageRow,
    content: NewContent | ContentRow,
    packs: Iterable[PackRow],
    members: Iterable[MemberRow] = (),
) -> None:
    """Put what `recover` needs to know of an image, before the commit that makes it true."""
    row = image if isinstance(image, ImageRow) else None
    created_at = datetime.now(UTC) if image.created_at is None else image.created_at
    record = ImageRecord(
        image_id=image.id,
        name=image.name,
        # Of one being saved, what it will be; see `recover` for what that means when the save dies.
        status=row.status if row is not None and row.status in STORED_STATUSES else "active",
        disk_format=image.disk_format,
        container_format=image.container_format,
        owner=image.owner,
        visibility=image.visibility,
        protected=image.protected,
        parent_id=image.parent_id,
        created_at=created_at.isoformat(),
        updated_at=(created_at if row is None else row.updated_at).isoformat(),
        revision=0 if row is None else row.revision,
        properties=dict(image.properties),
        content=ContentRecord(
            content_id=content.content_id,
            size=content.size or 0,
            hole_size=content.hole_size,
            trees=tuple(
                TreeRecord(tree.role, None if tree.root is None else tree.root.hex(), tree.size)
                for tree in content.trees
            ),
            pack_ids=tuple(sorted(row.pack_id.hex() for row in packs)),
            hashes=dict(content.hashes),
        ),
        tags=tuple(sorted(set(image.tags))),
        hidden=image.hidden,
        min_disk=image.min_disk,
        min_ram=image.min_ram,
        virtual_size=image.virtual_size,
        members=tuple(
            MemberRecord(item.member, item.status, item.created_at.isoformat(), item.updated_at.isoformat())
            for item in sorted(members, key=lambda item: item.member)
        ),
    )
    data = encode_record(record)
    wiring.backend.put(record_key(image.id, session_id), BytesIO(data), len(data))


def remove_records(wiring: Wiring, image_id: ImageId) -> None:
    """Remove every record of a deleted image, from all backends."""
    for peer in wiring.peers:
        remove_records_here(peer, image_id)


def remove_records_here(wiring: Wiring, image_id: ImageId) -> None:
    """Remove every record of a deleted image from one backend."""
    for found in list(wiring.backend.list(f"{RECORD_PREFIX}{image_id}/")):
        wiring.backend.delete(found.key)


def flush_records(wiring: Wiring) -> int:
    """Bring every record that is behind up to date; returns how many images are still behind, with reasons logged."""
    return sum(not try_flush(wiring, image_id) for image_id in wiring.catalog.transaction(outbox_rows.behind))


def try_flush(wiring: Wiring, image_id: ImageId) -> bool:
    """Bring the record of one image up to date; False when that failed: the change is committed, `gc` tries again."""
    try:
        flush_record(wiring, image_id)
    except CasimgError as error:
        _log.warning("record.behind image=%s why=%s", image_id, error)
        return False
    return True


def flush_record(wiring: Wiring, image_id: ImageId) -> None:
    """Make the backend say of an image what the catalog says: its newest record, or none for a deleted one.

    Raises: TryAgainError, NoSpaceError, and what else the backend raises.
    """
    for _ in range(_TRY_COUNT_MAX):
        behind = wiring.catalog.transaction(partial(image_behind, image_id=image_id))
        if behind is None:
            return
        if behind.content is None:
            remove_records(wiring, image_id)
            wiring.catalog.transaction(partial(outbox_rows.forget_changes, image_id=image_id, seq=behind.seq))
            return
        if _put_anew(wiring, behind):
            return
    raise CatalogBusyError(f"image {image_id} changed {_TRY_COUNT_MAX} times while its record was written")


def _put_anew(wiring: Wiring, behind: ImageBehind) -> bool:
    """Put a record of what was read and make it the image's; False when the image changed meanwhile."""
    image, content = behind.image, behind.content
    if image is None or content is None or image.session_id is None:
        raise ValueError("only a stored image has a record")
    wiring = wiring.peer(content.backend_id)
    session_id = wiring.catalog.open_session("repair").session_id
    try:
        put_record(wiring, session_id, image, content, behind.packs, behind.members)
        try:
            wiring.catalog.transaction(lambda connection: written(connection, session_id, behind))
        except TryAgainError:
            if not wiring.catalog.is_committed(session_id, image.id):
                raise
    except OutdatedRecordError:
        # Rolled back for certain, and nobody else knows this key.
        wiring.end_session(session_id)
        wiring.backend.delete(record_key(image.id, session_id))
        return False
    except BaseException:
        wiring.end_session(session_id)
        raise
    _log.info("record.put image=%s revision=%d session=%s", image.id, image.revision, session_id)
    try:
        wiring.backend.delete(record_key(image.id, image.session_id))
    except CasimgError as error:  # the old record has the smaller revision, and gc sweeps it
        _log.warning("record.old_stays image=%s session=%s why=%s", image.id, image.session_id, error)
    return True
