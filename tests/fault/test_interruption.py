"""Interrupted work: kill -9, Ctrl-C, cancel, a full disk. Nothing committed is lost, nothing half is seen."""

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import casimg
from casimg.backend.fault import FaultBackend
from casimg.constants import KIND_DATA
from casimg.errors import BackendUnavailableError
from casimg.pack.writer import SpoolPack
from casimg.repository import Repository
from tests.conftest import mixed_bytes, needs_root

PUT = (
    "import casimg, sys, os\n"
    "def progress(report):\n"
    "    print(report.done_size, flush=True)\n"
    "with casimg.open(sys.argv[1]) as repo:\n"
    "    repo.put(sys.argv[2], name='big', progress=progress)\n"
    "print('done', flush=True)\n"
)
GET = (
    "import casimg, sys\n"
    "with casimg.open(sys.argv[1]) as repo:\n"
    "    repo.get('big', sys.argv[2], progress=lambda report: print(report.done_size, flush=True))\n"
)


def killed_after(script: str, arguments: list[object], size: int) -> bool:
    """Run a script, kill -9 it when it has reported `size` bytes; False when it was done before."""
    child = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "done":
            break
        if int(line) >= size:
            child.kill()
            break
    child.wait()
    child.stdout.close()
    return child.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of several packs that does not compress."""
    path = tmp_path_factory.mktemp("big") / "big.raw"
    path.write_bytes(os.urandom(280 << 20))
    return path


def test_a_killed_put_leaves_nothing_half_and_is_not_in_vain(tmp_path: Path, big: Path) -> None:
    """After kill -9 no image is seen; the same put finds the packs that were stored; gc takes what is left over."""
    casimg.create(tmp_path / "r").close()
    assert killed_after(PUT, [tmp_path / "r", big], 240 << 20)
    with casimg.open(tmp_path / "r") as repo:
        assert repo.images() == []
        report = repo.put_report(big, name="big")
        assert report.known_size >= 60 << 20, "at least the first pack must be found again"
        assert repo.verify("big", big).equal
        assert [path.name for path in (tmp_path / "r" / "spool").iterdir()] == ["reserve"]
        repo.delete("big")
        repo.plan_gc().execute()
        assert repo.stats().stored_size == 0
        assert [path for path in (tmp_path / "r" / "objects" / "packs").rglob("*") if path.is_file()] == []


def test_a_killed_get_is_resumed(tmp_path: Path, big: Path) -> None:
    """After kill -9 the final name does not exist; --resume keeps what is right, mends what is not, and completes."""
    with casimg.create(tmp_path / "r") as repo:
        repo.put(big, name="big")
    target = tmp_path / "out.raw"
    killed_after(GET, [tmp_path / "r", target], 40 << 20)
    if target.exists():  # it was faster than the kill: stand in for one
        target.rename(tmp_path / "out.raw.casimg-partial")
    partial = tmp_path / "out.raw.casimg-partial"
    assert partial.exists()
    with partial.open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"rotten")
    with casimg.open(tmp_path / "r") as repo:
        report = repo.get("big", target, resume=True)
    assert report.kept_size > 0
    assert target.read_bytes() == big.read_bytes()
    assert not partial.exists()


def test_resume_mends_holes(tmp_path: Path) -> None:
    """Garbage where the image has holes is cleared by a resumed restore."""
    data = b"a" * 5000 + bytes(20 << 20) + b"b" * 5000
    with casimg.create(tmp_path / "r") as repo:
        repo.put([data], name="sparse")
        (tmp_path / "out.casimg-partial").write_bytes(os.urandom(30 << 20))
        repo.get("sparse", tmp_path / "out", resume=True)
        assert (tmp_path / "out").read_bytes() == data


def test_ctrl_c_keeps_what_was_stored(tmp_path: Path, big: Path) -> None:
    """SIGINT ends the command line with 130 and no image; the next put finds all that was stored, spool included."""
    casimg.create(tmp_path / "r").close()
    command = [sys.executable, "-m", "casimg", "--repo", str(tmp_path / "r"), "put", "-", "-n", "big"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stderr is not None
    with big.open("rb") as source:
        child.stdin.write(source.read(200 << 20))
        child.stdin.flush()
        child.send_signal(signal.SIGINT)
        try:
            while part := source.read(1 << 20):
                child.stdin.write(part)
            child.stdin.close()
        except BrokenPipeError:
            pass
    said = child.stderr.read()
    assert child.wait(timeout=60) == 130, said
    with casimg.open(tmp_path / "r") as repo:
        assert repo.images() == []
        assert repo.put_report(big, name="big").known_size >= 150 << 20


def test_a_second_ctrl_c_ends_it_while_nothing_comes(tmp_path: Path) -> None:
    """A put from a pipe whose writer is silent ends with 130 at the second SIGINT, and in one line."""
    casimg.create(tmp_path / "r").close()
    command = [sys.executable, "-m", "casimg", "--repo", str(tmp_path / "r"), "-v", "put", "-", "-n", "silent"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stderr is not None
    child.stdin.write(os.urandom(9 << 20))  # more than pipe and buffers hold: written means being read
    child.stdin.flush()
    child.send_signal(signal.SIGINT)
    said = b""
    while b"Ctrl-C again" not in said:
        line = child.stderr.readline()
        assert line, said
        said += line
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 130
    said += child.stderr.read()
    assert b"casimg: interrupted" in said
    assert b"Fatal" not in said
    child.stdin.close()


def test_cancel_from_another_thread(repo: Repository, tmp_path: Path, big: Path) -> None:
    """A set cancel event stops put and get with CancelledError and nothing visible."""
    cancel = threading.Event()
    with pytest.raises(casimg.errors.CancelledError):
        repo.put(big, name="big", progress=lambda _: cancel.set(), cancel=cancel)
    assert repo.images() == []
    repo.put(big, name="big")
    cancel = threading.Event()
    with pytest.raises(casimg.errors.CancelledError):
        repo.get("big", tmp_path / "out", progress=lambda _: cancel.set(), cancel=cancel)
    assert not (tmp_path / "out").exists()


def test_every_failing_backend_call_leaves_a_sound_repository(tmp_path: Path) -> None:
    """Failing the n-th backend call of a put and of a gc, for every n: committed images stay whole, a retry works."""
    data = bytes(mixed_bytes(3_000_000, 5))
    other = bytes(mixed_bytes(2_000_000, 6))
    number = 0
    while True:
        number += 1
        folder = tmp_path / f"r{number}"
        with casimg.create(folder, chunk_size=4096) as repo:
            repo.put([other], name="kept")
            repo.put([data[:1_500_000]], name="gone")
            repo.delete("gone")
            wiring = repo._wiring
            real = wiring.backend

            def fail(verb: str, key: str, count: int, at: int = number) -> Exception | None:
                return BackendUnavailableError("test", f"{verb} {key}") if count == at else None

            faulty = FaultBackend(real, fail)
            wiring.backend = faulty
            try:
                repo.put([data], name="new")
                repo.plan_gc().execute()
            except BackendUnavailableError:
                pass
            wiring.backend = real
        with casimg.open(folder) as repo:
            sink = io.BytesIO()
            repo.get("kept", sink)
            assert sink.getvalue() == other, number
            if not repo.images("new"):
                repo.put([data], name="new")
            sink = io.BytesIO()
            repo.get("new", sink)
            assert sink.getvalue() == data, number
            repo.plan_gc().execute()
            assert repo.check(read_data=True).clean, number
        if faulty.call_count < number:
            break
    assert number > 8, "the loop must have reached into put and gc"


def test_a_full_disk_is_said_and_gc_gives_space_back(tmp_path: Path) -> None:
    """On a full file system put fails with NoSpaceError and commits nothing; images read, rm and gc work."""
    needs_root()
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(mount)], check=True)
    try:
        with casimg.create(mount / "r") as repo:
            first = os.urandom(12 << 20)
            repo.put([first], name="first")
            with pytest.raises(casimg.errors.NoSpaceError):
                repo.put([os.urandom(60 << 20)], name="too-big")
            assert [image.name for image in repo.images()] == ["first"]
            assert repo.verify("first", _file(tmp_path / "first", first)).equal
            repo.plan_gc().execute()
            repo.delete("first")
            repo.plan_gc().execute()
            repo.put([os.urandom(12 << 20)], name="second")
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_pack_that_failed_to_be_written_is_never_finished(tmp_path: Path) -> None:
    """After a failed write a spool pack refuses both more frames and a trailer: it would vouch for a half frame."""
    needs_root()
    mount = tmp_path / "tiny"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True)
    try:
        pack = SpoolPack(mount, KIND_DATA, 0)
        with pytest.raises(casimg.errors.NoSpaceError):
            pack.append(os.urandom(2 << 20), [bytes(32)], [1])
        with pytest.raises(casimg.errors.TargetError):
            pack.append(b"x", [bytes(32)], [1])
        with pytest.raises(casimg.errors.TargetError):
            pack.finish()
        pack.discard()
        assert list(mount.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_two_restores_to_one_name_do_not_mix(repo: Repository, tmp_path: Path) -> None:
    """While one restore writes a name, another to the same name is refused."""
    data = os.urandom(1 << 20)
    repo.put([data], name="image")
    (tmp_path / "out.casimg-partial").write_bytes(b"")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys, time\nf = open(sys.argv[1], 'r+b')\nfcntl.flock(f, fcntl.LOCK_EX)\n"
            "print('locked', flush=True)\nsys.stdin.read()",
            str(tmp_path / "out.casimg-partial"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(casimg.errors.TargetError, match="another restore"):
        repo.get("image", tmp_path / "out")
    holder.communicate()
    repo.get("image", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data


def test_an_interrupted_index_rebuild_leaves_the_old_one(tmp_path: Path) -> None:
    """kill -9 while the index is made anew: the old one is as it was, and the next rebuild clears what was left."""
    script = (
        "import casimg, os, signal, sys\n"
        "repo = casimg.open(sys.argv[1])\n"
        "repo.rebuild_index(progress=lambda report: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    folder = tmp_path / "r"
    with casimg.create(folder) as repo:
        repo.put([os.urandom(100_000)], name="image")
        count = repo._wiring.index.entry_count()
        before = repo._wiring.index.applied()
    assert subprocess.run([sys.executable, "-c", script, str(folder)], check=False).returncode == -signal.SIGKILL
    with casimg.open(folder) as repo:
        assert (repo._wiring.index.applied(), repo._wiring.index.entry_count()) == (before, count)
        assert repo.rebuild_index().entry_count == count
        assert repo.check(read_data=True).clean
    assert sorted(path.name for path in folder.glob("index*")) == ["index"]
