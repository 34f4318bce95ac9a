"""From a source to a committed image: session, ingest, record, commit. Put and snapshot share this one way.

The order is the protocol's (DESIGN section 8): the session exists before the live list is read; packs are put, then
inserted; the record is put before the commit; the commit is one transaction. Whatever fails before it leaves no
image, and packs that the next try finds or `gc` takes.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from types import TracebackType

from casimg.catalog import ContentRow, ImageRow, NewContent, NewImage, PackRow, SessionRow, TreeRow
from casimg.catalog.members import members_of
from casimg.choices import LEVEL_DEFAULT, VISIBILITIES
from casimg.chunker import Chunker
from casimg.constants import DOMAIN_DEFAULT
from casimg.dedup import KnownChunks
from casimg.errors import (
    CasimgError,
    CatalogBusyError,
    CatalogDamagedError,
    DataElsewhereError,
    ImageNotFoundError,
    InputError,
    SessionFencedError,
)
from casimg.formats.pack import PackTrailer
from casimg.ids import ContentId, ImageId, NodeId, new_content_id, new_image_id
from casimg.images import image_of
from casimg.index.entries import EntryLists
from casimg.ingest import Ingest, IngestFigures, ingest, thread_count
from casimg.leasing import leased_reader
from casimg.packing import NoLine
from casimg.progress import ProgressCallback
from casimg.records import put_record
from casimg.results.images import ByteRange, Image, PutReport
from casimg.segments import SegmentWatch
from casimg.source import FileSource, Source, SourceLike, open_source
from casimg.wiring import SharedMemory, Wiring, plain_tree

_log = logging.getLogger("casimg.saving")
_NAME_SIZE_MAX = 255


@dataclass(frozen=True, slots=True)
class ImageFields:
    """What the caller says of the new image."""

    name: str
    disk_format: str = "raw"
    container_format: str = "bare"
    owner: str | None = None
    visibility: str = "private"
    properties: Mapping[str, str] = field(default_factory=dict)
    same_name: bool = False

    def check(self) -> None:
        """Raise InputError for what the catalog cannot keep."""
        if not self.name or len(self.name) > _NAME_SIZE_MAX or not self.name.isprintable():
            raise InputError(f"the name must have 1 to {_NAME_SIZE_MAX} printable characters, not {self.name[:80]!r}")
        for what, value in (("disk format", self.disk_format), ("container format", self.container_format)):
            if not value or len(value) > 20 or not value.isascii() or not value.replace("-", "").isalnum():
                raise InputError(f"the {what} {value[:40]!r} is none")
        if self.visibility not in VISIBILITIES:
            raise InputError(f"the visibility {self.visibility!r} is none")
        for key, value in self.properties.items():
            if not key or len(key) > 255 or len(value) > 65_000:
                raise InputError(f"the property {key[:40]!r} is empty or too long")


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """How to read the source."""

    allow_changes: bool = False
    threads: int = 0
    level: int = LEVEL_DEFAULT
    progress: ProgressCallback | None = None
    cancel: threading.Event | None = None


def put(wiring: Wiring, source: SourceLike, fields: ImageFields, options: SaveOptions) -> PutReport:
    """Store a source as a new image and commit it.

    Raises: SourceError, SourceChangedError, NameTakenError, CancelledError, NoSpaceError, TryAgainError.
    """
    return _save(wiring, source, fields, options, parent=None, changed=None)


def dry_run(wiring: Wiring, source: SourceLike, fields: ImageFields, options: SaveOptions) -> PutReport:
    """Read, cut, hash and compress a source and say what `put` would do; nothing is stored.

    Memory: an id per chunk that is not in the repository.
    """
    begin_s = time.monotonic()
    fields.check()
    chunker = wiring.chunker()
    opened = open_source(source)
    try:
        if not fields.same_name:
            wiring.catalog.check_name_free(fields.name)
        wiring.follow()
        live = {row.pack_no: row for row in wiring.catalog.all_packs(("live",)) if not row.damaged}
        known = KnownChunks(wiring.index, EntryLists(lambda pack_no: wiring.load_trailer(live[pack_no])), set(live))
        run = Ingest(
            chunker=chunker,
            level=options.level,
            known=known,
            line=NoLine(),
            threads=thread_count(options.threads),
            heartbeat=lambda: None,
            progress=options.progress,
            cancel=options.cancel,
            total_size=opened.size,
        )
        try:
            root = ingest(run, opened)
        finally:
            run.close()
        if isinstance(opened, FileSource) and not options.allow_changes:
            opened.check_unchanged()
        return _report(None, run.figures, root, begin_s)
    finally:
        opened.close()


def snapshot_of_disk(
    wiring: Wiring,
    source: SourceLike,
    parent: ImageRow,
    changed: list[ByteRange] | None,
    fields: ImageFields,
    options: SaveOptions,
) -> PutReport:
    """Store a disk as a snapshot of `parent`; with `changed`, only those ranges and their neighbourhood are read.

    It lies on the backend where its parent does.

    Raises: as put; ChangedMapError.
    """
    wiring = wiring.of_content(_content_of(parent))
    return _save(wiring, source, fields, options, parent=parent, changed=changed)


def snapshot_of_image(wiring: Wiring, parent: ImageRow, fields: ImageFields) -> PutReport:
    """Make an image that shares the content of a stored one: one row, whatever the size.

    Raises: ImageNotFoundError, NameTakenError.
    """
    begin_s = time.monotonic()
    fields.check()
    content, row = share(
        wiring, parent, lambda opened_at: _new_image(fields, parent.id, opened_at), unique_name=not fields.same_name
    )
    tree = plain_tree(content)
    return PutReport(
        image=image_of(row),
        size=tree.size,
        read_size=0,
        hole_size=content.hole_size,
        known_size=tree.size - content.hole_size,
        new_size=0,
        stored_size=0,
        metadata_size=0,
        duration_s=time.monotonic() - begin_s,
        root=None if tree.root is None else tree.root.hex(),
    )


def share(
    wiring: Wiring, parent: ImageRow, new: Callable[[datetime], NewImage], *, unique_name: bool
) -> tuple[ContentRow, ImageRow]:
    """Add an image to the content of an active one; its record is put before, and its packs are never looked at.

    Args:
        new: makes the image, given when the session began.
    Raises: ImageNotFoundError, NameTakenError.
    """
    content = _content_row(wiring, _content_of(parent))
    wiring = wiring.peer(content.backend_id)
    session = wiring.catalog.open_session("snapshot")
    try:
        image = new(session.opened_at)
        put_record(wiring, session.session_id, image, content, wiring.catalog.content_packs(content.content_id))
        row = wiring.catalog.snapshot_row(
            session.session_id, parent.id, image, unique_name=unique_name, recorded=content.content_id
        )
        return content, row
    except BaseException:
        wiring.end_session(session.session_id)
        raise


def _save(
    wiring: Wiring,
    given: SourceLike,
    fields: ImageFields,
    options: SaveOptions,
    *,
    parent: ImageRow | None,
    changed: list[ByteRange] | None,
) -> PutReport:
    begin_s = time.monotonic()
    fields.check()
    chunker = wiring.chunker()
    source = open_source(given)
    try:
        dirty = _dirty_blocks(wiring, source, parent, changed)
        # Refused before hours of reading; the commit decides for good.
        if not fields.same_name:
            wiring.catalog.check_name_free(fields.name)
        session = wiring.catalog.open_session("ingest")
        try:
            with Save(wiring, session, chunker, options, source.size) as save:
                return save.run(source, fields, parent, dirty, options.allow_changes, begin_s)
        except BaseException:
            wiring.end_session(session.session_id)
            raise
    finally:
        source.close()


def _dirty_blocks(
    wiring: Wiring, source: Source, parent: ImageRow | None, changed: list[ByteRange] | None
) -> list[tuple[int, int]] | None:
    if changed is None:
        return None
    from casimg.snapshot.changed_map import dirty_blocks

    if parent is None:
        raise InputError("a map of changed ranges needs the parent image it is relative to")
    if not isinstance(source, FileSource):
        raise InputError("a map of changed ranges needs a file or block device, not a stream")
    tree = plain_tree(_content_row(wiring, _content_of(parent)))
    return dirty_blocks("(ranges)", changed, source.size, tree.size)


def _content_row(wiring: Wiring, content_id: ContentId) -> ContentRow:
    """Return a parent's content. Raises: ImageDeletedError when the parent was deleted and collected meanwhile."""
    try:
        return wiring.catalog.content(content_id)
    except CatalogDamagedError:
        raise wiring.gone(content_id) from None


class Save:
    """One session, from its open to its commit: of a new image, or of one that is there and was claimed for it."""

    def __init__(
        self,
        wiring: Wiring,
        session: SessionRow,
        chunker: Chunker,
        options: SaveOptions,
        total_size: int | None,
        *,
        heartbeat: Callable[[], None] | None = None,
        shared: SharedMemory | None = None,
        watch: SegmentWatch | None = None,
    ) -> None:
        self._wiring = wiring
        self._session = session
        catalog = wiring.catalog
        # Only now: a pack that this list shows live cannot go before the session ends.
        self._live = {row.pack_no: row for row in catalog.live_packs(session.session_id)}
        wiring.apply(self._live.values())
        self._line = wiring.pack_line(session.session_id)
        self._known = KnownChunks(
            wiring.index,
            EntryLists(self._trailer, cache=None if shared is None else shared.trailers),
            {row.pack_no for row in self._live.values() if row.domain == DOMAIN_DEFAULT},
        )
        self._run = Ingest(
            chunker=chunker,
            level=options.level,
            known=self._known,
            line=self._line,
            threads=thread_count(options.threads),
            heartbeat=heartbeat or (lambda: catalog.heartbeat(session.session_id)),
            progress=options.progress,
            cancel=options.cancel,
            total_size=total_size,
            budget=None if shared is None else shared.buffers,
            watch=watch,
            # What was just uploaded is likely to be wanted next.
            keep=None if shared is None else partial(shared.kept.offer, only_free=True),
        )

    def _trailer(self, pack_no: int) -> PackTrailer:
        own = self._line.shipped.get(pack_no)
        return self._wiring.load_trailer(self._live[pack_no] if own is None else own)

    def noted_packs(self) -> list[PackRow]:
        """Return the packs that known chunks and nodes were found in so far; they stay while the session is open."""
        return [self._live[pack_no] for pack_no in sorted(self._run.figures.noted) if pack_no in self._live]

    def run(
        self,
        source: Source,
        fields: ImageFields,
        parent: ImageRow | None,
        dirty: list[tuple[int, int]] | None,
        allow_changes: bool,
        begin_s: float,
    ) -> PutReport:
        """Ingest, put the record, commit."""
        catalog = self._wiring.catalog
        session_id = self._session.session_id
        noted = [] if parent is None else catalog.note_content(session_id, parent.id)
        for row in noted:
            if row.backend_id != self._wiring.backend_id:
                raise CatalogBusyError(f"the parent image has left the backend {self._wiring.backend.name}")
            self._live[row.pack_no] = row
            if not row.damaged:  # what it holds is stored again, which heals
                self._known.trust(row.pack_no)
        new = _new_image(fields, None if parent is None else parent.id, self._session.opened_at)
        content_id = new_content_id()
        catalog.begin_image(session_id, new, content_id, backend_id=self._wiring.backend_id)
        work = partial(self._ingest, source=source, parent=parent, dirty=dirty)
        content, pack_nos = self.take_in(work, content_id)
        if isinstance(source, FileSource) and not allow_changes:
            source.check_unchanged()
        if dirty is not None:
            pack_nos = pack_nos.union(row.pack_no for row in noted)
        packs = catalog.packs(pack_nos)
        put_record(self._wiring, session_id, new, content, packs)
        image = catalog.commit(session_id, new.id, content, pack_nos, unique_name=not fields.same_name)
        _log.info(
            "image.committed image=%s content=%s size=%d packs=%d", image.id, content_id, content.size, len(packs)
        )
        self.publish()
        root = content.trees[0].root
        return _report(image_of(image), self._run.figures, None if root is None else NodeId(root), begin_s)

    def run_upload(
        self,
        source: Source,
        image_id: ImageId,
        content_id: ContentId,
        digests: Callable[[NodeId | None], Mapping[str, str]],
        inspect: Callable[[], int | None] | None,
        *,
        is_staged: bool,
    ) -> tuple[ImageRow, int]:
        """Ingest for an image that the session has claimed, put the record, commit.

        Args:
            digests: given the root, asked when the source has been read.
            inspect: asked after that for the virtual size; None looks into nothing.
            is_staged: keep the content aside; the record is put when it becomes the image's.
        Returns: the image, and the revision that its record says.
        """
        catalog = self._wiring.catalog
        session_id = self._session.session_id
        content, pack_nos = self.take_in(partial(ingest, source=source), content_id)
        size, root = content.size, content.trees[0].root
        content = replace(content, hashes=digests(None if root is None else NodeId(root)))
        virtual_size = None if inspect is None else inspect()
        packs = catalog.packs(pack_nos)
        # What is said of the image now; the commit notices when somebody edited it after this.
        new = catalog.image(image_id)
        if new.status == "deleted":
            raise ImageNotFoundError(image_id)
        if new.session_id != session_id:  # a collection took this session for dead
            raise SessionFencedError(session_id)
        new = replace(new, virtual_size=new.virtual_size if virtual_size is None else virtual_size)
        if not is_staged:
            members = catalog.read(partial(members_of, image_id=image_id))
            put_record(self._wiring, session_id, new, content, packs, members)
        image = catalog.commit(
            session_id,
            image_id,
            content,
            pack_nos,
            unique_name=False,
            virtual_size=new.virtual_size,
            recorded_revision=None if is_staged else new.revision,
            is_staged=is_staged,
        )
        _log.info("image.uploaded image=%s content=%s size=%d packs=%d", image.id, content_id, size, len(packs))
        self.publish()
        return image, new.revision

    def take_in(
        self, work: Callable[[Ingest], NodeId | None], content_id: ContentId
    ) -> tuple[NewContent, frozenset[int]]:
        """Ingest by `work`, which returns the root; return the content and the packs that it names."""
        root = work(self._run)
        figures = self._run.figures
        content = NewContent(
            content_id=content_id,
            size=figures.size,
            hole_size=figures.hole_size,
            trees=(TreeRow("plain", root, figures.size),),
            hashes={},
        )
        return content, frozenset(figures.noted | set(self._line.shipped))

    def _ingest(
        self, run: Ingest, source: Source, parent: ImageRow | None, dirty: list[tuple[int, int]] | None
    ) -> NodeId | None:
        if dirty is None or parent is None or not isinstance(source, FileSource):
            return ingest(run, source)
        from casimg.snapshot.changed import ingest_changed

        with leased_reader(self._wiring, parent) as reader:
            hole_size = self._wiring.catalog.content(reader.content_id).hole_size
            return ingest_changed(run, source, reader, hole_size, dirty)

    def publish(self) -> None:
        """Write what was stored to the index; never raises."""
        try:
            self._line.publish()
        except CasimgError as error:  # the image is committed; the index is followed when it is next needed
            _log.warning("index.write_failed session=%s error=%s", self._session.session_id, error)

    def __enter__(self) -> "Save":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.close()
        if kind is None:
            self._line.close()
        else:
            self._line.abandon()


def _report(image: Image | None, figures: IngestFigures, root: NodeId | None, begin_s: float) -> PutReport:
    return PutReport(
        image=image,
        size=figures.size,
        read_size=figures.read_size,
        hole_size=figures.hole_size,
        known_size=figures.known_size,
        new_size=figures.new_size,
        stored_size=figures.stored_size,
        metadata_size=figures.metadata_size,
        duration_s=time.monotonic() - begin_s,
        root=None if root is None else root.hex(),
    )


def _content_of(image: ImageRow) -> ContentId:
    if image.content_id is None and image.locations:
        raise DataElsewhereError(image.id)
    if image.status != "active" or image.content_id is None:
        raise ImageNotFoundError(image.id)
    return image.content_id


def _new_image(fields: ImageFields, parent_id: ImageId | None, created_at: datetime) -> NewImage:
    return NewImage(
        id=new_image_id(),
        name=fields.name,
        disk_format=fields.disk_format,
        container_format=fields.container_format,
        owner=fields.owner,
        visibility=fields.visibility,
        protected=False,
        parent_id=parent_id,
        properties=dict(fields.properties),
        created_at=created_at,
    )
