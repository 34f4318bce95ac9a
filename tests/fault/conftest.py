"""What tests of `recover` share: a repository with every kind of image, made once for a module and copied."""

import shutil
from pathlib import Path

import pytest

from casimg.constants import PACK_SIZE_TARGET
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


@pytest.fixture(autouse=True)
def _own_pack_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back the small packs that an attack run in this process asked for."""
    monkeypatch.setattr("casimg.packing.PACK_SIZE_TARGET", PACK_SIZE_TARGET)
