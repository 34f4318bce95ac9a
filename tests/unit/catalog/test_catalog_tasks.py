"""Tasks in SQL: one way from pending to an end, seen by their project, listed by pages, forgotten in time."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from casimg.catalog import Catalog
from casimg.catalog.query import Viewer
from casimg.catalog.task_rows import TASK_SORT_KEYS, NewTask, TaskQuery
from casimg.catalog.task_schema import tasks as table
from casimg.errors import CatalogDamagedError, InputError, TaskEndedError, TaskNotFoundError
from casimg.ids import ImageId
from casimg.tasks import Tasks
from tests.catalog_making import OpenCatalog

ADMIN = Viewer("root", is_admin=True)
ONE, TWO = Viewer("one"), Viewer("two")
IMAGE = ImageId("7f0c3c2e-0000-4000-8000-000000000001")


@pytest.fixture
def tasks(catalog: Catalog) -> Tasks:
    return Tasks(OpenCatalog(catalog), 3600)


def new(**fields: Any) -> NewTask:
    given: dict[str, Any] = {"type": "api_image_import", "owner": "one", "image_id": IMAGE, **fields}
    return NewTask(**given)


def test_a_task_succeeds(tasks: Tasks) -> None:
    """pending, processing, success: each as it was said, with an end only after the end."""
    made = tasks.create(new(user_id="u", request_id="req-1", input={"image_id": IMAGE, "import_req": {"é": [1, None]}}))
    assert (made.status, made.expires_at, made.result, made.message) == ("pending", None, None, "")
    assert (made.owner, made.user_id, made.request_id, made.image_id) == ("one", "u", "req-1", IMAGE)
    assert made.input == {"image_id": IMAGE, "import_req": {"é": [1, None]}}
    tasks.begin(made.id)
    tasks.say(made.id, "Copied 15 MiB")
    assert (tasks.show(made.id, ONE).status, tasks.show(made.id, ONE).message) == ("processing", "Copied 15 MiB")
    tasks.succeed(made.id, {"image_id": IMAGE})
    ended = tasks.show(made.id, ONE)
    assert (ended.status, ended.result) == ("success", {"image_id": IMAGE})
    assert ended.expires_at is not None
    assert 3590 < (ended.expires_at - ended.updated_at).total_seconds() < 3610
    assert tasks.of_image(IMAGE, ONE) == [ended]


def test_a_task_fails(tasks: Tasks) -> None:
    """A task fails from pending or processing, saying why, whatever the words hold."""
    for begun in (True, False):
        made = tasks.create(new())
        if begun:
            tasks.begin(made.id)
        tasks.fail(made.id, "no \0 \ud800 " + "x" * 100_000)
        ended = tasks.show(made.id, ONE)
        assert ended.status == "failure"
        assert ended.message.startswith("no ? ? x")
        assert ended.expires_at is not None


def test_there_is_no_way_back(tasks: Tasks) -> None:
    """What has ended, and what was begun, cannot be begun; what was not begun cannot succeed; nothing ends twice."""
    made = tasks.create(new())
    with pytest.raises(TaskEndedError, match="pending"):
        tasks.succeed(made.id)
    tasks.begin(made.id)
    with pytest.raises(TaskEndedError, match="processing"):
        tasks.begin(made.id)
    tasks.succeed(made.id)
    again: tuple[Callable[[], None], ...] = (
        lambda: tasks.begin(made.id),
        lambda: tasks.say(made.id, "x"),
        lambda: tasks.succeed(made.id),
        lambda: tasks.fail(made.id, "x"),
    )
    for attempt in again:
        with pytest.raises(TaskEndedError, match="success"):
            attempt()
    assert tasks.show(made.id, ONE).message == ""
    with pytest.raises(TaskNotFoundError):
        tasks.begin("none")
    with pytest.raises(TaskNotFoundError):
        tasks.fail("none", "x")
    with pytest.raises(InputError):
        tasks.create(new(type="export"))


def test_tasks_of_others_are_not_there(tasks: Tasks) -> None:
    """A project sees its own tasks, an administrator all."""
    mine, other = tasks.create(new()), tasks.create(new(owner="two"))
    assert [row.id for row in tasks.list(TaskQuery(ascending=True), ADMIN)] == sorted(
        [mine.id, other.id], key=lambda task_id: (tasks.show(task_id, ADMIN).created_at, task_id)
    )
    assert [row.id for row in tasks.list(TaskQuery(), ONE)] == [mine.id]
    assert [row.id for row in tasks.of_image(IMAGE, TWO)] == [other.id]
    with pytest.raises(TaskNotFoundError):
        tasks.show(other.id, ONE)
    with pytest.raises(TaskNotFoundError):
        tasks.list(TaskQuery(marker=other.id), ONE)
    for name in ("", "none", "\0", "\ud800", mine.id + " "):
        with pytest.raises(TaskNotFoundError):
            tasks.show(name, ADMIN)


def test_ended_tasks_are_forgotten_in_time(catalog: Catalog) -> None:
    """A task whose time has come is not there any more, and its row goes with the next one made; open ones stay."""
    at_once = Tasks(OpenCatalog(catalog), 0)
    open_one, ended = at_once.create(new()), at_once.create(new())
    at_once.fail(ended.id, "x")
    with pytest.raises(TaskNotFoundError):
        at_once.show(ended.id, ADMIN)
    assert [row.id for row in at_once.list(TaskQuery(), ADMIN)] == [open_one.id]
    at_once.create(new())
    with pytest.raises(TaskNotFoundError):
        at_once.fail(ended.id, "x")
    assert at_once.show(open_one.id, ADMIN).status == "pending"


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("key", TASK_SORT_KEYS)
def test_pages(tasks: Tasks, key: str, ascending: bool) -> None:
    """By every key and both ways, pages of two put together are the whole list."""
    for number in range(7):
        made = tasks.create(new(type=("import", "location_import")[number % 2], owner=None if number == 3 else "one"))
        if number % 3:
            tasks.begin(made.id)
        if number == 4:
            tasks.succeed(made.id)
    whole = [row.id for row in tasks.list(TaskQuery(sort_key=key, ascending=ascending), ADMIN)]
    assert len(set(whole)) == 7
    paged: list[str] = []
    while page := tasks.list(TaskQuery((), key, ascending, paged[-1] if paged else None, 2), ADMIN):
        paged += [row.id for row in page]
    assert paged == whole


def test_filters(tasks: Tasks) -> None:
    """Tasks are listed by exact values; what no database holds matches none."""
    first = tasks.create(new(type="import", request_id="req-1", user_id="u1"))
    second = tasks.create(new(owner="two", image_id=None))
    tasks.begin(second.id)
    for name, value, found in (
        ("type", "import", first),
        ("status", "processing", second),
        ("owner", "two", second),
        ("image_id", IMAGE, first),
        ("request_id", "req-1", first),
        ("user_id", "u1", first),
        ("id", second.id, second),
    ):
        assert [row.id for row in tasks.list(TaskQuery(((name, value),)), ADMIN)] == [found.id], name
    assert tasks.list(TaskQuery((("owner", "two"), ("status", "pending"))), ADMIN) == []
    assert tasks.list(TaskQuery((("owner", "\0"),)), ADMIN) == []
    assert tasks.list(TaskQuery(limit=0), ADMIN) == []


def test_tasks_of_dead_processes_end(tasks: Tasks, catalog: Catalog) -> None:
    """Open tasks of a process that is gone are ended, those of living ones and of other machines are not."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        gone = child.pid
    dead, begun, elsewhere, alive, ended = (tasks.create(new()) for _ in range(5))
    tasks.begin(begun.id)
    tasks.fail(ended.id, "before")
    for row, node in ((dead, None), (begun, None), (elsewhere, "another/boot/1"), (ended, None)):
        values = {"pid": gone, "pid_start": 1, **({} if node is None else {"node": node})}
        catalog.transaction(
            lambda connection, row=row, values=values: connection.execute(  # type: ignore[misc]
                update(table).where(table.c.task_id == row.id).values(**values)
            )
        )
    assert os.getpid() != gone
    assert set(tasks.fail_dead()) == {dead.id, begun.id}
    assert tasks.fail_dead() == []
    assert "ended" in tasks.show(dead.id, ONE).message
    assert [tasks.show(row.id, ONE).status for row in (elsewhere, alive)] == ["pending", "pending"]
    assert tasks.show(ended.id, ONE).message == "before"


def test_one_of_many_threads_begins(tasks: Tasks) -> None:
    """Of threads that begin the same task one does; the others are told."""
    made = tasks.create(new())
    begun: list[bool] = []
    start = threading.Barrier(6)

    def begin() -> None:
        start.wait()
        try:
            tasks.begin(made.id)
            begun.append(True)
        except TaskEndedError:
            begun.append(False)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(begun) == [False] * 5 + [True]


def test_long_ids_of_clients_are_cut(tasks: Tasks) -> None:
    """A request id of any length is kept as far as a column holds it."""
    assert tasks.create(new(request_id="r" * 5000)).request_id == "r" * 255


def test_a_row_that_holds_no_json_is_damage(tasks: Tasks, catalog: Catalog) -> None:
    """An input or result that is no JSON object is CatalogDamagedError, not a wrong answer."""
    made = tasks.create(new())
    for values in ({"input": "{"}, {"input": "{}", "result": "[]"}):
        catalog.transaction(
            lambda connection, values=values: connection.execute(update(table).values(**values))  # type: ignore[misc]
        )
        with pytest.raises(CatalogDamagedError):
            tasks.show(made.id, ONE)
