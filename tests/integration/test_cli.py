"""The command line as people and scripts use it: help, JSON, pipes, and docs that say what it says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import casimg
from casimg.cli import exit_codes, main_group
from casimg.cli.docs import commands, document, help_text
from tests.conftest import mixed_bytes

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = list(commands(main_group))


def run(*arguments: object, repo: Path, data: bytes | None = None, code: int = 0) -> bytes:
    """Run the command line, expect an exit code, return standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "casimg", "--repo", str(repo), *map(str, arguments)],
        input=data,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stdout


def test_the_document_is_the_help() -> None:
    """docs/cli.md is what `make docs` writes."""
    assert (ROOT / "docs" / "cli.md").read_text() == document()


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=" ".join)
def test_every_command_has_an_example(path: tuple[str, ...]) -> None:
    """Each help text has an example that begins with the command, and each option a help of its own."""
    command = dict(COMMANDS)[path]
    text = help_text(path, command)
    assert "Example:" in text
    assert re.search(rf"casimg {' '.join(path)}\b", text.split("Example:")[1]) or isinstance(command, click.Group)
    assert all(param.help for param in command.params if isinstance(param, click.Option))
    assert command.help


def test_exit_codes_are_documented() -> None:
    """Every code of the table is in the help of `casimg`, and every error of ours has one."""
    text = help_text((), main_group)
    codes = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    for code in codes:
        assert re.search(rf"\b{code}\b", text), code
    families = [found for found in vars(casimg.errors).values() if isinstance(found, type)]
    ours = [found for found in families if issubclass(found, casimg.CasimgError) and found is not casimg.CasimgError]
    known = tuple(family for family, _ in exit_codes._TABLE)
    unmapped = [found.__name__ for found in ours if not issubclass(found, known)]
    assert unmapped == ["ForkError", "ClosedError"], "only a program's own mistakes are internal errors"


def test_a_whole_day(tmp_path: Path) -> None:
    """init, put from a file and a pipe, ls, show, get, verify, snapshot, diff, stats, rm, gc, check: all as JSON."""
    repo, disk = tmp_path / "repo", tmp_path / "disk.raw"
    data = bytes(mixed_bytes(3_000_000))
    disk.write_bytes(data)

    def ask(*arguments: object, **named: object) -> object:
        return json.loads(run(*arguments, "--json", repo=repo, **named))  # type: ignore[arg-type]

    made = ask("init", repo, "--expect", "20TiB")
    assert isinstance(made, dict)
    assert made["chunk_size"] == 65536
    put = ask("put", disk, "--name", "one", "--property", "os=debian")
    again = ask("put", "-", "--name", "two", data=data)
    assert isinstance(put, dict)
    assert isinstance(again, dict)
    assert (put["root"], again["new_size"]) == (again["root"], 0)
    assert ask("put", disk, "--name", "three", "--dry-run") == {
        **again,
        "duration_s": pytest.approx(0, abs=60),
        "image": None,
    }
    listed = ask("ls", "t*")
    assert isinstance(listed, list)
    assert [image["name"] for image in listed] == ["two"]
    shown = ask("show", "one")
    assert isinstance(shown, dict)
    assert shown["properties"] == {"os": "debian"}
    assert ask("snapshot", "create", "one", "--name", "before") is not None
    disk.write_bytes(b"changed" + data[7:])
    nightly = ask("snapshot", "create", "--parent", "one", "--from", disk, "--name", "nightly")
    assert isinstance(nightly, dict)
    assert 0 < nightly["new_size"] < 200_000
    differing = ask("diff", "one", "nightly", "--exact")
    assert isinstance(differing, dict)
    assert differing["ranges"] == [{"offset": 0, "size": 4096}]
    tree = ask("snapshot", "ls", "nightly")
    assert isinstance(tree, dict)
    assert {child["image"]["name"] for child in tree["children"]} == {"before", "nightly"}
    assert run("get", "one", "-", repo=repo) == data
    report = ask("get", "nightly", tmp_path / "out.raw")
    assert isinstance(report, dict)
    assert (tmp_path / "out.raw").read_bytes() == disk.read_bytes()
    assert json.loads(run("verify", "nightly", disk, "--json", repo=repo))["equal"]
    assert not json.loads(run("verify", "one", disk, "--json", repo=repo, code=10))["equal"]
    stats = ask("stats", "--images")
    assert isinstance(stats, dict)
    assert stats["dedup_ratio"] > 3
    assert len(stats["usages"]) == 4
    estimated = ask("estimate", disk, "--chunk-size", "64KiB")
    assert isinstance(estimated, dict)
    assert len(estimated["rows"]) == 1
    assert ask("index", "rebuild") is not None
    assert ask("rm", "one", "two", "before", "nightly") is not None
    plan, done = ask("gc", "--dry-run"), ask("gc")
    assert isinstance(plan, dict)
    assert isinstance(done, dict)
    assert plan["size"] == done["size"] > 0
    checked = ask("check", "--read-data")
    assert isinstance(checked, dict)
    assert checked["problems"] == []


def test_text_is_for_people(tmp_path: Path) -> None:
    """Tables are plain in a pipe, with whole ids; sizes have units; the id of a put comes first."""
    repo = tmp_path / "repo"
    run("init", repo, repo=repo)
    (image_id, sentence) = (
        run("put", "-", "-n", "a name with spaces", repo=repo, data=b"x" * 2_000_000).decode().splitlines()
    )
    assert re.fullmatch(r"[0-9a-f-]{36}", image_id)
    assert "1.91 MiB" in sentence
    listed = run("ls", repo=repo).decode()
    assert image_id in listed
    assert "a name with spaces" in listed
    assert "\x1b" not in listed
    for command in (
        ["stats"],
        ["stats", image_id[:8]],
        ["show", image_id],
        ["snapshot", "ls", image_id],
        ["gc"],
        ["check"],
    ):
        assert run(*command, repo=repo)


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """A closed pipe ends `get -` quietly with 141."""
    repo = tmp_path / "repo"
    with casimg.create(repo) as opened:
        opened.put([os.urandom(8_000_000)], name="big")
    shell = f"{sys.executable} -m casimg --repo {repo} get big - | head -c 10 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=True)
    assert done.stdout.strip() == b"141", done.stderr
    assert done.stderr == b""


def test_progress_lines_without_a_terminal(tmp_path: Path) -> None:
    """--progress is accepted after the command; without it a pipe sees no progress at all."""
    repo = tmp_path / "repo"
    run("init", repo, repo=repo)
    for flags, name in ((["--progress"], "a"), (["--no-progress"], "b"), ([], "c")):
        done = subprocess.run(
            [sys.executable, "-m", "casimg", "-r", str(repo), "put", "-", "-n", name, *flags],
            input=b"x" * 100_000,
            capture_output=True,
            check=True,
        )
        assert done.stderr == b""


def test_the_version_says_what_it_runs_on() -> None:
    """casimg --version names the version, Python, the chunker and the libraries."""
    done = subprocess.run([sys.executable, "-m", "casimg", "--version"], capture_output=True, text=True, check=True)
    assert re.search(r"casimg \d.*\nPython 3.*chunker (native|python|not built).*\nlibzstd \d.*LMDB \d", done.stdout)


def test_settings_come_from_argument_environment_file(tmp_path: Path) -> None:
    """--repo wins over CASIMG_REPO; both take the folder or its casimg.toml."""
    for name in ("one", "two"):
        with casimg.create(tmp_path / name) as repo:
            repo.put([name.encode()], name=name)
    environment = {**os.environ, "CASIMG_REPO": str(tmp_path / "one" / "casimg.toml")}
    command = [sys.executable, "-m", "casimg", "ls", "--json"]
    for extra, expected in (([], "one"), (["--repo", str(tmp_path / "two")], "two")):
        done = subprocess.run([*command, *extra], capture_output=True, env=environment, check=True)
        assert [image["name"] for image in json.loads(done.stdout)] == [expected]
