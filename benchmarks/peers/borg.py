"""Borg 1.4, with its own chunks of about 2 MiB and with 64 KiB ones, and Borg 2 (pre-release)."""

import subprocess
from pathlib import Path

from benchmarks.peers.contract import Command, Tools
from benchmarks.peers.install import Tool, borg_build, python_tool

_NOTE = "zstd 3, no encryption, no files cache: unchanged files are read again; sparse restore; "


class Borg:
    """Borg 1.4."""

    raw_only = False

    def __init__(self, name: str = "borg", chunker: str | None = None) -> None:
        self.name = name
        self.note = _NOTE + "fsyncs its segments" + (f"; --chunker-params {chunker}" if chunker else "")
        self.version = ""
        self._chunker = ["--chunker-params", chunker] if chunker else []
        self._tool: Tool
        self._folder: Path

    def install(self, tools: Tools) -> None:
        self._tool = python_tool(
            tools.folder, "borg", ["borgbackup>=1.4,<2"], "borg", lambda: borg_build(tools.debian.headers())
        )
        self.version = self._tool.version

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return [self._borg("init", "--encryption", "none", str(folder / "repository"))]

    def store(self, source: Path, name: str) -> list[Command]:
        options = ["--compression", "zstd,3", "--files-cache", "disabled", *self._chunker]
        return [self._borg("create", *options, self._archive(name), source.name, folder=source.parent)]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [self._borg("extract", "--sparse", self._archive(name), folder=target.parent)]

    def caches(self) -> list[Path]:
        return [self._folder / "base/.cache"]

    def _archive(self, name: str) -> str:
        return f"{self._folder / 'repository'}::{name}"

    def _borg(self, *words: str, folder: Path | None = None) -> Command:
        return Command([self._tool.program, *words], _environment(self._tool, self._folder), folder)


class Borg2:
    """Borg 2."""

    name = "borg2"
    note = _NOTE + "pre-release"
    raw_only = False
    version = ""
    _mode = "none"
    _tool: Tool
    _folder: Path

    def install(self, tools: Tools) -> None:
        # Later pre-releases need OpenSSL 3.2, which Debian 12 does not have.
        requirements = ["borgbackup>=2.0.0b1", "borgbackup>=2.0.0b1,<2.0.0b24"]
        self._tool = python_tool(
            tools.folder, "borg2", requirements, "borg", lambda: borg_build(tools.debian.headers())
        )
        self.version = self._tool.version
        # The names of modes change between pre-releases.
        shown = subprocess.run(
            [self._tool.program, "repo-create", "--help"], capture_output=True, text=True, check=False
        )
        self._mode = next((mode for mode in ("none-blake3", "none-sha256") if mode in shown.stdout), "none")
        self.note = f"{_NOTE}fsyncs nothing of the repository; pre-release, mode {self._mode}"

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return [self._borg("repo-create", "--encryption", self._mode)]

    def store(self, source: Path, name: str) -> list[Command]:
        options = ["--compression", "zstd,3", "--files-cache", "disabled"]
        return [self._borg("create", *options, name, source.name, folder=source.parent)]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [self._borg("extract", "--sparse", name, folder=target.parent)]

    def caches(self) -> list[Path]:
        return [self._folder / "base/.cache"]

    def _borg(self, *words: str, folder: Path | None = None) -> Command:
        environment = _environment(self._tool, self._folder) | {"BORG_REPO": str(self._folder / "repository")}
        return Command([self._tool.program, *words], environment, folder)


def _environment(tool: Tool, folder: Path) -> dict[str, str]:
    return {
        **tool.environment,
        "BORG_BASE_DIR": str(folder / "base"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }
