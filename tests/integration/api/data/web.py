"""A web server for imports to fetch from: what it has is told by a dictionary, and it can stand still in the middle."""

import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Page:
    """What is at a path.

    Args:
        location: where to go instead.
        announced: a Content-Length that need not be true; None says the true one, negative says none.
        drip_s: seconds between parts of 64 KiB; the last one is never sent when it is negative.
        has_ranges: whether a range is answered with a range.
        head: status of an answer to HEAD; 0 is that of GET.
        cut_at: bytes after which the connection ends.
    """

    data: bytes = b""
    status: int = 200
    location: str | None = None
    announced: int | None = None
    drip_s: float = 0.0
    has_ranges: bool = True
    head: int = 0
    cut_at: int | None = None


@dataclass(slots=True)
class Web:
    """A running web server."""

    port: int
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Paths with the headers of the requests, as they came."""
    methods: list[str] = field(default_factory=list)
    """Of these requests."""

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def web(context: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Serve pages on loopback until the end of the block; with a context over TLS."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def _answer(self) -> None:
            found.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            found.methods.append(self.command)
            page = found.pages.get(self.path.partition("?")[0], Page(status=404))
            data, status = page.data, page.status
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if match is not None and page.has_ranges and status == 200:
                status, data = 206, data[int(match[1]) : int(match[2]) + 1]
            self.send_response(page.head if self.command == "HEAD" and page.head else status)
            if match is not None and status == 206:
                self.send_header("Content-Range", f"bytes {match[1]}-{match[2]}/{len(page.data)}")
            if page.location is not None:
                self.send_header("Location", page.location)
            length = len(data) if page.announced is None else page.announced
            if length >= 0:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "GET":
                self._send(page, data[: page.cut_at])

        def _send(self, page: Page, data: bytes) -> None:
            for at in range(0, len(data), 65536):
                if page.drip_s < 0 and at + 65536 >= len(data):
                    ended.wait(60)
                    return
                try:
                    self.wfile.write(data[at : at + 65536])
                except OSError:
                    return
                if page.drip_s > 0:
                    time.sleep(page.drip_s)

        def log_message(self, *_: object) -> None:
            """Be silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found = Web(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
