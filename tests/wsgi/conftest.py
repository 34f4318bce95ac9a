"""Servers for these tests, which run when `python -m tests.wsgi` has installed them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import casimg
from tests.wsgi.install import FOLDER_VARIABLE, SERVERS, Programs, install
from tests.wsgi.servers import WsgiServer, start

collect_ignore_glob = [] if FOLDER_VARIABLE in os.environ else ["test_*.py"]

CONFIG = """
[repository]
path = "repository"
[import_filtering_opts]
allowed_networks = ["127.0.0.0/8"]
allowed_ports = []
"""

Start = Callable[[], WsgiServer]


@pytest.fixture(scope="session")
def programs() -> Programs:
    """What is installed."""
    return install(Path(os.environ[FOLDER_VARIABLE]))


@pytest.fixture(scope="module", params=SERVERS)
def name(request: pytest.FixtureRequest, programs: Programs) -> str:
    """Every server; one that could not be installed is skipped with the reason."""
    if request.param in programs.missing:
        pytest.skip(f"{request.param}: {programs.missing[request.param]}")
    return str(request.param)


@pytest.fixture(scope="module")
def server(name: str, programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WsgiServer]:
    """A server over a new repository, shared by the tests of a module."""
    folder = tmp_path_factory.mktemp(name)
    casimg.create(folder / "repository").close()
    served = start(name, programs, folder, CONFIG)
    yield served
    served.stop()


@pytest.fixture
def begin(name: str, programs: Programs, tmp_path: Path) -> Iterator[Start]:
    """Start a server of a test's own, over `tmp_path/repository`; it is stopped when the test ends."""
    casimg.create(tmp_path / "repository").close()
    started: list[WsgiServer] = []

    def begin() -> WsgiServer:
        started.append(start(name, programs, tmp_path, CONFIG))
        return started[-1]

    yield begin
    for served in started:
        if served.process.poll() is None:
            served.stop()
