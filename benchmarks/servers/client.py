"""A client that costs little: bare sockets, large buffers, bytes that are there already."""

import json
import socket
from collections.abc import Iterable, Iterator
from http.client import HTTPConnection
from random import Random
from typing import Any

OCTETS = "application/octet-stream"
BLOCK_SIZE = 1 << 20


class Client:
    """Ask a server on a port of this machine; every request has a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def create(self) -> str:
        """Register an image and return its id."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = json.dumps({"disk_format": "raw", "container_format": "bare"})
        connection.request("POST", "/v2/images", body, {"Content-Type": "application/json"})
        document = json.loads(connection.getresponse().read())
        connection.close()
        return str(document["id"])

    def show(self, image_id: str) -> Any:
        return json.loads(self.text(f"/v2/images/{image_id}"))

    def text(self, path: str) -> str:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        data = connection.getresponse().read()
        connection.close()
        return data.decode()

    def put(self, path: str, blocks: Iterable[bytes], size: int | None) -> int:
        """Send a body, chunked without a size, and return the status."""
        with self.begin_put(path, size) as connection:
            for block in blocks:
                send_block(connection, block, chunked=size is None)
            if size is None:
                connection.sendall(b"0\r\n\r\n")
            return status_of(connection)

    def begin_put(self, path: str, size: int | None, time_max_s: float = 300.0) -> socket.socket:
        framing = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
        head = f"PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Type: {OCTETS}\r\n{framing}\r\nConnection: close\r\n\r\n"
        return self._begin(head, time_max_s)

    def begin_get(self, path: str, time_max_s: float = 300.0) -> socket.socket:
        return self._begin(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", time_max_s)

    def get(self, path: str) -> int:
        """Read an answer and return the bytes of its body."""
        buffer = bytearray(BLOCK_SIZE)
        with self.begin_get(path) as connection:
            head = b""
            while b"\r\n\r\n" not in head and (part := connection.recv(65536)):
                head += part
            size = len(head.partition(b"\r\n\r\n")[2])
            while count := connection.recv_into(buffer):
                size += count
            return size

    def _begin(self, head: str, time_max_s: float) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=time_max_s)
        connection.sendall(head.encode())
        return connection


def send_block(connection: socket.socket, block: bytes, *, chunked: bool) -> None:
    """Send part of a body."""
    if chunked:
        connection.sendall(b"%x\r\n" % len(block))
    connection.sendall(block)
    if chunked:
        connection.sendall(b"\r\n")


def status_of(connection: socket.socket) -> int:
    """Read an answer to its end and return its status; 0 when there is none."""
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except (ConnectionError, TimeoutError):
        pass
    words = data.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def disk_blocks(size: int, seed: int) -> list[bytes]:
    """Return blocks like a disk's: half of each is random, half is text."""
    rng = Random(seed)
    blocks = []
    for number in range(size // BLOCK_SIZE):
        line = b"%d %d: what compresses well, as configuration and logs do\n" % (seed, number)
        text = line * (BLOCK_SIZE // 2 // len(line) + 1)
        blocks.append(rng.randbytes(BLOCK_SIZE // 2) + text[: BLOCK_SIZE // 2])
    return blocks


def random_blocks(size: int, seed: int) -> Iterator[bytes]:
    """Yield blocks that neither repeat nor compress, made while they are sent."""
    rng = Random(seed)
    for _ in range(size // BLOCK_SIZE):
        yield rng.randbytes(BLOCK_SIZE)
