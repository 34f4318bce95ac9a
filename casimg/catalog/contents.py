"""Contents: rule 4 (note a parent's packs) and rule 11 (reap what no image points to). Functions take a connection."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from sqlalchemy import Connection, delete, insert, or_, select, update

from casimg.catalog.image_rows import is_stored
from casimg.catalog.outbox import note_change
from casimg.catalog.packs import PACK_COLUMNS, pack_row, revive
from casimg.catalog.reading import is_leased
from casimg.catalog.rows import ContentRow, NewContent, PackRow, TreeRow
from casimg.catalog.schema import (
    content_hashes,
    content_packs,
    content_trees,
    contents,
    image_copies,
    images,
    packs,
    sessions,
)
from casimg.catalog.sessions import beat
from casimg.catalog.transaction import batches
from casimg.errors import CatalogDamagedError, ImageNotFoundError
from casimg.ids import ContentId, ImageId, SessionId


def note_content(connection: Connection, session_id: SessionId, image_id: ImageId) -> list[PackRow]:
    """N1, N2: the packs of an active image's content, held for this session; condemned ones are revived.

    Raises: SessionFencedError, ImageNotFoundError when the image is gone, PackGoneError.
    """
    beat(connection, session_id)
    # One plain statement: asked in two, a collection between them could answer "active" and then "no packs". The
    # outer join keeps apart an image that is gone (no row) and one of nothing but zeros (a row without a pack).
    rows = connection.execute(
        select(*PACK_COLUMNS)
        .select_from(images)
        .join(sessions, (sessions.c.session_id == session_id) & (sessions.c.state == "open"))
        .join(contents, (contents.c.content_id == images.c.content_id) & (contents.c.state == "complete"))
        .outerjoin(content_packs, content_packs.c.content_id == contents.c.content_id)
        .outerjoin(packs, packs.c.pack_no == content_packs.c.pack_no)
        .where(images.c.id == image_id, images.c.status == "active")
        .order_by(packs.c.pack_no)
    ).all()
    if not rows:
        raise ImageNotFoundError(image_id)
    found = [pack_row(row) for row in rows if row.pack_no is not None]
    revive(connection, [pack.pack_no for pack in found if pack.state != "live"])
    return [replace(pack, state="live") for pack in found]


def insert_pending(
    connection: Connection, session_id: SessionId, content_id: ContentId, backend_id: int, now: int
) -> None:
    """Insert a content that a session will complete."""
    connection.execute(
        insert(contents).values(
            content_id=content_id,
            state="pending",
            session_id=session_id,
            size=None,
            hole_size=0,
            created_at=now,
            backend_id=backend_id,
        )
    )


def complete_content(connection: Connection, session_id: SessionId, content: NewContent) -> None:
    """K2: the session's pending content is complete. Raises: CatalogDamagedError."""
    done = connection.execute(
        update(contents)
        .where(
            contents.c.content_id == content.content_id,
            contents.c.state == "pending",
            contents.c.session_id == session_id,
        )
        .values(state="complete", size=content.size, hole_size=content.hole_size)
    )
    if done.rowcount != 1:
        raise CatalogDamagedError(f"content {content.content_id}", "it is not pending for this session")


def name_packs(
    connection: Connection, content: NewContent, pack_nos: Collection[int], hashes: Mapping[str, str]
) -> None:
    """K4: what a complete content is made of; its packs are held already."""
    for batch in batches(sorted(set(pack_nos))):
        connection.execute(
            insert(content_packs), [{"content_id": content.content_id, "pack_no": pack_no} for pack_no in batch]
        )
    for tree in content.trees:
        connection.execute(
            insert(content_trees).values(content_id=content.content_id, role=tree.role, root=tree.root, size=tree.size)
        )
    add_new_hashes(connection, content.content_id, hashes)


def add_new_hashes(connection: Connection, content_id: ContentId, hashes: Mapping[str, str]) -> bool:
    """Insert the hashes that a content does not have; False when it had all."""
    known = select(content_hashes.c.algo).where(content_hashes.c.content_id == content_id)
    missing = sorted(set(hashes) - set(connection.execute(known).scalars()))
    if missing:
        rows = [{"content_id": content_id, "algo": algo, "value": hashes[algo]} for algo in missing]
        connection.execute(insert(content_hashes), rows)
    return bool(missing)


def content_row(connection: Connection, content_id: ContentId) -> ContentRow:
    """Return a content with its trees and hashes. Raises: CatalogDamagedError when it is not there."""
    row = connection.execute(select(contents).where(contents.c.content_id == content_id)).first()
    if row is None:
        raise CatalogDamagedError(f"content {content_id}", "an image names it, but it has no row")
    trees = connection.execute(select(content_trees).where(content_trees.c.content_id == content_id))
    hashes = connection.execute(select(content_hashes).where(content_hashes.c.content_id == content_id))
    return ContentRow(
        content_id=content_id,
        state=row.state,
        size=row.size,
        hole_size=row.hole_size,
        trees=tuple(TreeRow(tree.role, None if tree.root is None else bytes(tree.root), tree.size) for tree in trees),
        hashes={item.algo: item.value for item in hashes},
        backend_id=row.backend_id,
    )


def add_hashes(connection: Connection, content_id: ContentId, hashes: Mapping[str, str]) -> list[ImageId]:
    """Keep hashes of a complete content, and of its copies; return the images whose records must follow.

    Raises: ImageNotFoundError when the content went meanwhile.
    """
    held = connection.execute(
        update(contents)
        .where(contents.c.content_id == content_id, contents.c.state == "complete")
        .values(state="complete")
    )
    if held.rowcount != 1:
        raise ImageNotFoundError(content_id)
    users = select(images.c.id).where(images.c.content_id == content_id, is_stored()).order_by(images.c.id)
    copies = select(image_copies.c.content_id).distinct().where(image_copies.c.image_id.in_(users.order_by(None)))
    of_all = [content_id, *(ContentId(copy) for copy in sorted(connection.execute(copies).scalars()))]
    news = [add_new_hashes(connection, one, hashes) for one in of_all]
    if not any(news):
        return []
    found = [ImageId(image_id) for image_id in connection.execute(users).scalars()]
    for image_id in found:
        connection.execute(update(images).where(images.c.id == image_id).values(revision=images.c.revision + 1))
        note_change(connection, image_id)
    return found


def dead_contents(connection: Connection) -> list[ContentId]:
    """Return contents that no image which is not deleted points to, and whose session is not open."""
    used = select(images.c.id).where(
        images.c.status != "deleted",
        or_(images.c.content_id == contents.c.content_id, images.c.staged_content_id == contents.c.content_id),
        # What a dead session was saving is dead too; what it was importing had come before.
        or_(
            contents.c.state == "complete",
            images.c.session_id.in_(select(sessions.c.session_id).where(sessions.c.state == "open")),
        ),
    )
    copied = (
        select(image_copies.c.image_id)
        .join(images, images.c.id == image_copies.c.image_id)
        .where(image_copies.c.content_id == contents.c.content_id, images.c.status != "deleted")
    )
    rows = connection.execute(
        select(contents.c.content_id)
        .join(sessions, sessions.c.session_id == contents.c.session_id)
        .where(~used.exists(), ~copied.exists(), or_(contents.c.state == "complete", sessions.c.state != "open"))
    )
    return [ContentId(row.content_id) for row in rows]


def deleted_with_content(connection: Connection) -> list[ImageId]:
    """Return deleted images that still point to a content: their records may still be there."""
    rows = connection.execute(
        select(images.c.id).where(
            images.c.status == "deleted",
            or_(
                images.c.content_id.is_not(None),
                images.c.staged_content_id.is_not(None),
                select(image_copies.c.image_id).where(image_copies.c.image_id == images.c.id).exists(),
            ),
        )
    )
    return [ImageId(row.id) for row in rows]


def forget_content(connection: Connection, image_id: ImageId) -> None:
    """Take the content, and those of its copies, from a deleted image, after its records are gone."""
    done = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.status == "deleted")
        .values(content_id=None, staged_content_id=None)
    )
    if done.rowcount == 1:
        connection.execute(delete(image_copies).where(image_copies.c.image_id == image_id))


def reap_content(connection: Connection, content_id: ContentId) -> bool:
    """Remove the rows of a content that no image points to and nobody reads; decided under its lock, again harmless."""
    locked = connection.execute(
        update(contents).where(contents.c.content_id == content_id).values(content_id=content_id)
    )
    if locked.rowcount != 1:
        return False
    used = connection.execute(
        select(images.c.id).where(or_(images.c.content_id == content_id, images.c.staged_content_id == content_id))
    ).first()
    copied = select(image_copies.c.image_id).where(image_copies.c.content_id == content_id)
    used = used or connection.execute(copied).first()
    owner = connection.execute(
        select(contents.c.state, sessions.c.state.label("session_state"))
        .join(sessions, sessions.c.session_id == contents.c.session_id)
        .where(contents.c.content_id == content_id)
    ).one()
    if used is not None or (owner.state == "pending" and owner.session_state == "open"):
        return False
    if is_leased(connection, content_id):
        return False
    named = select(content_packs.c.pack_no).where(content_packs.c.content_id == content_id)
    pack_nos = sorted(connection.execute(named).scalars())
    for batch in batches(pack_nos):
        connection.execute(
            update(packs).where(packs.c.pack_no.in_(batch)).values(live_plain_size=None, loss_no=packs.c.loss_no + 1)
        )
    for table in (content_packs, content_trees, content_hashes, contents):
        connection.execute(delete(table).where(table.c.content_id == content_id))
    return True
