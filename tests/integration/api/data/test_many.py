"""Many clients at once: memory stays bounded, and slow ones do not stop the others."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator

from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.serving import Server

_COUNT = 64
_BLOCK = 1 << 20
_MEMORY_MAX = 1 << 30


def _random(size: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(size // _BLOCK):
        yield rng.randbytes(_BLOCK)


class _Memory(threading.Thread):
    """Samples the anonymous memory of a server."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._over = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, self._server.rss_anon())

    def stop(self) -> int:
        self._over.set()
        self.join()
        return self.peak


def test_sixty_four_uploads_at_once_stay_under_a_gibibyte(serve: Serve) -> None:
    """All come in, of bytes that neither repeat nor compress, and memory does not grow by a pipeline for each."""
    server = serve("", "--threads", str(_COUNT + 4))
    images = [server.create() for _ in range(_COUNT)]
    statuses: list[int] = []

    def upload(number: int) -> None:
        statuses.append(server.upload(images[number], _random(16 * _BLOCK, number)).status)

    memory = _Memory(server)
    memory.start()
    threads = [threading.Thread(target=upload, args=(number,)) for number in range(_COUNT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    peak = memory.stop()
    assert statuses == [204] * _COUNT
    assert _COUNT * (2 << 20) < peak < _MEMORY_MAX, f"{peak >> 20} MiB"
    print(f"peak {peak >> 20} MiB")


def test_slow_downloads_hold_little(serve: Serve) -> None:
    """Forty clients that ask for an image and do not read it hold a segment each, and one that reads gets it all."""
    server = serve("", "--threads", str(_COUNT))
    made = server.create()
    data = b"".join(_random(64 * _BLOCK, 1))
    assert server.upload(made, data).status == 204
    before = server.rss_anon()
    asked = f"GET /v2/images/{made}/file HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    connections = []
    for _ in range(40):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(asked)
        connections.append(connection)
    time.sleep(1)
    assert server.download(made).data == data
    grown = server.rss_anon() - before
    for connection in connections:
        connection.close()
    print(f"grown {grown >> 20} MiB")
    assert grown < 40 * (6 << 20) + (200 << 20), f"{grown >> 20} MiB"


def test_what_is_kept_in_memory_is_bounded(serve: Serve) -> None:
    """Two processes that may keep 64 MiB keep no more however much goes through them, and all bytes are right."""
    server = serve(f"[cache]\nmemory_size_max = {64 * _BLOCK}\n[server]\nworkers = 2\n")
    images = [b"".join(_random(24 * _BLOCK, seed)) for seed in range(5)]
    made = []
    for data in images:
        made.append(server.create())
        assert server.upload(made[-1], data).status == 204
    anonymous = server.rss_anon()
    for _ in range(4):
        for image_id, data in zip(made, images, strict=True):
            assert server.download(image_id).data == data
            assert server.kept_size() <= 64 * _BLOCK
    assert server.kept_size() >= 32 * _BLOCK
    assert server.rss_anon() - anonymous < 200 * _BLOCK


def test_several_processes_on_one_repository(serve: Serve) -> None:
    """Workers open the repository after their fork: what one has stored, any other gives back."""
    server = serve("", "--workers", "3", "--threads", "4")
    for number in range(12):
        data = b"".join(_random(2 * _BLOCK, number))
        made = server.create()
        assert server.upload(made, data).status == 204
        assert server.download(made).data == data


def test_a_server_that_is_told_to_stop_ends_what_it_began(serve: Serve) -> None:
    """An upload under way when the signal comes is finished; then the server ends by itself."""
    server = serve()
    made = server.create()
    with server.begin_upload(made, 3 * _BLOCK) as connection:
        connection.sendall(bytes(_BLOCK))
        server.wait_for_status(made, "saving")
        ended: list[int] = []
        stopper = threading.Thread(target=lambda: ended.append(server.stop()))
        stopper.start()
        time.sleep(0.5)
        connection.sendall(bytes(2 * _BLOCK))
        answer = connection.recv(65536)
    stopper.join()
    assert answer.startswith(b"HTTP/1.1 204")
    assert ended == [0]


def test_a_client_that_stands_still_is_let_go(serve: Serve) -> None:
    """One that neither sends nor takes a byte for too long loses its thread; its upload is queued again."""
    server = serve("[server]\nidle_timeout_s = 1\n")
    made, stored = server.create(), server.create()
    assert server.upload(stored, b"".join(_random(48 * _BLOCK, 1))).status == 204
    with (
        server.begin_upload(made, 100) as sender,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as taker,
    ):
        sender.sendall(b"x")
        taker.sendall(f"GET /v2/images/{stored}/file HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        server.wait_for_status(made, "saving")
        server.wait_for_status(made, "queued")
        time.sleep(2)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while count := len(taker.recv(_BLOCK)):
                taken += count
        assert taken < 48 * _BLOCK
    assert server.upload(made, b"x").status == 204
