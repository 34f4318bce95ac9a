"""hf-xet, the chunk store of a model hub, with a folder in the place of its server."""

from pathlib import Path

from benchmarks.peers.contract import Command, Tools
from benchmarks.peers.install import Tool, python_tool

_LOOP = Path(__file__).with_name("xet_loop.py")


class Xet:
    name = "hf-xet"
    note = (
        "the Python package has no command: a loop around it, endpoint local://, no SHA-256 of its own; chunks of 64 "
        "KiB, LZ4; fsyncs only its table of chunks; not sparse"
    )
    raw_only = False
    version = ""
    _tool: Tool
    _folder: Path

    def install(self, tools: Tools) -> None:
        self._tool = python_tool(tools.folder, "hf-xet", ["hf-xet"], "python")
        self.version = self._tool.version

    def init(self, folder: Path) -> list[Command]:
        self._folder = folder
        return []

    def store(self, source: Path, name: str) -> list[Command]:
        return [self._loop("store", source, name)]

    def restore(self, name: str, target: Path) -> list[Command]:
        return [self._loop("restore", target, name)]

    def caches(self) -> list[Path]:
        return [self._folder / "home"]

    def _loop(self, verb: str, file: Path, name: str) -> Command:
        environment = {
            **self._tool.environment,
            "HF_HOME": str(self._folder / "home"),
            "HOME": str(self._folder / "home"),
        }
        return Command([self._tool.program, _LOOP, verb, self._folder, name, file], environment)
