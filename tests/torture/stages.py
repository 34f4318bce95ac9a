"""Where a victim kills itself: named moments in the calls of an operation.

Stages are taken in turn, so each has its share; with 20 or fewer none is under 5 %. `repack` and `recover` join when
this casimg has them.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from casimg.testing.watched import Call
from tests.torture.operations import OPERATIONS


@dataclass(frozen=True, slots=True)
class Stage:
    """One moment: a call of a part, seen before, during or after it, the first to `nth_max`-th time at random."""

    name: str
    operation: str
    part: str
    verb: str
    what: str
    when: str
    nth_max: int = 1

    def is_at(self, call: Call) -> bool:
        same = (self.part, self.verb, self.when) == (call.part, call.verb, call.when)
        return same and call.what.startswith(self.what)


ALL_STAGES = (
    Stage("put: half of an object written", "put", "backend", "put", "packs/", "during", 3),
    Stage("put: pack stored, its row not committed", "put", "catalog", "write", "insert_pack", "during", 3),
    Stage("put: record stored, image not committed", "put", "backend", "put", "records/", "after"),
    Stage("put: in the commit", "put", "catalog", "write", "commit", "during"),
    Stage("put: committed, not answered", "put", "catalog", "write", "commit", "after"),
    Stage("snapshot: in the commit", "snapshot", "catalog", "write", "snapshot_row", "during"),
    Stage("snapshot: committed, not answered", "snapshot", "catalog", "write", "snapshot_row", "after"),
    Stage("snapshot: parent's packs noted", "snapshot-disk", "catalog", "write", "note_content", "after"),
    Stage("snapshot: committed, index not written", "snapshot-disk", "index", "add_packs", "", "before"),
    Stage("gc: record removed, rows not", "gc", "backend", "delete", "records/", "after"),
    Stage("gc: packs condemned", "gc", "catalog", "write", "condemn", "after"),
    Stage("gc: pack deleting, object there", "gc", "catalog", "write", "sweep", "after", 2),
    Stage("gc: object removed, row deleting", "gc", "backend", "delete", "packs/", "after", 2),
    Stage("repack: new pack stored, its row not committed", "repack", "catalog", "write", "insert_pack", "during"),
    Stage("repack: in the switch", "repack", "catalog", "write", "switch", "during"),
    Stage("repack: switched, not answered", "repack", "catalog", "write", "switch", "after"),
    Stage("recover: before the catalog is filled", "recover", "backend", "list", "records/", "during"),
    Stage("recover: in its transaction", "recover", "catalog", "write", "", "during"),
    Stage("recover: filled, not answered", "recover", "catalog", "write", "", "after"),
)


def stages() -> list[Stage]:
    """Return the stages of the operations that there are."""
    return [stage for stage in ALL_STAGES if stage.operation in OPERATIONS and OPERATIONS[stage.operation].available()]


def killer(stage: Stage | None, nth: int, said: Path) -> Callable[[Call], None]:
    """Return a watch that ends this process with SIGKILL at the `nth` time of a stage.

    Args:
        stage: None to kill nothing and only tell of every call, for kills from outside.
        said: file that holds the stage afterwards, or the last call.
    """
    fd = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    left = [nth]

    def watch(call: Call) -> None:
        if stage is None:
            line = f"{call.when} {call.part} {call.verb} {call.what.partition('/')[0]}"
            os.pwrite(fd, line.ljust(80).encode(), 0)
        elif stage.is_at(call):
            left[0] -= 1
            if left[0] == 0:
                os.pwrite(fd, stage.name.encode(), 0)
                os.kill(os.getpid(), signal.SIGKILL)

    return watch
