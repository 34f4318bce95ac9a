"""A server on a socket, started as users start it, and a client that shows the wire as it is."""

import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import casimg

PROJECTS = {
    "admin": ("p-admin", ["admin"]),
    "alice": ("p-alice", ["member"]),
    "bob": ("p-bob", ["member"]),
    "reader": ("p-alice", ["reader"]),
    "nova": ("p-service", ["service"]),
    "nobody": ("p-alice", []),
}
"""Who has tokens: their project and roles. A token is its owner's name, with -token behind it."""
START_S_MAX = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """Return a header by its name in any case; headers of one name are joined."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None


@dataclass(frozen=True)
class Client:
    """Calls a server, as somebody."""

    host: str
    port: int
    who: str | None = None

    def as_(self, who: str | None) -> "Client":
        return Client(self.host, self.port, who)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; a body that is no bytes goes as JSON. JSON is asked for unless headers say otherwise."""
        sent = {"Accept": "application/json", **(headers or {})}
        if self.who is not None:
            sent.setdefault("X-Auth-Token", f"{self.who}-token")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body=data, headers={name: value for name, value in sent.items() if value})
            answer = connection.getresponse()
            return Answer(answer.status, answer.reason, tuple(answer.getheaders()), answer.read())

    def chunked(self, path: str, data: bytes) -> Answer:
        """PUT data of a size that is not announced."""
        sent = {"Accept": "application/json", "X-Auth-Token": f"{self.who}-token", "Transfer-Encoding": "chunked"}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        with contextlib.closing(connection):
            headers = {**sent, "Content-Type": "application/octet-stream"}
            connection.request("PUT", path, body=iter([data]), headers=headers, encode_chunked=True)
            answer = connection.getresponse()
            return Answer(answer.status, answer.reason, tuple(answer.getheaders()), answer.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, headers=headers)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.call("POST", path, body)

    def put(self, path: str, body: Any = None) -> Answer:
        return self.call("PUT", path, body)

    def delete(self, path: str) -> Answer:
        return self.call("DELETE", path)

    def patch(self, path: str, body: Any, version: str = "2.1") -> Answer:
        media_type = f"application/openstack-images-v{version}-json-patch"
        return self.call("PATCH", path, body, {"Content-Type": media_type})

    def image(self, **attributes: Any) -> dict[str, Any]:
        """Create an image; return it as the server tells it."""
        made = self.post("/v2/images", attributes)
        assert made.status == 201, made.body
        found: dict[str, Any] = made.json
        return found


def tokens_text() -> str:
    """Return the file of tokens of PROJECTS."""
    parts = []
    for who, (project, roles) in PROJECTS.items():
        digest = hashlib.sha256(f"{who}-token".encode()).hexdigest()
        parts.append(f'[tokens.{who}]\nsha256 = "{digest}"\nproject = "{project}"\nuser = "{who}"\nroles = {roles}\n')
    return "\n".join(parts)


def site(folder: Path, config: str = "") -> Path:
    """Make a repository and the configuration of a server with static tokens; return the configuration's path."""
    casimg.create(folder / "repository").close()
    (folder / "tokens.toml").write_text(tokens_text())
    path = folder / "server.toml"
    auth = "" if "[auth]" in config else '[auth]\nmode = "tokens"\ntokens_file = "tokens.toml"\n'
    path.write_text(f'[repository]\npath = "repository"\n{auth}{config}')
    return path


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[Client]:
    """Run `casimg serve` with arguments until the end of the block."""
    port = free_port()
    command = [sys.executable, "-m", "casimg", "serve", *arguments, "--port", str(port)]
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    # A file: a pipe that nobody reads would stop the server as soon as it is full.
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environ) as process,
    ):
        try:
            _wait(process, port, output)
            yield Client("127.0.0.1", port)
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: "subprocess.Popen[bytes]", port: int, output: IO[bytes]) -> None:
    end = time.monotonic() + START_S_MAX
    while time.monotonic() < end:
        if process.poll() is not None:
            output.seek(0)
            raise AssertionError(f"the server did not start: {output.read().decode()}")
        with (
            contextlib.suppress(OSError),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=1)) as connection,
        ):
            connection.request("GET", "/healthcheck")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
    raise AssertionError("the server did not answer in time")
