"""The wire itself: versions, request ids, methods, error bodies, hostile headers, features that are off."""

import json
import socket

import pytest

from casimg_api.app import ROUTES, WITHOUT_REJECTION
from tests.api_serving import PROJECTS, Client

VERSIONS = ("v2.15", "v2.9", "v2.17", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0")


def raw(server: Client, request: bytes) -> bytes:
    """Send bytes, return the answer's."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def test_versions_for_everybody(server: Client) -> None:
    """`/` and unknown prefixes are 300, `/versions` 200: the same document, without a token."""
    document = server.get("/versions")
    assert document.status == 200
    assert [version["id"] for version in document.json["versions"]] == list(VERSIONS)
    assert [v["id"] for v in document.json["versions"] if v["status"] == "CURRENT"] == ["v2.17"]
    href = f"http://127.0.0.1:{server.port}/v2/"
    assert {link["href"] for version in document.json["versions"] for link in version["links"]} == {href}
    for path in ("/", "/v1", "/v9/images", "/images", "/v2.8/images", "/v2.14/images"):
        answer = server.get(path)
        assert (answer.status, answer.reason, answer.json) == (300, "Multiple Choices", document.json)


def test_prefixes_are_aliases(alice: Client) -> None:
    """Every version told is a prefix that means /v2."""
    image = alice.image()
    for version in ("v2", *VERSIONS):
        assert alice.get(f"/{version}/images/{image['id']}").json == image
    vendor = {"Accept": "application/vnd.openstack.images-v2"}
    assert alice.call("GET", f"/images/{image['id']}", headers=vendor).json == image


def test_health(server: Client) -> None:
    """A health check needs no token."""
    answer = server.get("/healthcheck", Accept="*/*")
    assert (answer.status, answer.body) == (200, b"OK")
    assert server.get("/healthcheck").json == {"detailed": False, "reasons": ["OK"]}
    assert server.call("HEAD", "/healthcheck").body == b""
    assert server.post("/healthcheck", {}).status == 405


def test_tokens(server: Client) -> None:
    """Below /v2 nothing is told without a token: 401, also for what is not there."""
    for path in ("/v2/images", "/v2/schemas/image", "/v2/nothing", "/v2"):
        for token in ("", "forged", "admin-toke", "admin-token-"):
            answer = server.call("GET", path, headers={"X-Auth-Token": token})
            assert answer.status == 401
            assert answer.header("WWW-Authenticate")
    assert server.as_("admin").get("/v2/images").status == 200


def test_forged_identity(server: Client, alice: Client, bob: Client) -> None:
    """Headers that name an identity say nothing."""
    path = alice.image(visibility="private")["self"]
    forged = {"X-Roles": "admin", "X-Project-Id": "p-alice", "X-User-Id": "alice", "X-Identity-Status": "Confirmed"}
    assert bob.call("GET", path, headers=forged).status == 404
    assert server.call("GET", path, headers=forged).status == 401


def test_request_ids(server: Client, alice: Client) -> None:
    """Every answer has an id: the client's own when it sends one, with `req-` before it; too long is 431."""
    for path in ("/", "/versions", "/healthcheck", "/v2/images", "/v2/none", "/v2/images/none"):
        for client in (server, alice):
            assert (client.get(path).header("x-openstack-request-id") or "").startswith("req-")
    for sent, got in (("req-mine", "req-mine"), ("mine", "req-mine")):
        answer = alice.call("GET", "/v2/images", headers={"X-Openstack-Request-Id": sent})
        assert answer.header("x-openstack-request-id") == got
    assert alice.call("GET", "/v2/images", headers={"X-Openstack-Request-Id": "x" * 65}).status == 431
    odd = alice.call("GET", "/v2/images", headers={"X-Openstack-Request-Id": "a b<c>"})
    assert "<" not in (odd.header("x-openstack-request-id") or "<")


@pytest.mark.parametrize(
    ("accept", "content_type", "beginning"),
    [
        ("*/*", "text/html; charset=UTF-8", b"<html>\n <head>\n  <title>404 Not Found</title>"),
        ("application/json", "application/json", b'{"message": "No image found with ID none<br /><br />'),
        ("", "text/plain; charset=UTF-8", b"404 Not Found\n\nNo image found with ID none"),
        ("text/plain", "text/plain; charset=UTF-8", b"404 Not Found\n\n"),
        ("application/json, */*", "text/html; charset=UTF-8", b"<html>"),
    ],
)
def test_error_bodies(alice: Client, accept: str, content_type: str, beginning: bytes) -> None:
    """Errors are told in the type that the client asks for: HTML for any, as clients of Glance expect."""
    answer = alice.call("GET", "/v2/images/none", headers={"Accept": accept})
    assert (answer.status, answer.header("Content-Type")) == (404, content_type)
    assert answer.body.startswith(beginning)


def test_error_bodies_escape(alice: Client) -> None:
    """What a client sends does not become part of a page."""
    answer = alice.call("GET", "/v2/images/%3Cscript%3Ea%3C%2Fscript%3E%26", headers={"Accept": "*/*"})
    assert b"<script>" not in answer.body


def test_header_spelling(alice: Client) -> None:
    """Names of headers are written as Glance writes them."""
    answer = alice.post("/v2/images", {})
    assert {"Content-Type", "Content-Length", "Location", "x-openstack-request-id"} <= {
        name for name, _ in answer.headers
    }
    assert "Allow" in {name for name, _ in alice.put("/v2/images").headers}


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
def test_wrong_methods(alice: Client, path: str) -> None:
    """A method that a path does not have is 405 with those it has; HEAD and OPTIONS are such methods too."""
    allowed = [route.method for route in ROUTES if route.path == path]
    url = "/v2" + path.replace("{", "").replace("}", "")
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "FOO"):
        if method in allowed:
            continue
        answer = alice.call(method, url)
        if path in WITHOUT_REJECTION:
            assert answer.status in (404, 501)
        else:
            assert (answer.status, answer.header("Allow")) == (405, ", ".join(allowed))


def test_unknown_paths(alice: Client) -> None:
    """Nothing there is 404; for a method that nobody implements 501."""
    for path in ("/v2", "/v2/", "/v2/nothing", "/v2/images/a/b/c", "/v2/images/a/members/b/c"):
        assert alice.get(path).status == 404
        assert alice.call("HEAD", path).status == 404
        assert alice.call("OPTIONS", path).status == 501
        assert alice.call("FOO", path).status == 501


def test_a_slash_at_the_end(alice: Client) -> None:
    """A path with a slash behind it is another one, that is not there: an empty id is of nothing."""
    image = alice.image(tags=["a"])
    for path in ("images/", f"images/{image['id']}/", f"images/{image['id']}/tags/", f"images/{image['id']}/tags/a/"):
        for method in ("GET", "PUT", "DELETE"):
            assert alice.call(method, f"/v2/{path}").status == 404, (method, path)
    assert alice.get(f"/v2/images/{image['id']}").json == image


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.rejects_body], ids=lambda r: f"{r.method}{r.path}"
)
def test_bodies_where_none_belongs(alice: Client, route: object) -> None:
    """A body where Glance rejects one is 400, with its length told or not."""
    method, path = route.method, route.path  # type: ignore[attr-defined]
    url = "/v2" + path.replace("{", "").replace("}", "")
    assert alice.call(method, url, b"{}").status == 400
    request = f"{method} {url} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: alice-token\r\nTransfer-Encoding: chunked\r\n"
    answer = raw(alice, request.encode() + b"Connection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_chunked_json(alice: Client) -> None:
    """A JSON body may come in parts without a length; too much of it is 413, before it is all read."""
    head = b"POST /v2/images HTTP/1.1\r\nHost: x\r\nX-Auth-Token: alice-token\r\nTransfer-Encoding: chunked\r\n"
    head += b"Connection: close\r\n\r\n"
    body = b'6\r\n{"name\r\n8\r\n": "web"\r\n1\r\n}\r\n0\r\n\r\n'
    assert raw(alice, head + body).startswith(b"HTTP/1.1 201 Created\r\n")
    part = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert raw(alice, head + part * 17 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "line",
    [
        b"X-Auth-Token: " + b"a" * 20_000,
        b"X-Auth-Token: \xff\xfe",
        b"X-Openstack-Request-Id: a\x0bb",
        b"Accept: " + b"a/b;q=0.5;" * 500,
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: x",
        b"Transfer-Encoding: nonsense",
        b"Range: bytes=" + b"0-1," * 1000,
        b"Host: <script>",
        b"Origin: null",
    ],
)
def test_hostile_headers(alice: Client, line: bytes) -> None:
    """No header makes the server fail: it answers with a status of the client's, or as usual."""
    token = b"" if line.startswith(b"X-Auth") else b"X-Auth-Token: alice-token\r\n"
    request = b"GET /v2/images/none HTTP/1.1\r\n" + token + line + b"\r\nConnection: close\r\n\r\n"
    answer = raw(alice, request)
    assert answer == b"" or answer.split()[1][:1] == b"4" or answer.split()[1] == b"501"
    assert alice.get("/v2/images?limit=1").status == 200


def test_schemas(alice: Client) -> None:
    """The schema of an image is what clients build on: formats, base and usual properties."""
    image = alice.get("/v2/schemas/image").json
    assert image["name"] == "image"
    assert image["additionalProperties"] == {"type": "string"}
    assert image["properties"]["disk_format"]["enum"][:2] == [None, "ami"]
    assert image["properties"]["container_format"]["enum"][-1] == "compressed"
    assert image["properties"]["kernel_id"]["is_base"] is False
    assert "is_base" not in image["properties"]["name"]
    assert image["properties"]["status"]["readOnly"] is True
    told = alice.image(description="with a usual property")
    assert set(told) - {"description"} <= set(image["properties"])
    images = alice.get("/v2/schemas/images").json
    assert images["properties"]["images"]["items"] == image
    assert {link["rel"] for link in images["links"]} == {"first", "next", "describedby"}
    for name in ("member", "members", "task", "tasks"):
        assert alice.get(f"/v2/schemas/{name}").json["name"] == name
    assert "input" not in json.dumps(alice.get("/v2/schemas/tasks").json)


def test_info(alice: Client, admin: Client) -> None:
    """Methods of import are told; what is off says so as Glance says it."""
    methods = {"description": "Import methods available.", "type": "array", "value": ["glance-direct", "web-download"]}
    assert alice.get("/v2/info/import").json == {"import-methods": methods}
    assert alice.get("/v2/info/stores").status == 404
    assert admin.get("/v2/info/stores/detail").status == 404
    assert alice.get("/v2/info/usage").json == {"usage": {}}
    assert admin.delete("/v2/stores/casimg/none").status == 404


def test_cache_is_off(alice: Client, admin: Client) -> None:
    """The cache is 403 for members and 404 for administrators; so is an image, when it is there."""
    image_id = alice.image(name="x")["id"]
    calls = [("GET", ""), ("DELETE", ""), ("PUT", f"/{image_id}"), ("DELETE", f"/{image_id}"), ("GET", "/nodes/x")]
    for method, suffix in [*calls, ("POST", "/clean"), ("POST", "/prune")]:
        assert alice.call(method, f"/v2/cache{suffix}").status == 403
        assert admin.call(method, f"/v2/cache{suffix}").status == 404
    for method in ("PUT", "DELETE"):
        assert alice.call(method, "/v2/cache/x").status == 404


def test_tasks(alice: Client, admin: Client) -> None:
    """Tasks are for administrators; there are none."""
    assert {alice.call(method, "/v2/tasks/x").status for method in ("GET", "DELETE")} == {403}
    assert alice.get("/v2/tasks").status == 403
    page = admin.get("/v2/tasks?limit=2&sort_dir=asc").json
    assert page == {"tasks": [], "first": "/v2/tasks?limit=2&sort_dir=asc", "schema": "/v2/schemas/tasks"}
    assert admin.get("/v2/tasks/x").status == 404
    gone = admin.delete("/v2/tasks/x")
    assert (gone.status, gone.header("Allow")) == (405, "GET")
    for query in ("limit=x", "limit=-1", "sort_dir=up", "status=x", "type=x", "marker=x"):
        assert admin.get(f"/v2/tasks?{query}").status == 400
    image = alice.image()
    assert alice.get(f"{image['self']}/tasks").json == {"tasks": []}


def test_everybody_has_a_token(server: Client) -> None:
    """The tokens of these tests are known to the server."""
    for who in PROJECTS:
        assert server.as_(who).get("/v2/schemas/image").status == 200
