"""What keeping a repository sound found and did: gc, check, repair, recover, sessions, index. Pure."""

from dataclasses import dataclass
from datetime import datetime

from casimg.results.images import ByteRange


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What a collection would free, as of now; orphans are objects without a row.

    Attributes:
        repack_pack_count: packs needed in part that would be rewritten.
        repack_size: about what that frees, stored bytes.
    """

    content_count: int = 0
    pack_count: int = 0
    size: int = 0
    repack_pack_count: int = 0
    repack_size: int = 0
    orphan_count: int = 0
    orphan_size: int = 0
    disabled: str | None = None
    """Why nothing would be freed, after `recover` and before a full check."""
    unreachable: tuple[str, ...] = ()
    """Backends that could not be looked at, and why."""


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
        record_behind_count: images whose record could not be brought up to date; the next `gc` tries again.
        disabled: why nothing at all was removed, after `recover` and before a full check.
        unreachable: backends that could not be reached, and why; what lies there is for a later `gc`.
    """

    content_count: int = 0
    pack_count: int = 0
    size: int = 0
    waiting_count: int = 0
    revived_count: int = 0
    fenced_count: int = 0
    lease_count: int = 0
    repack_pack_count: int = 0
    repack_new_size: int = 0
    gathered_size: int = 0
    repack_failed: tuple[str, ...] = ()
    repack_stopped: str | None = None
    orphan_count: int = 0
    orphan_size: int = 0
    orphan_waiting_count: int = 0
    orphans_refused: str | None = None
    record_behind_count: int = 0
    disabled: str | None = None
    unreachable: tuple[str, ...] = ()
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GcRun:
    """The last collection that was done.

    Attributes:
        reason: "time" or "space", when a server decided it; "asked" for `casimg gc`.
    """

    reason: str
    done_at: datetime
    report: GcReport


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Room on what a part of the repository lies on, in bytes; `name` is a backend's, or "spool"."""

    name: str
    total_size: int
    free_size: int


@dataclass(frozen=True, slots=True)
class UpkeepState:
    """What is done for a repository by itself, now and then, and how much room there is.

    Attributes:
        running_since, running_on: of a collection that a server began and has not ended.
        failed_at, failure: the last time that one did not succeed, and why.
        next_gc_at: when time is the reason for the next one; None without a schedule.
        spaces: backends that can tell, and the spool.
    """

    last_gc: GcRun | None
    running_since: datetime | None
    running_on: str | None
    failed_at: datetime | None
    failure: str | None
    next_gc_at: datetime | None
    spaces: tuple[FreeSpace, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing `check` found.

    Attributes:
        kind: "pack-missing", "pack-damaged", "pack-size", "node-damaged", "chunk-lost", "record-missing",
            "record-damaged", "record-differs", "record-unknown", "object-unknown", "pack-gone", "index-wrong",
            "catalog", "backend-unreachable"; of `recover` also "pack-unusable", "pack-name", "record-name",
            "image-lost".
        images: names and ids of the images it touches.
        backend: where it was found, when the repository has several backends.
    """

    kind: str
    what: str
    images: tuple[str, ...] = ()
    lossy: bool = True
    """False when no committed image can lose a byte by it (left-overs that gc removes)."""
    healed: bool = False
    """A repair in the same run mended it."""
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class LostData:
    """What is nowhere any more of one content, until the same data is put again.

    Attributes:
        images: names and ids of the images of this content.
        ranges: bytes of the image, in order, at most 1000 of them.
        size: bytes in all ranges.
    """

    images: tuple[str, ...]
    ranges: tuple[ByteRange, ...]
    size: int


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did.

    Attributes:
        saved_count, saved_size: chunks and nodes copied from damaged packs, and bytes of the new packs that hold them.
        healed: images that need no damaged pack any more.
        lost: what is nowhere; its images keep their damaged packs, and putting the same data again heals them.
        set_aside: keys of copies of damaged packs that no image names any more; remove them when you like.
        record_count: records written anew.
        index_rebuilt: the index was wrong and was made anew.
        refused: why nothing was done.
    """

    saved_count: int = 0
    saved_size: int = 0
    healed: tuple[str, ...] = ()
    lost: tuple[LostData, ...] = ()
    set_aside: tuple[str, ...] = ()
    record_count: int = 0
    index_rebuilt: bool = False
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        read_size: bytes of packs read by this check.
        stored_size: bytes of all packs.
        verified_size: of these, bytes of packs that were read whole at some time and found right.
        oldest_verified_at: the least recent of these times; None when no pack was ever read whole.
        repair: what was mended, when that was asked for.
    """

    problems: tuple[Problem, ...]
    pack_count: int
    image_count: int
    read_size: int
    stored_size: int
    verified_size: int
    oldest_verified_at: datetime | None
    duration_s: float
    repair: RepairReport | None = None

    @property
    def clean(self) -> bool:
        """No problem is left that can cost a byte."""
        return not any(problem.lossy and not problem.healed for problem in self.problems)


@dataclass(frozen=True, slots=True)
class RecoverReport:
    """What `recover` found on the backend and made of it.

    Attributes:
        image_count: images that are back, damaged ones included.
        damaged_image_count: of these, images that miss chunks.
        pack_count: packs that can be used, in whole or in part.
        problems: what could not be used, with the images it touches; nothing of it was removed.
        old_catalog: the file that the catalog before was set aside as; None when there was none.
        old_fenced_count: writers that were at work in it and were ended; None when it could not be written.
        site_written: True when `casimg.toml` was gone and was written with defaults.
    """

    image_count: int
    damaged_image_count: int
    content_count: int
    pack_count: int
    entry_count: int
    problems: tuple[Problem, ...]
    old_catalog: str | None
    old_fenced_count: int | None
    site_written: bool
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
    """An index made anew."""

    pack_count: int
    entry_count: int
    stored_size: int
    duration_s: float
