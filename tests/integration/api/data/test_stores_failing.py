"""Imports to several stores when one is gone or full, the image is deleted, or the server killed in the middle."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import casimg
from tests.conftest import mixed_bytes
from tests.integration.api.data.serving import Server, start
from tests.integration.api.data.stores_serving import (
    FAILED,
    LEFT,
    LOCK,
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

DATA = bytes(mixed_bytes(3_000_000, 42))
GONE = "third"


@pytest.fixture(scope="module")
def source() -> Iterator[Web]:
    """A web server with an image, and one that never ends."""
    with web() as found:
        found.pages |= {"/image": Page(DATA), "/halting": Page(DATA, drip_s=-1)}
        yield found


def rules(source: Web) -> str:
    return configured(f'[import_filtering_opts]\nallowed_hosts = ["127.0.0.1"]\nallowed_ports = [{source.port}]\n')


@pytest.fixture
def server(tmp_path: Path, source: Web) -> Iterator[Server]:
    """A server of three backends, the last of which is not there any more."""
    repository = make_repository(tmp_path, "spare", GONE)
    (tmp_path / GONE).rename(tmp_path / "elsewhere")
    served = start(repository, tmp_path / "server.log", rules(source))
    yield served
    if served.process.poll() is None:
        served.stop()


def bring(server: Server, source: Web, method: str, **body: Any) -> tuple[str, Any]:
    """Import to stores in one of three ways; return the image and its task when that has ended."""
    image_id = stored(server, DATA) if method == "copy-image" else server.create()
    if method == "glance-direct":
        stage(server, image_id, DATA)
    if method == "web-download":
        body["uri"] = source.url("/image")
    assert ask_import(server, image_id, method, **body).status == 202
    return image_id, ended(server, image_id)


@pytest.mark.parametrize("method", ["glance-direct", "web-download"])
def test_one_of_all_fails(server: Server, source: Web, method: str) -> None:
    """When every store must have the data and one is gone, none has: the image is queued, and says which it was."""
    image_id, task = bring(server, source, method, all_stores=True)
    assert task["status"] == "failure"
    assert task["message"]
    image = server.show(image_id)
    assert (image["status"], image["size"], image[FAILED], image[LEFT]) == ("queued", None, GONE, "")
    assert LOCK not in image
    assert "stores" not in image
    assert server.upload(image_id, DATA).status == 204


@pytest.mark.parametrize("method", ["glance-direct", "web-download"])
def test_one_of_several_may_fail(server: Server, source: Web, method: str) -> None:
    """When not all must, the image is active where it could be stored, and says where not; its task succeeds."""
    image_id, task = bring(server, source, method, all_stores=True, all_stores_must_succeed=False)
    assert task["status"] == "success", task
    image = server.show(image_id)
    assert (image["status"], image["stores"], image[FAILED], image[LEFT]) == ("active", "local,spare", GONE, "")
    for store in ("local", "spare", GONE):
        assert server.ask("GET", f"/v2/images/{image_id}/file?prefer={store}").data == DATA


@pytest.mark.parametrize("must_all", [True, False])
@pytest.mark.parametrize("method", ["glance-direct", "web-download"])
def test_the_only_one_fails(server: Server, source: Web, method: str, must_all: bool) -> None:
    """A store that is gone and asked for alone fails the import, whether all must succeed or not."""
    image_id, task = bring(server, source, method, stores=[GONE], all_stores_must_succeed=must_all)
    assert task["status"] == "failure"
    image = server.show(image_id)
    assert (image["status"], image[FAILED]) == ("queued", GONE)


@pytest.mark.parametrize("must_all", [True, False])
def test_copies_to_a_store_that_is_gone(server: Server, source: Web, must_all: bool) -> None:
    """Copies that were made go again when all must succeed, and stay otherwise; the image is active as before."""
    names = {"stores": ["spare", GONE], "all_stores_must_succeed": must_all}
    image_id, task = bring(server, source, "copy-image", **names)
    assert task["status"] == ("failure" if must_all else "success"), task
    image = server.show(image_id)
    assert (image["status"], image[FAILED], image[LEFT]) == ("active", GONE, "")
    assert image["stores"] == ("local" if must_all else "local,spare")
    assert server.download(image_id).data == DATA
    assert ask_import(server, image_id, "copy-image", stores=[GONE]).status == 202
    assert ended(server, image_id)["status"] == "failure"


def test_an_upload_to_a_store_that_is_gone(server: Server) -> None:
    """It is refused as something that may be well again, and the image takes data elsewhere."""
    image_id = server.create()
    assert server.upload(image_id, DATA, {"X-Image-Meta-Store": GONE}).status == 503
    assert server.show(image_id)["status"] == "queued"
    assert server.upload(image_id, DATA).status == 204


def test_a_store_that_comes_back(server: Server, tmp_path: Path) -> None:
    """What could not be copied can be when the store is there again, and is read when the first one is gone."""
    image_id = stored(server, DATA)
    (tmp_path / "elsewhere").rename(tmp_path / GONE)
    assert ask_import(server, image_id, "copy-image", all_stores=True).status == 202
    assert ended(server, image_id)["status"] == "success"
    (tmp_path / "spare").rename(tmp_path / "elsewhere")
    assert server.ask("GET", f"/v2/images/{image_id}/file?prefer=spare").data == DATA


def test_a_store_that_is_full(tmp_path: Path, source: Web) -> None:
    """A full store fails its share of an import, in words that say so, and keeps nothing of it."""
    full = tmp_path / GONE
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", full], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("it wants a file system of its own, and we may mount none")
    try:
        served = start(make_repository(tmp_path, "spare", GONE), tmp_path / "server.log", rules(source))
        try:
            image_id, task = bring(served, source, "glance-direct", all_stores=True)
            assert (task["status"], served.show(image_id)[FAILED]) == ("failure", GONE)
            image_id, task = bring(served, source, "web-download", all_stores=True, all_stores_must_succeed=False)
            assert (task["status"], stores(served, image_id)) == ("success", "local,spare")
            image_id, task = bring(served, source, "copy-image", stores=[GONE])
            assert (task["status"], stores(served, image_id)) == ("failure", "local")
            image_id = served.create()
            assert served.upload(image_id, DATA, {"X-Image-Meta-Store": GONE}).status == 413
        finally:
            served.stop()
        with casimg.open(tmp_path / "repository") as repo:
            assert repo.check(read_data=True).problems == ()
    finally:
        subprocess.run(["umount", "-l", full], check=True)


def test_every_copy_counts_against_the_quota(tmp_path: Path, source: Web) -> None:
    """Two copies of 3 MB fit into 8 MB and three do not, at once or in turn; what is given back fits again."""
    config = configured('[data]\nuser_storage_quota = "8000000B"\n')
    served = start(make_repository(tmp_path, "spare", GONE), tmp_path / "server.log", config)
    try:
        image_id, task = bring(served, source, "glance-direct", all_stores=True)
        assert (task["status"], "quota" in task["message"]) == ("failure", True)
        image_id, task = bring(served, source, "copy-image", stores=["spare"])
        assert (task["status"], stores(served, image_id)) == ("success", "local,spare")
        assert ask_import(served, image_id, "copy-image", all_stores=True).status == 202
        task = ended(served, image_id)
        assert (task["status"], "quota" in task["message"]) == ("failure", True)
        assert served.ask("DELETE", f"/v2/stores/spare/{image_id}").status == 204
        assert ask_import(served, image_id, "copy-image", stores=[GONE]).status == 202
        assert ended(served, image_id)["status"] == "success"
    finally:
        served.stop()


def test_an_image_is_deleted_while_it_is_copied(server: Server, tmp_path: Path) -> None:
    """A delete in the middle of a copy is a delete; the task ends, and what was copied is collected."""
    data = bytes(mixed_bytes(24_000_000, 43))
    image_ids = [stored(server, data + bytes([number]) * 4096) for number in range(3)]
    for image_id in image_ids:
        assert ask_import(server, image_id, "copy-image", stores=["spare"]).status == 202
    task_ids = [tasks(server, image_id)[0]["id"] for image_id in image_ids]
    for image_id in image_ids:
        assert server.ask("DELETE", f"/v2/images/{image_id}").status == 204
        assert server.ask("GET", f"/v2/images/{image_id}").status == 404
    give_up_s = time.monotonic() + 60
    for task_id in task_ids:
        while server.ask("GET", f"/v2/tasks/{task_id}").json()["status"] not in ("success", "failure"):
            assert time.monotonic() < give_up_s, server.log.read_text()[-3000:]
            time.sleep(0.05)
    (tmp_path / "elsewhere").rename(tmp_path / GONE)
    with casimg.open(tmp_path / "repository") as repo:
        repo.plan_gc().execute()
        assert repo.check(read_data=True).problems == ()
        assert repo.stats().stored_size == 0


def test_two_copies_at_once(server: Server) -> None:
    """Of two requests at once one copies; the other is refused, and there is one task that succeeds."""
    image_id = stored(server, DATA)
    barrier = threading.Barrier(2)
    statuses: list[int] = []

    def ask() -> None:
        barrier.wait()
        statuses.append(ask_import(server, image_id, "copy-image", stores=["spare"]).status)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 400 when the first was done before the second had begun.
    assert sorted(statuses) in ([202, 400], [202, 409]), statuses
    give_up_s = time.monotonic() + 60
    while found := [task for task in tasks(server, image_id) if task["status"] in ("pending", "processing")]:
        assert time.monotonic() < give_up_s, found
        time.sleep(0.05)
    assert [task["status"] for task in tasks(server, image_id)].count("success") == 1
    assert stores(server, image_id) == "local,spare"
    assert server.show(image_id)[FAILED] == ""


def test_a_killed_import_to_several_stores(server: Server, source: Web, tmp_path: Path) -> None:
    """After kill -9 the next server has the image queued, failed in all stores, and nothing of it kept aside."""
    image_id = server.create()
    names = ["local", "spare"]
    assert ask_import(server, image_id, "web-download", uri=source.url("/halting"), stores=names).status == 202
    give_up_s = time.monotonic() + 30
    while server.show(image_id)["status"] == "queued":
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    for pid in server.pids():
        os.kill(pid, signal.SIGKILL)
    server.process.wait()
    again = start(tmp_path / "repository", tmp_path / "again.log", rules(source))
    try:
        image = again.show(image_id)
        assert (image["status"], image[FAILED], image[LEFT], LOCK in image) == ("queued", "local,spare", "", False)
        assert tasks(again, image_id)[0]["status"] == "failure"
        stage(again, image_id, DATA)
    finally:
        again.stop()
