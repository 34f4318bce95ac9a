"""A client that costs little: bare sockets, large buffers, a connection kept as long as the server keeps it.

It reads answers with a Content-Length only, which is what both services send.
"""

import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

BUFFER_SIZE: Final = 1 << 20
CHUNK_SIZE: Final = 64 << 10
"""What python-glanceclient sends at a time."""
_CALLER: Final = {
    "X-Identity-Status": "Confirmed",
    "X-Roles": "admin,member,reader",
    "X-User-Id": "bench",
    "X-Project-Id": "bench",
    "X-Tenant-Id": "bench",
}
"""What Keystone's middleware tells Glance of a caller; casimg without authentication does not look at it."""


class UnexpectedAnswerError(Exception):
    """A service answered with another status, or other bytes, than it should have."""


class Client:
    """Ask one service. Threads: one.

    Args:
        keeps: use a connection again when the server keeps it.
    """

    def __init__(self, port: int, *, keeps: bool = True) -> None:
        self.port = port
        self._keeps = keeps
        self._connection: socket.socket | None = None
        self._buffer = bytearray(BUFFER_SIZE)

    def create(self, name: str, **properties: str) -> str:
        """Register a raw image and return its id."""
        document = {"name": name, "disk_format": "raw", "container_format": "bare", **properties}
        body = json.dumps(document).encode()
        head = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        return str(json.loads(self._answer("POST", "/v2/images", head, body, status=201))["id"])

    def show(self, path: str) -> Any:
        """Return a JSON document."""
        return json.loads(self._answer("GET", path))

    def upload(self, image_id: str, path: Path, *, chunked: bool) -> None:
        """Send a file as the data of an image: in chunks as python-glanceclient does, or with its length at once."""
        framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(path.stat().st_size)}
        head = {"Content-Type": "application/octet-stream", **framing}
        connection = self._send("PUT", f"/v2/images/{image_id}/file", head)
        with path.open("rb", buffering=0) as file:
            if not chunked:
                connection.sendfile(file)
            else:
                view = memoryview(bytearray(CHUNK_SIZE))
                while size := file.readinto(view):
                    _send_all(connection, [b"%x\r\n" % size, view[:size], b"\r\n"])
                connection.sendall(b"0\r\n\r\n")
        self._read(204, _throw_away)

    def download(self, image_id: str) -> int:
        """Read an image to its end, throw it away, and return its size."""
        self._send("GET", f"/v2/images/{image_id}/file")
        return self._read(200, _throw_away)

    def sha512(self, image_id: str) -> str:
        """Read an image to its end and return its digest."""
        digest = hashlib.sha512()
        self._send("GET", f"/v2/images/{image_id}/file")
        self._read(200, digest.update)
        return digest.hexdigest()

    def range(self, image_id: str, start: int, size: int) -> bytes:
        """Return a range of an image."""
        self._send("GET", f"/v2/images/{image_id}/file", {"Range": f"bytes={start}-{start + size - 1}"})
        kept = bytearray()
        if self._read(206, kept.extend) != size:
            raise UnexpectedAnswerError(f"a range of {size} bytes came with {len(kept)}")
        return bytes(kept)

    def skim(self, image_id: str, start: int, size: int) -> None:
        """Read a range of an image and throw it away."""
        self._send("GET", f"/v2/images/{image_id}/file", {"Range": f"bytes={start}-{start + size - 1}"})
        if self._read(206, _throw_away) != size:
            raise UnexpectedAnswerError("a range came with another size")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _answer(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", status: int = 200
    ) -> bytes:
        self._send(method, path, headers, body)
        kept = bytearray()
        self._read(status, kept.extend)
        return bytes(kept)

    def _send(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> socket.socket:
        ends = {} if self._keeps else {"Connection": "close"}
        lines = [f"{name}: {value}" for name, value in {**_CALLER, **ends, **(headers or {})}.items()]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *lines, "", ""])
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self.port), timeout=600)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(head.encode() + body)
        return self._connection

    def _read(self, status: int, take: Callable[[memoryview], object]) -> int:
        """Read an answer, give its body away in parts, and return how many bytes it had."""
        connection, view = self._connection, memoryview(self._buffer)
        assert connection is not None
        have = 0
        while (end := self._buffer.find(b"\r\n\r\n", 0, have)) < 0:
            count = connection.recv_into(view[have:])
            if not count:
                raise UnexpectedAnswerError("the server closed the connection")
            have += count
        lines = bytes(view[:end]).decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        size = 0 if status == 204 else int(fields.get("content-length", "0"))
        left = size - (have - end - 4)
        take(view[end + 4 : have])
        while left > 0:
            count = connection.recv_into(view)
            if not count:
                raise UnexpectedAnswerError(f"{left} bytes of the answer are missing")
            take(view[:count])
            left -= count
        if not self._keeps or fields.get("connection", "").lower() == "close" or lines[0].startswith("HTTP/1.0"):
            self.close()
        if int(lines[0].split(" ")[1]) != status:
            raise UnexpectedAnswerError(f"{lines[0]} instead of {status}: {bytes(view[:300])!r}")
        return size


def _throw_away(part: memoryview) -> None:
    """Take a part of a body and do nothing with it."""
    del part


def _send_all(connection: socket.socket, parts: list[bytes | memoryview]) -> None:
    """Send several buffers with as few calls as the socket lets us."""
    sent = connection.sendmsg(parts)
    for part in parts:
        if sent < len(part):
            connection.sendall(part[sent:])
        sent = max(0, sent - len(part))


__all__ = ["CHUNK_SIZE", "Client", "UnexpectedAnswerError"]
