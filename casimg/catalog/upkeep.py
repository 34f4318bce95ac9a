"""Turns of what is done by itself, in SQL (docs/protocol.md, rules Z1 to Z3). Functions take a connection.

A turn keeps servers from doing the same at once, which would be safe and a waste: nothing else rests on it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, func, or_, select, update

from casimg.catalog.engine import now_us
from casimg.catalog.processes import is_gone, node_name, own_pid
from casimg.catalog.sessions import time_of
from casimg.catalog.upkeep_schema import upkeep
from casimg.errors import CatalogDamagedError

GC: Final = "gc"
"""The kind of turn in which a collection is done."""
TURN_AGE_MAX_S: Final = 900.0
"""A turn without a sign of life for so long is taken over."""


@dataclass(frozen=True, slots=True)
class UpkeepRow:
    """Whose turn it is, and what the last ones did; `now` is the database's clock."""

    now: datetime
    since_at: datetime
    turn: str | None
    node: str | None
    begun_at: datetime | None
    done_at: datetime | None
    reason: str | None
    report: str | None
    failed_at: datetime | None
    failure: str | None
    ended_at: datetime | None


def row(connection: Connection, kind: str) -> UpkeepRow:
    """Return the row of a kind. Raises: CatalogDamagedError when there is none."""
    found = connection.execute(select(upkeep).where(upkeep.c.kind == kind)).first()
    if found is None:
        raise CatalogDamagedError("upkeep", f"it has no row for {kind}")

    def time(micros: int | None) -> datetime | None:
        return None if micros is None else time_of(micros)

    return UpkeepRow(
        now=time_of(now_us(connection)),
        since_at=time_of(found.since_at),
        turn=found.turn,
        node=found.node,
        begun_at=time(found.begun_at),
        done_at=time(found.done_at),
        reason=found.reason,
        report=found.report,
        failed_at=time(found.failed_at),
        failure=found.failure,
        ended_at=time(found.ended_at),
    )


def take(connection: Connection, kind: str, turn: str, *, every_s: float | None, pause_s: float) -> bool:
    """Begin a turn of this process, when nobody else alive has one and it is due by the database's clock.

    Args:
        every_s: so long ago the last was done; None for a turn whose time does not matter.
        pause_s: so long ago the last ended, done or not.
    """
    now = now_us(connection)
    held = connection.execute(select(upkeep).where(upkeep.c.kind == kind)).first()
    if held is None:
        return False
    free = [upkeep.c.turn.is_(None), upkeep.c.beat_at < now - int(TURN_AGE_MAX_S * 1_000_000)]
    if held.turn is not None and held.node == node_name() and is_gone(held.pid, held.pid_start):
        free.append(upkeep.c.turn == held.turn)
    due = [or_(upkeep.c.ended_at.is_(None), upkeep.c.ended_at <= now - int(pause_s * 1_000_000))]
    if every_s is not None:
        due.append(func.coalesce(upkeep.c.done_at, upkeep.c.since_at) <= now - int(every_s * 1_000_000))
    pid, pid_start = own_pid()
    done = connection.execute(
        update(upkeep)
        .where(upkeep.c.kind == kind, or_(*free), and_(*due))
        .values(turn=turn, node=node_name(), pid=pid, pid_start=pid_start, begun_at=now, beat_at=now)
    )
    return bool(done.rowcount == 1)


def beat(connection: Connection, kind: str, turn: str) -> bool:
    """Say that a turn goes on; False when another took it over."""
    done = connection.execute(
        update(upkeep).where(upkeep.c.kind == kind, upkeep.c.turn == turn).values(beat_at=now_us(connection))
    )
    return bool(done.rowcount == 1)


def record(connection: Connection, kind: str, reason: str, report: str) -> None:
    """Remember what was done just now, in a turn or without one."""
    now = now_us(connection)
    connection.execute(
        update(upkeep).where(upkeep.c.kind == kind).values(done_at=now, ended_at=now, reason=reason, report=report)
    )


def record_failure(connection: Connection, kind: str, failure: str) -> None:
    """Remember that it was tried just now, and why it was not done."""
    now = now_us(connection)
    connection.execute(update(upkeep).where(upkeep.c.kind == kind).values(failed_at=now, ended_at=now, failure=failure))


def end(connection: Connection, kind: str, turn: str) -> bool:
    """Give a turn back; False when it was another's by then."""
    done = connection.execute(
        update(upkeep)
        .where(upkeep.c.kind == kind, upkeep.c.turn == turn)
        .values(turn=None, node=None, pid=None, pid_start=None, begun_at=None, beat_at=None)
    )
    return bool(done.rowcount == 1)
