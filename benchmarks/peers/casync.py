"""casync, which cuts block devices and images into chunks of about 64 KiB, one file each."""

from pathlib import Path

from benchmarks.peers.contract import Command, Tools
from benchmarks.peers.install import Tool


class Casync:
    name = "casync"
    note = "chunks of 64 KiB, zstd at its default level; no fsync"
    raw_only = False
    version = ""
    _tool: Tool
    _folder: Path

    def install(self, tools: Tools) -> None:
        self._tool = tools.debian.tool("casync", "casync")
        self.version = self._tool.version

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return []

    def store(self, source: Path, name: str) -> list[Command]:
        return [self._casync("make", "--compression=zstd", self._store(), self._index(name), source)]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [self._casync("extract", self._store(), self._index(name), target)]

    def caches(self) -> list[Path]:
        return []

    def _store(self) -> str:
        return f"--store={self._folder / 'chunks.castr'}"

    def _index(self, name: str) -> Path:
        return self._folder / f"{name}.caibx"

    def _casync(self, *words: str | Path) -> Command:
        return Command([self._tool.program, *words], self._tool.environment)
