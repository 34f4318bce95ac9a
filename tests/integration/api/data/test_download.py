"""GET file over a socket: whole images, ranges of them, and what else Glance's clients rely on."""

import hashlib
import socket
from contextlib import closing
from pathlib import Path

import pytest

from casimg.constants import SEGMENT_SIZE
from tests.conftest import mixed_bytes
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.serving import Server, read_answer

_DATA = bytes(mixed_bytes(3 * SEGMENT_SIZE + 12_345))


@pytest.fixture(scope="module")
def image_id(server: Server) -> str:
    """An active image of three segments and a bit."""
    made = server.create(name="data")
    assert server.upload(made, _DATA).status == 204
    return made


def test_a_whole_image(server: Server, image_id: str) -> None:
    """All bytes, with their number, their md5 in hex, and what says that ranges work."""
    answer = server.download(image_id)
    assert answer.status == 200
    assert answer.data == _DATA
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(_DATA))
    assert answer.headers["content-md5"] == hashlib.md5(_DATA).hexdigest()
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-openstack-request-id"].startswith("req-")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-4", 0, 5),
        (f"bytes={SEGMENT_SIZE - 1}-{SEGMENT_SIZE}", SEGMENT_SIZE - 1, SEGMENT_SIZE + 1),
        (f"bytes={SEGMENT_SIZE}-{2 * SEGMENT_SIZE - 1}", SEGMENT_SIZE, 2 * SEGMENT_SIZE),
        ("bytes=1000-", 1000, len(_DATA)),
        ("bytes=-1", len(_DATA) - 1, len(_DATA)),
        ("bytes=-5000000", len(_DATA) - 5_000_000, len(_DATA)),
        ("bytes=-999999999999", 0, len(_DATA)),
        (f"bytes={len(_DATA) - 1}-", len(_DATA) - 1, len(_DATA)),
        (f"bytes=7-{len(_DATA) + 500}", 7, len(_DATA)),
    ],
)
def test_a_range(server: Server, image_id: str, asked: str, start: int, end: int) -> None:
    """The bytes of the range and where they are; an end past the image is clamped."""
    answer = server.download(image_id, {"Range": asked})
    assert answer.status == 206
    assert answer.data == _DATA[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(_DATA)}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Range": "bytes=0-1,5-6"}, 400),
        ({"Range": f"bytes={len(_DATA)}-"}, 416),
        ({"Range": "bytes=5-4"}, 416),
        ({"Range": "bytes=x-4"}, 416),
        ({"Range": "bytes=-"}, 416),
        ({"Content-Range": f"bytes 0-{len(_DATA)}/*"}, 416),
        ({"Content-Range": "nonsense"}, 416),
    ],
)
def test_a_range_that_cannot_be(server: Server, image_id: str, headers: dict[str, str], status: int) -> None:
    """Several ranges are a bad request; one that begins past the end or cannot be read is not satisfiable."""
    answer = server.download(image_id, headers)
    assert answer.status == status
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(_DATA)}"


def test_a_content_range_in_the_request(server: Server, image_id: str) -> None:
    """Old clients ask by Content-Range."""
    answer = server.download(image_id, {"Content-Range": "bytes 10-19/*"})
    assert (answer.status, answer.data) == (206, _DATA[10:20])


def test_an_entity_tag(server: Server, image_id: str) -> None:
    """Who has the bytes need not get them again, and a range is one of the same bytes or it is all of them."""
    tag = server.download(image_id, {"Range": "bytes=0-0"}).headers["etag"]
    assert server.download(image_id, {"If-None-Match": tag}).status == 304
    assert server.download(image_id, {"If-None-Match": '"other"'}).data == _DATA
    assert server.download(image_id, {"Range": "bytes=0-0", "If-Range": tag}).status == 206
    assert server.download(image_id, {"Range": "bytes=0-0", "If-Range": '"other"'}).data == _DATA


def test_an_image_without_data(server: Server) -> None:
    """A queued image has nothing to give, also not a range of it."""
    made = server.create()
    assert server.download(made).status == 204
    assert server.download(made, {"Range": "bytes=0-4"}).status == 204


def test_an_image_of_no_bytes(server: Server) -> None:
    """An empty body makes an active image of size 0; it has no range."""
    made = server.create()
    assert server.upload(made, b"").status == 204
    assert server.show(made)["size"] == 0
    answer = server.download(made)
    assert (answer.status, answer.data, answer.headers["content-length"]) == (200, b"", "0")
    for asked in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        assert server.download(made, {"Range": asked}).status == 416


def test_an_image_that_is_not_there(server: Server) -> None:
    """What does not exist, or is deleted, is not found."""
    assert server.download("7f0c3c2e-0000-4000-8000-000000000001").status == 404
    made = server.create()
    server.upload(made, b"x")
    assert server.ask("DELETE", f"/v2/images/{made}").status == 204
    assert server.download(made).status == 404


def test_other_methods_and_bodies(server: Server, image_id: str) -> None:
    """HEAD and POST are not allowed on a file; a GET with a body is a bad request."""
    assert server.ask("HEAD", f"/v2/images/{image_id}/file").status == 405
    assert server.ask("POST", f"/v2/images/{image_id}/file").status == 405
    assert server.ask("GET", f"/v2/images/{image_id}/file", b"body").status == 400


def test_a_store_to_prefer(server: Server, image_id: str) -> None:
    """With one store there is nothing to choose; an empty choice is none."""
    assert server.ask("GET", f"/v2/images/{image_id}/file?prefer=fast").status == 400
    assert server.ask("GET", f"/v2/images/{image_id}/file?prefer=").status == 200


def test_deleted_while_it_is_downloaded(serve: Serve, tmp_path: Path) -> None:
    """A download that has begun ends with the right bytes, although the image is deleted and collected meanwhile."""
    import casimg

    served = serve()
    data = bytes(mixed_bytes(12 * SEGMENT_SIZE, seed=3))
    made = served.create()
    assert served.upload(made, data).status == 204
    with closing(served.connect()) as connection:
        connection.request("GET", f"/v2/images/{made}/file")
        response = connection.getresponse()
        got = response.read(1000)
        assert served.ask("DELETE", f"/v2/images/{made}").status == 204
        with casimg.open(tmp_path / "repository") as repo:
            repo.plan_gc().execute()
        got += response.read()
    assert got == data
    with casimg.open(tmp_path / "repository") as repo:
        repo.plan_gc().execute()
        assert not [path for path in (repo.path / "objects" / "packs").rglob("*") if path.is_file()]


def test_a_client_that_goes_away_leaves_no_lease(serve: Serve, tmp_path: Path) -> None:
    """The content of a download that was cut is free soon after: a delete and a collection give its space back."""
    import time

    import casimg

    served = serve()
    made = served.create()
    assert served.upload(made, bytes(mixed_bytes(12 * SEGMENT_SIZE, seed=4))).status == 204
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(f"GET /v2/images/{made}/file HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert connection.recv(10)
    served.ask("DELETE", f"/v2/images/{made}")
    with casimg.open(tmp_path / "repository") as repo:
        give_up_s = time.monotonic() + 20
        while any(path.is_file() for path in (repo.path / "objects" / "packs").rglob("*")):
            assert time.monotonic() < give_up_s, "the lease is still held"
            repo.plan_gc().execute()
            time.sleep(0.1)


def test_a_slow_client_gets_all_of_it(server: Server, image_id: str) -> None:
    """A client that reads in small sips gets the same bytes, and others are served meanwhile."""
    with closing(server.connect()) as connection:
        connection.request("GET", f"/v2/images/{image_id}/file")
        response = connection.getresponse()
        got = bytearray()
        while part := response.read(300_007):
            got += part
            if len(got) % 5 == 0:
                assert server.ask("GET", "/healthcheck").status == 200
    assert bytes(got) == _DATA


def test_one_connection_for_several_downloads(server: Server, image_id: str) -> None:
    """A connection is used again after a download, a range and a refusal."""
    with closing(server.connect()) as connection:
        for headers, status in (({}, 200), ({"Range": "bytes=0-9"}, 206), ({"Range": "bytes=9-0"}, 416), ({}, 200)):
            connection.request("GET", f"/v2/images/{image_id}/file", headers=headers)
            assert read_answer(connection.getresponse()).status == status


def test_what_the_command_line_stored_is_downloaded(serve: Serve, tmp_path: Path) -> None:
    """An image of `casimg put` is served, with no md5 when none was computed."""
    import casimg

    with casimg.open(tmp_path / "repository") as repo:
        made = repo.put([_DATA], name="cli", owner="casimg").id
    served = serve()
    answer = served.download(made)
    assert (answer.status, answer.data) == (200, _DATA)
    assert served.download(made, {"Range": "bytes=5-9"}).data == _DATA[5:10]


@pytest.mark.parametrize(("size_max", "is_read", "status"), [(-1, True, 200), (-1, False, 200), (0, True, 500)])
def test_what_was_downloaded_or_uploaded_is_sent_from_memory(
    serve: Serve, tmp_path: Path, size_max: int, is_read: bool, status: int
) -> None:
    """Once verified, an image's data need no packs any more; a server that may keep nothing cannot do without."""
    served = serve(f"[cache]\nmemory_size_max = {size_max}\n")
    made = served.create(name="hot")
    data = bytes(mixed_bytes(12 * SEGMENT_SIZE, seed=5))  # more than the decoded frames that any server holds
    assert served.upload(made, data).status == 204
    if is_read:
        assert served.download(made).data == data
    for pack in (tmp_path / "repository/objects/packs").rglob("*"):
        if pack.is_file() and pack.stat().st_size > SEGMENT_SIZE:  # of nodes there is little
            pack.unlink()
    again = served.download(made)
    assert again.status == status
    if status == 200:
        assert again.data == data
        assert served.download(made, {"Range": f"bytes=7-{SEGMENT_SIZE + 7}"}).data == data[7 : SEGMENT_SIZE + 8]
