"""The same promises under every server: bytes in and out, cuts that are noticed, work in the background, the end."""

import contextlib
import hashlib
import http.client
import itertools
import json
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import casimg
from casimg.constants import SEGMENT_SIZE
from casimg.ids import ImageId
from casimg_api.import_data import ALL
from tests.conftest import mixed_bytes
from tests.integration.api.data.serving import OCTETS, chunk, status_of
from tests.integration.api.data.test_import import DATA as IMPORTED
from tests.integration.api.data.test_import import ask_import, ended, fetch, stage
from tests.integration.api.data.test_upload import nothing_is_kept, parts
from tests.integration.api.data.web import Page, Web, web
from tests.wsgi.conftest import Start
from tests.wsgi.servers import WORKER_COUNT, WsgiServer

DATA = bytes(mixed_bytes(2 * SEGMENT_SIZE + 4321, seed=12))


def chunked(data: bytes) -> bytes:
    """Return bytes as chunks of the size that clients of OpenStack send."""
    return b"".join(chunk(part) for part in parts(data, 1 << 20))


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
    """A web server with an image that comes at once, and one whose end never comes."""
    with web() as found:
        found.pages |= {"/image": Page(IMPORTED), "/halting": Page(IMPORTED, drip_s=-1)}
        yield found


@pytest.fixture(scope="module")
def stored(server: WsgiServer) -> str:
    """An image with DATA."""
    made = server.create(name="stored")
    assert server.upload(made, DATA).status == 204
    return made


@pytest.mark.parametrize("part_size", [None, 1 << 20, 70_001, 1000])
@pytest.mark.parametrize("size", [0, 1, SEGMENT_SIZE, len(DATA)])
def test_what_is_sent_is_what_is_stored(server: WsgiServer, size: int, part_size: int | None) -> None:
    """With a length, and in chunks of any size: 204, the size and hash of the bytes, and the bytes back."""
    data = DATA[:size]
    made = server.create()
    answer = server.upload(made, data if part_size is None else parts(data, part_size))
    assert (answer.status, answer.data) == (204, b"")
    shown = server.show(made)
    assert (shown["status"], shown["size"]) == ("active", size)
    assert shown["os_hash_value"] == hashlib.sha512(data).hexdigest()
    assert server.download(made).data == data


def test_a_range(server: WsgiServer, stored: str) -> None:
    """A range is 206 with its place and its bytes; one past the end is 416."""
    for asked, start, end in (("0-0", 0, 1), ("5-70000", 5, 70001), ("-17", len(DATA) - 17, len(DATA))):
        answer = server.download(stored, {"Range": f"bytes={asked}"})
        assert (answer.status, answer.data) == (206, DATA[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
        assert answer.headers["content-length"] == str(end - start)
    assert server.download(stored, {"Range": f"bytes={len(DATA)}-"}).status == 416


def test_a_large_chunk(server: WsgiServer) -> None:
    """A chunk of any size is taken, but by uWSGI, which keeps chunks whole: there it is no image."""
    made = server.create()
    with server.begin_upload(made, None) as connection:
        data = DATA * 2
        with contextlib.suppress(ConnectionError):
            connection.sendall(chunk(data) + b"0\r\n\r\n")
        status = status_of(connection)
    if server.name == "uwsgi":
        assert status in (0, 400)
        server.wait_for_status(made, "queued")
    else:
        assert status == 204
        assert server.download(made).data == data


def test_no_data(server: WsgiServer) -> None:
    """The file of a queued image is 204 with nothing behind it."""
    made = server.create()
    answer = server.download(made)
    assert (answer.status, answer.data) == (204, b"")


def test_a_refusal_is_told_while_a_body_is_sent(server: WsgiServer, stored: str) -> None:
    """A large upload that is refused, with a length or in chunks, gets its answer; the image is as it was."""
    body = bytes(8 << 20)
    assert server.upload(stored, body).status == 409
    assert server.upload(stored, parts(body, 65536)).status == 409
    answer = server.ask("PUT", f"/v2/images/{stored}/file", body, {"Content-Type": "text/plain"})
    assert answer.status == 415
    assert server.download(stored).data == DATA


def test_an_upload_that_asks_first(server: WsgiServer) -> None:
    """A client that sends `Expect: 100-continue`, and waits a second at most as curl does, gets its image stored."""
    for length in (len(DATA), None):
        made = server.create()
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        head = f"PUT /v2/images/{made}/file HTTP/1.1\r\nHost: h\r\nContent-Type: {OCTETS}\r\n{framing}\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            connection.settimeout(1)
            with contextlib.suppress(TimeoutError):
                assert status_of(connection) == 100
            connection.settimeout(60)
            connection.sendall(DATA if length else chunked(DATA) + b"0\r\n\r\n")
            assert status_of(connection) == 204
        assert server.download(made).data == DATA


def test_two_ways_to_end_a_body_are_refused(server: WsgiServer) -> None:
    """A request with a length and chunks takes no bytes from an image, and what is behind it is no request."""
    made, other = server.create(), server.create()
    evil = f"DELETE /v2/images/{other} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    head = f"PUT /v2/images/{made}/file HTTP/1.1\r\nHost: h\r\nContent-Type: {OCTETS}\r\nContent-Length: 5\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"0\r\n\r\n" + evil)
        answers = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                answers += part
    assert answers.count(b"HTTP/1.1 ") <= 1
    # Apache goes by the chunks alone, of which there are none, and ends the connection.
    assert answers[9:12] == b"204" if server.name == "mod_wsgi" else answers[9:12] in (b"", b"400")
    assert server.show(made)["size"] in (None, 0)
    assert server.show(other)["status"] == "queued"


@pytest.mark.parametrize("framing", ["identity", "gzip, chunked", "xchunked", "chunked, chunked"])
def test_other_encodings_are_refused(server: WsgiServer, framing: str) -> None:
    """A transfer encoding that is not `chunked` is no upload."""
    made = server.create()
    head = f"PUT /v2/images/{made}/file HTTP/1.1\r\nHost: h\r\nContent-Type: {OCTETS}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"{head}Transfer-Encoding: {framing}\r\n\r\n".encode() + chunk(DATA[:1000]) + b"0\r\n\r\n")
        assert status_of(connection) in (0, 400, 501)
    assert server.show(made)["status"] == "queued"


def test_chunked_json(server: WsgiServer) -> None:
    """A JSON body may come in chunks."""
    body = json.dumps({"name": "in parts"}).encode()
    answer = server.ask("POST", "/v2/images", parts(body, 5), {"Content-Type": "application/json"})
    assert (answer.status, answer.json()["name"]) == (201, "in parts")


def test_names_with_encoded_slashes(server: WsgiServer) -> None:
    """A tag with a space or a letter beyond ASCII is the same in and out, and an encoded slash makes no failure."""
    made = server.create()
    assert server.ask("PUT", f"/v2/images/{made}/tags/a%20%C3%BC").status == 204
    assert server.show(made)["tags"] == ["a ü"]
    assert server.ask("PUT", f"/v2/images/{made}/tags/a%2Fb").status in (204, 404)


def test_several_processes_on_one_repository(server: WsgiServer) -> None:
    """Every process answers, and what one has stored each gives back."""
    made = server.create(name="for all")
    assert server.upload(made, DATA).status == 204
    assert len(server.workers()) >= WORKER_COUNT
    seen: set[str] = set()
    wrong: list[int] = []

    def ask() -> None:
        if server.download(made).data != DATA:
            wrong.append(1)

    give_up_s = time.monotonic() + 60
    while len(seen) < WORKER_COUNT and time.monotonic() < give_up_s:
        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = [line for line in server.log.read_text().splitlines() if f"path=/v2/images/{made}/file" in line]
        seen = {found[1] for line in lines if (found := re.search(r" ([0-9]+) INFO casimg_api.access ", line))}
    assert len(seen) == WORKER_COUNT
    assert wrong == []


def test_imports_in_the_background(server: WsgiServer, source: Web) -> None:
    """Data of a web server, and data that were staged, become images on threads of a process."""
    fetched, staged = server.create(), server.create()
    assert fetch(server, fetched, source.url("/image")).status == 202
    assert stage(server, staged).status == 204
    assert ask_import(server, staged, {"name": "glance-direct"}).status == 202
    for made in (fetched, staged):
        assert ended(server, made)["status"] == "success"
        assert server.download(made).data == IMPORTED


def test_a_cut_upload(begin: Start, tmp_path: Path) -> None:
    """A client that goes in the middle of a body leaves a queued image and nothing behind, and it takes data again."""
    server = begin()
    made = server.create()
    for length, has_reset in itertools.product((len(DATA) + 1, None), (False, True)):
        connection = server.begin_upload(made, length)
        connection.sendall(DATA if length else chunked(DATA))
        server.wait_for_status(made, "saving")
        if has_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        server.wait_for_status(made, "queued")
    nothing_is_kept(tmp_path / "repository")
    assert server.upload(made, DATA).status == 204
    assert server.download(made).data == DATA


def test_a_killed_process(begin: Start) -> None:
    """After kill -9 of every process that had an upload, others take their place; the image takes data again."""
    server = begin()
    made = server.create()
    with server.begin_upload(made, None) as connection:
        connection.sendall(chunked(DATA))
        server.wait_for_status(made, "saving")
        for pid in server.workers():
            if pid != server.process.pid:
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            connection.sendall(chunked(DATA) + b"0\r\n\r\n")
        assert status_of(connection) in (0, 500, 502, 503)
    give_up_s = time.monotonic() + 60
    while time.monotonic() < give_up_s:
        with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
            if server.show(made)["status"] == "queued":
                break
        time.sleep(0.1)
    server.wait_for_workers(2 * WORKER_COUNT)
    assert server.upload(made, DATA).status == 204
    assert server.download(made).data == DATA


def test_a_stop_ends_what_has_begun(begin: Start, tmp_path: Path, source: Web) -> None:
    """Told to stop, a server finishes uploads and downloads, gives back imports, and leaves no process."""
    server = begin()
    stored, made, chunked, imported = (server.create() for _ in range(4))
    assert server.upload(stored, DATA * 4).status == 204
    assert fetch(server, imported, source.url("/halting")).status == 202
    server.wait_for_status(imported, "importing")
    with (
        server.begin_upload(made, len(DATA)) as first,
        server.begin_upload(chunked, None) as second,
        contextlib.ExitStack() as stack,
    ):
        first.sendall(DATA[:SEGMENT_SIZE])
        second.sendall(chunk(DATA[:SEGMENT_SIZE]))
        takers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60)) for _ in range(16)
        ]
        for taker in takers:
            taker.sendall(f"GET /v2/images/{stored}/file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        taken = [taker.recv(65536) for taker in takers]
        server.wait_for_status(made, "saving")
        server.wait_for_status(chunked, "saving")
        pids = server.pids()
        ended_with: list[int] = []
        stopper = threading.Thread(target=lambda: ended_with.append(server.stop()))
        stopper.start()
        time.sleep(1)
        first.sendall(DATA[SEGMENT_SIZE:])
        second.sendall(chunk(DATA[SEGMENT_SIZE:]) + b"0\r\n\r\n")
        for number, taker in enumerate(takers):
            taken[number] += b"".join(iter(lambda taker=taker: taker.recv(1 << 20), b""))  # type: ignore[misc]
        assert (status_of(first), status_of(second)) == (204, 204)
    stopper.join()
    assert ended_with == [0]
    assert {one[:12] for one in taken} == {b"HTTP/1.1 200"}
    assert [one.partition(b"\r\n\r\n")[2] == DATA * 4 for one in taken] == [True] * len(takers)
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    with casimg.open(tmp_path / "repository") as repo:
        status = [repo.registry().show(ImageId(image_id), ALL).status for image_id in (made, chunked, imported)]
        assert status == ["active", "active", "queued"]
        for image_id in (made, chunked):
            with repo.open_image(image_id) as file:
                assert file.read() == DATA


def test_the_log(server: WsgiServer, stored: str) -> None:
    """The server's log has the service's line for each request, with no token in it."""
    server.ask(
        "GET", f"/v2/images/{stored}", headers={"X-Auth-Token": "verysecret", "X-Openstack-Request-Id": "req-log"}
    )
    give_up_s = time.monotonic() + 30
    while "request_id=req-log" not in (text := server.log.read_text()):
        assert time.monotonic() < give_up_s, text[-3000:]
        time.sleep(0.05)
    assert re.search(rf"request.done request_id=req-log method=GET path=/v2/images/{stored} status=200 ", text)
    assert "verysecret" not in text
    assert "Traceback" not in text
