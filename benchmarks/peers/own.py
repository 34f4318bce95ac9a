"""casimg's own command line, as users run it."""

import subprocess
import sys
from pathlib import Path

from benchmarks.peers.contract import Command, Tools
from benchmarks.peers.install import CannotInstallError
from casimg import __version__
from casimg.choices import LEVELS

_CASIMG = (sys.executable, "-m", "casimg")


class Casimg:
    """`casimg put` and `casimg get`, with the defaults of a new repository unless `init_options` say otherwise."""

    raw_only = False

    def __init__(self, name: str = "casimg", *init_options: str, from_stdin: bool = False) -> None:
        preset = next((word for word in init_options if word in LEVELS), "default")
        self.name = name
        self.version = ""
        self.note = (
            f"BLAKE3, zstd {LEVELS[preset]}; fsyncs all it writes before it answers; verifies chunks on restore; "
            "sparse restore; not counted: index, and the spool with 8 MiB kept for the day the disk is full"
        )
        if init_options:
            self.note += f"; init {' '.join(init_options)}"
        if from_stdin:
            self.note += "; put from standard input, redirected from the file: holes are read as zeros"
        self._init_options = init_options
        self._from_stdin = from_stdin
        self._repository = Path()

    def install(self, tools: Tools) -> None:  # noqa: ARG002
        options = [word for word in self._init_options if word.startswith("--")]
        shown = subprocess.run([*_CASIMG, "init", "--help"], capture_output=True, text=True, check=True).stdout
        missing = [option for option in options if option not in shown]
        if missing:
            raise CannotInstallError(f"this casimg has no init {' '.join(missing)}")
        self.version = __version__

    def init(self, folder: Path) -> list[Command]:
        self._repository = folder / "repository"
        return [Command([*_CASIMG, "init", *self._init_options, self._repository])]

    def store(self, source: Path, name: str) -> list[Command]:
        put = [*_CASIMG, "-r", self._repository, "put", "-" if self._from_stdin else source, "--name", name]
        return [Command(put, stdin=source if self._from_stdin else None)]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [Command([*_CASIMG, "-r", self._repository, "get", name, target])]

    def caches(self) -> list[Path]:
        return [self._repository / "index", self._repository / "spool"]
