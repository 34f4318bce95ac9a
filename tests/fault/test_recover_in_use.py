"""`recover` while other processes have the repository open: nobody loses anything without being told."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import casimg
from casimg.errors import CatalogBusyError
from tests.recover_making import State, objects, state_of


def child(script: str, *arguments: object) -> "subprocess.Popen[str]":
    """Another process; it says a line when it is ready."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    assert made.stdout.readline() == "ready\n"
    return made


@pytest.mark.parametrize("wrote", [False, True])
def test_a_process_that_has_it_open_loses_nothing_silently(folder: Path, state: State, wrote: bool) -> None:
    """A put of a process that opened the old catalog fails with words, and its end does not harm the new one.

    One that wrote before has a connection to the old file to write to; another would open the new one.
    """
    script = (
        "import casimg, sys\n"
        "repo = casimg.open(sys.argv[1])\n"
        "if sys.argv[2] == 'True':\n"
        "    repo.put([b'x'], name='before')\n"
        "    repo.delete('before')\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    repo.put([b'lost?' * 10_000], name='lost')\n"
        "except casimg.CasimgError as error:\n"
        "    print(type(error).__name__, error, flush=True)\n"
        "try:\n"
        "    repo.plan_gc().execute(trust_catalog=True)\n"
        "except casimg.CasimgError as error:\n"
        "    print(type(error).__name__, error, flush=True)\n"
        "sys.stdin.readline()\n"
        "repo.close()\n"
    )
    other = child(script, folder, wrote)
    before = objects(folder)
    casimg.recover(folder, force=True)
    with casimg.open(folder) as repo:
        repo.put([b"mine"], name="mine")
        assert other.stdin is not None
        assert other.stdout is not None
        print(file=other.stdin, flush=True)
        assert "open the repository again" in other.stdout.readline()
        assert "CatalogDamagedError" in other.stdout.readline()
        assert {key for key in objects(folder) if key in before} == set(before)
        other.communicate("\n")
        repo.put([b"mine too"], name="mine too")
    with casimg.open(folder) as repo:
        assert repo.images("lost") == []
        repo.delete("mine")
        repo.delete("mine too")
        assert state_of(repo) == state
        assert repo.check(read_data=True).clean


def test_a_writer_at_work_is_ended(folder: Path, state: State) -> None:
    """A put under way while recover runs does not commit into the old catalog: it is told, and the next one works."""
    script = (
        "import casimg, os, sys\n"
        "def parts():\n"
        "    yield os.urandom(9_000_000)\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    yield os.urandom(9_000_000)\n"
        "with casimg.open(sys.argv[1]) as repo:\n"
        "    try:\n"
        "        repo.put(parts(), name='late')\n"
        "    except casimg.errors.TryAgainError as error:\n"
        "        print(type(error).__name__, flush=True)\n"
    )
    other = child(script, folder)
    report = casimg.recover(folder, force=True)
    assert report.old_fenced_count == 1
    assert other.communicate("\n")[0] == "SessionFencedError\n"
    with casimg.open(folder) as repo:
        assert state_of(repo) == state
        assert repo.check(read_data=True).clean
        repo.plan_gc().execute()
        assert state_of(repo) == state


def test_a_held_catalog_is_not_taken_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the catalog's lock, and could yet commit, recover gives up and changes nothing."""
    monkeypatch.setattr("casimg.catalog.transaction.TRY_COUNT_MAX", 2)
    monkeypatch.setattr("casimg.catalog.transaction.BUSY_TIMEOUT_S", 0.05)
    holder = sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(CatalogBusyError):
        casimg.recover(folder, force=True)
    holder.close()
    with casimg.open(folder) as repo:
        assert repo.plan_gc().execute().disabled is None


def test_two_recovers_do_not_mix(folder: Path) -> None:
    """A second recover beside a running one is refused."""
    script = (
        "import casimg, sys\n"
        "def progress(report):\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.readline()\n"
        "casimg.recover(sys.argv[1], force=True, progress=progress)\n"
    )
    other = child(script, folder)
    with pytest.raises(CatalogBusyError, match="another recover"):
        casimg.recover(folder, force=True)
    other.communicate()
    assert other.returncode == 0
