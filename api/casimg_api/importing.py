"""Imports: data that come by other ways than an upload, in the background of a server process.

A request locks the image, by the property that Glance has for it, and enters a task; a thread of the process does the
work and ends both. What a process leaves behind that died is ended by the next that starts on its machine, or by the
next import that meets it: the image is queued again, or its data are staged as before.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from casimg.errors import (
    BadStatusError,
    CasimgError,
    ConflictError,
    NotFoundError,
    NotLockedError,
    TaskEndedError,
    TaskNotFoundError,
)
from casimg.ids import ImageId
from casimg.registry import Edit
from casimg_api.errors import HttpError, http_error_of
from casimg_api.fetch_rules import FetchRefusedError, FetchRules
from casimg_api.fetching import Fetcher, FetchError
from casimg_api.http_store import HttpStore
from casimg_api.import_data import ALL, Job, StoppedError
from casimg_api.import_marks import LOCK, Marks, unlock
from casimg_api.import_work import Work
from casimg_api.inspection import FormatRefusedError
from casimg_api.location_work import LocationWork
from casimg_api.upload_body import ClientGoneError

if TYPE_CHECKING:
    from casimg.tasks import Tasks
    from casimg_api.config import Config
    from casimg_api.ports import RegistryPort
    from casimg_api.unified_limits import UnifiedLimits

_log = logging.getLogger("casimg_api.importing")

TASK_TYPE: Final = "api_image_import"
LEGACY_TASK_TYPE: Final = "import"
"""Of tasks that make their image, see `task_creation`."""
LOCATION_TASK_TYPE: Final = "location_import"
"""Of tasks for data that stay elsewhere, see `location_work`."""

WAITING_COUNT_MAX: Final = 1024
_STOP_TIME_MAX_S: Final = 20.0
_SILENT_MAX: Final = timedelta(minutes=60)
_PENDING_MAX: Final = timedelta(minutes=120)


class Imports:
    """The imports of one process, on threads that live while there is work. Threads: any may call."""

    def __init__(self, registry: "RegistryPort", tasks: "Tasks", config: "Config", limits: "UnifiedLimits") -> None:
        self._registry = registry
        self._tasks = tasks
        self._config = config
        given = config.image_import
        self.rules = FetchRules(config.import_filtering_opts)
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._threads: set[threading.Thread] = set()
        self._stopping = threading.Event()
        self.http_store = HttpStore.of(config.http_store, self.rules)
        """Web servers that keep data of images; None when they may not."""
        fetcher = self._fetcher = Fetcher(self.rules, given.connect_timeout_s, given.read_timeout_s)
        self._work_of = Work(registry, tasks, config, limits, fetcher, self._stopping)
        self._located = LocationWork(registry, tasks, config, self.http_store, self._stopping)

    # Whose turn it is

    def lock(self, job: Job, status: str) -> None:
        """Give an image of this status to a job. Raises: ImageNotFoundError, BadStatusError, ImageLockedError."""
        Marks(self._registry, job).lock(status)

    def unlock(self, job: Job) -> None:
        """Take an image from a job that was not begun. Raises: NotLockedError, ImageNotFoundError."""
        Marks(self._registry, job).unlock(has_failed=False)

    def is_stale(self, task_id: str) -> bool:
        """Tell whether nobody works at a task any more: it has ended, or was silent for an hour."""
        try:
            task = self._tasks.show(task_id, ALL)
        except TaskNotFoundError:
            return True
        if task.status not in ("pending", "processing"):
            return True
        silent = datetime.now(UTC) - task.updated_at
        return silent >= (_PENDING_MAX if task.status == "pending" else _SILENT_MAX)

    def break_lock(self, image_id: ImageId, task_id: str) -> None:
        """Take an image from a task that is stale; it notices when it says something again."""
        with suppress(TaskNotFoundError, TaskEndedError):
            self._tasks.fail(task_id, "nothing was heard of it, and another import has begun")
        with suppress(NotLockedError):
            self._registry.locations().give_up(image_id, only_waiting=True)
            unlock(self._registry, image_id, task_id)

    # Work

    def begin(self, job: Job) -> None:
        """Work at a job soon. Raises: HttpError 503 when too many wait, or the process ends."""
        with self._lock:
            if self._stopping.is_set() or len(self._waiting) >= WAITING_COUNT_MAX:
                raise HttpError(503)
            self._waiting.append(job)
            if len(self._threads) < self._config.image_import.task_pool_threads:
                thread = threading.Thread(target=self._work, name="casimg-import", daemon=True)
                self._threads.add(thread)
                thread.start()

    def stop(self) -> None:
        """Begin nothing more, and give back what is not finished. Never raises."""
        self._stopping.set()
        self._fetcher.stop()
        with self._lock:
            waiting, self._waiting = list(self._waiting), deque()
            threads = list(self._threads)
        for job in waiting:
            self._end(job, Marks(self._registry, job), StoppedError())
        give_up_s = time.monotonic() + _STOP_TIME_MAX_S
        for thread in threads:
            thread.join(max(0.0, give_up_s - time.monotonic()))

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads.discard(threading.current_thread())
                    return
                job = self._waiting.popleft()
            self._run(job)

    def _run(self, job: Job) -> None:
        marks = Marks(self._registry, job)
        try:
            self._tasks.begin(job.task_id)
            if job.method == "location":
                self._located.do(job)
            else:
                self._work_of.do(job, marks)
        except BaseException as error:
            self._end(job, marks, error)
        else:
            self._end(job, marks, None)

    def _end(self, job: Job, marks: Marks, error: BaseException | None) -> None:
        """Say what became of a job; what fails here is only logged, and left to whoever meets it."""
        try:
            if error is None:
                marks.unlock_quietly(has_failed=False)
                self._tasks.succeed(job.task_id, {"image_id": job.image_id})
                _log.info("import.done image=%s task=%s", job.image_id, job.task_id)
                return
            why = _why(error)
            trace = None if isinstance(error, _EXPECTED) else error
            _log.warning("import.failed image=%s task=%s why=%s", job.image_id, job.task_id, why, exc_info=trace)
            if job.new is not None:
                _remove(self._registry, job.image_id, job.task_id)
            elif job.method != "glance-direct" or not isinstance(error, StoppedError):
                _unstage(self._registry, job.image_id, job.task_id)
            marks.unlock_quietly(has_failed=True)
            self._tasks.fail(job.task_id, why)
        except TaskEndedError:
            _log.info("import.overtaken image=%s task=%s", job.image_id, job.task_id)
        except Exception as failure:
            _log.warning("import.not_ended image=%s task=%s why=%s", job.image_id, job.task_id, failure)


_EXPECTED: Final = (
    *(StoppedError, HttpError, FetchError, FetchRefusedError, FormatRefusedError, ClientGoneError, CasimgError),
)


def end_dead(registry: "RegistryPort", tasks: "Tasks") -> None:
    """End what processes of this machine left behind that are gone."""
    ended = tasks.fail_dead()
    registry.end_dead_uploads()
    for task_id in ended:
        with suppress(NotFoundError, ConflictError):
            task = tasks.show(task_id, ALL)
            if task.image_id is None:
                continue
            if task.type == TASK_TYPE:
                _give_back(registry, task.image_id, task_id, task.input)
            elif task.type == LEGACY_TASK_TYPE:
                _remove(registry, task.image_id, task_id)
                registry.unlock(task.image_id, LOCK, task_id, beside={})
            elif task.type == LOCATION_TASK_TYPE:
                registry.locations().give_up(task.image_id, only_waiting=True)
                registry.unlock(task.image_id, LOCK, task_id, beside={})


def _give_back(registry: "RegistryPort", image_id: ImageId, task_id: str, given: Mapping[str, Any]) -> None:
    """Take an image from an import that died; data that it had fetched are given up, those of a client are kept.

    Raises: NotLockedError, ImageNotFoundError.
    """
    if given["import_req"]["method"]["name"] != "glance-direct":
        _unstage(registry, image_id, task_id)
    reached = registry.show(image_id, ALL).stores
    unlock(registry, image_id, task_id, [name for name in given["backend"] if name and name not in reached])


def _unstage(registry: "RegistryPort", image_id: ImageId, task_id: str) -> None:
    """Give up what is staged of an import that failed, unless the image is another's by now."""
    with suppress(NotFoundError, BadStatusError):
        if registry.show(image_id, ALL).properties.get(LOCK) == task_id:
            registry.unstage(image_id)


def _remove(registry: "RegistryPort", image_id: ImageId, task_id: str) -> None:
    """Take the image away that a task has made, unless it has got data from elsewhere."""
    with suppress(NotFoundError, ConflictError):
        row = registry.show(image_id, ALL)
        if row.status != "queued" or row.properties.get(LOCK) != task_id:
            return
        if row.protected:
            registry.edit(image_id, Edit(protected=False), revision=row.revision)
        registry.delete(image_id)


def _why(error: BaseException) -> str:
    """Return what a task says of its failure."""
    if isinstance(error, StoppedError):
        return "the server was stopped"
    if isinstance(error, FetchRefusedError):
        return f"URI for web-download does not pass filtering: {error}"
    if isinstance(error, HttpError):
        return error.explanation or error.detail
    if isinstance(error, (FetchError, FormatRefusedError, ClientGoneError, TaskEndedError)):
        return str(error)
    known = http_error_of(error) if isinstance(error, CasimgError) else None
    return "Internal error; the log of the server says more." if known is None else known.explanation


__all__ = ["LEGACY_TASK_TYPE", "LOCATION_TASK_TYPE", "TASK_TYPE", "Imports", "end_dead"]
