"""restic, a backup program with content-defined chunks of about 1 MiB."""

from pathlib import Path

from benchmarks.peers.contract import Command, Tools
from benchmarks.peers.install import Tool


class Restic:
    name = "restic"
    note = (
        "defaults (compression auto: about zstd 3), --force: unchanged files are read again; encryption cannot be "
        "switched off; fsyncs packs and index; sparse restore"
    )
    raw_only = False
    version = ""
    _tool: Tool
    _folder: Path

    def install(self, tools: Tools) -> None:
        self._tool = tools.debian.tool("restic", "restic")
        self.version = self._tool.version

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return [self._restic("init")]

    def store(self, source: Path, name: str) -> list[Command]:
        return [self._restic("backup", "--force", "--tag", name, source.name, folder=source.parent)]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [self._restic("restore", "latest", "--tag", name, "--sparse", "--target", str(target.parent))]

    def caches(self) -> list[Path]:
        return [self._folder / "cache"]

    def _restic(self, *words: str, folder: Path | None = None) -> Command:
        environment = {
            **self._tool.environment,
            "RESTIC_REPOSITORY": str(self._folder / "repository"),
            "RESTIC_CACHE_DIR": str(self._folder / "cache"),
            "RESTIC_PASSWORD": "benchmark",
        }
        return Command([self._tool.program, "--quiet", *words], environment, folder)
