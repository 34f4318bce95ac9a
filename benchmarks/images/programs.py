"""Run other programs: quiet when they succeed, their last words when they fail, ended when we are interrupted."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_DISK_TOOLS = ("mmdebstrap", "mke2fs", "debugfs", "dumpe2fs", "qemu-img", "tar", "dpkg-query", "fallocate")
_MACHINE_TOOLS = ("unshare", "setpriv", "mount", "umount", "fstrim", "chroot")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_END_S = 30


class ProgramFailedError(Exception):
    """A program ended with an error; the message has its last lines."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        self.command, self.status = tuple(command), status
        last = "\n".join(output.splitlines()[-25:])
        super().__init__(f"{' '.join(command[:6])} ... ended with {status}:\n{last}")


def missing_tools() -> list[str]:
    """Return the programs that a build needs and this machine lacks."""
    return [name for name in _DISK_TOOLS + _MACHINE_TOOLS if shutil.which(name, path=environment()["PATH"]) is None]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of programs: a plain language, Debian's folders in PATH, UTC."""
    path = os.environ.get("PATH", "")
    plain = {"PATH": f"{path}:{_PATH}" if path else _PATH, "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "TZ": "UTC"}
    return {**os.environ, **plain, "DEBIAN_FRONTEND": "noninteractive", **(extra or {})}


def run(command: Sequence[str | Path], extra: Mapping[str, str] | None = None, standard_input: str = "") -> str:
    """Run a program to its end and return what it printed.

    It runs in a session of its own, so that Ctrl-C reaches us alone and it is asked to end in order: mmdebstrap needs
    that to unmount what it mounted.

    Raises:
        ProgramFailedError: it ended with an error.
    """
    words = [str(word) for word in command]
    process = subprocess.Popen(
        words,
        env=environment(extra),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(standard_input)
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        raise ProgramFailedError(words, process.returncode, output)
    return output


def _end(process: subprocess.Popen[str]) -> None:
    """End a program that we started, with its children: first asked, then killed."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            continue
        break


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say on stderr what is being done, and how long it took."""
    begin_s = time.monotonic()
    print(f"  {what} ...", file=sys.stderr, flush=True)
    yield
    print(f"  {what}: {time.monotonic() - begin_s:.1f} s", file=sys.stderr, flush=True)


def first_line(command: Sequence[str]) -> str:
    """Return the first line that a program prints, as `--version` does."""
    return run(command).strip().splitlines()[0]
