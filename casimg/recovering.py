"""From a backend alone to catalog and index: packs, records, contents; `rejoining` makes images of them.

In goes a wiring whose catalog is new, empty and not yet one (`Catalog.create(.., unfinished=True)`), out come its rows
and the index. Nothing on the backend is changed, whatever is found: what cannot be used is reported.

1. Every pack is held against its key, header and trailer; a damaged trailer is made anew from the frames. Its chunks go
   into the index, so that the index covers every pack before the first manifest is read.
2. Of every image the record with the greatest revision counts.
3. Every content is walked from its roots. The packs its record names may be stale (repack moves chunks and does not
   write records), so the index says which pack holds each node and chunk.

Memory: per pack and per image a little, per content the numbers of its packs; ids of chunks are never collected.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from casimg.assemble import ContentReader, PackRef
from casimg.catalog import STORED_STATUSES, Location, MemberRow, NewContent, NewImage, NewPack, TreeRow
from casimg.catalog import recover as rows
from casimg.catalog.locations import Located
from casimg.constants import DOMAIN_DEFAULT, NODE_RADIX
from casimg.errors import CatalogBusyError, DamageError, NotFoundError, ObjectNotFoundError, RecordDamagedError
from casimg.formats.damage import FormatDamage
from casimg.formats.node import Inner, Leaf
from casimg.formats.pack import (
    PACK_HEADER_SIZE,
    TRAILER_END_SIZE,
    PackTrailer,
    decode_pack_header,
    trailer_size,
)
from casimg.formats.record import RECORD_SIZE_MAX, ImageRecord, decode_record
from casimg.ids import ContentId, ImageId, NodeId, PackId, SessionId
from casimg.manifest.walk import Tree, load_inner, load_leaf
from casimg.pack.keys import PACK_PREFIX, RECORD_PREFIX, pack_id_of_key, pack_key, record_key, record_of_key
from casimg.pack.reader import read_trailer, salvage
from casimg.progress import Progress, ProgressCallback
from casimg.results.upkeep import Problem
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.recover")
_BATCH_ENTRIES: Final = 100_000  # as `follow`: about 20 MiB of sorted places in memory
_BATCH_PACKS: Final = 500


@dataclass(slots=True)
class Rebuilt:
    """What was found and made."""

    image_count: int = 0
    damaged_image_count: int = 0
    content_count: int = 0
    pack_count: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """The best record of an image so far."""

    session_id: SessionId
    revision: int
    created_at: datetime
    content_id: ContentId
    """Empty for an image whose data lie elsewhere alone; whether they still do is not looked at."""


@dataclass(frozen=True, slots=True)
class FoundContent:
    """What was found of a content: what it must be equal to, how much of it is missing, and whose it is."""

    size: int | None
    trees: tuple[TreeRow, ...]
    missing_count: int
    missing_first: bytes
    labels: tuple[str, ...]


class BackendRebuild:
    """What lies on one backend: packs, the records of images, contents.

    Attributes:
        records: of each image the best record that can be read.
        unread: images of which some record cannot be read.
        contents: what was entered of contents.
    """

    def __init__(self, wiring: Wiring, session_id: SessionId, done: Rebuilt, progress: ProgressCallback | None) -> None:
        self.wiring = wiring
        self.records: dict[ImageId, FoundRecord] = {}
        self.unread: set[ImageId] = set()
        self.contents: dict[ContentId, FoundContent] = {}
        self._progress = progress
        self._session_id = session_id
        self._packs: dict[int, PackRef] = {}
        self._numbers: dict[PackId, int] = {}
        self._done = done

    # Packs

    def take_packs(self) -> None:
        """Enter every pack of which something can be used, and index its chunks."""
        found = sorted((item.key, item.size) for item in self.wiring.backend.list(PACK_PREFIX))
        batch: list[tuple[NewPack, PackTrailer, bool]] = []
        entries = 0
        for number, (key, size) in enumerate(found, 1):
            pack = self._pack(key, size)
            if pack is not None:
                batch.append(pack)
                entries += pack[1].entry_count
            if entries >= _BATCH_ENTRIES or len(batch) >= _BATCH_PACKS:
                self._enter(batch)
                batch, entries = [], 0
            self._tell(number, len(found))
        self._enter(batch)

    def _pack(self, key: str, size: int) -> tuple[NewPack, PackTrailer, bool] | None:
        """Return row, entry list and damage of a pack; None, with a problem, when it cannot be used."""
        pack_id = pack_id_of_key(key)
        if pack_id is None:
            self.problem("pack-name", f"{key} ({size} bytes) is not a name of a pack; it was left alone", lossy=False)
            return None
        why: str | None = None
        domain = DOMAIN_DEFAULT
        try:
            kind, domain = self._header(key, size)
        except (DamageError, NotFoundError, FormatDamage) as damage:
            kind, why = None, str(damage)
        try:
            trailer, offset = self._trailer(key, size)
            if kind is not None and (kind, domain) != (trailer.kind, trailer.domain):
                why = "its header and its trailer contradict each other"
            domain = trailer.domain
        except (DamageError, NotFoundError, FormatDamage) as damage:
            why = str(damage)
            try:
                trailer = salvage(self.wiring.backend, key, size)
            except (DamageError, NotFoundError) as error:
                self.problem("pack-unusable", f"{key}: {error}")
                return None
            offset = max((frame.offset + frame.size for frame in trailer.frames()), default=PACK_HEADER_SIZE)
        if why is not None:
            _log.warning("recover.pack_damaged pack=%s entries=%d why=%s", key, trailer.entry_count, why)
            if not trailer.entry_count:
                self.problem("pack-unusable", f"{key}: {why}; nothing of it can be read")
                return None
            self.problem("pack-damaged", f"{key}: {why}; {trailer.entry_count} chunks in it can be read")
        new = NewPack(
            backend_id=self.wiring.backend_id,
            pack_id=pack_id,
            kind=trailer.kind,
            domain=domain,
            size=size,
            trailer_offset=offset,
            plain_size=trailer.plain_size,
            chunk_count=trailer.entry_count,
        )
        return new, trailer, why is not None

    def _trailer(self, key: str, size: int) -> tuple[PackTrailer, int]:
        """Return a whole entry list and where it begins. Raises: FormatDamage, DamageError, ObjectNotFoundError."""
        if size < PACK_HEADER_SIZE + TRAILER_END_SIZE:
            raise FormatDamage(f"a pack cannot have {size} bytes")
        end = self.wiring.backend.get_range(key, size - TRAILER_END_SIZE, TRAILER_END_SIZE)
        offset = size - trailer_size(end)
        return read_trailer(self.wiring.backend, key, size, offset), offset

    def _header(self, key: str, size: int) -> tuple[int, int]:
        if size < PACK_HEADER_SIZE:
            raise FormatDamage(f"a pack cannot have {size} bytes")
        return decode_pack_header(self.wiring.backend.get_range(key, 0, PACK_HEADER_SIZE))

    def _enter(self, batch: list[tuple[NewPack, PackTrailer, bool]]) -> None:
        if not batch:
            return
        numbers = self.wiring.catalog.transaction(
            partial(
                rows.insert_packs,
                session_id=self._session_id,
                found=[(new, damaged) for new, _, damaged in batch],
                change_no=self._done.pack_count,
            )
        )
        self.wiring.index.add_packs(
            [(pack_no, new.pack_id, trailer) for pack_no, (new, trailer, _) in zip(numbers, batch, strict=True)]
        )
        for pack_no, (new, _, _) in zip(numbers, batch, strict=True):
            self._packs[pack_no] = PackRef(pack_no, pack_key(new.pack_id), new.size, new.trailer_offset)
            self._numbers[new.pack_id] = pack_no
        self._done.pack_count += len(batch)

    # Records

    def take_records(self) -> None:
        """Choose the record of every image."""
        for item in sorted(self.wiring.backend.list(RECORD_PREFIX), key=lambda item: item.key):
            name = record_of_key(item.key)
            if name is None:
                self.problem("record-name", f"{item.key} is not a name of a record; it was left alone", lossy=False)
                continue
            image_id, session_id = name
            try:
                record = self.record(image_id, session_id)
                found = FoundRecord(
                    session_id, record.revision, _time(record.created_at), ContentId(record.content.content_id)
                )
            except (DamageError, NotFoundError) as error:
                self.problem("record-damaged", str(error))
                self.unread.add(image_id)
                continue
            best = self.records.get(image_id)
            if best is None or best.revision < found.revision:
                self.records[image_id] = found

    def record(self, image_id: ImageId, session_id: SessionId) -> ImageRecord:
        """Return a record; read wrongly it is read again, since an image hangs on it."""
        try:
            return self._record_once(image_id, session_id)
        except DamageError as damage:
            _log.warning("recover.record_read_again image=%s why=%s", image_id, damage)
            return self._record_once(image_id, session_id)

    def _record_once(self, image_id: ImageId, session_id: SessionId) -> ImageRecord:
        key = record_key(image_id, session_id)
        size = self.wiring.backend.stat(key).size
        try:
            if size > RECORD_SIZE_MAX:
                raise FormatDamage("it is larger than a record can be")
            record = decode_record(self.wiring.backend.get_range(key, 0, size))
            if record.image_id != image_id:
                raise FormatDamage(f"it is a record of image {record.image_id}")
            rows_of(record)  # what cannot be a row is damage now, not half way
        except (FormatDamage, ValueError, TypeError) as damage:
            raise RecordDamagedError(key, None, str(damage)) from None
        return record

    # Contents

    def take_contents(self) -> None:
        """Enter every content that a record names, with the packs that hold it."""
        by_content: dict[ContentId, list[ImageId]] = {}
        for image_id, found in sorted(self.records.items(), key=lambda item: (item[1].created_at, item[0])):
            if not found.content_id:
                continue
            by_content.setdefault(found.content_id, []).append(image_id)
        for number, (content_id, image_ids) in enumerate(by_content.items(), 1):
            self.contents[content_id] = self._take_content(image_ids)
            self._tell(number, len(by_content))

    def _take_content(self, image_ids: list[ImageId]) -> FoundContent:
        content: NewContent | None = None
        missing: set[bytes] = set()
        labels: list[str] = []
        for image_id in image_ids:
            found = self.records[image_id]
            # Read again, not kept: there may be very many, and their properties are of any size.
            record = self.record(image_id, found.session_id)
            new, same, *_ = rows_of(record)
            if content is None:
                content = same
                missing, pack_nos = self._walk(record)
                self.wiring.catalog.transaction(
                    partial(
                        rows.insert_content,
                        session_id=self._session_id,
                        content=content,
                        pack_nos=pack_nos,
                        backend_id=self.wiring.backend_id,
                    )
                )
                self._done.content_count += 1
            elif (content.size, content.trees) != (same.size, same.trees):
                key = record_key(image_id, found.session_id)
                self.problem("record-damaged", f"{key}: it contradicts the record of image {image_ids[0]}")
                del self.records[image_id]
                continue
            labels.append(f"{new.name or '-'} ({new.id})")
        if content is None:
            raise ValueError("a content of no image")
        first = min(missing, default=b"")
        return FoundContent(content.size, content.trees, len(missing), first, tuple(labels))

    def _walk(self, record: ImageRecord) -> tuple[set[bytes], set[int]]:
        """Return what a content misses, and the packs that hold the rest."""
        hinted = {
            self._numbers[PackId(bytes.fromhex(name))]
            for name in record.content.pack_ids
            if PackId(bytes.fromhex(name)) in self._numbers
        }
        missing: set[bytes] = set()
        named: set[int] = set()
        for tree in record.content.trees:
            root = None if tree.root is None else NodeId(bytes.fromhex(tree.root))
            reader = self._reader(ContentId(record.content.content_id), Tree(root, tree.size))
            for ids in _walk_tree(reader, missing):
                with self.wiring.index.reading() as lookup:
                    for chunk in ids:
                        first = lookup.first(chunk)
                        if first is not None and first.pack_no in named:
                            continue
                        holders = {place.pack_no for place in lookup.places(chunk)}
                        if not holders:
                            missing.add(chunk)
                        elif not holders & named:
                            # What the record says, when it is still so: the content then has the packs it had.
                            named.add(max(holders & hinted or holders))
        return missing, named

    def check_packs_stayed(self) -> None:
        """Raise CatalogBusyError when packs vanished meanwhile: a collection that began before is still at work."""
        there = {item.key for item in self.wiring.backend.list(PACK_PREFIX)}
        gone = sorted(pack.key for pack in self._packs.values() if pack.key not in there)
        if gone:
            why = f"{len(gone)} packs vanished while it was made anew, first {gone[0]}: stop gc and recover again"
            raise CatalogBusyError(why)

    def _reader(self, content_id: ContentId, tree: Tree) -> ContentReader:
        return ContentReader(
            content_id=content_id,
            tree=tree,
            packs=self._packs,
            backend=self.wiring.backend,
            index=self.wiring.index,
            lists=_NoLists(self._packs),
            refresh=lambda: self._packs,
            cache=self.wiring.frames,
        )

    def problem(self, kind: str, what: str, images: tuple[str, ...] = (), *, lossy: bool = True) -> None:
        """Remember a problem; of a repository with several backends it says which."""
        backend = self.wiring.backend.name if len(self.wiring.peers) > 1 else None
        self._done.problems.append(Problem(kind, what, images, lossy, backend=backend))

    def _tell(self, done: int, todo: int) -> None:
        if self._progress is not None:
            self._progress(Progress("recover", done, todo))


class _NoLists:
    """No entry lists: the index was made from these very ones, so looking there again finds nothing more."""

    load_count = 0

    def __init__(self, packs: Mapping[int, PackRef]) -> None:
        self._packs = packs

    def get(self, pack_no: int) -> PackTrailer:
        raise ObjectNotFoundError(self._packs[pack_no].key)


def _walk_tree(reader: ContentReader, missing: set[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Yield the ids that a tree needs, node by node, its own included; what cannot be read goes to `missing`.

    Unlike `manifest.walk` it goes on after a node that is lost: what is beside it must keep its packs.
    """
    tree = reader.tree
    if tree.root is None:
        return
    stack: list[tuple[NodeId, int, int]] = [(tree.root, tree.height, 0)]
    while stack:
        node_id, height, at = stack.pop()
        node: Leaf | Inner
        try:
            if height == 0:
                node = load_leaf(reader.node, tree, at, node_id)
            else:
                node = load_inner(reader.node, tree, height, at, node_id)
        except DamageError as damage:
            _log.warning("recover.node_lost node=%s why=%s", node_id.hex(), damage)
            missing.add(node_id)
            continue
        yield (node_id,)
        if isinstance(node, Leaf):
            yield node.ids
            continue
        span = NODE_RADIX ** (height - 1)
        for position in range(len(node.children) - 1, -1, -1):
            child = node.children[position]
            if child is not None:
                stack.append((NodeId(child), height - 1, at + position * span))


def rows_of(record: ImageRecord) -> tuple[NewImage, NewContent, datetime, list[MemberRow], Located]:
    """Return image, content, time of the last change, members, and where else its data lie.

    Raises: ValueError, TypeError for what is no row.
    """
    _time(record.created_at)
    if record.status not in STORED_STATUSES:
        raise ValueError(f"its image is {record.status}, which no record is")
    new = NewImage(
        id=ImageId(record.image_id),
        name=record.name,
        disk_format=record.disk_format,
        container_format=record.container_format,
        owner=record.owner,
        visibility=record.visibility,
        protected=record.protected,
        parent_id=None if record.parent_id is None else ImageId(record.parent_id),
        properties=dict(record.properties),
        hidden=record.hidden,
        min_disk=record.min_disk,
        min_ram=record.min_ram,
        virtual_size=record.virtual_size,
        tags=record.tags,
    )
    members = [
        MemberRow(new.id, item.member, item.status, _time(item.created_at), _time(item.updated_at))
        for item in record.members
    ]
    content = NewContent(
        content_id=ContentId(record.content.content_id),
        size=record.content.size,
        hole_size=record.content.hole_size,
        trees=tuple(
            TreeRow(tree.role, None if tree.root is None else bytes.fromhex(tree.root), tree.size)
            for tree in record.content.trees
        ),
        hashes=dict(record.content.hashes),
    )
    located = _located(record)
    if content.content_id and not any(tree.role == "plain" for tree in content.trees):
        raise ValueError("its content has no plain tree")
    if not content.content_id and not located.locations:
        raise ValueError("it has neither a content nor a location")
    return new, content, _time(record.updated_at), members, located


def _located(record: ImageRecord) -> Located:
    """Return where an image's data lie elsewhere; the record of one that has no content says what they are."""
    locations = tuple(Location(one.url, one.metadata) for one in record.locations)
    if any(not isinstance(one.url, str) or not isinstance(one.metadata, dict) for one in locations):
        raise ValueError("its locations are none")
    if record.content.content_id:
        return Located(locations)
    hashes = record.content.hashes
    algo = next((name for name in sorted(hashes) if name != "md5"), None)
    value = None if algo is None else hashes[algo]
    return Located(locations, True, record.content.size, algo, value, hashes.get("md5"))


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"the time {text} has no zone")
    return found
