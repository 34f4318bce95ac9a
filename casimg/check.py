"""Check a repository: catalog against backend and records, manifests against packs, and, when asked, every byte.

Nothing is changed but two dates of a pack: when it was last read whole and found right, and when it was found damaged,
after which no writer relies on it. What is found is named together with the images it touches. Others may write,
repack, delete and collect meanwhile: before anything is called missing or wrong, the rows are asked again.
"""

import contextlib
import logging
import time
from collections.abc import Collection, Iterable, Sequence
from functools import partial

from casimg.assemble import Patience
from casimg.catalog import STORED_STATUSES, ImageRow, PackRow, examine, packs, reading
from casimg.catalog.members import members_of
from casimg.catalog.schema import CLAIMED_STATUSES
from casimg.errors import (
    BackendUnavailableError,
    CasimgError,
    CatalogDamagedError,
    DamageError,
    ImageNotFoundError,
    InputError,
    NotFoundError,
)
from casimg.findings import Checked, Findings, here, label_of, labels_of
from casimg.formats.damage import FormatDamage
from casimg.formats.node import Leaf
from casimg.formats.pack import PackTrailer
from casimg.formats.record import RECORD_SIZE_MAX, ImageRecord, decode_record
from casimg.gc.latch import release_latch
from casimg.ids import ContentId, NodeId, PackId
from casimg.index import Lookup
from casimg.index.entries import EntryLists
from casimg.manifest.walk import node_ids
from casimg.pack.keys import PACK_PREFIX, RECORD_PREFIX, pack_id_of_key, pack_key, record_key, record_of_key
from casimg.pack.reader import read_trailer, verify_pack
from casimg.progress import Progress, ProgressCallback
from casimg.records import differences
from casimg.results.upkeep import CheckReport, Problem
from casimg.sizes import parse_share
from casimg.wiring import PACK_STATES_FINDABLE, Wiring

_log = logging.getLogger("casimg.check")
_RECORD_TRY_COUNT_MAX = 4  # each failed try is a change of the image meanwhile


def check(
    wiring: Wiring, *, read_data: bool, subset: str | int | None = None, progress: ProgressCallback | None = None
) -> CheckReport:
    """Return every problem found.

    Args:
        read_data: read, decode and hash packs too; else only sizes, entry lists and manifests.
        subset: of all packs read only so much, "5%" or a size, least recently verified first, at least one pack.
    Raises: InputError; BackendUnavailableError, since what cannot be reached is not damaged.
    """
    return find_problems(wiring, read_data=read_data, subset=subset, progress=progress).report()


def find_problems(
    wiring: Wiring, *, read_data: bool, subset: str | int | None, progress: ProgressCallback | None
) -> Checked:
    """As check; return also what a repair needs."""
    if subset is not None and not read_data:
        raise InputError("a subset says how much data to read: it needs read_data")
    checked = Checked(time.monotonic())
    try:
        for what in wiring.catalog.read(examine.integrity):
            checked.problems.append(Problem("catalog", what))
        # Of all backends together, in the order of their last verification.
        rows = [item.row for item in wiring.catalog.read(examine.verifications)]
        whole = _chosen(rows, subset) if read_data else set()
        for peer in wiring.peers:
            findings = Findings(peer, [row for row in rows if row.backend_id == peer.backend_id])
            checked.parts.append(findings)
            try:
                _Check(peer, findings).run(whole, progress)
            except BackendUnavailableError as error:
                if len(wiring.peers) == 1:
                    raise
                findings.is_reached = False
                what = f"{error}; what lies there was not checked"
                findings.problem("backend-unreachable", what, _labels_on(peer))
        if read_data and subset is None and not any(problem.lossy for problem in checked.all_problems()):
            against = release_latch(wiring)
            checked.problems += [] if against is None else [against]
    except CatalogDamagedError as error:
        checked.problems.append(Problem("catalog", str(error)))
    return checked


def _labels_on(wiring: Wiring) -> tuple[str, ...]:
    """Return the names of the images that lie on one backend alone."""
    on_it = [here(image, wiring) for image in wiring.catalog.images()]
    return tuple(label_of(image) for image in on_it if image is not None and len(image.stores) == 1)


class _Check:
    def __init__(self, wiring: Wiring, findings: Findings) -> None:
        self._wiring = wiring
        self._findings = findings
        # Entry lists of packs answer for chunks; ids are never collected, so memory does not grow with the data.
        self._packs: dict[int, PackRow] = {}
        self._lost: dict[int, set[bytes]] = {}
        self._finder = _Finder(EntryLists(lambda pack_no: wiring.load_trailer(self._packs[pack_no])), self._lost)
        self._walked: dict[NodeId, frozenset[int]] = {}
        self._pack_sets: dict[frozenset[int], frozenset[int]] = {}
        self._done_size = 0

    def run(self, whole: Collection[int], progress: ProgressCallback | None) -> None:
        """Check what lies on one backend; packs numbered in `whole` are read."""
        catalog, rows = self._wiring.catalog, self._findings.rows
        absent = self.compare_objects(rows)
        for row in sorted(rows, key=lambda row: row.pack_no):
            if row.pack_no in absent:
                continue
            # One that was found damaged is always read: somebody may have brought its object back.
            if row.pack_no in whole or row.damaged:
                self.read_pack(row)
            else:
                self.read_trailer(row)
            if progress is not None:
                progress(Progress("check", self._done_size, sum(row.size for row in rows)))
        self.find_gone_packs()
        self.compare_records()
        for found in catalog.images():
            image = here(found, self._wiring)
            if image is not None:
                self._findings.images.add(image.id)
                if image.content_id is not None:  # data elsewhere are not casimg's to check
                    self.walk_image(image)
                self.read_record(image)
        if not self._finder.is_index_right:
            self._findings.is_index_right = False
            what = "the index contradicts the entry lists of packs; it is a cache: `casimg index rebuild` makes it anew"
            self._findings.problem("index-wrong", what, lossy=False)

    # Packs

    def compare_objects(self, rows: Iterable[PackRow]) -> set[int]:
        """Hold the packs of the catalog against the objects of the backend; returns those that are missing."""
        catalog = self._wiring.catalog
        objects = {found.key: found.size for found in self._wiring.backend.list(PACK_PREFIX)}
        absent: set[int] = set()
        for row in rows:
            size = objects.pop(pack_key(PackId(row.pack_id)), None)
            if size is None:
                absent.add(row.pack_no)
                self._damaged("pack-missing", row, "its object is not on the backend")
            elif size != row.size:
                self._damaged("pack-size", row, f"its object has {size} bytes instead of {row.size}")
        # Rows after the listing: a pack put and entered meanwhile is explained.
        ids = {key: pack_id_of_key(key) for key in objects}
        states = catalog.pack_states([pack_id for pack_id in ids.values() if pack_id is not None])
        for key, pack_id in sorted(ids.items()):
            if pack_id is None or pack_id not in states:
                why = "is in no row of the catalog: an unfinished write, or a lost catalog"
                what = f"{key} ({objects[key]} bytes) {why}"
                self._findings.problem("object-unknown", what, lossy=False)
        return absent

    def read_trailer(self, row: PackRow) -> None:
        """Check the entry list of a pack."""
        self._done_size += row.size
        try:
            read_trailer(self._wiring.backend, pack_key(PackId(row.pack_id)), row.size, row.trailer_offset)
        except (DamageError, NotFoundError) as error:
            self._damaged("pack-damaged", row, str(error))
        # Also with a damaged trailer: what the frames still hold is usable, so it is not lost.
        self._packs[row.pack_no] = row

    def read_pack(self, row: PackRow) -> None:
        """Check every byte of a pack."""
        key = pack_key(PackId(row.pack_id))
        try:
            found, read_size = verify_pack(self._wiring.backend, key, row.size, row.pack_id, row.trailer_offset)
        except (DamageError, NotFoundError) as error:
            self._damaged("pack-damaged", row, str(error))
            self._packs[row.pack_no] = row
            return
        self._findings.read_size += read_size
        self._done_size += row.size
        lost = {chunk for problem in found for chunk in problem.lost}
        if lost:
            self._lost[row.pack_no] = lost
        for problem in found:
            where = "" if problem.offset is None else f" at byte {problem.offset}"
            cost = f" ({len(problem.lost)} chunks)" if problem.lost else ""
            self._damaged("pack-damaged", row, f"{problem.why}{where}{cost}")
        if not found:
            self._note(partial(packs.mark_verified, pack_no=row.pack_no))
        self._packs[row.pack_no] = row

    def find_gone_packs(self) -> None:
        """Report packs that complete contents name although they are on their way out, which must never be."""
        for pack_no, (state, content_ids) in self._wiring.catalog.read(examine.gone_packs).items():
            rows = self._wiring.catalog.packs([pack_no])
            if self._wiring is not self._wiring.peer(rows[0].backend_id if rows else None):
                continue
            self._findings.damaged.update((row.pack_no, row) for row in rows)
            labels = tuple(label for content_id in content_ids for label in labels_of(self._wiring, content_id))
            what = f"pack number {pack_no} is {state} in the catalog, and contents name it"
            self._findings.problem("pack-gone", what, labels)

    def _damaged(self, kind: str, row: PackRow, why: str) -> None:
        """Report a damaged pack and let no writer rely on it; not one that a collection took meanwhile."""
        catalog = self._wiring.catalog
        if not any(now.state in PACK_STATES_FINDABLE for now in catalog.packs([row.pack_no])):
            return
        self._findings.damaged[row.pack_no] = row
        self._note(partial(packs.mark_damaged, pack_no=row.pack_no))
        images = tuple(label_of(image) for image in catalog.images_of_packs([row.pack_no]))
        what = f"{pack_key(PackId(row.pack_id))}: {why}"
        self._findings.problem(kind, what, images, lossy=bool(images))

    def _note(self, work: "partial[None]") -> None:
        try:
            self._wiring.catalog.transaction(work)
        except CasimgError as error:  # a full disk must not stop a check
            _log.warning("check.not_noted why=%s", error)

    # Images

    def walk_image(self, image: ImageRow) -> None:
        """Check that every node of an image reads and every chunk is in a pack that its content names."""
        content_id = image.content_id
        rows = None if content_id is None else self._rows_of(content_id)
        while content_id is not None:
            if rows is None:
                if self._is_active(image):
                    what = f"image {image.id} names content {content_id}, which has no complete row"
                    self._findings.problem("catalog", what, (label_of(image),))
                return
            problems, not_indexed = self._walk(image, content_id, rows)
            if not problems and not not_indexed:
                return
            fresh = self._rows_of(content_id)
            if fresh == rows:
                if self._is_active(image):
                    for problem in problems:
                        self._findings.problem(problem.kind, problem.what, problem.images)
                    if any(problem.kind in ("node-damaged", "chunk-lost") for problem in problems):
                        self._findings.broken.add(content_id)
                    self._finder.is_index_right &= not not_indexed
                return
            rows = fresh  # a repack moved chunks meanwhile, or the image went

    def _walk(self, image: ImageRow, content_id: ContentId, pack_nos: frozenset[int]) -> tuple[list[Problem], int]:
        """Return the problems of an image as these packs show it, and how many chunks the index does not lead to."""
        missing: set[bytes] = set()
        problems: list[Problem] = []
        not_indexed = 0
        try:
            reader = self._wiring.reader(content_id, patience=Patience(0.0))
            for node_id, node in node_ids(
                reader.node, reader.tree, lambda node: self._walked.get(node, _NOWHERE) <= pack_nos
            ):
                if isinstance(node, Leaf):
                    missing |= self._walk_leaf(node_id, node, pack_nos)
            if missing:
                found = self._in_entry_lists(pack_nos, missing)
                not_indexed = len(found)
                missing -= found
        except ImageNotFoundError:
            return [], 1
        except CatalogDamagedError as error:
            problems.append(Problem("catalog", str(error), (label_of(image),)))
        except DamageError as error:
            problems.append(Problem("node-damaged", str(error), (label_of(image),)))
        if missing:
            what = f"{len(missing)} chunks are in no readable pack, first {min(missing).hex()}"
            problems.append(Problem("chunk-lost", what, (label_of(image),)))
        return problems, not_indexed

    def _walk_leaf(self, node_id: NodeId, leaf: Leaf, pack_nos: frozenset[int]) -> set[bytes]:
        """Return the chunks of a leaf that the index does not lead to; remember in which packs the others are."""
        missing: set[bytes] = set()
        used: set[int] = set()
        with self._wiring.index.reading() as lookup:
            for chunk in (node_id, *leaf.ids):
                pack_no = self._finder.find(lookup, chunk, pack_nos)
                if pack_no is not None:
                    used.add(pack_no)
                elif chunk != node_id:
                    missing.add(chunk)
                else:
                    used.add(-1)  # the node was read, but from where is not known: look again next time
        if not missing:
            packs_used = frozenset(used)
            self._walked[node_id] = self._pack_sets.setdefault(packs_used, packs_used)
        return missing

    def _in_entry_lists(self, pack_nos: Collection[int], chunks: set[bytes]) -> set[bytes]:
        """Return those of the chunks that the content's own packs hold though the index does not lead there."""
        found: set[bytes] = set()
        for pack_no in pack_nos:
            if pack_no in self._packs:
                lost = self._lost.get(pack_no, set())
                with contextlib.suppress(DamageError, NotFoundError):
                    places = self._finder.entries.get(pack_no).places()
                    found.update(chunk for chunk, *_ in places if chunk in chunks and chunk not in lost)
        return found

    def _rows_of(self, content_id: ContentId) -> frozenset[int] | None:
        """Return the numbers of a content's packs as of now; None when it is gone."""
        rows = self._wiring.catalog.read(partial(reading.packs_to_read, content_id=content_id))
        if rows is None:
            return None
        for row in rows:
            # One made since the check began was verified by its writer; one that is missing stays out.
            if row.pack_no not in self._packs and row.pack_no not in self._findings.damaged:
                self._packs[row.pack_no] = row
        return frozenset(row.pack_no for row in rows)

    def _is_active(self, image: ImageRow) -> bool:
        try:
            now = here(self._wiring.catalog.image(image.id), self._wiring)
            return now is not None and now.status in STORED_STATUSES
        except ImageNotFoundError:
            return False

    # Records

    def compare_records(self) -> None:
        """Name records of images that the catalog does not show as saved: its last commits may be gone."""
        keys = {found.key: record_of_key(found.key) for found in self._wiring.backend.list(RECORD_PREFIX)}
        statuses = self._wiring.catalog.image_sessions({record[0] for record in keys.values() if record is not None})
        for key, record in sorted(keys.items()):
            status = "unknown" if record is None else statuses.get(record[0], ("unknown",))[0]
            if status in ("unknown", "queued", *CLAIMED_STATUSES):
                what = f"{key} is of an image that is {status} here: an unfinished write, or a lost catalog"
                self._findings.problem("record-unknown", what, lossy=False)

    def read_record(self, image: ImageRow) -> None:
        """Check the record that `recover` would need, and the catalog against it."""
        for _ in range(_RECORD_TRY_COUNT_MAX):
            try:
                problem = self._record_problem(image)
                now = image if problem is None else here(self._wiring.catalog.image(image.id), self._wiring)
            except ImageNotFoundError:
                return
            if problem is None or now is None or now.status not in STORED_STATUSES:
                return
            if now == image:
                self._findings.problem(problem.kind, problem.what, problem.images)
                if problem.kind != "record-differs":
                    self._findings.unrecorded.append(image)
                return
            image = now

    def _record_problem(self, image: ImageRow) -> Problem | None:
        if image.session_id is None:
            return None
        catalog = self._wiring.catalog
        key = record_key(image.id, image.session_id)
        try:
            record = read_record(self._wiring, key)
            if record.image_id != image.id:
                raise FormatDamage("it is another image's")
        except (NotFoundError, DamageError, FormatDamage) as error:
            kind = "record-missing" if isinstance(error, NotFoundError) else "record-damaged"
            what = f"{key}: {error}; the image reads, but `recover` would not find it"
            return Problem(kind, what, (label_of(image),))
        try:
            members = catalog.read(partial(members_of, image_id=image.id))
            content = None if image.content_id is None else catalog.content(image.content_id)
            fields = differences(record, image, content, members)
        except CatalogDamagedError:
            return None  # gone meanwhile, or told by the walk
        if not fields or catalog.read(partial(examine.is_behind, image_id=image.id)):
            return None
        what = f"{key} says otherwise than the catalog of {', '.join(fields)}; one of them is wrong"
        return Problem("record-differs", what, (label_of(image),))


class _Finder:
    """Find chunks in given packs, each hit confirmed by the pack's entry list."""

    def __init__(self, entries: EntryLists, lost: dict[int, set[bytes]]) -> None:
        self.entries = entries
        self._lost = lost
        self._at: tuple[int, PackTrailer, int] | None = None
        self.is_index_right = True

    def find(self, lookup: Lookup, chunk: bytes, pack_nos: Collection[int]) -> int | None:
        """Return the number of a pack among `pack_nos` that holds an undamaged copy."""
        if self._at is not None:
            pack_no, trailer, entry = self._at
            if trailer.holds(entry + 1, chunk) and self._may_be_in(pack_no, chunk, pack_nos):
                self._at = (pack_no, trailer, entry + 1)
                return pack_no
        for place in reversed(lookup.places(chunk)):
            if not self._may_be_in(place.pack_no, chunk, pack_nos):
                continue
            try:
                trailer = self.entries.get(place.pack_no)
            except (DamageError, NotFoundError, KeyError):
                continue
            found = trailer.entry_of(place.frame_offset, place.position)
            if found is not None and trailer.holds(found, chunk):
                self._at = (place.pack_no, trailer, found)
                return place.pack_no
            # The entry list of a damaged pack is what could be salvaged: it contradicts nothing.
            self.is_index_right &= trailer.nonce == bytes(len(trailer.nonce))
        return None

    def _may_be_in(self, pack_no: int, chunk: bytes, pack_nos: Collection[int]) -> bool:
        return pack_no in pack_nos and chunk not in self._lost.get(pack_no, ())


_NOWHERE = frozenset({-2})


def _chosen(rows: Sequence[PackRow], subset: str | int | None) -> set[int]:
    """Return the packs to read whole: all, or the first ones up to a share of the bytes, at least one."""
    if subset is None:
        return {row.pack_no for row in rows}
    left = parse_share(subset, sum(row.size for row in rows))
    chosen: set[int] = set()
    for row in rows:
        if chosen and row.size > left:
            break
        chosen.add(row.pack_no)
        left -= row.size
    return chosen


def read_record(wiring: Wiring, key: str) -> ImageRecord:
    """Return a record. Raises: FormatDamage, ObjectNotFoundError, and what else the backend raises."""
    size = wiring.backend.stat(key).size
    if size > RECORD_SIZE_MAX:
        raise FormatDamage("it is larger than a record can be")
    return decode_record(wiring.backend.get_range(key, 0, size))
