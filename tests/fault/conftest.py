"""What tests of `recover` share: a repository with every kind of image, made once for a module and copied."""

import shutil
from pathlib import Path

import pytest

from tests.recover_making import State, fill


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """A repository to copy, and what it holds."""
    folder = tmp_path_factory.mktemp("filled") / "r"
    return folder, fill(folder)


@pytest.fixture
def folder(filled: tuple[Path, State], tmp_path: Path) -> Path:
    """A copy of the repository of its own."""
    shutil.copytree(filled[0], tmp_path / "r")
    return tmp_path / "r"


@pytest.fixture
def state(filled: tuple[Path, State]) -> State:
    return filled[1]
