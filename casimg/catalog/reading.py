"""Readers: the rows a read goes by (rule R) and leases, which keep what is read a while. Functions take a connection.

A lease is kindness: it lets a read that has begun end although its image was deleted. Nothing relies on it, so clocks
may decide when it is over.
"""

from collections.abc import Collection

from sqlalchemy import Connection, delete, insert, or_, select, update

from casimg.catalog.engine import now_us
from casimg.catalog.image_rows import is_stored
from casimg.catalog.packs import PACK_COLUMNS, pack_row
from casimg.catalog.processes import is_gone, node_name, own_pid
from casimg.catalog.rows import PackRow
from casimg.catalog.schema import content_packs, contents, image_copies, images, leases, packs
from casimg.catalog.transaction import batches
from casimg.ids import ContentId


def packs_to_read(connection: Connection, content_id: ContentId) -> list[PackRow] | None:
    """Return the packs of a complete content, by number; None when it is gone. One statement: a repack moves rows."""
    rows = connection.execute(
        select(*PACK_COLUMNS)
        .select_from(contents)
        .outerjoin(content_packs, content_packs.c.content_id == contents.c.content_id)
        .outerjoin(packs, packs.c.pack_no == content_packs.c.pack_no)
        .where(contents.c.content_id == content_id, contents.c.state == "complete")
        .order_by(packs.c.pack_no)
    ).all()
    if not rows:
        return None
    return [pack_row(row) for row in rows if row.pack_no is not None]


def is_named(connection: Connection, content_id: ContentId) -> bool:
    """Tell whether a stored image points to a content."""
    copied = select(image_copies.c.image_id).where(image_copies.c.content_id == content_id)
    named = or_(images.c.content_id == content_id, images.c.id.in_(copied))
    query = select(images.c.id).where(named, is_stored())
    return connection.execute(query).first() is not None


def take_lease(connection: Connection, lease_id: str, content_id: ContentId, duration_s: float) -> bool:
    """RL: lock the content by a counted update, then insert the lease; False when the content is gone."""
    held = connection.execute(
        update(contents)
        .where(contents.c.content_id == content_id, contents.c.state == "complete")
        .values(state="complete")
    )
    if held.rowcount != 1:
        return False
    pid, pid_start = own_pid()
    connection.execute(
        insert(leases).values(
            lease_id=lease_id,
            content_id=content_id,
            node=node_name(),
            pid=pid,
            pid_start=pid_start,
            expires_at=now_us(connection) + int(duration_s * 1_000_000),
        )
    )
    return True


def renew_lease(connection: Connection, lease_id: str, duration_s: float) -> bool:
    """Move the end of a lease; False when it was dropped."""
    done = connection.execute(
        update(leases)
        .where(leases.c.lease_id == lease_id)
        .values(expires_at=now_us(connection) + int(duration_s * 1_000_000))
    )
    return bool(done.rowcount == 1)


def drop_lease(connection: Connection, lease_id: str) -> None:
    """End a lease; again is harmless."""
    connection.execute(delete(leases).where(leases.c.lease_id == lease_id))


def drop_ended_leases(connection: Connection, ended: Collection[str] = ()) -> int:
    """Drop leases that expired, whose process on this host is certainly gone, or that are `ended`; returns how many."""
    count = connection.execute(delete(leases).where(leases.c.expires_at < now_us(connection))).rowcount
    own = connection.execute(select(leases).where(leases.c.node == node_name())).all()
    gone = {row.lease_id for row in own if is_gone(row.pid, row.pid_start)}
    for batch in batches(sorted(gone.union(ended))):
        count += connection.execute(delete(leases).where(leases.c.lease_id.in_(batch))).rowcount
    return int(count)


def is_leased(connection: Connection, content_id: ContentId) -> bool:
    """Tell whether an unexpired lease is on a content; asked under the content's lock."""
    query = select(leases.c.lease_id).where(
        leases.c.content_id == content_id, leases.c.expires_at >= now_us(connection)
    )
    return connection.execute(query).first() is not None


def lease_count(connection: Connection, content_ids: Collection[ContentId]) -> int:
    """Return how many unexpired leases are on these contents."""
    now = now_us(connection)
    return sum(
        len(
            connection.execute(
                select(leases.c.lease_id).where(leases.c.content_id.in_(batch), leases.c.expires_at >= now)
            ).all()
        )
        for batch in batches(sorted(content_ids))
    )
