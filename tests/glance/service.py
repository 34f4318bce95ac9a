"""casimg as it is installed from this tree: a new repository, a configuration with Keystone, `casimg serve`."""

import contextlib
import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.glance.identity import SERVICE_USER, Keystone, password_of
from tests.glance.install import REGION, clean_environ
from tests.servers.processes import ending_with_us, run_checked, running

Settings = Mapping[str, Mapping[str, Any]]
"""Sections of a server's configuration."""


OTHER_STORE = "spare"
"""The repository's second backend; its name comes after that of the default one, as tempest's tests want it."""


def make_repository(folder: Path, definitions: Path) -> Path:
    """Make a repository of two backends in a folder, with the standard metadata definitions, as users do."""
    path = folder / "repository"
    casimg = [sys.executable, "-m", "casimg"]
    run_checked([*casimg, "init", path], folder, clean_environ())
    run_checked([*casimg, "backend", "add", path, OTHER_STORE, folder / OTHER_STORE], folder, clean_environ())
    run_checked([*casimg, "--repo", path, "metadefs", "load", definitions], folder, clean_environ())
    return path


def config_text(repository: Path, identity: Keystone, *settings: Settings) -> str:
    """Return a configuration of the server with Keystone, and with settings; the last word counts."""
    us = {
        "auth_url": identity.url,
        "username": SERVICE_USER,
        "password": password_of(SERVICE_USER),
        "project_name": "service",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    sections: dict[str, dict[str, Any]] = {
        "repository": {"path": str(repository)},
        "auth": {"mode": "keystone"},
        "auth.keystone": {
            **us,
            "www_authenticate_uri": identity.url,
            "auth_type": "password",
            "service_token_roles": ["service"],
            "service_token_roles_required": True,
        },
    }
    for one in settings:
        for name, options in one.items():
            sections.setdefault(name, {}).update(options)
    if sections.get("quota", {}).get("use_keystone_limits"):
        sections["quota.oslo_limit"] = {**us, "endpoint_service_type": "image", "endpoint_region_name": REGION}
    # JSON's texts, numbers, booleans and lists of them are TOML as well.
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items())
        for name, options in sections.items()
    )


@contextmanager
def serving(folder: Path, name: str, config: str, port: int) -> Iterator[None]:
    """Run `casimg serve` until the end of the block; its configuration and log are in a folder."""
    path = folder / f"{name}.toml"
    path.write_text(config)
    command = [sys.executable, "-m", "casimg", "serve", "--config", path, "--host", "127.0.0.1", "--port", port]
    with running(
        ending_with_us(command),
        lambda: _is_healthy(port),
        folder / f"{name}.log",
        folder=folder,
        environ=clean_environ(),
    ):
        yield


def _is_healthy(port: int) -> bool:
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection,
    ):
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == 200
    return False
