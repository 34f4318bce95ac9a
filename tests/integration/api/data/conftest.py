"""Servers for tests: one for many that agree on a configuration, or one of a test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import casimg
from tests.integration.api.data.serving import Server, start

Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without authentication over a new repository, shared by the tests of a module."""
    folder = tmp_path_factory.mktemp("served")
    casimg.create(folder / "repository").close()
    served = start(folder / "repository", folder / "server.log")
    yield served
    served.stop()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers over one new repository; they are stopped when the test ends."""
    casimg.create(tmp_path / "repository").close()
    started: list[Server] = []

    def begin(config: str = "", *options: str) -> Server:
        served = start(tmp_path / "repository", tmp_path / f"server-{len(started)}.log", config, *options)
        started.append(served)
        return served

    yield begin
    for served in started:
        if served.process.poll() is None:
            served.stop()
