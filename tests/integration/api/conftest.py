"""One server with static tokens for all tests of the facade on a socket; each test makes images of its own."""

from collections.abc import Iterator

import pytest

from tests.api_serving import Client, serving, site


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server, called by nobody in particular."""
    with serving("--config", str(site(tmp_path_factory.mktemp("site")))) as client:
        yield client


@pytest.fixture
def admin(server: Client) -> Client:
    return server.as_("admin")


@pytest.fixture
def alice(server: Client) -> Client:
    """A member of project p-alice."""
    return server.as_("alice")


@pytest.fixture
def bob(server: Client) -> Client:
    """A member of project p-bob."""
    return server.as_("bob")
