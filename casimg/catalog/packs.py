"""Packs: rules 3 (live list), 5 (insert) and what others ask of them. Functions take a connection."""

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, insert, select, true, update

from casimg.catalog.engine import now_us
from casimg.catalog.rows import NewPack, PackRow
from casimg.catalog.schema import content_packs, packs, repo, sessions
from casimg.catalog.sessions import beat
from casimg.catalog.transaction import batches
from casimg.errors import CatalogDamagedError, PackGoneError, SessionFencedError
from casimg.ids import ContentId, PackId, SessionId

PACK_COLUMNS = (
    packs.c.pack_no,
    packs.c.backend_id,
    packs.c.pack_id,
    packs.c.kind,
    packs.c.domain,
    packs.c.size,
    packs.c.trailer_offset,
    packs.c.plain_size,
    packs.c.chunk_count,
    packs.c.state,
    packs.c.live_plain_size,
    packs.c.loss_no,
    packs.c.damaged_at,
)


def pack_row(row: Any) -> PackRow:
    return PackRow(
        pack_no=row.pack_no,
        backend_id=row.backend_id,
        pack_id=PackId(bytes(row.pack_id)),
        kind=row.kind,
        domain=row.domain,
        size=row.size,
        trailer_offset=row.trailer_offset,
        plain_size=row.plain_size,
        chunk_count=row.chunk_count,
        state=row.state,
        live_plain_size=row.live_plain_size,
        loss_no=row.loss_no,
        damaged=row.damaged_at is not None,
    )


def lies_on(backend_id: int | None) -> ColumnElement[bool]:
    """Return the condition that a pack lies on a backend; None is any."""
    return true() if backend_id is None else packs.c.backend_id == backend_id


def live_packs(connection: Connection, session_id: SessionId, backend_id: int | None = None) -> list[PackRow]:
    """L1: the live list, positive, joined with the session's own row; packs known to be damaged are not on it.

    Args:
        backend_id: of the packs asked for; None is any.

    Raises: SessionFencedError when the session is not open (or a lagging replica does not know it).
    """
    own = select(sessions.c.session_id).where(sessions.c.session_id == session_id, sessions.c.state == "open")
    found = connection.execute(
        select(*PACK_COLUMNS)
        .join(sessions, (sessions.c.session_id == session_id) & (sessions.c.state == "open"))
        .where(packs.c.state == "live", packs.c.damaged_at.is_(None), lies_on(backend_id))
    ).all()
    if not found and connection.execute(own).first() is None:
        raise SessionFencedError(session_id)
    return [pack_row(row) for row in found]


def insert_pack(connection: Connection, session_id: SessionId, new: NewPack) -> int:
    """I2: the session's beat is the guard; the same pack sent again by the same session is done already.

    Raises: SessionFencedError; CatalogDamagedError when the pack is another session's.
    """
    beat(connection, session_id)
    before = connection.execute(
        select(packs.c.pack_no, packs.c.session_id).where(
            packs.c.backend_id == new.backend_id, packs.c.pack_id == new.pack_id
        )
    ).first()
    if before is not None:
        if before.session_id != session_id:
            why = f"it belongs to session {before.session_id}, though ids are never used twice"
            raise CatalogDamagedError(f"pack {new.pack_id.hex()}", why)
        return int(before.pack_no)
    done = connection.execute(
        insert(packs).values(
            backend_id=new.backend_id,
            pack_id=new.pack_id,
            kind=new.kind,
            domain=new.domain,
            size=new.size,
            trailer_offset=new.trailer_offset,
            plain_size=new.plain_size,
            chunk_count=new.chunk_count,
            state="live",
            live_plain_size=new.plain_size,
            session_id=session_id,
            change_no=next_change(connection),
            created_at=now_us(connection),
        )
    )
    key = done.inserted_primary_key
    if key is None:
        raise RuntimeError("the database gave no number to the pack")
    return int(key[0])


def lock_repo(connection: Connection) -> int:
    """Take the `repo` row, which comes before packs in the lock order, and return the epoch."""
    return int(connection.execute(select(repo.c.epoch).with_for_update()).scalar_one())


def hold_packs(connection: Connection, pack_nos: Collection[int]) -> None:
    """K3: lock all packs, every one live or condemned, then revive the condemned. Raises: PackGoneError.

    Locked first, revived second: the other order refuses good commits on PostgreSQL.
    """
    missing = set(pack_nos)
    condemned: list[int] = []
    for batch in batches(sorted(missing)):
        found = connection.execute(
            select(packs.c.pack_no, packs.c.state)
            .where(packs.c.pack_no.in_(batch), packs.c.state.in_(["live", "condemned"]))
            .order_by(packs.c.pack_no)
            .with_for_update(read=True)
        ).all()
        missing.difference_update(row.pack_no for row in found)
        condemned += [row.pack_no for row in found if row.state == "condemned"]
    if missing:
        raise PackGoneError(sorted(missing))
    revive(connection, condemned)


def revive(connection: Connection, pack_nos: Collection[int]) -> None:
    """N2: take condemned packs back. Raises: PackGoneError when one is past that."""
    for batch in batches(sorted(set(pack_nos))):
        done = connection.execute(
            update(packs)
            .where(packs.c.pack_no.in_(batch), packs.c.state.in_(["live", "condemned"]))
            .values(state="live", condemned_epoch=None, condemned_at=None)
        )
        if done.rowcount != len(batch):
            raise PackGoneError(batch)


def next_change(connection: Connection) -> int:
    """Count a change of packs in the transaction that makes it: commits then have the order of the numbers."""
    connection.execute(update(repo).values(change_no=repo.c.change_no + 1))
    return int(connection.execute(select(repo.c.change_no)).scalar_one())


def packs_by_number(connection: Connection, pack_nos: Collection[int]) -> list[PackRow]:
    found: list[PackRow] = []
    for batch in batches(sorted(set(pack_nos))):
        rows = connection.execute(select(*PACK_COLUMNS).where(packs.c.pack_no.in_(batch)).order_by(packs.c.pack_no))
        found += [pack_row(row) for row in rows]
    return found


def packs_in(connection: Connection, states: Iterable[str], backend_id: int | None = None) -> list[PackRow]:
    wanted = select(*PACK_COLUMNS).where(packs.c.state.in_(list(states)), lies_on(backend_id))
    rows = connection.execute(wanted.order_by(packs.c.pack_no))
    return [pack_row(row) for row in rows]


def packs_of_content(connection: Connection, content_id: ContentId) -> list[PackRow]:
    rows = connection.execute(
        select(*PACK_COLUMNS)
        .join(content_packs, content_packs.c.pack_no == packs.c.pack_no)
        .where(content_packs.c.content_id == content_id)
        .order_by(packs.c.pack_no)
    )
    return [pack_row(row) for row in rows]


def unreferenced(connection: Connection, backend_id: int | None = None) -> list[PackRow]:
    """C1: candidates: live, no content names them, owner not open. A plain read: `condemn` decides again."""
    named = exists().where(content_packs.c.pack_no == packs.c.pack_no)
    rows = connection.execute(
        select(*PACK_COLUMNS)
        .join(sessions, sessions.c.session_id == packs.c.session_id)
        .where(packs.c.state == "live", sessions.c.state != "open", ~named, lies_on(backend_id))
        .order_by(packs.c.pack_no)
    )
    return [pack_row(row) for row in rows]


def named_only_by(
    connection: Connection, content_ids: Collection[ContentId], backend_id: int | None = None
) -> list[PackRow]:
    """Return live packs that these contents name and no other does; for plans."""
    wanted: dict[int, PackRow] = {}
    dead = set(content_ids)
    for batch in batches(sorted(dead)):
        rows = connection.execute(
            select(*PACK_COLUMNS)
            .distinct()
            .join(content_packs, content_packs.c.pack_no == packs.c.pack_no)
            .where(content_packs.c.content_id.in_(batch), packs.c.state == "live", lies_on(backend_id))
        )
        wanted.update((row.pack_no, pack_row(row)) for row in rows)
    for numbers in batches(sorted(wanted)):
        users = connection.execute(select(content_packs).where(content_packs.c.pack_no.in_(numbers)))
        for user in users:
            if user.content_id not in dead:
                wanted.pop(user.pack_no, None)
    return list(wanted.values())


def mark_verified(connection: Connection, pack_no: int) -> None:
    """Say that a pack was read whole and every byte is right: it may be relied on again if it was not."""
    connection.execute(
        update(packs).where(packs.c.pack_no == pack_no).values(verified_at=now_us(connection), damaged_at=None)
    )


def mark_damaged(connection: Connection, pack_no: int) -> None:
    """Say that a pack's object is missing or damaged: writers rely on it no more; nothing is deleted by this."""
    connection.execute(
        update(packs)
        .where(packs.c.pack_no == pack_no, packs.c.state.in_(["live", "condemned"]))
        .values(damaged_at=now_us(connection))
    )
