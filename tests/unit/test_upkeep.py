"""Upkeep of an open repository: when a collection is due, what it tells, how it stops."""

import json
import threading
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import Connection, update

from casimg import upkeep
from casimg.backend.base import Space
from casimg.backend.local import LocalBackend
from casimg.catalog import upkeep as sql
from casimg.catalog.upkeep import GC
from casimg.catalog.upkeep_schema import upkeep as table
from casimg.errors import BackendUnavailableError, CancelledError
from casimg.repository import Repository
from casimg.results.upkeep import GcReport
from casimg.upkeep import GcRules

ALWAYS = GcRules(every_s=0.0, pause_s=0.0)
HOUR_S = 3600.0


def fill(repo: Repository) -> None:
    """Leave something to collect."""
    for name in ("kept", "gone"):
        repo.put([name.encode() * 50_000], name=name)
    repo.delete("gone")


def shift(repo: Repository, seconds: float) -> None:
    """Let time pass since what was done last."""
    micros = int(seconds * 1_000_000)

    def work(connection: Connection) -> None:
        values = {name: table.c[name] - micros for name in ("since_at", "done_at", "ended_at", "failed_at")}
        connection.execute(update(table).values(**values))

    repo._wiring.catalog.transaction(work)


def test_a_collection_that_is_due_is_done_and_told(repo: Repository) -> None:
    """Who has the turn collects; the report, the reason and the time are there for others, and so is what is next."""
    fill(repo)
    kept = repo.upkeep()
    rules = GcRules(every_s=HOUR_S, pause_s=0.0)
    assert kept.take_turn(rules) is None
    assert kept.state(rules).last_gc is None
    shift(repo, HOUR_S)
    turn = kept.take_turn(rules)
    assert turn is not None
    assert turn.reason == "time"
    assert kept.state().running_since is not None
    assert kept.take_turn(rules) is None
    report = kept.collect(turn)
    assert report.content_count == 1
    state = kept.state(rules)
    assert state.last_gc is not None
    assert (state.last_gc.reason, state.last_gc.report) == ("time", report)
    assert (state.running_since, state.running_on, state.failure) == (None, None, None)
    assert state.next_gc_at == state.last_gc.done_at + timedelta(seconds=HOUR_S)
    assert kept.take_turn(rules) is None


def test_what_is_asked_for_counts_too(repo: Repository) -> None:
    """`casimg gc` is told as the last one, and the schedule goes on from there."""
    fill(repo)
    shift(repo, 2 * HOUR_S)
    report = repo.plan_gc().execute()
    state = repo.upkeep().state()
    assert state.last_gc is not None
    assert (state.last_gc.reason, state.last_gc.report) == ("asked", report)
    assert repo.upkeep().take_turn(GcRules(every_s=HOUR_S, pause_s=0.0)) is None


@pytest.mark.parametrize(
    ("rules", "due"),
    [
        (GcRules(free_size_min=101, pause_s=0.0), True),
        (GcRules(free_size_min=100, pause_s=0.0), False),
        (GcRules(free_share_min=0.11, pause_s=0.0), True),
        (GcRules(free_share_min=0.1, pause_s=0.0), False),
        (GcRules(pause_s=0.0), False),
    ],
)
def test_due_by_space(repo: Repository, monkeypatch: pytest.MonkeyPatch, rules: GcRules, due: bool) -> None:
    """With less free than the rules want, in bytes or as a share, and only then."""
    monkeypatch.setattr(LocalBackend, "space", lambda _: Space(1000, 100))
    turn = repo.upkeep().take_turn(rules)
    assert (turn is not None) == due
    assert turn is None or turn.reason == "space"


def test_a_pause_whatever_the_reason(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scarce room does not make collections follow each other without a pause."""
    monkeypatch.setattr(LocalBackend, "space", lambda _: Space(1000, 0))
    rules = GcRules(free_size_min=1, pause_s=HOUR_S)
    turn = repo.upkeep().take_turn(rules)
    assert turn is not None
    repo.upkeep().collect(turn)
    assert repo.upkeep().take_turn(rules) is None
    shift(repo, HOUR_S)
    assert repo.upkeep().take_turn(rules) is not None


def test_a_cancelled_one_is_given_up(repo: Repository) -> None:
    """When cancelled it stops at the next step, is neither done nor failed, and the next one may begin."""
    fill(repo)
    turn = repo.upkeep().take_turn(ALWAYS)
    assert turn is not None
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        repo.upkeep().collect(turn, cancel)
    state = repo.upkeep().state()
    assert (state.last_gc, state.failure, state.running_since) == (None, None, None)
    again = repo.upkeep().take_turn(ALWAYS)
    assert again is not None
    repo.upkeep().collect(again)
    assert repo.check(read_data=True).problems == ()


def test_who_lost_the_turn_stops(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was taken over stops at its next sign of life, and does not end the other's turn."""
    monkeypatch.setattr(upkeep, "_BEAT_EVERY_S", 0.0)
    fill(repo)
    turn = repo.upkeep().take_turn(ALWAYS)
    assert turn is not None
    other = "f" * 32
    repo._wiring.catalog.transaction(lambda connection: connection.execute(update(table).values(turn=other)))
    with pytest.raises(CancelledError, match="taken over"):
        repo.upkeep().collect(turn)
    assert repo._wiring.catalog.read(partial(sql.row, kind=GC)).turn == other


def test_a_failure_is_told(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a collection failed with is there for others, its turn is over, and it is tried again after the pause."""
    fill(repo)

    def refuse(*_: object) -> None:
        raise BackendUnavailableError("local", "the cable\0 is out")

    turn = repo.upkeep().take_turn(ALWAYS)
    assert turn is not None
    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "list", refuse)
        with pytest.raises(BackendUnavailableError):
            repo.upkeep().collect(turn)
    state = repo.upkeep().state()
    assert state.failure is not None
    assert "the cable? is out" in state.failure
    assert state.last_gc is None
    assert repo.upkeep().take_turn(GcRules(every_s=0.0, pause_s=HOUR_S)) is None
    again = repo.upkeep().take_turn(ALWAYS)
    assert again is not None
    repo.upkeep().fail_turn(turn, "late")
    assert repo.upkeep().state().running_since is not None


def test_reports_of_other_versions_are_read(repo: Repository) -> None:
    """What a newer version tells besides is left out, what an older one did not tell has its default."""
    report = json.dumps({"size": 5, "repack_failed": ["a pack"], "something_new": {"a": 1}})
    repo._wiring.catalog.transaction(partial(sql.record, kind=GC, reason="time", report=report))
    last = repo.upkeep().state().last_gc
    assert last is not None
    assert last.report == GcReport(size=5, repack_failed=("a pack",))


def test_room_is_told(repo: Repository) -> None:
    """The state says how much is free where objects and spool lie."""
    spaces = repo.upkeep().state().spaces
    assert [space.name for space in spaces] == ["local", "spool"]
    assert all(0 < space.free_size <= space.total_size for space in spaces)
