"""Stores over a socket: told, chosen for data, imported to, read from, and left."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import casimg
from tests.api_serving import serving
from tests.api_serving import site as token_site
from tests.conftest import mixed_bytes
from tests.integration.api.data.serving import Server, start
from tests.integration.api.data.stores_serving import (
    FAILED,
    LEFT,
    LOCK,
    add_backend,
    ask_import,
    configured,
    ended,
    make_repository,
    stage,
    stored,
    stores,
    tasks,
)
from tests.integration.api.data.web import Page, Web, web

DATA = bytes(mixed_bytes(3_000_000, 41))
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
    """A web server with an image."""
    with web() as found:
        found.pages |= {"/image": Page(DATA), "/cut": Page(DATA, announced=len(DATA) + 1)}
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def server(folder: Path, source: Web) -> Iterator[Server]:
    """A server of a repository with three backends, which may fetch from the web server."""
    repository = make_repository(folder, "spare", "third")
    rules = f'[import_filtering_opts]\nallowed_hosts = ["127.0.0.1"]\nallowed_ports = [{source.port}]\n'
    served = start(repository, folder / "server.log", configured(rules))
    yield served
    served.stop()


def test_stores_are_told(server: Server) -> None:
    """Each backend is a store; the repository's default is theirs, and detail tells their kind as Glance does."""
    found = server.ask("GET", "/v2/info/stores").json()["stores"]
    assert found == [{"id": "local", "default": "true"}, {"id": "spare"}, {"id": "third"}]
    detail = server.ask("GET", "/v2/info/stores/detail").json()["stores"]
    assert [(item["id"], item["type"], item["weight"]) for item in detail] == [
        (name, "file", 0) for name in ("local", "spare", "third")
    ]
    assert all(isinstance(item["properties"], dict) for item in detail)
    answer = server.ask("POST", "/v2/images", b'{"name": "x"}', {"Content-Type": "application/json"})
    assert answer.headers["openstack-image-store-ids"] == "local,spare,third"
    assert "stores" not in answer.json()


@pytest.mark.parametrize("store", [None, "local", "third"])
def test_data_go_where_they_shall(server: Server, folder: Path, store: str | None) -> None:
    """X-Image-Meta-Store names the store of an upload; the image tells of it, and is read from there."""
    image_id = stored(server, DATA, store)
    assert stores(server, image_id) == (store or "local")
    assert server.download(image_id).data == DATA


def test_a_store_that_there_is_not(server: Server) -> None:
    """An upload to an unknown store is 400, and the image takes data as before."""
    image_id = server.create()
    for name in ("fast", "", "../local", "local,spare", "LOCAL"):
        assert server.upload(image_id, DATA, {"X-Image-Meta-Store": name}).status == 400, name
    assert server.show(image_id)["status"] == "queued"
    assert server.upload(image_id, DATA).status == 204


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "local"),
        ({"stores": ["spare"]}, "spare"),
        ({"stores": ["third", "local", "third"]}, "local,third"),
        ({"all_stores": True}, "local,spare,third"),
        ({"all_stores": True, "all_stores_must_succeed": False}, "local,spare,third"),
    ],
)
@pytest.mark.parametrize("method", ["glance-direct", "web-download"])
def test_imports_to_stores(server: Server, source: Web, method: str, body: dict[str, Any], expected: str) -> None:
    """Staged data, and those of a URL, come to every store that is asked for; the URL is asked once."""
    image_id = server.create()
    source.asked.clear()
    if method == "glance-direct":
        stage(server, image_id, DATA)
        assert ask_import(server, image_id, method, **body).status == 202
    else:
        assert ask_import(server, image_id, method, uri=source.url("/image"), **body).status == 202
    task = ended(server, image_id)
    assert task["status"] == "success", task
    image = server.show(image_id)
    assert image["status"] == "active"
    assert sorted(image["stores"].split(",")) == expected.split(",")
    assert (image[LEFT], image[FAILED], LOCK in image) == ("", "", False)
    assert sorted(task["input"]["backend"]) == sorted(expected.split(","))
    assert len(source.asked) == (method == "web-download")
    for store in expected.split(","):
        assert server.ask("GET", f"/v2/images/{image_id}/file?prefer={store}").data == DATA


def test_a_header_names_the_store_of_an_import(server: Server) -> None:
    """X-Image-Meta-Store does what `stores` does, and not both."""
    image_id = server.create()
    stage(server, image_id, DATA)
    assert ask_import(server, image_id, "glance-direct", {"X-Image-Meta-Store": "spare"}).status == 202
    assert ended(server, image_id)["status"] == "success"
    assert stores(server, image_id) == "spare"


def test_imports_to_nowhere_are_refused(server: Server) -> None:
    """Unknown stores are 409, contradictions and lists that are none 400; the image stays staged, without a task."""
    image_id = server.create()
    stage(server, image_id, DATA)
    for names in (["fast"], ["local", "fast"], ["../local"], [""]):
        assert ask_import(server, image_id, "glance-direct", stores=names).status == 409, names
    assert ask_import(server, image_id, "glance-direct", {"X-Image-Meta-Store": "fast"}).status == 409
    for wrong in ("local", [], [1], [["local"]], None, {"local": 1}):
        assert ask_import(server, image_id, "glance-direct", stores=wrong).status == 400, wrong
    for more in ({"stores": ["local"], "all_stores": True}, {"all_stores": "yes"}, {"all_stores_must_succeed": 1}):
        assert ask_import(server, image_id, "glance-direct", **more).status == 400, more
    both = {"X-Image-Meta-Store": "local"}
    assert ask_import(server, image_id, "glance-direct", both, stores=["local"]).status == 400
    assert ask_import(server, image_id, "glance-direct", both, all_stores=True).status == 400
    assert (server.show(image_id)["status"], tasks(server, image_id)) == ("uploading", [])


def test_what_cannot_be_fetched_is_in_no_store(server: Server, source: Web) -> None:
    """Data that are cut leave the image queued, failed in all stores, and nothing aside."""
    image_id = server.create()
    names = ["local", "spare"]
    assert ask_import(server, image_id, "web-download", uri=source.url("/cut"), stores=names).status == 202
    assert ended(server, image_id)["status"] == "failure"
    image = server.show(image_id)
    assert (image["status"], image[FAILED], image[LEFT]) == ("queued", "local,spare", "")
    assert "stores" not in image
    stage(server, image_id, DATA)


def test_data_that_are_something_else_are_in_no_store(server: Server, source: Web) -> None:
    """What is fetched for several stores is inspected as for one: the image is queued again."""
    image_id = server.create(disk_format="qcow2")
    assert ask_import(server, image_id, "web-download", uri=source.url("/image"), all_stores=True).status == 202
    task = ended(server, image_id)
    assert (task["status"], "qcow2" in task["message"]) == ("failure", True)
    assert server.show(image_id)["status"] == "queued"


def test_a_copy_is_made_and_left(server: Server) -> None:
    """An image is copied to other stores, read from each, and leaves them again until one has it."""
    image_id = stored(server, DATA)
    assert ask_import(server, image_id, "copy-image", stores=["spare"]).status == 202
    task = ended(server, image_id)
    assert (task["status"], task["result"]) == ("success", {"image_id": image_id}), task
    image = server.show(image_id)
    assert (image["stores"], image["status"], image[LEFT], image[FAILED]) == ("local,spare", "active", "", "")
    place = f"/v2/stores/{{}}/{image_id}"
    assert server.ask("DELETE", place.format("third")).status == 404
    assert server.ask("DELETE", place.format("fast")).status == 409
    assert server.ask("DELETE", place.format("local")).status == 204
    assert stores(server, image_id) == "spare"
    assert server.download(image_id).data == DATA
    assert server.ask("DELETE", place.format("spare")).status == 403
    assert server.ask("DELETE", place.format("local")).status == 403  # as Glance: it lies in one store alone
    assert server.download(image_id).data == DATA


def test_copies_that_are_there_already(server: Server) -> None:
    """A store that has the image is 400 when asked for, and passed over with all_stores, in the end without a task."""
    image_id = stored(server, DATA)
    assert ask_import(server, image_id, "copy-image").status == 400
    assert ask_import(server, image_id, "copy-image", stores=["spare", "local"]).status == 400
    assert tasks(server, image_id) == []
    assert ask_import(server, image_id, "copy-image", all_stores=True).status == 202
    assert ended(server, image_id)["input"]["backend"] == ["spare", "third"]
    assert stores(server, image_id) == "local,spare,third"
    assert ask_import(server, image_id, "copy-image", all_stores=True).status == 202
    assert len(tasks(server, image_id)) == 1


def test_what_has_no_data_is_not_copied(server: Server) -> None:
    """An image that is queued, staged or deactivated is 409, one that is not there 404, an unknown store 409."""
    queued = server.create()
    assert ask_import(server, queued, "copy-image", stores=["spare"]).status == 409
    stage(server, queued, DATA)
    assert ask_import(server, queued, "copy-image", stores=["spare"]).status == 409
    assert server.ask("DELETE", f"/v2/stores/local/{queued}").status == 409
    assert server.ask("DELETE", f"/v2/stores/local/{NOBODY}").status == 404
    assert ask_import(server, NOBODY, "copy-image", stores=["spare"]).status == 404
    active = stored(server, DATA)
    assert ask_import(server, active, "copy-image", stores=["fast"]).status == 409
    assert server.ask("POST", f"/v2/images/{active}/actions/deactivate").status == 204
    assert ask_import(server, active, "copy-image", stores=["spare"]).status == 409
    assert server.ask("DELETE", f"/v2/stores/local/{active}").status == 409


def test_a_store_can_be_preferred(server: Server) -> None:
    """`prefer` takes names of stores, also of one that does not have the image; unknown ones are 400."""
    image_id = stored(server, DATA)
    for names in ("spare", "third,local", " local , spare ", "", ","):
        place = f"/v2/images/{image_id}/file?prefer={names.replace(' ', '%20')}"
        assert server.ask("GET", place).data == DATA, names
    for names in ("fast", "local,fast", "..%2Flocal"):
        assert server.ask("GET", f"/v2/images/{image_id}/file?prefer={names}").status == 400, names


def test_stores_are_ordered_by_weight(server: Server, folder: Path) -> None:
    """`stores` begins with the store of the highest weight; what is not said of one is as always."""
    weights = '[stores.third]\nweight = 7\nstore_description = "near"\n[stores.local]\nweight = 2\n'
    served = start(folder / "repository", folder / "weighted.log", configured(weights))
    try:
        image_id = server.create()
        stage(server, image_id, DATA)
        assert ask_import(server, image_id, "glance-direct", all_stores=True).status == 202
        assert ended(server, image_id)["status"] == "success"
        assert stores(served, image_id) == "third,local,spare"
        found = served.ask("GET", "/v2/images?limit=1").json()["images"]
        assert found[0]["stores"] == "third,local,spare"
        assert served.download(image_id).data == DATA
        detail = served.ask("GET", "/v2/info/stores/detail").json()["stores"]
        assert [(item["weight"], item.get("description")) for item in detail] == [(2, None), (0, None), (7, "near")]
    finally:
        served.stop()


def test_another_default(server: Server, folder: Path) -> None:
    """default_backend takes what no store is named for, whether clients are told of stores or not."""
    image_id = stored(server, DATA)
    config = '[store]\ndefault_backend = "spare"\n'
    served = start(folder / "repository", folder / "default.log", config)
    try:
        made = [stored(served, DATA), stored(served, DATA, "third"), served.create()]
        stage(served, made[2], DATA)
        assert ask_import(served, made[2], "glance-direct").status == 202
        assert ended(served, made[2])["status"] == "success"
        assert [stores(served, found) for found in (*made, image_id)] == [None] * 4
        assert served.download(image_id).data == DATA
        assert served.ask("GET", "/v2/info/stores").status == 404
        assert served.ask("DELETE", f"/v2/stores/spare/{made[0]}").status == 404
        assert served.ask("GET", f"/v2/images/{image_id}/file?prefer=spare").status == 400
    finally:
        served.stop()
    assert [stores(server, found) for found in made] == ["spare"] * 3


def test_members_neither_copy_nor_leave(tmp_path: Path) -> None:
    """Copies, their removal, and details of stores are for administrators; of a foreign image nothing is told."""
    config = token_site(tmp_path, configured())
    add_backend(tmp_path / "repository", "spare", tmp_path / "spare")
    with serving("--config", str(config)) as client:
        alice, admin, bob = (client.as_(who) for who in ("alice", "admin", "bob"))
        image = alice.image(disk_format="raw", container_format="bare", visibility="private")["id"]
        octets = {"Content-Type": "application/octet-stream"}
        assert alice.call("PUT", f"/v2/images/{image}/file", DATA, octets).status == 204
        body = {"method": {"name": "copy-image"}, "stores": ["spare"]}
        assert alice.post(f"/v2/images/{image}/import", body).status == 403
        assert bob.post(f"/v2/images/{image}/import", body).status == 404
        assert alice.delete(f"/v2/stores/local/{image}").status == 403
        assert bob.delete(f"/v2/stores/local/{image}").status == 404
        assert alice.get("/v2/info/stores").status == 200
        assert alice.get("/v2/info/stores/detail").status == 403
        assert client.as_("nova").get("/v2/info/stores/detail").status == 200
        assert alice.get(f"/v2/images/{image}/tasks").json["tasks"] == []
        assert admin.post(f"/v2/images/{image}/import", body).status == 202
        give_up_s = time.monotonic() + 30
        while (found := alice.get(f"/v2/images/{image}").json["stores"]) != "local,spare":
            assert time.monotonic() < give_up_s, found
            time.sleep(0.05)


def test_the_repository_is_whole(server: Server, folder: Path) -> None:
    """After all that, a collection and a check of every byte find nothing wrong on any backend."""
    image_id = stored(server, DATA, "third")
    with casimg.open(folder / "repository") as repo:
        repo.plan_gc().execute()
        assert repo.check(read_data=True).problems == ()
    assert server.download(image_id).data == DATA
