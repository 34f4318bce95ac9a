"""What no client of OpenStack sends, and ends that nobody wishes: under `casimg serve`, and gunicorn with wsgi.py."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import casimg
from casimg.ids import ImageId
from casimg_api.import_data import ALL
from tests.conftest import mixed_bytes
from tests.integration.api.data.serving import OCTETS, Server, chunk, start, status_of
from tests.wsgi import servers
from tests.wsgi.install import Programs

DATA = bytes(mixed_bytes(3_000_000, seed=31))
_PAIR_COUNT = 10


def begin(kind: str, folder: Path) -> Server:
    """Start a server of two processes over `folder/repository`."""
    if kind == "serve":
        return start(folder / "repository", folder / f"server-{len(list(folder.iterdir()))}.log", "", "--workers", "2")
    return servers.start("gunicorn", Programs(folder), folder, '[repository]\npath = "repository"\n')


@pytest.fixture(scope="module", params=["serve", "gunicorn"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of clients; each must leave it as well as it was."""
    folder = tmp_path_factory.mktemp(kind)
    casimg.create(folder / "repository").close()
    served = begin(kind, folder)
    yield served
    assert served.stop() == 0
    assert "Traceback" not in served.log.read_text()


@pytest.fixture(scope="module")
def stored(server: Server) -> str:
    """An image with DATA."""
    made = server.create()
    assert server.upload(made, DATA).status == 204
    return made


def send(server: Server, data: bytes) -> bytes:
    """Send bytes, say that there are no more, and return all that comes back."""
    answers = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 20):
                answers += part
    return answers


def statuses(answers: bytes) -> list[int]:
    """Return the statuses of answers without bodies that look like answers."""
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] ([0-9]{3})", answers)]


def put(image_id: str, *headers: str, version: str = "1.1") -> bytes:
    """Return the head of an upload."""
    lines = [f"PUT /v2/images/{image_id}/file HTTP/{version}", "Host: h", f"Content-Type: {OCTETS}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@pytest.mark.parametrize(
    "length", ["-1", "+5", "5 5", "5, 5", "0x5", "5.0", "five", "", "-0", "9" * 30, "\u0665".encode().decode("latin-1")]
)
def test_a_length_that_is_none(server: Server, length: str) -> None:
    """A Content-Length that is no number is refused, and what follows is no request."""
    made, other = server.create(), server.create()
    evil = f"DELETE /v2/images/{other} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    answers = statuses(send(server, put(made, f"Content-Length: {length}") + b"12345" + evil))
    assert answers in ([], [400], [413])
    assert server.show(other)["status"] == "queued"
    server.wait_for_status(made, "queued")


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 0", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    ],
)
def test_two_ends_of_one_body(server: Server, headers: tuple[str, ...]) -> None:
    """Where two readers could find two ends of a body there is no image, and no request in what follows."""
    made, other = server.create(), server.create()
    evil = f"DELETE /v2/images/{other} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    answers = statuses(send(server, put(made, *headers) + b"0\r\n\r\n" + evil))
    assert answers in ([], [400], [501]), answers
    assert server.show(made)["status"] == server.show(other)["status"] == "queued"


@pytest.mark.parametrize(
    "line",
    [b"10000000000000000", b"ffffffffffffffff", b"7fffffffffffffff", b"-1", b"+5", b"0x5", b"", b" 5", b"5" * 20000],
)
def test_a_chunk_that_is_none(server: Server, line: bytes) -> None:
    """A chunk of 2**64 bytes, of fewer than none, or of a size that is no number is no image, and takes no memory."""
    made = server.create()
    before = server.rss_anon()
    answers = statuses(send(server, put(made, "Transfer-Encoding: chunked") + line + b"\r\n" + b"12345\r\n0\r\n\r\n"))
    assert answers in ([], [400])
    server.wait_for_status(made, "queued")
    assert server.rss_anon() - before < 64 << 20
    assert server.upload(made, b"x").status == 204


def test_pipelined_requests(server: Server, stored: str) -> None:
    """Requests that come before the answers to others are answered in their order, uploads among them."""
    made = server.create()
    get = f"GET /v2/images/{stored}/file HTTP/1.1\r\nHost: h\r\nRange: bytes=0-4\r\n\r\n".encode()
    show = f"GET /v2/images/{made} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
    sent = get + put(made, "Content-Length: 5") + b"12345" + get + show
    answers = send(server, sent)
    assert statuses(answers) == [206, 204, 206, 200]
    assert answers.count(DATA[:5]) == 2
    assert b'"size": 5' in answers
    chunked = server.create()
    sent = get + put(chunked, "Transfer-Encoding: chunked") + chunk(b"12345") + b"0\r\n\r\n" + show
    assert statuses(send(server, sent)) == [206, 204, 200]
    assert server.download(chunked).data == b"12345"


def test_http_1_0(server: Server, stored: str) -> None:
    """A client of 1996 gets an image whole, and its end; an upload with a length is taken."""
    answers = send(server, f"GET /v2/images/{stored}/file HTTP/1.0\r\n\r\n".encode())
    assert statuses(answers[:20]) == [200]
    head, _, body = answers.partition(b"\r\n\r\n")
    assert body == DATA
    assert b"transfer-encoding" not in head.lower()
    made = server.create()
    assert statuses(send(server, put(made, "Content-Length: 5", version="1.0") + b"12345")) == [204]
    assert server.download(made).data == b"12345"


@pytest.mark.parametrize("head", [b"X-Long: " + b"x" * 100_000, b"\r\n".join(b"X-%d: 1" % at for at in range(5000))])
def test_an_oversized_head(server: Server, head: bytes) -> None:
    """A head of a hundred kilobytes, or of thousands of lines, is refused."""
    assert statuses(send(server, b"GET /v2/images HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n\r\n")) in ([], [400], [431])
    assert statuses(send(server, b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n")) in ([], [400], [414])


def test_one_byte_at_a_time(server: Server) -> None:
    """Head and body in single bytes, with waits, are a request as any other."""
    made = server.create()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in put(made, "Transfer-Encoding: chunked") + chunk(b"12345") + chunk(b"6"):
            connection.sendall(bytes([byte]))
            time.sleep(0.005)
        for byte in b"0\r\n\r\n":
            time.sleep(1)
            connection.sendall(bytes([byte]))
        assert status_of(connection) == 204
    assert server.download(made).data == b"123456"


def test_a_killed_process(kind: str, tmp_path: Path) -> None:
    """After kill -9 of the processes amid an upload others take their place, and the image takes data again."""
    casimg.create(tmp_path / "repository").close()
    served = begin(kind, tmp_path)
    try:
        made = served.create()
        with served.begin_upload(made, None) as connection:
            connection.sendall(chunk(DATA))
            served.wait_for_status(made, "saving")
            workers = [pid for pid in served.pids() if pid != served.process.pid]
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert status_of(connection) == 0
        served.wait_for_answer()
        served.wait_for_status(made, "queued")
        assert served.upload(made, DATA).status == 204
        assert served.download(made).data == DATA
    finally:
        served.stop()


def test_a_stop_amid_many(kind: str, tmp_path: Path) -> None:
    """Ten uploads and ten downloads under way at SIGTERM all end whole, and no process is left."""
    casimg.create(tmp_path / "repository").close()
    served = begin(kind, tmp_path)
    with contextlib.ExitStack() as stack:
        data = DATA * 4
        stored = served.create()
        assert served.upload(stored, data).status == 204
        made = [served.create() for _ in range(_PAIR_COUNT)]
        senders = [stack.enter_context(served.begin_upload(image_id, len(DATA))) for image_id in made]
        takers = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=60)) for _ in made]
        for sender, taker in zip(senders, takers, strict=True):
            sender.sendall(DATA[:1_000_000])
            taker.sendall(f"GET /v2/images/{stored}/file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        taken = [[taker.recv(65536)] for taker in takers]
        for image_id in made:
            served.wait_for_status(image_id, "saving")
        pids = served.pids()
        ended: list[int] = []
        stopper = threading.Thread(target=lambda: ended.append(served.stop()))
        stopper.start()
        time.sleep(0.5)
        for sender in senders:
            sender.sendall(DATA[1_000_000:])
        for parts, taker in zip(taken, takers, strict=True):
            while part := taker.recv(1 << 20):
                parts.append(part)
        assert [status_of(sender) for sender in senders] == [204] * _PAIR_COUNT
    stopper.join()
    assert ended == [0]
    assert {b"".join(parts).partition(b"\r\n\r\n")[2] == data for parts in taken} == {True}
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    with casimg.open(tmp_path / "repository") as repo:
        assert {repo.registry().show(ImageId(image_id), ALL).status for image_id in made} == {"active"}


def test_two_servers_on_one_repository(kind: str, tmp_path: Path) -> None:
    """What one server stores, changes or deletes another one on its own port knows at once."""
    casimg.create(tmp_path / "repository").close()
    one = begin(kind, tmp_path)
    two = begin("serve", tmp_path)
    try:
        made = one.create(name="shared by both")
        with one.begin_upload(made, len(DATA)) as connection:
            connection.sendall(DATA[:1000])
            two.wait_for_status(made, "saving")
            assert two.upload(made, b"other").status == 409
            connection.sendall(DATA[1000:])
            assert status_of(connection) == 204
        assert two.download(made).data == DATA
        assert two.ask("DELETE", f"/v2/images/{made}").status == 204
        assert one.ask("GET", f"/v2/images/{made}").status == 404
        assert one.download(made).status == 404
    finally:
        assert (one.stop(), two.stop()) == (0, 0)
