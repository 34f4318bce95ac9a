"""Records on the backend: put beside a commit, and brought up to date after a change (DESIGN section 8, rule 15).

A change of metadata is committed with a row of the outbox, and the record follows: at once when the backend is there,
else by the next collection. An image that lies on several backends has a record on each, of the content there. A
record is never overwritten: each session puts its own, and the image's row, or that of its copy, says which one counts.
What a crash leaves beside it is an orphan, which `gc` sweeps.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from typing import Final

from casimg.catalog import STORED_STATUSES, ContentRow, ImageRow, MemberRow, NewContent, NewImage, PackRow
from casimg.catalog import outbox as outbox_rows
from casimg.catalog.changes import ImageBehind, OutdatedRecordError, image_behind, written
from casimg.catalog.copies import record_places
from casimg.errors import CasimgError, CatalogBusyError, TryAgainError
from casimg.formats.record import ContentRecord, ImageRecord, LocationRecord, MemberRecord, TreeRecord, encode_record
from casimg.ids import ImageId, SessionId
from casimg.pack.keys import RECORD_PREFIX, record_key
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.records")
_TRY_COUNT_MAX: Final = 20  # each failed try is a change that somebody else completed


def put_record(
    wiring: Wiring,
    session_id: SessionId,
    image: NewImage | ImageRow,
    content: NewContent | ContentRow | None,
    packs: Iterable[PackRow],
    members: Iterable[MemberRow] = (),
) -> None:
    """Put what `recover` needs to know of an image, before the commit that makes it true.

    Args:
        content: None for an image whose data lie elsewhere alone.
    """
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
        content=_elsewhere(row) if content is None else _content(content, packs),
        tags=tuple(sorted(set(image.tags))),
        hidden=image.hidden,
        min_disk=image.min_disk,
        min_ram=image.min_ram,
        virtual_size=image.virtual_size,
        members=tuple(
            MemberRecord(item.member, item.status, item.created_at.isoformat(), item.updated_at.isoformat())
            for item in sorted(members, key=lambda item: item.member)
        ),
        locations=tuple(LocationRecord(one.url, one.metadata) for one in (() if row is None else row.locations)),
    )
    data = encode_record(record)
    wiring.backend.put(record_key(image.id, session_id), BytesIO(data), len(data))


def _content(content: NewContent | ContentRow, packs: Iterable[PackRow]) -> ContentRecord:
    return ContentRecord(
        content_id=content.content_id,
        size=content.size or 0,
        hole_size=content.hole_size,
        trees=tuple(
            TreeRecord(tree.role, None if tree.root is None else tree.root.hex(), tree.size) for tree in content.trees
        ),
        pack_ids=tuple(sorted(row.pack_id.hex() for row in packs)),
        hashes=dict(content.hashes),
    )


def _elsewhere(row: ImageRow | None) -> ContentRecord:
    if row is None or not row.locations:
        raise ValueError("an image without a content has locations")
    return ContentRecord("", row.size or 0, 0, (), (), dict(row.hashes))


def differences(
    record: ImageRecord, image: ImageRow, content: ContentRow | None, members: Iterable[MemberRow] = ()
) -> list[str]:
    """Return the names of the fields in which record and catalog differ; packs may differ after a repack."""
    trees = () if content is None else content.trees
    pairs: list[tuple[str, object, object]] = [
        (name, getattr(record, name), getattr(image, name))
        for name in (
            *("name", "status", "disk_format", "container_format", "owner", "visibility", "protected", "hidden"),
            *("min_disk", "min_ram", "virtual_size", "tags"),
        )
    ]
    pairs += [
        ("parent_id", record.parent_id, image.parent_id),
        ("content_id", record.content.content_id, image.content_id or ""),
        (
            "locations",
            [(one.url, one.metadata) for one in record.locations],
            [(one.url, one.metadata) for one in image.locations],
        ),
        ("properties", dict(record.properties), dict(image.properties)),
        (
            "members",
            {item.member: item.status for item in record.members},
            {item.member: item.status for item in members},
        ),
        ("size", record.content.size, image.size or 0),
        ("hole_size", record.content.hole_size, image.hole_size),
        (
            "trees",
            {(tree.role, tree.root, tree.size) for tree in record.content.trees},
            {(tree.role, None if tree.root is None else tree.root.hex(), tree.size) for tree in trees},
        ),
        ("hashes", dict(record.content.hashes), dict(image.hashes)),
    ]
    return [name for name, recorded, cataloged in pairs if recorded != cataloged]


def remove_records(wiring: Wiring, image_id: ImageId) -> None:
    """Remove every record of a deleted image, from all backends where it may have some."""
    for backend_id in wiring.catalog.read(partial(record_places, image_id=image_id)):
        backend = wiring.peer(backend_id).backend
        for found in list(backend.list(f"{RECORD_PREFIX}{image_id}/")):
            backend.delete(found.key)


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
    """Make the backends say of an image what the catalog says: its newest records, or none for a deleted one.

    Raises: TryAgainError, NoSpaceError, and what else a backend raises; then those that can be reached say it.
    """
    for _ in range(_TRY_COUNT_MAX):
        behind = wiring.catalog.transaction(partial(image_behind, image_id=image_id))
        if behind is None:
            return
        if not behind.has_record:
            remove_records(wiring, image_id)
            wiring.catalog.transaction(partial(outbox_rows.forget_changes, image_id=image_id, seq=behind.seq))
            return
        if _put_anew(wiring, behind):
            return
    raise CatalogBusyError(f"image {image_id} changed {_TRY_COUNT_MAX} times while its record was written")


@dataclass(frozen=True, slots=True)
class _Place:
    """A record to put: where, of which content, and whose it follows."""

    wiring: Wiring
    content: ContentRow | None
    packs: tuple[PackRow, ...]
    session_id: SessionId | None

    @property
    def backend_id(self) -> int | None:
        """Where the content lies; None of data that lie elsewhere."""
        return None if self.content is None else self.content.backend_id


def _places(wiring: Wiring, behind: ImageBehind) -> list[_Place]:
    image, content = behind.image, behind.content
    if image is None:
        raise ValueError("only a stored image has a record")
    where = wiring.home if content is None else wiring.peer(content.backend_id)
    found = [_Place(where, content, behind.packs, image.session_id)]
    for copy, (of_copy, packs) in zip(image.copies, behind.copies, strict=True):
        found.append(_Place(wiring.peer(copy.backend_id), of_copy, packs, copy.session_id))
    return found


def _put_anew(wiring: Wiring, behind: ImageBehind) -> bool:
    """Put records of what was read and make them the image's; False when the image changed meanwhile."""
    image, places = behind.image, _places(wiring, behind)
    if image is None:
        raise ValueError("only a stored image has a record")
    left = [wiring.peer(place) for place in wiring.catalog.read(partial(record_places, image_id=image.id))]
    session_id = wiring.catalog.open_session("repair").session_id
    put: list[_Place] = []
    failure: CasimgError | None = None
    try:
        for place in places:
            try:
                put_record(place.wiring, session_id, image, place.content, place.packs, behind.members)
                put.append(place)
            except CasimgError as error:  # the others shall say it all the same
                failure = failure or error
        if failure is not None and not put:
            raise failure
        backend_ids = {place.backend_id for place in put}
        try:
            wiring.catalog.transaction(lambda connection: written(connection, session_id, behind, backend_ids))
        except TryAgainError:
            if not wiring.catalog.is_committed(session_id, image.id):
                raise
    except OutdatedRecordError:
        # Rolled back for certain, and nobody else knows this key.
        wiring.end_session(session_id)
        for place in put:
            place.wiring.backend.delete(record_key(image.id, session_id))
        return False
    except BaseException:
        wiring.end_session(session_id)
        raise
    _log.info("record.put image=%s revision=%d session=%s", image.id, image.revision, session_id)
    for place in put:
        if place.session_id is not None:
            _remove_old(place.wiring, image.id, place.session_id)
    if image.content_id is None and image.session_id is not None:  # its own data may have lain anywhere
        for old in left:
            _remove_old(old, image.id, image.session_id)
    if failure is not None:
        raise failure
    return True


def _remove_old(wiring: Wiring, image_id: ImageId, session_id: SessionId) -> None:
    try:
        wiring.backend.delete(record_key(image_id, session_id))
    except CasimgError as error:  # the old record has the smaller revision, and gc sweeps it
        _log.warning("record.old_stays image=%s session=%s why=%s", image_id, session_id, error)
