"""A repository of several backends: entered, written to and read from; one that is gone; an `add` that is cut off."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import casimg
from casimg import backends
from casimg.backends import add_backend
from casimg.errors import (
    BackendUnavailableError,
    ConfigError,
    ForeignRepositoryError,
    InputError,
    RepositoryError,
    StoreNotFoundError,
)
from casimg.repository import Repository
from tests.conftest import mixed_bytes

DATA = bytes(mixed_bytes(3_000_000, 5))


def run(*arguments: str | Path, code: int = 0) -> str:
    """Run the command line and return what it says."""
    command = [sys.executable, "-m", "casimg", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def add(folder: Path, *names: str) -> None:
    for name in names:
        add_backend(folder / "repository", name, folder / name)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Repository]:
    """A repository with the backends local and spare."""
    casimg.create(tmp_path / "repository").close()
    add(tmp_path, "spare")
    with casimg.open(tmp_path / "repository") as opened:
        yield opened


def test_a_backend_is_entered_and_used(tmp_path: Path) -> None:
    """Over the command line: a backend is added, told, written to by name and read from; equal data lie on both."""
    repository, disk, out = tmp_path / "repository", tmp_path / "disk", tmp_path / "out"
    disk.write_bytes(DATA)
    run("init", repository)
    assert "spare" in run("backend", "add", repository, "spare", tmp_path / "far" / "spare")
    for name, backend in (("one", "local"), ("two", "spare")):
        run("--repo", repository, "put", disk, "--name", name, "--backend", backend)
        assert f"backends          {backend}" in run("--repo", repository, "show", name)
    run("--repo", repository, "get", "two", out)
    assert out.read_bytes() == DATA
    with casimg.open(repository) as repo:
        first, second = repo.backends()
        assert (first.name, first.is_default, second.name, second.is_default) == ("local", True, "spare", False)
        assert (first.image_count, second.image_count) == (1, 1)
        assert first.stored_size > 0
        assert (second.stored_size, second.pack_count) == (first.stored_size, first.pack_count)
        assert (first.problem, second.problem) == (None, None)
        assert repo.check(read_data=True).problems == ()
    assert "spare" in run("--repo", repository, "backend", "list")


def test_equal_data_are_known_on_their_backend_alone(two: Repository) -> None:
    """A second put of the same bytes stores nothing on a backend that has them, and all on one that does not."""
    assert two.put_report([DATA], name="a").new_size > 0
    assert two.put_report([DATA], name="b", backend="spare").new_size > 0
    for backend in ("local", "spare"):
        assert two.put_report([DATA], name=f"again {backend}", backend=backend).new_size == 0


def test_snapshots_lie_where_their_parent_does(two: Repository, tmp_path: Path) -> None:
    """Snapshots of a stored image and of a disk go to the parent's backend, and are read from there."""
    two.put([DATA], name="parent", backend="spare")
    disk = tmp_path / "disk"
    disk.write_bytes(DATA[:-5000] + os.urandom(5000))
    shared = two.snapshot("parent", name="shared")
    changed = two.snapshot_report("parent", name="changed", source=disk)
    assert shared.stores == ("spare",)
    assert changed.image is not None
    assert changed.image.stores == ("spare",)
    assert changed.known_size > changed.new_size
    assert two.open_image("changed").read() == disk.read_bytes()
    assert [item.image_count for item in two.backends()] == [0, 3]


def test_a_collection_leaves_what_lies_elsewhere(two: Repository, tmp_path: Path) -> None:
    """gc, check and a new index of all leave every image of every backend as it was."""
    two.put([DATA], name="a")
    two.put([DATA], name="b", backend="spare")
    for number in range(3):
        two.put(
            [bytes(mixed_bytes(300_000, number + 50))], name=f"gone {number}", backend=("local", "spare")[number % 2]
        )
        two.delete(f"gone {number}")
    two.plan_gc().execute()
    two.rebuild_index()
    assert two.check(read_data=True).problems == ()
    for name in ("a", "b"):
        two.get(name, tmp_path / name)
        assert (tmp_path / name).read_bytes() == DATA


def test_a_backend_that_is_gone_keeps_nothing_else_from_working(two: Repository, tmp_path: Path) -> None:
    """With a backend not mounted the repository opens; what lies there is an error of one line until it is back."""
    two.put([DATA], name="a")
    two.put([DATA], name="b", backend="spare")
    (tmp_path / "spare").rename(tmp_path / "elsewhere")
    with casimg.open(tmp_path / "repository") as repo:
        assert repo.open_image("a").read() == DATA
        with pytest.raises(BackendUnavailableError, match="is its file system mounted"):
            repo.open_image("b").read()
        with pytest.raises(BackendUnavailableError):
            repo.put([DATA], name="c", backend="spare")
        assert "mounted" in (repo.backends()[1].problem or "")
        (tmp_path / "elsewhere").rename(tmp_path / "spare")
        assert repo.open_image("b").read() == DATA
        assert repo.backends()[1].problem is None
    # One that was there when it was first asked and goes then is no missing object either.
    (tmp_path / "spare").rename(tmp_path / "elsewhere")
    with pytest.raises(BackendUnavailableError):
        two.put([bytes(mixed_bytes(100_000, 9))], name="d", backend="spare")


def test_names_and_folders_that_cannot_be(tmp_path: Path) -> None:
    """Odd names, folders in use and other repositories' backends are refused, and nothing is changed."""
    casimg.create(tmp_path / "repository").close()
    casimg.create(tmp_path / "other").close()
    before = (tmp_path / "repository" / "casimg.toml").read_bytes()
    for name in ("", "local", "Spare", "a b", "-a", "x" * 65, "a.b", "ä"):
        with pytest.raises(InputError):
            add_backend(tmp_path / "repository", name, tmp_path / "spare")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    objects = tmp_path / "repository" / "objects"
    for folder in (tmp_path / "full", objects, objects / "inner", tmp_path, tmp_path / "full" / "file", ""):
        with pytest.raises(InputError):
            add_backend(tmp_path / "repository", "spare", folder)
    with pytest.raises(ForeignRepositoryError):
        add_backend(tmp_path / "repository", "spare", tmp_path / "other" / "objects")
    assert (tmp_path / "repository" / "casimg.toml").read_bytes() == before
    add(tmp_path, "spare")
    with pytest.raises(InputError, match="already"):
        add_backend(tmp_path / "repository", "spare", tmp_path / "elsewhere")
    with casimg.open(tmp_path / "repository") as repo, pytest.raises(StoreNotFoundError):
        repo.put([DATA], name="a", backend="fast")


@pytest.mark.parametrize(
    "text",
    [
        '[backends.Spare]\npath = "x"',
        '[backends.local]\npath = "x"',
        "[backends.spare]",
        '[backends.spare]\npath = ""',
        '[backends.spare]\npath = "x"\nkind = "tape"',
        '[backends.spare]\npath = "x"\nspeed = 1',
        "backends = 1",
        "backends.spare = 1",
    ],
)
def test_tables_that_cannot_be(tmp_path: Path, text: str) -> None:
    """A table of a backend that is wrong is named in one line."""
    casimg.create(tmp_path / "repository").close()
    site = tmp_path / "repository" / "casimg.toml"
    site.write_text(f"{text}\n{site.read_text()}" if text.startswith("backends") else f"{site.read_text()}\n{text}\n")
    with pytest.raises(ConfigError, match="backends"):
        casimg.open(tmp_path / "repository")


def test_paths_with_anything_in_them(tmp_path: Path) -> None:
    """A folder's name is kept whatever is in it, and the file keeps its mode."""
    casimg.create(tmp_path / "repository").close()
    site = tmp_path / "repository" / "casimg.toml"
    site.chmod(0o640)
    odd = tmp_path / 'a "b" \\ \t ü \x7f #'
    add_backend(tmp_path / "repository", "spare", odd)
    assert site.stat().st_mode & 0o777 == 0o640
    with casimg.open(tmp_path / "repository") as repo:
        repo.put([DATA], name="a", backend="spare")
    assert (odd / "packs").is_dir()


def test_catalog_and_file_must_agree(two: Repository, tmp_path: Path) -> None:
    """A table without a row, and a backend with packs without a table, are refused in one line."""
    site = tmp_path / "repository" / "casimg.toml"
    before = site.read_text()
    site.write_text(before[: before.index("[backends.spare]")])
    casimg.open(tmp_path / "repository").close()  # nothing lies there
    two.put([DATA], name="a", backend="spare")
    with pytest.raises(RepositoryError, match=r"no \[backends.spare\]"):
        casimg.open(tmp_path / "repository")
    site.write_text(before + f'[backends.third]\npath = "{tmp_path / "third"}"\n')
    with pytest.raises(RepositoryError, match="does not know the backend third"):
        casimg.open(tmp_path / "repository")


@pytest.mark.parametrize("step", ["_make_folder", "open_catalog", "_write_site"])
def test_an_add_that_is_cut_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Cut off before or after any step, the repository opens as before, and the next try succeeds."""
    casimg.create(tmp_path / "repository").close()
    for is_after in (False, True):
        name = f"spare-{int(is_after)}"
        real = getattr(backends, step)

        def cut(*arguments: object, is_after: bool = is_after, real: object = real) -> None:
            if is_after:
                assert callable(real)
                real(*arguments)
            raise InterruptedError

        with monkeypatch.context() as patched:
            patched.setattr(backends, step, cut)
            with pytest.raises(InterruptedError):
                add(tmp_path, name)
        casimg.open(tmp_path / "repository").close()
        add(tmp_path, name)
        with casimg.open(tmp_path / "repository") as repo:
            assert repo.put([DATA], name=name, backend=name).stores == (name,)


def test_a_killed_add_is_done_again(tmp_path: Path) -> None:
    """After kill -9 at any moment the repository opens, and the same command succeeds."""
    casimg.create(tmp_path / "repository").close()
    for number in range(6):
        name = f"spare{number}"
        command = ["backend", "add", str(tmp_path / "repository"), name, str(tmp_path / name)]
        process = subprocess.Popen([sys.executable, "-m", "casimg", *command])
        time.sleep(0.1 + 0.05 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        casimg.open(tmp_path / "repository").close()
        run(*command)
    with casimg.open(tmp_path / "repository") as repo:
        assert len(repo.backends()) == 7
