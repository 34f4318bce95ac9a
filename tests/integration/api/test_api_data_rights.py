"""Who may give an image its data, and who may have them."""

import pytest

from tests.api_serving import Answer, Client

_FORMATS = {"disk_format": "raw", "container_format": "bare"}


def upload(who: Client, path: str, data: bytes = b"12345") -> Answer:
    return who.call("PUT", f"{path}/file", data, {"Content-Type": "application/octet-stream"})


def download(who: Client, path: str) -> Answer:
    return who.get(f"{path}/file")


def stored(who: Client, **fields: object) -> str:
    """Make an image with data and return its path."""
    path = str(who.image(**_FORMATS, **fields)["self"])
    assert upload(who, path).status == 204
    return path


@pytest.mark.parametrize("visibility", ["private", "shared"])
def test_another_projects_data(alice: Client, bob: Client, visibility: str) -> None:
    """An image that the caller may not see is 404 for both ways: never 403."""
    path = alice.image(**_FORMATS, visibility=visibility)["self"]
    assert upload(bob, path).status == 404
    assert upload(alice, path).status == 204
    assert download(bob, path).status == 404
    assert upload(bob, path).status == 404
    assert download(alice, path).body == b"12345"


def test_another_projects_public_data(admin: Client, bob: Client) -> None:
    """What all may see all members may have, and only its project may give."""
    queued = admin.image(**_FORMATS, visibility="public")["self"]
    assert upload(bob, queued).status == 403
    path = stored(admin, visibility="public")
    assert download(bob, path).body == b"12345"


def test_data_that_are_shared(alice: Client, bob: Client) -> None:
    """A member may have the data whatever it answered, and may not give any."""
    path = stored(alice, visibility="shared")
    alice.post(f"{path}/members", {"member": "p-bob"})
    assert download(bob, path).body == b"12345"
    queued = alice.image(**_FORMATS, visibility="shared")["self"]
    alice.post(f"{queued}/members", {"member": "p-bob"})
    assert upload(bob, queued).status == 403


def test_a_reader_of_the_project(server: Client, alice: Client) -> None:
    """Reading an image's data takes more than reading what is said of it."""
    path = stored(alice)
    reader = server.as_("reader")
    assert reader.get(path).status == 200
    assert download(reader, path).status == 403
    queued = alice.image(**_FORMATS)["self"]
    assert upload(reader, queued).status == 403


def test_a_deactivated_image(admin: Client, alice: Client) -> None:
    """Nobody but an admin has its data until it is active again."""
    path = stored(alice)
    assert alice.post(f"{path}/actions/deactivate").status == 204
    refused = download(alice, path)
    assert refused.status == 403
    assert "deactivated" in refused.json["message"]
    assert download(admin, path).body == b"12345"
    assert upload(alice, path).status == 409
    assert alice.post(f"{path}/actions/reactivate").status == 204
    assert download(alice, path).body == b"12345"


def test_without_a_token(server: Client, alice: Client) -> None:
    """Nobody is let in, and the data are not read."""
    path = stored(alice)
    assert download(server, path).status == 401
    assert upload(server, path).status == 401


def test_a_parent_that_the_caller_may_not_see_is_none(alice: Client, bob: Client) -> None:
    """Naming an image of others as the parent is no way to learn that it is there."""
    hers = stored(alice)
    ids = [hers.rpartition("/")[2], "7f0c3c2e-0000-4000-8000-00000000dead"]
    answers = set()
    for named in ids:
        path = bob.image(**_FORMATS)["self"]
        kinds = {"Content-Type": "application/octet-stream", "X-Openstack-Base-Image-Ref": named}
        answers.add(bob.call("PUT", f"{path}/file", b"x", kinds).status)
    assert answers == {204}
