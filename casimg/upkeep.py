"""What is done for a repository by itself: collections, by schedule and when room becomes scarce, one at a time.

Servers look now and then whether one is due and take a turn in the catalog; who has the turn collects. A turn of a
process that is gone, or silent for long, is taken over. Two collections at once would be safe; turns only save work.
"""

import contextlib
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from casimg.backend.base import space_of
from casimg.catalog import upkeep as sql
from casimg.catalog.upkeep import GC, UpkeepRow
from casimg.errors import CancelledError, CasimgError
from casimg.gc.plan import collect
from casimg.progress import Progress
from casimg.results.upkeep import FreeSpace, GcReport, GcRun, Session, UpkeepState
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.upkeep")
T = TypeVar("T")
_BEAT_EVERY_S: Final = 60.0
_FAILURE_SIZE_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class GcRules:
    """When a collection is due.

    Attributes:
        every_s: seconds after the last one; None for no schedule.
        free_size_min, free_share_min: bytes, or share from 0 to 1, of a backend's room; with less free it is due.
        pause_s: so long after the last one, done or not, none is due for any reason.
    """

    every_s: float | None = None
    free_size_min: int | None = None
    free_share_min: float | None = None
    pause_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Turn:
    """A collection that is due, and who is to do it has this."""

    turn_id: str
    reason: str


class Upkeep:
    """The upkeep of an open repository; `Repository.upkeep` gives it. Threads: any.

    Every method raises CatalogBusyError, NoSpaceError and CatalogDamagedError for what the database refuses.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def state(self, rules: GcRules | None = None) -> UpkeepState:
        """Return what was done last, what is being done, how much room there is and, by the rules, what is next."""
        row = self._row()
        next_at = None
        if rules is not None and rules.every_s is not None:
            next_at = (row.done_at or row.since_at) + timedelta(seconds=rules.every_s)
            if row.ended_at is not None:
                next_at = max(next_at, row.ended_at + timedelta(seconds=rules.pause_s))
        last = None
        if row.done_at is not None and row.report is not None:
            last = GcRun(row.reason or "", row.done_at, _report_of(row.report))
        since = row.begun_at if row.turn is not None else None
        spaces = tuple(self._spaces())
        return UpkeepState(last, since, row.node, row.failed_at, row.failure, next_at, spaces)

    def take_turn(self, rules: GcRules) -> Turn | None:
        """Return a turn to collect, None when nothing is due or somebody is at it. Cost: a read, when nothing is."""
        row = self._row()
        reason, every_s = self._why(row, rules)
        if reason is None:
            return None
        turn = Turn(secrets.token_hex(16), reason)
        taken = self._write(partial(sql.take, kind=GC, turn=turn.turn_id, every_s=every_s, pause_s=rules.pause_s))
        return turn if taken else None

    def collect(self, turn: Turn, cancel: threading.Event | None = None) -> GcReport:
        """Collect in a turn, which ends with it, and remember what was done.

        Args:
            cancel: when set by another thread, what is being done is given up; the next collection does it.
        Raises: CancelledError, also when the turn was taken over; and as `CollectionPlan.execute`.
        """
        beat_at_s = time.monotonic()

        def tell(_progress: Progress) -> None:
            nonlocal beat_at_s
            if cancel is not None and cancel.is_set():
                raise CancelledError("the collection")
            if time.monotonic() - beat_at_s >= _BEAT_EVERY_S:
                beat_at_s = time.monotonic()
                if not self._write(partial(sql.beat, kind=GC, turn=turn.turn_id)):
                    raise CancelledError("the collection, whose turn was taken over,")

        _log.info("upkeep.gc_begun reason=%s turn=%s", turn.reason, turn.turn_id)
        try:
            report = collect(self._wiring, progress=tell, reason=turn.reason)
        except CancelledError:
            _log.info("upkeep.gc_stopped turn=%s", turn.turn_id)
            self.end_turn(turn)
            raise
        except CasimgError as error:
            self.fail_turn(turn, str(error))
            raise
        self.end_turn(turn)
        told = " ".join(f"{name}={value!r}" for name, value in asdict(report).items() if value)
        _log.info("upkeep.gc_done turn=%s %s", turn.turn_id, told)
        return report

    def end_turn(self, turn: Turn) -> bool:
        """Give a turn back; False when it had ended."""
        return self._write(partial(sql.end, kind=GC, turn=turn.turn_id))

    def fail_turn(self, turn: Turn, why: str) -> None:
        """Give a turn back and remember why nothing was done; nothing when it had ended."""

        def work(connection: Connection) -> bool:
            ended = sql.end(connection, GC, turn.turn_id)
            if ended:
                text = why[:_FAILURE_SIZE_MAX].encode(errors="replace").decode().replace("\0", "?")
                sql.record_failure(connection, GC, text)
            return ended

        if self._write(work):
            _log.warning("upkeep.gc_failed turn=%s why=%s", turn.turn_id, why)

    def _why(self, row: UpkeepRow, rules: GcRules) -> tuple[str | None, float | None]:
        """Return for what reason a collection is due, and how long the last must be over for that."""
        if row.ended_at is not None and row.ended_at + timedelta(seconds=rules.pause_s) > row.now:
            return None, None
        if rules.every_s is not None:
            base = row.done_at or row.since_at
            if base + timedelta(seconds=rules.every_s) <= row.now:
                return "time", rules.every_s
        for space in self._spaces(spool=False):
            if space.free_size < max(rules.free_size_min or 0, int((rules.free_share_min or 0.0) * space.total_size)):
                return "space", None
        return None, None

    def _spaces(self, *, spool: bool = True) -> list[FreeSpace]:
        found = []
        for peer in self._wiring.peers:
            space = None
            with contextlib.suppress(CasimgError):  # not there now
                space = space_of(peer.backend)
            if space is not None:
                found.append(FreeSpace(peer.backend.name, space.total_size, space.free_size))
        if spool:
            stat = os.statvfs(self._wiring.spool)
            found.append(FreeSpace("spool", stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
        return found

    def _row(self) -> UpkeepRow:
        self._wiring.check_open()
        return self._wiring.catalog.read(partial(sql.row, kind=GC))

    def _write(self, work: Callable[[Connection], T]) -> T:
        """Run a transaction, with the reserve when the disk is full."""
        self._wiring.check_open()
        return self._wiring.reserve.spend(lambda: self._wiring.catalog.transaction(work))


def sessions(wiring: Wiring, *, ended: bool) -> list[Session]:
    """Return who writes, oldest first; with `ended`, also closed and fenced sessions."""
    return [
        Session(row.session_id, row.kind, row.state, row.node, row.pid, row.opened_at, row.heartbeat)
        for row in wiring.catalog.sessions(ended=ended)
    ]


def _report_of(text: str) -> GcReport:
    """Return a report as an older or newer version may have written it."""
    found: dict[str, Any] = json.loads(text)
    known = {field.name for field in fields(GcReport)}
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return GcReport(**{name: value for name, value in values.items() if name in known})
