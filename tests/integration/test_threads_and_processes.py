"""Many threads and processes on one repository; forks; the bounds on memory."""

import hashlib
import io
import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import casimg
from casimg.repository import Repository
from tests.conftest import mixed_bytes

DATA = bytes(mixed_bytes(12_000_000))


def test_many_threads_read_one_file(repo: Repository) -> None:
    """read_at from eight threads at once gives each its bytes."""
    repo.put([DATA], name="image")
    with repo.open_image("image") as file, ThreadPoolExecutor(8) as pool:
        wishes = [(at * 37_777 % len(DATA), at * 997 % 300_000) for at in range(200)]
        found = pool.map(lambda wish: file.read_at(*wish), wishes)
        for (offset, size), got in zip(wishes, found, strict=True):
            assert got == DATA[offset : offset + size]


def test_the_file_behaves_like_a_file(repo: Repository) -> None:
    """Seek, tell, short reads at the end, BufferedReader, closed file: as io.RawIOBase promises."""
    repo.put([DATA[:1_000_001]], name="image")
    file = repo.open_image("image")
    assert isinstance(file, io.RawIOBase)
    assert file.seek(-1, io.SEEK_END) == 1_000_000
    assert (file.read(10), file.read(10), file.tell()) == (DATA[1_000_000:1_000_001], b"", 1_000_001)
    assert file.seek(5_000_000) == 5_000_000
    assert file.read(1) == b""
    with pytest.raises(ValueError, match="before the start"):
        file.seek(-1)
    assert not file.writable()
    file.seek(0)
    assert io.BufferedReader(file).read() == DATA[:1_000_001]
    other = repo.open_image("image")
    other.close()
    with pytest.raises((ValueError, casimg.errors.ClosedError)):
        other.read(1)


def test_a_closed_repository_says_so(tmp_path: Path) -> None:
    """After close every method raises ClosedError; so do files opened from it."""
    repo = casimg.create(tmp_path / "r")
    repo.put([b"x"], name="image")
    file = repo.open_image("image")
    repo.close()
    repo.close()
    for call in (repo.images, repo.stats, lambda: repo.put([b""], name="y"), lambda: file.read(1)):
        with pytest.raises(casimg.errors.ClosedError):
            call()


def test_a_fork_is_refused(tmp_path: Path) -> None:
    """A child that uses its parent's repository gets ForkError; its own open works."""
    script = (
        "import casimg, os, sys\n"
        "repo = casimg.open(sys.argv[1])\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try:\n"
        "        repo.images()\n"
        "    except casimg.errors.ForkError:\n"
        "        with casimg.open(sys.argv[1]) as own:\n"
        "            os._exit(0 if len(own.images()) == 1 else 3)\n"
        "    os._exit(2)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    with casimg.create(tmp_path / "r") as repo:
        repo.put([b"x"], name="image")
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "r")], check=False).returncode == 0


def test_threads_put_at_once(repo: Repository) -> None:
    """Four puts at once in one process, half of their bytes shared, all come back."""
    sources = [DATA[: 3_000_000 + number] + bytes(mixed_bytes(500_000, number)) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda pair: repo.put([pair[1]], name=f"t{pair[0]}"), enumerate(sources)))
    for image, data in zip(images, sources, strict=True):
        with repo.open_image(image.id) as file:
            assert file.read() == data
    assert repo.check(read_data=True).clean


def test_one_name_is_taken_once(repo: Repository) -> None:
    """Of six threads that put one name without same_name, exactly one succeeds."""
    barrier = threading.Barrier(6)

    def put(number: int) -> bool:
        barrier.wait()
        try:
            repo.put([b"%d" % number], name="wanted")
        except casimg.errors.NameTakenError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(put, range(6))) == 1
    assert len(repo.images("wanted")) == 1


def _work(path: str, number: int, rounds: int, queue: "multiprocessing.Queue[str]") -> None:
    try:
        with casimg.open(path) as repo:
            for turn in range(rounds):
                name = f"p{number}-{turn}"
                data = bytes(mixed_bytes(400_000, turn)) + b"%d" % number
                repo.put([data], name=name)
                with repo.open_image(name) as file:
                    if hashlib.sha256(file.read()).digest() != hashlib.sha256(data).digest():
                        raise RuntimeError(f"{name} came back different")
                if turn % 2:
                    repo.delete(name)
                    repo.plan_gc().execute()
        queue.put("")
    except Exception as error:
        queue.put(f"{type(error).__name__}: {error}")


def test_processes_write_read_delete_and_collect_at_once(tmp_path: Path) -> None:
    """Four processes with shared data, collecting garbage all the while, lose nothing; a full check is clean."""
    casimg.create(tmp_path / "r", chunk_size=4096).close()
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[str] = context.Queue()
    workers = [context.Process(target=_work, args=(str(tmp_path / "r"), n, 8, queue)) for n in range(4)]
    for worker in workers:
        worker.start()
    said = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    assert said == [""] * 4
    with casimg.open(tmp_path / "r") as repo:
        assert len(repo.images()) == 16
        assert repo.check(read_data=True).clean
        for image in repo.images():
            repo.delete(image.id)
        repo.plan_gc().execute()
        assert repo.stats().stored_size + repo.stats().metadata_size == 0


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Put and get of 1 GiB that never repeats stay under 256 MiB of anonymous memory (the full size: bench-memory)."""
    command = [sys.executable, "-m", "benchmarks.memory", "--size", "1GiB", "--folder", str(tmp_path / "m")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_use_after_a_fork_is_refused(tmp_path: Path) -> None:
    """In a forked child reads, writes, collections and open files are refused by name; the parent goes on unharmed."""
    script = (
        "import casimg, os, sys\n"
        "repo = casimg.open(sys.argv[1])\n"
        "file = repo.open_image('image')\n"
        "calls = [lambda: repo.put([b'y'], name='y'), lambda: repo.snapshot('image', name='z'), repo.plan_gc,\n"
        "    lambda: repo.get('image', sys.argv[2]), lambda: repo.open_image('image'), lambda: repo.delete('image'),\n"
        "    repo.check, repo.stats, repo.rebuild_index, repo.sessions, lambda: file.read(1)]\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    refused = 0\n"
        "    for call in calls:\n"
        "        try:\n"
        "            call()\n"
        "        except casimg.errors.ForkError as error:\n"
        "            refused += 'open it again' in str(error)\n"
        "    os._exit(0 if refused == len(calls) else 1)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "repo.put([b'y'], name='y')\n"
        "assert file.read() == b'x' and repo.check(read_data=True).clean\n"
        "sys.exit(code)\n"
    )
    with casimg.create(tmp_path / "r") as repo:
        repo.put([b"x"], name="image")
    command = [sys.executable, "-c", script, str(tmp_path / "r"), str(tmp_path / "out")]
    assert subprocess.run(command, check=False).returncode == 0
