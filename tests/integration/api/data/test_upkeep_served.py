"""Collections that servers do by themselves, over sockets: by time, by space, one of several servers, kills, stops."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

import casimg
from casimg.catalog.upkeep_schema import upkeep
from casimg.constants import MIB
from casimg.results.upkeep import UpkeepState
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.serving import Server, read_answer

BY_TIME = '[upkeep]\nlook_every_s = 1\ngc_every_h = 1\ngc_when_free_below = "0"\ngc_pause_s = 0\n'
BEGUN = "upkeep.gc_begun"
DONE = "upkeep.gc_done"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The repository that is served."""
    return tmp_path / "repository"


def test_collected_when_it_is_time(serve: Serve, folder: Path) -> None:
    """An hour after the last collection the server does one, tells it, and does none before the next hour."""
    server = serve(BY_TIME)
    kept, gone = _store_two(server)
    time.sleep(2.5)
    assert _packs(folder) == 4
    assert BEGUN not in server.log.read_text()
    _make_due(folder)
    state = _wait_until_done(folder, server)
    assert state.last_gc is not None
    assert (state.last_gc.reason, state.last_gc.report.content_count) == ("time", 1)
    assert state.running_since is None
    assert _packs(folder) == 2
    told = server.ask("GET", "/casimg/v1/stats").json()
    assert (told["last_gc"]["reason"], told["last_gc"]["content_count"], told["last_gc"]["notes"]) == ("time", 1, [])
    assert told["last_gc"]["freed_size"] == state.last_gc.report.size > 200_000
    assert server.download(gone).status == 404
    assert server.download(kept).data == _data(0)
    time.sleep(2.5)
    assert server.log.read_text().count(BEGUN) == 1
    assert f"{DONE} turn=" in server.log.read_text()


def test_collected_when_room_is_scarce(serve: Serve, folder: Path) -> None:
    """With less free than configured the server collects, and not again before the pause is over."""
    server = serve('[upkeep]\nlook_every_s = 1\ngc_every_h = 0\ngc_when_free_below = "100%"\ngc_pause_s = 3600\n')
    state = _wait_until_done(folder, server)
    assert state.last_gc is not None
    assert state.last_gc.reason == "space"
    _store_two(server)
    time.sleep(2.5)
    assert _packs(folder) == 4
    assert server.log.read_text().count(BEGUN) == 1


def test_never_when_it_is_told_so(serve: Serve, folder: Path) -> None:
    """Without a schedule and a bound the server leaves it to whoever runs `casimg gc`."""
    server = serve('[upkeep]\nlook_every_s = 1\ngc_every_h = 0\ngc_when_free_below = "0"\ngc_pause_s = 0\n')
    _store_two(server)
    _make_due(folder)
    time.sleep(2.5)
    assert _packs(folder) == 4
    assert BEGUN not in server.log.read_text()


def test_one_of_several_servers_collects(serve: Serve, folder: Path) -> None:
    """Of two servers with two processes each one collects."""
    servers = [serve(BY_TIME, "--workers", "2") for _ in range(2)]
    _store_two(servers[0])
    _make_due(folder)
    _wait_until_done(folder, servers[0])
    time.sleep(2.5)
    assert sum(server.log.read_text().count(BEGUN) for server in servers) == 1
    assert _packs(folder) == 2


def test_a_killed_collection_is_done_again(serve: Serve, folder: Path) -> None:
    """kill -9 of the process that collects loses nothing: it is told, and the next look collects."""
    data = _leave_halves(folder)
    server = serve(BY_TIME)
    _make_due(folder)
    os.kill(_collecting(server), signal.SIGKILL)
    state = _wait_until_done(folder, server)
    assert state.failure == "its process ended with -9"
    _is_whole(folder, data)


def test_a_killed_server_is_taken_over(serve: Serve, folder: Path) -> None:
    """kill -9 of the server ends what collects for it, whose turn another server takes over."""
    data = _leave_halves(folder)
    server = serve(BY_TIME)
    _make_due(folder)
    child = _collecting(server)
    os.kill(child, signal.SIGSTOP)
    for pid in server.pids():
        if pid != child:
            os.kill(pid, signal.SIGKILL)
    server.process.wait()
    os.kill(child, signal.SIGCONT)
    _wait_for(lambda: not Path(f"/proc/{child}").exists(), server)
    with casimg.open(folder) as repo:
        assert repo.upkeep().state().last_gc is None
    other = serve(BY_TIME)
    _wait_until_done(folder, other)
    _is_whole(folder, data)


@pytest.mark.parametrize("stuck", [False, True])
def test_a_stop_ends_a_collection(serve: Serve, folder: Path, stuck: bool) -> None:
    """A server that is stopped ends the collection at once, even one that hangs, and its turn is free."""
    data = _leave_halves(folder)
    server = serve(BY_TIME)
    _make_due(folder)
    child = _collecting(server)
    if stuck:
        os.kill(child, signal.SIGSTOP)
    begin_s = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begin_s < (15 if stuck else 6)
    assert not Path(f"/proc/{child}").exists()
    with casimg.open(folder) as repo:
        state = repo.upkeep().state()
        assert (state.last_gc, state.failure, state.running_since) == (None, None, None)
    _wait_until_done(folder, serve(BY_TIME))
    _is_whole(folder, data)


def test_a_stop_ends_a_collection_before_downloads(serve: Serve, folder: Path) -> None:
    """A stop lets a download end; the collection does not go on meanwhile."""
    data = _leave_halves(folder)
    with casimg.open(folder) as repo:
        image_id = repo.image("kept").id
    server = serve(BY_TIME)
    connection = server.connect()
    connection.request("GET", f"/v2/images/{image_id}/file")
    response = connection.getresponse()
    _make_due(folder)
    child = _collecting(server)
    server.process.send_signal(signal.SIGTERM)
    _wait_for(lambda: not Path(f"/proc/{child}").exists(), server)
    assert server.process.poll() is None
    assert read_answer(response).data == data
    connection.close()
    assert server.process.wait(60) == 0
    assert DONE not in server.log.read_text()


def _data(number: int) -> bytes:
    return random.Random(number).randbytes(200_000)


def _store_two(server: Server) -> tuple[str, str]:
    """Upload two images and delete the second one."""
    ids = [server.create() for _ in range(2)]
    for number, image_id in enumerate(ids):
        assert server.upload(image_id, _data(number)).status == 204
    assert server.ask("DELETE", f"/v2/images/{ids[1]}").status == 204
    return ids[0], ids[1]


def _leave_halves(folder: Path) -> bytes:
    """Leave an image that needs half of what is stored, enough to rewrite for about a second; return its bytes."""
    rng = random.Random(1)
    data = bytearray(rng.randbytes(64 * MIB))
    with casimg.open(folder) as repo:
        repo.put([bytes(data)], name="gone")
        for offset in range(0, len(data), 128 << 10):
            data[offset : offset + (64 << 10)] = rng.randbytes(64 << 10)
        repo.put([bytes(data)], name="kept")
        repo.delete("gone")
    return bytes(data)


def _make_due(folder: Path) -> None:
    """Let two hours have passed since the last collection, or since the repository was made."""

    def work(connection: Connection) -> None:
        ago = upkeep.c.since_at - 2 * 3600 * 1_000_000
        connection.execute(update(upkeep).values(since_at=ago, done_at=None))

    with casimg.open(folder) as repo:
        repo._wiring.catalog.transaction(work)


def _packs(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "objects" / "packs").rglob("*"))


def _collecting(server: Server) -> int:
    """Wait until a collection has begun, and return the id of its process."""
    _wait_for(lambda: BEGUN in server.log.read_text(), server, step_s=0.001)
    for pid in server.pids():
        with contextlib.suppress(OSError):
            if b"casimg_api.collecting" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise AssertionError(f"it was over too soon: {server.log.read_text()[-3000:]}")


def _wait_until_done(folder: Path, server: Server) -> UpkeepState:
    with casimg.open(folder) as repo:
        told = repo.upkeep()
        _wait_for(lambda: told.state().last_gc is not None and told.state().running_since is None, server)
        return told.state()


def _wait_for(condition: Callable[[], bool], server: Server, step_s: float = 0.05) -> None:
    give_up_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_s, server.log.read_text()[-3000:]
        time.sleep(step_s)


def _is_whole(folder: Path, data: bytes) -> None:
    """Read the image, check every byte, and see that nothing is left that it does not need."""
    with casimg.open(folder) as repo:
        with repo.open_image("kept") as file:
            assert file.read() == data
        assert repo.check(read_data=True).clean
        stats = repo.stats()
        assert stats.stored_size < 1.2 * len(data)
        assert stats.unreferenced_size == 0
