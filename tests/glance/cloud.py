"""The running site as a client sees it: sessions, the environment of commands, data to store. No casimg in it."""

import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

SITE_VARIABLE = "CASIMG_TEST_GLANCE"
"""Names the file that says where the servers are; without it the tests of clients are not collected."""


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    output: bytes
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


@dataclass(frozen=True)
class Cloud:
    """Where the servers are, and who may use them."""

    auth_url: str
    image_url: str
    web_url: str
    region: str
    people: Mapping[str, Mapping[str, str]]
    bin: Path

    def credentials(self, user: str) -> dict[str, Any]:
        """Return what a client of Keystone asks for."""
        person = self.people[user]
        return {
            "auth_url": self.auth_url,
            "username": user,
            "password": person["password"],
            "project_name": person["project"],
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }

    def run(self, user: str, program: str, *words: object) -> Ran:
        """Run a command of the clients as a user, in a process of its own."""
        command = [str(self.bin / program), *map(str, words)]
        environ = {**os.environ, **self._environ(user)}
        done = subprocess.run(command, env=environ, capture_output=True, check=False, timeout=120)
        return Ran(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def run_here(self, user: str, *words: object) -> Ran:
        """Run `openstack` as a user in a fork of this process: to load it takes longer than most of what it does.

        Standard input is a terminal that says nothing, so that no data are read from it.
        """
        from openstackclient import shell

        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            pid = os.fork()
            if not pid:
                self._be_openstack(shell.main, user, words, output.fileno(), errors.fileno())
            _, status = os.waitpid(pid, 0)
            output.seek(0)
            errors.seek(0)
            return Ran(os.waitstatus_to_exitcode(status), output.read(), errors.read().decode(errors="replace"))

    def _be_openstack(
        self, main: Callable[[list[str]], int], user: str, words: Sequence[object], output: int, errors: int
    ) -> NoReturn:
        """Be the command; ends the process."""
        code = 1
        try:
            _master, terminal = os.openpty()
            for here, there in ((terminal, 0), (output, 1), (errors, 2)):
                os.dup2(here, there)
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
            os.environ.update(self._environ(user))
            logging.root.handlers.clear()
            code = int(main([str(word) for word in words]) or 0)
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _environ(self, user: str) -> dict[str, str]:
        found = {f"OS_{name.upper()}": value for name, value in self.credentials(user).items()}
        return {**found, "OS_REGION_NAME": self.region, "OS_IDENTITY_API_VERSION": "3", "PYTHONWARNINGS": "ignore"}

    def openstack(self, user: str, *words: object) -> Any:
        """Run `openstack` as a user, which must succeed; returns what it told in JSON."""
        done = self.run_here(user, *words, "-f", "json")
        assert done.code == 0, done.errors
        return done.json

    def openstack_silent(self, user: str, *words: object) -> None:
        """Run `openstack` as a user, which must succeed, for what it does."""
        done = self.run_here(user, *words)
        assert done.code == 0, done.errors

    def openstack_refused(self, user: str, *words: object) -> str:
        """Run `openstack` as a user, which must fail; returns what it told."""
        done = self.run_here(user, *words)
        assert done.code != 0, done.output
        return done.errors


def cloud_of(path: Path) -> Cloud:
    """Return the site that a file describes."""
    document = json.loads(path.read_text())
    return Cloud(**{**document, "bin": Path(document["bin"])})


def disk_bytes(size: int = 9_500_001, seed: int = 7) -> bytes:
    """Return bytes like a disk's: holes, repeats and noise, of a size that no block divides."""
    rng = random.Random(seed)
    parts = []
    left = size
    while left > 0:
        length = min(left, rng.choice((4096, 70_001, 1 << 20)))
        kind = rng.randrange(3)
        parts.append((bytes(length), b"casimg" * (length // 6 + 1), rng.randbytes(length))[kind][:length])
        left -= length
    return b"".join(parts)
