"""Caches of several servers and worker processes over sockets: slow clients, kills and stops in the middle."""

import os
import random
import signal
import socket
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from casimg.constants import MIB
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.serving import Server, read_answer

SIZE = 48 * MIB
DATA = random.Random(5).randbytes(SIZE)
"""More than all buffers between a file and a client that does not read."""


def config(folder: Path) -> str:
    return f'[cache]\nimage_cache_dir = "{folder}"\n'


def stored(server: Server) -> str:
    image_id = server.create()
    assert server.upload(image_id, DATA).status == 204
    return image_id


def cached(server: Server) -> list[str]:
    return [image["image_id"] for image in server.ask("GET", "/v2/cache").json()["cached_images"]]


def wait_until_cached(server: Server, image_id: str) -> None:
    give_up_s = time.monotonic() + 30
    while image_id not in cached(server):
        assert time.monotonic() < give_up_s, server.log.read_text()[-3000:]
        time.sleep(0.05)


def fetched(server: Server, image_id: str) -> None:
    assert server.ask("PUT", f"/v2/cache/{image_id}").status == 202
    wait_until_cached(server, image_id)


def hits(server: Server) -> list[int]:
    return [image["hits"] for image in server.ask("GET", "/v2/cache").json()["cached_images"]]


def begin_download(server: Server, image_id: str) -> HTTPConnection:
    """Ask for an image on a connection that takes little before it is read."""
    connection = server.connect()
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.request("GET", f"/v2/images/{image_id}/file")
    return connection


def test_two_servers_have_caches_of_their_own(serve: Serve, tmp_path: Path) -> None:
    """Each fetches, tells, clears and sends what is in its own folder; each knows where the others have an image."""
    one, other = (serve(config(tmp_path / name)) for name in ("one", "other"))
    image_id = stored(one)
    fetched(one, image_id)
    assert cached(other) == []
    assert len(one.ask("GET", f"/v2/cache/nodes/{image_id}").json()) == 1
    fetched(other, image_id)
    nodes = other.ask("GET", f"/v2/cache/nodes/{image_id}").json()
    assert [node.rsplit("/", 1)[1] for node in nodes] == ["one", "other"]
    assert other.ask("DELETE", "/v2/cache").status == 204
    assert (cached(one), cached(other)) == ([image_id], [])
    assert one.download(image_id).data == DATA
    assert hits(one) == [1]


def test_deleted_by_another_server(serve: Serve, tmp_path: Path) -> None:
    """What one server deletes the others never send, and their files go with the next look."""
    one, other = (serve(config(tmp_path / name)) for name in ("one", "other"))
    image_id = stored(one)
    fetched(other, image_id)
    assert one.ask("DELETE", f"/v2/images/{image_id}").status == 204
    assert other.download(image_id).status == 404
    give_up_s = time.monotonic() + 30
    while (tmp_path / "other" / image_id).exists():
        assert time.monotonic() < give_up_s
        time.sleep(0.1)
    assert one.ask("GET", f"/v2/cache/nodes/{image_id}").status == 404


def test_workers_share_a_folder(serve: Serve, tmp_path: Path) -> None:
    """Many first downloads through several processes leave one right file, which all of them send and count."""
    server = serve(config(tmp_path / "cache"), "--workers", "2")
    image_id = stored(server)
    right: list[bool] = []

    def download() -> None:
        right.append(server.download(image_id).data == DATA)

    for _ in range(2):
        threads = [threading.Thread(target=download) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until_cached(server, image_id)
    assert right == [True] * 12
    names = [path.name for path in (tmp_path / "cache").iterdir()]
    assert sorted(names) == sorted([image_id, "incomplete"])
    give_up_s = time.monotonic() + 30
    while sum(hits(server)) < 6:  # each process adds its own now and then
        assert time.monotonic() < give_up_s
        time.sleep(0.1)


def test_killed_while_it_fills(serve: Serve, tmp_path: Path) -> None:
    """A server killed in the middle of a fill leaves nothing that is sent; the next one sweeps and fills again."""
    folder = tmp_path / "cache"
    killed = serve(config(folder))
    image_id = stored(killed)
    with closing(begin_download(killed, image_id)) as connection:
        response = connection.getresponse()
        response.read(8 * MIB)
        left = [path for path in (folder / "incomplete").iterdir() if path.suffix != ".lock"]
        assert len(left) == 1
        assert left[0].stat().st_size > MIB
        for pid in killed.pids():
            os.kill(pid, signal.SIGKILL)
        killed.process.wait()
    assert left[0].exists()
    server = serve(config(folder))
    give_up_s = time.monotonic() + 30
    while left[0].exists():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    assert cached(server) == []
    assert server.download(image_id).data == DATA
    wait_until_cached(server, image_id)
    assert server.download(image_id).data == DATA
    assert hits(server) == [1]


def test_what_was_queued_outlives_a_kill(serve: Serve, tmp_path: Path) -> None:
    """What a killed server was asked for is fetched by the one that follows it, without being asked again."""
    server = serve()
    image_id = stored(server)
    server.stop()
    killed = serve(config(tmp_path / "cache"))
    assert killed.ask("PUT", f"/v2/cache/{image_id}").status == 202
    for pid in killed.pids():
        os.kill(pid, signal.SIGKILL)
    killed.process.wait()
    wait_until_cached(serve(config(tmp_path / "cache")), image_id)


def test_stopped_while_it_sends_from_the_cache(serve: Serve, tmp_path: Path) -> None:
    """A server that is told to stop sends what it has begun, though its client is slow, and then ends."""
    server = serve(config(tmp_path / "cache"))
    image_id = stored(server)
    fetched(server, image_id)
    with closing(begin_download(server, image_id)) as connection:
        response = connection.getresponse()
        found = response.read(1000)
        server.process.send_signal(signal.SIGTERM)
        while part := response.read(3 * MIB):
            found += part
            time.sleep(0.05)
    assert found == DATA
    assert server.process.wait(30) == 0


def test_stopped_after_the_last_byte_of_a_fill(serve: Serve, tmp_path: Path) -> None:
    """A file that is whole is finished before the server ends; one that is not leaves nothing."""
    server = serve(config(tmp_path / "cache"))
    whole, cut = stored(server), stored(server)
    assert server.download(whole).data == DATA
    with closing(begin_download(server, cut)) as connection:
        connection.getresponse().read(MIB)
    assert server.stop() == 0
    again = serve(config(tmp_path / "cache"))
    assert cached(again) == [whole]
    assert list((tmp_path / "cache" / "incomplete").iterdir()) == []


def test_cleared_while_it_is_sent(serve: Serve, tmp_path: Path) -> None:
    """Who has begun to read a file reads it to its end, though the cache is emptied, and the image too."""
    server = serve(config(tmp_path / "cache"))
    image_id = stored(server)
    fetched(server, image_id)
    with closing(begin_download(server, image_id)) as connection:
        response = connection.getresponse()
        found = response.read(1000)
        assert server.ask("DELETE", "/v2/cache").status == 204
        assert server.ask("DELETE", f"/v2/images/{image_id}").status == 204
        found += response.read()
    assert found == DATA
    assert not (tmp_path / "cache" / image_id).exists()


def test_damaged_while_it_is_sent(serve: Serve, tmp_path: Path) -> None:
    """A file that is damaged or cut behind what a slow client has read: the client gets right bytes all the same."""
    server = serve(config(tmp_path / "cache"))
    image_id = stored(server)
    path = tmp_path / "cache" / image_id
    for damage in ("flip", "cut"):
        fetched(server, image_id)
        with closing(begin_download(server, image_id)) as connection:
            response = connection.getresponse()
            found = response.read(1000)
            with path.open("r+b") as file:
                if damage == "cut":
                    file.truncate(SIZE // 2)
                else:
                    file.seek(SIZE - 5)
                    file.write(bytes([DATA[SIZE - 5] ^ 1]))
            found += response.read()
        assert found == DATA
        assert cached(server) == []


def test_many_slow_clients_hold_little(serve: Serve, tmp_path: Path) -> None:
    """Downloads from the cache that stand still hold a part each, and others are served meanwhile."""
    server = serve(config(tmp_path / "cache"), "--threads", "64")
    image_id = stored(server)
    fetched(server, image_id)
    assert server.download(image_id).data == DATA
    before = server.rss_anon()
    connections = [begin_download(server, image_id) for _ in range(40)]
    responses = [connection.getresponse() for connection in connections]
    for response in responses:
        assert response.read(1000) == DATA[:1000]
    assert server.rss_anon() - before < 40 * MIB
    assert server.download(image_id).data == DATA
    for response in responses[:3]:
        assert response.read() == DATA[1000:]
    for connection in connections:
        connection.close()


def test_one_connection_with_and_without_the_cache(serve: Serve, tmp_path: Path) -> None:
    """A connection is used again after a fill, a range of the file, and all of it."""
    server = serve(config(tmp_path / "cache"))
    image_id = stored(server)
    with closing(server.connect()) as connection:
        for headers in ({}, {"Range": "bytes=5-"}, {}):
            connection.request("GET", f"/v2/images/{image_id}/file", headers=headers)
            assert read_answer(connection.getresponse()).data == (DATA[5:] if headers else DATA)
            wait_until_cached(server, image_id)
