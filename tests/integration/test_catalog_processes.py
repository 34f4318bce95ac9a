"""Several threads and processes on one catalog: races that must have one outcome, and processes killed half way.

Each race runs some rounds from a barrier; whatever order the database chooses, the promise holds. Run with
`CASIMG_TEST_CATALOG_SERVER` they meet real row locks instead of SQLite's one writer.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from casimg.catalog import Catalog, ImageRow, SweepVerdict, collect, images, sessions
from casimg.catalog.schema import sessions as sessions_table
from casimg.errors import ImageNotFoundError, NameTakenError, PackGoneError, SessionFencedError
from casimg.ids import SessionId
from tests.catalog_making import Save, database_url, new_image, new_pack, remove_image, save_image, states

ROUND_COUNT = 8
_spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with database_url(tmp_path) as given:
        Catalog.create(given, "uuid-of-test", "main", "local").close()
        yield given


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    opened = Catalog.open(url)
    yield opened
    opened.close()


@dataclass
class Racer:
    """A step that starts with the others, and how it ended."""

    step: Callable[[], object]
    result: object = None
    error: BaseException | None = None

    def run(self, barrier: threading.Barrier) -> None:
        barrier.wait()
        try:
            self.result = self.step()
        except Exception as error:
            self.error = error


def race(*steps: Callable[[], object]) -> list[Racer]:
    """Run the steps in threads that leave one barrier together."""
    barrier = threading.Barrier(len(steps))
    racers = [Racer(step) for step in steps]
    threads = [threading.Thread(target=racer.run, args=(barrier,)) for racer in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return racers


def lagging(catalog: Catalog, number: int, step: Callable[[], object]) -> Callable[[], object]:
    """Give the step a lag of some plain reads, so that over the rounds either side comes first."""

    def run() -> object:
        for _ in range(4 * number * number):
            catalog.repo()
        return step()

    return run


# Races


def test_commit_against_condemn_and_sweep(catalog: Catalog) -> None:
    """A session that relies on a pack it saw live is never refused for it, whatever a collection does meanwhile."""
    for _ in range(ROUND_COUNT):
        left = Save(catalog)
        (pack_no,) = left.add_packs()
        catalog.end_session(left.session_id)
        save = Save(catalog)
        assert pack_no in {row.pack_no for row in catalog.live_packs(save.session_id)}

        def collection(pack_no: int = pack_no) -> SweepVerdict:
            catalog.condemn([pack_no])
            return catalog.sweep(pack_no)

        commit, collected = race(partial(save.commit, [pack_no]), collection)
        assert commit.error is None
        assert collected.error is None
        assert collected.result in (SweepVerdict.WAITS, SweepVerdict.NOT_CONDEMNED)
        assert states(catalog, [pack_no]) == ["live"]
        assert catalog.sweep(pack_no) is SweepVerdict.NOT_CONDEMNED


def test_late_commit_against_sweep(catalog: Catalog) -> None:
    """A session younger than the condemnation either revives the pack or is refused: never a deleted pack in use."""
    for number in range(ROUND_COUNT):
        left = Save(catalog)
        (pack_no,) = left.add_packs()
        catalog.end_session(left.session_id)
        catalog.condemn([pack_no])
        save = Save(catalog)
        commit, swept = race(partial(save.commit, [pack_no]), lagging(catalog, number, partial(catalog.sweep, pack_no)))
        assert swept.error is None
        if commit.error is None:
            assert swept.result in (SweepVerdict.NOT_CONDEMNED, SweepVerdict.REVIVED)
            assert states(catalog, [pack_no]) == ["live"]
        else:
            assert isinstance(commit.error, PackGoneError)
            assert swept.result is SweepVerdict.DELETING
            assert catalog.content_packs(save.content_id) == []
            catalog.end_session(save.session_id)


def test_two_commits_of_one_name(catalog: Catalog) -> None:
    """Of commits that each want a name alone exactly one gets it, and the others leave nothing."""
    for number in range(ROUND_COUNT):
        saves = [Save(catalog, new_image(f"name-{number}")) for _ in range(3)]
        racers = race(*(partial(save.commit, save.add_packs(), unique_name=True) for save in saves))
        lost = [racer.error for racer in racers if racer.error is not None]
        assert [type(error) for error in lost] == [NameTakenError, NameTakenError]
        assert len(catalog.images(name=f"name-{number}")) == 1
        for save in saves:
            catalog.end_session(save.session_id)


def test_fence_against_commit(catalog: Catalog) -> None:
    """Either the fence or the commit has the session; a fenced session has no image."""
    for number in range(ROUND_COUNT):
        save = Save(catalog)
        pack_nos = save.add_packs()
        make_stale(catalog, save.session_id)
        commit, fence = race(partial(save.commit, pack_nos), lagging(catalog, number, catalog.fence_stale))
        assert fence.error is None
        status = catalog.image(save.image.id).status
        if commit.error is None:
            assert fence.result == []
            assert (status, catalog.session(save.session_id).state) == ("active", "closed")
        else:
            assert isinstance(commit.error, SessionFencedError)
            assert (status, catalog.session(save.session_id).state) == ("saving", "fenced")
            assert catalog.content_packs(save.content_id) == []


def test_snapshot_against_delete_and_reap(catalog: Catalog) -> None:
    """A snapshot of a stored image either keeps the content with all its packs or is refused."""
    for number in range(ROUND_COUNT):
        parent, pack_nos = save_image(catalog, pack_count=2)
        session = catalog.open_session("snapshot").session_id
        new = new_image("snap", parent_id=parent.id)
        snapshot, removal = race(
            partial(catalog.snapshot_row, session, parent.id, new, unique_name=False),
            lagging(catalog, number, partial(remove_image, catalog, parent)),
        )
        assert removal.error is None
        assert parent.content_id is not None
        named = [row.pack_no for row in catalog.content_packs(parent.content_id)]
        if snapshot.error is None:
            assert named == pack_nos
            assert catalog.content(parent.content_id).state == "complete"
            assert catalog.condemn(pack_nos)[1] == []
        else:
            assert isinstance(snapshot.error, ImageNotFoundError)
            assert named == []
            assert not [image for image in catalog.images(include_deleted=True) if image.id == new.id]
        catalog.end_session(session)


def test_note_against_delete_and_reap(catalog: Catalog) -> None:
    """A note has all packs of the parent or says that it is gone; it is never short, and what it has is held."""

    def collection(parent: ImageRow, pack_nos: list[int]) -> None:
        remove_image(catalog, parent)
        catalog.condemn(pack_nos)
        for pack_no in pack_nos:
            catalog.sweep(pack_no)

    for number in range(ROUND_COUNT):
        parent, pack_nos = save_image(catalog, pack_count=3)
        save = Save(catalog)

        note, collected = race(
            partial(catalog.note_content, save.session_id, parent.id),
            lagging(catalog, number, partial(collection, parent, pack_nos)),
        )
        assert collected.error is None
        if note.error is None:
            assert isinstance(note.result, list)
            assert [row.pack_no for row in note.result] == pack_nos
            assert save.commit(pack_nos).status == "active"
            assert set(states(catalog, pack_nos)) == {"live"}
        else:
            assert isinstance(note.error, ImageNotFoundError)
            catalog.end_session(save.session_id)


def test_insert_sent_twice_at_once(catalog: Catalog) -> None:
    """A pack whose first insert is still under way when it is sent again has one number."""
    session = catalog.open_session("ingest").session_id
    for _ in range(ROUND_COUNT):
        new = new_pack()
        first, second = race(*[partial(catalog.insert_pack, session, new)] * 2)
        assert first.error is second.error is None
        assert first.result == second.result
    assert len(catalog.all_packs(["live"])) == ROUND_COUNT


def test_two_collections_at_once(catalog: Catalog) -> None:
    """Collections that run together condemn and delete each pack once, and neither fails."""
    left = Save(catalog)
    pack_nos = left.add_packs(6)
    catalog.end_session(left.session_id)
    condemned = race(*[lambda: catalog.condemn(pack_nos)[1]] * 2)
    assert sorted(condemned[0].result + condemned[1].result) == pack_nos  # type: ignore[operator]

    def sweep_all() -> list[SweepVerdict]:
        return [catalog.sweep(pack_no) for pack_no in pack_nos]

    swept = race(sweep_all, sweep_all)
    for first, second in zip(swept[0].result, swept[1].result, strict=True):  # type: ignore[call-overload]
        assert {first, second} == {SweepVerdict.DELETING, SweepVerdict.NOT_CONDEMNED}


def make_stale(catalog: Catalog, session_id: SessionId) -> None:
    catalog.transaction(
        lambda connection: connection.execute(
            update(sessions_table).where(sessions_table.c.session_id == session_id).values(heartbeat=1)
        )
    )


# Processes


def write_in_process(url: str, name: str, start: Pipe) -> None:
    """Commit some images in a process of its own, from the moment it is told to."""
    catalog = Catalog.open(url)
    start.send("ready")
    start.recv()
    for number in range(5):
        save = Save(catalog, new_image(f"{name}-{number}"))
        save.commit(save.add_packs(2), unique_name=True)
    catalog.close()


def test_processes_share_a_catalog(url: str, catalog: Catalog) -> None:
    """Processes that write at once lose nothing: every image, pack and change of theirs is there."""
    with running(write_in_process, url, "a") as a, running(write_in_process, url, "b") as b:
        for pipe in (a.pipe, b.pipe):
            pipe.send("go")
        for process in (a.process, b.process):
            process.join()
            assert process.exitcode == 0
    assert len({image.name for image in catalog.images()}) == 10
    assert len(catalog.all_packs(["live"])) == 20
    assert catalog.repo().change_no == 20
    assert {len(catalog.content_packs(image.content_id)) for image in catalog.images() if image.content_id} == {2}


def stop_in_commit(url: str, pipe: Pipe) -> None:
    """Do everything of a commit except the COMMIT, then wait to be killed."""
    catalog = Catalog.open(url)
    save = Save(catalog)
    pack_nos = save.add_packs(2)

    def work(connection: Connection) -> None:
        images.commit(connection, save.session_id, save.image.id, save.content(), pack_nos, unique_name=True)
        pipe.send((save.session_id, save.image.id, save.content_id, pack_nos))
        pipe.recv()

    catalog.transaction(work)


def test_killed_in_its_commit(url: str, catalog: Catalog) -> None:
    """A process killed before COMMIT leaves no image; its session is fenced at once and its packs are collected."""
    with running(stop_in_commit, url) as killed:
        session_id, image_id, content_id, pack_nos = killed.first
        killed.kill()
    assert catalog.image(image_id).status == "saving"
    assert catalog.content_packs(content_id) == []
    assert catalog.session(session_id).state == "open"
    assert catalog.unreferenced() == []
    assert [row.session_id for row in catalog.fence_stale()] == [session_id]
    assert catalog.end_dead_saves() == 1
    catalog.forget_content(image_id)
    assert catalog.reap_content(content_id)
    assert [row.pack_no for row in catalog.unreferenced()] == pack_nos
    assert catalog.condemn(pack_nos)[1] == pack_nos
    assert {catalog.sweep(pack_no) for pack_no in pack_nos} == {SweepVerdict.DELETING}


def stop_in_sweep(url: str, pipe: Pipe) -> None:
    """Decide to delete a pack, and wait to be killed before the decision is committed."""
    catalog = Catalog.open(url)
    save = Save(catalog)
    (pack_no,) = save.add_packs()
    catalog.end_session(save.session_id)
    catalog.condemn([pack_no])

    def work(connection: Connection) -> None:
        pipe.send((pack_no, collect.sweep(connection, pack_no, 0)))
        pipe.recv()

    catalog.transaction(work)


def test_killed_in_its_sweep(url: str, catalog: Catalog) -> None:
    """A process killed while it decides leaves the pack condemned, to be revived or swept by the next."""
    with running(stop_in_sweep, url) as killed:
        pack_no, verdict = killed.first
        killed.kill()
    assert verdict is SweepVerdict.DELETING
    assert states(catalog, [pack_no]) == ["condemned"]
    assert Save(catalog).commit([pack_no]).status == "active"
    assert states(catalog, [pack_no]) == ["live"]


def stop_with_a_session(url: str, pipe: Pipe) -> None:
    """Open a session and wait."""
    catalog = Catalog.open(url)
    pipe.send(catalog.open_session("ingest").session_id)
    pipe.recv()
    catalog.transaction(lambda connection: sessions.beat(connection, session_of(connection)))


def session_of(connection: Connection) -> SessionId:
    return SessionId(connection.execute(sessions_table.select()).one().session_id)


def test_living_process_is_not_fenced_by_another(url: str, catalog: Catalog) -> None:
    """The session of another process on this host is left alone while that runs, stopped or not, and no longer."""
    with running(stop_with_a_session, url) as other:
        pid = other.process.pid
        assert pid is not None
        assert catalog.fence_stale() == []
        os.kill(pid, signal.SIGSTOP)
        assert catalog.fence_stale() == []
        os.kill(pid, signal.SIGCONT)
        other.pipe.send("go")
        other.process.join()
        assert other.process.exitcode == 0
    assert [row.session_id for row in catalog.fence_stale()] == [other.first]


class running:  # noqa: N801 - reads as a clause in `with`
    """A child process that sends one value when it is where it should be."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        self.pipe, theirs = _spawn.Pipe()
        self.process = _spawn.Process(target=target, args=(*arguments, theirs))
        self.process.start()
        theirs.close()

    def __enter__(self) -> "running":
        self.first = self.pipe.recv()
        return self

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():
            self.kill()
        self.pipe.close()
