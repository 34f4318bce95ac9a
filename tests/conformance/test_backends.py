"""Every backend passes the one suite; and what only the local one promises."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from casimg.backend.base import Backend
from casimg.backend.fault import FaultBackend
from casimg.backend.local import LocalBackend
from casimg.backend.memory import MemoryBackend
from casimg.errors import BackendUnavailableError, NoSpaceError
from casimg.testing.backend_conformance import BackendConformance
from tests.conftest import needs_root


class TestLocal(BackendConformance):
    """The default backend."""

    def make_backend(self, folder: Path) -> Backend:
        return LocalBackend.create(folder / "objects")


class TestMemory(BackendConformance):
    """The fake passes too, so tests on it say something."""

    def make_backend(self, folder: Path) -> Backend:
        return MemoryBackend()


class TestFaultless(BackendConformance):
    """The wrapper that never fails is the backend it wraps."""

    def make_backend(self, folder: Path) -> Backend:
        return FaultBackend(LocalBackend.create(folder / "objects"), lambda verb, key, number: None)


def test_keys_are_refused(tmp_path: Path) -> None:
    """Not even a folder is made for a key that is refused."""
    backend = LocalBackend.create(tmp_path / "objects")
    suite = TestLocal()
    for key in ("../x", "a/../../x", "tmp/x"):
        suite.test_keys_are_refused(backend, key)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["objects"]


def test_a_put_is_durable_before_it_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced, then renamed, then its folder is synced; new folders are synced before the rename."""
    backend = LocalBackend.create(tmp_path / "objects")
    calls: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        calls.append("sync " + ("folder" if Path(f"/proc/self/fd/{fd}").is_dir() else "file"))
        real_fsync(fd)

    def rename(*arguments: Any) -> None:
        calls.append("rename")
        real_rename(*arguments)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    backend.put("packs/ab/object", io.BytesIO(b"x"), 1)
    assert calls == ["sync file", "sync folder", "sync folder", "rename", "sync folder"]
    calls.clear()
    (tmp_path / "finished").write_bytes(b"y")
    assert backend.take_file("packs/ab/other", tmp_path / "finished")
    assert calls == ["sync file", "rename", "sync folder"]
    calls.clear()
    backend.delete("packs/ab/other")
    assert calls == ["sync folder"]


def test_a_killed_put_leaves_no_object(tmp_path: Path) -> None:
    """kill -9 in the middle of a put: nothing shows, what is left can be listed and removed."""
    LocalBackend.create(tmp_path / "objects")
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom casimg.backend.local import LocalBackend\n"
        "class Slow:\n"
        "    def read(self, size):\n"
        "        print('reading', flush=True)\n"
        "        time.sleep(0.05)\n"
        "        return b'x' * size\n"
        "LocalBackend(Path(sys.argv[1])).put('packs/ab/object', Slow(), 1 << 40)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "objects")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(3):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    backend = LocalBackend(tmp_path / "objects")
    assert list(backend.list("")) == []
    (left,) = backend.list_partials()
    backend.delete_partial(left.key)
    assert list(backend.list_partials()) == []


def test_a_full_file_system_is_said(tmp_path: Path) -> None:
    """ENOSPC is NoSpaceError, and nothing of the object is left to take up room."""
    needs_root()
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True)
    try:
        backend = LocalBackend.create(mount / "objects")
        with pytest.raises(NoSpaceError):
            backend.put("object", io.BytesIO(bytes(2 << 20)), 2 << 20)
        assert list(backend.list("")) == []
        assert list(backend.list_partials()) == []
        (tmp_path / "other").write_bytes(b"elsewhere")
        assert not backend.take_file("taken", tmp_path / "other"), "another file system needs a copy"
        assert (tmp_path / "other").exists()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_missing_folder_is_not_an_empty_backend(tmp_path: Path) -> None:
    """Opening a backend whose file system is not mounted is refused, not taken for empty."""
    (tmp_path / "mountpoint").mkdir()
    for path in (tmp_path / "absent", tmp_path / "mountpoint"):
        with pytest.raises(BackendUnavailableError, match="mounted"):
            LocalBackend(path)
