"""Rule 10: what a repack asks, and the switch that ends it. Functions take the connection of a transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, exists, insert, or_, select, update

from casimg.catalog.engine import now_us
from casimg.catalog.packs import PACK_COLUMNS, hold_packs, pack_row
from casimg.catalog.rows import PackRow
from casimg.catalog.schema import STORED_STATUSES, content_packs, contents, images, packs
from casimg.catalog.sessions import close_session
from casimg.catalog.transaction import batches
from casimg.errors import SessionFencedError
from casimg.ids import ContentId, SessionId


@dataclass(frozen=True, slots=True)
class Move:
    """One row of a content to switch.

    Attributes:
        old: pack the content shall name no more; None to add packs only.
        new: packs that together hold every chunk of `old` that the content reaches, but for those held by `relied`.
        relied: packs the content names that hold the rest: the row of `old` goes only while all of them are named,
            and neither they nor `new` are known to be damaged.
    """

    content_id: ContentId
    old: int | None
    new: tuple[int, ...] = ()
    relied: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class ContentUse:
    """A complete content, all packs it names, and its place in time."""

    content_id: ContentId
    created_at: int
    pack_nos: frozenset[int]


def named_packs(connection: Connection, *, measured: bool) -> list[PackRow]:
    """Return live, undamaged packs that contents name, whose live size is known or is not; a plain read."""
    named = exists().where(content_packs.c.pack_no == packs.c.pack_no)
    size = packs.c.live_plain_size
    rows = connection.execute(
        select(*PACK_COLUMNS)
        .where(packs.c.state == "live", packs.c.damaged_at.is_(None), named)
        .where(size.is_not(None) if measured else size.is_(None))
        .order_by(packs.c.pack_no)
    )
    return [pack_row(row) for row in rows]


def unmeasured(connection: Connection) -> list[PackRow]:
    """Return packs that lost a content since they were last looked at."""
    return named_packs(connection, measured=False)


def measured(connection: Connection) -> list[PackRow]:
    """Return packs whose live size is known."""
    return named_packs(connection, measured=True)


def record_live(connection: Connection, sizes: Mapping[int, tuple[int, int]]) -> None:
    """Remember live sizes: pack number -> (loss_no when the look began, plain bytes); stale looks are not recorded."""
    for pack_no, (loss_no, size) in sorted(sizes.items()):
        connection.execute(
            update(packs).where(packs.c.pack_no == pack_no, packs.c.loss_no == loss_no).values(live_plain_size=size)
        )


def uses_of(connection: Connection, pack_nos: Collection[int]) -> list[ContentUse]:
    """Return the contents that name any of these packs, newest first, each with all packs it names."""
    found: dict[str, set[int]] = {}
    for batch in batches(sorted(set(pack_nos))):
        rows = connection.execute(
            select(content_packs.c.content_id).distinct().where(content_packs.c.pack_no.in_(batch))
        )
        found.update((content_id, set()) for content_id in rows.scalars())
    created: dict[str, int] = {}
    for ids in batches(sorted(found)):
        for row in connection.execute(select(content_packs).where(content_packs.c.content_id.in_(ids))):
            found[row.content_id].add(row.pack_no)
        rows = connection.execute(
            select(contents.c.content_id, contents.c.created_at).where(contents.c.content_id.in_(ids))
        )
        created.update((row.content_id, row.created_at) for row in rows)
    uses = [
        ContentUse(ContentId(content_id), created.get(content_id, 0), frozenset(numbers))
        for content_id, numbers in found.items()
    ]
    return sorted(uses, key=lambda use: (-use.created_at, use.content_id))


def switch(connection: Connection, session_id: SessionId, moves: Sequence[Move]) -> int:
    """S1 to S3: close the session and switch rows that are still there, under the locks of their contents.

    Rows of contents that came meanwhile, and of those that went, are not touched. Old packs are condemned by nothing
    here: rule 8 sees for itself that no row names them.

    Returns: how many rows were switched.
    Raises: SessionFencedError, PackGoneError; both mean roll back.
    """
    if not close_session(connection, session_id):
        raise SessionFencedError(session_id)
    by_content: dict[ContentId, list[Move]] = {}
    for move in moves:
        by_content.setdefault(move.content_id, []).append(move)
    locked = [
        content_id
        for content_id in sorted(by_content)
        if connection.execute(
            update(contents)
            .where(contents.c.content_id == content_id, contents.c.state == "complete")
            .values(state="complete")
        ).rowcount
        == 1
    ]
    hold_packs(connection, {pack_no for move in moves for pack_no in move.new})
    # A check that found damage since the marking must not cost the good copy.
    damaged = _damaged(connection, {pack_no for move in moves for pack_no in (*move.new, *move.relied)})
    touched: set[int] = set()
    count = 0
    for content_id in locked:
        # A new statement, after the lock: nobody else changes these rows now.
        named = set(
            connection.execute(
                select(content_packs.c.pack_no).where(content_packs.c.content_id == content_id)
            ).scalars()
        )
        going: set[int] = set()
        coming: set[int] = set()
        for move in by_content[content_id]:
            if move.old is None:
                coming.update(move.new)
                touched |= named
            elif move.old in named and move.relied <= named and damaged.isdisjoint((*move.new, *move.relied)):
                going.add(move.old)
                coming.update(move.new)
                count += 1
        touched |= going
        for batch in batches(sorted(going)):
            connection.execute(
                delete(content_packs).where(
                    content_packs.c.content_id == content_id, content_packs.c.pack_no.in_(batch)
                )
            )
        for batch in batches(sorted(coming - named)):
            connection.execute(
                insert(content_packs), [{"content_id": content_id, "pack_no": pack_no} for pack_no in batch]
            )
    for batch in batches(sorted(touched)):
        connection.execute(
            update(packs).where(packs.c.pack_no.in_(batch)).values(live_plain_size=None, loss_no=packs.c.loss_no + 1)
        )
    return count


def _damaged(connection: Connection, pack_nos: Collection[int]) -> set[int]:
    found: set[int] = set()
    for batch in batches(sorted(pack_nos)):
        query = select(packs.c.pack_no).where(packs.c.pack_no.in_(batch), packs.c.damaged_at.is_not(None))
        found.update(connection.execute(query).scalars())
    return found


def newest_unsettled(connection: Connection, backend_id: int) -> list[ContentId]:
    """Return contents on a backend of active images without an active descendant, not looked at for locality yet."""
    rows = connection.execute(select(images.c.id, images.c.parent_id, images.c.status, images.c.content_id)).all()
    parents = {row.id: row.parent_id for row in rows}
    older: set[str] = set()
    for row in rows:
        # Through deleted ones too: a snapshot whose parent went still has its grandparent.
        parent = row.parent_id if row.status in STORED_STATUSES else None
        while parent is not None and parent not in older:
            older.add(parent)
            parent = parents.get(parent)
    newest = {row.content_id for row in rows if row.status in STORED_STATUSES and row.id not in older}
    todo = connection.execute(
        select(contents.c.content_id).where(
            contents.c.state == "complete",
            contents.c.settled_at.is_(None),
            or_(contents.c.backend_id == backend_id, contents.c.backend_id.is_(None)),
        )
    ).scalars()
    return [ContentId(content_id) for content_id in sorted(todo) if content_id in newest]


def settle(connection: Connection, content_id: ContentId) -> None:
    """Remember that the locality of a content was looked after."""
    connection.execute(
        update(contents).where(contents.c.content_id == content_id).values(settled_at=now_us(connection))
    )


__all__ = [
    "ContentUse",
    "Move",
    "measured",
    "named_packs",
    "newest_unsettled",
    "record_live",
    "settle",
    "switch",
    "unmeasured",
    "uses_of",
]
