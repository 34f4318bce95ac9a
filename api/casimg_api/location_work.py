"""Images whose data stay on a web server: looked at, hashed, and held against what was said of them, in the background.

Without a hash to check the image is active at once, and hashed while it is used; what remains unhashed when a server
ends is hashed by the next one that starts. With one it is `importing` until the bytes have been read, and queued again
when they are others.
"""

import logging
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from casimg.catalog import ImageRow, Location
from casimg.catalog.task_rows import NewTask
from casimg.errors import BadStatusError, CasimgError, ImageLockedError, NotFoundError
from casimg.hashing import PassHashes
from casimg.locations import Located
from casimg_api.errors import HttpError
from casimg_api.fetch_rules import FetchRefusedError
from casimg_api.fetching import FetchError
from casimg_api.http_store import ElsewhereError, HttpStore
from casimg_api.import_data import ALL, SAY_EVERY_S, Job, StoppedError
from casimg_api.import_marks import LOCK
from casimg_api.quota import copy_limits_of
from casimg_api.views import HASH_ALGORITHM

if TYPE_CHECKING:
    from casimg.tasks import Tasks
    from casimg_api.config import Config
    from casimg_api.importing import Imports
    from casimg_api.ports import RegistryPort

_log = logging.getLogger("casimg_api.location_work")
LOOK_EVERY_S: Final = 1.0
"""So often it is looked whether the image is still there."""
RETRY_AFTER_S: Final = 1.0
_FAILURES: Final = (FetchRefusedError, FetchError, ElsewhereError)


class LocationWork:
    """What is done with images whose data stay elsewhere. Threads: any.

    Args:
        store: None where no data can be elsewhere; then there are no jobs.
        stopping: set when the process ends; what is at work then raises StoppedError.
    """

    def __init__(
        self,
        registry: "RegistryPort",
        tasks: "Tasks",
        config: "Config",
        store: HttpStore | None,
        stopping: threading.Event,
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._config = config
        self._store = store
        self._stopping = stopping

    def do(self, job: Job) -> None:
        """Do all of a job. Raises: what goes wrong; an image that was not active before is queued again then."""
        store, url = self._store, job.uri
        if store is None or url is None:
            raise HttpError(400, "No store of this site takes data by their location.")
        row = self._registry.show(job.image_id, ALL)
        if row.status == "queued":
            row = self._enter(job, store, url)
        try:
            if row.hash_algo is not None and row.hash_algo not in row.hashes:
                self._hash(job, store, row, row.hash_algo)
        except BaseException:
            with suppress(CasimgError):
                self._registry.locations().give_up(job.image_id, only_waiting=True)
            raise

    def _enter(self, job: Job, store: HttpStore, url: str) -> ImageRow:
        """Make the location the image's."""
        try:
            size = store.size(url)
        except _FAILURES as error:
            raise HttpError(400, f"Invalid location: {error}.") from None
        for limit in copy_limits_of(self._registry, self._config.data, job.project_id):
            limit.check(size)
        algo, value = job.said_hash or (HASH_ALGORITHM if self._config.images.do_secure_hash else None, None)
        is_checked = self._config.images.do_secure_hash and job.said_hash is not None
        name = self._config.http_store.name
        metadata = {"store": name} if self._config.store.multi_store else {}
        located = Located(
            (Location(url, metadata),), size=size, hash_algo=algo, hash_value=None if is_checked else value
        )
        return self._registry.locations().begin(job.image_id, located, is_checked=is_checked)

    def _hash(self, job: Job, store: HttpStore, row: ImageRow, algo: str) -> None:
        """Compute the hashes of an image, and hold them against what was said. Raises: HttpError 400, StoppedError."""
        tried = 0
        while True:
            try:
                value, checksum = self._digests(job, store, row, algo)
                break
            except _FAILURES as error:
                _log.warning("location.not_hashed image=%s try=%d why=%s", row.id, tried, error)
                tried += 1
                if tried > store.retry_count:
                    if row.status == "importing":
                        raise HttpError(400, f"Hash calculation failed for image {row.id} data: {error}") from None
                    self._registry.locations().give_up(row.id)
                    return
                if self._stopping.wait(RETRY_AFTER_S):
                    raise StoppedError from None
        if job.said_hash is not None and job.said_hash[1] != value:
            raise HttpError(
                400, f"os_hash_value: ({job.said_hash[1]}) not matched with actual os_hash_value: ({value})"
            )
        self._registry.locations().finish(row.id, algo, value, checksum)

    def _digests(self, job: Job, store: HttpStore, row: ImageRow, algo: str) -> tuple[str, str]:
        """Return the hash and the md5 of what is at an image's first location."""
        hashes = PassHashes({algo, "md5"})
        began_s = said_s = looked_s = time.monotonic()
        url = row.locations[0].url
        with closing(hashes), closing(store.open(row, url, 0, row.size or 0, verify=False)) as stream:
            for _ in hashes.passing(stream):
                if self._stopping.is_set():
                    raise StoppedError
                now_s = time.monotonic()
                if now_s - began_s > self._config.image_import.time_max_s:
                    raise FetchError("it takes too long")
                if now_s - looked_s >= LOOK_EVERY_S:
                    looked_s = now_s
                    self._registry.show(row.id, ALL)  # nothing is hashed for an image that is gone
                if now_s - said_s >= SAY_EVERY_S:
                    said_s = now_s
                    self._tasks.say(job.task_id, f"Hashed {hashes.size >> 20} MiB")
            found = hashes.digests()
        return found[algo], found["md5"]


def go_on_hashing(registry: "RegistryPort", tasks: "Tasks", imports: "Imports") -> None:
    """Have images hashed that were not when a server ended; what somebody works at is left to him."""
    if imports.http_store is None:
        return
    for image_id in registry.locations().unhashed():
        with suppress(NotFoundError, BadStatusError, ImageLockedError, HttpError):
            row = registry.show(image_id, ALL)
            if LOCK in row.properties:
                continue
            url = row.locations[0].url
            given = {"image_id": image_id, "loc_url": url, "validation_data": {}}
            task = tasks.create(NewTask("location_import", row.owner, image_id=image_id, input=given))
            job = Job("location", image_id, task.id, row.owner, (), uri=url)
            try:
                imports.lock(job, row.status)
                try:
                    imports.begin(job)
                except HttpError:
                    imports.unlock(job)
                    raise
            except (CasimgError, HttpError):
                tasks.fail(task.id, "it could not be begun")
                raise


__all__ = ["LocationWork", "go_on_hashing"]
