"""A server of its own process over a repository, and a client that speaks HTTP byte by byte."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

START_TIME_MAX_S = 60.0
OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    def json(self) -> Any:
        return json.loads(self.data)


@dataclass(slots=True)
class Server:
    """`casimg serve`, and short ways to ask it things."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self, timeout_s: float = 60.0) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request on a connection of its own and read all of the answer; an iterable goes out chunked."""
        with closing(self.connect()) as connection:
            sent = {**self.headers, **(headers or {})}
            if body is not None and not isinstance(body, bytes):
                sent["Transfer-Encoding"] = "chunked"
                connection.request(method, path, body=body, headers=sent, encode_chunked=True)
            else:
                connection.request(method, path, body=body, headers=sent)
            return read_answer(connection.getresponse())

    def create(self, **fields: Any) -> str:
        """Register an image and return its id; raw and bare unless said otherwise."""
        document = {"disk_format": "raw", "container_format": "bare", **fields}
        answer = self.ask("POST", "/v2/images", json.dumps(document).encode(), {"Content-Type": "application/json"})
        assert answer.status == 201, answer
        return str(answer.json()["id"])

    def show(self, image_id: str) -> Any:
        answer = self.ask("GET", f"/v2/images/{image_id}")
        assert answer.status == 200, answer
        return answer.json()

    def upload(self, image_id: str, body: bytes | Iterable[bytes], headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("PUT", f"/v2/images/{image_id}/file", body, {"Content-Type": OCTETS, **(headers or {})})

    def download(self, image_id: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", f"/v2/images/{image_id}/file", headers=headers)

    def begin_upload(self, image_id: str, length: int | None) -> socket.socket:
        """Send the head of an upload and return the connection; without a length it is chunked."""
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        head = f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: here\r\nContent-Type: {OCTETS}\r\n{framing}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(head.encode() + b"\r\n")
        return connection

    def wait_for_status(self, image_id: str, status: str, time_max_s: float = 30.0) -> None:
        """Ask until an image has a status. Raises: AssertionError."""
        give_up_s = time.monotonic() + time_max_s
        while (found := self.show(image_id)["status"]) != status:
            assert time.monotonic() < give_up_s, f"{found}, not {status}: {self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def wait_for_answer(self) -> None:
        """Return when it answers. Raises: AssertionError with the log of one that does not; it is killed."""
        give_up_s = time.monotonic() + START_TIME_MAX_S
        while True:
            try:
                if self.ask("GET", "/healthcheck").status == 200:
                    return
            except (OSError, HTTPException):
                pass
            if self.process.poll() is not None or time.monotonic() > give_up_s:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the server does not answer: {self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def pids(self) -> list[int]:
        """Return the server's processes: it and its workers."""
        found, todo = [], [self.process.pid]
        while todo:
            at = todo.pop()
            found.append(at)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{at}/task").iterdir():
                    with contextlib.suppress(OSError):  # threads end while they are looked at
                        todo.extend(int(child) for child in (task / "children").read_text().split())
        return found

    def rss_anon(self) -> int:
        """Return anonymous resident bytes of all its processes."""
        return sum(_rss_anon(pid) for pid in self.pids())

    def kept_size(self) -> int:
        """Return the bytes of memory that its processes hold as files without a name."""
        return sum(_memory_files(pid) for pid in self.pids())

    def stop(self) -> int:
        """End it as an operator does and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def start(repository: Path, log: Path, config: str = "", *options: str) -> Server:
    """Start a server on a free port and return when it answers."""
    place = log.with_suffix(".toml")
    place.write_text(config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "casimg", "serve", str(repository), "--config", str(place), "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *options], stdout=output, stderr=output, env=os.environ.copy())
    server = Server(process, port, log)
    server.wait_for_answer()
    return server


def read_answer(response: HTTPResponse) -> Answer:
    """Read all of an answer."""
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def chunk(data: bytes) -> bytes:
    """Return bytes as one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def status_of(connection: socket.socket) -> int:
    """Read the beginning of an answer from a bare connection and return its status; 0 when it was cut."""
    data = b""
    try:
        while b"\r\n" not in data and (part := connection.recv(65536)):
            data += part
    except ConnectionError:
        pass
    found = re.match(rb"HTTP/1\.[01] ([0-9]{3})", data)
    return int(found[1]) if found else 0


def _memory_files(pid: int) -> int:
    found = {}
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if str(link.readlink()).startswith("/memfd:"):
                found[link.stat().st_ino] = link.stat().st_blocks * 512
    return sum(found.values())


def _rss_anon(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    return 0
