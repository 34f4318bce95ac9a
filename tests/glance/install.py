"""Keystone, tempest and the clients in a venv of their own, and a database of Keystone that only wants a copy."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.servers.processes import run_checked

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
ADMIN_PASSWORD = "only-for-tests-on-loopback"
REGION = "RegionOne"
GLANCE = "glance==33.0.0"
"""Not installed: its wheel has the standard metadata definitions, which tests of tempest expect to be there."""


@dataclass(frozen=True)
class Programs:
    """What is installed, and where."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / "bin"

    @property
    def python(self) -> Path:
        return self.bin / "python"

    @property
    def template(self) -> Path:
        """Keystone's database and keys, after bootstrap."""
        return self.folder / "keystone"

    @property
    def definitions(self) -> Path:
        """The wheel with the standard metadata definitions."""
        return next((self.folder / "wheels").glob("glance-*.whl"))


def install(folder: Path) -> Programs:
    """Return the programs below a folder; installs them with pip when they or their versions are not the wanted ones.

    Raises: SystemExit with what pip or Keystone said.
    """
    programs = Programs(folder)
    stamp = folder / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + GLANCE.encode() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return programs
    print(f"installing Keystone, tempest and clients below {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run_checked([sys.executable, "-m", "venv", folder / "venv"], folder)
    pip = [programs.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run_checked([*pip, "-r", REQUIREMENTS], folder)
    download = [programs.python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder / "wheels", GLANCE]
    run_checked(download, folder)
    _make_template(programs)
    stamp.write_text(wanted)
    return programs


def versions(programs: Programs) -> dict[str, str]:
    """Return the versions of what requirements.txt names."""
    names = {line.split("==")[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line}
    frozen = run_checked([programs.python, "-m", "pip", "freeze"], programs.folder).splitlines()
    found = dict(line.split("==", 1) for line in frozen if "==" in line)
    return {name: found[name] for name in sorted(names)}


def clean_environ(**more: str) -> dict[str, str]:
    """Return our environment without what points clients at another cloud or through a proxy."""
    return {**{name: value for name, value in os.environ.items() if not _misleads(name)}, **more}


def _misleads(name: str) -> bool:
    return name.startswith("OS_") or name.lower().endswith("_proxy") or name in {"PYTHONPATH", "PYTHONHOME"}


def keystone_conf(state: Path) -> str:
    """Return a keystone.conf whose database and keys are in a folder."""
    sections: Mapping[str, Mapping[str, str]] = {
        "DEFAULT": {"use_stderr": "true"},
        "database": {"connection": f"sqlite:///{state}/keystone.sqlite", "sqlite_synchronous": "false"},
        "token": {"provider": "fernet", "expiration": "7200"},
        "fernet_tokens": {"key_repository": f"{state}/fernet"},
        "fernet_receipts": {"key_repository": f"{state}/fernet"},
        "credential": {"key_repository": f"{state}/credential"},
        # The cheapest there is: passwords of tests are no secrets.
        "identity": {"password_hash_rounds": "4"},
        "oslo_messaging_notifications": {"driver": "noop"},
        # Without a cache every validation of a token takes most of a second.
        "cache": {"enabled": "true", "backend": "dogpile.cache.memory"},
        "revoke": {"caching": "false"},
    }
    return ini(sections)


def ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Return sections as oslo.config reads them."""
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()) + "\n"
        for name, options in sections.items()
    )


def _make_template(programs: Programs) -> None:
    """Make Keystone's database once: its hundreds of migrations take longer than all the rest."""
    state = programs.template
    state.mkdir()
    for name in ("fernet", "credential"):
        (state / name).mkdir(mode=0o700)
    conf = state / "template.conf"
    conf.write_text(keystone_conf(state))
    manage = [programs.bin / "keystone-manage", "--config-file", conf]
    owner = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    group = subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout.strip()
    whose = ["--keystone-user", owner, "--keystone-group", group]
    environ = clean_environ()
    run_checked([*manage, "db_sync"], state, environ)
    run_checked([*manage, "fernet_setup", *whose], state, environ)
    run_checked([*manage, "credential_setup", *whose], state, environ)
    bootstrap = ["bootstrap", "--bootstrap-password", ADMIN_PASSWORD, "--bootstrap-region-id", REGION]
    run_checked([*manage, *bootstrap], state, environ)
