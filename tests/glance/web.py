"""A web server on loopback with two small images, for imports from a URL."""

import random
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_CLUSTER_SIZE = 1 << 16
_VIRTUAL_SIZE = 1 << 20


def raw_image() -> bytes:
    """Return a raw disk: bytes that look like nothing else."""
    return b"\0" * 4096 + random.Random(1).randbytes(300_000)


def qcow2_image() -> bytes:
    """Return an empty disk of 1 MiB as qemu-img makes it: header, table and block of counts, a table of clusters."""
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, _VIRTUAL_SIZE)
    head += struct.pack(">IIQQIIQ", 0, 1, 3 * _CLUSTER_SIZE, _CLUSTER_SIZE, 1, 0, 0)
    head += struct.pack(">QQQII", 0, 0, 0, 4, 104)
    counts = struct.pack(">Q", 2 * _CLUSTER_SIZE)
    block = struct.pack(">4H", 1, 1, 1, 1)
    return b"".join(part.ljust(_CLUSTER_SIZE, b"\0") for part in (head, counts, block, b""))


FILES = {"/image.raw": raw_image(), "/image.qcow2": qcow2_image()}


@contextmanager
def serving_files(port: int) -> Iterator[None]:
    """Serve FILES until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer with a file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the headers of a file."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        data = FILES.get(self.path)
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        if with_body and data:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Print nothing."""
