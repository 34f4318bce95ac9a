"""Fill packs in the spool and ship them: spool file -> backend -> catalog -> index, in that order.

The order is what keeps data alive: an object nobody knows is garbage, a row without its object would be a loss, an
index entry is only ever a hint. Shipping runs beside the ingest on one thread, in the order packs were filled.
"""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from casimg.backend.base import Backend, TakesFiles
from casimg.catalog import Catalog, NewPack
from casimg.constants import DOMAIN_DEFAULT, PACK_FLUSH_AFTER_S, PACK_SIZE_TARGET
from casimg.errors import NotFoundError, ObjectDamagedError
from casimg.ids import PackId, SessionId
from casimg.index import Index
from casimg.pack.keys import pack_key
from casimg.pack.writer import FinishedPack, SpoolPack

_log = logging.getLogger("casimg.packing")

_UNSHIPPED_MAX = 2  # packs finished but not yet durable; bounds the spool and what a crash repeats
_INDEX_BATCH_PACKS = 2  # about 25,000 entries; the last batch is written after the commit
_PENDING_COUNT_KEPT = 1 << 17
"""Ids that stay pending though the index shows their packs: 2 GiB of new chunks, 20 MiB of memory.

A set answers in a tenth of what the index takes, which gives the GIL away for each id while other threads want it.
"""


@dataclass(frozen=True, slots=True)
class ShippedPack:
    """A pack of this session that is durable and in the catalog; `serial` counts the packs of its line."""

    serial: int
    pack_no: int
    pack_id: bytes
    size: int
    trailer_offset: int


class PackLine:
    """Packs of one session: data and metadata apart, filled by `append`, shipped in the background.

    Args:
        clock: monotonic seconds.
    Threads: one caller; shipping has a thread of its own.
    """

    def __init__(
        self,
        *,
        session_id: SessionId,
        catalog: Catalog,
        backend: Backend,
        backend_id: int,
        index: Index,
        spool: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session_id = session_id
        self._catalog = catalog
        self._backend = backend
        self._backend_id = backend_id
        self._index = index
        self._spool = spool
        self._clock = clock
        self._open: dict[int, tuple[SpoolPack, float, int]] = {}
        self._count = 0
        self._shipper = ThreadPoolExecutor(1, thread_name_prefix="casimg-ship")
        self._shipping: list[Future[int]] = []
        self._unindexed: list[tuple[int, FinishedPack]] = []
        self._landed: queue.SimpleQueue[tuple[int, FinishedPack]] = queue.SimpleQueue()
        self.shipped: dict[int, ShippedPack] = {}
        self.stored_sizes: dict[int, int] = {}
        self._pending: set[bytes] = set()

    def is_pending(self, chunk: bytes) -> bool:
        """Tell whether this session stores the chunk already, in a pack that `landed` has not named yet."""
        return chunk in self._pending

    def claim(self, chunk: bytes) -> None:
        """Say that the chunk will be appended: from now on it is pending."""
        self._pending.add(chunk)

    def append(self, kind: int, frame: bytes, ids: Sequence[bytes], sizes: Sequence[int]) -> int:
        """Add an encoded frame to the pack of its kind, whose serial is returned; ships it when it is full or old."""
        if kind not in self._open:
            self._open[kind] = (SpoolPack(self._spool, kind, DOMAIN_DEFAULT), self._clock(), self._count)
            self._count += 1
        pack, born_s, serial = self._open[kind]
        pack.append(frame, ids, sizes)
        if pack.size >= PACK_SIZE_TARGET or self._clock() - born_s >= PACK_FLUSH_AFTER_S:
            self._ship(kind)
        return serial

    def landed(self) -> list[int]:
        """Return the numbers of packs whose chunks are no longer pending since the last call: the index shows them."""
        self._collect(wait_over=len(self._shipping))
        return self._settle() if len(self._pending) > _PENDING_COUNT_KEPT else []

    def flush(self) -> None:
        """Ship everything and wait until it is durable and in the catalog.

        Raises: what the backend, the catalog or the file system raise; SessionFencedError.
        """
        for kind in list(self._open):
            self._ship(kind)
        self._collect(wait_over=0)

    def publish(self) -> None:
        """Write the remaining packs to the index: done after the commit, which does not depend on it."""
        self._index_batch()

    def abandon(self) -> None:
        """End without a commit: what can still be shipped is, so that the next try finds it. Never raises."""
        try:
            self.flush()
            self._index_batch()
        except Exception as error:  # the failure that led here is the one to report
            _log.warning("packs.not_kept session=%s error=%s", self._session_id, error)
        for pack, *_ in self._open.values():
            pack.discard()
        self._open.clear()
        self._shipper.shutdown(wait=True)

    def discard(self) -> None:
        """End without a commit and keep nothing that is not stored yet. Never raises."""
        for pack, *_ in self._open.values():
            pack.discard()
        self._open.clear()
        self._shipper.shutdown(wait=True)

    def close(self) -> None:
        self._shipper.shutdown(wait=True)

    def _ship(self, kind: int) -> None:
        pack, _, serial = self._open.pop(kind)
        try:
            finished = pack.finish()
        except BaseException:
            pack.discard()
            raise
        self.stored_sizes[kind] = self.stored_sizes.get(kind, 0) + finished.size
        self._shipping.append(self._shipper.submit(self._ship_now, finished, serial))
        self._collect(wait_over=_UNSHIPPED_MAX)

    def _collect(self, *, wait_over: int) -> None:
        while self._shipping and (len(self._shipping) > wait_over or self._shipping[0].done()):
            self._shipping.pop(0).result()

    def _ship_now(self, pack: FinishedPack, serial: int) -> int:
        try:
            key = pack_key(PackId(pack.pack_id))
            if not (isinstance(self._backend, TakesFiles) and self._backend.take_file(key, pack.path)):
                with pack.path.open("rb") as source:
                    self._backend.put(key, source, pack.size)
            try:
                found = self._backend.stat(key)
            except NotFoundError:
                # What a fenced session puts is an orphan, and may be swept at once; then this raises what is true.
                self._catalog.heartbeat(self._session_id)
                raise
            if found.size != pack.size:
                raise ObjectDamagedError(key, None, f"the backend kept {found.size} of {pack.size} bytes")
        finally:
            pack.path.unlink(missing_ok=True)
        pack_no = self._catalog.insert_pack(
            self._session_id,
            NewPack(
                backend_id=self._backend_id,
                pack_id=pack.pack_id,
                kind=pack.kind,
                domain=pack.domain,
                size=pack.size,
                trailer_offset=pack.trailer_offset,
                plain_size=pack.trailer.plain_size,
                chunk_count=pack.trailer.entry_count,
            ),
        )
        _log.info("pack.stored pack_no=%d pack=%s size=%d", pack_no, pack.pack_id.hex(), pack.size)
        self.shipped[pack_no] = ShippedPack(serial, pack_no, pack.pack_id, pack.size, pack.trailer_offset)
        self._unindexed.append((pack_no, pack))
        if len(self._unindexed) >= _INDEX_BATCH_PACKS:
            self._index_batch()
        return pack_no

    def _index_batch(self) -> None:
        batch, self._unindexed = self._unindexed, []
        if batch:
            self._index.add_packs([(pack_no, pack.pack_id, pack.trailer) for pack_no, pack in batch])
            for item in batch:
                self._landed.put(item)

    def _settle(self) -> list[int]:
        pack_nos = []
        while not self._landed.empty():
            pack_no, pack = self._landed.get()
            self._pending.difference_update(pack.trailer.ids())
            pack_nos.append(pack_no)
        return pack_nos


class NoLine:
    """A pack line that only counts: for dry runs. Memory: the id of every chunk claimed."""

    def __init__(self) -> None:
        self.stored_sizes: dict[int, int] = {}
        self._claimed: set[bytes] = set()

    def is_pending(self, chunk: bytes) -> bool:
        return chunk in self._claimed

    def claim(self, chunk: bytes) -> None:
        self._claimed.add(chunk)

    def append(self, kind: int, frame: bytes, ids: Sequence[bytes], sizes: Sequence[int]) -> None:  # noqa: ARG002
        self.stored_sizes[kind] = self.stored_sizes.get(kind, 0) + len(frame)

    def landed(self) -> list[int]:
        return []

    def flush(self) -> None:
        """Nothing waits."""
