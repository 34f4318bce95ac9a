"""openstacksdk's own functional tests of images against a running site.

They want clouds of four names, and an image that is there already, for servers that are not started here.
"""

import contextlib
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.glance.identity import Keystone, password_of
from tests.glance.install import REGION, Programs, clean_environ
from tests.glance.outcomes import Outcome
from tests.glance.stestr import run_stestr

SUITES = (("image", r"^openstack\.tests\.functional\.image\."), ("cloud", r"\.test_image\."))
"""Folders of its functional tests, and what in them is about images."""
_PEOPLE = {"devstack": "alice", "devstack-alt": "bob", "devstack-admin": "admin", "devstack-system-admin": "admin"}
_PROJECTS = {"alice": "blue", "bob": "red", "admin": "admin"}
_IMAGE = "casimg-functional"


def clouds(auth_url: str) -> dict[str, Any]:
    """Return the file in which openstacksdk looks for clouds."""
    found: dict[str, Any] = {}
    for name, user in _PEOPLE.items():
        is_system = name == "devstack-system-admin"
        scope = (
            {"system_scope": "all"}
            if is_system
            else {"project_name": _PROJECTS[user], "project_domain_name": "Default"}
        )
        auth = {"auth_url": auth_url, "username": user, "password": password_of(user), "user_domain_name": "Default"}
        found[name] = {"auth": {**auth, **scope}, "region_name": REGION, "identity_api_version": "3"}
    return {"clouds": found}


def run_sdk_suite(programs: Programs, folder: Path, identity: Keystone, port: int) -> list[Outcome]:
    """Run the tests against the image service at a port; returns what became of each. Raises: SystemExit."""
    path = folder / "clouds.yaml"
    path.write_text(json.dumps(clouds(identity.url)))  # JSON is YAML as well
    environ = clean_environ(
        OS_CLIENT_CONFIG_FILE=str(path), OS_CLOUD="devstack-admin", OPENSTACKSDK_IMAGE=_IMAGE, OS_TEST_TIMEOUT="120"
    )
    found: list[Outcome] = []
    with _an_image(identity, port):
        for name, regex in SUITES:
            work = folder / f"openstacksdk-{name}"
            work.mkdir()
            # A test stores the file of this name, which is there in the sources.
            (work / "CONTRIBUTING.rst").write_text("Words to store.\n" * 100)
            found += run_stestr(programs, work, "openstack", f"tests/functional/{name}", environ, regex)
    return found


@contextmanager
def _an_image(identity: Keystone, port: int) -> Iterator[None]:
    """Have a public image until the end of the block: the tests refuse to begin without any."""
    token = identity.as_admin().token
    document = {"name": _IMAGE, "visibility": "public", "disk_format": "raw", "container_format": "bare"}
    made = _call(port, token, "POST", "/v2/images", json.dumps(document).encode(), "application/json")
    place = f"/v2/images/{json.loads(made)['id']}"
    _call(port, token, "PUT", f"{place}/file", b"not a disk", "application/octet-stream")
    yield
    _call(port, token, "DELETE", place, None, "application/json")


def _call(port: int, token: str, method: str, path: str, body: bytes | None, kind: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body=body, headers={"X-Auth-Token": token, "Content-Type": kind})
        answer = connection.getresponse()
        data = answer.read()
    if answer.status >= 300:
        raise SystemExit(f"casimg refuses {method} {path}: {answer.status} {data!r}")
    return data
