"""Where a victim kills itself: named moments in the calls of an operation.

Stages are taken in turn, so each has its share; with 20 or fewer none is under 5 %.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from casimg.testing.watched import Call


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


STAGES = (
    Stage("put: half of an object written", "put", "backend", "put", "packs/", "during", 3),
    Stage("put: pack stored, its row not committed", "put", "catalog", "write", "insert_pack", "during", 3),
    Stage("put: record stored, image not committed", "put", "backend", "put", "records/", "after"),
    Stage("put: in the commit", "put", "catalog", "write", "commit", "during"),
    Stage("put: committed, not answered", "put", "catalog", "write", "commit", "after"),
    Stage("upload: record stored, image not committed", "upload", "backend", "put", "records/", "after"),
    Stage("snapshot: in the commit", "snapshot", "catalog", "write", "snapshot_row", "during"),
    Stage("snapshot: parent's packs noted", "snapshot-disk", "catalog", "write", "note_content", "after"),
    Stage("gc: record removed, rows not", "gc", "backend", "delete", "records/", "after"),
    Stage("gc: object removed, row deleting", "gc", "backend", "delete", "packs/", "after", 2),
    Stage("repack: new pack stored, its row not committed", "repack", "catalog", "write", "insert_pack", "during"),
    Stage("repack: in the switch", "repack", "catalog", "write", "switch", "during"),
    Stage("repack: switched, not answered", "repack", "catalog", "write", "switch", "after"),
    Stage("recover: old catalog ended, nothing made", "recover-over", "catalog", "write", "close_for_good", "after"),
    Stage("recover: packs entered, images not", "recover", "catalog", "write", "insert_packs", "after"),
    Stage("recover: all entered, not yet a catalog", "recover", "catalog", "write", "_rebuild_beside", "during"),
    Stage(
        "recover: old catalog aside, new one beside", "recover-over", "files", "rename", "catalog.sqlite.new", "before"
    ),
    Stage("recover: new catalog in place, old index there", "recover", "files", "rename", "index", "before"),
    Stage("set: record stored, not yet the image's", "set", "catalog", "write", "_put_anew", "during"),
    Stage("repair: copies stored, in the switch", "repair", "catalog", "write", "switch", "during"),
)


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
