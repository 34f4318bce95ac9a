"""Who this process is, so that another can tell that it is gone."""

import os
import socket
from functools import cache
from pathlib import Path


@cache
def node_name() -> str:
    """Return this host and boot: process ids mean nothing on another host or after a reboot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = "unknown"
    return f"{socket.gethostname()[:80]}/{boot}"


def process_start(pid: int) -> int | None:
    """Return when a process of this host started, clock ticks since boot; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name may hold spaces and parentheses; fields are counted after its last one.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def own_pid() -> tuple[int, int]:
    """Return the id of this process and when it started."""
    pid = os.getpid()
    return pid, process_start(pid) or 0
