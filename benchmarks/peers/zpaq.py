"""zpaq, a journaling archiver with chunks of about 64 KiB and strong compression."""

from pathlib import Path

from benchmarks.peers.contract import Command, Tools
from benchmarks.peers.install import Tool


class Zpaq:
    name = "zpaq"
    note = "-m1, its fastest; -force: unchanged files are read again; one file per archive; no fsync"
    raw_only = False
    version = ""
    _tool: Tool
    _folder: Path

    def __init__(self) -> None:
        self._file_names: dict[str, str] = {}

    def install(self, tools: Tools) -> None:
        self._tool = tools.debian.tool("zpaq", "zpaq")
        self.version = self._tool.version

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return []

    def store(self, source: Path, name: str) -> list[Command]:
        self._file_names[name] = source.name
        return [self._zpaq("add", source.name, "-force", "-m1", folder=source.parent)]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [self._zpaq("extract", self._file_names[name], "-to", str(target))]

    def caches(self) -> list[Path]:
        return []

    def _zpaq(self, verb: str, *words: str, folder: Path | None = None) -> Command:
        archive = str(self._folder / "archive.zpaq")
        return Command([self._tool.program, verb, archive, *words], self._tool.environment, folder)
