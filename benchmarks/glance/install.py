"""Glance's released package with uWSGI, in an environment of its own; nothing of the host changes."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers.install import CannotInstallError

REQUIREMENTS: Final = ("glance==33.0.0", "pyuwsgi==2.0.30.post1")
_STAMP: Final = "installed.stamp"


@dataclass(frozen=True, slots=True)
class GlanceTool:
    """An installed Glance.

    Attributes:
        folder: of the environment.
    """

    folder: Path
    version: str

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)


def install(tools: Path) -> GlanceTool:
    """Return Glance below `tools`; installed when it is not there. Raises: CannotInstallError."""
    folder = tools.absolute() / "glance"
    stamp = folder / _STAMP
    wanted = " ".join(REQUIREMENTS)
    if not stamp.exists() or stamp.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *REQUIREMENTS])
        # What pip does not: workers that start at the same time would all compile the same modules.
        _run([str(folder / "bin/python"), "-m", "compileall", "-q", str(folder / "lib")], accepted=(0, 1))
        stamp.write_text(wanted)
    return GlanceTool(folder, REQUIREMENTS[0].partition("==")[2])


def _run(command: list[str], accepted: tuple[int, ...] = (0,)) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotInstallError(f"{command[0]}: {error.strerror}") from None
    if done.returncode not in accepted:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["?"]
        raise CannotInstallError(f"{Path(command[0]).name} failed: {lines[-1]}")
