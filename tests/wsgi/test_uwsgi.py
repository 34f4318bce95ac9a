"""What only uWSGI does: it tells its processes of a stop by a signal, which comes to a thread that has a client."""

import socket
import threading
import time
from pathlib import Path

import pytest

import casimg
from tests.conftest import mixed_bytes
from tests.wsgi.conftest import CONFIG
from tests.wsgi.install import Programs
from tests.wsgi.servers import WORKER_COUNT, start

_DATA = bytes(mixed_bytes(24 << 20, seed=13))
_THREAD_COUNT = 4


def test_a_stop_interrupts_no_download(programs: Programs, tmp_path: Path) -> None:
    """With a client on every thread that waits for it to take more, all of them get all of it after a stop."""
    if "uwsgi" in programs.missing:
        pytest.skip(programs.missing["uwsgi"])
    casimg.create(tmp_path / "repository").close()
    server = start("uwsgi", programs, tmp_path, CONFIG, {"threads = 64": f"threads = {_THREAD_COUNT}"})
    takers: list[socket.socket] = []
    try:
        made = server.create()
        assert server.upload(made, _DATA).status == 204
        for _ in range(WORKER_COUNT * _THREAD_COUNT):
            takers.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            takers[-1].sendall(f"GET /v2/images/{made}/file HTTP/1.0\r\n\r\n".encode())
        heads = [taker.recv(1000) for taker in takers]
        time.sleep(1)  # by now all buffers between are full
    except BaseException:
        server.stop()
        raise
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    time.sleep(1)
    for head, taker in zip(heads, takers, strict=True):
        taken = [head]
        while part := taker.recv(1 << 20):
            taken.append(part)
        taker.close()
        assert b"".join(taken).partition(b"\r\n\r\n")[2] == _DATA
    stopper.join()
    assert server.process.returncode == 0
