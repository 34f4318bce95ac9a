"""desync, casync's formats in Go with more threads."""

from pathlib import Path

from benchmarks.peers.contract import Command, Tools
from benchmarks.peers.install import Tool


class Desync:
    raw_only = False

    def __init__(self, name: str = "desync", sizes: str | None = None) -> None:
        self.name = name
        self.note = f"chunks of {sizes or '16:64:256'} KiB (least:mean:most), zstd at its default level; no fsync"
        self.version = ""
        self._sizes = ["--chunk-size", sizes] if sizes else []
        self._tool: Tool
        self._folder: Path

    def install(self, tools: Tools) -> None:
        self._tool = tools.debian.tool("desync", "desync")
        self.version = self._tool.version

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        (folder / "chunks").mkdir()
        return []

    def store(self, source: Path, name: str) -> list[Command]:
        return [self._desync("make", *self._sizes, "--store", self._folder / "chunks", self._index(name), source)]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [self._desync("extract", "--store", self._folder / "chunks", self._index(name), target)]

    def caches(self) -> list[Path]:
        return []

    def _index(self, name: str) -> Path:
        return self._folder / f"{name}.caibx"

    def _desync(self, *words: str | Path) -> Command:
        return Command([self._tool.program, *words], {**self._tool.environment, "HOME": str(self._folder)})
