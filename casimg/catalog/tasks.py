"""Tasks in SQL. Functions take a connection; a status is only ever changed by a counted update."""

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, true, update

from casimg.catalog.engine import now_us
from casimg.catalog.keyset import page
from casimg.catalog.processes import is_gone, node_name, own_pid
from casimg.catalog.query import Viewer, is_text
from casimg.catalog.sessions import time_of
from casimg.catalog.task_rows import NewTask, TaskQuery, TaskRow
from casimg.catalog.task_schema import tasks
from casimg.errors import CatalogDamagedError, TaskEndedError, TaskNotFoundError
from casimg.ids import ImageId

_COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "id": tasks.c.task_id,
    "created_at": tasks.c.created_at,
    "updated_at": tasks.c.updated_at,
    # those that have not ended come last when ascending: nobody knows when
    "expires_at": func.coalesce(tasks.c.expires_at, 1 << 62),
    "type": tasks.c.type,
    "status": tasks.c.status,
    "owner": func.coalesce(tasks.c.owner, ""),
}
_FILTERS: Final[Mapping[str, ColumnElement[Any]]] = {
    "id": tasks.c.task_id,
    "type": tasks.c.type,
    "status": tasks.c.status,
    "owner": tasks.c.owner,
    "image_id": tasks.c.image_id,
    "user_id": tasks.c.user_id,
    "request_id": tasks.c.request_id,
}
_OPEN: Final = ("pending", "processing")


def insert_task(connection: Connection, task_id: str, new: NewTask) -> None:
    """Enter a pending task, worked at by this process."""
    now = now_us(connection)
    pid, pid_start = own_pid()
    connection.execute(
        insert(tasks).values(
            task_id=task_id,
            type=new.type,
            status="pending",
            owner=new.owner,
            user_id=new.user_id,
            request_id=new.request_id,
            image_id=new.image_id,
            input=json.dumps(dict(new.input)),
            result=None,
            message="",
            node=node_name(),
            pid=pid,
            pid_start=pid_start,
            created_at=now,
            updated_at=now,
            expires_at=None,
        )
    )


def begin(connection: Connection, task_id: str) -> None:
    """pending -> processing, from now on by this process. Raises: TaskNotFoundError, TaskEndedError."""
    pid, pid_start = own_pid()
    _change(connection, task_id, ("pending",), status="processing", node=node_name(), pid=pid, pid_start=pid_start)


def say(connection: Connection, task_id: str, message: str) -> None:
    """Say how far a task is. Raises: TaskNotFoundError, TaskEndedError."""
    _change(connection, task_id, _OPEN, message=message)


def succeed(connection: Connection, task_id: str, result: Mapping[str, Any] | None, keep_us: int) -> None:
    """processing -> success, kept so long from now. Raises: TaskNotFoundError, TaskEndedError."""
    text = None if result is None else json.dumps(dict(result))
    expires_at = now_us(connection) + keep_us
    _change(connection, task_id, ("processing",), status="success", result=text, expires_at=expires_at)


def fail(connection: Connection, task_id: str, message: str, keep_us: int) -> None:
    """pending or processing -> failure, kept so long from now. Raises: TaskNotFoundError, TaskEndedError."""
    expires_at = now_us(connection) + keep_us
    _change(connection, task_id, _OPEN, status="failure", message=message, expires_at=expires_at)


def fail_dead(connection: Connection, message: str, keep_us: int) -> list[str]:
    """Fail the tasks of this node's processes that are gone, and return their ids."""
    rows = connection.execute(select(tasks).where(tasks.c.status.in_(_OPEN), tasks.c.node == node_name())).all()
    ended = []
    for row in rows:
        if not is_gone(row.pid, row.pid_start):
            continue
        now = now_us(connection)
        # Whoever took it over meanwhile is another process.
        done = connection.execute(
            update(tasks)
            .where(tasks.c.task_id == row.task_id, tasks.c.status.in_(_OPEN))
            .where(tasks.c.node == row.node, tasks.c.pid == row.pid, tasks.c.pid_start == row.pid_start)
            .values(status="failure", message=message, updated_at=now, expires_at=now + keep_us)
        )
        if done.rowcount == 1:
            ended.append(row.task_id)
    return ended


def forget_expired(connection: Connection) -> int:
    """Remove the tasks whose time has come and return how many."""
    done = connection.execute(delete(tasks).where(tasks.c.expires_at <= now_us(connection)))
    return int(done.rowcount)


def find(connection: Connection, task_id: str, viewer: Viewer) -> TaskRow:
    """Return a task. Raises: TaskNotFoundError: never there, another project's, or its time has come."""
    row = None
    if is_text(task_id):
        query = select(tasks).where(tasks.c.task_id == task_id, _visible(connection, viewer))
        row = connection.execute(query).first()
    if row is None or row.task_id != task_id:
        raise TaskNotFoundError(task_id)
    return _task_row(row)


def list_tasks(connection: Connection, query: TaskQuery, viewer: Viewer) -> list[TaskRow]:
    """Return tasks. Raises: TaskNotFoundError for a marker that is none."""
    wanted = select(tasks).where(_visible(connection, viewer))
    for name, value in query.filters:
        if not is_text(value):
            return []
        wanted = wanted.where(_FILTERS[name] == value)
    keys = [_COLUMNS[query.sort_key]]
    keys += [other for other in (tasks.c.created_at, tasks.c.task_id) if other is not keys[0]]
    after = None
    if query.marker is not None:
        marker = find(connection, query.marker, viewer)
        after = tuple(connection.execute(select(*keys).where(tasks.c.task_id == marker.id)).one())
    rows = connection.execute(page(wanted, keys, after, query.ascending, query.limit))
    return [_task_row(row) for row in rows]


def _change(connection: Connection, task_id: str, statuses: tuple[str, ...], **values: Any) -> None:
    done = connection.execute(
        update(tasks)
        .where(tasks.c.task_id == task_id, tasks.c.status.in_(statuses))
        .values(updated_at=now_us(connection), **values)
    )
    if done.rowcount != 1:
        status = connection.execute(select(tasks.c.status).where(tasks.c.task_id == task_id)).scalar()
        raise TaskNotFoundError(task_id) if status is None else TaskEndedError(task_id, status)


def _visible(connection: Connection, viewer: Viewer) -> ColumnElement[bool]:
    there = or_(tasks.c.expires_at.is_(None), tasks.c.expires_at > now_us(connection))
    if viewer.is_admin:
        mine: ColumnElement[bool] = true()
    elif viewer.project_id is None:
        mine = tasks.c.owner.is_(None)
    else:
        mine = or_(tasks.c.owner.is_(None), tasks.c.owner == viewer.project_id)
    return there & mine


def _task_row(row: Row[Any]) -> TaskRow:
    return TaskRow(
        id=row.task_id,
        type=row.type,
        status=row.status,
        owner=row.owner,
        user_id=row.user_id,
        request_id=row.request_id,
        image_id=None if row.image_id is None else ImageId(row.image_id),
        input=_document(row.task_id, row.input),
        result=None if row.result is None else _document(row.task_id, row.result),
        message=row.message,
        created_at=time_of(row.created_at),
        updated_at=time_of(row.updated_at),
        expires_at=None if row.expires_at is None else time_of(row.expires_at),
    )


def _document(task_id: str, text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CatalogDamagedError(f"task {task_id}", "its row holds no JSON object")
    return found
