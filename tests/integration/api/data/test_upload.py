"""PUT file over a socket: what comes in becomes an image, and whatever fails leaves it queued and nothing behind."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import casimg
from casimg.constants import SEGMENT_SIZE
from tests.conftest import mixed_bytes
from tests.integration.api.data.conftest import Serve
from tests.integration.api.data.serving import Server, chunk, status_of
from tests.unit.api import hostile

_DATA = bytes(mixed_bytes(2 * SEGMENT_SIZE + 4321, seed=11))


def nothing_is_kept(repository: Path) -> None:
    """Collect, and hold the repository against being empty: no pack, no spool file, no record."""
    with casimg.open(repository) as repo:
        repo.plan_gc().execute()
        assert [path for path in (repo.path / "spool").iterdir() if path.suffix == ".pack"] == []
        for folder in ("packs", "records"):
            assert [path for path in (repo.path / "objects" / folder).rglob("*") if path.is_file()] == []


def parts(data: bytes, size: int) -> Iterator[bytes]:
    """Yield bytes in parts."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("size", [0, 1, 4096, SEGMENT_SIZE, len(_DATA)])
@pytest.mark.parametrize("chunked", [True, False])
def test_what_is_sent_is_what_is_stored(server: Server, size: int, chunked: bool) -> None:
    """With a length and without one: status, size, virtual size and both hashes are those of the bytes."""
    data = _DATA[:size]
    made = server.create(name="x")
    answer = server.upload(made, parts(data, 70_001) if chunked else data)
    assert (answer.status, answer.data) == (204, b"")
    shown = server.show(made)
    assert shown["status"] == "active"
    assert shown["size"] == shown["virtual_size"] == size
    assert shown["checksum"] == hashlib.md5(data).hexdigest()
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == ("sha512", hashlib.sha512(data).hexdigest())
    assert server.download(made).data == data


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-streams", "", None])
def test_another_content_type_is_refused(server: Server, kind: str | None) -> None:
    """Image data are octets: anything else is 415, and the image stays queued."""
    made = server.create()
    headers = {} if kind is None else {"Content-Type": kind}
    assert server.ask("PUT", f"/v2/images/{made}/file", b"x", headers).status == 415
    assert server.show(made)["status"] == "queued"


def test_a_content_type_with_parameters(server: Server) -> None:
    """Parameters of the content type change nothing."""
    made = server.create()
    assert server.upload(made, b"x", {"Content-Type": "application/octet-stream; a=b"}).status == 204


@pytest.mark.parametrize(
    ("said", "status"),
    [("5", 204), ("0", 204), ("4", 400), ("6", 400), ("-5", 400), ("five", 400), ("5" * 30, 400), ("5.0", 400)],
)
@pytest.mark.parametrize("chunked", [True, False])
def test_a_size_said_in_a_header(server: Server, said: str, status: int, chunked: bool) -> None:
    """`x-openstack-image-size` is held against the bytes that come; 0 says that nobody knows."""
    made = server.create()
    body = parts(b"12345", 2) if chunked else b"12345"
    assert server.upload(made, body, {"X-Openstack-Image-Size": said}).status == status
    assert server.show(made)["status"] == ("active" if status == 204 else "queued")


def test_only_a_queued_image_takes_data(server: Server) -> None:
    """A second upload is a conflict and changes nothing, also a large one that is refused while it is sent."""
    made = server.create()
    assert server.upload(made, _DATA).status == 204
    assert server.upload(made, b"other").status == 409
    assert server.upload(made, bytes(30 << 20)).status == 409
    assert server.download(made).data == _DATA


def test_formats_must_be_set(server: Server) -> None:
    """An image without formats takes no data."""
    answer = server.ask("POST", "/v2/images", b"{}", {"Content-Type": "application/json"})
    made = answer.json()["id"]
    refused = server.ask(
        "PUT",
        f"/v2/images/{made}/file",
        b"x",
        {"Content-Type": "application/octet-stream", "Accept": "application/json"},
    )
    assert refused.status == 400
    assert "disk_format, container_format must be set prior to saving data" in refused.json()["message"]
    assert server.upload("7f0c3c2e-0000-4000-8000-000000000001", b"x").status == 404


def test_a_cut_upload_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    """A connection that ends in the middle, with a length or chunked, leaves a queued image that takes data again."""
    served = serve()
    made = served.create()
    for length in (len(_DATA) + 1, None):
        connection = served.begin_upload(made, length)
        connection.sendall(_DATA if length else chunk(_DATA))
        served.wait_for_status(made, "saving")
        connection.close()
        served.wait_for_status(made, "queued")
        assert served.show(made)["size"] is None
    nothing_is_kept(tmp_path / "repository")
    assert served.upload(made, _DATA).status == 204
    assert served.download(made).data == _DATA


def test_a_broken_chunk_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    """A body whose chunks cannot be read is no image."""
    served = serve()
    made = served.create()
    with served.begin_upload(made, None) as connection:
        connection.sendall(chunk(_DATA[:1000]) + b"zzz\r\nnonsense\r\n")
        connection.shutdown(1)
        assert status_of(connection) in (0, 400)
    served.wait_for_status(made, "queued")
    nothing_is_kept(tmp_path / "repository")


def test_two_uploads_at_once(server: Server) -> None:
    """While data come, a second upload is a conflict; the first goes on to its end."""
    made = server.create()
    with server.begin_upload(made, len(_DATA)) as connection:
        connection.sendall(_DATA[:1000])
        server.wait_for_status(made, "saving")
        assert server.upload(made, b"other").status == 409
        connection.sendall(_DATA[1000:])
        assert status_of(connection) == 204
    assert server.download(made).data == _DATA


def test_a_race_of_uploads_has_one_winner(server: Server) -> None:
    """Of many uploads that begin together one wins, and its bytes are the image."""
    made = server.create()
    bodies = {number: bytes(mixed_bytes(100_000, seed=number)) for number in range(8)}
    statuses: dict[int, int] = {}

    def send(number: int) -> None:
        statuses[number] = server.upload(made, bodies[number]).status

    threads = [threading.Thread(target=send, args=(number,)) for number in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number, status in statuses.items() if status == 204]
    assert len(winners) == 1
    assert sorted(set(statuses.values())) in ([204], [204, 409])
    assert server.download(made).data == bodies[winners[0]]


def test_deleted_while_its_data_come(serve: Serve, tmp_path: Path) -> None:
    """An image deleted in the middle of its upload is gone: 410, and nothing of it is kept."""
    served = serve()
    made = served.create()
    with served.begin_upload(made, len(_DATA)) as connection:
        connection.sendall(_DATA[:-1])
        served.wait_for_status(made, "saving")
        assert served.ask("DELETE", f"/v2/images/{made}").status == 204
        connection.sendall(_DATA[-1:])
        assert status_of(connection) == 410
    assert served.ask("GET", f"/v2/images/{made}").status == 404
    nothing_is_kept(tmp_path / "repository")


def test_edited_while_its_data_come(server: Server) -> None:
    """What is changed of an image in the middle of its upload stays changed."""
    made = server.create(name="before")
    patch = json.dumps([{"op": "replace", "path": "/name", "value": "after"}]).encode()
    with server.begin_upload(made, len(_DATA)) as connection:
        connection.sendall(_DATA[:-1])
        server.wait_for_status(made, "saving")
        kind = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        assert server.ask("PATCH", f"/v2/images/{made}", patch, kind).status == 200
        connection.sendall(_DATA[-1:])
        assert status_of(connection) == 204
    shown = server.show(made)
    assert (shown["name"], shown["status"], shown["size"]) == ("after", "active", len(_DATA))


def test_a_slow_client(server: Server) -> None:
    """A client that sends in sips, with waits, gets its image, and others are served meanwhile."""
    made = server.create()
    with server.begin_upload(made, None) as connection:
        for at in range(0, 50_000, 5000):
            connection.sendall(chunk(_DATA[at : at + 5000]))
            time.sleep(0.02)
            assert server.ask("GET", "/healthcheck").status == 200
        connection.sendall(b"0\r\n\r\n")
        assert status_of(connection) == 204
    assert server.download(made).data == _DATA[:50_000]


@pytest.mark.parametrize("chunked", [True, False])
def test_an_image_beyond_the_cap(serve: Serve, tmp_path: Path, chunked: bool) -> None:
    """The largest image allowed comes in, one byte more is 413, known before or found out in the middle."""
    served = serve("[data]\nimage_size_cap = 5000000\n")
    made = served.create()
    data = _DATA[:5_000_001]
    assert served.upload(made, parts(data, 100_000) if chunked else data).status == 413
    assert served.show(made)["status"] == "queued"
    nothing_is_kept(tmp_path / "repository")
    assert served.upload(made, data[:-1]).status == 204


@pytest.mark.parametrize("chunked", [True, False])
def test_a_project_beyond_its_quota(serve: Serve, chunked: bool) -> None:
    """Images of a project add up in plain bytes, also equal ones; what goes beyond is 413, and the image is queued."""
    served = serve('[data]\nuser_storage_quota = "7MB"\n')
    data = _DATA[: 3 << 20]
    first, second, third = (served.create() for _ in range(3))
    assert served.upload(first, data).status == 204
    assert served.upload(second, data).status == 204
    assert served.upload(third, parts(data, 100_000) if chunked else data).status == 413
    assert served.show(third)["status"] == "queued"
    assert served.upload(third, parts(data[: 1 << 20], 100_000) if chunked else data[: 1 << 20]).status == 204
    assert served.ask("DELETE", f"/v2/images/{first}").status == 204
    assert served.upload(served.create(), data).status == 204


def test_a_quota_used_up_while_data_come(serve: Serve) -> None:
    """Of two uploads that fit alone and not together, the later one is refused."""
    served = serve('[data]\nuser_storage_quota = "3MB"\n')
    data = _DATA[: 2 << 20]
    first, second = served.create(), served.create()
    with served.begin_upload(first, len(data)) as connection:
        connection.sendall(data[:-1])
        served.wait_for_status(first, "saving")
        assert served.upload(second, data).status == 204
        connection.sendall(data[-1:])
        assert status_of(connection) == 413
    served.wait_for_status(first, "queued")


@pytest.mark.parametrize(
    ("disk_format", "data"),
    [
        pytest.param("qcow2", _DATA, id="not a qcow2"),
        pytest.param("qcow2", hostile.qcow2(backing_offset=112), id="backing file"),
        pytest.param("qcow2", hostile.qcow2(incompatible=4), id="data file"),
        pytest.param("raw", hostile.qcow2(backing_offset=112), id="backing file, called raw"),
        pytest.param("vmdk", hostile.vmdk_text("monolithicFlat", 'RW 1 FLAT "/etc/passwd" 0'), id="flat vmdk"),
        pytest.param("vmdk", hostile.vmdk_sparse(extent="/etc/passwd"), id="vmdk extent elsewhere"),
        pytest.param("raw", hostile.vmdk_text("monolithicFlat", 'RW 1 FLAT "/etc/passwd" 0'), id="flat, called raw"),
        pytest.param("iso", hostile.qcow2(), id="another format"),
    ],
)
def test_hostile_images(server: Server, disk_format: str, data: bytes) -> None:
    """What is not as declared, or leads a hypervisor to other files, is 415; the image stays queued."""
    made = server.create(disk_format=disk_format)
    assert server.upload(made, data).status == 415
    assert server.upload(made, parts(data, 1000)).status == 415
    shown = server.show(made)
    assert (shown["status"], shown["size"], shown["virtual_size"]) == ("queued", None, None)


def test_why_a_format_is_refused_is_said(server: Server) -> None:
    """The answer names what was declared and what was found."""
    made = server.create(disk_format="qcow2")
    headers = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
    answer = server.ask("PUT", f"/v2/images/{made}/file", _DATA[:9000], headers)
    assert answer.status == 415
    assert "Image disk_format qcow2 does not match stream data raw" in answer.json()["message"]


def test_formats_may_differ_where_that_is_allowed(serve: Serve) -> None:
    """With the check switched off any bytes pass as any format, but for what is not safe."""
    served = serve("[data]\nrequire_image_format_match = false\n")
    made = served.create(disk_format="qcow2")
    assert served.upload(made, _DATA).status == 204
    assert served.show(made)["virtual_size"] is None
    assert served.upload(served.create(disk_format="qcow2"), hostile.qcow2(backing_offset=112)).status == 415


def test_a_virtual_size_is_that_of_the_disk(server: Server) -> None:
    """The size of the disk in a container, not of the file."""
    made = server.create(disk_format="qcow2")
    assert server.upload(made, hostile.qcow2(size=123 << 20)).status == 204
    assert server.show(made)["virtual_size"] == 123 << 20


def test_what_is_not_bare_is_not_looked_at(server: Server) -> None:
    """The bytes of an archive are no disk."""
    made = server.create(disk_format="vmdk", container_format="ova")
    assert server.upload(made, _DATA).status == 204
    assert server.show(made)["virtual_size"] is None


@pytest.mark.parametrize("way", ["header", "property"])
def test_what_an_image_was_made_from(server: Server, way: str, tmp_path: Path) -> None:
    """Cinder's header and Nova's property name the parent; a name of nothing is no error."""
    parent = server.create()
    assert server.upload(parent, _DATA).status == 204
    made = server.create(base_image_ref=parent) if way == "property" else server.create()
    headers = {"X-Openstack-Base-Image-Ref": parent} if way == "header" else {}
    assert server.upload(made, _DATA[:-1], headers).status == 204
    assert server.upload(server.create(), b"x", {"X-Openstack-Base-Image-Ref": "../../etc"}).status == 204


def test_a_parent_is_in_the_lineage(serve: Serve, tmp_path: Path) -> None:
    """What an upload says of its parent is what `lineage` shows."""
    served = serve()
    parent, made = served.create(), served.create()
    assert served.upload(parent, _DATA).status == 204
    assert served.upload(made, _DATA, {"X-Openstack-Base-Image-Ref": parent.upper()}).status == 204
    with casimg.open(tmp_path / "repository") as repo:
        assert repo.image(made).parent_id == parent


def test_another_store_is_refused_where_there_are_several(serve: Serve) -> None:
    """With several stores an unknown one is a bad request; with one the header means nothing."""
    served = serve("[store]\nmulti_store = true\n")
    made = served.create()
    assert served.upload(made, b"x", {"X-Image-Meta-Store": "slow"}).status == 400
    assert served.show(made)["status"] == "queued"
    assert served.upload(made, b"x", {"X-Image-Meta-Store": "local"}).status == 204


def test_a_refused_upload_leaves_the_connection_usable_or_closed(server: Server) -> None:
    """After a refusal in the middle of a body the next request is not read out of that body."""
    made = server.create()
    server.upload(made, b"x")
    evil = b"DELETE /v2/images/%s HTTP/1.1\r\nHost: h\r\n\r\n" % made.encode()
    assert server.upload(made, evil * 1000).status == 409
    assert server.show(made)["status"] == "active"


def test_an_upload_may_wait_for_leave(server: Server) -> None:
    """A client that sends `Expect: 100-continue` is told to go on, or refused."""
    made = server.create()
    head = f"PUT /v2/images/{made}/file HTTP/1.1\r\nHost: h\r\nContent-Type: application/octet-stream\r\n"
    with server.begin_upload(server.create(), 0) as connection:
        assert status_of(connection) == 204
    import socket

    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
        assert status_of(connection) == 100
        connection.sendall(b"12345")
        assert status_of(connection) == 204
    assert server.download(made).data == b"12345"
