"""Turns of upkeep: one at a time, by the database's clock, taken over from the dead, never twice."""

import os
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, delete, update

from casimg.catalog import Catalog, upkeep
from casimg.catalog.processes import own_pid
from casimg.catalog.upkeep import GC, TURN_AGE_MAX_S
from casimg.catalog.upkeep_schema import upkeep as table
from casimg.errors import CatalogDamagedError

HOUR_S = 3600.0


def take(catalog: Catalog, *, every_s: float | None = None, pause_s: float = 0.0) -> str | None:
    """Try to begin a turn and return its id."""
    turn = secrets.token_hex(16)
    taken = catalog.transaction(partial(upkeep.take, kind=GC, turn=turn, every_s=every_s, pause_s=pause_s))
    return turn if taken else None


def end(catalog: Catalog, turn: str) -> bool:
    return catalog.transaction(partial(upkeep.end, kind=GC, turn=turn))


def row(catalog: Catalog) -> upkeep.UpkeepRow:
    return catalog.read(partial(upkeep.row, kind=GC))


def change(catalog: Catalog, **values: Any) -> None:
    """Change columns of the row behind everybody's back."""
    catalog.transaction(lambda connection: connection.execute(update(table).values(**values)))


def earlier(column: Any, seconds: float) -> Any:
    return column - int(seconds * 1_000_000)


def test_one_turn_at_a_time(catalog: Catalog) -> None:
    """A turn is free, then somebody's, who beats in it, then free again; an ended one neither beats nor ends."""
    turn = take(catalog)
    assert turn is not None
    assert take(catalog) is None
    found = row(catalog)
    assert (found.turn, found.begun_at) == (turn, found.begun_at)
    assert found.node is not None
    assert catalog.transaction(partial(upkeep.beat, kind=GC, turn=turn))
    assert end(catalog, turn)
    assert not end(catalog, turn)
    assert not catalog.transaction(partial(upkeep.beat, kind=GC, turn=turn))
    assert row(catalog).turn is None
    assert take(catalog) is not None


def test_of_many_one_has_the_turn(catalog: Catalog) -> None:
    """Eight that try at the same time, time after time: always one has it."""
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            taken = [turn for turn in pool.map(lambda _: take(catalog), range(8)) if turn is not None]
            assert len(taken) == 1
            assert end(catalog, taken[0])


def test_due_by_time(catalog: Catalog) -> None:
    """Without a run the schedule begins with the catalog, after that with the last one that was done."""
    assert take(catalog, every_s=HOUR_S) is None
    change(catalog, since_at=earlier(table.c.since_at, 2 * HOUR_S))
    turn = take(catalog, every_s=HOUR_S)
    assert turn is not None
    catalog.transaction(partial(upkeep.record, kind=GC, reason="time", report="{}"))
    end(catalog, turn)
    assert take(catalog, every_s=HOUR_S) is None
    change(catalog, done_at=earlier(table.c.done_at, HOUR_S))
    assert take(catalog, every_s=HOUR_S) is not None


def test_a_pause_after_every_end(catalog: Catalog) -> None:
    """After a run, done or failed, none begins before the pause is over; a failure does not count as done."""
    catalog.transaction(partial(upkeep.record_failure, kind=GC, failure="no room"))
    found = row(catalog)
    assert (found.done_at, found.failure) == (None, "no room")
    assert found.failed_at == found.ended_at
    assert take(catalog, pause_s=HOUR_S) is None
    change(catalog, ended_at=earlier(table.c.ended_at, HOUR_S))
    assert take(catalog, pause_s=HOUR_S) is not None


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_a_dead_turn_is_taken_over(catalog: Catalog, how: str) -> None:
    """A turn whose process is gone, or that was silent too long, is another's at once; any other is not."""
    turn = take(catalog)
    assert turn is not None
    if how == "gone":
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        assert take(catalog) is None
        change(catalog, pid=gone.pid)
    else:
        change(catalog, beat_at=earlier(table.c.beat_at, TURN_AGE_MAX_S - 60))
        assert take(catalog) is None
        change(catalog, beat_at=earlier(table.c.beat_at, 120))
    other = take(catalog)
    assert other is not None
    assert not end(catalog, turn)
    assert row(catalog).turn == other


def test_the_dead_of_other_machines_are_waited_for(catalog: Catalog) -> None:
    """A process id of another machine says nothing here: that turn ends by its silence alone."""
    assert take(catalog) is not None
    change(catalog, node="elsewhere/boot/1", pid=1 << 30, pid_start=1)
    assert take(catalog) is None


def test_a_process_with_a_used_id_is_gone(catalog: Catalog) -> None:
    """A process that has the id of a dead one, and began later, does not keep its turn."""
    assert take(catalog) is not None
    pid, start = own_pid()
    assert pid == os.getpid()
    change(catalog, pid_start=start - 1)
    assert take(catalog) is not None


def test_a_missing_row_is_damage(catalog: Catalog) -> None:
    """The row is made with its table: without it nothing can be taken, and asking says so."""

    def drop(connection: Connection) -> None:
        connection.execute(delete(table))

    catalog.transaction(drop)
    assert take(catalog) is None
    with pytest.raises(CatalogDamagedError):
        row(catalog)
