"""bup, which keeps chunks of about 8 KiB in git packs."""

from pathlib import Path

from benchmarks.peers.contract import Command, Tools
from benchmarks.peers.install import Tool


class Bup:
    name = "bup"
    note = "`bup split` and `bup join` through a pipe, zlib 1; fsyncs its packs; holes are read and written as zeros"
    raw_only = False
    version = ""
    _tool: Tool
    _folder: Path

    def install(self, tools: Tools) -> None:
        self._tool = tools.debian.tool("bup", "bup")
        self.version = self._tool.version

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return [self._bup("init")]

    def store(self, source: Path, name: str) -> list[Command]:
        return [self._bup("split", "--quiet", "--name", name, stdin=source)]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [self._bup("join", name, stdout=target)]

    def caches(self) -> list[Path]:
        return []

    def _bup(self, *words: str, stdin: Path | None = None, stdout: Path | None = None) -> Command:
        environment = {**self._tool.environment, "BUP_DIR": str(self._folder / "repository")}
        return Command([self._tool.program, *words], environment, stdin=stdin, stdout=stdout)
