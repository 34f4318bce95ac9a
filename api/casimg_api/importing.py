"""Imports: data that come by other ways than an upload, in the background of a server process.

A request locks the image, by the property that Glance has for it, and enters a task; a thread of the process does the
work and ends both. What a process leaves behind that died is ended by the next that starts on its machine, or by the
next import that meets it: the image is queued again, or its data are staged as before.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
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
from casimg.image_file import ImageFile
from casimg.ids import ImageId
from casimg.registry import Edit, Inspected, Viewer
from casimg_api.errors import HttpError, http_error_of
from casimg_api.fetch_rules import FetchRefusedError, FetchRules
from casimg_api.fetching import FetchError, Fetcher
from casimg_api.inspection import FormatRefusedError, inspect_file, inspection_of
from casimg_api.quota import limits_of
from casimg_api.remote_images import RemoteImage, describe
from casimg_api.upload_body import ClientGoneError, UploadBody

if TYPE_CHECKING:
    from casimg.tasks import Tasks
    from casimg_api.config import Config
    from casimg_api.ports import RegistryPort

_log = logging.getLogger("casimg_api.importing")

TASK_TYPE: Final = "api_image_import"
LOCK: Final = "os_glance_import_task"
IMPORTING_TO: Final = "os_glance_importing_to_stores"
FAILED_IN: Final = "os_glance_failed_import"

WAITING_COUNT_MAX: Final = 1024
_STOP_TIME_MAX_S: Final = 20.0
_PART_SIZE: Final = 256 << 10
_SAY_EVERY_S: Final = 10.0
_ATTEMPTS_MAX: Final = 10
_SILENT_MAX: Final = timedelta(minutes=60)
_PENDING_MAX: Final = timedelta(minutes=120)
_ALL: Final = Viewer(None, is_admin=True)


class StoppedError(Exception):
    """The process ends; its imports are given back."""


@dataclass(frozen=True, slots=True)
class Job:
    """One import.

    Args:
        uri: where to fetch from; None for data that are staged, or of another service.
        project_id: whose quota counts.
        store: as clients know it; empty when they know of none.
        remote: the image of another service that is fetched.
    """

    image_id: ImageId
    task_id: str
    uri: str | None
    project_id: str | None
    store: str
    remote: RemoteImage | None = None

    @property
    def is_staged(self) -> bool:
        return self.uri is None and self.remote is None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Data to fetch; size in bytes when it is known before."""

    url: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    size: int | None = None


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
        _unlock(self._registry, job.image_id, job.task_id, job.store if has_failed else "")

    def is_stale(self, task_id: str) -> bool:
        """Tell whether nobody works at a task any more: it has ended, or was silent for an hour."""
        try:
            task = self._tasks.show(task_id, _ALL)
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
            if job.remote is not None:
                self._fetch_remote(job, job.remote)
            elif job.uri is not None:
                self._fetch(job, Wanted(job.uri))
            else:
                self._registry.import_staged(job.image_id, inspect=_Look(self._registry, self._config, job).inspect)
        except BaseException as error:
            self._end(job, error)
        else:
            self._end(job, None)

    def _fetch(self, job: Job, wanted: "Wanted") -> None:
        download = _Download(self._registry, self._tasks, self._config, self._fetcher, self._stopping, job, wanted)
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
        before = self._registry.show(job.image_id, _ALL)
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
            row = self._registry.show(job.image_id, _ALL)
            kept = {name: value for name, value in row.properties.items() if name not in without}
            edit = Edit(
                disk_format=disk_format, container_format=container_format, properties={**kept, **properties}
            )
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
            if self._registry.show(job.image_id, _ALL).properties.get(LOCK) == job.task_id:
                self._registry.unstage(job.image_id)


class _Look:
    """Looks into staged data, once nobody can change any more what they are declared to be."""

    def __init__(self, registry: "RegistryPort", config: "Config", job: Job) -> None:
        self._registry = registry
        self._config = config
        self._job = job

    def inspect(self, file: ImageFile) -> Inspected:
        """Return what is known of the data. Raises: HttpError 413, FormatRefusedError."""
        row = self._registry.show(self._job.image_id, _ALL)
        for limit in limits_of(self._registry, self._config.data, self._job.project_id):
            limit.check(file.size)
        inspection = inspection_of(row, self._config.data)
        return Inspected(None if inspection is None else inspect_file(file, inspection))


class _Download:
    """One download on its way into the repository."""

    def __init__(
        self,
        registry: "RegistryPort",
        tasks: "Tasks",
        config: "Config",
        fetcher: Fetcher,
        stopping: threading.Event,
        job: Job,
        wanted: Wanted,
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._config = config
        self._fetcher = fetcher
        self._stopping = stopping
        self._job = job
        self._wanted = wanted
        self._body: UploadBody | None = None

    def parts(self) -> Generator[bytes, None, None]:
        """Yield the data; the first is asked for when the image is claimed, so what it is declared to be is final.

        Raises: StoppedError, TaskEndedError when it was taken for dead, FetchRefusedError, FetchError,
            ClientGoneError when the data are cut, HttpError 413.
        """
        job = self._job
        row = self._registry.show(job.image_id, _ALL)
        limits = limits_of(self._registry, self._config.data, job.project_id)
        began_s = said_s = time.monotonic()
        with self._fetcher.open(self._wanted.url, self._wanted.secrets) as answer:
            for limit in limits:
                limit.check(answer.length or 0)
            body = self._body = UploadBody(answer, answer.length)
            body.look(limits, inspection_of(row, self._config.data))
            while part := body.read(_PART_SIZE):
                if self._stopping.is_set():
                    raise StoppedError
                now_s = time.monotonic()
                if now_s - began_s > self._config.image_import.time_max_s:
                    raise FetchError("it takes too long")
                if now_s - said_s >= _SAY_EVERY_S:
                    said_s = now_s
                    self._tasks.say(job.task_id, f"Copied {body.size >> 20} MiB")
                yield part

    def inspect(self) -> Inspected:
        """Return what is known of the data, all of which have come. Raises: HttpError 413, 415."""
        body = self._body
        if body is None:
            return Inspected(None)
        for limit in limits_of(self._registry, self._config.data, self._job.project_id):
            limit.check(body.size)
        return Inspected(body.finish())


_EXPECTED: Final = (
    *(StoppedError, HttpError, FetchError, FetchRefusedError, FormatRefusedError, ClientGoneError, CasimgError),
)


def end_dead(registry: "RegistryPort", tasks: "Tasks") -> None:
    """End what processes of this machine left behind that are gone."""
    ended = tasks.fail_dead()
    registry.end_dead_uploads()
    for task_id in ended:
        with suppress(NotFoundError, ConflictError):
            task = tasks.show(task_id, _ALL)
            if task.type == TASK_TYPE and task.image_id is not None:
                _unlock(registry, task.image_id, task_id, _store_of(task.input))


def _store_of(task_input: Mapping[str, object]) -> str:
    stores = task_input.get("backend")
    return ",".join(name for name in stores if isinstance(name, str)) if isinstance(stores, list) else ""


def _unlock(registry: "RegistryPort", image_id: ImageId, task_id: str, failed_in: str) -> None:
    registry.unlock(image_id, LOCK, task_id, beside={IMPORTING_TO: "", FAILED_IN: failed_in})


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


__all__ = ["FAILED_IN", "IMPORTING_TO", "LOCK", "TASK_TYPE", "Imports", "Job", "end_dead"]
