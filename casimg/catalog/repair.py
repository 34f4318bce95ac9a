"""Repair: which contents name damaged packs, and the switch to packs that hold what they need (rule P).

Functions take a connection.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from casimg.catalog.packs import hold_packs
from casimg.catalog.schema import content_packs, contents, packs
from casimg.catalog.sessions import close_session
from casimg.catalog.transaction import batches
from casimg.errors import SessionFencedError
from casimg.ids import ContentId, SessionId


@dataclass(frozen=True, slots=True)
class Healing:
    """What a repair found out about one content.

    Attributes:
        damaged: packs it named, by number, that are damaged or missing.
        replacing: packs that hold every needed byte of them that was found.
        whole: nothing it needs is lost, so it can do without the damaged packs.
    """

    content_id: ContentId
    damaged: frozenset[int]
    replacing: frozenset[int]
    whole: bool


def namers(connection: Connection, pack_nos: Collection[int]) -> dict[ContentId, set[int]]:
    """Return the complete contents that name any of these packs, and which."""
    found: dict[ContentId, set[int]] = {}
    for batch in batches(sorted(pack_nos)):
        rows = connection.execute(
            select(content_packs.c.content_id, content_packs.c.pack_no)
            .join(contents, contents.c.content_id == content_packs.c.content_id)
            .where(content_packs.c.pack_no.in_(batch), contents.c.state == "complete")
        )
        for row in rows:
            found.setdefault(ContentId(row.content_id), set()).add(row.pack_no)
    return found


def named_packs(connection: Connection, pack_nos: Collection[int]) -> list[int]:
    """Return those of the packs that some content names."""
    found: set[int] = set()
    for batch in batches(sorted(pack_nos)):
        query = select(content_packs.c.pack_no).where(content_packs.c.pack_no.in_(batch))
        found.update(connection.execute(query).scalars())
    return sorted(found)


def switch(connection: Connection, session_id: SessionId, healings: Sequence[Healing]) -> list[ContentId]:
    """P1 to P4: name the replacing packs, and no longer the damaged ones where nothing is lost; closes the session.

    A content that went, or whose row of every damaged pack was moved by a repack, is left as it is.

    Returns: the contents changed.
    Raises: SessionFencedError, PackGoneError; both mean roll back.
    """
    if not close_session(connection, session_id):
        raise SessionFencedError(session_id)
    held: list[Healing] = []
    for healing in sorted(healings, key=lambda item: item.content_id):
        locked = connection.execute(
            update(contents)
            .where(contents.c.content_id == healing.content_id, contents.c.state == "complete")
            .values(state="complete")
        )
        if locked.rowcount == 1:
            held.append(healing)
    hold_packs(connection, {pack_no for healing in held for pack_no in healing.replacing})
    # New statements, under the locks of the contents: a repack may have moved their rows since they were walked.
    named = {healing.content_id: _named(connection, healing.content_id) for healing in held}
    changed: list[ContentId] = []
    lessened: set[int] = set()
    for healing in held:
        content_id = healing.content_id
        still = healing.damaged & named[content_id]
        missing = sorted(healing.replacing - named[content_id])
        gone = still if healing.whole else set()
        if (healing.damaged and not still) or not (missing or gone):
            continue
        for batch in batches(missing):
            connection.execute(
                insert(content_packs), [{"content_id": content_id, "pack_no": pack_no} for pack_no in batch]
            )
        for batch in batches(sorted(gone)):
            connection.execute(
                delete(content_packs).where(
                    content_packs.c.content_id == content_id, content_packs.c.pack_no.in_(batch)
                )
            )
        lessened |= gone
        changed.append(content_id)
    for batch in batches(sorted(lessened)):
        connection.execute(
            update(packs).where(packs.c.pack_no.in_(batch)).values(live_plain_size=None, loss_no=packs.c.loss_no + 1)
        )
    return changed


def _named(connection: Connection, content_id: ContentId) -> set[int]:
    rows = connection.execute(select(content_packs.c.pack_no).where(content_packs.c.content_id == content_id))
    return set(rows.scalars())
