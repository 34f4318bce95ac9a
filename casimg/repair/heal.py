"""Mend what a check found: one session, new packs, one commit, like any writer.

1. The index, when it contradicts the packs: it is made anew first, since the rest is found by it.
2. Contents that name damaged packs are walked (`survey`). What the packs still hold of them is copied into new packs;
   for the rest a copy in another pack is looked for, read and hashed; and then one on another backend, which is copied.
3. A damaged pack that nobody will name any more is kept aside before the commit, because `gc` may then remove it.
4. One transaction (rule P) names the new packs; only contents that lost nothing stop naming the damaged ones. So the
   last copy of anything is never given up, and a killed repair has changed nothing but added unnamed packs.
5. Records that are missing or damaged are written anew. One that contradicts the catalog is left: it may be the catalog
   that is wrong.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

from casimg.catalog import STORED_STATUSES, ImageRow, PackRow, SessionRow, packs
from casimg.catalog import repair as rows_of_repair
from casimg.catalog.members import members_of
from casimg.catalog.repair import Healing
from casimg.errors import CasimgError, DamageError, ImageNotFoundError, NotFoundError, ObjectDamagedError
from casimg.findings import Checked, Findings, here, labels_of
from casimg.formats.pack import PackTrailer
from casimg.ids import ContentId, PackId
from casimg.pack.keys import pack_key, record_key
from casimg.pack.reader import verify_pack
from casimg.progress import Progress, ProgressCallback
from casimg.records import put_record
from casimg.repair.salvage import bring, copy_frames, listed_ids, readable, set_aside
from casimg.repair.survey import Needs, Survey
from casimg.results.images import ByteRange
from casimg.results.upkeep import CheckReport, LostData, Problem, RepairReport
from casimg.wiring import PACK_STATES_FINDABLE, Wiring

_log = logging.getLogger("casimg.repair")
_RANGE_COUNT_MAX: Final = 1000
_BEAT_EVERY_S: Final = 30.0
_PACK_KINDS: Final = ("pack-missing", "pack-size", "pack-damaged", "pack-gone")
_RECORD_KINDS: Final = ("record-missing", "record-damaged")


def heal(checked: Checked, rebuild_index: Callable[[Wiring], object], progress: ProgressCallback | None) -> CheckReport:
    """Mend what a check found, one backend after the other, and return its report, with what was mended.

    Args:
        rebuild_index: makes the index of a backend anew.
    Raises: as a put: NoSpaceError, SessionFencedError, PackGoneError, CatalogBusyError, BackendUnavailableError.
    """
    if not checked.is_catalog_sound:
        why = "the catalog itself is damaged; nothing is written on its word: bring it back from a backup or recover it"
        return replace(checked.report(), repair=RepairReport(refused=why))
    report = RepairReport()
    # Indexes first: what is damaged on one backend is looked for on the others, by theirs.
    for part in checked.parts:
        if not part.is_index_right:
            rebuilt = _rebuilt(part.wiring, rebuild_index)
            report = replace(report, index_rebuilt=report.index_rebuilt or rebuilt)
    for part in checked.parts:
        if part.is_reached:
            report = _heal_part(part, report, progress)
    return replace(checked.report(), repair=report)


def _heal_part(findings: Findings, before: RepairReport, progress: ProgressCallback | None) -> RepairReport:
    """Mend what was found on one backend; returns the report with that added, and marks the problems."""
    wiring = findings.wiring
    report = RepairReport(index_rebuilt=before.index_rebuilt)
    content_ids = set(wiring.catalog.read(partial(rows_of_repair.namers, pack_nos=list(findings.damaged))))
    content_ids |= findings.broken
    for pack_no in findings.damaged:
        # A check that could not note it goes on; a repair may not: a repack would still rely on the pack.
        wiring.catalog.transaction(partial(packs.mark_damaged, pack_no=pack_no))
    if content_ids:
        report = _heal_contents(wiring, findings.damaged, sorted(content_ids), report, progress)
    written = {image.id for image in findings.unrecorded if _write_record(wiring, image)}
    report = replace(report, record_count=len(written))
    still_named = set(wiring.catalog.read(partial(rows_of_repair.named_packs, pack_nos=list(findings.damaged))))
    free = {no: row for no, row in findings.damaged.items() if no not in still_named}
    words = tuple(pack_key(PackId(row.pack_id)) for row in free.values()) + tuple(f"pack number {no} " for no in free)
    findings.problems = [
        replace(problem, healed=_is_healed(problem, report, written, words)) for problem in findings.problems
    ]
    return replace(
        before,
        saved_count=before.saved_count + report.saved_count,
        saved_size=before.saved_size + report.saved_size,
        healed=(*before.healed, *(label for label in report.healed if label not in before.healed)),
        lost=before.lost + report.lost,
        set_aside=before.set_aside + report.set_aside,
        record_count=before.record_count + report.record_count,
    )


def _is_healed(problem: Problem, report: RepairReport, written: Collection[str], free_packs: tuple[str, ...]) -> bool:
    """Tell whether a problem is mended; `free_packs` begin what is said of packs that nothing names any more."""
    if problem.kind == "index-wrong":
        return report.index_rebuilt
    if problem.kind in _PACK_KINDS:
        return problem.what.startswith(free_packs)
    if problem.kind in _RECORD_KINDS:
        return any(f"({image_id})" in label for image_id in written for label in problem.images)
    if problem.kind in ("chunk-lost", "node-damaged"):
        return bool(problem.images) and all(label in report.healed for label in problem.images)
    return False


def _rebuilt(wiring: Wiring, rebuild_index: Callable[[Wiring], object]) -> bool:
    try:
        rebuild_index(wiring)
    except (DamageError, NotFoundError) as error:  # of a damaged pack; the index covers all others
        _log.warning("repair.index_without_pack why=%s", error)
    return True


def _heal_contents(
    wiring: Wiring,
    damaged: Mapping[int, PackRow],
    content_ids: Collection[ContentId],
    report: RepairReport,
    progress: ProgressCallback | None,
) -> RepairReport:
    session = wiring.catalog.open_session("repair")
    try:
        return _Repair(wiring, session, damaged, progress).run(content_ids, report)
    except BaseException:
        wiring.end_session(session.session_id)
        raise


class _Repair:
    """One session, from its open to its commit."""

    def __init__(
        self,
        wiring: Wiring,
        session: SessionRow,
        damaged: Mapping[int, PackRow],
        progress: ProgressCallback | None,
    ) -> None:
        self._wiring = wiring
        self._session = session
        self._damaged = damaged
        self._progress = progress
        self._beat_at_s = time.monotonic()
        live = {row.pack_no: row for row in wiring.catalog.live_packs(session.session_id)}
        self._live = {pack_no: row for pack_no, row in live.items() if pack_no not in damaged}
        wiring.apply(self._live.values())
        self._line = wiring.pack_line(session.session_id)

    def run(self, content_ids: Collection[ContentId], report: RepairReport) -> RepairReport:
        try:
            done = self._run(content_ids, report)
        except BaseException:
            self._line.abandon()
            raise
        self._line.close()
        return done

    def _run(self, content_ids: Collection[ContentId], report: RepairReport) -> RepairReport:
        backend = self._wiring.backend
        held: dict[int, PackTrailer] = {}
        listed: set[bytes] = set()
        for pack_no, row in self._damaged.items():
            self._beat()
            held[pack_no] = readable(backend, row)
            listed |= listed_ids(backend, row)
        survey = Survey(self._wiring, self._live, self._damaged, held, listed, self._beat)
        found = self._survey(survey, content_ids)
        placed = self._copy(survey, held, {number for needs in found for number in needs.copied})
        healings = [_healing(needs, placed) for needs in found]
        kept = self._set_aside(healings)
        self._beat(now=True)
        changed = self._wiring.catalog.transaction(
            partial(rows_of_repair.switch, session_id=self._session.session_id, healings=healings)
        )
        _log.info("repair.committed contents=%d packs=%d", len(changed), len(self._line.shipped))
        try:
            self._line.publish()
        except CasimgError as error:  # committed; the index is followed when it is next needed
            _log.warning("index.write_failed session=%s error=%s", self._session.session_id, error)
        healed = {healing.content_id for healing in healings if healing.whole}
        return replace(
            report,
            saved_count=len(placed),
            saved_size=sum(pack.size for pack in self._line.shipped.values()),
            healed=tuple(label for needs in found if needs.content_id in healed for label in self._labels(needs)),
            lost=tuple(self._lost(needs) for needs in found if needs.lost),
            set_aside=kept,
        )

    def _survey(self, survey: Survey, content_ids: Collection[ContentId]) -> list[Needs]:
        found: dict[ContentId, Needs] = {}
        for number, content_id in enumerate(content_ids, 1):
            needs = survey.walk(content_id)
            if needs is not None:
                found[content_id] = needs
            if self._progress is not None:
                self._progress(Progress("repair", number, len(content_ids)))
        if any(needs.lost for needs in found.values()):
            # A collection that is not done yet may still hold it; the commit revives the pack, or refuses when it went.
            condemned = self._wiring.catalog.all_packs(("condemned",))
            survey.rely_on(row for row in condemned if not row.damaged)
        # Found once, a node may lead to others that are to be looked for too.
        while any(needs.lost for needs in found.values()) and survey.look_everywhere():
            for content_id in [content_id for content_id, needs in found.items() if needs.lost]:
                again = survey.walk(content_id)
                if again is None:
                    del found[content_id]
                else:
                    found[content_id] = again
        return list(found.values())

    def _copy(self, survey: Survey, held: Mapping[int, PackTrailer], wanted: set[int]) -> dict[int, int]:
        """Copy wanted ids from damaged packs and other backends to new packs; returns the pack of each, read back."""
        numbers = survey.numbers
        left = set(wanted)

        def take(chunk: bytes) -> bool:
            number = numbers.get(chunk)
            if number is None or number not in left:
                return False
            left.discard(number)
            return True

        for pack_no, trailer in held.items():
            self._beat()
            copy_frames(
                self._wiring.backend, self._damaged[pack_no], trailer, take, self._line, self._wiring.site.level
            )
        bring(survey.brought(left), self._line, self._wiring.site.level, self._beat)
        self._line.flush()
        placed: dict[int, int] = {}
        for pack_no, pack in self._line.shipped.items():
            self._beat()
            key = pack_key(PackId(pack.pack_id))
            # The old packs are given up on the word of these: they are read back whole first.
            problems, _ = verify_pack(self._wiring.backend, key, pack.size, pack.pack_id, pack.trailer_offset)
            if problems:
                raise ObjectDamagedError(key, problems[0].offset, problems[0].why)
            placed.update((numbers[chunk], pack_no) for chunk, *_ in self._wiring.load_trailer(pack).places())
        return placed

    def _set_aside(self, healings: Sequence[Healing]) -> tuple[str, ...]:
        """Keep aside damaged packs that the commit may leave without a name."""
        kept_by = {pack_no for healing in healings if not healing.whole for pack_no in healing.damaged}
        keys: list[str] = []
        named = {pack_no for healing in healings for pack_no in healing.damaged}
        for row in self._wiring.catalog.packs(named - kept_by):
            if row.state in PACK_STATES_FINDABLE:
                self._beat()
                key = set_aside(self._wiring.backend, row, self._wiring.spool)
                keys += [] if key is None else [key]
        return tuple(keys)

    def _labels(self, needs: Needs) -> list[str]:
        return labels_of(self._wiring, needs.content_id)

    def _lost(self, needs: Needs) -> LostData:
        ranges = _merged(needs.lost)
        return LostData(tuple(self._labels(needs)), tuple(ranges[:_RANGE_COUNT_MAX]), sum(item.size for item in ranges))

    def _beat(self, *, now: bool = False) -> None:
        now_s = time.monotonic()
        if now or now_s - self._beat_at_s >= _BEAT_EVERY_S:
            self._beat_at_s = now_s
            self._wiring.catalog.heartbeat(self._session.session_id)


def _healing(needs: Needs, placed: Mapping[int, int]) -> Healing:
    replacing = {placed[number] for number in needs.copied if number in placed} | needs.elsewhere
    whole = not needs.lost and all(number in placed for number in needs.copied)
    return Healing(needs.content_id, needs.damaged, frozenset(replacing), whole)


def _merged(ranges: Iterable[tuple[int, int]]) -> list[ByteRange]:
    merged: list[ByteRange] = []
    for offset, size in sorted(ranges):
        if merged and offset <= merged[-1].offset + merged[-1].size:
            first = merged.pop()
            merged.append(ByteRange(first.offset, max(first.offset + first.size, offset + size) - first.offset))
        else:
            merged.append(ByteRange(offset, size))
    return merged


def _write_record(wiring: Wiring, image: ImageRow) -> bool:
    """Put the record of an image anew; False when the image went meanwhile."""
    catalog = wiring.catalog
    if image.session_id is None:
        return False
    members = catalog.read(partial(members_of, image_id=image.id))
    if image.content_id is None:
        put_record(wiring, image.session_id, image, None, (), members)
    else:
        content = catalog.content(image.content_id)
        put_record(wiring, image.session_id, image, content, catalog.content_packs(image.content_id), members)
    with suppress(ImageNotFoundError):
        now = here(catalog.image(image.id), wiring)
        if now is not None and now.status in STORED_STATUSES and now.session_id == image.session_id:
            return True
    # A record must not outlive its image; this one was put after the collector's look.
    wiring.backend.delete(record_key(image.id, image.session_id))
    return False
