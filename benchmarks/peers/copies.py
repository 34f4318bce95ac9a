"""What does not deduplicate: a compressed qcow2, zstd per file, and a copy as the floor."""

from pathlib import Path

from benchmarks.peers.contract import Command, Tools
from benchmarks.peers.install import Tool, host_tool


class QemuImg:
    name = "qemu-img"
    note = "convert -c: zlib per 64 KiB cluster; fsyncs the file when it stores; sparse restore"
    raw_only = True
    version = ""
    _tool: Tool
    _folder: Path

    def install(self, tools: Tools) -> None:  # noqa: ARG002
        self._tool = host_tool("qemu-img")
        self.version = self._tool.version

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return []

    def store(self, source: Path, name: str) -> list[Command]:
        return [self._convert("-c", "-f", "raw", "-O", "qcow2", source, self._folder / f"{name}.qcow2")]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [self._convert("-f", "qcow2", "-O", "raw", self._folder / f"{name}.qcow2", target)]

    def caches(self) -> list[Path]:
        return []

    def _convert(self, *words: str | Path) -> Command:
        return Command([self._tool.program, "convert", *words])


class Zstd:
    raw_only = False

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.note = f"level 3, {'one thread' if threads == 1 else 'all cores'}, per file; no fsync; sparse restore"
        self.version = ""
        self._threads = threads
        self._tool: Tool
        self._folder: Path

    def install(self, tools: Tools) -> None:  # noqa: ARG002
        self._tool = host_tool("zstd")
        self.version = self._tool.version

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return []

    def store(self, source: Path, name: str) -> list[Command]:
        target = self._folder / f"{name}.zst"
        return [Command([self._tool.program, "-q", "-3", f"-T{self._threads}", source, "-o", target])]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [Command([self._tool.program, "-q", "-d", "--sparse", self._folder / f"{name}.zst", "-o", target])]

    def caches(self) -> list[Path]:
        return []


class Copy:
    name = "cp"
    note = "--sparse=always --reflink=never: the floor; no fsync"
    raw_only = False
    version = ""
    _tool: Tool
    _folder: Path

    def install(self, tools: Tools) -> None:  # noqa: ARG002
        self._tool = host_tool("cp")
        self.version = self._tool.version

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return []

    def store(self, source: Path, name: str) -> list[Command]:
        return [self._copy(source, self._folder / name)]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [self._copy(self._folder / name, target)]

    def caches(self) -> list[Path]:
        return []

    def _copy(self, source: Path, target: Path) -> Command:
        return Command([self._tool.program, "--sparse=always", "--reflink=never", source, target])
