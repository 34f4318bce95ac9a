"""The whole site on loopback: Keystone, two casimg servers on one repository, a web server."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.glance.identity import PEOPLE, Keystone, furnish, keystone, password_of
from tests.glance.install import REGION, Programs
from tests.glance.service import Settings, config_text, make_repository, serving
from tests.glance.suite import REMOTE_SERVICE
from tests.glance.web import serving_files
from tests.servers.processes import free_port


@dataclass(frozen=True)
class Site:
    """What is there while it runs, except casimg itself, which is started for each configuration."""

    folder: Path
    identity: Keystone
    repository: Path
    port: int
    remote_port: int
    web_port: int

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def image_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def images(self, name: str, settings: Settings, own_folders: Sequence[tuple[str, str]] = ()) -> Iterator[None]:
        """Run casimg with settings until the end of the block, as two servers on one repository.

        Args:
            own_folders: section and key of settings that name a folder, another one for each server.
        """
        fetched = {"allowed_ports": [self.web_port, self.port], "allowed_networks": ["127.0.0.0/8"]}
        methods = ["glance-direct", "web-download", "glance-download", "copy-image"]
        imports = {"enabled_import_methods": methods}
        always: Settings = {"image_import": imports, "import_filtering_opts": fetched}
        with ExitStack() as stack:
            for server, port in ((f"casimg-{name}", self.port), (f"casimg-{name}-remote", self.remote_port)):
                own = {section: {key: str(self.folder / f"{server}-{key}")} for section, key in own_folders}
                config = config_text(self.repository, self.identity, always, settings, own)
                stack.enter_context(serving(self.folder, server, config, port))
            yield

    def described(self, programs: Programs) -> Path:
        """Write what clients need to know of the site into a file; returns its path."""
        path = self.folder / "site.json"
        people = {
            user: {"project": project, "password": password_of(user)} for user, (project, _roles) in PEOPLE.items()
        }
        document: dict[str, Any] = {
            "auth_url": self.identity.url,
            "image_url": self.image_url,
            "web_url": self.web_url,
            "region": REGION,
            "people": people,
            "bin": str(programs.bin),
        }
        path.write_text(json.dumps(document))
        return path

    def openrc(self) -> str:
        """Return the exports with which a shell's `openstack` reaches the site as administrator."""
        exports = {
            "OS_AUTH_URL": self.identity.url,
            "OS_USERNAME": "admin",
            "OS_PASSWORD": password_of("admin"),
            "OS_PROJECT_NAME": "admin",
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_REGION_NAME": REGION,
        }
        return "export " + " ".join(f"{name}={value}" for name, value in exports.items())


@contextmanager
def site(programs: Programs, folder: Path) -> Iterator[Site]:
    """Run everything but casimg until the end of the block, on free ports."""
    with ExitStack() as stack:
        identity = stack.enter_context(keystone(programs, folder / "keystone"))
        found = Site(
            folder, identity, make_repository(folder, programs.definitions), free_port(), free_port(), free_port()
        )
        stack.enter_context(serving_files(found.web_port))
        remote_url = f"http://127.0.0.1:{found.remote_port}"
        furnish(identity, {"image": found.image_url, REMOTE_SERVICE: remote_url})
        yield found
