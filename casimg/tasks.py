"""Tasks: what a service does with images in the background, told to those who ask for it, and forgotten in time.

A task is begun, and ended once, by the process that works at it. One whose process is gone is ended by another process
of the same machine (`fail_dead`); whoever asks sees no status that will never change. Threads: any.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from casimg.catalog import tasks as sql
from casimg.catalog.query import Viewer
from casimg.catalog.task_rows import TASK_TYPES, NewTask, TaskQuery, TaskRow
from casimg.errors import InputError
from casimg.ids import ImageId
from casimg.opened import Opened

T = TypeVar("T")
Rows = list[TaskRow]  # the method `list` hides the type inside the class
Ids = list[str]

_TEXT_SIZE_MAX: Final = 255
_MESSAGE_SIZE_MAX: Final = 1 << 16
_EVERYTHING: Final = Viewer(None, is_admin=True)


class Tasks:
    """The tasks of an open repository.

    Args:
        time_to_live_s: how long tasks are kept after their end.
    """

    def __init__(self, opened: Opened, time_to_live_s: float) -> None:
        self._opened = opened
        self._keep_us = int(time_to_live_s * 1_000_000)

    def create(self, new: NewTask) -> TaskRow:
        """Enter a task that nobody has begun yet: pending; forgets those whose time has come.

        Raises: InputError.
        """
        if new.type not in TASK_TYPES:
            raise InputError(f"the type {new.type!r} of a task is none of {', '.join(TASK_TYPES)}")
        task_id = str(uuid.uuid4())
        kept = NewTask(
            new.type, _short(new.owner), _short(new.user_id), _short(new.request_id), new.image_id, new.input
        )

        def work(connection: Connection) -> TaskRow:
            sql.forget_expired(connection)
            sql.insert_task(connection, task_id, kept)
            return sql.find(connection, task_id, _EVERYTHING)

        return self._write(work)

    def begin(self, task_id: str) -> None:
        """Say that this process works at a pending task. Raises: TaskNotFoundError, TaskEndedError."""
        self._write(lambda connection: sql.begin(connection, task_id))

    def say(self, task_id: str, message: str) -> None:
        """Say how far a task is, in words for people. Raises: TaskNotFoundError, TaskEndedError when it has ended."""
        self._write(lambda connection: sql.say(connection, task_id, _storable(message)))

    def succeed(self, task_id: str, result: Mapping[str, Any] | None = None) -> None:
        """End a task that was begun. Raises: TaskNotFoundError, TaskEndedError."""
        self._write(lambda connection: sql.succeed(connection, task_id, result, self._keep_us))

    def fail(self, task_id: str, message: str) -> None:
        """End a task, begun or not, saying why. Raises: TaskNotFoundError, TaskEndedError when it has ended."""
        self._write(lambda connection: sql.fail(connection, task_id, _storable(message), self._keep_us))

    def fail_dead(self) -> Ids:
        """End the tasks of processes of this machine that are gone, and return their ids; for the start of a server."""
        message = "the process that worked at it has ended"
        return self._write(lambda connection: sql.fail_dead(connection, message, self._keep_us))

    def show(self, task_id: str, viewer: Viewer) -> TaskRow:
        """Return a task. Raises: TaskNotFoundError: also for another project's, and one whose time has come."""
        return self._read(lambda connection: sql.find(connection, task_id, viewer))

    def list(self, query: TaskQuery, viewer: Viewer) -> Rows:
        """Return tasks that the viewer sees. Raises: TaskNotFoundError for a marker that is none."""
        return self._read(lambda connection: sql.list_tasks(connection, query, viewer))

    def of_image(self, image_id: ImageId, viewer: Viewer) -> Rows:
        """Return what was done with an image, oldest first."""
        return self.list(TaskQuery((("image_id", image_id),), ascending=True), viewer)

    def _read(self, work: Callable[[Connection], T]) -> T:
        self._opened.check_open()
        return self._opened.catalog.read(work)

    def _write(self, work: Callable[[Connection], T]) -> T:
        self._opened.check_open()
        return self._opened.catalog.transaction(work)


def _short(text: str | None) -> str | None:
    """Return an id that a column holds: request ids are made by clients, of any length that the server allows."""
    return None if text is None else _storable(text)[:_TEXT_SIZE_MAX]


def _storable(message: str) -> str:
    """Return a text that every database takes; errors tell of anything."""
    return message[:_MESSAGE_SIZE_MAX].encode(errors="replace").decode().replace("\0", "?")
