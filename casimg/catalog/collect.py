"""Rules 8 (condemn) and 9 (sweep). Functions take the connection of a transaction."""

from collections.abc import Collection, Iterable
from enum import Enum

from sqlalchemy import Connection, select, update

from casimg.catalog.engine import now_us
from casimg.catalog.packs import lock_repo, next_change
from casimg.catalog.schema import content_packs, packs, repo, sessions
from casimg.catalog.sessions import oldest_open_epoch
from casimg.catalog.transaction import batches


class SweepVerdict(Enum):
    """What a sweep decided of a pack."""

    DELETING = "deleting"
    """The object may be removed now."""
    WAITS = "waits"
    """A session older than the condemnation is open, or the undo window is."""
    REVIVED = "revived"
    """A content names it again."""
    NOT_CONDEMNED = "not condemned"
    """It is live, already on its way out, or unknown."""


def condemn(connection: Connection, pack_nos: Collection[int]) -> tuple[int, list[int]]:
    """C2 to C5: bump the epoch, lock the candidates, drop the referenced in a new statement, stamp the rest.

    Returns: the new epoch and the packs condemned.
    """
    connection.execute(update(repo).values(epoch=repo.c.epoch + 1))
    epoch = int(connection.execute(select(repo.c.epoch)).scalar_one())
    condemned: list[int] = []
    for batch in batches(sorted(set(pack_nos))):
        # Packs alone: MariaDB would lock joined sessions too, which come earlier in the lock order.
        locked = connection.execute(
            select(packs.c.pack_no)
            .where(packs.c.pack_no.in_(batch), packs.c.state == "live")
            .order_by(packs.c.pack_no)
            .with_for_update()
        ).scalars()
        candidates = set(locked)
        # New statements: one UPDATE .. WHERE NOT EXISTS waits for a commit's lock and then uses its old snapshot.
        candidates -= set(_owned_by_open(connection, candidates))
        candidates -= set(_named(connection, candidates))
        free = sorted(candidates)
        if free:
            connection.execute(
                update(packs)
                .where(packs.c.pack_no.in_(free))
                .values(state="condemned", condemned_epoch=epoch, condemned_at=now_us(connection))
            )
        condemned += free
    return epoch, condemned


def _owned_by_open(connection: Connection, pack_nos: Collection[int]) -> Iterable[int]:
    return connection.execute(
        select(packs.c.pack_no)
        .join(sessions, sessions.c.session_id == packs.c.session_id)
        .where(packs.c.pack_no.in_(pack_nos), sessions.c.state == "open")
    ).scalars()


def _named(connection: Connection, pack_nos: Collection[int]) -> Iterable[int]:
    return connection.execute(
        select(content_packs.c.pack_no).distinct().where(content_packs.c.pack_no.in_(pack_nos))
    ).scalars()


def sweep(connection: Connection, pack_no: int, age_min_s: float) -> SweepVerdict:
    """D1 to D3: lock the pack, wait for older sessions, look at the rows again, then state `deleting`."""
    lock_repo(connection)
    row = connection.execute(
        select(packs.c.state, packs.c.condemned_epoch, packs.c.condemned_at)
        .where(packs.c.pack_no == pack_no)
        .with_for_update()
    ).first()
    if row is None or row.state != "condemned":
        return SweepVerdict.NOT_CONDEMNED
    oldest = oldest_open_epoch(connection)
    if oldest is not None and oldest < row.condemned_epoch:
        return SweepVerdict.WAITS
    if now_us(connection) - row.condemned_at < int(age_min_s * 1_000_000):
        return SweepVerdict.WAITS
    named = connection.execute(select(content_packs.c.pack_no).where(content_packs.c.pack_no == pack_no)).first()
    if named is not None:
        connection.execute(
            update(packs)
            .where(packs.c.pack_no == pack_no)
            .values(state="live", condemned_epoch=None, condemned_at=None)
        )
        return SweepVerdict.REVIVED
    connection.execute(
        update(packs).where(packs.c.pack_no == pack_no).values(state="deleting", change_no=next_change(connection))
    )
    return SweepVerdict.DELETING


def mark_deleted(connection: Connection, pack_no: int) -> None:
    """D4: the object is gone; the row stays as a tombstone, so its number is never used again."""
    connection.execute(
        update(packs).where(packs.c.pack_no == pack_no, packs.c.state == "deleting").values(state="deleted")
    )
