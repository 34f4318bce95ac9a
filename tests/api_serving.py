"""The Image API over a real socket, for tests: a server in a thread, callers with static tokens, plain requests."""

import hashlib
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from casimg.repository import Repository
from casimg_api.app import make_app
from casimg_api.config import Config

CALLERS: Mapping[str, tuple[str, str]] = {
    "admin": ("root", "admin"),
    "one": ("one", "member"),
    "reader": ("one", "reader"),
    "two": ("two", "member"),
    "stranger": ("three", "other"),
}
"""Name of a token: its project and role."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Client:
    """Requests to one server; each on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = "admin",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request below /v2.

        Args:
            path: quoted as far as needed.
            body: sent as JSON; `data` is sent as it is.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if body is not None:
            data = json.dumps(body).encode()
        try:
            connection.request(
                method,
                "/v2" + quote(path, safe="/?&=%:,+"),
                data,
                {"X-Auth-Token": token, "Accept": "application/json", **(headers or {})},
            )
            found = connection.getresponse()
            return Answer(found.status, dict(found.getheaders()), found.read())
        finally:
            connection.close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        pass


@contextmanager
def serving(repository: Repository, folder: Path, **sections: Mapping[str, Any]) -> Iterator[Client]:
    """Serve a repository on a free port of loopback.

    Args:
        folder: for the file of tokens.
        sections: of the configuration, beside that of authentication.
    """
    tokens = folder / "tokens.toml"
    tokens.write_text(
        "\n".join(
            f'[tokens.{name}]\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
            f'project = "{project}"\nuser = "{name}"\nroles = ["{role}"]'
            for name, (project, role) in CALLERS.items()
        )
    )
    document = {"auth": {"mode": "tokens", "tokens_file": str(tokens)}, **sections}
    app = make_app(repository, Config.of(document, "test"))
    with make_server("127.0.0.1", 0, app, _Server, _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield Client(server.server_port)
        finally:
            server.shutdown()
            thread.join()
