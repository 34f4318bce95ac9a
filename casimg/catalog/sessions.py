"""Sessions: rules 3 (open), 7 (fence) and the heartbeat. Functions take the connection of a transaction."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, literal, or_, select, update

from casimg.catalog.engine import now_us
from casimg.catalog.processes import is_gone, node_name, own_pid
from casimg.catalog.rows import SessionRow
from casimg.catalog.schema import repo, sessions
from casimg.errors import CatalogReplacedError, SessionFencedError
from casimg.ids import SessionId


def time_of(micros: int) -> datetime:
    """Return the aware time of a column."""
    return datetime.fromtimestamp(micros / 1_000_000, UTC)


def micros_of(time: datetime) -> int:
    """Return the column of an aware time, exactly."""
    return (time - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def session_row(row: Row[Any]) -> SessionRow:
    return SessionRow(
        session_id=SessionId(row.session_id),
        kind=row.kind,
        node=row.node,
        pid=row.pid,
        state=row.state,
        epoch=row.epoch,
        heartbeat=time_of(row.heartbeat),
        opened_at=time_of(row.opened_at),
    )


def open_session(connection: Connection, session_id: SessionId, kind: str) -> None:
    """W1: insert the session with the current epoch, read in the same statement. Raises: CatalogReplacedError."""
    now = now_us(connection)
    pid, pid_start = own_pid()
    columns = ("session_id", "kind", "node", "pid", "pid_start", "state", "epoch", "beats", "heartbeat", "opened_at")
    connection.execute(
        insert(sessions).from_select(
            columns,
            select(
                literal(session_id),
                literal(kind),
                literal(node_name()),
                literal(pid),
                literal(pid_start),
                literal("open"),
                repo.c.epoch,
                literal(0),
                literal(now),
                literal(now),
            ),
        )
    )
    # Asked, not counted: on PostgreSQL SQLAlchemy counts no INSERT.
    if connection.execute(select(sessions.c.epoch).where(sessions.c.session_id == session_id)).first() is None:
        raise CatalogReplacedError()


def beat(connection: Connection, session_id: SessionId) -> None:
    """H: a counted update, which is also the guard of other steps. Raises: SessionFencedError."""
    done = connection.execute(
        update(sessions)
        .where(sessions.c.session_id == session_id, sessions.c.state == "open")
        .values(beats=sessions.c.beats + 1, heartbeat=now_us(connection))
    )
    if done.rowcount != 1:
        raise SessionFencedError(session_id)


def close_session(connection: Connection, session_id: SessionId) -> bool:
    """K1, S1: open -> closed; False when the session was not open."""
    done = connection.execute(
        update(sessions)
        .where(sessions.c.session_id == session_id, sessions.c.state == "open")
        .values(state="closed", heartbeat=now_us(connection))
    )
    return bool(done.rowcount == 1)


def fence_stale(connection: Connection, heartbeat_age_s: float, age_max_s: float) -> list[SessionRow]:
    """F: fence sessions without a heartbeat, of processes gone on this host, or too old; by the database's clock."""
    now = now_us(connection)
    rows = connection.execute(select(sessions).where(sessions.c.state == "open")).all()
    fenced = []
    for row in rows:
        gone = row.node == node_name() and is_gone(row.pid, row.pid_start)
        # The clock conditions are decided by the update itself; a process that is gone cannot beat again.
        late = or_(
            sessions.c.heartbeat < now - int(heartbeat_age_s * 1_000_000),
            sessions.c.opened_at < now - int(age_max_s * 1_000_000),
        )
        done = connection.execute(
            update(sessions)
            .where(
                and_(
                    sessions.c.session_id == row.session_id,
                    sessions.c.state == "open",
                    literal(True) if gone else late,
                )
            )
            .values(state="fenced")
        )
        if done.rowcount == 1:
            fenced.append(session_row(row))
    return fenced


def oldest_open_epoch(connection: Connection) -> int | None:
    """Return the smallest epoch of an open session."""
    found: int | None = connection.execute(
        select(func.min(sessions.c.epoch)).where(sessions.c.state == "open")
    ).scalar_one()
    return found
