"""Data of imports on their way into the repository: looked into when they are staged, or fetched.

Either begins when the image is claimed, so that what it is declared to be is final.
"""

import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from casimg.ids import ImageId
from casimg.image_file import ImageFile
from casimg.registry import Inspected, NewEntry, Viewer
from casimg_api.fetching import Fetcher, FetchError
from casimg_api.inspection import inspect_file, inspection_of
from casimg_api.property_protection import May, everything
from casimg_api.quota import limits_of
from casimg_api.remote_images import RemoteImage
from casimg_api.upload_body import ClientGoneError, UploadBody

if TYPE_CHECKING:
    from casimg.tasks import Tasks
    from casimg_api.config import Config
    from casimg_api.ports import RegistryPort
    from casimg_api.unified_limits import UnifiedLimits

ALL: Final = Viewer(None, is_admin=True)
_PART_SIZE: Final = 256 << 10
SAY_EVERY_S: Final = 10.0


class StoppedError(Exception):
    """The process ends; its imports are given back."""


Method = Literal["glance-direct", "web-download", "glance-download", "copy-image", "import", "location"]
"""How data come: Glance's methods; `import` of tasks that make their image; `location` of data that stay elsewhere."""


@dataclass(frozen=True, slots=True)
class Job:
    """One import.

    Args:
        project_id: whose quota counts.
        stores: where the data shall lie.
        must_all: whether it fails when one of them does, or only when all do.
        shows_stores: whether the image tells of them: clients know that there are several.
        uri: where to fetch from, for `web-download` and `import`.
        remote: the image of another service that is fetched, for `glance-download`.
        new: the image to make first, for `import`; it has the lock of the task from its beginning.
        said_hash: algorithm and value, in hexadecimal, that a client says data at a location have.
        may: which properties come along, for `glance-download`.
    """

    method: Method
    image_id: ImageId
    task_id: str
    project_id: str | None
    stores: tuple[str, ...]
    must_all: bool = True
    shows_stores: bool = False
    uri: str | None = None
    remote: RemoteImage | None = None
    new: NewEntry | None = None
    said_hash: tuple[str, str] | None = None
    may: May = everything


@dataclass(frozen=True, slots=True)
class Wanted:
    """Data to fetch; size in bytes when it is known before."""

    url: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    size: int | None = None


class Look:
    """Looks into staged data, once nobody can change any more what they are declared to be."""

    def __init__(self, registry: "RegistryPort", config: "Config", limits: "UnifiedLimits", job: Job) -> None:
        self._registry = registry
        self._config = config
        self._limits = limits
        self._job = job

    def inspect(self, file: ImageFile) -> Inspected:
        """Return what is known of the data. Raises: HttpError 413, FormatRefusedError."""
        row = self._registry.show(self._job.image_id, ALL)
        job = self._job
        for limit in limits_of(self._registry, self._config.data, job.project_id, len(job.stores)):
            limit.check(file.size)
        self._limits.check_staged(job.project_id, file.size)
        inspection = inspection_of(row, self._config.data)
        return Inspected(None if inspection is None else inspect_file(file, inspection))


class Download:
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
        try:
            yield from self._parts()
        except (FetchError, ClientGoneError):
            if self._stopping.is_set():  # which cuts what is under way
                raise StoppedError from None
            raise
        if self._stopping.is_set():
            raise StoppedError

    def _parts(self) -> Generator[bytes, None, None]:
        job = self._job
        row = self._registry.show(job.image_id, ALL)
        limits = limits_of(self._registry, self._config.data, job.project_id, len(job.stores))
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
                if now_s - said_s >= SAY_EVERY_S:
                    said_s = now_s
                    self._tasks.say(job.task_id, f"Copied {body.size >> 20} MiB")
                yield part

    def inspect(self) -> Inspected:
        """Return what is known of the data, all of which have come. Raises: HttpError 413, 415."""
        body = self._body
        if body is None:
            return Inspected(None)
        job = self._job
        for limit in limits_of(self._registry, self._config.data, job.project_id, len(job.stores)):
            limit.check(body.size)
        return Inspected(body.finish())
