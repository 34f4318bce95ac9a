"""Leases of readers: what is being read is not collected, even when its image is deleted meanwhile.

Best effort on every path: a read that cannot take a lease (a full disk, a busy or read-only catalog) goes on without
one. It then risks the answer "image deleted" in the middle, never a wrong byte.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from sqlalchemy import Connection

from casimg.assemble import ContentReader
from casimg.catalog import STORED_STATUSES, Catalog, ImageRow, reading
from casimg.errors import (
    BackendUnavailableError,
    CasimgError,
    DamageError,
    DataElsewhereError,
    ImageNotFoundError,
    NotFoundError,
)
from casimg.ids import ContentId, ImageId
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.leasing")
L = TypeVar("L")
_OpenOne = Callable[[ContentId, Sequence[ContentId]], tuple[ContentReader, L]]
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
    """A lease on an image's content that is taken when it turns out to be needed. Threads: any, `take` one."""

    def __init__(self, wiring: Wiring, image: ImageRow, content_id: ContentId) -> None:
        self.content_id = content_id
        self._wiring = wiring
        self._image_id = image.id
        self._lease: ReadLease | None = None

    def take(self) -> None:
        """Take it, once. Raises: ImageNotFoundError when the content is gone."""
        if self._lease is None:
            self._lease = _lease(self._wiring, self._image_id, self.content_id)

    def touch(self) -> None:
        """As ReadLease.touch, if there is one."""
        if self._lease is not None:
            self._lease.touch()

    def end(self) -> None:
        """As ReadLease.end, if there is one."""
        if self._lease is not None:
            self._lease.end()


def open_leased(wiring: Wiring, image: ImageRow, stores: Sequence[str] = ()) -> tuple[ContentReader, ReadLease]:
    """Open an image's content for reading under a lease; the caller ends the lease, and says who may read what.

    An image that lies on several backends is read from the first one that can be read, and from others where that one
    turns out to be damaged.

    Args:
        stores: backends in the order in which they shall be tried, before all others; names without a copy say nothing.
    Raises: ImageNotFoundError when the image is not stored or its content went meanwhile, DataElsewhereError.
    """

    def open_one(content_id: ContentId, twins: Sequence[ContentId]) -> tuple[ContentReader, ReadLease]:
        lease = _lease(wiring, image.id, content_id)
        try:
            return wiring.reader(content_id, on_read=lease.touch, twins=twins), lease
        except BaseException:
            lease.end()
            raise

    return _open(wiring, image, stores, open_one)


def open_late(
    wiring: Wiring, image: ImageRow, stores: Sequence[str] = (), *, is_long: bool
) -> tuple[ContentReader, LateLease]:
    """As open_leased, with a reader that may have been used before, and a lease that is taken at once for a long read.

    Whoever reads says when something cannot be read, by `Wiring.forget_reader`, and then reads no more.
    """

    def open_one(content_id: ContentId, twins: Sequence[ContentId]) -> tuple[ContentReader, LateLease]:
        lease = LateLease(wiring, image, content_id)
        try:
            if is_long:
                lease.take()
            return wiring.kept_reader(content_id, twins), lease
        except BaseException:
            lease.end()
            raise

    return _open(wiring, image, stores, open_one)


def contents_of(image: ImageRow, stores: Sequence[str] = ()) -> list[ContentId]:
    """Return the contents of a stored image, those on `stores` first, in their order; none of any other image."""
    if image.status not in STORED_STATUSES or image.content_id is None:
        return []
    by_store = {copy.store: copy.content_id for copy in image.copies}
    if image.stores:
        by_store = {image.stores[0]: image.content_id, **by_store}
    preferred = [by_store[store] for store in stores if store in by_store]
    return list(dict.fromkeys([*preferred, image.content_id, *by_store.values()]))


def _open(wiring: Wiring, image: ImageRow, stores: Sequence[str], open_one: _OpenOne[L]) -> tuple[ContentReader, L]:
    if image.content_id is None and image.locations:
        raise DataElsewhereError(image.id)
    try:
        return _open_first(image, stores, open_one)
    except ImageNotFoundError:
        # It may have left the backends that it lay on when the row was read.
        now = wiring.catalog.image(image.id)
        if now.stores in ((), image.stores):
            raise
        return _open_first(now, stores, open_one)


def _open_first(image: ImageRow, stores: Sequence[str], open_one: _OpenOne[L]) -> tuple[ContentReader, L]:
    contents = contents_of(image, stores)
    for number, content_id in enumerate(contents, 1):
        try:
            return open_one(content_id, contents[number:])
        except (BackendUnavailableError, DamageError, NotFoundError) as error:
            if number == len(contents):
                raise
            _log.warning("image.read_elsewhere image=%s content=%s why=%s", image.id, content_id, error)
    raise ImageNotFoundError(image.id)


def _lease(wiring: Wiring, image_id: ImageId, content_id: ContentId) -> ReadLease:
    return ReadLease(wiring.catalog, content_id, image_id, left=left_leases(wiring))


@contextmanager
def leased_reader(wiring: Wiring, image: ImageRow) -> Iterator[ContentReader]:
    """Give a reader of an image's content, under a lease that ends with the block. Raises: as open_leased."""
    reader, lease = open_leased(wiring, image)
    try:
        yield reader
    finally:
        lease.end()
