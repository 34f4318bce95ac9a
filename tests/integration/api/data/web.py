"""A web server for imports to fetch from: what it has is told by a dictionary, and it can stand still in the middle."""

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
    """

    data: bytes = b""
    status: int = 200
    location: str | None = None
    announced: int | None = None
    drip_s: float = 0.0


@dataclass(slots=True)
class Web:
    """A running web server."""

    port: int
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Paths with the headers of the requests, as they came."""

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def web(context: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Serve pages on loopback until the end of the block; with a context over TLS."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            page = found.pages.get(self.path.partition("?")[0], Page(status=404))
            self.send_response(page.status)
            if page.location is not None:
                self.send_header("Location", page.location)
            length = len(page.data) if page.announced is None else page.announced
            if length >= 0:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self._send(page)

        def _send(self, page: Page) -> None:
            for at in range(0, len(page.data), 65536):
                if page.drip_s < 0 and at + 65536 >= len(page.data):
                    ended.wait(60)
                    return
                try:
                    self.wfile.write(page.data[at : at + 65536])
                except OSError:
                    return
                if page.drip_s > 0:
                    time.sleep(page.drip_s)

        def log_message(self, format: str, *args: object) -> None:
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
