"""Mount a raw image as a machine's disk, and be sure that it is unmounted.

Two safety nets: what is mounted here is unmounted in `finally`; and the whole build runs in mount and process
namespaces of its own (`in_namespaces`), which the kernel clears away even after kill -9, with loop devices and servers.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from benchmarks.images.programs import ProgramFailedError, run

_TRY_COUNT = 20
_TRY_PAUSE_S = 0.25
_INTERRUPT_S = 90


@contextmanager
def machine(image: Path, point: Path) -> Iterator[Path]:
    """Give a raw image's file system at a folder, with what programs in a chroot need, and no service started.

    On a clean end free space is trimmed: with the loop device's discard it becomes holes of the file.
    """
    point.mkdir(exist_ok=True)
    policy = point / "usr/sbin/policy-rc.d"
    with ExitStack() as stack:
        _mount(stack, ["-t", "ext4", "-o", "loop,discard", str(image)], point)
        with ExitStack() as inner:
            _mount(inner, ["-t", "proc", "proc"], point / "proc")
            for name in ("run", "tmp", "dev/shm"):
                (point / name).mkdir(parents=True, exist_ok=True)
                _mount(inner, ["-t", "tmpfs", "-o", "mode=1777", "tmpfs"], point / name)
            policy.parent.mkdir(parents=True, exist_ok=True)
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
            try:
                yield point
            finally:
                policy.unlink(missing_ok=True)
        run(["fstrim", point])


def _mount(stack: ExitStack, options: Sequence[str], point: Path) -> None:
    run(["mount", *options, point])
    stack.callback(_unmount, point)


def _unmount(point: Path) -> None:
    for attempt in range(_TRY_COUNT):
        try:
            run(["umount", point])
        except ProgramFailedError:
            if attempt == _TRY_COUNT - 1:
                raise
            time.sleep(_TRY_PAUSE_S)
        else:
            return


def in_root(root: Path, command: Sequence[str], standard_input: str = "", user: str = "") -> str:
    """Run a program in a mounted machine, as a user if one is named, and return what it printed."""
    words = ["chroot", str(root), *(["runuser", "-u", user, "--"] if user else []), *command]
    # /run is a tmpfs that everybody may write to: nothing of the host's folders, nothing left on the disk.
    return run(words, {"HOME": "/", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": "/run"}, standard_input)


def in_namespaces(command: Sequence[str]) -> int:
    """Run a command in mount and process namespaces that end with it, and return its exit status.

    Ctrl-C reaches it by the terminal and it ends in order; SIGTERM or SIGKILL to us ends it at once.
    """
    # Each link of the chain dies with the one above: setpriv for us, --kill-child for unshare.
    death = ["setpriv", "--pdeathsig", "KILL"]
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    begun = subprocess.Popen([*death, *apart, *command])
    signal.signal(signal.SIGTERM, _stop)
    try:
        return begun.wait()
    except KeyboardInterrupt:
        # Pressed twice, it does not cut the waiting short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("stopping ...", file=sys.stderr)
        begun.wait(_INTERRUPT_S)
        return 130
    finally:
        begun.kill()
        begun.wait()


def _stop(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def is_root() -> bool:
    """Return whether this process may mount."""
    return os.geteuid() == 0
