"""The cache of whole images that a server keeps on a disk of its own, in front of a repository that is far away.

The first whole download of an active image writes it on its way out, or a thread of the process fetches what was asked
for; later downloads, and ranges, are read from the file. Who may have an image is decided before, by the catalog. A
file that cannot be used is removed, and the repository is read from where it stops: clients notice nothing.

Files decide, rows of the catalog tell: what is lost of them is found by `clean`.
"""

import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from casimg.catalog import ImageRow
from casimg.errors import CasimgError, DamageError, ImageNotFoundError
from casimg.ids import ContentId, ImageId, chunk_id
from casimg.registry import Viewer
from casimg_api.cache_folder import CacheFolder, Fill
from casimg_api.cache_streams import CachedStream, FillingStream, Parts
from casimg_api.cached_file import CachedFile, CachedFileError
from casimg_api.errors import HttpError

if TYPE_CHECKING:
    from casimg.catalog.image_cache import CachedImage, State
    from casimg.image_cache import ImageCache
    from casimg.kept import KeptSegments
    from casimg_api.config import CacheConfig
    from casimg_api.ports import RegistryPort

_log = logging.getLogger("casimg_api.caching")

LOOK_EVERY_S: Final = 5.0
"""So often a process counts its hits, and looks for what other processes queued or deleted."""
RETRY_AFTER_S: Final = 60.0
SLOW_FILL_S: Final = 60.0
"""An image that others want too is fetched when a client has been taking it, and so filling the cache, this long."""
_STOP_TIME_MAX_S: Final = 20.0
_FINISHERS: Final = 2
_NODE_COUNT_MAX: Final = 255
_ALL: Final = Viewer(None, is_admin=True)


_TRUSTED: Final = ("sha256", "sha512")
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_KEY_COUNT: Final = 32
Elsewhere = Callable[[ImageRow, int, int], Parts]


def node_of(config: "CacheConfig") -> str:
    """Return the name under which a server tells what it has: of this host and folder, unless it was given one."""
    if config.worker_self_reference_url:
        return config.worker_self_reference_url
    name = f"{socket.gethostname()}:{Path(config.image_cache_dir).resolve()}"
    return name if len(name) <= _NODE_COUNT_MAX else f"{name[:180]}:{chunk_id(name.encode()).hex()}"


def cache_key(row: ImageRow) -> ContentId | None:
    """Return what names an image's bytes in a cache: its content, or the hash that data elsewhere are held against.

    None when nothing does: then the bytes may be others with each download.
    """
    if row.content_id is not None or row.hash_algo not in _TRUSTED:
        return row.content_id
    value = row.hashes.get(row.hash_algo, "")[:_KEY_COUNT]
    return ContentId(value) if _KEY.fullmatch(value) else None


class Caching:
    """The cache of one server, as one of its processes uses it. Threads: any.

    Args:
        kept: where segments are kept in memory; None keeps none.
    Raises: ConfigError for a folder that cannot be used.
    """

    def __init__(
        self, registry: "RegistryPort", rows: "ImageCache", config: "CacheConfig", kept: "KeptSegments | None" = None
    ) -> None:
        self.folder = CacheFolder(Path(config.image_cache_dir))
        self.rows = rows
        self.elsewhere: Elsewhere | None = None
        """Opens images whose data are on web servers, when there may be some."""
        self._kept = kept
        self._registry = registry
        self._config = config
        self._hits: dict[ImageId, int] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._finishers = ThreadPoolExecutor(_FINISHERS, thread_name_prefix="casimg-cache-file")
        self._retry_at_s: dict[ImageId, float] = {}

    # Downloads

    def open(self, row: ImageRow, start: int, end: int) -> "CachedStream | None":
        """Return bytes [start, end) of an active image from its file, of which the first part was checked.

        None when there is no file that can be used.
        """
        try:
            file = self.folder.open(row.id)
        except CachedFileError as error:
            self._give_up(row.id, error, None)
            return None
        except OSError as error:
            _log.warning("cache.not_opened image=%s why=%s", row.id, error)
            return None
        if file is None:
            return None
        if file.content_id != cache_key(row) or file.size != row.size:
            self._give_up(row.id, CachedFileError(row.id, "it is of other bytes than the image has"), file)
            file.close()
            return None
        try:
            stream = CachedStream(file, start, end, partial(self._go_on, row, file), self._kept)
        except CachedFileError as error:
            self._give_up(row.id, error, file)
            file.close()
            return None
        with self._lock:
            self._hits[row.id] = self._hits.get(row.id, 0) + 1
        return stream

    def filling(self, row: ImageRow, stream: Parts) -> Parts:
        """Return a stream of a whole image that also fills the cache, unless another one does, or there is no room."""
        key = cache_key(row)
        if key is None or row.size is None or not self.fits(row):
            return stream
        try:
            fill = self.folder.begin(row.id, key, row.size)
            if fill is not None:
                return FillingStream(stream, fill, self._finish_soon)
            if self.folder.fill_age_s(row.id) > SLOW_FILL_S:
                self.enqueue(row.id)
        except (OSError, CasimgError) as error:
            _log.warning("cache.not_filled image=%s why=%s", row.id, error)
        return stream

    def fits(self, row: ImageRow) -> bool:
        """Tell whether there may be, and is, room for an image."""
        size = (row.size or 0) - row.hole_size
        return size <= self._config.image_cache_max_size and self.folder.has_room(size)

    # What administrators ask for

    def state(self) -> "list[CachedImage]":
        """Return what the node has and shall have, oldest first."""
        self._tidy()
        return self.rows.images()

    def enqueue(self, image_id: ImageId) -> None:
        """Have an active image fetched soon. Raises: ImageNotFoundError."""
        if self.rows.enqueue(image_id):
            self._wake.set()

    def has(self, image_id: ImageId) -> bool:
        """Tell whether an image is cached or queued."""
        return any(image.image_id == image_id for image in self.rows.images())

    def forget(self, image_id: ImageId) -> None:
        """Take an image from the cache and the queue."""
        self.rows.drop(image_id)
        self.folder.remove(image_id)

    def forget_quietly(self, image_id: ImageId) -> None:
        """Take an image away that was deleted; what fails is done by a later look."""
        try:
            self.forget(image_id)
        except CasimgError as error:
            _log.warning("cache.not_forgotten image=%s why=%s", image_id, error)

    def clear(self, state: "State") -> int:
        """Take everything from the cache, or from the queue; return how much."""
        images = {image.image_id for image in self.rows.images(state)}
        for image_id in images:
            self.rows.drop(image_id, state)
        if state == "cached":
            images.update(self._names())
            for image_id in images:
                self.folder.remove(image_id)
        return len(images)

    def clean(self) -> int:
        """Bring folder and rows together: remove what is unfinished, damaged, untold or of deleted images.

        Returns how many files and rows went.
        """
        self._tidy()
        removed = 0
        with suppress(OSError):
            removed = self.folder.sweep(self._config.image_cache_stall_time)
        cached = {image.image_id for image in self.rows.images("cached")}
        names = set(self._names())
        for image_id in names - cached:
            # Between its name and its row a file has its writer's lock; a look at the rows after that is a new one.
            if not self.folder.is_filled_now(image_id) and not self._is_told(image_id):
                removed += self.folder.remove(image_id)
        for image_id in cached:
            if image_id not in names or not self._is_good(image_id):
                removed += self.rows.drop(image_id, "cached")
        if removed:
            _log.info("cache.cleaned node=%s removed=%d", self.rows.node, removed)
        return removed

    def prune(self) -> tuple[int, int]:
        """Remove what was not used for longest until the rest is small enough; return files and bytes."""
        self._count_hits()
        cached = sorted(self.rows.images("cached"), key=lambda image: image.accessed_at)
        left = sum(image.stored_size for image in cached)
        file_count = size = 0
        for image in cached:
            if left <= self._config.image_cache_max_size:
                break
            left -= image.stored_size
            if self.rows.drop(image.image_id, "cached"):  # no other process pruned it
                self.folder.remove(image.image_id)
                file_count += 1
                size += image.stored_size
        if file_count:
            _log.info("cache.pruned node=%s files=%d bytes=%d", self.rows.node, file_count, size)
        return file_count, size

    # Work in the background

    def begin(self) -> None:
        """Start the thread that fetches and tidies up; in the process that serves, after all forks."""
        self._thread = threading.Thread(target=self._work, name="casimg-cache", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is whole and give up the rest. Never raises."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_TIME_MAX_S)
        self._finishers.shutdown()
        with suppress(CasimgError):
            self._count_hits()

    def _work(self) -> None:
        self._try(self.clean)
        while not self._stopping.is_set():
            self._try(self._tidy)
            self._try(self._fetch_queued)
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except CasimgError as error:
            _log.warning("cache.look_failed node=%s why=%s", self.rows.node, error)
        except Exception:
            _log.exception("cache.look_failed node=%s", self.rows.node)

    def _tidy(self) -> None:
        """Count hits, and remove what was deleted by others."""
        self._count_hits()
        for image_id in self.rows.gone():
            _log.info("cache.image_gone image=%s", image_id)
            self.forget(image_id)

    def _count_hits(self) -> None:
        with self._lock:
            hits, self._hits = self._hits, {}
        if hits:
            self.rows.count_hits(hits)

    def _fetch_queued(self) -> None:
        for image in self.rows.images("queued"):
            if self._stopping.is_set():
                return
            if time.monotonic() >= self._retry_at_s.get(image.image_id, 0.0):
                self._retry_at_s.pop(image.image_id, None)
                self._fetch(image.image_id)

    def _fetch(self, image_id: ImageId) -> None:
        try:
            row = self._registry.show(image_id, _ALL)
            key = cache_key(row)
            if row.status != "active" or key is None or row.size is None:
                raise ImageNotFoundError(image_id)
            if (row.size - row.hole_size) > self._config.image_cache_max_size:
                _log.warning("cache.too_large image=%s size=%d", image_id, row.size)
                self.rows.drop(image_id, "queued")
            elif not self.folder.has_room(row.size - row.hole_size):
                _log.warning("cache.no_room image=%s size=%d", image_id, row.size)
                self._retry_at_s[image_id] = time.monotonic() + RETRY_AFTER_S
            elif (fill := self.folder.begin(image_id, key, row.size, is_fetch=True)) is not None:
                self._fill(row, fill)
        except (ImageNotFoundError, DamageError) as error:
            _log.warning("cache.not_fetched image=%s why=%s", image_id, error)
            self.rows.drop(image_id, "queued")
        except (OSError, CasimgError, HttpError) as error:
            _log.warning("cache.not_fetched image=%s why=%s", image_id, error)
            self._retry_at_s[image_id] = time.monotonic() + RETRY_AFTER_S

    def _fill(self, row: ImageRow, fill: Fill) -> None:
        """Write an image whose lock this thread has, unless it is there by now."""
        try:
            if not self._is_queued(row.id):
                return
            with closing(self._stream(row, 0, row.size or 0)) as stream:
                look_at_s = time.monotonic() + LOOK_EVERY_S
                while (part := next(stream, None)) is not None:
                    fill.write(part)
                    if self._stopping.is_set():
                        return
                    if time.monotonic() >= look_at_s:
                        look_at_s = time.monotonic() + LOOK_EVERY_S
                        self._tidy()
                        if not self._is_queued(row.id):
                            return
            if self._enter(fill, only_queued=True):
                self.prune()
        finally:
            fill.abandon()

    def _go_on(self, row: ImageRow, file: CachedFile, error: CachedFileError, start: int, end: int) -> Parts:
        """Return from the repository what a file could not give. Raises: as `Registry.stream`."""
        self._give_up(row.id, error, file)
        return self._stream(row, start, end)

    def _stream(self, row: ImageRow, start: int, end: int) -> Parts:
        """Return bytes of an image from where they lie. Raises: as `Registry.stream`, HttpError."""
        if row.content_id is None and self.elsewhere is not None:
            return self.elsewhere(row, start, end)
        return self._registry.stream(row, start, end)

    def _finish_soon(self, fill: Fill) -> None:
        """Make a file that is whole one of the cache, while its client goes on already."""
        try:
            self._finishers.submit(self._finish, fill)
        except RuntimeError:  # the process ends
            fill.abandon()

    def _finish(self, fill: Fill) -> None:
        try:
            if self._enter(fill, only_queued=False):
                self.prune()
        except (OSError, ValueError, CasimgError) as error:
            _log.warning("cache.not_filled image=%s why=%s", fill.image_id, error)
        except Exception:
            _log.exception("cache.not_filled image=%s", fill.image_id)

    def _enter(self, fill: Fill, *, only_queued: bool) -> bool:
        def keep(size: int, stored_size: int) -> bool:
            return self.rows.keep(fill.image_id, size, stored_size, only_queued=only_queued)

        kept = fill.finish(keep)
        if kept:
            _log.info("cache.filled image=%s node=%s", fill.image_id, self.rows.node)
        return kept

    def _give_up(self, image_id: ImageId, error: CachedFileError, file: CachedFile | None) -> None:
        """Remove a file that cannot be used."""
        _log.warning("cache.dropped image=%s why=%s", image_id, error)
        if self.folder.remove(image_id, only=file):
            with suppress(CasimgError):
                self.rows.drop(image_id, "cached")

    def _is_good(self, image_id: ImageId) -> bool:
        """Tell whether a file is whole, without reading all of it; one that is not is removed."""
        try:
            file = self.folder.open(image_id)
        except CachedFileError as error:
            self._give_up(image_id, error, None)
            return False
        except OSError:
            return True
        if file is not None:
            file.close()
        return file is not None

    def _is_queued(self, image_id: ImageId) -> bool:
        return any(image.image_id == image_id for image in self.rows.images("queued"))

    def _is_told(self, image_id: ImageId) -> bool:
        return any(image.image_id == image_id for image in self.rows.images("cached"))

    def _names(self) -> list[ImageId]:
        try:
            return self.folder.images()
        except OSError as error:
            _log.warning("cache.not_listed folder=%s why=%s", self.folder.path, error)
            return []
