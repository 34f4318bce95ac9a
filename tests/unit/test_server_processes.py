"""Servers of tests end: with the block that wanted them, and with a process that is killed."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers.processes import running

ROOT = Path(__file__).resolve().parents[2]
KILLED = """
import os, pathlib, subprocess
from tests.servers.processes import ending_with_us
child = subprocess.Popen(ending_with_us(["sleep", "60"]), stdout=subprocess.DEVNULL)
while pathlib.Path(f"/proc/{child.pid}/comm").read_text() != "sleep\\n":
    pass
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def is_there(pid: int) -> bool:
    """Return whether a process runs; one that is only waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_server_ends_with_its_block(tmp_path: Path) -> None:
    """It runs in the block, its output is in the log, and after the block it is gone."""
    with running(
        ["sh", "-c", "echo $$; exec sleep 60"], lambda: (tmp_path / "log").stat().st_size > 0, tmp_path / "log"
    ):
        pid = int((tmp_path / "log").read_text())
        assert is_there(pid)
    assert not is_there(pid)


def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    """What it said is in the error, and nobody waits for a process that is gone."""
    begin_s = time.monotonic()
    with (
        pytest.raises(SystemExit, match="no such database"),
        running(["sh", "-c", "echo no such database; exit 1"], lambda: False, tmp_path / "log"),
    ):
        raise AssertionError("the block must not begin")
    assert time.monotonic() - begin_s < 30


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv of util-linux is missing")
def test_a_server_ends_with_a_killed_parent() -> None:
    """SIGKILL leaves no time for the end of a block; the server ends all the same."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == -9, done.stderr
    end_s = time.monotonic() + 30
    while is_there(int(done.stdout)) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert not is_there(int(done.stdout))
