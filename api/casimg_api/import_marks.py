"""What an image shows of its import: the property that locks it, the stores that are left, those that have failed."""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from casimg.catalog import ImageRow
from casimg.errors import CasimgError, ChangedMeanwhileError, NotFoundError, NotLockedError
from casimg.ids import ImageId
from casimg.registry import Edit
from casimg_api.import_data import ALL, Job

if TYPE_CHECKING:
    from casimg_api.ports import RegistryPort

_log = logging.getLogger("casimg_api.import_marks")

LOCK: Final = "os_glance_import_task"
IMPORTING_TO: Final = "os_glance_importing_to_stores"
FAILED_IN: Final = "os_glance_failed_import"
_ATTEMPTS_MAX: Final = 10


class Marks:
    """The marks of one import. Threads: one.

    Args:
        job: one that makes its image, or takes no data, leaves no marks but the lock.
    """

    def __init__(self, registry: "RegistryPort", job: Job) -> None:
        self._registry = registry
        self._job = job
        self._left = set(job.stores)
        self._failed: set[str] = set()

    def lock(self, status: str) -> None:
        """Give an image of this status to the job. Raises: ImageNotFoundError, BadStatusError, ImageLockedError."""
        job = self._job
        beside = {} if job.method == "location" else self._shown()
        self._registry.lock(job.image_id, LOCK, job.task_id, status=status, beside=beside)

    def note(self, store: str, error: Exception | None) -> None:
        """Show that a store has the data, or why not; never raises."""
        self._left.discard(store)
        if error is not None:
            self._failed.add(store)
            _log.warning("import.store_failed task=%s store=%s why=%s", self._job.task_id, store, error)
        if self._job.shows_stores and self._left:
            with suppress(CasimgError):
                change_image(self._registry, self._job.image_id, self._marked)

    def unlock(self, *, has_failed: bool) -> None:
        """Take the image from the job; an import that failed in no store of its own failed in all.

        Raises: NotLockedError, ImageNotFoundError.
        """
        self._left = set()
        if has_failed and not self._failed:
            self._failed = set(self._job.stores)
        beside = {} if self._job.new is not None or self._job.method == "location" else self._shown()
        self._registry.unlock(self._job.image_id, LOCK, self._job.task_id, beside=beside)

    def unlock_quietly(self, *, has_failed: bool) -> None:
        """Take the image from the job, if it is still there and the job's."""
        with suppress(NotFoundError, NotLockedError):
            self.unlock(has_failed=has_failed)

    def _marked(self, row: ImageRow) -> Edit:
        return Edit(properties={**row.properties, **self._shown()})

    def _shown(self) -> dict[str, str]:
        shows = self._job.shows_stores
        return _beside(self._left if shows else (), self._failed if shows else ())


def unlock(registry: "RegistryPort", image_id: ImageId, task_id: str, failed_in: Iterable[str] = ()) -> None:
    """Take an image from a task that is gone. Raises: NotLockedError, ImageNotFoundError."""
    registry.unlock(image_id, LOCK, task_id, beside=_beside((), failed_in))


def change_image(registry: "RegistryPort", image_id: ImageId, change: Callable[[ImageRow], Edit]) -> None:
    """Change an image as `change` says of what it is, whatever others change at the same time.

    Raises: ImageNotFoundError, ChangedMeanwhileError when others are always faster, BadStatusError.
    """
    for _ in range(_ATTEMPTS_MAX):
        row = registry.show(image_id, ALL)
        with suppress(ChangedMeanwhileError):
            registry.edit(image_id, change(row), revision=row.revision)
            return
    raise ChangedMeanwhileError(image_id)


def _beside(left: Iterable[str], failed: Iterable[str]) -> dict[str, str]:
    return {IMPORTING_TO: ",".join(sorted(left)), FAILED_IN: ",".join(sorted(failed))}
