"""Sessions: rule 3 (open, live list), the heartbeat, rule 7 (fence), and rule 5 (packs of a session)."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from casimg.catalog import Catalog, SessionRow
from casimg.catalog.processes import UNKNOWN_START, is_gone, node_name, own_pid
from casimg.catalog.schema import sessions
from casimg.constants import KIND_DATA
from casimg.errors import CatalogDamagedError, SessionFencedError
from casimg.ids import PackId, SessionId, new_session_id
from tests.catalog_making import PACK_SIZE, Save, new_image, new_pack, save_image, states

HOUR_US = 3600 * 1_000_000


def change(catalog: Catalog, session_id: SessionId, **values: Any) -> None:
    catalog.transaction(
        lambda connection: connection.execute(
            update(sessions).where(sessions.c.session_id == session_id).values(**values)
        )
    )


def raw(catalog: Catalog, session_id: SessionId) -> Any:
    query = select(sessions).where(sessions.c.session_id == session_id)
    return catalog.transaction(lambda connection: connection.execute(query).one())


def fenced_ids(rows: list[SessionRow]) -> list[SessionId]:
    return [row.session_id for row in rows]


@pytest.fixture
def gone_pid() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("kind", ["ingest", "snapshot", "repack", "repair", "gc"])
def test_session_takes_the_current_epoch(catalog: Catalog, kind: str) -> None:
    """A new session is open, belongs to this process, and carries the epoch of the moment."""
    catalog.condemn([])
    row = catalog.open_session(kind)
    assert (row.state, row.kind, row.epoch, row.pid) == ("open", kind, 2, os.getpid())
    assert row.node == node_name()
    assert row.opened_at == row.heartbeat
    assert catalog.session(row.session_id) == row


def test_live_list_is_of_an_open_session_only(catalog: Catalog) -> None:
    """The live list has every live pack and no other; without an open session there is no list."""
    _, kept = save_image(catalog, pack_count=2)
    spare = Save(catalog)
    condemned = spare.add_packs()
    catalog.end_session(spare.session_id)
    assert catalog.condemn(condemned)[1] == condemned
    session = catalog.open_session("ingest").session_id
    rows = catalog.live_packs(session)
    assert [row.pack_no for row in rows] == kept
    assert {row.state for row in rows} == {"live"}
    catalog.end_session(session)
    for bad in (session, new_session_id()):
        with pytest.raises(SessionFencedError):
            catalog.live_packs(bad)


def test_live_list_may_be_empty(catalog: Catalog) -> None:
    """An open session of a new repository gets an empty list, not an error."""
    assert catalog.live_packs(catalog.open_session("ingest").session_id) == []


def test_heartbeat_counts_while_open(catalog: Catalog) -> None:
    """A beat is counted in an open session and refused in any other."""
    session = catalog.open_session("ingest").session_id
    change(catalog, session, heartbeat=1)
    catalog.heartbeat(session)
    row = raw(catalog, session)
    assert row.beats == 1
    assert row.heartbeat >= row.opened_at
    catalog.end_session(session)
    for bad in (session, new_session_id()):
        with pytest.raises(SessionFencedError):
            catalog.heartbeat(bad)
    assert raw(catalog, session).beats == 1


def test_end_is_idempotent_and_never_reopens(catalog: Catalog) -> None:
    """Ending closes once; a fenced session stays fenced and an unknown one is no error."""
    session = catalog.open_session("ingest").session_id
    catalog.end_session(session)
    catalog.end_session(session)
    assert catalog.session(session).state == "closed"
    change(catalog, session, state="fenced")
    catalog.end_session(session)
    assert catalog.session(session).state == "fenced"
    catalog.end_session(new_session_id())


def test_living_sessions_are_not_fenced(catalog: Catalog) -> None:
    """A session of a living process that beats is left alone, whatever epoch it has."""
    session = catalog.open_session("ingest").session_id
    assert catalog.fence_stale() == []
    assert catalog.session(session).state == "open"


def test_silent_and_old_sessions_are_fenced(catalog: Catalog) -> None:
    """A stale heartbeat or too great an age fences a session, whatever its process does."""
    silent, old, well = (catalog.open_session("ingest") for _ in range(3))
    now = raw(catalog, well.session_id).heartbeat
    change(catalog, silent.session_id, heartbeat=now - HOUR_US)
    change(catalog, old.session_id, opened_at=now - 24 * 8 * HOUR_US)
    assert sorted(fenced_ids(catalog.fence_stale())) == sorted([silent.session_id, old.session_id])
    assert [catalog.session(row.session_id).state for row in (silent, old, well)] == ["fenced", "fenced", "open"]
    assert catalog.fence_stale() == []


def test_session_of_a_gone_process_is_fenced_at_once(catalog: Catalog, gone_pid: int) -> None:
    """A process that ended on this host cannot beat again: its session need not grow stale."""
    session = catalog.open_session("ingest").session_id
    change(catalog, session, pid=gone_pid)
    assert fenced_ids(catalog.fence_stale()) == [session]


def test_reused_process_id_is_recognised(catalog: Catalog) -> None:
    """A process with the session's id but another start time is another process."""
    session = catalog.open_session("ingest").session_id
    change(catalog, session, pid_start=own_pid()[1] - 1)
    assert fenced_ids(catalog.fence_stale()) == [session]


def test_process_ids_of_other_nodes_mean_nothing(catalog: Catalog, gone_pid: int) -> None:
    """A session of another host, boot or container is judged by its heartbeat alone."""
    session = catalog.open_session("ingest").session_id
    change(catalog, session, pid=gone_pid, node="elsewhere/boot/1")
    assert catalog.fence_stale() == []
    assert catalog.session(session).state == "open"


def test_fenced_session_can_do_nothing(catalog: Catalog) -> None:
    """After the fence neither beat, pack, image nor commit comes through, and nothing of them stays."""
    save = Save(catalog)
    pack_nos = save.add_packs()
    change(catalog, save.session_id, state="fenced")
    for step in (
        lambda: catalog.heartbeat(save.session_id),
        save.add_packs,
        lambda: catalog.begin_image(save.session_id, new_image(), save.content_id, backend_id=1),
        lambda: catalog.note_content(save.session_id, save.image.id),
        lambda: save.commit(pack_nos),
        lambda: catalog.snapshot_row(save.session_id, save.image.id, new_image(), unique_name=False),
    ):
        with pytest.raises(SessionFencedError):
            step()
    assert catalog.images() == []
    assert len(catalog.all_packs(["live"])) == 1
    assert catalog.content_packs(save.content_id) == []
    assert catalog.session(save.session_id).state == "fenced"


def test_pack_is_entered_once(catalog: Catalog) -> None:
    """A pack whose answer was lost and is sent again gets its first number, and counts as one change."""
    session = catalog.open_session("ingest").session_id
    new = new_pack()
    pack_no = catalog.insert_pack(session, new)
    change_no = catalog.repo().change_no
    assert catalog.insert_pack(session, new) == pack_no
    assert catalog.repo().change_no == change_no == 1
    (row,) = catalog.packs([pack_no, 999])
    assert (row.pack_id, row.kind, row.size, row.trailer_offset) == (new.pack_id, KIND_DATA, PACK_SIZE, 900)
    assert (row.domain, row.plain_size, row.chunk_count, row.state) == (0, 4000, 4, "live")


def test_pack_of_another_session_is_refused(catalog: Catalog) -> None:
    """Two sessions with one pack id contradict each other: that is damage, and the first keeps the pack."""
    pack_id = PackId(bytes(32))
    first, second = (catalog.open_session("ingest").session_id for _ in range(2))
    pack_no = catalog.insert_pack(first, new_pack(pack_id))
    with pytest.raises(CatalogDamagedError, match=first):
        catalog.insert_pack(second, new_pack(pack_id))
    assert states(catalog, [pack_no]) == ["live"]


def test_every_change_of_packs_has_its_number(catalog: Catalog) -> None:
    """The change counter grows with each pack, so that a follower sees that it has something to ask."""
    save = Save(catalog)
    save.add_packs(3)
    assert catalog.repo().change_no == 3


def test_verified_packs_are_remembered(catalog: Catalog) -> None:
    """Marking a pack verified changes nothing else of it."""
    pack_no = Save(catalog).add_packs()[0]
    before = catalog.packs([pack_no])
    catalog.mark_verified(pack_no)
    assert catalog.packs([pack_no]) == before


def test_only_certain_absence_is_gone(gone_pid: int) -> None:
    """A process is gone when its id is free, a zombie's, or another's; never when it cannot be told."""
    pid, start = own_pid()
    assert not is_gone(pid, start)
    assert is_gone(pid, start + 1)
    assert not is_gone(pid, UNKNOWN_START)
    assert is_gone(gone_pid, 1)
    assert is_gone(gone_pid, UNKNOWN_START)


def test_zombies_are_gone() -> None:
    """A process that has ended and that nobody has waited for yet can do nothing any more."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    stat = Path(f"/proc/{child}/stat").read_text()
    start = int(stat.rpartition(")")[2].split()[19])
    try:
        assert is_gone(child, start)
    finally:
        os.waitpid(child, 0)
