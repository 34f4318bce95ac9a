"""The values that the public API returns: frozen, plain, ready for `--json`. Pure.

Sizes are bytes; times are aware UTC datetimes; ids as in `casimg.ids`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from casimg.ids import ContentId, ImageId


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the catalog knows it.

    Attributes:
        size: plain bytes, holes included; None while it has no data.
        hole_size: of these, bytes in holes.
        parent_id: the image this one is a snapshot of; that image may be gone.
    """

    id: ImageId
    name: str
    status: str
    disk_format: str
    container_format: str
    size: int | None
    hole_size: int
    content_id: ContentId | None
    parent_id: ImageId | None
    owner: str | None
    visibility: str
    protected: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PutReport:
    """What an ingest did, or, as a dry run, would do.

    Attributes:
        size: plain bytes of the source, holes included.
        read_size: bytes read from the source (hints and maps save reading).
        hole_size: bytes in holes.
        known_size: plain bytes found in the repository or earlier in the same source.
        new_size: plain bytes stored new.
        stored_size: bytes written for them to data packs.
        metadata_size: bytes written to metadata packs.
        duration_s: wall time.
    """

    image: Image | None
    size: int
    read_size: int
    hole_size: int
    known_size: int
    new_size: int
    stored_size: int
    metadata_size: int
    duration_s: float
    root: str | None
    """Hex id of the manifest root; None when there is nothing but holes."""


@dataclass(frozen=True, slots=True)
class GetReport:
    """What a restore did.

    Attributes:
        written_size: bytes written, holes not counted unless written as zeros.
        kept_size: bytes that `--resume` found right in the unfinished file.
    """

    image: Image
    target: str
    size: int
    written_size: int
    hole_size: int
    kept_size: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Half-open: `offset` to `offset + size`."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """A stored image, read back and compared with a file byte by byte.

    Attributes:
        differences: ranges of 4 KiB blocks that differ, at most `difference_count_max` of them, in order.
        difference_size: bytes in all differing ranges.
    """

    image: Image
    file: str
    size: int
    file_size: int
    equal: bool
    differences: tuple[ByteRange, ...]
    difference_size: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class DiffReport:
    """Where two images differ, `a` to `b`.

    Attributes:
        exact: True when ranges are 4 KiB blocks that were compared, False when they are whole differing chunks.
        only_in_b_size: plain bytes of chunks in differing segments of `b` that no differing segment of `a` has; data
            that moved far counts as new.
    """

    a: Image
    b: Image
    ranges: tuple[ByteRange, ...]
    changed_size: int
    only_in_b_size: int
    exact: bool


@dataclass(frozen=True, slots=True)
class LineageNode:
    """An image in the tree of its snapshots; `image` is None for a parent whose row is gone for good."""

    id: ImageId
    image: Image | None
    gone: bool
    """True when the image was deleted; its snapshots keep all their bytes."""
    asked: bool
    """True for the image the lineage was asked of."""
    children: tuple["LineageNode", ...]


@dataclass(frozen=True, slots=True)
class PruneDecision:
    """What pruning decides of one snapshot: why it is kept, or, with no reason, that it goes."""

    image: Image
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return bool(self.reasons)


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """How one image uses the repository. Stored figures are shares of packs by plain size.

    Attributes:
        plain_size: bytes outside holes.
        unique_size: plain bytes of its distinct chunks.
        shared_size, own_size: of `unique_size`, what other contents reach too, and what only this one does.
        own_stored_size: stored bytes that deleting it and `gc` can give back.
        decode_amplification: plain bytes that reading it decodes, segment by segment, over those it needs; 1.0 is the
            least, and `gc` keeps it low for the newest image of a lineage.
    """

    image: Image
    size: int
    plain_size: int
    unique_size: int
    shared_size: int
    own_size: int
    shared_stored_size: int
    own_stored_size: int
    decode_amplification: float


@dataclass(frozen=True, slots=True)
class Stats:
    """The whole repository.

    Attributes:
        virtual_size: sum of image sizes, holes included.
        plain_size: of these, bytes outside holes.
        unique_size: plain bytes of distinct chunks in live data packs.
        stored_size: bytes of live data packs.
        metadata_size: bytes of live metadata packs.
        index_size: bytes of the index, a cache.
        unreferenced_size: of stored + metadata, bytes of packs that no content names; `gc` frees them.
        usages: per image, when asked for.
    """

    image_count: int
    content_count: int
    chunk_count: int
    pack_count: int
    virtual_size: int
    plain_size: int
    unique_size: int
    stored_size: int
    metadata_size: int
    index_size: int
    unreferenced_size: int
    usages: tuple[ImageUsage, ...] = ()

    @property
    def hole_ratio(self) -> float:
        """Virtual over plain: what holes save."""
        return _ratio(self.virtual_size, self.plain_size)

    @property
    def dedup_ratio(self) -> float:
        """Plain over unique."""
        return _ratio(self.plain_size, self.unique_size)

    @property
    def compression_ratio(self) -> float:
        """Unique over stored."""
        return _ratio(self.unique_size, self.stored_size)

    @property
    def total_ratio(self) -> float:
        """Virtual over everything stored, metadata included."""
        return _ratio(self.virtual_size, self.stored_size + self.metadata_size)


def _ratio(whole: int, part: int) -> float:
    return whole / part if part else 1.0


@dataclass(frozen=True, slots=True)
class EstimateRow:
    """What one chunk size would make of the files."""

    chunker: str
    chunk_size: int
    unique_size: int
    stored_size: int
    chunk_count: int
    index_size: int
    metadata_size: int


@dataclass(frozen=True, slots=True)
class Estimate:
    files: tuple[str, ...]
    virtual_size: int
    hole_size: int
    rows: tuple[EstimateRow, ...]
    duration_s: float


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What a collection would free, as of now; orphans are objects without a row.

    Attributes:
        repack_pack_count: packs needed in part that would be rewritten.
        repack_size: about what that frees, stored bytes.
    """

    content_count: int
    pack_count: int
    size: int
    repack_pack_count: int
    repack_size: int
    orphan_count: int
    orphan_size: int


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a collection freed.

    Attributes:
        waiting_count: packs condemned but still waiting for older open sessions; the next `gc` takes them.
        revived_count: packs a commit took back meanwhile.
        lease_count: reads of deleted images that go on; the space is given back after them.
        repack_pack_count: of the packs, those rewritten because they were needed in part, or small.
        repack_new_size: bytes of the new packs that hold what was needed of them.
        gathered_size: bytes stored once more so that the newest images read well.
        repack_failed: packs that could not be read whole, and why; they were left as they are.
        repack_stopped: why rewriting was broken off, when the disk was too full for it.
        orphan_count, orphan_size: objects without a row that were removed, left by writers that died.
        orphan_waiting_count: such objects that an older open session may still explain; a later `gc` decides.
        orphans_refused: why none were removed, when the catalog looks restored from a backup.
    """

    content_count: int
    pack_count: int
    size: int
    waiting_count: int
    revived_count: int
    fenced_count: int
    lease_count: int
    repack_pack_count: int
    repack_new_size: int
    gathered_size: int
    repack_failed: tuple[str, ...]
    repack_stopped: str | None
    orphan_count: int
    orphan_size: int
    orphan_waiting_count: int
    orphans_refused: str | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing `check` found.

    Attributes:
        kind: "pack-missing", "pack-damaged", "pack-size", "node-damaged", "chunk-lost", "record-missing",
            "record-damaged", "record-unknown", "object-unknown", "catalog".
        images: names and ids of the images it touches.
    """

    kind: str
    what: str
    images: tuple[str, ...] = ()
    lossy: bool = True
    """False when no committed image can lose a byte by it (left-overs that gc removes)."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    problems: tuple[Problem, ...]
    pack_count: int
    image_count: int
    read_size: int
    duration_s: float

    @property
    def clean(self) -> bool:
        """No problem that can cost a byte."""
        return not any(problem.lossy for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Session:
    """A writer: one ingest, snapshot, repack or repair by one process.

    Attributes:
        state: "open", "closed" (it committed or ended) or "fenced" (declared dead: it can write no more).
        node: host, boot and process id namespace.
        heartbeat: when it last made progress.
    """

    session_id: str
    kind: str
    state: str
    node: str
    pid: int
    opened_at: datetime
    heartbeat: datetime


@dataclass(frozen=True, slots=True)
class IndexReport:
    pack_count: int
    entry_count: int
    stored_size: int
    duration_s: float
