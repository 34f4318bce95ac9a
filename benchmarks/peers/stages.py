"""The run: which images are stored and restored in which stage, how often, and what is compared.

Rounds go over the peers in turn, so that noise of the machine meets all alike. The first round goes through all
stages; the others repeat A, B, B2 and R in a new store, for peers that are quick enough. A store is removed as soon
as its peer's turn is over, so the disk holds one at a time.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.images import Family, Image
from benchmarks.measure import CommandFailedError, Measured, file_size, stored_size, total
from benchmarks.peers.contract import Command, Peer
from benchmarks.peers.rows import NOT_MEASURED, Outcome

_SPARE = 1 << 30
_LEAST_COUNT = 2  # of goldens whose containers are stored: all of them take an hour
_READ_SIZE = 1 << 22


class CannotRunError(Exception):
    """The run cannot start here; the message says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is stored in which stage.

    Attributes:
        rounds: of the repeated stages.
        quick_within_s: a peer whose A, B and R took longer in the first round is not repeated and skips S.
        slow_after_s: a peer whose A and B took longer skips B2 as well.
    """

    first: Image
    second: Image
    third: Image | None
    others: tuple[Image, ...]
    containers: tuple[Image, ...]
    rounds: int
    quick_within_s: float
    slow_after_s: float

    @property
    def raws(self) -> tuple[Image, ...]:
        return (self.first, self.second, *([self.third] if self.third else []), *self.others)

    @property
    def needed_size(self) -> int:
        """Bytes of disk: a store that saves nothing, one restored image, and what is on the way to it."""
        sources = sum(image.data_size for image in (*self.raws, *self.containers))
        return sources + 2 * max(image.file_size for image in self.raws) + self.second.data_size + _SPARE


def make_plan(family: Family, *, containers: str, rounds: int, quick_within_s: float, slow_after_s: float) -> Plan:
    """Return the plan for a family.

    Args:
        containers: whose are stored: "none", "least" for the two goldens with the least data, or "all".
    Raises: CannotRunError when the family has no two generations.
    """
    generations = family.generations
    if len(generations) < 2:
        raise CannotRunError(f"the images of {family.name} have no two generations of an instance")
    first, second, *later = generations
    least = {image.name for image in sorted(family.goldens, key=lambda image: image.data_size)[:_LEAST_COUNT]}
    asked = {"none": set[str](), "least": least, "all": {image.name for image in family.images}}[containers]
    return Plan(
        first=first,
        second=second,
        third=later[0] if later else None,
        others=(*family.goldens, *later[1:]),
        containers=tuple(image for image in family.images if image.format != "raw" and image.name in asked),
        rounds=rounds,
        quick_within_s=quick_within_s,
        slow_after_s=slow_after_s,
    )


class Run:
    """All rounds of all peers in one folder.

    Args:
        folder: emptied; absolute.
        say: shown progress.
    """

    def __init__(self, folder: Path, plan: Plan, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.plan = plan
        self.outcomes: dict[str, dict[str, Outcome]] = {}
        self._say = say

    def run(self, peers: Sequence[Peer]) -> None:
        """Measure. Raises: OSError, CannotRunError when the disk is too small; `outcomes` has what was done."""
        going = list(peers)
        for number in range(self.plan.rounds):
            self._say(f"round {number + 1} of {self.plan.rounds}: {', '.join(peer.name for peer in going)}")
            for peer in going:
                self._turn(peer, whole=number == 0)
            going = [peer for peer in going if self._is_quick(peer)]

    def _is_quick(self, peer: Peer) -> bool:
        outcomes = self.outcomes[peer.name]
        if any(outcome.error or outcome.equal is False for outcome in outcomes.values()):
            return False
        return first_wall_s(outcomes, "ABR") <= self.plan.quick_within_s

    def _turn(self, peer: Peer, *, whole: bool) -> None:
        """Let one peer go through the stages in a new store; an error ends its turn and is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        check_disk(self.folder, self.plan)
        try:
            self._stages(_Turn(peer, self.folder, self.outcomes.setdefault(peer.name, {})), whole=whole)
        except _StageFailedError as error:
            self._say(f"{peer.name}: {error}")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        shown = (f"{stage} {out.runs[-1].wall_s:.1f} s" for stage, out in self.outcomes[peer.name].items() if out.runs)
        self._say(f"{peer.name}: {', '.join(shown)}")

    def _stages(self, turn: "_Turn", *, whole: bool) -> None:
        plan = self.plan
        turn.store("A", [plan.first])
        turn.store("B", [plan.second])
        if first_wall_s(turn.outcomes, "AB") > plan.slow_after_s:
            turn.leave_out("B2", f"left out: A and B took more than {plan.slow_after_s:.0f} s")
        else:
            turn.store("B2", [plan.second], again=True)
        if plan.third:
            turn.store("B3", [plan.third])
        turn.restore("R", [plan.second])
        if not whole:
            return
        turn.store("C", plan.others)
        if first_wall_s(turn.outcomes, "ABR") > plan.quick_within_s:
            turn.leave_out("S", f"left out: A, B and R took more than {plan.quick_within_s:.0f} s")
        else:
            turn.restore("S", plan.raws)
        if plan.containers:
            if turn.peer.raw_only:
                turn.leave_out("D", "raw images only")
            else:
                turn.store("D", plan.containers)


class _StageFailedError(Exception):
    """A stage ended with an error, which its outcome holds."""


class _Turn:
    """One peer with one store."""

    def __init__(self, peer: Peer, folder: Path, outcomes: dict[str, Outcome]) -> None:
        self.peer = peer
        self._store = folder / "store"
        self._restored = folder / "restored"
        self.outcomes = outcomes
        self._store.mkdir()
        with self._failing(NOT_MEASURED):
            for command in peer.init(self._store):
                command.run()

    def store(self, stage: str, images: Sequence[Image], *, again: bool = False) -> None:
        outcome = self.outcomes.setdefault(stage, Outcome())
        runs, sync_s = [], 0.0
        with self._failing(stage):
            for image in images:
                path = image.path.absolute()
                read_once(path)
                for command in self.peer.store(path, path.name + (".again" if again else "")):
                    runs.append(run_synced(command))
                    sync_s += synced_s()
        outcome.runs.append(total(runs))
        outcome.syncs_s.append(sync_s)
        caches = [path for path in self.peer.caches() if path.exists()]
        index_size = sum(stored_size(path) for path in caches)
        outcome.stored_size = stored_size(self._store) - index_size
        outcome.file_size = file_size(self._store) - sum(file_size(path) for path in caches)
        if self.peer.caches():
            outcome.index_size = index_size

    def restore(self, stage: str, images: Sequence[Image]) -> None:
        outcome = self.outcomes.setdefault(stage, Outcome())
        runs: list[Measured] = []
        with self._failing(stage):
            for image in images:
                shutil.rmtree(self._restored, ignore_errors=True)
                self._restored.mkdir()
                target = self._restored / image.path.name
                runs.extend(run_synced(command) for command in self.peer.restore(image.path.name, target))
                equal = sha256_of(target) == image.sha256
                outcome.equal = equal and outcome.equal is not False
                if not equal:
                    raise CommandFailedError(f"{image.path.name} came back different")
        shutil.rmtree(self._restored)
        outcome.runs.append(total(runs))

    def leave_out(self, stage: str, why: str) -> None:
        self.outcomes.setdefault(stage, Outcome()).left_out = why

    @contextmanager
    def _failing(self, stage: str) -> Iterator[None]:
        try:
            yield
        except (CommandFailedError, OSError) as error:
            self.outcomes.setdefault(stage, Outcome()).error = str(error)
            raise _StageFailedError(f"{stage}: {error}") from error


def first_wall_s(outcomes: Mapping[str, Outcome], stages: str) -> float:
    """Return the wall seconds of the first run of some stages."""
    return sum(outcomes[stage].runs[0].wall_s for stage in stages)


def check_disk(folder: Path, plan: Plan) -> None:
    """Raise CannotRunError when the disk below a folder has no room for the largest store."""
    free = shutil.disk_usage(folder).free
    if free < plan.needed_size:
        raise CannotRunError(f"{folder} needs {plan.needed_size / 1e9:.1f} GB of free disk; there are {free / 1e9:.1f}")


def run_synced(command: Command) -> Measured:
    """Run a command after everything written before it is on the disk. Raises: CommandFailedError."""
    os.sync()
    return command.run()


def synced_s() -> float:
    """Write everything to the disk and return the seconds it took."""
    begin_s = time.monotonic()
    os.sync()
    return time.monotonic() - begin_s


def read_once(path: Path) -> None:
    """Read a file, so that it is in the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(_READ_SIZE):
            pass


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
