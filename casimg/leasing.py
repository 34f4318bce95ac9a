"""Leases of readers: what is being read is not collected, even when its image is deleted meanwhile.

Best effort on every path: a read that cannot take a lease (a full disk, a busy or read-only catalog) goes on without
one. It then risks the answer "image deleted" in the middle, never a wrong byte.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection

from casimg.assemble import ContentReader
from casimg.catalog import STORED_STATUSES, Catalog, ImageRow, reading
from casimg.errors import CasimgError, ImageNotFoundError
from casimg.ids import ContentId
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.leasing")
LEASE_DURATION_S: Final = 3600.0
_left: dict[str, set[str]] = {}
"""By repository: leases of reads of this process that are over, and whose row could not be removed (a full disk)."""


def left_leases(wiring: Wiring) -> set[str]:
    """Return the ids of ended leases that are still in the catalog; whoever removes their rows takes them out."""
    return _left.setdefault(wiring.config.repository_uuid, set())


class ReadLease:
    """A lease on one content, taken when this is made.

    Args:
        ref: what the caller named the image, for the error when it is gone.
        duration_s: how long it holds without progress; when half of it is over, `touch` renews it.
        clock: monotonic seconds.
        left: takes the id when the row cannot be removed at the end.
    Threads: any.
    Raises: ImageNotFoundError when the content is gone.
    """

    def __init__(
        self,
        catalog: Catalog,
        content_id: ContentId,
        ref: str,
        *,
        duration_s: float = LEASE_DURATION_S,
        clock: Callable[[], float] = time.monotonic,
        left: set[str] | None = None,
    ) -> None:
        self._catalog = catalog
        self._content_id = content_id
        self._duration_s = duration_s
        self._clock = clock
        self._lock = threading.Lock()
        self._lease_id = secrets.token_hex(16)
        self._renewed_s = clock()
        self._ended = False
        self._left = set() if left is None else left
        self._pid = os.getpid()
        self.held = self._try(self._take)
        if self.held is False:
            raise ImageNotFoundError(ref)

    def touch(self) -> None:
        """Say that the read makes progress; costs nothing until half of the lease is over."""
        if self._clock() - self._renewed_s < self._duration_s / 2 or not self._lock.acquire(blocking=False):
            return
        try:
            if not self._ended:
                self._renewed_s = self._clock()
                self.held = self._try(self._renew)
        finally:
            self._lock.release()

    def end(self) -> None:
        """Give the content free; twice is harmless."""
        with self._lock:
            # A child that closes what it inherited by a fork must not touch its parent's database.
            if not self._ended and os.getpid() == self._pid:
                self._ended = True
                if self._try(self._drop) is None:
                    self._left.add(self._lease_id)

    def _drop(self, connection: Connection) -> bool:
        reading.drop_lease(connection, self._lease_id)
        return True

    def _take(self, connection: Connection) -> bool:
        return reading.take_lease(connection, self._lease_id, self._content_id, self._duration_s)

    def _renew(self, connection: Connection) -> bool:
        # A read that stood still longer than its lease begins a new one, if there is still something to hold.
        return reading.renew_lease(connection, self._lease_id, self._duration_s) or self._take(connection)

    def _try(self, work: Callable[[Connection], bool]) -> bool | None:
        """Run one short transaction once; None when it failed, which is logged and costs the read nothing."""
        try:
            return self._catalog.transaction(work, try_count=1)
        except CasimgError as error:
            _log.warning("lease.failed content=%s why=%s", self._content_id, error)
            return None


class LateLease:
    """A lease on an image's content that is taken when it turns out to be needed. Threads: any, `take` one.

    Raises: ImageNotFoundError when the image is not stored.
    """

    def __init__(self, wiring: Wiring, image: ImageRow) -> None:
        self.content_id = _content_of(image)
        self._wiring = wiring
        self._image_id = image.id
        self._lease: ReadLease | None = None

    def take(self) -> None:
        """Take it, once. Raises: ImageNotFoundError when the content is gone."""
        if self._lease is None:
            left = left_leases(self._wiring)
            self._lease = ReadLease(self._wiring.catalog, self.content_id, self._image_id, left=left)

    def touch(self) -> None:
        """As ReadLease.touch, if there is one."""
        if self._lease is not None:
            self._lease.touch()

    def end(self) -> None:
        """As ReadLease.end, if there is one."""
        if self._lease is not None:
            self._lease.end()


def open_leased(wiring: Wiring, image: ImageRow) -> tuple[ContentReader, ReadLease]:
    """Open an image's content for reading under a lease; the caller ends the lease, and says who may read what.

    Raises: ImageNotFoundError when the image is not stored or its content went meanwhile.
    """
    content_id = _content_of(image)
    lease = ReadLease(wiring.catalog, content_id, image.id, left=left_leases(wiring))
    try:
        return wiring.reader(content_id, on_read=lease.touch), lease
    except BaseException:
        lease.end()
        raise


def _content_of(image: ImageRow) -> ContentId:
    if image.status not in STORED_STATUSES or image.content_id is None:
        raise ImageNotFoundError(image.id)
    return image.content_id


@contextmanager
def leased_reader(wiring: Wiring, image: ImageRow) -> Iterator[ContentReader]:
    """Give a reader of an image's content, under a lease that ends with the block. Raises: as open_leased."""
    reader, lease = open_leased(wiring, image)
    try:
        yield reader
    finally:
        lease.end()
