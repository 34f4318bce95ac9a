"""What every peer promises, and the command that it is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.measure import Measured, run_command
from benchmarks.peers.install import DebianTools


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a peer.

    Attributes:
        environment: variables added to ours.
        folder: where it runs.
        stdin, stdout: files.
    """

    arguments: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    stdin: Path | None = None
    stdout: Path | None = None

    def run(self) -> Measured:
        """Run to the end. Raises: CommandFailedError."""
        return run_command(
            self.arguments,
            environment=self.environment,
            folder=self.folder,
            stdin=self.stdin,
            stdout=self.stdout,
        )


@dataclass(frozen=True, slots=True)
class Tools:
    """Where programs are put.

    Attributes:
        folder: of all tools; absolute.
    """

    folder: Path
    debian: DebianTools


class Peer(Protocol):
    """A program that stores files and gives them back.

    Attributes:
        name: of the row; letters, digits, dashes.
        note: settings, what it fsyncs, what the figures do not show.
        version: of the program; "" before `install`.
        raw_only: what comes back of a container would not be the same file.
    """

    name: str
    note: str
    version: str
    raw_only: bool

    def install(self, tools: Tools) -> None:
        """Find or put the program. Raises: CannotInstallError."""

    def init(self, folder: Path) -> list[Command]:
        """Return the commands that make a store in `folder`, which is there, empty and absolute; not measured.

        The peer keeps everything below it: all that it takes counts as stored, but for `caches`.
        """

    def store(self, source: Path, name: str) -> list[Command]:
        """Return the commands that store a file under a new name. `source` is absolute."""

    def restore(self, name: str, target: Path) -> list[Command]:
        """Return the commands that make the file `target` of what was stored.

        `target` is not there, its folder is, and its file name is that of the source: some know no other.
        """

    def caches(self) -> list[Path]:
        """Return the folders below the store that can be deleted at any time without a loss."""
