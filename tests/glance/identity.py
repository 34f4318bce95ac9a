"""A real Keystone on loopback, with the people, roles and endpoints that the tests want."""

import contextlib
import http.client
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.glance.install import ADMIN_PASSWORD, HERE, REGION, Programs, clean_environ, keystone_conf
from tests.servers.processes import ending_with_us, free_port, running

SERVICE_USER = "glance"
PEOPLE = {
    "admin": ("admin", ()),
    SERVICE_USER: ("service", ("service", "admin")),
    "nova": ("service", ("service",)),
    "alice": ("blue", ("member",)),
    "rita": ("blue", ("reader",)),
    "bob": ("red", ("member",)),
}
"""User: project and roles there; admin is there from the start. A password is its owner's name twice."""
IMAGE_SERVICE = "glance"
"""The image service's name in the catalog, which tempest looks for."""
LIMITS = ("image_size_total", "image_stage_total", "image_count_total", "image_count_uploading")
FAR_AWAY = 100_000
"""The limit of a project unless a test says another."""


def password_of(user: str) -> str:
    """Return the password of a user of PEOPLE."""
    return ADMIN_PASSWORD if user == "admin" else f"{user}-{user}"


@dataclass(frozen=True)
class Keystone:
    """A running Keystone, called as its administrator."""

    port: int
    token: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v3"

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any, str]:
        """Return status, document and X-Subject-Token of one call."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "X-Auth-Token": self.token}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/v3{path}", body=data, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None, answer.getheader("X-Subject-Token", "")

    def want(self, method: str, path: str, body: Any = None) -> Any:
        """Return the document of one call. Raises: SystemExit when it is refused."""
        status, document, _token = self.call(method, path, body)
        if status >= 300:
            raise SystemExit(f"Keystone refuses {method} {path}: {status} {document}")
        return document

    def as_admin(self) -> "Keystone":
        """Return the same server with a token of its administrator."""
        user = {"name": "admin", "domain": {"id": "default"}, "password": ADMIN_PASSWORD}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
            }
        }
        status, document, token = self.call("POST", "/auth/tokens", body)
        if status != 201:
            raise SystemExit(f"Keystone gives its administrator no token: {status} {document}")
        return Keystone(self.port, token)

    def answers(self) -> bool:
        """Return whether it is there."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.call("GET", "")[0] == 200
        return False


@contextmanager
def keystone(programs: Programs, folder: Path) -> Iterator[Keystone]:
    """Run Keystone until the end of the block; its state and log are in a new folder."""
    port = free_port()
    shutil.copytree(programs.template, folder)
    conf = folder / "keystone.conf"
    conf.write_text(keystone_conf(folder))
    environ = clean_environ(OS_KEYSTONE_CONFIG_DIR=str(folder), OS_KEYSTONE_CONFIG_FILES=str(conf))
    # One process: the cache of tokens is in its memory. One thread: of two writers SQLite refuses one.
    gunicorn = [programs.bin / "gunicorn", "--no-control-socket", "--workers", "1", "--threads", "1"]
    where = ["--bind", f"127.0.0.1:{port}", "tests.glance.keystone_app:application"]
    found = Keystone(port)
    with running(
        ending_with_us([*gunicorn, *where]),
        found.answers,
        folder / "log",
        folder=HERE.parents[1],
        environ=environ,
        start_s_max=120.0,
    ):
        yield found


def furnish(found: Keystone, endpoints: dict[str, str]) -> None:
    """Make services with their endpoints, limits of images, projects, users and roles.

    Args:
        endpoints: URL by type of service; Keystone's own is added.
    """
    admin = found.as_admin()
    known = {service["type"]: service["id"] for service in admin.want("GET", "/services")["services"]}
    for kind, url in {"identity": found.url, **endpoints}.items():
        service_id = known.get(kind)
        if service_id is None:
            body = {"service": {"type": kind, "name": IMAGE_SERVICE if kind == "image" else kind}}
            service_id = known[kind] = admin.want("POST", "/services", body)["service"]["id"]
        for interface in ("public", "internal", "admin"):
            endpoint = {"service_id": service_id, "url": url, "interface": interface, "region_id": REGION}
            admin.want("POST", "/endpoints", {"endpoint": endpoint})
    registered = [
        {"service_id": known["image"], "region_id": REGION, "resource_name": name, "default_limit": FAR_AWAY}
        for name in LIMITS
    ]
    admin.want("POST", "/registered_limits", {"registered_limits": registered})
    roles = {role["name"]: role["id"] for role in admin.want("GET", "/roles")["roles"]}
    projects: dict[str, str] = {}
    for user, (project, names) in PEOPLE.items():
        if user == "admin":
            continue
        if project not in projects:
            body = {"project": {"name": project, "domain_id": "default"}}
            projects[project] = admin.want("POST", "/projects", body)["project"]["id"]
        body = {"user": {"name": user, "password": password_of(user), "domain_id": "default"}}
        user_id = admin.want("POST", "/users", body)["user"]["id"]
        for name in names:
            admin.want("PUT", f"/projects/{projects[project]}/users/{user_id}/roles/{roles[name]}")
