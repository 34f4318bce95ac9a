"""Check a repository: catalog against backend, manifests against packs, and, when asked, every byte.

Nothing is changed, but that a full check without loss allows collection again after `recover`. What is found is named
together with the images it touches.
"""

import contextlib
import time
from collections.abc import Iterable

from casimg.catalog import ImageRow, PackRow
from casimg.dedup import KnownChunks
from casimg.errors import CasimgError, DamageError, NoSpaceError
from casimg.formats.damage import FormatDamage
from casimg.formats.node import Leaf
from casimg.formats.record import RECORD_SIZE_MAX, decode_record
from casimg.gc.latch import release_latch
from casimg.ids import ContentId, NodeId, PackId
from casimg.index.entries import EntryLists
from casimg.manifest.walk import node_ids
from casimg.pack.keys import PACK_PREFIX, RECORD_PREFIX, pack_id_of_key, pack_key, record_key, record_of_key
from casimg.pack.reader import read_trailer, verify_pack
from casimg.progress import Progress, ProgressCallback
from casimg.results import CheckReport, Problem
from casimg.wiring import PACK_STATES_FINDABLE, Wiring


def check(wiring: Wiring, *, read_data: bool, progress: ProgressCallback | None) -> CheckReport:
    """Return every problem found.

    Args:
        read_data: read, decode and hash every pack too; else only sizes, entry lists and manifests.
    """
    begin_s = time.monotonic()
    run = _Check(wiring)
    packs = wiring.catalog.all_packs(PACK_STATES_FINDABLE)
    bad = run.compare_objects(packs)
    for row in packs:
        if row.pack_no in bad:
            continue
        if read_data:
            run.read_pack(row)
        else:
            run.read_trailer(row)
        if progress is not None:
            progress(Progress("check", run.done_size, sum(pack.size for pack in packs)))
    images = [row for row in wiring.catalog.images() if row.content_id is not None]
    for image in images:
        run.walk_image(image)
        run.read_record(image)
    run.compare_records()
    if read_data and not any(problem.lossy for problem in run.problems):
        against = release_latch(wiring)
        run.problems += [] if against is None else [against]
    return CheckReport(
        problems=tuple(run.problems),
        pack_count=len(packs),
        image_count=len(images),
        read_size=run.read_size,
        duration_s=time.monotonic() - begin_s,
    )


class _Check:
    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        # Entry lists of sound packs answer for chunks; ids are never collected, so memory does not grow with the data.
        self._sound: dict[int, PackRow] = {}
        self._lost: set[bytes] = set()
        self._entries = EntryLists(lambda pack_no: wiring.load_trailer(self._sound[pack_no]))
        self._walked: set[NodeId] = set()
        self.problems: list[Problem] = []
        self.read_size = 0
        self.done_size = 0

    def compare_objects(self, packs: Iterable[PackRow]) -> set[int]:
        """Hold the packs of the catalog against the objects of the backend; returns those that are missing."""
        objects = {found.key: found.size for found in self._wiring.backend.list(PACK_PREFIX)}
        bad: set[int] = set()
        for row in packs:
            size = objects.pop(pack_key(PackId(row.pack_id)), None)
            if size is None:
                bad.add(row.pack_no)
                self._pack_problem("pack-missing", row, "its object is not on the backend")
            elif size != row.size:
                self._pack_problem("pack-size", row, f"its object has {size} bytes instead of {row.size}")
        deleting = {row.pack_id for row in self._wiring.catalog.all_packs(("deleting", "deleted"))}
        for key in sorted(objects):
            pack_id = pack_id_of_key(key)
            if pack_id in deleting:
                continue
            what = f"{key} ({objects[key]} bytes) is in no row of the catalog: an unfinished write, or a lost catalog"
            self.problems.append(Problem("object-unknown", what, lossy=False))
        return bad

    def read_trailer(self, row: PackRow) -> None:
        """Check the entry list of a pack and remember its ids."""
        self.done_size += row.size
        try:
            read_trailer(self._wiring.backend, pack_key(PackId(row.pack_id)), row.size, row.trailer_offset)
        except CasimgError as error:
            self._pack_problem("pack-damaged", row, str(error))
        # Also with a damaged trailer: what the frames still hold is usable, so it is not lost.
        self._sound[row.pack_no] = row

    def read_pack(self, row: PackRow) -> None:
        """Check every byte of a pack."""
        key = pack_key(PackId(row.pack_id))
        try:
            found, read_size = verify_pack(self._wiring.backend, key, row.size, row.pack_id, row.trailer_offset)
        except DamageError as error:
            self._pack_problem("pack-damaged", row, str(error))
            return
        self.read_size += read_size
        self.done_size += row.size
        self._lost.update(chunk for problem in found for chunk in problem.lost)
        for problem in found:
            where = "" if problem.offset is None else f" at byte {problem.offset}"
            cost = f" ({len(problem.lost)} chunks)" if problem.lost else ""
            self._pack_problem("pack-damaged", row, f"{problem.why}{where}{cost}")
        if not found:
            with contextlib.suppress(NoSpaceError):  # a full disk can still be checked
                self._wiring.catalog.mark_verified(row.pack_no)
        self._sound[row.pack_no] = row

    def walk_image(self, image: ImageRow) -> None:
        """Check that every node of an image reads and every chunk has a place."""
        if image.content_id is None:
            return
        missing: set[bytes] = set()
        known = KnownChunks(self._wiring.index, self._entries, set(self._sound))
        try:
            reader = self._wiring.reader(image.content_id)
            for node_id, node in node_ids(reader.node, reader.tree, self._walked.__contains__):
                if not isinstance(node, Leaf):
                    continue
                with known.reading() as find:
                    absent = [chunk for chunk in node.ids if chunk in self._lost or find(chunk) is None]
                missing.update(absent)
                if not absent:
                    self._walked.add(node_id)
            missing -= self._in_entry_lists(image.content_id, missing - self._lost)
        except CasimgError as error:
            self.problems.append(Problem("node-damaged", str(error), (_label(image),)))
        if missing:
            what = f"{len(missing)} chunks are in no readable pack, first {min(missing).hex()}"
            self.problems.append(Problem("chunk-lost", what, (_label(image),)))

    def _in_entry_lists(self, content_id: ContentId, chunks: set[bytes]) -> set[bytes]:
        """Return those of the chunks that the content's own packs hold though the index does not lead there."""
        found: set[bytes] = set()
        for row in self._wiring.catalog.content_packs(content_id) if chunks else ():
            if row.pack_no in self._sound:
                with contextlib.suppress(CasimgError):
                    found.update(chunk for chunk, *_ in self._entries.get(row.pack_no).places() if chunk in chunks)
        return found

    def read_record(self, image: ImageRow) -> None:
        """Check the record that `recover` would need."""
        # Asked again: a change of metadata may have put a newer record since the list was read.
        image = self._wiring.catalog.image(image.id)
        if image.session_id is None or image.status != "active":
            return
        key = record_key(image.id, image.session_id)
        try:
            size = self._wiring.backend.stat(key).size
            if size > RECORD_SIZE_MAX:
                raise FormatDamage("it is larger than a record can be")
            record = decode_record(self._wiring.backend.get_range(key, 0, size))
            if record.image_id != image.id or record.content.content_id != image.content_id:
                raise FormatDamage("it is another image's")
        except (CasimgError, FormatDamage) as error:
            kind = "record-damaged" if isinstance(error, (FormatDamage, DamageError)) else "record-missing"
            what = f"{key}: {error}; the image reads, but `recover` would not find it"
            self.problems.append(Problem(kind, what, (_label(image),)))

    def compare_records(self) -> None:
        """Name records of images that the catalog does not show as saved: its last commits may be gone."""
        keys = {found.key: record_of_key(found.key) for found in self._wiring.backend.list(RECORD_PREFIX)}
        statuses = self._wiring.catalog.image_sessions({record[0] for record in keys.values() if record is not None})
        for key, record in sorted(keys.items()):
            status = "unknown" if record is None else statuses.get(record[0], ("unknown", None))[0]
            if status in ("unknown", "queued", "saving"):
                what = f"{key} is of an image that is {status} here: an unfinished write, or a lost catalog"
                self.problems.append(Problem("record-unknown", what, lossy=False))

    def _pack_problem(self, kind: str, row: PackRow, why: str) -> None:
        images = tuple(_label(image) for image in self._wiring.catalog.images_of_packs([row.pack_no]))
        what = f"{pack_key(PackId(row.pack_id))}: {why}"
        self.problems.append(Problem(kind, what, images, lossy=bool(images)))


def _label(image: ImageRow) -> str:
    return f"{image.name} ({image.id})"
