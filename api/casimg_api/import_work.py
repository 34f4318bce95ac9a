"""The work of imports: data that are staged, at a URL, at another service or in another store come to theirs."""

import threading
import time
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from casimg.catalog import ImageRow
from casimg.errors import (
    CancelledError,
    CasimgError,
    ConflictError,
    CopyExistsError,
    ImageDeletedError,
    ImageNotFoundError,
    NotFoundError,
    TaskEndedError,
)
from casimg.progress import Progress
from casimg.registry import Edit
from casimg_api.errors import HttpError
from casimg_api.fetching import Fetcher, FetchError
from casimg_api.import_data import ALL, SAY_EVERY_S, Download, Job, Look, StoppedError, Wanted
from casimg_api.import_marks import Marks, change_image
from casimg_api.quota import copy_limits_of
from casimg_api.remote_images import RemoteImage, describe

if TYPE_CHECKING:
    from casimg.tasks import Tasks
    from casimg_api.config import Config
    from casimg_api.ports import RegistryPort
    from casimg_api.unified_limits import UnifiedLimits

_OF_THE_IMAGE: Final = (ImageDeletedError, ImageNotFoundError, TaskEndedError)
"""Errors that no other store would change anything about."""


class Work:
    """What imports do, whichever method they have. Threads: any.

    Args:
        stopping: set when the process ends; what is at work then raises StoppedError.
    """

    def __init__(
        self,
        registry: "RegistryPort",
        tasks: "Tasks",
        config: "Config",
        limits: "UnifiedLimits",
        fetcher: Fetcher,
        stopping: threading.Event,
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._config = config
        self._limits = limits
        self._fetcher = fetcher
        self._stopping = stopping

    def do(self, job: Job, marks: Marks) -> None:
        """Do all of a job, and mark each store. Raises: what goes wrong, with nothing of it kept."""
        if job.new is not None:
            self._registry.create(job.new)
        if job.method == "copy-image":
            self._limits.check_copy(job.project_id)
            self._copy(job, marks)
        elif job.remote is not None:
            self._fetch_remote(job, marks, job.remote)
        elif job.uri is not None:
            self._fetch(job, marks, Wanted(job.uri))
        else:
            look = Look(self._registry, self._config, self._limits, job)
            self._registry.import_staged(
                job.image_id, inspect=look.inspect, stores=job.stores, must_all=job.must_all, on_store=marks.note
            )

    def _fetch(self, job: Job, marks: Marks, wanted: Wanted) -> None:
        self._limits.check_fetch(job.project_id)
        download = Download(self._registry, self._tasks, self._config, self._fetcher, self._stopping, job, wanted)
        with closing(download.parts()) as parts:
            if len(job.stores) == 1:
                self._registry.upload(
                    job.image_id,
                    parts,
                    size=wanted.size,
                    inspect=download.inspect,
                    is_import=True,
                    store=job.stores[0],
                )
                return
            # They are fetched once, and kept aside until every store has them.
            self._registry.stage(job.image_id, parts, size=wanted.size)
        self._registry.import_staged(
            job.image_id,
            inspect=lambda _: download.inspect(),
            stores=job.stores,
            must_all=job.must_all,
            on_store=marks.note,
        )

    def _fetch_remote(self, job: Job, marks: Marks, remote: RemoteImage) -> None:
        """Take over what another service says of its image, then its data; without these the former goes back."""
        found = describe(self._fetcher, remote, self._config.glance_download_properties.extra_properties)
        for name, known in (
            (found.disk_format, self._config.images.disk_formats),
            (found.container_format, self._config.images.container_formats),
        ):
            if name not in known:
                raise FetchError(f"the image's format {name[:40]!r} is not known here")
        before = self._registry.show(job.image_id, ALL)
        properties = {
            name: value
            for name, value in found.properties.items()
            if job.may("update" if name in before.properties else "create", name)
        }
        self._redescribe(job, found.disk_format, found.container_format, properties, ())
        try:
            self._fetch(job, marks, Wanted(f"{remote.url}/file", remote.headers, found.size))
        except BaseException:
            restored = {name: before.properties[name] for name in properties if name in before.properties}
            with suppress(CasimgError):
                self._redescribe(job, before.disk_format, before.container_format, restored, properties)
            raise

    def _redescribe(
        self,
        job: Job,
        disk_format: str | None,
        container_format: str | None,
        properties: Mapping[str, str],
        without: Collection[str],
    ) -> None:
        def change(row: ImageRow) -> Edit:
            kept = {name: value for name, value in row.properties.items() if name not in without}
            return Edit(disk_format=disk_format, container_format=container_format, properties={**kept, **properties})

        change_image(self._registry, job.image_id, change)

    def _copy(self, job: Job, marks: Marks) -> None:
        """Copy an image to each store in turn; what was copied goes again when one that must succeed fails."""
        made: list[str] = []
        failure: Exception | None = None
        said = _Saying(self._tasks, job)
        try:
            for store in job.stores:
                try:
                    size = self._registry.show(job.image_id, ALL).size or 0
                    for limit in copy_limits_of(self._registry, self._config.data, job.project_id):
                        limit.check(size)
                    self._registry.copy(job.image_id, store, progress=said, cancel=self._stopping)
                    made.append(store)
                    marks.note(store, None)
                except CopyExistsError:
                    marks.note(store, None)
                except CancelledError:
                    raise StoppedError from None
                except _OF_THE_IMAGE:
                    raise
                except (CasimgError, HttpError) as error:
                    failure = error
                    marks.note(store, error)
                    if job.must_all:
                        raise
            if failure is not None and not made:
                raise failure
        except BaseException:
            self._take_back(job, made)
            raise

    def _take_back(self, job: Job, stores: Collection[str]) -> None:
        for store in stores:
            with suppress(NotFoundError, ConflictError):
                self._registry.remove_copy(job.image_id, store)


class _Saying:
    """Tells in a task how far a copy is; raises TaskEndedError when the task was taken for dead."""

    def __init__(self, tasks: "Tasks", job: Job) -> None:
        self._tasks = tasks
        self._task_id = job.task_id
        self._said_s = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= SAY_EVERY_S:
            self._said_s = now_s
            self._tasks.say(self._task_id, f"Copied {progress.done_size >> 20} MiB")
