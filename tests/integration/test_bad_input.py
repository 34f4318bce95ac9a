"""A user's mistake: one clear line, a documented exit code, nothing changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import casimg
from casimg.repository import Repository
from casimg.source import FileSource


def run(*arguments: object, repo: Path | None = None, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "CASIMG_REPO"}
    if repo is not None:
        environment["CASIMG_REPO"] = str(repo)
    command = [sys.executable, "-m", "casimg", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, env=environment, timeout=60, check=False)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every object and the configuration: what a refused command must not change."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parts[len(folder.parts)] in ("objects", "casimg.toml", "spool")
    }


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A repository with one image, closed."""
    with casimg.create(tmp_path / "repository") as repo:
        repo.put([b"x" * 100_000], name="one")
    return tmp_path / "repository"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["put", "/no/such/file", "-n", "x"], 5, "no such file"),
        (["put", "/", "-n", "x"], 5, "it is a folder"),
        (["put", "", "-n", "x"], 5, "path is empty"),
        (["put", "/dev/null", "-n", "x"], 5, "neither a regular file nor a block device"),
        (["put", "/etc/hostname", "-n", "one"], 4, "is taken by"),
        (["put", "/etc/hostname", "-n", ""], 5, "name must have"),
        (["put", "/etc/hostname", "-n", "a\nb"], 5, "name must have"),
        (["put", "/etc/hostname", "-n", "x", "--property", "nonsense"], 5, "key=value"),
        (["put", "/etc/hostname", "-n", "x", "--disk-format", "ra w"], 5, "disk format"),
        (["put", "/etc/hostname"], 2, "--name"),
        (["show", "nothing"], 3, "no image with the name or id"),
        (["get", "nothing", "never"], 3, "no image"),
        (["get", "one", "/no/such/folder/file"], 5, "cannot write"),
        (["get", "one", "/"], 5, "it is a folder"),
        (["get", "one", "/no-such-file", "--in-place"], 5, "there is none"),
        (["rm", "one", "nothing"], 3, "no image"),
        (["verify", "one", "/no/such"], 5, "no such file"),
        (["snapshot", "create", "nothing", "-n", "s"], 3, "no image"),
        (["snapshot", "create", "-n", "s"], 2, "parent"),
        (["snapshot", "create", "one", "-n", "s", "--changed", "/x"], 2, "--from"),
        (["snapshot", "create", "one", "-n", "s", "--from", "/etc/hostname", "--changed", "/x"], 5, "map of changed"),
        (["diff", "one", "nothing"], 3, "no image"),
        (["estimate", "/no/such"], 5, "no such file"),
        (["estimate", "/etc/hostname", "--chunk-size", "5KiB"], 5, "power of two"),
        (["init", "/proc/cannot"], 6, "cannot be made"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_mistakes_are_one_line_with_their_code(stored: Path, arguments: list[str], code: int, words: str) -> None:
    """Each mistake gives its documented exit code and says what is wrong, without a traceback, changing nothing."""
    before = files_of(stored)
    done = run(*arguments, repo=stored)
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert words in said
    assert "Traceback" not in said
    if code != 2:
        assert len(said.strip().splitlines()) == 1
    assert files_of(stored) == before


def test_errors_are_json_when_asked(stored: Path) -> None:
    """With --json an error is one JSON document on stdout, with the same exit code."""
    done = run("show", "nothing", "--json", repo=stored)
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["type"] == "ImageNotFoundError"


def test_unreadable_source(stored: Path, tmp_path: Path) -> None:
    """A file without read permission is refused by name (root reads everything, so a dead link stands in)."""
    link = tmp_path / "dangling"
    link.symlink_to(tmp_path / "gone")
    done = run("put", link, "-n", "x", repo=stored)
    assert done.returncode == 5
    assert str(link) in done.stderr.decode()


def test_ambiguous_names_list_their_ids(tmp_path: Path) -> None:
    """Two images of one name: the name is refused with both ids, an id works."""
    with casimg.create(tmp_path / "repository") as repo:
        ids = [repo.put([b"a"], name="twin").id, repo.put([b"b"], name="twin", same_name=True).id]
    done = run("show", "twin", repo=tmp_path / "repository")
    assert done.returncode == 4
    assert all(image_id in done.stderr.decode() for image_id in ids)
    assert run("show", ids[0], repo=tmp_path / "repository").returncode == 0
    assert run("show", ids[0][:8], repo=tmp_path / "repository").returncode == 0


def test_no_repository(tmp_path: Path) -> None:
    """No folder, an empty folder, a file, and no setting at all are told apart from a repository."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x = 1\n")
    for path in (tmp_path / "absent", tmp_path / "empty", tmp_path / "file"):
        done = run("ls", "--repo", path)
        assert done.returncode == 6, done.stderr
        assert len(done.stderr.decode().splitlines()) == 1
    assert run("ls").returncode == 6


def test_init_refuses_what_is_not_empty(stored: Path, tmp_path: Path) -> None:
    """A folder with anything in it, a repository above all, is not made into one."""
    before = files_of(stored)
    assert run("init", stored).returncode == 6
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("keep me")
    assert run("init", tmp_path / "full").returncode == 6
    assert (tmp_path / "full" / "letter").read_text() == "keep me"
    assert files_of(stored) == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('kind = "local"', 'kind = "local"\ncolour = "red"', "unknown key 'colour'"),
        ("[spool]", "[spoool]", "unknown section [spoool]"),
        ("level = 1", 'level = "three"', "must be a number"),
        ("level = 1", "level = 99", "-7 to 22"),
        ('kind = "local"', 'kind = "tape"', "unknown backend kind"),
        ('map_size = "1TiB"', 'map_size = "much"', "is not a size"),
        ("[catalog]", "[catalog", "not TOML"),
        ('url = "sqlite:///catalog.sqlite"', 'url = "nonsense"', "not a database URL"),
    ],
)
def test_bad_configuration(stored: Path, old: str, new: str, words: str) -> None:
    """An unknown key or a wrong value in casimg.toml is named, with what would be right."""
    config = stored / "casimg.toml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    done = run("ls", repo=stored)
    assert (done.returncode, words in done.stderr.decode()) == (6, True), done.stderr


def test_foreign_and_newer_repositories(stored: Path, tmp_path: Path) -> None:
    """Another repository's objects or catalog, a newer format and an unknown feature are refused by name."""
    with casimg.create(tmp_path / "other") as other:
        other_uuid = other.repository_uuid
    config = stored / "objects" / "casimg.json"
    ours = config.read_text()
    config.write_text((tmp_path / "other" / "objects" / "casimg.json").read_text())
    with pytest.raises(casimg.errors.ForeignRepositoryError, match=other_uuid):
        casimg.open(stored)
    config.write_text(ours.replace('"format_version": 1', '"format_version": 7'))
    with pytest.raises(casimg.errors.NewerFormatError, match="format version 7"):
        casimg.open(stored)
    config.write_text(ours.replace('"mandatory": []', '"mandatory": ["quantum"]'))
    with pytest.raises(casimg.errors.NewerFormatError, match="quantum"):
        casimg.open(stored)
    config.write_text(ours.replace('"optional": []', '"optional": ["sparkles"]'))
    casimg.open(stored).close()
    config.write_text("{")
    with pytest.raises(casimg.errors.ConfigError):
        casimg.open(stored)
    config.write_text(ours)
    (stored / "catalog.sqlite").rename(stored / "away")
    with pytest.raises(casimg.errors.RepositoryError, match="missing"):
        casimg.open(stored)
    for suffix in ("", "-wal", "-shm"):
        path = stored / f"catalog.sqlite{suffix}"
        path.unlink(missing_ok=True)
    (stored / "catalog.sqlite").write_bytes((tmp_path / "other" / "catalog.sqlite").read_bytes())
    with pytest.raises(casimg.errors.ForeignRepositoryError, match="catalog"):
        casimg.open(stored)
    (stored / "catalog.sqlite").write_bytes(b"not a database at all, but long enough to look at" * 100)
    with pytest.raises(casimg.errors.CatalogDamagedError):
        casimg.open(stored)


def test_source_that_changes_is_refused(repo: Repository, tmp_path: Path) -> None:
    """A file written to while it is read is an error that commits nothing, unless allowed."""
    source = tmp_path / "live.raw"
    source.write_bytes(b"a" * 50_000_000)

    def touch(_: object) -> None:
        with source.open("r+b") as file:
            file.write(b"b")
            os.fsync(file.fileno())
        os.utime(source, ns=(1, 1))

    with pytest.raises(casimg.errors.SourceChangedError):
        repo.put_report(source, name="live", progress=touch)
    assert repo.images() == []
    repo.put(source, name="live", allow_changes=True, progress=touch)
    assert len(repo.images()) == 1


def test_source_that_shrinks_is_refused(tmp_path: Path) -> None:
    """A file cut off while it is read is an error, even when changes are allowed: there is no such content."""
    path = tmp_path / "live.raw"
    path.write_bytes(bytes(10_000))
    source = FileSource(path)
    os.truncate(path, 1000)
    with pytest.raises(casimg.errors.SourceChangedError, match="ends at byte 1000"):
        source.read_into(0, memoryview(bytearray(10_000)))
    source.close()


@pytest.mark.parametrize("bad", [["text"], [None], [b"ok", 7]])
def test_iterators_of_other_things_are_refused(repo: Repository, bad: list[object]) -> None:
    """An iterator that gives anything but bytes is a SourceError, and nothing is stored."""
    with pytest.raises(casimg.errors.SourceError):
        repo.put(bad, name="bad")  # type: ignore[arg-type]
    assert repo.images() == []


def test_an_iterator_that_fails_leaves_nothing(repo: Repository) -> None:
    """The caller's own exception comes through, and no image is left."""

    def parts() -> object:
        yield b"x" * 10_000_000
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        repo.put(parts(), name="bad")  # type: ignore[arg-type]
    assert repo.images() == []
    repo.plan_gc().execute()
    assert repo.stats().stored_size == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3", "line 1"),
        ("0 4096\nx y", "line 2"),
        ("-1 5", "negative"),
        ("0 999999999", "past the end"),
        ("[1]", "not an object"),
        ('[{"offset": 0}]', "no integer"),
        ('[{"offset": 0, "length": 1, "description": "odd"}]', "odd"),
        ("{}", "not a list"),
        ("[", "not JSON"),
    ],
)
def test_bad_maps_are_refused(repo: Repository, tmp_path: Path, text: str, words: str) -> None:
    """A map that cannot be understood, or does not fit the disk, names the place and stores nothing."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"d" * 100_000)
    repo.put(disk, name="parent")
    changed = tmp_path / "map"
    changed.write_text(text)
    with pytest.raises(casimg.errors.ChangedMapError, match=words):
        repo.snapshot("parent", name="child", source=disk, changed=changed)
    assert len(repo.images()) == 1
