"""Who this process is, so that another can tell that it is gone.

Only certainty counts: a live session must not be fenced because its process could not be looked at.
"""

import os
import socket
from functools import cache
from pathlib import Path

UNKNOWN_START = 0
"""Start time of a process on a system that does not tell it."""


@cache
def node_name() -> str:
    """Return this host, boot and process id namespace: outside of the three a process id means nothing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # Containers may share host name and boot, and see different processes under the same ids.
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        boot, namespace = "unknown", 0
    return f"{socket.gethostname()[:64]}/{boot}/{namespace}"


def own_pid() -> tuple[int, int]:
    """Return the id of this process and when it started, clock ticks since boot."""
    pid = os.getpid()
    state = _state_and_start(pid)
    return pid, UNKNOWN_START if state is None else state[1]


def is_gone(pid: int, start: int) -> bool:
    """Tell whether the process of this node that had `pid` and began at `start` has certainly ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it is another user's: there, but its start time decides
    state = _state_and_start(pid)
    if state is None or start == UNKNOWN_START:
        return False
    return state[0] == "Z" or state[1] != start


def _state_and_start(pid: int) -> tuple[str, int] | None:
    """Return the state letter and start time of a process; None when they cannot be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name may hold spaces and parentheses; fields are counted after its last one.
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[19])
