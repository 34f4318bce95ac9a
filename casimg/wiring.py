"""The parts of an open repository, wired: what `Repository` and the work it hands out share.

Its one task beyond holding parts is to make the index cover what is about to be read.
"""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from casimg.assemble import ContentReader, PackRef, Patience
from casimg.backend.base import Backend
from casimg.buffers import BufferBudget
from casimg.catalog import Catalog, ContentRow, PackRow, reading
from casimg.chunker import Chunker, ChunkerParams, open_chunker
from casimg.distrust import Distrust
from casimg.errors import (
    BackendUnavailableError,
    CasimgError,
    CatalogDamagedError,
    ClosedError,
    DamageError,
    ForkError,
    ImageDeletedError,
    IndexDamagedError,
    NoSpaceError,
    StoreNotFoundError,
)
from casimg.formats.config import DEFAULT_BACKEND, RepositoryConfig, SiteConfig
from casimg.formats.pack import PackTrailer
from casimg.frames import FrameCache
from casimg.ids import ContentId, NodeId, PackId, SessionId
from casimg.index import FollowReport, Index, follow
from casimg.index.entries import EntryLists, TrailerCache
from casimg.kept import KeptSegments
from casimg.manifest.walk import Tree
from casimg.pack.keys import pack_key
from casimg.pack.reader import read_trailer, salvage
from casimg.packing import PackLine
from casimg.read_ahead import ReadAhead
from casimg.reserve import Reserve

_log = logging.getLogger("casimg.index")

PACK_STATES_FINDABLE = ("live", "condemned")
"""Packs in these states still have their object; a content may name them."""


_SHARED_BUFFER_COUNT = 24  # 96 MiB, and as much for the frames made of them
_SHARED_TRAILER_COUNT = 96  # of full packs with 16 KiB chunks about 50 MiB
_READ_BACK_COUNT = 4  # 32 MiB
_READ_TRAILER_COUNT = 64  # about 35 MiB
_KEPT_READER_COUNT = 16  # with their nodes, 4 MiB each at most

_LOCAL_LAG_MAX_S = 1.0
"""A local file system shows at once what was put; network ones are given this long."""


class PackWithTrailer(Protocol):
    """What must be known of a pack to load its entry list."""

    @property
    def pack_no(self) -> int: ...
    @property
    def pack_id(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def trailer_offset(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """What uploads, and downloads, have together, so that memory does not grow with their number."""

    buffers: BufferBudget = field(default_factory=lambda: BufferBudget(_SHARED_BUFFER_COUNT))
    trailers: TrailerCache = field(default_factory=lambda: TrailerCache(_SHARED_TRAILER_COUNT, salvaged=False))
    read_backs: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_READ_BACK_COUNT))
    """Who reads back what it has taken in holds one: each needs two more segment buffers."""
    distrust: Distrust = field(default_factory=Distrust)
    kept: KeptSegments = field(default_factory=KeptSegments)
    """Of what was read; nothing until somebody lets it have memory."""


@dataclass(slots=True, eq=False)
class Wiring:
    """Parts of one open repository, with one of its backends; the others have a wiring each, its peers.

    Catalog, spool, reserve, memory and frames are the peers' together; backend, index, and what the catalog shows of
    packs are a wiring's own. So a way is given the wiring of the backend it is about, and knows of no other.

    Threads: any of the process that opened it.
    """

    path: Path
    site: SiteConfig
    config: RepositoryConfig
    backend: Backend
    backend_id: int
    catalog: Catalog
    index: Index
    spool: Path
    reserve: Reserve
    opened_pid: int = field(default_factory=os.getpid)
    closed: bool = False
    frames: FrameCache = field(default_factory=FrameCache)
    patience: Patience = field(default_factory=lambda: Patience(_LOCAL_LAG_MAX_S))
    shared: SharedMemory = field(default_factory=SharedMemory)
    peers: "list[Wiring]" = field(default_factory=list)
    """Of all backends, the default one's first; one list, which all of them have."""
    _readers: "OrderedDict[ContentId, tuple[tuple[ContentId, ...], ContentReader]]" = field(default_factory=OrderedDict)
    _read_lists: TrailerCache = field(default_factory=lambda: TrailerCache(_READ_TRAILER_COUNT))
    _readers_lock: threading.Lock = field(default_factory=threading.Lock)
    _read_ahead: ReadAhead | None = None
    _read_ahead_lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.peers.append(self)

    @property
    def home(self) -> "Wiring":
        """The wiring of the default backend."""
        return self.peers[0]

    def named(self, name: str) -> "Wiring":
        """Return the wiring of a backend. Raises: StoreNotFoundError."""
        for found in self.peers:
            if found.backend.name == name:
                return found
        raise StoreNotFoundError(name)

    def peer(self, backend_id: int | None) -> "Wiring":
        """Return the wiring of a backend by its number; None is the default one. Raises: BackendUnavailableError."""
        if backend_id is None:
            return self.home
        for found in self.peers:
            if found.backend_id == backend_id:
                return found
        why = "it was added after this program opened the repository; open it again"
        raise BackendUnavailableError(f"number {backend_id}", why)

    def of_content(self, content_id: ContentId) -> "Wiring":
        """Return the wiring of the backend where a content lies.

        Raises: ImageDeletedError, CatalogDamagedError, BackendUnavailableError.
        """
        try:
            return self.peer(self.catalog.content(content_id).backend_id)
        except CatalogDamagedError:
            raise self.gone(content_id) from None

    def check_open(self) -> None:
        """Raise ClosedError or ForkError when the repository cannot be used here and now."""
        if self.closed:
            raise ClosedError(f"repository {self.path}")
        if os.getpid() != self.opened_pid:
            raise ForkError(self.opened_pid, os.getpid())

    def read_ahead(self, threads: int) -> ReadAhead:
        """Return what all streams share; the first one says with how many threads."""
        if self is not self.home:
            return self.home.read_ahead(threads)
        with self._read_ahead_lock:
            if self._read_ahead is None:
                self._read_ahead = ReadAhead(threads, kept=self.shared.kept)
            return self._read_ahead

    def chunker(self) -> Chunker:
        """Return the repository's chunker. Raises: NativeMissingError."""
        return open_chunker(ChunkerParams.of(self.config.chunker_kind, self.config.chunk_size_avg))

    def load_trailer(self, pack: PackWithTrailer) -> PackTrailer:
        """Return the entry list of a pack; a damaged trailer is salvaged from the frames.

        Raises: ObjectNotFoundError, PackDamagedError when nothing can be salvaged.
        """
        key = pack_key(PackId(pack.pack_id))
        try:
            return read_trailer(self.backend, key, pack.size, pack.trailer_offset)
        except DamageError as damage:
            found = salvage(self.backend, key, pack.size)
            if not found.entry_count:
                raise
            _log.warning("pack.trailer_salvaged pack_no=%d entries=%d why=%s", pack.pack_no, found.entry_count, damage)
            return found

    def apply(self, packs: Iterable[PackRow]) -> FollowReport:
        """Make the index cover these packs; ones it covers already cost nothing, others stay."""
        rows = {row.pack_no: row for row in packs}
        applied = self.index.applied()
        missing = [row for row in rows.values() if applied.get(row.pack_no) != row.pack_id]
        return follow(self.index, missing, lambda ref: self.load_trailer(rows[ref.pack_no]), drop_others=False)

    def follow(self, *, index: Index | None = None, on_pack: Callable[[int, int], None] | None = None) -> FollowReport:
        """Make the index, or another one, cover all findable packs of the catalog and no others."""
        rows = {row.pack_no: row for row in self.catalog.all_packs(PACK_STATES_FINDABLE)}
        return follow(
            self.index if index is None else index,
            rows.values(),
            lambda ref: self.load_trailer(rows[ref.pack_no]),
            drop_others=True,
            on_pack=on_pack,
        )

    def reader(
        self,
        content_id: ContentId,
        *,
        on_read: Callable[[], None] | None = None,
        patience: Patience | None = None,
        twins: Sequence[ContentId] = (),
        cache: TrailerCache | None = None,
    ) -> ContentReader:
        """Open a complete content for reading, on whatever backend: its packs are applied to the index first.

        Args:
            on_read: called before chunks are read.
            patience: how long to wait for objects that the backend does not show; None as configured.
            twins: contents of the same bytes on other backends, read from in this order when this one fails.
            cache: of entry lists; None for one of its own.
        Raises: ImageDeletedError when the image went meanwhile, CatalogDamagedError when it is there and its content
            or tree is not; BackendUnavailableError.
        """
        try:
            content = self.catalog.content(content_id)
        except CatalogDamagedError:
            raise self.gone(content_id) from None
        if twins and patience is None:
            patience = Patience(0.0)  # rather read elsewhere than wait
        return self.peer(content.backend_id)._reader(content, on_read, patience, twins, cache)

    def _reader(
        self,
        content: ContentRow,
        on_read: Callable[[], None] | None,
        patience: Patience | None,
        twins: Sequence[ContentId],
        cache: TrailerCache | None,
    ) -> ContentReader:
        content_id = content.content_id
        tree = plain_tree(content)

        def other() -> ContentReader | None:
            for number, twin in enumerate(twins, 1):
                try:
                    found = self.reader(twin, on_read=on_read, twins=twins[number:])
                except CasimgError as error:
                    _log.warning("twin.unreadable content=%s twin=%s why=%s", content_id, twin, error)
                    continue
                if found.tree == tree:
                    return found
            return None

        rows: dict[int, PackRow] = {}

        def refresh() -> Mapping[int, PackRef]:
            fresh = self.catalog.read(lambda connection: reading.packs_to_read(connection, content_id))
            if fresh is None:
                raise self.gone(content_id)
            rows.update((row.pack_no, row) for row in fresh)
            self._cover(fresh)
            return _refs({row.pack_no: row for row in fresh})

        packs = refresh()
        lists = EntryLists(lambda pack_no: self.load_trailer(rows[pack_no]), cache=cache)
        return ContentReader(
            content_id=content_id,
            tree=tree,
            packs=packs,
            backend=self.backend,
            index=self.index,
            lists=lists,
            refresh=refresh,
            cache=self.frames,
            patience=patience or self.patience,
            on_read=on_read,
            other=other,
        )

    def kept_reader(self, content_id: ContentId, twins: Sequence[ContentId] = ()) -> ContentReader:
        """Return a reader that may have been used before: it knows the packs and nodes, and asks again when they moved.

        Raises: as `reader`, when it is new; of a content that went meanwhile, reading raises.
        """
        key = tuple(twins)
        with self._readers_lock:
            known, found = self._readers.get(content_id, (None, None))
            if found is not None and known == key:
                self._readers.move_to_end(content_id)
                return found
        made = self.reader(content_id, twins=twins, cache=self._read_lists)
        with self._readers_lock:
            self._readers[content_id] = key, made
            while len(self._readers) > _KEPT_READER_COUNT:
                self._readers.popitem(last=False)
        return made

    def forget_reader(self, content_id: ContentId) -> None:
        """Let the next one who reads a content begin anew: what could not be read may be there again then."""
        with self._readers_lock:
            self._readers.pop(content_id, None)
        self._read_lists.drop_salvaged()

    def gone(self, content_id: ContentId) -> CasimgError:
        """Return what to raise for a content without a row: its image was deleted, or the catalog lost it."""
        if self.catalog.read(lambda connection: reading.is_named(connection, content_id)):
            return CatalogDamagedError(f"content {content_id}", "an image names it, but it has no complete row")
        return ImageDeletedError(content_id)

    def _cover(self, packs: Iterable[PackRow]) -> None:
        """Apply packs for a reader, which finds its way by the entry lists when the index is damaged or cannot grow."""
        try:
            self.apply(packs)
        except (IndexDamagedError, NoSpaceError) as error:
            _log.warning("index.not_applied why=%s", error)

    def pack_line(self, session_id: SessionId) -> PackLine:
        """Return a line that fills packs for a session and ships them."""
        return PackLine(
            session_id=session_id,
            catalog=self.catalog,
            backend=self.backend,
            backend_id=self.backend_id,
            index=self.index,
            spool=self.spool,
        )

    def end_session(self, session_id: SessionId) -> None:
        """Close a session that failed; what fails here is only logged, the first error is the one to tell."""
        try:
            self.reserve.spend(lambda: self.catalog.end_session(session_id))
        except CasimgError as error:  # its process's end, or its age, will fence it
            _log.warning("session.not_ended session=%s why=%s", session_id, error)

    def close(self) -> None:
        """Close every part, and those of the peers; twice is harmless."""
        for wiring in self.peers:
            if not wiring.closed:
                wiring.closed = True
                if wiring._read_ahead is not None:
                    wiring._read_ahead.close()
                wiring.index.close()
                wiring.catalog.close()
                wiring.backend.close()


def index_path(site: SiteConfig, backend: str) -> Path:
    """Return where the index of a backend's packs is."""
    path = site.folder / site.index_path
    return path if backend == DEFAULT_BACKEND else path.with_name(f"{path.name}-{backend}")


def open_index(site: SiteConfig, incarnation: str, path: Path | None = None) -> Index:
    """Open the index of the default backend's packs, or the one at a path."""
    return Index.open(
        index_path(site, DEFAULT_BACKEND) if path is None else path,
        site.repository_uuid,
        incarnation,
        map_size=site.index_map_size,
    )


def plain_tree(content: ContentRow) -> Tree:
    """Return the tree of a content's plain bytes."""
    for tree in content.trees:
        if tree.role == "plain":
            return Tree(None if tree.root is None else NodeId(tree.root), tree.size)
    raise CatalogDamagedError(f"content {content.content_id}", "it has no plain tree")


def _refs(rows: Mapping[int, PackRow]) -> dict[int, PackRef]:
    return {
        row.pack_no: PackRef(row.pack_no, pack_key(PackId(row.pack_id)), row.size, row.trailer_offset)
        for row in rows.values()
    }
