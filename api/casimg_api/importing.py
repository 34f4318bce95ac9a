"""Imports: data that come by other ways than an upload, in the background of a server process.

A request locks the image, by the property that Glance has for it, and enters a task; a thread of the process does the
work and ends both. What a process leaves behind that died is ended by the next that starts on its machine, or by the
next import that meets it: the image is queued again, or its data are staged as before.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from casimg.errors import (
    BadStatusError,
    CasimgError,
    ChangedMeanwhileError,
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
from casimg_api.import_data import ALL, Download, Job, Look, StoppedError, Wanted
from casimg_api.inspection import FormatRefusedError
from casimg_api.remote_images import RemoteImage, describe
from casimg_api.upload_body import ClientGoneError

if TYPE_CHECKING:
    from casimg.tasks import Tasks
    from casimg_api.config import Config
    from casimg_api.ports import RegistryPort

_log = logging.getLogger("casimg_api.importing")

TASK_TYPE: Final = "api_image_import"
LEGACY_TASK_TYPE: Final = "import"
"""Of tasks that make their image, see `task_creation`."""
LOCK: Final = "os_glance_import_task"
IMPORTING_TO: Final = "os_glance_importing_to_stores"
FAILED_IN: Final = "os_glance_failed_import"

WAITING_COUNT_MAX: Final = 1024
_STOP_TIME_MAX_S: Final = 20.0
_ATTEMPTS_MAX: Final = 10
_SILENT_MAX: Final = timedelta(minutes=60)
_PENDING_MAX: Final = timedelta(minutes=120)


class Imports:
    """The imports of one process, on threads that live while there is work. Threads: any may call."""

    def __init__(self, registry: "RegistryPort", tasks: "Tasks", config: "Config") -> None:
        self._registry = registry
        self._tasks = tasks
        self._config = config
        given = config.image_import
        self.rules = FetchRules(config.import_filtering_opts)
        self._fetcher = Fetcher(self.rules, given.connect_timeout_s, given.read_timeout_s)
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._threads: set[threading.Thread] = set()
        self._stopping = threading.Event()

    # Whose turn it is

    def lock(self, job: Job, status: str) -> None:
        """Give an image of this status to a job. Raises: ImageNotFoundError, BadStatusError, ImageLockedError."""
        beside = {IMPORTING_TO: job.store, FAILED_IN: ""}
        self._registry.lock(job.image_id, LOCK, job.task_id, status=status, beside=beside)

    def unlock(self, job: Job, *, has_failed: bool) -> None:
        """Take an image from a job. Raises: NotLockedError, ImageNotFoundError."""
        beside = {} if job.new is not None else _beside(job.store if has_failed else "")
        self._registry.unlock(job.image_id, LOCK, job.task_id, beside=beside)

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
            _unlock(self._registry, image_id, task_id, "")

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
        with self._lock:
            waiting, self._waiting = list(self._waiting), deque()
            threads = list(self._threads)
        for job in waiting:
            self._end(job, StoppedError())
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
        try:
            self._tasks.begin(job.task_id)
            if job.new is not None:
                self._registry.create(job.new)
            if job.remote is not None:
                self._fetch_remote(job, job.remote)
            elif job.uri is not None:
                self._fetch(job, Wanted(job.uri))
            else:
                self._registry.import_staged(job.image_id, inspect=Look(self._registry, self._config, job).inspect)
        except BaseException as error:
            self._end(job, error)
        else:
            self._end(job, None)

    def _fetch(self, job: Job, wanted: Wanted) -> None:
        download = Download(self._registry, self._tasks, self._config, self._fetcher, self._stopping, job, wanted)
        with closing(download.parts()) as parts:
            self._registry.upload(job.image_id, parts, size=wanted.size, inspect=download.inspect, is_import=True)

    def _fetch_remote(self, job: Job, remote: RemoteImage) -> None:
        """Take over what another service says of its image, then its data; without these the former goes back."""
        found = describe(self._fetcher, remote, self._config.glance_download_properties.extra_properties)
        for name, known in (
            (found.disk_format, self._config.images.disk_formats),
            (found.container_format, self._config.images.container_formats),
        ):
            if name not in known:
                raise FetchError(f"the image's format {name[:40]!r} is not known here")
        before = self._registry.show(job.image_id, ALL)
        self._redescribe(job, found.disk_format, found.container_format, found.properties, ())
        try:
            self._fetch(job, Wanted(f"{remote.url}/file", remote.headers, found.size))
        except BaseException:
            restored = {name: before.properties[name] for name in found.properties if name in before.properties}
            with suppress(CasimgError):
                self._redescribe(job, before.disk_format, before.container_format, restored, found.properties)
            raise

    def _redescribe(
        self,
        job: Job,
        disk_format: str | None,
        container_format: str | None,
        properties: Mapping[str, str],
        without: Collection[str],
    ) -> None:
        """Change formats, and some properties, whatever others change at the same time."""
        for _ in range(_ATTEMPTS_MAX):
            row = self._registry.show(job.image_id, ALL)
            kept = {name: value for name, value in row.properties.items() if name not in without}
            edit = Edit(disk_format=disk_format, container_format=container_format, properties={**kept, **properties})
            with suppress(ChangedMeanwhileError):
                self._registry.edit(row.id, edit, revision=row.revision)
                return
        raise ChangedMeanwhileError(job.image_id)

    def _end(self, job: Job, error: BaseException | None) -> None:
        """Say what became of a job; what fails here is only logged, and left to whoever meets it."""
        try:
            if error is None:
                self._unlock_quietly(job, has_failed=False)
                self._tasks.succeed(job.task_id, {"image_id": job.image_id})
                _log.info("import.done image=%s task=%s", job.image_id, job.task_id)
                return
            why = _why(error)
            trace = None if isinstance(error, _EXPECTED) else error
            _log.warning("import.failed image=%s task=%s why=%s", job.image_id, job.task_id, why, exc_info=trace)
            if job.new is not None:
                _remove(self._registry, job.image_id, job.task_id)
            if job.is_staged and not isinstance(error, StoppedError):
                self._unstage(job)
            self._unlock_quietly(job, has_failed=True)
            self._tasks.fail(job.task_id, why)
        except TaskEndedError:
            _log.info("import.overtaken image=%s task=%s", job.image_id, job.task_id)
        except Exception as failure:
            _log.warning("import.not_ended image=%s task=%s why=%s", job.image_id, job.task_id, failure)

    def _unlock_quietly(self, job: Job, *, has_failed: bool) -> None:
        with suppress(NotFoundError, NotLockedError):
            self.unlock(job, has_failed=has_failed)

    def _unstage(self, job: Job) -> None:
        """Give up staged data that were refused, unless the image is another's by now."""
        with suppress(NotFoundError, BadStatusError):
            if self._registry.show(job.image_id, ALL).properties.get(LOCK) == job.task_id:
                self._registry.unstage(job.image_id)


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
                _unlock(registry, task.image_id, task_id, _store_of(task.input))
            elif task.type == LEGACY_TASK_TYPE:
                _remove(registry, task.image_id, task_id)
                registry.unlock(task.image_id, LOCK, task_id, beside={})


def _remove(registry: "RegistryPort", image_id: ImageId, task_id: str) -> None:
    """Take the image away that a task has made, unless it has got data from elsewhere."""
    with suppress(NotFoundError, ConflictError):
        row = registry.show(image_id, ALL)
        if row.status != "queued" or row.properties.get(LOCK) != task_id:
            return
        if row.protected:
            registry.edit(image_id, Edit(protected=False), revision=row.revision)
        registry.delete(image_id)


def _store_of(task_input: Mapping[str, object]) -> str:
    stores = task_input.get("backend")
    return ",".join(name for name in stores if isinstance(name, str)) if isinstance(stores, list) else ""


def _unlock(registry: "RegistryPort", image_id: ImageId, task_id: str, failed_in: str) -> None:
    registry.unlock(image_id, LOCK, task_id, beside=_beside(failed_in))


def _beside(failed_in: str) -> dict[str, str]:
    """Return what images show of an import that has ended."""
    return {IMPORTING_TO: "", FAILED_IN: failed_in}


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


__all__ = ["FAILED_IN", "IMPORTING_TO", "LEGACY_TASK_TYPE", "LOCK", "TASK_TYPE", "Imports", "Job", "end_dead"]
