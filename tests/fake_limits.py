"""As much of Keystone as oslo.limit asks: a token for a password, one endpoint, limits that a test sets."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

ENDPOINT = "endpoint-1"
SERVICE = "service-1"
REGION = "RegionOne"
PASSWORD = "asks-for-limits"


@dataclass
class FakeLimits:
    """The limits that Keystone has; tests set them while it runs."""

    port: int = 0
    registered: dict[str, int] = field(default_factory=dict)
    """Default limit by resource; what is not here is not registered."""
    of_projects: dict[tuple[str, str], int] = field(default_factory=dict)
    """Limit by project and resource, where it is not the default."""
    model: str = "flat"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v3"

    @property
    def options(self) -> dict[str, str]:
        """What the server is told of it: the table quota.oslo_limit."""
        return {
            "endpoint_id": ENDPOINT,
            "auth_url": self.url,
            "username": "glance",
            "password": PASSWORD,
            "user_domain_name": "Default",
            "system_scope": "all",
        }

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        """Return status and document of a request."""
        path, asked = urlsplit(target).path.removeprefix("/v3").rstrip("/"), dict(parse_qsl(urlsplit(target).query))
        if method == "POST" and path == "/auth/tokens":
            identity = body["auth"]["identity"]["password"]["user"]
            return (201, {"token": self._token()}) if identity["password"] == PASSWORD else (401, {"error": {}})
        ours = asked.get("service_id") == SERVICE and asked.get("region_id") == REGION
        where = {"service_id": SERVICE, "region_id": REGION}
        if path == "":
            links = [{"rel": "self", "href": f"{self.url}/"}]
            return 200, {"version": {"id": "v3.14", "status": "stable", "links": links, "media-types": []}}
        if path == "/limits/model":
            return 200, {"model": {"name": self.model, "description": ""}}
        if path == f"/endpoints/{ENDPOINT}":
            return 200, {"endpoint": {"id": ENDPOINT, "interface": "public", "url": "http://images", **where}}
        if path == "/limits" and ours:
            found = [
                {"id": name, "project_id": project, "resource_name": name, "resource_limit": limit, **where}
                for (project, name), limit in self.of_projects.items()
                if project == asked.get("project_id")
            ]
            return 200, {"limits": found, "links": {}}
        if path == "/registered_limits" and ours:
            defaults = [
                {"id": name, "resource_name": name, "default_limit": limit, **where}
                for name, limit in self.registered.items()
            ]
            return 200, {"registered_limits": defaults, "links": {}}
        return 404, {"error": {"code": 404, "message": path, "title": "Not Found"}}

    def _token(self) -> dict[str, Any]:
        endpoints = [
            {"id": one, "interface": one, "url": self.url, "region": REGION, "region_id": REGION}
            for one in ("public", "internal", "admin")
        ]
        return {
            "methods": ["password"],
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2999-01-01T00:00:00.000000Z",
            "user": {"id": "u", "name": "glance", "domain": {"id": "default", "name": "Default"}},
            "system": {"all": True},
            "roles": [{"id": "r", "name": "reader"}],
            "catalog": [{"id": "k", "type": "identity", "name": "keystone", "endpoints": endpoints}],
        }


@contextlib.contextmanager
def serving_limits() -> Iterator[FakeLimits]:
    """Answer on loopback until the end of the block."""
    limits = FakeLimits()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(*limits.answer("GET", self.path, None))

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            self._send(*limits.answer("POST", self.path, json.loads(self.rfile.read(length))))

        def _send(self, status: int, document: Any) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Subject-Token", "a-token")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    limits.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield limits
    finally:
        server.shutdown()
        server.server_close()
