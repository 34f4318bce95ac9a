"""What README.md and ARCHITECTURE.md say is true: their Python runs, their console session runs and prints its like."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "ARCHITECTURE.md")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "== end of command"

# What differs from run to run; everything else in the console session must be as the README has it.
_VARYING = (
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"(?:/[^\s/]+)+/store\b"), "FOLDER"),
    (re.compile(r"\d+(?:\.\d+)?(?: (?:[KMGT]iB|B)\b)?"), "N"),
    (re.compile(r"\s+"), " "),
)


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a language in a page."""
    return [body for kind, body in _FENCE.findall((ROOT / page).read_text()) if kind == language]


def environment() -> dict[str, str]:
    """Return an environment whose `casimg` and `python` are those under test, with no repository chosen."""
    kept = {name: value for name, value in os.environ.items() if name != "CASIMG_REPO"}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', '')}", "LC_ALL": "C.UTF-8"}


def shape(text: str) -> str:
    """Return a text with ids, times, folders and numbers replaced by their kind."""
    for pattern, kind in _VARYING:
        text = pattern.sub(kind, text)
    return text.strip()


def steps(session: str) -> list[tuple[str, str]]:
    """Return the commands of a console session, each with the output below it."""
    parts = re.split(r"^\$ (.*)\n", session, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def run_session(commands: list[str], folder: Path) -> list[str]:
    """Run commands in one shell that stops at the first failure; return the output of each."""
    script = "set -e\n" + "".join(f"{command}\necho '{_END}'\n" for command in commands)
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split(_END + "\n")[:-1]


def test_the_console_session_runs_and_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """Each command of the README succeeds and prints the README's lines, but for ids, times and numbers."""
    (session,) = blocks("README.md", "console")
    told = steps(session)
    assert len(told) > 10
    printed = run_session([command for command, _ in told], tmp_path)
    assert [(command, shape(output)) for (command, _), output in zip(told, printed, strict=True)] == [
        (command, shape(output)) for command, output in told
    ]


def test_the_session_check_sees_a_changed_word() -> None:
    """Another word, or a missing line, is a difference; another size, id or second is none."""
    assert shape("freed 1.2 MiB in 3 packs") == shape("freed 0 B in 12 packs")
    assert shape("freed 0 B in 0 packs") != shape("gave back 0 B in 0 packs")
    assert shape("made in /data/store\nnext") != shape("made in /data/store")


def test_the_python_runs(tmp_path: Path) -> None:
    """The README's lines of Python run as they stand, and the copy they make has the bytes of the disk."""
    (code,) = blocks("README.md", "python")
    disk = os.urandom(3_000_000) + bytes(5_000_000)
    (tmp_path / "disk.raw").write_bytes(disk)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy.raw").read_bytes() == disk
    assert re.fullmatch(r"\d+\.\d times less\n", done.stdout)


def test_the_make_commands_exist() -> None:
    """Each `make` target that the README names is one of the Makefile."""
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_files_and_links_exist(page: str) -> None:
    """Each source, folder and link that a page names is there; docs/cli.md is written by `make docs`."""
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`((?:casimg|native|tests|benchmarks)/[\w/.]*)`", text))
    named |= {link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link}
    assert named
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
