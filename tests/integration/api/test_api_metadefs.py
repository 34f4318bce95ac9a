"""Routes of metadata definitions over a socket: fields, codes, renames, protection, pages, policies, projects."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from casimg_api.metadefs import ROUTES
from tests.api_serving import Answer, Client, serving, site

ROOT = "/metadefs/namespaces"
P = {"title": "Ports", "type": "integer", "minimum": 1, "default": 80}
KEPT = {"title": "Ports", "type": "integer", "minimum": 1, "default": "80"}
FULL: dict[str, Any] = {
    "namespace": "OS::Full",
    "display_name": "Full",
    "description": "Everything é",
    "visibility": "public",
    "properties": {"ports": P, "cores": {"title": "Cores", "type": "string", "enum": ["1", "2"]}},
    "objects": [{"name": "disk", "description": "d", "required": ["size"], "properties": {"size": P}}, {"name": "o2"}],
    "tags": [{"name": "t1"}, {"name": "t2"}],
    "resource_type_associations": [
        {"name": "OS::Glance::Image", "prefix": "hw_", "properties_target": "image"},
        {"name": "OS::Nova::Flavor"},
    ],
}
TIMES = {"created_at", "updated_at"}
PARTS = dict.fromkeys(("object_name", "property_name", "tag_name", "resource_type"), "t1")


@dataclass(frozen=True)
class Caller:
    """A server, called below /v2 by somebody, an administrator by default."""

    server: Client

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        who: str = "admin",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request; `data` goes as it is, a path that is quoted already stays so."""
        target = "/v2" + quote(path, safe="/?&=%:,+")
        return self.server.as_(who).call(method, target, body if data is None else data, headers)


@pytest.fixture
def client(server: Client) -> Caller:
    """A server without any namespace; resource types stay known."""
    found = Caller(server)
    for item in found.send("GET", f"{ROOT}?limit=1000").json["namespaces"]:
        path = f"{ROOT}/{quote(item['namespace'], safe='')}"
        if item["protected"]:
            assert found.send("PUT", path, {"namespace": item["namespace"]}).status == 200
        assert found.send("DELETE", path).status == 204
    return found


def make(client: Caller, name: str = "OS::Full", **fields: Any) -> None:
    assert client.send("POST", ROOT, {**FULL, "namespace": name, **fields}).status == 201


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without its times, which must be there and look like Glance's."""
    for name in TIMES:
        assert document[name].endswith("Z")
        assert len(document[name]) == len("2014-05-05T17:15:10Z")
    return {key: value for key, value in document.items() if key not in TIMES}


def test_the_life_of_a_namespace(client: Caller) -> None:
    """Made with all that is in it, shown, listed, renamed, deleted: fields, links and codes at each step."""
    made = client.send("POST", ROOT, FULL)
    assert made.status == 201
    assert made.header("Location") == f"http://127.0.0.1:{client.server.port}/v2/metadefs/namespaces/OS::Full"
    links = {"self": "/v2/metadefs/namespaces/OS::Full", "schema": "/v2/schemas/metadefs/namespace"}
    kept = {
        **FULL,
        "properties": {**FULL["properties"], "ports": KEPT},
        "protected": False,
        "owner": "p-admin",
        **links,
    }
    kept["objects"] = [{**FULL["objects"][0], "properties": {"size": KEPT}}, {"name": "o2"}]
    assert without_times(made.json) == kept
    shown = client.send("GET", f"{ROOT}/OS::Full", who="bob").json
    for item in (shown, *shown["objects"], *shown["resource_type_associations"]):
        assert item.keys() >= TIMES
    assert [tag["name"] for tag in shown["tags"]] == ["t2", "t1"]
    assert shown["properties"] == kept["properties"]
    assert without_times(shown["objects"][1]) == {
        "name": "o2",
        "required": [],
        "properties": {},
        "self": "/v2/metadefs/namespaces/OS::Full/objects/o2",
        "schema": "/v2/schemas/metadefs/object",
    }
    listed = client.send("GET", ROOT, who="bob").json
    assert listed["first"] == "/v2/metadefs/namespaces"
    assert listed["schema"] == "/v2/schemas/metadefs/namespaces"
    assert "next" not in listed
    only = ("namespace", "display_name", "description", "visibility", "protected", "owner", "self", "schema")
    assert {key: listed["namespaces"][0][key] for key in only} == {key: kept[key] for key in only}
    assert set(listed["namespaces"][0]) == {*only, *TIMES, "resource_type_associations"}
    changed = client.send("PUT", f"{ROOT}/OS::Full", {"namespace": "OS::New", "owner": "p-alice"})
    assert changed.status == 200
    assert without_times(changed.json) == {
        "namespace": "OS::New",
        "visibility": "private",
        "protected": False,
        "owner": "p-alice",
        "self": "/v2/metadefs/namespaces/OS::New",
        "schema": "/v2/schemas/metadefs/namespace",
    }
    assert client.send("GET", f"{ROOT}/OS::Full").status == 404
    assert len(client.send("GET", f"{ROOT}/OS::New").json["objects"]) == 2
    gone = client.send("DELETE", f"{ROOT}/OS::New")
    assert (gone.status, gone.body) == (204, b"")
    assert client.send("DELETE", f"{ROOT}/OS::New").status == 404
    assert client.send("GET", ROOT).json["namespaces"] == []


def test_prefixes_of_a_resource_type(client: Caller) -> None:
    """Asked for a resource type, properties and what objects hold and require are named as they are for it."""
    make(client)
    shown = client.send("GET", f"{ROOT}/OS::Full?resource_type=OS::Glance::Image").json
    assert set(shown["properties"]) == {"hw_ports", "hw_cores"}
    assert (set(shown["objects"][0]["properties"]), shown["objects"][0]["required"]) == ({"hw_size"}, ["hw_size"])
    for other in ("OS::Nova::Flavor", "none", ""):
        shown = client.send("GET", f"{ROOT}/OS::Full?resource_type={other}").json
        assert set(shown["properties"]) == {"ports", "cores"}
    one = f"{ROOT}/OS::Full/properties/"
    assert client.send("GET", f"{one}hw_ports?resource_type=OS::Glance::Image").json == {**KEPT, "name": "ports"}
    for wanted in ("OS::Glance::Image", "OS::Nova::Flavor", "x"):
        assert client.send("GET", f"{one}ports?resource_type={wanted}").status == 404
    assert client.send("GET", f"{one}ports?resource_type=").status == 200


def test_objects(client: Caller) -> None:
    """Objects are made, listed, shown, renamed and deleted; what was not given is not told at once."""
    make(client, objects=[])
    every = f"{ROOT}/OS::Full/objects"
    new = {"name": "CPU Limits", "description": "d", "required": ["p"], "properties": {"p": P}}
    made = client.send("POST", every, new)
    assert made.status == 201
    links = {"self": f"/v2{every}/CPU Limits", "schema": "/v2/schemas/metadefs/object"}
    assert without_times(made.json) == {**new, "properties": {"p": KEPT}, **links}
    assert client.send("POST", every, new).status == 409
    assert client.send("GET", f"{every}/CPU Limits").json == made.json
    bare = client.send("POST", every, {"name": "bare"}).json
    assert "required" not in bare
    assert "properties" not in bare
    listed = client.send("GET", f"{every}?limit=1&sort_dir=asc").json
    assert [item["name"] for item in listed["objects"]] == ["CPU Limits", "bare"]
    assert listed["schema"] == "v2/schemas/metadefs/objects"
    changed = client.send("PUT", f"{every}/CPU Limits", {"name": "new", "description": "x"})
    assert (changed.status, changed.json["name"], changed.json["description"]) == (200, "new", "x")
    assert client.send("GET", f"{every}/new").json["required"] == []
    assert client.send("PUT", f"{every}/new", {"name": "bare"}).status == 409
    assert client.send("PUT", f"{every}/none", {"name": "bare"}).status == 404
    assert client.send("DELETE", f"{every}/new").status == 204
    assert client.send("DELETE", f"{every}/new").status == 404
    assert client.send("DELETE", every).status == 204
    assert client.send("GET", every).json["objects"] == []


def test_properties(client: Caller) -> None:
    """Properties are made, listed by name, shown, renamed and deleted."""
    make(client, properties={})
    every = f"{ROOT}/OS::Full/properties"
    new = {**P, "name": "hw:ports", "readonly": True}
    made = client.send("POST", every, new)
    assert (made.status, made.json) == (201, {**KEPT, "name": "hw:ports", "readonly": True})
    assert client.send("POST", every, new).status == 409
    assert client.send("GET", f"{every}/hw:ports").json == made.json
    assert client.send("GET", every).json == {"properties": {"hw:ports": made.json}}
    changed = client.send("PUT", f"{every}/hw:ports", {"name": "new", "title": "N", "type": "string"})
    assert (changed.status, changed.json) == (200, {"name": "new", "title": "N", "type": "string"})
    assert client.send("GET", f"{every}/hw:ports").status == 404
    assert client.send("PUT", f"{every}/hw:ports", new).status == 404
    assert client.send("POST", every, new).status == 201
    assert client.send("PUT", f"{every}/new", new).status == 409
    assert client.send("DELETE", f"{every}/new").status == 204
    assert client.send("DELETE", f"{every}/new").status == 404
    assert client.send("DELETE", every).status == 204
    assert client.send("GET", every).json == {"properties": {}}


def test_tags(client: Caller) -> None:
    """Tags are made one by one and together, appended or replaced, listed by pages, renamed and deleted."""
    make(client, tags=[])
    every = f"{ROOT}/OS::Full/tags"
    made = client.send("POST", f"{every}/web server")
    assert made.status == 201
    assert without_times(made.json) == {"name": "web server"}
    assert client.send("POST", f"{every}/web server").status == 409
    assert client.send("GET", f"{every}/web server").json == made.json
    body = {"tags": [{"name": "a"}, {"name": "b"}]}
    many = client.send("POST", every, body)
    assert (many.status, many.json) == (201, body)
    assert client.send("GET", every).json == {"tags": [{"name": "b"}, {"name": "a"}]}
    more = client.send("POST", every, {"tags": [{"name": "c"}]}, headers={"X-OpenStack-Append": "True"})
    assert more.status == 201
    assert client.send("POST", every, body, headers={"X-OpenStack-Append": "true"}).status == 409
    assert client.send("POST", every, {"tags": [{"name": "x"}, {"name": "x"}]}).status == 409
    assert client.send("POST", every, {"tags": []}).json == {"tags": []}
    listed = client.send("GET", f"{every}?sort_key=name&sort_dir=asc&limit=2").json
    assert listed == {"tags": [{"name": "a"}, {"name": "b"}]}
    assert client.send("GET", f"{every}?sort_key=name&sort_dir=asc&marker=b").json == {"tags": [{"name": "c"}]}
    assert client.send("GET", f"{every}?limit=&marker=").json == {"tags": [{"name": name} for name in "cba"]}
    assert client.send("GET", f"{every}?limit=99999999999999999999").status == 200
    assert client.send("GET", f"{every}?marker=none").status == 404
    changed = client.send("PUT", f"{every}/a", {"name": "z"})
    assert (changed.status, without_times(changed.json)) == (200, {"name": "z"})
    assert client.send("PUT", f"{every}/z", {"name": "b"}).status == 409
    assert client.send("PUT", f"{every}/a", {"name": "y"}).status == 404
    assert client.send("DELETE", f"{every}/z").status == 204
    assert client.send("DELETE", f"{every}/z").status == 404
    assert client.send("DELETE", every).status == 204
    assert client.send("GET", every).json == {"tags": []}


def test_resource_types(client: Caller) -> None:
    """A namespace is said to be for resource types and not to be; the types stay known."""
    make(client, resource_type_associations=[])
    every = f"{ROOT}/OS::Full/resource_types"
    made = client.send("POST", every, {"name": "OS::Glance::Image", "prefix": "hw_"})
    assert made.status == 201
    assert without_times(made.json) == {"name": "OS::Glance::Image", "prefix": "hw_"}
    assert client.send("POST", every, {"name": "OS::Glance::Image"}).status == 409
    assert client.send("GET", every).json == {"resource_type_associations": [made.json]}
    known = client.send("GET", "/metadefs/resource_types", who="reader").json["resource_types"]
    assert {"name": "OS::Glance::Image"} in [without_times(item) for item in known]
    assert client.send("DELETE", f"{every}/OS::Glance::Image").status == 204
    assert client.send("DELETE", f"{every}/OS::Glance::Image").status == 404
    assert client.send("GET", every).json == {"resource_type_associations": []}
    assert client.send("GET", "/metadefs/resource_types").json["resource_types"] == known


def test_a_protected_namespace(client: Caller) -> None:
    """Every way of deleting from a protected namespace is 403, of what is not there 404; the rest works."""
    make(client, protected=True)
    base = f"{ROOT}/OS::Full"
    for path in ("", "/objects", "/properties", "/tags", "/objects/disk", "/properties/ports", "/tags/t1"):
        assert client.send("DELETE", base + path).status == 403, path
    assert client.send("DELETE", f"{base}/resource_types/OS::Nova::Flavor").status == 403
    for path in ("/objects/none", "/properties/none", "/tags/none", "/resource_types/none"):
        assert client.send("DELETE", base + path).status == 404, path
    assert client.send("POST", f"{base}/tags/more").status == 201
    assert client.send("PUT", base, {**FULL, "protected": False}).status == 200
    assert client.send("DELETE", base).status == 204


def test_pages_and_filters_of_namespaces(client: Caller) -> None:
    """Pages lead to each other and keep the query; filters and orders are those of Glance."""
    for number in range(5):
        visibility = "public" if number % 2 else "private"
        make(client, f"n{number}", visibility=visibility, resource_type_associations=[{"name": f"T{number}"}])
    found = client.send("GET", f"{ROOT}?limit=2&sort_key=namespace&sort_dir=asc").json
    assert [item["namespace"] for item in found["namespaces"]] == ["n0", "n1"]
    assert found["first"] == "/v2/metadefs/namespaces?limit=2&sort_key=namespace&sort_dir=asc"
    assert found["next"] == found["first"] + "&marker=n1"
    names = []
    while "next" in found:
        found = client.send("GET", found["next"].removeprefix("/v2")).json
        names += [item["namespace"] for item in found["namespaces"]]
    assert names == ["n2", "n3", "n4"]

    def listed(query: str) -> list[str]:
        return [item["namespace"] for item in client.send("GET", f"{ROOT}?{query}").json["namespaces"]]

    assert listed("") == ["n4", "n3", "n2", "n1", "n0"]
    assert listed("visibility=public") == ["n3", "n1"]
    assert listed("resource_types=T1,T4,x") == ["n4", "n1"]
    assert listed("resource_types=x") == []
    assert listed("limit=0") == []
    assert listed("unknown=x&limit=1") == ["n4"]
    assert "next" not in client.send("GET", f"{ROOT}?limit=6").json
    for query, status in (
        ("limit=-1", 400),
        ("limit=x", 400),
        ("sort_dir=up", 400),
        ("sort_key=password", 400),
        ("visibility=shared", 400),
        ("marker=none", 404),
    ):
        assert client.send("GET", f"{ROOT}?{query}").status == status, query


def test_bounds(tmp_path: Path) -> None:
    """Pages without a limit, the longest pages and the largest bodies are as the configuration says."""
    config = "[server]\njson_body_size_max = 2048\n[images]\nlimit_param_default = 2\napi_limit_max = 3\n"
    with serving("--config", str(site(tmp_path, config))) as server:
        client = Caller(server)
        for size, status in ((400, 201), (2048, 413)):
            body = {"namespace": "x", "objects": [{"name": "o", "description": "d" * size}]}
            assert client.send("POST", ROOT, body).status == status
        for number in range(5):
            make(client, f"n{number}")
        assert len(client.send("GET", ROOT).json["namespaces"]) == 2
        assert len(client.send("GET", f"{ROOT}?limit=9").json["namespaces"]) == 3


def test_private_namespaces_of_others_are_404(client: Caller) -> None:
    """Whatever is done in a private namespace of another project is 404, as if it were not there; admins see it."""
    make(client, "secret", visibility="private", owner="p-alice")
    paths = {**PARTS, "namespace": "secret"}
    for route in ROUTES:
        if "{namespace}" not in route.path:
            continue
        body = None if route.rejects_body or route.method in ("GET", "DELETE") else _body_for(route.path)
        answer = client.send(route.method, route.path.format(**paths), body, who="bob")
        assert answer.status == 404, (route.method, route.path)
        assert b"hw_" not in answer.body
    assert client.send("GET", ROOT, who="bob").json["namespaces"] == []
    assert client.send("GET", f"{ROOT}?marker=secret", who="bob").status == 404
    for token in ("alice", "reader", "admin"):
        assert client.send("GET", f"{ROOT}/secret", who=token).status == 200
        assert len(client.send("GET", ROOT, who=token).json["namespaces"]) == 1
    assert client.send("GET", f"{ROOT}/secret").json["tags"] == [{"name": "t2"}, {"name": "t1"}]


def _body_for(path: str) -> dict[str, Any]:
    """Return a right body for a route that makes or changes something."""
    if path.endswith("/tags"):
        return {"tags": [{"name": "new"}]}
    if "/properties" in path:
        return {**P, "name": "new"}
    return {"name": "new"} if path.count("/") > 3 else {"namespace": "new"}


def test_only_administrators_write(client: Caller) -> None:
    """Members read what they see; every write is 403 for them, and 404 for who may not even read."""
    make(client, owner="p-alice")
    paths = {**PARTS, "namespace": "OS::Full"}
    for route in ROUTES:
        if route.method == "GET":
            continue
        body = None if route.rejects_body or route.method == "DELETE" else _body_for(route.path)
        path = route.path.format(**paths)
        assert client.send(route.method, path, body, who="alice").status == 403, (route.method, path)
        assert client.send(route.method, path, body, who="nobody").status == 404, (route.method, path)
        assert client.send(route.method, path, body, who="forged").status == 401, (route.method, path)
    shown = client.send("GET", f"{ROOT}/OS::Full", who="alice").json
    assert (len(shown["objects"]), len(shown["tags"])) == (2, 2)
    assert client.send("GET", ROOT, who="nobody").status == 404
    assert client.send("GET", f"{ROOT}/OS::Full", who="nobody").status == 404


def test_a_policy_file_counts(tmp_path: Path) -> None:
    """A policy file can let members make namespaces, and keep one kind of part from everybody."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "add_metadef_namespace: role:member\nget_metadef_tag: '!'\nget_metadef_object: '!'\n"
        "get_metadef_resource_type: '!'\n"
    )
    with serving("--config", str(site(tmp_path, f'[policy]\npolicy_file = "{policy}"\n'))) as server:
        client = Caller(server)
        assert client.send("POST", ROOT, {"namespace": "mine"}, who="alice").json["owner"] == "p-alice"
        assert client.send("POST", ROOT, {"namespace": "not", "tags": [{"name": "t"}]}, who="alice").status == 403
        assert client.send("GET", f"{ROOT}/not").status == 404
        make(client)
        assert client.send("GET", f"{ROOT}/OS::Full/tags/t1").status == 403
        assert client.send("GET", f"{ROOT}/OS::Full/tags").status == 200
        assert client.send("GET", f"{ROOT}/OS::Full/objects").json["objects"] == []
        assert client.send("GET", f"{ROOT}/OS::Full/resource_types").json == {"resource_type_associations": []}


def test_bodies_that_are_none(client: Caller) -> None:
    """Missing, malformed and hostile bodies are 400 on every route that takes one, and change nothing."""
    make(client)
    paths = {**PARTS, "namespace": "OS::Full"}
    bad = (
        *(None, b"", b"{", b"[]", b'"x"', b"5", b"null", b"[" * 50_000, b"\xff\xfe", b"{}", b'{"name": "\\ud800"}'),
        *(b'{"name": "a\\u0000"}', b'{"name": NaN}', b'{"name": null}', b'{"name": ""}', b'{"name": 5}'),
        *(b'{"name": "n", "title": "t", "type": "string", "tags": 5, "namespace": []}',),
        b'{"name": "' + b"x" * 81 + b'", "title": "t", "type": "string"}',
    )
    for route in ROUTES:
        if route.method in ("GET", "DELETE") or route.rejects_body:
            continue
        for data in bad:
            answer = client.send(route.method, route.path.format(**paths), data=data)
            assert answer.status == 400, (route.method, route.path, data)
            assert answer.json["code"] == "400 Bad Request"
    shown = client.send("GET", f"{ROOT}/OS::Full").json
    assert (len(shown["objects"]), len(shown["tags"]), len(shown["properties"])) == (2, 2, 2)
    assert len(client.send("GET", ROOT).json["namespaces"]) == 1


def test_bodies_where_none_belongs(client: Caller) -> None:
    """Routes of which Glance refuses a body refuse it; those where it lets one pass let it pass."""
    make(client)
    paths = {**PARTS, "namespace": "OS::Full"}
    for route in ROUTES:
        if route.rejects_body:
            answer = client.send(route.method, route.path.format(**paths), data=b"{}")
            assert answer.status == 400, (route.method, route.path)
    for part in ("objects", "properties", "tags"):
        assert client.send("DELETE", f"{ROOT}/OS::Full/{part}", data=b"{}").status == 204


def test_fields_that_only_the_server_sets(client: Caller) -> None:
    """Fields of links and times in a body are 403 where Glance says so, 400 where it does not know them."""
    make(client)
    base = f"{ROOT}/OS::Full"
    for name in ("self", "schema", "created_at", "updated_at"):
        assert client.send("POST", ROOT, {"namespace": "x", name: "y"}).status == 403
        assert client.send("PUT", base, {"namespace": "x", name: "y"}).status == 403
        assert client.send("POST", f"{base}/objects", {"name": "x", name: "y"}).status == 403
    for name in ("created_at", "updated_at"):
        assert client.send("POST", f"{base}/properties", {**P, "name": "x", name: "y"}).status == 403
        assert client.send("POST", f"{base}/tags", {"tags": [], name: "y"}).status == 403
        assert client.send("PUT", f"{base}/tags/t1", {"name": "x", name: "y"}).status == 403
        assert client.send("POST", f"{base}/resource_types", {"name": "x", name: "y"}).status == 403
    for name in ("self", "schema"):
        assert client.send("POST", f"{base}/properties", {**P, "name": "x", name: "y"}).status == 400
        assert client.send("POST", f"{base}/tags", {"tags": [], name: "y"}).status == 400
        assert client.send("PUT", f"{base}/tags/t1", {"name": "x", name: "y"}).status == 400
        assert client.send("POST", f"{base}/resource_types", {"name": "x", name: "y"}).status == 400
    for name in ("self", "created_at"):
        assert client.send("POST", f"{base}/tags", {"tags": [{"name": "x", name: "y"}]}).status == 400
        assert (
            client.send("POST", f"{base}/objects", {"name": "x", "properties": {"p": {**P, name: "y"}}}).status == 400
        )


def test_large_and_odd_names(client: Caller) -> None:
    """Names that no address could name are refused; others come back exactly, whatever script they are in."""
    for name in ("", "a/b", "x" * 81):
        assert client.send("POST", ROOT, {"namespace": name}).status == 400
    for name in ("x" * 80, "é 名前 😀", "a b%c+d&e=f", "..", "'; DROP TABLE metadef_namespaces; --"):
        made = client.send("POST", ROOT, {"namespace": name})
        assert made.status == 201
        assert (made.header("Location") or "").isascii()
    for quoted, name in (
        ("%C3%A9%20%E5%90%8D%E5%89%8D%20%F0%9F%98%80", "é 名前 😀"),
        ("a%20b%25c%2Bd%26e%3Df", "a b%c+d&e=f"),
    ):
        assert client.send("GET", f"{ROOT}/{quoted}").json["namespace"] == name
        assert client.send("POST", f"{ROOT}/{quoted}/tags/{quoted}").json["name"] == name
    for name in ("%00", "%ff", "a%00b", "x" * 5000):
        assert client.send("GET", f"{ROOT}/{name}").status in (400, 404)
        assert client.send("POST", f"{ROOT}/{'x' * 80}/tags/{name}").status in (400, 404)


def test_methods_that_are_none(client: Caller) -> None:
    """A method that a path does not have is 405, and says which it has."""
    answer = client.send("PATCH", f"{ROOT}/x")
    assert answer.status == 405
    assert set((answer.header("Allow") or "").split(", ")) == {"GET", "PUT", "DELETE"}
    assert client.send("PUT", ROOT, {}).status == 405
    assert client.send("DELETE", "/metadefs/resource_types").status == 405
    assert client.send("POST", "/schemas/metadefs/tag", {}).status == 405


def test_schemas(client: Caller) -> None:
    """All ten schemas are served, name themselves, and lists say what is in them."""
    for one, many in (
        *(("namespace", "namespaces"), ("object", "objects"), ("property", "properties"), ("tag", "tags")),
        ("resource_type", "resource_types"),
    ):
        name = "resource_type_association" if one == "resource_type" else one
        item = client.send("GET", f"/schemas/metadefs/{one}", who="reader")
        assert (item.status, item.json["name"], item.json["additionalProperties"]) == (200, name, False)
        listed = client.send("GET", f"/schemas/metadefs/{many}").json
        key = "resource_type_associations" if many == "resource_types" else many
        assert set(listed["properties"]) == {key, "first", "next", "schema"}
        assert [link["rel"] for link in listed["links"]] == ["first", "next", "describedby"]
    assert client.send("GET", "/schemas/metadefs/property").json["required"] == ["type", "title", "name"]
    assert client.send("GET", "/schemas/metadefs/none").status == 404


def test_every_route_is_there() -> None:
    """The 28 routes of metadata definitions and the 10 of their schemas, each once."""
    named = {(route.method, route.path) for route in ROUTES}
    assert len(named) == len(ROUTES)
    assert len([path for _, path in named if path.startswith("/metadefs/")]) == 28
    assert len([path for _, path in named if path.startswith("/schemas/metadefs/")]) == 10
